//! Commits and messages that are not valid (RFC 9420, sections 6 and 12.4), and calls that are not.

use crate::group_harness::{SUITE, suite};
use crate::*;
use folkmoot_mls::code_point::{ProtocolVersion, WireFormat};
use folkmoot_mls::codec::{Bytes, Decode, Encode};
use folkmoot_mls::commit::Commit;
use folkmoot_mls::credential::{Credential, CredentialType};
use folkmoot_mls::crypto::CryptoError;
use folkmoot_mls::error::{Error, InvalidMessage};
use folkmoot_mls::extension::{ExtensionType, Extensions, RequiredCapabilities};
use folkmoot_mls::framing::{Content, PublicMessage, Sender};
use folkmoot_mls::group::{CommitError, ProposalError};
use folkmoot_mls::leaf_node::{LeafNode, LeafNodeSource, LeafPosition};
use folkmoot_mls::message::MlsMessage;
use folkmoot_mls::proposal::{ExternalInit, Proposal, ReInit};
use folkmoot_mls::tree::path::PathError;
use folkmoot_mls::tree::{Capability, LeafNodeError};
use folkmoot_mls::tree_math::LeafIndex;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

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
    refuse(changed, PathError::LeafKeyNotRenewed.into());
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
    // Nothing is proposed that could not be committed, or not be followed.
    let reinit = Proposal::ReInit(ReInit {
        group_id: Bytes::from([1]),
        version: ProtocolVersion::MLS10,
        cipher_suite: SUITE,
        extensions: Extensions::default(),
    });
    let external_init = Proposal::ExternalInit(ExternalInit {
        kem_output: Bytes::from([1; 32]),
    });
    let required = RequiredCapabilities {
        extension_types: vec![ExtensionType(0xff01)],
        ..RequiredCapabilities::default()
    };
    let needs_more = Proposal::group_context_extensions(Extensions::default().with(&required));
    let lacks = Capability::Extension(ExtensionType(0xff01));
    for (proposal, error) in [
        (
            reinit.clone(),
            ProposalError::Unsupported(reinit.proposal_type()),
        ),
        (external_init, ProposalError::ExternalInit),
        (needs_more, ProposalError::MemberLacks(lacks)),
    ] {
        let error = Error::Proposal(error);
        assert_eq!(clients[ALICE].propose(proposal, format).unwrap_err(), error);
    }
    let mut other = clients[ALICE].parameters();
    other.credential = Credential::basic(*b"somebody else");
    let (group, signer) = (
        clients[ALICE].group().clone(),
        clients[ALICE].signer.clone(),
    );
    let rng = &mut clients[2].rng.clone();
    let ctx = &mut group_harness::context(None, rng);
    let keys = &mut clients[ALICE].member.as_mut().unwrap().keys;
    let error = group
        .propose_update(keys, &signer, Some(other), b"", format, ctx)
        .unwrap_err();
    let (leaf, not_successor) = (LeafIndex(0), LeafNodeError::NotSuccessor);
    let expected = ProposalError::Update {
        leaf,
        error: not_successor,
    };
    assert_eq!(error, Error::Proposal(expected));
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
fn no_commit_of_a_member_makes_a_panic() {
    let mut clients = clients();
    let (_, package) = newcomer();
    let public = WireFormat::PUBLIC_MESSAGE;
    let pending = clients[MALLORY]
        .commit(|commit| commit.add(package).remove(LeafIndex(2)).wire_format(public))
        .unwrap();
    let MlsMessage::PublicMessage(message) = pending.message else {
        panic!("it is in clear")
    };
    let Content::Commit(good) = message.content.content else {
        panic!("it is a commit")
    };
    let good = good.to_bytes();
    let rng = &mut ChaCha20Rng::seed_from_u64(0);
    let mut read = 0;
    for _ in 0..1_000 {
        let mut bytes = good.clone();
        for _ in 0..rng.next_u32() % 3 + 1 {
            let place = rng.next_u32() as usize % bytes.len();
            bytes[place] = if rng.next_u32() % 2 == 0 {
                rng.next_u32() as u8
            } else {
                bytes[place] ^ 1
            };
        }
        let Ok(commit) = Commit::from_bytes(&bytes) else {
            continue;
        };
        let removes_alice = |proposal: &ProposalOrRef| {
            let alice = Proposal::remove(LeafIndex(ALICE as u32));
            *proposal == ProposalOrRef::Proposal(Box::new(alice))
        };
        if commit.proposals.iter().any(removes_alice) {
            continue;
        }
        read += 1;
        let group = clients[ALICE].group().clone();
        let forged = forge(&mut clients[MALLORY], commit);
        let refused = clients[ALICE].receive(&forged);
        // If nothing else is wrong, the tag is.
        assert!(
            matches!(refused, Err(Error::Proposal(_) | Error::Commit(_))),
            "{refused:?}"
        );
        assert_eq!(
            clients[ALICE].group().epoch_authenticator(),
            group.epoch_authenticator()
        );
    }
    assert!(read > 300, "{read}");
    let (word, _) = clients[MALLORY].send(b"still here");
    clients[ALICE].receive(&word).unwrap();
}
