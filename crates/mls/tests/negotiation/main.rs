//! Which version and suite a group has (RFC 9420, sections 6, 7.2, 10 and 11): the best that all
//! invited clients support, and nobody in between can have it otherwise.
//!
//! There is one version of MLS. The second one here is made up: the first under another number, which
//! only the clients of this file implement. They bring what the engine leaves to a client: KeyPackages
//! of that version, and the version in front of each message.
#![cfg(any(feature = "aws-lc", feature = "rust-crypto"))]

mod client;
mod moves;

use client::*;
use folkmoot_mls::capabilities::Capabilities;
use folkmoot_mls::code_point::{ProtocolVersion, WireFormat};
use folkmoot_mls::codec::{Bytes, Decode, DecodeError, Encode};
use folkmoot_mls::crypto::{CryptoError, SignatureKeyPair};
use folkmoot_mls::error::Error;
use folkmoot_mls::framing::{AuthenticatedContent, Content, FramedContent, Sender};
use folkmoot_mls::group::{JoinError, KeyPackageError, PendingCommit, ProposalError};
use folkmoot_mls::group_context::GroupContext;
use folkmoot_mls::key_package::KeyPackageBundle;
use folkmoot_mls::key_schedule::{EpochSecrets, joiner_secret, member_secret};
use folkmoot_mls::message::{MessageHeader, MlsMessage};
use folkmoot_mls::negotiation::{Choice, NegotiationError};
use folkmoot_mls::tree::LeafNodeError;
use folkmoot_mls::tree_math::LeafIndex;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

fn best(us: &Client, others: &[&Client]) -> Result<Choice, NegotiationError> {
    let capabilities: Vec<_> = others.iter().map(|c| c.leaf().capabilities).collect();
    us.preference().best_for(&capabilities)
}

#[test]
fn the_best_that_all_support_is_chosen() {
    let (alice, bob) = (Client::new("alice", BOTH), Client::new("bob", BOTH));
    let carol = Client::new("carol", FIRST);
    let without_p256 = Provider {
        suites: &[X25519, CHACHA],
        ..BOTH
    };
    let dave = Client::new("dave", without_p256);
    assert_eq!(best(&alice, &[]), Ok(choice(NEW, P256)));
    assert_eq!(best(&alice, &[&bob]), Ok(choice(NEW, P256)));
    assert_eq!(best(&alice, &[&bob, &carol]), Ok(choice(OLD, P256)));
    assert_eq!(best(&carol, &[&bob]), Ok(choice(OLD, P256)));
    // Whose preference counts is whoever makes the group.
    assert_eq!(best(&alice, &[&dave]), Ok(choice(NEW, CHACHA)));
    assert_eq!(best(&dave, &[&alice]), Ok(choice(NEW, X25519)));
    assert_eq!(best(&alice, &[&dave, &carol]), Ok(choice(OLD, CHACHA)));

    let only_new = Provider {
        versions: &[NEW],
        ..BOTH
    };
    let erin = Client::new("erin", only_new);
    assert_eq!(best(&erin, &[&bob]), Ok(choice(NEW, P256)));
    let error = Err(NegotiationError::NoCommonVersion);
    assert_eq!(best(&carol, &[&erin]), error);
    assert_eq!(best(&bob, &[&erin, &carol]), error);
    let only_p256 = Provider {
        suites: &[P256],
        ..BOTH
    };
    let frank = Client::new("frank", only_p256);
    let error = Err(NegotiationError::NoCommonCipherSuite);
    assert_eq!(best(&alice, &[&frank, &dave]), error);
}

/// Alice makes a group of the best that all support, checks what she was handed, and adds them.
fn group_of(others: &[(&'static str, Provider)]) -> (Choice, Vec<Client>) {
    let mut clients: Vec<_> = [("alice", BOTH)]
        .iter()
        .chain(others)
        .map(|(name, provider)| Client::new(name, *provider))
        .collect();
    let invited: Vec<_> = clients[1..].iter().collect();
    let choice = best(&clients[0], &invited).unwrap();
    let bundles: Vec<_> = clients[1..].iter_mut().map(|c| c.offer(choice)).collect();
    let packages: Vec<_> = bundles.iter().map(|b| b.key_package.clone()).collect();
    choice.check(&clients[0].preference(), &packages).unwrap();
    clients[0].create(choice).unwrap();
    let pending = clients[0].commit(&packages).unwrap();
    for (client, bundle) in clients[1..].iter_mut().zip(&bundles) {
        client.join(&pending, bundle).unwrap();
    }
    clients[0].merge(pending);
    (choice, clients)
}

/// Everybody commits and says something, and all others follow.
fn converse(clients: &mut [Client]) {
    for speaker in 0..clients.len() {
        let pending = clients[speaker].commit(&[]).unwrap();
        let version = clients[speaker].group().group_context().version;
        let commit = framed(version, &pending.message);
        clients[speaker].merge(pending);
        let word = clients[speaker].send(b"word");
        for other in (0..clients.len()).filter(|other| *other != speaker) {
            assert_eq!(clients[other].receive(&commit), Ok(None));
            assert_eq!(clients[other].receive(&word), Ok(Some(b"word".to_vec())));
        }
    }
    for client in clients.iter() {
        let (group, first) = (client.group(), clients[0].group());
        assert_eq!(group.epoch_authenticator(), first.epoch_authenticator());
        assert_eq!(group.group_context(), first.group_context());
    }
}

#[test]
fn groups_of_each_version_work() {
    let (chosen, mut clients) = group_of(&[("bob", BOTH), ("carol", BOTH)]);
    assert_eq!(chosen, choice(NEW, P256));
    assert_eq!(clients[2].group().group_context().version, NEW);
    converse(&mut clients);
    // Somebody joins later.
    let mut dave = Client::new("dave", BOTH);
    let bundle = dave.offer(chosen);
    let pending = clients[1]
        .commit(std::slice::from_ref(&bundle.key_package))
        .unwrap();
    dave.join(&pending, &bundle).unwrap();
    let commit = framed(NEW, &pending.message);
    clients[1].merge(pending);
    for member in [0, 2] {
        clients[member].receive(&commit).unwrap();
    }
    clients.push(dave);
    converse(&mut clients);

    let (chosen, mut clients) = group_of(&[("bob", BOTH), ("carol", FIRST)]);
    assert_eq!(chosen, choice(OLD, P256));
    converse(&mut clients);
}

#[test]
fn withheld_key_packages_are_noticed() {
    let mut alice = Client::new("alice", BOTH);
    let offers = |provider, choices: &[Choice]| {
        let mut client = Client::new("bob", provider);
        let offer = |choice: &Choice| client.offer(*choice).key_package;
        choices.iter().map(offer).collect::<Vec<_>>()
    };
    let ours = alice.preference();
    let best = choice(NEW, P256);
    // The service hands out offers of lesser suites, or of the old version, of clients who have better.
    for lesser in [choice(NEW, CHACHA), choice(OLD, P256), choice(OLD, X25519)] {
        let packages = offers(BOTH, &[lesser, lesser]);
        let error = Err(NegotiationError::Downgrade { best });
        assert_eq!(lesser.check(&ours, &packages), error);
        // For one of several clients only.
        let packages = offers(BOTH, &[best, lesser]);
        let error = Err(NegotiationError::OtherKeyPackage(lesser));
        assert_eq!(best.check(&ours, &packages), error);
        let error = Err(NegotiationError::OtherKeyPackage(best));
        assert_eq!(lesser.check(&ours, &packages), error);
    }
    assert_eq!(best.check(&ours, &offers(BOTH, &[best, best])), Ok(()));
    // What some client does not have is no downgrade.
    let common = choice(OLD, P256);
    let mixed = [offers(BOTH, &[common]), offers(FIRST, &[common])].concat();
    assert_eq!(common.check(&ours, &mixed), Ok(()));
    // Who does not ask: a KeyPackage of another version or suite is not added anyway.
    alice.create(best).unwrap();
    for (lesser, error) in [
        (choice(OLD, P256), KeyPackageError::Version),
        (choice(NEW, X25519), KeyPackageError::CipherSuite),
    ] {
        let packages = offers(BOTH, &[lesser]);
        let refused = alice.commit(&packages).map(drop);
        assert_eq!(refused, Err(ProposalError::from(error).into()));
    }
}

#[test]
fn a_stripped_capability_list_is_refused() {
    let mut alice = Client::new("alice", BOTH);
    alice.create(choice(OLD, X25519)).unwrap();
    let offer = Client::new("bob", BOTH)
        .offer(choice(OLD, X25519))
        .key_package;
    let strips: [&dyn Fn(&mut Capabilities); 3] = [
        &|capabilities| capabilities.versions.retain(|version| *version == OLD),
        &|capabilities| capabilities.cipher_suites.retain(|suite| *suite == X25519),
        &|capabilities| capabilities.cipher_suites.reverse(),
    ];
    for strip in strips {
        let mut stripped = offer.clone();
        strip(&mut stripped.leaf_node.capabilities);
        assert_ne!(stripped, offer);
        let invalid = LeafNodeError::Signature(CryptoError::InvalidSignature);
        let error: Error = ProposalError::KeyPackage(invalid.into()).into();
        assert_eq!(alice.commit(&[stripped]).map(drop), Err(error));
    }
    alice.commit(&[offer]).unwrap();
}

#[test]
fn a_rewritten_version_of_a_key_package_is_refused() {
    // Down, and up.
    for (made, group) in [(NEW, OLD), (OLD, NEW)] {
        let mut alice = Client::new("alice", BOTH);
        alice.create(choice(group, X25519)).unwrap();
        let mut bob = Client::new("bob", BOTH);
        let mut package = bob.offer(choice(made, X25519)).key_package;
        let refused = alice.commit(&[package.clone()]).map(drop);
        assert_eq!(
            refused,
            Err(ProposalError::from(KeyPackageError::Version).into())
        );
        package.version = group;
        let error = KeyPackageError::Signature(CryptoError::InvalidSignature);
        let refused = alice.commit(&[package.clone()]).map(drop);
        assert_eq!(refused, Err(ProposalError::from(error).into()));
        // Bob himself may offer it so.
        let signer = bob.signer.clone().unwrap();
        let package = signed(suite(X25519), &signer, package);
        alice.commit(&[package]).unwrap();
    }
    // In front of it stands the version again.
    let package = Client::new("bob", BOTH)
        .offer(choice(OLD, X25519))
        .key_package;
    let good = MlsMessage::KeyPackage(Box::new(package));
    let mut bytes = good.to_bytes();
    assert_eq!(MlsMessage::from_bytes(&bytes), Ok(good));
    bytes[4..6].copy_from_slice(&NEW.to_bytes());
    let error = Err(DecodeError::InvalidValue("KeyPackage.version"));
    assert_eq!(MlsMessage::from_bytes(&bytes), error);
    bytes[..2].copy_from_slice(&NEW.to_bytes());
    let error = Err(DecodeError::InvalidValue("version"));
    assert_eq!(MlsMessage::from_bytes(&bytes), error);
}

#[test]
fn a_rewritten_version_of_a_message_is_refused() {
    for (chosen, other) in [(NEW, OLD), (OLD, NEW)] {
        let third = if chosen == NEW { BOTH } else { FIRST };
        let (_, mut clients) = group_of(&[("bob", BOTH), ("carol", third)]);
        assert_eq!(clients[0].group().group_context().version, chosen);
        let good = clients[0].send(b"word");
        let mut rewritten = good.clone();
        rewritten[..2].copy_from_slice(&other.to_bytes());
        let refused = clients[1].receive(&rewritten);
        assert_eq!(refused, Err(Refused::Header(other)));
        assert_eq!(clients[1].receive(&good), Ok(Some(b"word".to_vec())));
        // Whoever knows the first version alone cannot read the other at all.
        let new = if chosen == NEW { good } else { rewritten };
        let error = DecodeError::InvalidValue("version");
        assert_eq!(MlsMessage::from_bytes(&new), Err(error));
        assert_eq!(MessageHeader::read(&new), Err(error));
    }
}

/// A member seals a GroupInfo of another version into the Welcome. It signs it and makes the tag for
/// it, but the newcomer's offer was for the group's own version.
#[test]
fn a_rewritten_version_of_a_group_is_refused() {
    for (made, rewritten) in [(NEW, OLD), (OLD, NEW)] {
        let mut alice = Client::new("alice", BOTH);
        alice.create(choice(made, X25519)).unwrap();
        let mut bob = Client::new("bob", BOTH);
        let bundle = bob.offer(choice(made, X25519));
        let mut pending = alice
            .commit(std::slice::from_ref(&bundle.key_package))
            .unwrap();
        let good = pending.welcome.clone();
        for honest in [false, true] {
            let signer = alice.signer.as_ref().filter(|_| honest);
            pending.welcome = Some(reversioned(&pending, &bundle, rewritten, signer));
            let refused = bob.join(&pending, &bundle);
            assert_eq!(refused, Err(JoinError::Version.into()));
        }
        // Nor is the signature good for the other version.
        let mut info = pending.group_info.clone().unwrap();
        let key = alice.signer.as_ref().unwrap().public_key();
        assert_eq!(info.verify_signature(suite(X25519), key), Ok(()));
        info.group_context.version = rewritten;
        let refused = info.verify_signature(suite(X25519), key);
        assert_eq!(refused, Err(CryptoError::InvalidSignature));
        pending.welcome = good;
        bob.join(&pending, &bundle).unwrap();
    }
}

/// The Welcome with another version in its GroupInfo, signed again or not.
fn reversioned(
    pending: &PendingCommit,
    bundle: &KeyPackageBundle,
    version: ProtocolVersion,
    signer: Option<&SignatureKeyPair>,
) -> folkmoot_mls::welcome::Welcome {
    use folkmoot_mls::crypto::{HpkeKeyPair, Secret};
    use folkmoot_mls::group_info::{GROUP_INFO_TBS, GroupInfo};
    use folkmoot_mls::key_schedule::WelcomeKey;
    use folkmoot_mls::transcript::confirmation_tag;
    use folkmoot_mls::welcome::{GroupSecrets, WELCOME};
    let suite = suite(X25519);
    let mut welcome = pending.welcome.clone().unwrap();
    let init_key = HpkeKeyPair::new(
        bundle.init_private_key.clone(),
        bundle.key_package.init_key.clone(),
    );
    // Only a member, who knows what it says, can make it again.
    let part = &mut welcome.secrets[0].encrypted_group_secrets;
    let info = &welcome.encrypted_group_info;
    let secrets = suite
        .decrypt_with_label(&init_key, WELCOME, info, part)
        .unwrap();
    let secrets = GroupSecrets::from_bytes(&secrets).unwrap();
    let member_secret = member_secret(suite, &secrets.joiner_secret, &Secret::zero(32));
    let key = WelcomeKey::derive(suite, &member_secret);
    let info = key.open(suite, info).unwrap();
    let mut info = GroupInfo::from_bytes(&info).unwrap();
    info.group_context.version = version;
    let epoch = EpochSecrets::derive(suite, &member_secret, &info.group_context);
    let confirmed = &info.group_context.confirmed_transcript_hash;
    info.confirmation_tag = confirmation_tag(suite, &epoch.confirmation_key, confirmed);
    if let Some(signer) = signer {
        let tbs = info.tbs();
        info.signature = suite.sign_with_label(signer, GROUP_INFO_TBS, &tbs).unwrap();
    }
    let sealed = key.seal(suite, &info.to_bytes());
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let (to, plaintext) = (init_key.public_key(), secrets.to_bytes());
    *part = suite
        .encrypt_with_label(to, WELCOME, &sealed, &plaintext, &mut rng)
        .unwrap();
    welcome.encrypted_group_info = sealed.into();
    welcome
}

/// The same secrets, the same group, the same words: what is signed or derived in one version is
/// nothing in the other.
#[test]
fn the_versions_have_nothing_in_common() {
    let mut alice = Client::new("alice", BOTH);
    alice.create(choice(OLD, X25519)).unwrap();
    let suite = suite(X25519);
    let old = alice.group().group_context().clone();
    let new = GroupContext {
        version: NEW,
        ..old.clone()
    };
    let signer = alice.signer.clone().unwrap();
    let key = signer.public_key();
    for format in [WireFormat::PUBLIC_MESSAGE, WireFormat::PRIVATE_MESSAGE] {
        let content = FramedContent {
            group_id: old.group_id.clone(),
            epoch: 0,
            sender: Sender::Member(LeafIndex(0)),
            authenticated_data: Bytes::default(),
            content: Content::Application(Bytes::from(*b"word")),
        };
        let signed = |context| {
            AuthenticatedContent::sign(suite, &signer, format, content.clone(), context).unwrap()
        };
        for (made, read) in [(&old, &new), (&new, &old)] {
            assert_eq!(signed(made).verify(suite, key, made), Ok(()));
            let refused = signed(made).verify(suite, key, read);
            assert_eq!(refused, Err(CryptoError::InvalidSignature));
        }
    }
    let (init, commit) = (b"init".as_slice().into(), b"commit".as_slice().into());
    let joiners = [&old, &new].map(|context| joiner_secret(suite, &init, &commit, context));
    assert_ne!(joiners[0], joiners[1]);
    // Even from one and the same joiner secret.
    let member = member_secret(suite, &joiners[0], &folkmoot_mls::crypto::Secret::zero(32));
    let [a, b] = [&old, &new].map(|context| EpochSecrets::derive(suite, &member, context));
    let all = |epoch: EpochSecrets| {
        [
            epoch.sender_data_secret,
            epoch.encryption_secret,
            epoch.exporter_secret,
            epoch.external_secret,
            epoch.confirmation_key,
            epoch.membership_key,
            epoch.resumption_psk,
            epoch.epoch_authenticator,
            epoch.application_export_secret,
            epoch.init_secret,
        ]
    };
    for (a, b) in all(a).into_iter().zip(all(b)) {
        assert_ne!(a, b);
    }
}

#[test]
fn nobody_makes_a_group_of_what_it_does_not_know() {
    let without_chacha = Provider {
        suites: &[P256, X25519],
        ..FIRST
    };
    let mut carol = Client::new("carol", without_chacha);
    let refused = carol.create(choice(NEW, X25519));
    assert_eq!(refused, Err(Error::UnsupportedVersion(NEW)));
    let refused = carol.create(choice(OLD, CHACHA));
    assert_eq!(refused, Err(Error::UnsupportedCipherSuite(CHACHA)));
    // Nor does she join one that she was added to under a false number.
    let mut alice = Client::new("alice", BOTH);
    alice.create(choice(NEW, X25519)).unwrap();
    let mut bundle = carol.offer(choice(NEW, X25519));
    bundle.key_package.leaf_node.capabilities.versions.push(NEW);
    let signer = carol.signer.clone().unwrap();
    let leaf = bundle.key_package.leaf_node;
    bundle.key_package.leaf_node = folkmoot_mls::leaf_node::LeafNode::sign(
        suite(X25519),
        &signer,
        leaf.parameters(),
        leaf.encryption_key,
        leaf.leaf_node_source,
        None,
    )
    .unwrap();
    bundle.key_package = signed(suite(X25519), &signer, bundle.key_package);
    let pending = alice
        .commit(std::slice::from_ref(&bundle.key_package))
        .unwrap();
    assert_eq!(
        carol.join(&pending, &bundle),
        Err(JoinError::Version.into())
    );
}
