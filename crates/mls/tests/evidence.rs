//! Evidence for somebody outside of the group: what it proves, and that nothing of it can be changed.
#![cfg(any(feature = "aws-lc", feature = "rust-crypto"))]

mod group_harness;

use folkmoot_mls::code_point::{ProtocolVersion, WireFormat};
use folkmoot_mls::codec::{Bytes, Decode, Encode};
use folkmoot_mls::context::{BasicCredentials, ByCredentialType, CredentialError};
use folkmoot_mls::credential::Credential;
use folkmoot_mls::crypto::{CipherSuite, CryptoError, PROVIDER};
use folkmoot_mls::error::{Error, InvalidMessage};
use folkmoot_mls::evidence::{Evidence, EvidenceError, Proven};
use folkmoot_mls::extension::Extensions;
use folkmoot_mls::framing::{Content, ContentType, Sender};
use folkmoot_mls::inspect::inspect;
use folkmoot_mls::message::MlsMessage;
use folkmoot_mls::proposal::Proposal;
use folkmoot_mls::tree_math::LeafIndex;
use group_harness::{Client, SUITE, deliver, group_of};

fn evidence(client: &Client, message: &MlsMessage) -> Result<Evidence, Error> {
    let member = client.member();
    member.group.evidence(&member.keys, message)
}

/// The moderator gets bytes, and knows nothing of the group.
fn moderator(evidence: &Evidence) -> Evidence {
    let bytes = evidence.to_bytes();
    let shown = inspect(&bytes).unwrap().to_string();
    assert!(shown.starts_with("Evidence:"), "{shown}");
    assert!(inspect(&bytes[1..]).is_err());
    Evidence::from_bytes(&bytes).unwrap()
}

fn judged(evidence: &Evidence) -> Result<Proven<'_>, EvidenceError> {
    evidence.verify(&PROVIDER, &BasicCredentials, None)
}

#[test]
fn a_member_reports_what_another_sent() {
    let names = ["alice", "bob", "charlie", "dora", "emil"];
    let mut clients = group_of(&names);
    for committer in [3, 1] {
        let pending = clients[committer].commit(|commit| commit).unwrap();
        deliver(&mut clients, committer, pending);
    }
    for sender in [1, 4] {
        let (word, _) = clients[sender].send(b"an insult");
        let report = evidence(&clients[2], &word).unwrap();
        let report = moderator(&report);
        let proven = judged(&report).unwrap();
        assert_eq!(proven.group_id, b"group");
        assert_eq!(proven.epoch, 3);
        assert_eq!(proven.sender, LeafIndex(sender as u32));
        assert_eq!(
            *proven.credential,
            Credential::basic(names[sender].as_bytes())
        );
        assert_eq!(proven.signature_key, clients[sender].signer.public_key());
        let insult = Content::Application(Bytes::from(*b"an insult"));
        assert_eq!(*proven.content, insult);
        // Nothing was used up.
        clients[2].receive(&word).unwrap();
    }
}

#[test]
fn handshakes_are_reported_too_encrypted_or_not() {
    let mut clients = group_of(&["alice", "bob", "charlie"]);
    for format in [WireFormat::PRIVATE_MESSAGE, WireFormat::PUBLIC_MESSAGE] {
        let removal = Proposal::remove(LeafIndex(2));
        let proposed = clients[1].propose(removal.clone(), format).unwrap();
        let report = moderator(&evidence(&clients[2], &proposed.message).unwrap());
        let proven = judged(&report).unwrap();
        assert_eq!(*proven.content, Content::Proposal(Box::new(removal)));
        let pending = clients[0]
            .commit(|commit| commit.wire_format(format))
            .unwrap();
        let report = moderator(&evidence(&clients[2], &pending.message).unwrap());
        let proven = judged(&report).unwrap();
        assert_eq!(proven.sender, LeafIndex(0));
        assert_eq!(proven.content.content_type(), ContentType::Commit);
        // Its confirmation tag, which no signature covers, makes no second evidence of it.
        assert_eq!(report.content.auth.confirmation_tag, Some(Bytes::default()));
        for tag in [None, Some(Bytes::from([0; 32]))] {
            let mut other = report.clone();
            other.content.auth.confirmation_tag = tag;
            assert_eq!(judged(&other), Err(EvidenceError::ConfirmationTag));
        }
    }
}

#[test]
fn a_message_that_was_kept_is_reported_later() {
    let mut clients = group_of(&["alice", "bob"]);
    let (word, _) = clients[1].send(b"word");
    let MlsMessage::PrivateMessage(message) = &word else {
        panic!("it is encrypted")
    };
    let alice = clients[0].member.as_mut().unwrap();
    let opened = alice.keys.open(message).unwrap();
    alice.keys.consume(opened.key).unwrap();
    let kept = (alice.group.clone(), opened.content);
    let pending = clients[1].commit(|commit| commit).unwrap();
    deliver(&mut clients, 1, pending);
    let (then, content) = kept;
    assert!(judged(&then.evidence_of(content.clone()).unwrap()).is_ok());
    assert_eq!(
        clients[0].group().evidence_of(content),
        Err(Error::WrongEpoch {
            message: 1,
            current: 2
        })
    );
    assert!(evidence(&clients[0], &word).is_err(), "its key is gone");
}

#[test]
fn who_reports_can_change_nothing() {
    let mut clients = group_of(&["alice", "bob", "charlie"]);
    let pending = clients[0].commit(|commit| commit).unwrap();
    deliver(&mut clients, 0, pending);
    let (word, _) = clients[1].send(b"word");
    let good = evidence(&clients[2], &word).unwrap();
    let (other, _) = clients[0].send(b"word");
    let of_alice = evidence(&clients[2], &other).unwrap();
    let signature = EvidenceError::Signature(CryptoError::InvalidSignature);
    let in_tree = EvidenceError::NotInTree;
    type Change<'a> = &'a dyn Fn(&mut Evidence);
    let changes: [(Change<'_>, EvidenceError); 18] = [
        (
            &|e| e.content.content.content = Content::Application(Bytes::from(*b"more")),
            signature,
        ),
        (
            &|e| e.content.content.authenticated_data = Bytes::from([1]),
            signature,
        ),
        (
            &|e| e.content.wire_format = WireFormat::PUBLIC_MESSAGE,
            signature,
        ),
        (
            &|e| e.content.auth = of_alice.content.auth.clone(),
            signature,
        ),
        (
            &|e| e.group_context.confirmed_transcript_hash = Bytes::from([0; 32]),
            signature,
        ),
        (
            &|e| {
                e.group_context
                    .extensions
                    .set_data(folkmoot_mls::extension::ExtensionType(9), [])
            },
            signature,
        ),
        (&|e| e.group_context.epoch += 1, EvidenceError::OtherGroup),
        (
            &|e| e.group_context.group_id = Bytes::from(*b"other"),
            EvidenceError::OtherGroup,
        ),
        (&|e| e.content.content.epoch += 1, EvidenceError::OtherGroup),
        (
            &|e| e.content.content.sender = Sender::NewMemberCommit,
            EvidenceError::NotByMember,
        ),
        // Another's name, leaf or place.
        (
            &|e| e.leaf_node.credential = Credential::basic(*b"alice"),
            in_tree,
        ),
        (&|e| e.leaf_node = of_alice.leaf_node.clone(), in_tree),
        (
            &|e| e.content.content.sender = Sender::Member(LeafIndex(0)),
            in_tree,
        ),
        (
            &|e| e.content.content.sender = Sender::Member(LeafIndex(5)),
            in_tree,
        ),
        (&|e| drop(e.leaf_proof.steps.pop()), in_tree),
        (
            &|e| e.leaf_proof.steps[0].sibling_hash = Bytes::from([0; 32]),
            in_tree,
        ),
        (&|e| e.leaf_proof.steps[1].parent_node = None, in_tree),
        // All of Alice's but the signature of the content.
        (
            &|e| {
                let content = e.content.auth.clone();
                *e = of_alice.clone();
                e.content.auth = content;
            },
            signature,
        ),
    ];
    judged(&good).unwrap();
    for (number, (change, error)) in changes.into_iter().enumerate() {
        let mut changed = good.clone();
        change(&mut changed);
        assert_eq!(judged(&changed), Err(error), "change {number}");
    }
    let mut unknown = good.clone();
    unknown.group_context.version = ProtocolVersion(0xf001);
    let error = EvidenceError::UnsupportedVersion(ProtocolVersion(0xf001));
    assert_eq!(judged(&unknown), Err(error));
    let mut unknown = good.clone();
    unknown.group_context.cipher_suite = CipherSuite(0xf001);
    let error = EvidenceError::UnsupportedCipherSuite(CipherSuite(0xf001));
    assert_eq!(judged(&unknown), Err(error));
    let nobody = ByCredentialType::default();
    let refused = good.verify(&PROVIDER, &nobody, None);
    let error = EvidenceError::Credential(CredentialError::UnsupportedType);
    assert_eq!(refused, Err(error));
    // A tree as deep as none is.
    let mut deep = good;
    let step = deep.leaf_proof.steps[0].clone();
    deep.leaf_proof.steps = vec![step; 40];
    assert_eq!(judged(&deep), Err(in_tree));
}

#[test]
fn an_invented_leaf_does_not_pass_for_anothers() {
    // Mallory signs a context of her own making, with Alice's name in a leaf, and even knows a tree
    // that has it. The leaf's own signature is not Alice's.
    let mut clients = group_of(&["mallory", "alice"]);
    let (word, _) = clients[0].send(b"word");
    let mut invented = evidence(&clients[1], &word).unwrap();
    invented.leaf_node.credential = Credential::basic(*b"alice");
    let suite = group_harness::suite(clients[0].suite);
    let hash = invented
        .leaf_proof
        .tree_hash(LeafIndex(0), &invented.leaf_node, suite);
    invented.group_context.tree_hash = hash.unwrap().into();
    let content = folkmoot_mls::framing::AuthenticatedContent::sign(
        suite,
        &clients[0].signer,
        WireFormat::PRIVATE_MESSAGE,
        invented.content.content.clone(),
        &invented.group_context,
    );
    invented.content = content.unwrap();
    let error = EvidenceError::LeafSignature(CryptoError::InvalidSignature);
    assert_eq!(judged(&invented), Err(error));
}

/// Little-endian, as long as the keys of the curve.
fn bytes(length: usize, from: u8, fill: u8, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut bytes = vec![fill; length];
    bytes[0] = from;
    change(&mut bytes);
    bytes
}

#[test]
fn a_key_under_which_anybody_signs_proves_nothing() {
    let none = |_: &mut [u8]| {};
    let top = |bytes: &mut [u8]| bytes[31] = 0x7f;
    let of_order_8 = "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05";
    let of_order_8: Vec<u8> = (0..64)
        .step_by(2)
        .map(|at| u8::from_str_radix(&of_order_8[at..at + 2], 16).unwrap())
        .collect();
    // The other y of order 8 is its negative: p - y.
    let mut negative = bytes(32, 0xed, 0xff, top);
    let mut borrow = 0;
    for (byte, y) in negative.iter_mut().zip(&of_order_8) {
        let difference = i32::from(*byte) - i32::from(*y) - borrow;
        borrow = i32::from(difference < 0);
        *byte = difference.rem_euclid(256) as u8;
    }
    let of_25519 = vec![
        bytes(32, 0, 0, none),
        bytes(32, 1, 0, none),
        bytes(32, 0xec, 0xff, top),
        bytes(32, 0xed, 0xff, top),
        bytes(32, 0xee, 0xff, top),
        of_order_8,
        negative,
    ];
    // The last byte is the sign only, and 2^448 - 2^224 - 1 has one bit in the middle unset.
    let prime = |bytes: &mut [u8]| (bytes[28], bytes[56]) = (0xfe, 0);
    let above = |bytes: &mut [u8]| {
        bytes[..28].fill(0);
        bytes[56] = 0;
    };
    let of_448 = vec![
        bytes(57, 0, 0, none),
        bytes(57, 1, 0, none),
        bytes(57, 0xfe, 0xff, prime),
        bytes(57, 0xff, 0xff, prime),
        bytes(57, 0, 0xff, above),
    ];
    let ed448 = CipherSuite::MLS_256_DHKEMX448_AES256GCM_SHA512_ED448;
    for (suite, keys) in [(SUITE, of_25519), (ed448, of_448)] {
        let mut clients = ["mallory", "alice"].map(|name| Client::with_suite(name, suite));
        clients[0].create(Extensions::default());
        let package = clients[1].key_package();
        let pending = clients[0].commit(|commit| commit.add(package)).unwrap();
        deliver(&mut clients, 0, pending);
        let (word, _) = clients[0].send(b"word");
        let good = evidence(&clients[1], &word).unwrap();
        judged(&good).unwrap();
        let suite = group_harness::suite(suite);
        let judge_key = |key: Vec<u8>| {
            // The neutral point as R and zero as S: no private key is needed.
            let length = key.len();
            let mut signature = vec![0; 2 * length];
            signature[0] = 1;
            let mut invented = good.clone();
            invented.leaf_node.signature_key = key.into();
            invented.leaf_node.signature = signature.clone().into();
            let hash = invented
                .leaf_proof
                .tree_hash(LeafIndex(0), &invented.leaf_node, suite);
            invented.group_context.tree_hash = hash.unwrap().into();
            invented.content.auth.signature = signature.into();
            judged(&invented).map(drop)
        };
        for key in keys {
            for sign in [0, 0x80] {
                let mut key = key.clone();
                *key.last_mut().unwrap() |= sign;
                let refused = judge_key(key.clone());
                assert_eq!(refused, Err(EvidenceError::SmallOrderKey), "{key:02x?}");
            }
            // Any other key gets as far as its signature.
            let mut other = key;
            other[9] ^= 4;
            assert!(matches!(
                judge_key(other),
                Err(EvidenceError::LeafSignature(_))
            ));
        }
    }
}

#[test]
fn what_is_not_from_a_member_of_this_group_is_no_evidence() {
    let mut clients = group_of(&["alice", "bob"]);
    let (word, _) = clients[1].send(b"word");
    assert_eq!(evidence(&clients[1], &word).unwrap_err(), Error::OwnMessage);
    let MlsMessage::PrivateMessage(message) = &word else {
        panic!("it is encrypted")
    };
    let keys = &clients[0].member().keys;
    let mut content = keys.open(message).unwrap().content;
    content.content.sender = Sender::External(0);
    let group = clients[0].group();
    assert_eq!(
        group.evidence_of(content.clone()),
        Err(Error::InvalidMessage(InvalidMessage::SenderType))
    );
    content.content.sender = Sender::Member(LeafIndex(7));
    assert_eq!(
        group.evidence_of(content.clone()),
        Err(Error::InvalidMessage(InvalidMessage::UnknownSender))
    );
    content.content.group_id = Bytes::from(*b"other");
    assert_eq!(group.evidence_of(content), Err(Error::WrongGroup));
    let package = clients[0].key_package();
    let package = MlsMessage::KeyPackage(Box::new(package));
    assert_eq!(
        evidence(&clients[1], &package).unwrap_err(),
        Error::UnexpectedWireFormat(WireFormat::KEY_PACKAGE)
    );
}
