//! Proposals that cannot be committed (RFC 9420, sections 10.1, 12.1 and 12.2).

use crate::group_harness::{Client, SUITE, suite};
use crate::*;
use folkmoot_mls::code_point::{ProtocolVersion, WireFormat};
use folkmoot_mls::codec::Bytes;
use folkmoot_mls::commit::Commit;
use folkmoot_mls::context::{AuthenticationService, BasicCredentials, Context, CredentialError};
use folkmoot_mls::credential::{Credential, CredentialType};
use folkmoot_mls::crypto::{CipherSuite, CryptoError};
use folkmoot_mls::error::Error;
use folkmoot_mls::extension::{
    ExtensionType, Extensions, ExternalSender, ExternalSenders, RequiredCapabilities,
};
use folkmoot_mls::framing::{AuthenticatedContent, Content, FramedContent, Sender};
use folkmoot_mls::group::{Group, JoinError, KeyPackageError, ProposalError};
use folkmoot_mls::key_package::KeyPackage;
use folkmoot_mls::leaf_node::{LeafNode, LeafNodeSource, LeafPosition, Lifetime};
use folkmoot_mls::message::MlsMessage;
use folkmoot_mls::proposal::{ExternalInit, PreSharedKey, Proposal, ProposalOrRef, ReInit};
use folkmoot_mls::psk::{ExternalPsk, PreSharedKeyID, PskType, ResumptionPSKUsage, ResumptionPsk};
use folkmoot_mls::tree::{Capability, LeafNodeError, TreeError};
use folkmoot_mls::tree_math::{LeafIndex, NodeIndex};

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

/// Takes every basic credential, but no lifetime above a hundred seconds.
struct HundredSeconds;

impl AuthenticationService for HundredSeconds {
    fn validate(
        &self,
        credential: &Credential,
        signature_key: &[u8],
        group: &Extensions,
        now: Option<u64>,
    ) -> Result<(), CredentialError> {
        BasicCredentials.validate(credential, signature_key, group, now)
    }

    fn is_successor(&self, old: &Credential, new: &Credential) -> bool {
        BasicCredentials.is_successor(old, new)
    }

    fn longest_lifetime(&self) -> Option<u64> {
        Some(100)
    }
}

#[test]
fn a_lifetime_can_be_too_long_for_the_application() {
    let mut clients = clients();
    let mut newcomer = Client::new("newcomer");
    let mut rng = newcomer.rng.clone();
    let mut ctx = Context {
        authentication_service: &HundredSeconds,
        ..group_harness::context(None, &mut rng)
    };
    let group = clients[ALICE].group().clone();
    for (not_after, expected) in [
        (150, Ok(())),
        (151, Err(LeafNodeError::LifetimeTooLong { seconds: 101 })),
    ] {
        let not_before = 50;
        let lifetime = Lifetime {
            not_before,
            not_after,
        };
        let package = newcomer.key_package_with(newcomer.parameters(), lifetime);
        let expected =
            expected.map_err(|error| Error::Proposal(ProposalError::KeyPackage(error.into())));
        assert_eq!(group.check_key_package(&package, &mut ctx), expected);
    }
    // Nor does one join a group that took it.
    let package = newcomer.key_package();
    let pending = clients[ALICE].commit(|commit| commit.add(package)).unwrap();
    let welcome = pending.welcome.unwrap();
    let bundle = newcomer.bundle.clone().unwrap();
    let error = Group::join(&mut ctx, &welcome, &bundle, None).unwrap_err();
    assert!(matches!(
        error,
        Error::Join(JoinError::Tree(TreeError::Leaf {
            error: LeafNodeError::LifetimeTooLong { .. },
            ..
        }))
    ));
}
