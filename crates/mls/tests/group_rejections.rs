//! One broken rule at a time, and the exact error. Mallory is a member, so her messages open.
#![cfg(feature = "aws-lc")]

mod group_harness;

use folkmoot_mls::code_point::{ProtocolVersion, WireFormat};
use folkmoot_mls::codec::{Bytes, Decode, Encode};
use folkmoot_mls::commit::Commit;
use folkmoot_mls::credential::{Credential, CredentialType};
use folkmoot_mls::crypto::{CipherSuite, CryptoError};
use folkmoot_mls::error::{Error, InvalidMessage};
use folkmoot_mls::extension::{
    ExtensionType, Extensions, ExternalSender, ExternalSenders, RequiredCapabilities,
};
use folkmoot_mls::framing::{AuthenticatedContent, Content, FramedContent, PublicMessage, Sender};
use folkmoot_mls::group::{CommitError, JoinError, KeyPackageError, ProposalError};
use folkmoot_mls::key_package::{KEY_PACKAGE_TBS, KeyPackage};
use folkmoot_mls::leaf_node::{LeafNode, LeafNodeSource, LeafPosition, Lifetime};
use folkmoot_mls::message::MlsMessage;
use folkmoot_mls::proposal::{ExternalInit, PreSharedKey, Proposal, ProposalOrRef, ReInit};
use folkmoot_mls::psk::{ExternalPsk, PreSharedKeyID, PskType, ResumptionPSKUsage, ResumptionPsk};
use folkmoot_mls::tree::path::PathError;
use folkmoot_mls::tree::{Capability, LeafNodeError, TreeError};
use folkmoot_mls::tree_math::{LeafIndex, NodeIndex};
use group_harness::{Client, SUITE, group_of, suite};

const ALICE: usize = 0;
const MALLORY: usize = 1;

/// Alice, Mallory and Charlie, in leaves 0, 1 and 2.
fn clients() -> Vec<Client> {
    group_of(&["alice", "mallory", "charlie"])
}

/// A commit that Mallory makes by hand. Its confirmation tag is wrong.
fn forge(mallory: &mut Client, commit: Commit) -> MlsMessage {
    let group = mallory.group().clone();
    let content = FramedContent {
        group_id: Bytes::from(group.group_id()),
        epoch: group.epoch(),
        sender: Sender::Member(group.own_index()),
        authenticated_data: Bytes::default(),
        content: Content::Commit(Box::new(commit)),
    };
    let format = WireFormat::PRIVATE_MESSAGE;
    let context = group.group_context();
    let signer = mallory.signer.clone();
    let mut content =
        AuthenticatedContent::sign(suite(SUITE), &signer, format, content, context).unwrap();
    content.auth.confirmation_tag = Some(Bytes::from([0; 32]));
    let keys = &mut mallory.member.as_mut().unwrap().keys;
    MlsMessage::PrivateMessage(keys.protect(&content, 0, &mut mallory.rng).unwrap().0)
}

/// A good commit by Mallory, to be changed.
fn good_commit(mallory: &mut Client) -> Commit {
    let pending = mallory
        .commit(|commit| commit.wire_format(WireFormat::PUBLIC_MESSAGE))
        .unwrap();
    let MlsMessage::PublicMessage(message) = pending.message else {
        panic!("it is in clear")
    };
    let Content::Commit(commit) = message.content.content else {
        panic!("it is a commit")
    };
    *commit
}

fn by_value(proposals: Vec<Proposal>) -> Commit {
    let proposals = proposals
        .into_iter()
        .map(|p| ProposalOrRef::Proposal(Box::new(p)));
    Commit {
        proposals: proposals.collect(),
        path: None,
    }
}

/// Alice refuses these proposals of Mallory's, and goes on undisturbed.
fn refused(clients: &mut [Client], proposals: Vec<Proposal>, error: ProposalError) {
    let forged = forge(&mut clients[MALLORY], by_value(proposals));
    assert_eq!(
        clients[ALICE].receive(&forged).unwrap_err(),
        Error::Proposal(error)
    );
    // The key is not used up: the refusal repeats.
    assert!(matches!(
        clients[ALICE].receive(&forged).unwrap_err(),
        Error::Proposal(_)
    ));
    let (word, _) = clients[MALLORY].send(b"still here");
    clients[ALICE].receive(&word).unwrap();
}

fn newcomer() -> (Client, KeyPackage) {
    let mut client = Client::new("newcomer");
    let key_package = client.key_package();
    (client, key_package)
}

/// Signs a KeyPackage again after a change, the leaf too if it is asked for.
fn resigned(client: &Client, mut key_package: KeyPackage, leaf_too: bool) -> KeyPackage {
    let suite = suite(SUITE);
    if leaf_too {
        let leaf = key_package.leaf_node;
        key_package.leaf_node = LeafNode::sign(
            suite,
            &client.signer,
            leaf.parameters(),
            leaf.encryption_key,
            leaf.leaf_node_source,
            Some(LeafPosition {
                group_id: b"group",
                leaf_index: LeafIndex(3),
            }),
        )
        .unwrap();
    }
    let tbs = key_package.tbs();
    key_package.signature = suite
        .sign_with_label(&client.signer, KEY_PACKAGE_TBS, &tbs)
        .unwrap();
    key_package
}

#[test]
fn lists_of_proposals() {
    let mut clients = clients();
    let remove = |leaf| Proposal::remove(LeafIndex(leaf));
    let extensions = || Proposal::group_context_extensions(Extensions::default());
    let update = Proposal::update(clients[MALLORY].group().own_leaf());
    let (_, package) = newcomer();
    let add = || Proposal::add(package.clone());
    let reinit = || {
        Proposal::ReInit(ReInit {
            group_id: Bytes::from(*b"next"),
            version: ProtocolVersion::MLS10,
            cipher_suite: SUITE,
            extensions: Extensions::default(),
        })
    };
    let psk = |nonce: usize, psktype| {
        let psk = PreSharedKeyID {
            psktype,
            psk_nonce: Bytes::from(vec![7; nonce]),
        };
        Proposal::PreSharedKey(PreSharedKey { psk })
    };
    let external = || {
        PskType::External(ExternalPsk {
            psk_id: Bytes::from(*b"psk"),
        })
    };
    let branch = PskType::Resumption(ResumptionPsk {
        usage: ResumptionPSKUsage::Branch,
        psk_group_id: Bytes::from(*b"group"),
        psk_epoch: 0,
    });
    let external_init = Proposal::ExternalInit(ExternalInit {
        kem_output: Bytes::default(),
    });
    let table = [
        (vec![update], ProposalError::UpdateOfCommitter),
        (vec![remove(1)], ProposalError::RemoveOfCommitter),
        (vec![remove(3)], ProposalError::NoSuchMember(LeafIndex(3))),
        (
            vec![remove(u32::MAX)],
            ProposalError::NoSuchMember(LeafIndex(u32::MAX)),
        ),
        (
            vec![remove(2), remove(2)],
            ProposalError::SameLeafTwice(LeafIndex(2)),
        ),
        (
            vec![extensions(), extensions()],
            ProposalError::SecondGroupContextExtensions,
        ),
        (
            vec![add(), add()],
            ProposalError::Tree(TreeError::DuplicateEncryptionKey(NodeIndex(8))),
        ),
        (vec![psk(31, external())], ProposalError::PskNonce),
        (vec![psk(32, branch)], ProposalError::PskUsage),
        (
            vec![psk(32, external()), psk(32, external())],
            ProposalError::RepeatedPsk,
        ),
        (vec![reinit(), add()], ProposalError::ReInitNotAlone),
        (
            vec![reinit()],
            ProposalError::Unsupported(reinit().proposal_type()),
        ),
        (vec![external_init], ProposalError::ExternalInit),
    ];
    for (proposals, error) in table {
        refused(&mut clients, proposals, error);
    }
    let forged = forge(&mut clients[MALLORY], by_value(vec![psk(32, external())]));
    let unknown = Error::Proposal(ProposalError::UnknownPsk);
    assert_eq!(clients[ALICE].receive(&forged).unwrap_err(), unknown);
    let reference = ProposalOrRef::Reference(Bytes::from([1; 32]));
    let forged = forge(
        &mut clients[MALLORY],
        Commit {
            proposals: vec![reference],
            path: None,
        },
    );
    let unknown = Error::Proposal(ProposalError::UnknownReference);
    assert_eq!(clients[ALICE].receive(&forged).unwrap_err(), unknown);
}

#[test]
fn key_packages() {
    let mut clients = clients();
    let (client, good) = newcomer();
    let changed = |change: &dyn Fn(&mut KeyPackage), leaf_too| {
        let mut package = good.clone();
        change(&mut package);
        resigned(&client, package, leaf_too)
    };
    let lacks = |capability| KeyPackageError::LeafNode(LeafNodeError::Lacks(capability));
    let mut unsigned = good.clone();
    unsigned.signature = Bytes::from([0; 64]);
    let mut unsigned_leaf = good.clone();
    unsigned_leaf.leaf_node.signature = Bytes::from([0; 64]);
    let invalid = CryptoError::InvalidSignature;
    let custom = CredentialType(0xf0f0);
    let table = [
        (
            changed(&|p| p.version = ProtocolVersion(2), false),
            KeyPackageError::Version,
        ),
        (
            changed(&|p| p.cipher_suite = CipherSuite(3), false),
            KeyPackageError::CipherSuite,
        ),
        (unsigned, KeyPackageError::Signature(invalid)),
        (
            resigned(&client, unsigned_leaf, false),
            KeyPackageError::LeafNode(LeafNodeError::Signature(invalid)),
        ),
        (
            changed(&|p| p.init_key = p.leaf_node.encryption_key.clone(), false),
            KeyPackageError::InitKeyReused,
        ),
        (
            changed(&|p| p.init_key = Bytes::from([0; 31]).into(), false),
            KeyPackageError::InitKey(CryptoError::InvalidPublicKey),
        ),
        (
            changed(
                &|p| p.leaf_node.encryption_key = Bytes::from([0; 31]).into(),
                true,
            ),
            LeafNodeError::EncryptionKey(CryptoError::InvalidPublicKey).into(),
        ),
        (
            changed(
                &|p| p.leaf_node.leaf_node_source = LeafNodeSource::Update,
                true,
            ),
            LeafNodeError::Source.into(),
        ),
        (
            changed(&|p| p.leaf_node.capabilities.versions.clear(), true),
            lacks(Capability::Version(ProtocolVersion::MLS10)),
        ),
        (
            changed(&|p| p.leaf_node.capabilities.cipher_suites.clear(), true),
            lacks(Capability::CipherSuite(SUITE)),
        ),
        (
            changed(
                &|p| p.leaf_node.capabilities.credentials = vec![custom],
                true,
            ),
            LeafNodeError::UnlistedCredential(CredentialType::BASIC).into(),
        ),
        (
            changed(
                &|p| {
                    p.leaf_node
                        .extensions
                        .set_data(ExtensionType(0xf001), vec![1])
                },
                true,
            ),
            LeafNodeError::UnlistedExtension(ExtensionType(0xf001)).into(),
        ),
    ];
    for (package, error) in table {
        let error = ProposalError::KeyPackage(error);
        refused(
            &mut clients,
            vec![Proposal::add(package.clone())],
            error.clone(),
        );
        // Mallory herself could not have made it by the builder either.
        let own = clients[MALLORY]
            .commit(|commit| commit.add(package))
            .unwrap_err();
        assert_eq!(own, Error::Proposal(error));
    }
    // The lifetime is judged where the time is known.
    let mut late = Client::new("late");
    let lifetime = Lifetime {
        not_before: 100,
        not_after: 200,
    };
    let package = late.key_package_with(late.parameters(), lifetime);
    for now in [99, 201] {
        clients[ALICE].now = Some(now);
        let error = ProposalError::KeyPackage(LeafNodeError::Lifetime { now }.into());
        refused(&mut clients, vec![Proposal::add(package.clone())], error);
    }
    clients[ALICE].now = Some(200);
    let pending = clients[MALLORY]
        .commit(|commit| commit.add(package))
        .unwrap();
    clients[ALICE].receive(&pending.message).unwrap();
}

#[test]
fn a_member_is_not_added_again() {
    let mut clients = clients();
    let package = clients[2].key_package();
    let duplicate = ProposalError::Tree(TreeError::DuplicateSignatureKey(LeafIndex(3)));
    refused(
        &mut clients,
        vec![Proposal::add(package.clone())],
        duplicate,
    );
    // Unless the same commit removes it.
    let pending = clients[MALLORY]
        .commit(|commit| commit.add(package).remove(LeafIndex(2)))
        .unwrap();
    assert_eq!(pending.effects.added, [LeafIndex(2)]);
    clients[ALICE].receive(&pending.message).unwrap();
}

#[test]
fn extensions_of_the_group() {
    let mut clients = clients();
    let unknown = ExtensionType(0xf00d);
    let mut extensions = Extensions::default();
    extensions.set_data(unknown, vec![1]);
    let lacking = ProposalError::MemberLacks(Capability::Extension(unknown));
    refused(
        &mut clients,
        vec![Proposal::group_context_extensions(extensions)],
        lacking,
    );

    let required = RequiredCapabilities {
        credential_types: vec![CredentialType::X509],
        ..RequiredCapabilities::default()
    };
    let extensions = Extensions::default().with(&required);
    let x509 = Capability::Credential(CredentialType::X509);
    let replace = Proposal::group_context_extensions(extensions.clone());
    refused(
        &mut clients,
        vec![replace.clone()],
        ProposalError::MemberLacks(x509),
    );
    // The new extensions count for those who are added with them.
    let (_, package) = newcomer();
    let error = ProposalError::KeyPackage(LeafNodeError::Lacks(x509).into());
    refused(&mut clients, vec![replace, Proposal::add(package)], error);

    let mut malformed = Extensions::default();
    malformed.set_data(ExtensionType::REQUIRED_CAPABILITIES, vec![9]);
    let error = ProposalError::MalformedExtension(ExtensionType::REQUIRED_CAPABILITIES);
    refused(
        &mut clients,
        vec![Proposal::group_context_extensions(malformed)],
        error,
    );

    let sender = ExternalSender {
        signature_key: Bytes::from([1; 32]).into(),
        credential: Credential::X509 {
            certificates: Vec::new(),
        },
    };
    let senders = ExternalSenders {
        external_senders: vec![sender],
    };
    let extensions = Extensions::default().with(&senders);
    let error = folkmoot_mls::context::CredentialError::UnsupportedType;
    let error = ProposalError::ExternalSender(error);
    refused(
        &mut clients,
        vec![Proposal::group_context_extensions(extensions)],
        error,
    );
}

#[test]
fn updates() {
    let mut clients = clients();
    let update = clients[2].propose_update(WireFormat::PRIVATE_MESSAGE);
    clients[ALICE].receive(&update.message).unwrap();
    clients[MALLORY].receive(&update.message).unwrap();
    let reference = || ProposalOrRef::Reference(update.reference.clone());
    let remove = ProposalOrRef::Proposal(Box::new(Proposal::remove(LeafIndex(2))));
    let commit = Commit {
        proposals: vec![reference(), remove],
        path: None,
    };
    let forged = forge(&mut clients[MALLORY], commit);
    let twice = Error::Proposal(ProposalError::SameLeafTwice(LeafIndex(2)));
    assert_eq!(clients[ALICE].receive(&forged).unwrap_err(), twice);

    // An Update that keeps the key, or whose leaf comes from elsewhere, is refused with the commit.
    let old = clients[2].group().own_leaf();
    let package_leaf = old.clone();
    let kept = LeafNode::sign(
        suite(SUITE),
        &clients[2].signer.clone(),
        old.parameters(),
        old.encryption_key.clone(),
        LeafNodeSource::Update,
        Some(LeafPosition {
            group_id: b"group",
            leaf_index: LeafIndex(2),
        }),
    )
    .unwrap();
    for (leaf_node, error) in [
        (kept, LeafNodeError::EncryptionKeyNotRenewed),
        (package_leaf, LeafNodeError::Source),
    ] {
        let content = FramedContent {
            group_id: Bytes::from(*b"group"),
            epoch: clients[2].group().epoch(),
            sender: Sender::Member(LeafIndex(2)),
            authenticated_data: Bytes::default(),
            content: Content::Proposal(Box::new(Proposal::update(leaf_node))),
        };
        let charlie = &mut clients[2];
        let context = charlie.group().group_context().clone();
        let format = WireFormat::PRIVATE_MESSAGE;
        let content =
            AuthenticatedContent::sign(suite(SUITE), &charlie.signer, format, content, &context)
                .unwrap();
        let reference = Bytes::from(content.proposal_ref(suite(SUITE)));
        let keys = &mut charlie.member.as_mut().unwrap().keys;
        let message = keys.protect(&content, 0, &mut charlie.rng).unwrap().0;
        clients[ALICE]
            .receive(&MlsMessage::PrivateMessage(message))
            .unwrap();
        let proposals = vec![ProposalOrRef::Reference(reference)];
        let forged = forge(
            &mut clients[MALLORY],
            Commit {
                proposals,
                path: None,
            },
        );
        let leaf = LeafIndex(2);
        let error = Error::Proposal(ProposalError::Update { leaf, error });
        assert_eq!(clients[ALICE].receive(&forged).unwrap_err(), error);
    }
    // Alice, who has all three, commits the one that is valid.
    let pending = clients[ALICE].commit(|commit| commit).unwrap();
    assert_eq!(
        pending.effects.updated.len(),
        0,
        "the last Update of Charlie is not valid"
    );
    assert_eq!(pending.effects.proposals.len(), 0);
}

#[test]
fn paths() {
    let mut clients = clients();
    let missing = Error::Commit(CommitError::MissingPath);
    for commit in [
        Commit::default(),
        by_value(vec![Proposal::remove(LeafIndex(2))]),
    ] {
        let forged = forge(&mut clients[MALLORY], commit);
        assert_eq!(clients[ALICE].receive(&forged).unwrap_err(), missing);
    }
    let mut good = good_commit(&mut clients[MALLORY]);
    let path = good.path.clone().unwrap();
    let old = clients[MALLORY].group().own_leaf();
    let signer = clients[MALLORY].signer.clone();
    let resign = |leaf: LeafNode, source: LeafNodeSource| {
        LeafNode::sign(
            suite(SUITE),
            &signer,
            leaf.parameters(),
            leaf.encryption_key,
            source,
            Some(LeafPosition {
                group_id: b"group",
                leaf_index: LeafIndex(1),
            }),
        )
        .unwrap()
    };
    let mut refuse = |path, error: CommitError| {
        good.path = Some(path);
        let forged = forge(&mut clients[MALLORY], good.clone());
        assert_eq!(
            clients[ALICE].receive(&forged).unwrap_err(),
            Error::Commit(error)
        );
    };
    let source = path.leaf_node.leaf_node_source.clone();

    let mut changed = path.clone();
    changed.leaf_node.signature = Bytes::from([0; 64]);
    refuse(
        changed,
        LeafNodeError::Signature(CryptoError::InvalidSignature).into(),
    );
    let mut changed = path.clone();
    changed.leaf_node = resign(
        path.leaf_node.clone(),
        LeafNodeSource::Commit(Bytes::from([1])),
    );
    refuse(changed, PathError::ParentHash.into());
    let mut changed = path.clone();
    changed.nodes.pop();
    refuse(
        changed,
        PathError::Length {
            expected: 2,
            found: 1,
        }
        .into(),
    );
    let mut changed = path.clone();
    let mut leaf = path.leaf_node.clone();
    leaf.encryption_key = old.encryption_key.clone();
    changed.leaf_node = resign(leaf, source.clone());
    refuse(changed, PathError::RepeatedKey(NodeIndex(2)).into());
    let mut changed = path.clone();
    let mut leaf = path.leaf_node.clone();
    leaf.credential = Credential::basic(*b"somebody else");
    changed.leaf_node = resign(leaf, source.clone());
    refuse(changed, LeafNodeError::NotSuccessor.into());
    let mut changed = path.clone();
    let mut leaf = path.leaf_node.clone();
    leaf.capabilities.credentials.push(CredentialType(0xf0f0));
    leaf.extensions.set_data(ExtensionType(0xf001), vec![1]);
    changed.leaf_node = resign(leaf, source.clone());
    refuse(
        changed,
        LeafNodeError::UnlistedExtension(ExtensionType(0xf001)).into(),
    );
    let mut changed = path.clone();
    changed.nodes[0].encrypted_path_secret[0].ciphertext = Bytes::from([0; 48]);
    // This one is Alice's to open; Charlie would not see that it is wrong.
    refuse(
        changed,
        PathError::Decryption(CryptoError::DecryptionFailed).into(),
    );
    // All is well but the tag.
    refuse(path, CommitError::ConfirmationTag);
}

#[test]
fn messages() {
    let mut clients = clients();
    let public = WireFormat::PUBLIC_MESSAGE;
    let pending = clients[MALLORY]
        .commit(|commit| commit.wire_format(public))
        .unwrap();
    let MlsMessage::PublicMessage(good) = pending.message.clone() else {
        panic!("in clear")
    };
    let mut refuse = |change: &dyn Fn(&mut PublicMessage), error: Error| {
        let mut message = good.clone();
        change(&mut message);
        let message = MlsMessage::PublicMessage(message);
        assert_eq!(clients[ALICE].receive(&message).unwrap_err(), error);
    };
    refuse(
        &|m| m.membership_tag = Some(Bytes::from([0; 32])),
        CryptoError::InvalidMac.into(),
    );
    refuse(
        &|m| m.content.sender = Sender::Member(LeafIndex(2)),
        CryptoError::InvalidMac.into(),
    );
    refuse(
        &|m| m.content.group_id = Bytes::from(*b"other"),
        Error::WrongGroup,
    );
    refuse(
        &|m| m.content.epoch = 7,
        Error::WrongEpoch {
            message: 7,
            current: 1,
        },
    );
    refuse(
        &|m| {
            m.content.sender = Sender::NewMemberCommit;
            m.membership_tag = None;
        },
        Error::UnsupportedSender(Sender::NewMemberCommit),
    );
    refuse(
        &|m| {
            m.content.sender = Sender::External(0);
            m.membership_tag = None;
        },
        Error::UnsupportedSender(Sender::External(0)),
    );
    refuse(
        &|m| {
            m.content.content = Content::Application(Bytes::default());
            m.auth.confirmation_tag = None;
        },
        InvalidMessage::UnencryptedApplicationData.into(),
    );
    assert_eq!(
        clients[MALLORY].receive(&pending.message).unwrap_err(),
        Error::OwnMessage
    );
    clients[ALICE].receive(&pending.message).unwrap();
    let late = Error::WrongEpoch {
        message: 1,
        current: 2,
    };
    assert_eq!(clients[ALICE].receive(&pending.message).unwrap_err(), late);
    let welcome = MlsMessage::KeyPackage(Box::new(newcomer().1));
    let kind = Error::UnexpectedWireFormat(WireFormat::KEY_PACKAGE);
    assert_eq!(clients[ALICE].receive(&welcome).unwrap_err(), kind);
}

#[test]
fn callers_are_told_of_their_own_mistakes() {
    let mut clients = clients();
    let stranger = suite(SUITE).signature_key_pair(&mut clients[2].rng.clone());
    let own = std::mem::replace(&mut clients[ALICE].signer, stranger);
    assert_eq!(
        clients[ALICE].commit(|commit| commit).unwrap_err(),
        Error::WrongSigner
    );
    clients[ALICE].signer = own;
    let nobody = Proposal::remove(LeafIndex(9));
    let error = Error::Proposal(ProposalError::NoSuchMember(LeafIndex(9)));
    let format = WireFormat::PRIVATE_MESSAGE;
    assert_eq!(clients[ALICE].propose(nobody, format).unwrap_err(), error);
    let format = WireFormat::WELCOME;
    let error = clients[ALICE]
        .commit(|commit| commit.wire_format(format))
        .unwrap_err();
    assert_eq!(error, Error::UnexpectedWireFormat(format));
    // Message keys of another epoch are of no use.
    let pending = clients[ALICE].commit(|commit| commit).unwrap();
    let alice = clients[ALICE].member.as_mut().unwrap();
    alice.group = pending.group.clone();
    let error = clients[ALICE].commit(|commit| commit).unwrap_err();
    assert_eq!(
        error,
        Error::WrongEpoch {
            message: 1,
            current: 2
        }
    );
}

#[test]
fn welcomes() {
    let mut clients = clients();
    let (mut joiner, package) = newcomer();
    let pending = clients[MALLORY]
        .commit(|commit| commit.add(package).tree_in_welcome(false))
        .unwrap();
    let welcome = pending.welcome.clone().unwrap();
    let tree = pending.group.tree_bytes();
    let mut refuse = |welcome: &_, tree: Option<&[u8]>, error: Error| {
        assert_eq!(joiner.join(welcome, tree).unwrap_err(), error);
    };
    refuse(&welcome, None, JoinError::MissingTree.into());
    let other_tree = clients[ALICE].group().tree_bytes();
    refuse(
        &welcome,
        Some(&other_tree),
        JoinError::Tree(TreeError::TreeHash).into(),
    );
    let blank = [1, 0];
    refuse(
        &welcome,
        Some(&blank),
        JoinError::Tree(TreeError::TrailingBlank).into(),
    );
    let mut changed = welcome.clone();
    changed.secrets[0].new_member = Bytes::from([0; 32]);
    refuse(&changed, Some(&tree), JoinError::NotForUs.into());
    let mut changed = welcome.clone();
    changed.cipher_suite = CipherSuite(3);
    refuse(&changed, Some(&tree), JoinError::CipherSuite.into());
    changed.cipher_suite = CipherSuite(77);
    refuse(
        &changed,
        Some(&tree),
        Error::UnsupportedCipherSuite(CipherSuite(77)),
    );
    let mut changed = welcome.clone();
    let mut info = changed.encrypted_group_info.into_vec();
    info[0] ^= 1;
    changed.encrypted_group_info = info.into();
    // The GroupInfo is the context of each part's encryption.
    let decryption = JoinError::Decryption(CryptoError::DecryptionFailed);
    refuse(&changed, Some(&tree), decryption.into());
    let mut bundle = joiner.bundle.clone().unwrap();
    std::mem::swap(
        &mut bundle.init_private_key,
        &mut bundle.encryption_private_key,
    );
    let good = joiner.bundle.replace(bundle);
    assert_eq!(
        joiner.join(&welcome, Some(&tree)).unwrap_err(),
        Error::Join(JoinError::PrivateKeys)
    );
    joiner.bundle = good;
    joiner.join(&welcome, Some(&tree)).unwrap();
    let bytes = welcome.to_bytes();
    assert!(folkmoot_mls::welcome::Welcome::from_bytes(&bytes[..bytes.len() - 1]).is_err());
}
