//! The presentation language and what is read with it (RFC 9420, sections 2.1, 6, 10, 13.4).

use folkmoot_mls::codec::{Bytes, Decode, DecodeError, Encode};
use folkmoot_mls::commit::Commit;
use folkmoot_mls::extension::Extensions;
use folkmoot_mls::framing::Content;
use folkmoot_mls::group::CommitBuilder;
use folkmoot_mls::group_context::GroupContext;
use folkmoot_mls::group_info::GroupInfo;
use folkmoot_mls::key_package::KeyPackage;
use folkmoot_mls::leaf_node::LeafNode;
use folkmoot_mls::message::{MessageHeader, MlsMessage};
use folkmoot_mls::node::RatchetTree;
use folkmoot_mls::proposal::{GroupContextExtensions, Proposal, ProposalOrRef, ReInit};
use folkmoot_mls::psk::PreSharedKeyID;
use folkmoot_mls::tree_math::LeafIndex;

use crate::{ALICE, CHARLIE, MALLORY, goes_on, group, newcomer};

rules! {
    "2.1.1" "an optional value is marked 0 or 1" => optional_marks;
    "2.1.2" "a length uses the fewest bytes" => lengths_are_shortest;
    "2.1.2" "a length does not start with the bits 11" => lengths_without_reserved_prefix;
    "2.1" "a vector ends with a whole element" => vectors_of_whole_elements;
    "2.1" "a structure is there to its end" => cut_off;
    "6" "nothing follows an MLSMessage" => nothing_follows;
    "6" "an MLSMessage is of a known version" => message_version;
    "6" "an MLSMessage has a known wire format" => wire_format;
    "6" "a message has a known content type" => content_type;
    "6" "a message has a known sender type" => sender_type;
    "7.2" "a leaf has a known source" => leaf_node_source;
    "8.4" "a PSK is of a known type" => psk_type;
    "8.4" "a resumption PSK has a known usage" => psk_usage;
    "10" "a KeyPackage is of the version of its MLSMessage" => key_package_version;
    "12.1" "a proposal is of a known type" => proposal_type;
    "12.4" "a commit holds proposals and references only" => proposal_or_ref;
    "12.4.3.3" "a node of a ratchet_tree is a leaf or a parent" => node_type;
    "13.4" "KeyPackage.extensions has no kind twice" => extensions_of_key_packages;
    "13.4" "LeafNode.extensions has no kind twice" => extensions_of_leaf_nodes;
    "13.4" "GroupContext.extensions has no kind twice" => extensions_of_group_contexts;
    "13.4" "GroupInfo.extensions has no kind twice" => extensions_of_group_infos;
    "13.4" "GroupContextExtensions.extensions has no kind twice" => extensions_of_proposals;
    "13.4" "ReInit.extensions has no kind twice" => extensions_of_reinits;
}

/// A proposal of Mallory's in clear.
fn message() -> Vec<u8> {
    let (_, mallory) = group();
    let proposal = Content::Proposal(Box::new(Proposal::remove(LeafIndex(CHARLIE as u32))));
    let message = mallory.public(mallory.content(proposal));
    MlsMessage::PublicMessage(Box::new(message)).to_bytes()
}

/// Places in the message: the version, the wire format, the group's id and its length, the epoch, the
/// sender, no authenticated data, the content.
const WIRE_FORMAT: usize = 3;
const GROUP_ID: usize = 4;
const SENDER_TYPE: usize = 4 + 6 + 8;
const CONTENT_TYPE: usize = SENDER_TYPE + 5 + 1;
const PROPOSAL_TYPE: usize = CONTENT_TYPE + 1;

/// The message is refused with one byte changed, and read as it was.
fn unreadable(place: usize, byte: u8, error: DecodeError) {
    let mut bytes = message();
    let good = std::mem::replace(&mut bytes[place], byte);
    assert_eq!(MlsMessage::from_bytes(&bytes), Err(error));
    assert_eq!(MessageHeader::read(&bytes).map(drop), Err(error));
    bytes[place] = good;
    MlsMessage::from_bytes(&bytes).unwrap();
}

fn optional_marks() {
    assert_eq!(
        Commit::from_bytes(&[0, 2]),
        Err(DecodeError::InvalidOptional)
    );
    assert_eq!(Commit::from_bytes(&[0, 0]), Ok(Commit::default()));
    let blank_and_odd = RatchetTree::from_bytes(&[2, 0, 3]);
    assert_eq!(blank_and_odd, Err(DecodeError::InvalidOptional));
}

fn lengths_are_shortest() {
    let good = message();
    assert_eq!(good[GROUP_ID], 5);
    for longer in [&[0x40, 5][..], &[0x80, 0, 0, 5]] {
        let mut bytes = good.clone();
        bytes.splice(GROUP_ID..=GROUP_ID, longer.iter().copied());
        let refused = MlsMessage::from_bytes(&bytes);
        assert_eq!(refused, Err(DecodeError::NonMinimalLength));
    }
    for (length, read) in [
        (0x3fff_usize, Err(DecodeError::NonMinimalLength)),
        (0x4000, Ok(())),
    ] {
        let mut bytes = (0x8000_0000 | length as u32).to_be_bytes().to_vec();
        bytes.resize(4 + length, 7);
        assert_eq!(Bytes::from_bytes(&bytes).map(drop), read);
    }
}

fn lengths_without_reserved_prefix() {
    let mut bytes = message();
    bytes.splice(GROUP_ID..=GROUP_ID, [0xc0, 0, 0, 0, 0, 0, 0, 5]);
    assert_eq!(
        MlsMessage::from_bytes(&bytes),
        Err(DecodeError::ReservedLength)
    );
}

fn vectors_of_whole_elements() {
    let odd = Vec::<u16>::from_bytes(&[3, 0, 1, 0]);
    assert_eq!(odd, Err(DecodeError::Truncated));
    let (_, package) = newcomer();
    let mut bytes = package.leaf_node.capabilities.to_bytes();
    assert_eq!(bytes[..3], [2, 0, 1]);
    bytes.splice(0..3, [3, 0, 1, 0]);
    let refused = folkmoot_mls::capabilities::Capabilities::from_bytes(&bytes);
    assert_eq!(refused, Err(DecodeError::Truncated));
}

fn cut_off() {
    let (mut clients, mallory) = group();
    let (_, package) = newcomer();
    let commit = |commit: CommitBuilder| commit.add(package.clone());
    let pending = clients[MALLORY].commit(commit).unwrap();
    let commit = mallory.commit(&mallory.plan(Vec::new())).public(&mallory);
    for message in [
        commit,
        pending.message,
        MlsMessage::Welcome(pending.welcome.unwrap()),
        MlsMessage::GroupInfo(Box::new(pending.group_info.unwrap())),
        MlsMessage::KeyPackage(Box::new(package)),
    ] {
        let bytes = message.to_bytes();
        for length in 0..bytes.len() {
            let refused = MlsMessage::from_bytes(&bytes[..length]);
            assert_eq!(refused, Err(DecodeError::Truncated), "{length}");
        }
        assert_eq!(MlsMessage::from_bytes(&bytes), Ok(message));
    }
}

fn nothing_follows() {
    let (mut clients, _) = group();
    let bytes = [message(), vec![0]].concat();
    assert_eq!(
        MlsMessage::from_bytes(&bytes),
        Err(DecodeError::TrailingBytes)
    );
    let word = clients[ALICE].send(b"word").0.to_bytes();
    let header = MessageHeader::read(&[&word[..], &[0]].concat()).map(drop);
    assert_eq!(header, Err(DecodeError::TrailingBytes));
    goes_on(&mut clients);
}

fn message_version() {
    unreadable(1, 2, DecodeError::InvalidValue("version"));
}

fn wire_format() {
    for format in [0, 6] {
        unreadable(
            WIRE_FORMAT,
            format,
            DecodeError::InvalidValue("wire_format"),
        );
    }
}

fn content_type() {
    for kind in [0, 4] {
        unreadable(CONTENT_TYPE, kind, DecodeError::InvalidValue("Content"));
    }
    let (mut clients, _) = group();
    let mut word = clients[MALLORY].send(b"word").0.to_bytes();
    let place = 4 + 6 + 8;
    assert_eq!(word[place], 1);
    for kind in [0, 4] {
        word[place] = kind;
        let error = Err(DecodeError::InvalidValue("ContentType"));
        assert_eq!(MlsMessage::from_bytes(&word).map(drop), error);
        assert_eq!(MessageHeader::read(&word).map(drop), error);
    }
}

fn sender_type() {
    for kind in [0, 5] {
        unreadable(SENDER_TYPE, kind, DecodeError::InvalidValue("Sender"));
    }
}

fn proposal_type() {
    // add to group_context_extensions are 1 to 7; these are of no registry.
    for kind in [0, 0xf7] {
        unreadable(
            PROPOSAL_TYPE + 1,
            kind,
            DecodeError::InvalidValue("Proposal"),
        );
    }
    unreadable(PROPOSAL_TYPE, 0xf3, DecodeError::InvalidValue("Proposal"));
}

/// The structure is refused with the byte before `rest`, which ends it, replaced.
fn refused_before<T: Decode + std::fmt::Debug + PartialEq>(
    bytes: &[u8],
    rest: usize,
    kinds: [u8; 2],
    field: &'static str,
) {
    T::from_bytes(bytes).unwrap();
    for kind in kinds {
        let mut bytes = bytes.to_vec();
        let place = bytes.len() - rest - 1;
        bytes[place] = kind;
        let refused = T::from_bytes(&bytes);
        assert_eq!(refused, Err(DecodeError::InvalidValue(field)));
    }
}

fn leaf_node_source() {
    let (_, package) = newcomer();
    let leaf = package.leaf_node;
    // The lifetime, no extensions, the signature with its length.
    let rest = 16 + 1 + 2 + 64;
    refused_before::<LeafNode>(&leaf.to_bytes(), rest, [0, 4], "LeafNodeSource");
}

fn psk_type() {
    let external = [1, 1, 7, 1, 9];
    refused_before::<PreSharedKeyID>(&external, 4, [0, 9], "PskType");
}

fn psk_usage() {
    let resumption = [2, 1, 1, 7, 0, 0, 0, 0, 0, 0, 0, 3, 1, 9];
    refused_before::<PreSharedKeyID>(&resumption, 12, [0, 4], "ResumptionPSKUsage");
}

fn key_package_version() {
    let (_, package) = newcomer();
    let mut bytes = MlsMessage::KeyPackage(Box::new(package)).to_bytes();
    MlsMessage::from_bytes(&bytes).unwrap();
    assert_eq!(bytes[4..6], [0, 1]);
    bytes[5] = 2;
    let refused = MlsMessage::from_bytes(&bytes);
    assert_eq!(
        refused,
        Err(DecodeError::InvalidValue("KeyPackage.version"))
    );
}

fn proposal_or_ref() {
    let reference = ProposalOrRef::Reference(Bytes::from([9])).to_bytes();
    refused_before::<ProposalOrRef>(&reference, 2, [0, 3], "ProposalOrRef");
}

fn node_type() {
    let (clients, _) = group();
    let mut bytes = clients[ALICE].group().tree_bytes();
    // A length of two bytes, then the first node: present, a leaf.
    assert_eq!(bytes[2..4], [1, 1]);
    for kind in [0, 3] {
        bytes[3] = kind;
        let refused = RatchetTree::from_bytes(&bytes);
        assert_eq!(refused, Err(DecodeError::InvalidValue("Node")));
    }
}

/// Two extensions of one kind, and of two.
const TWICE: [u8; 9] = [8, 0xf0, 1, 1, 7, 0xf0, 1, 1, 8];
const ONCE: [u8; 9] = [8, 0xf0, 1, 1, 7, 0xf0, 2, 1, 8];

/// A structure with such extensions in the place of none is refused, or read.
fn extensions_once<T: Encode + Decode>(with: impl Fn(Extensions) -> T) {
    let once = Extensions::from_bytes(&ONCE).unwrap();
    let good = with(once).to_bytes();
    let place = good.windows(9).position(|bytes| bytes == ONCE).unwrap();
    let mut bad = good.clone();
    bad[place..place + 9].copy_from_slice(&TWICE);
    assert!(T::from_bytes(&good).is_ok());
    let refused = T::from_bytes(&bad).map(drop);
    assert_eq!(refused, Err(DecodeError::InvalidValue("extensions")));
}

fn extensions_of_key_packages() {
    let (_, package) = newcomer();
    extensions_once(|extensions| KeyPackage {
        extensions,
        ..package.clone()
    });
}

fn extensions_of_leaf_nodes() {
    let (_, package) = newcomer();
    extensions_once(|extensions| LeafNode {
        extensions,
        ..package.leaf_node.clone()
    });
}

fn extensions_of_group_contexts() {
    let (_, mallory) = group();
    extensions_once(|extensions| GroupContext {
        extensions,
        ..mallory.context.clone()
    });
}

fn extensions_of_group_infos() {
    let (_, mallory) = group();
    extensions_once(|extensions| GroupInfo {
        group_context: mallory.context.clone(),
        extensions,
        confirmation_tag: Bytes::default(),
        signer: mallory.own,
        signature: Bytes::default(),
    });
}

fn extensions_of_proposals() {
    extensions_once(|extensions| {
        Proposal::GroupContextExtensions(GroupContextExtensions { extensions })
    });
}

fn extensions_of_reinits() {
    let (_, mallory) = group();
    extensions_once(|extensions| {
        Proposal::ReInit(ReInit {
            group_id: Bytes::default(),
            version: mallory.context.version,
            cipher_suite: mallory.context.cipher_suite,
            extensions,
        })
    });
}
