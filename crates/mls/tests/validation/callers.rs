//! What the engine does not do for its own caller, since the others would refuse it (RFC 9420, sections
//! 6.1, 12.1 and 12.4.1).

use folkmoot_mls::code_point::WireFormat;
use folkmoot_mls::codec::Bytes;
use folkmoot_mls::credential::Credential;
use folkmoot_mls::error::Error;
use folkmoot_mls::extension::{ExtensionType, Extensions, RequiredCapabilities};
use folkmoot_mls::framing::Content;
use folkmoot_mls::group::{CommitError, ProposalError};
use folkmoot_mls::leaf_node::LeafNodeSource;
use folkmoot_mls::message::MlsMessage;
use folkmoot_mls::proposal::{ExternalInit, Proposal};
use folkmoot_mls::tree::{Capability, LeafNodeError};
use folkmoot_mls::tree_math::LeafIndex;

use crate::group_harness::{SUITE, context, suite};
use crate::insider::{Insider, sign_leaf};
use crate::{ALICE, CHARLIE, MALLORY, goes_on, group};

rules! {
    "6.1" "we sign with the key of our leaf" => own_signer;
    "6" "what we send is a PublicMessage or a PrivateMessage" => own_wire_format;
    "12.1" "we propose in the epoch of our keys" => own_epoch;
    "12.1.2" "we propose an Update that is valid" => own_update;
    "12.1.3" "we propose no Remove of nobody" => own_remove;
    "12.1.6" "we propose no ExternalInit" => own_external_init;
    "12.1.7" "we propose no extensions that a member lacks" => own_extensions;
    "12.4.1" "we commit to no list that is not valid" => own_list;
    "12.4.1" "our new leaf is valid" => own_leaf;
    "12.4.1" "what others proposed is left out where it is not valid" => proposals_of_others;
}

fn own_signer() {
    let (mut clients, _) = group();
    let stranger = suite(SUITE).signature_key_pair(&mut clients[CHARLIE].rng.clone());
    let own = std::mem::replace(&mut clients[ALICE].signer, stranger);
    let refused = clients[ALICE].commit(|commit| commit).map(drop);
    assert_eq!(refused, Err(Error::WrongSigner));
    let remove = Proposal::remove(LeafIndex(2));
    let refused = clients[ALICE].propose(remove, WireFormat::PRIVATE_MESSAGE);
    assert_eq!(refused.map(drop), Err(Error::WrongSigner));
    clients[ALICE].signer = own;
    goes_on(&mut clients);
}

fn own_wire_format() {
    let (mut clients, _) = group();
    for format in [WireFormat::WELCOME, WireFormat(0xf009)] {
        let error = Err(Error::UnexpectedWireFormat(format));
        let commit = clients[ALICE].commit(|commit| commit.wire_format(format));
        assert_eq!(commit.map(drop), error);
        let remove = Proposal::remove(LeafIndex(2));
        let proposal = clients[ALICE].propose(remove, format);
        assert_eq!(proposal.map(drop), error);
    }
    goes_on(&mut clients);
}

/// Message keys of another epoch are of no use.
fn own_epoch() {
    let (mut clients, _) = group();
    let pending = clients[ALICE].commit(|commit| commit).unwrap();
    let alice = clients[ALICE].member.as_mut().unwrap();
    let before = std::mem::replace(&mut alice.group, pending.group.clone());
    let (message, current) = (1, 2);
    let error = Error::WrongEpoch { message, current };
    let refused = clients[ALICE].commit(|commit| commit).map(drop);
    assert_eq!(refused, Err(error.clone()));
    let remove = Proposal::remove(LeafIndex(2));
    let refused = clients[ALICE].propose(remove, WireFormat::PRIVATE_MESSAGE);
    assert_eq!(refused.map(drop), Err(error));
    clients[ALICE].member.as_mut().unwrap().group = before;
    goes_on(&mut clients);
}

fn own_update() {
    let (mut clients, _) = group();
    let mut other = clients[ALICE].parameters();
    other.credential = Credential::basic(*b"somebody else");
    let alice = &mut clients[ALICE];
    let member = alice.member.as_mut().unwrap();
    let ctx = &mut context(None, &mut alice.rng);
    let format = WireFormat::PRIVATE_MESSAGE;
    let refused = member.group.propose_update(
        &mut member.keys,
        &alice.signer,
        Some(other),
        b"",
        format,
        ctx,
    );
    let (leaf, error) = (LeafIndex(0), LeafNodeError::NotSuccessor);
    let error = ProposalError::Update { leaf, error };
    assert_eq!(refused.map(drop), Err(error.into()));
    goes_on(&mut clients);
}

/// Neither encrypted nor in clear.
fn refused_proposal(proposal: Proposal, error: ProposalError) {
    let (mut clients, _) = group();
    for format in [WireFormat::PRIVATE_MESSAGE, WireFormat::PUBLIC_MESSAGE] {
        let refused = clients[ALICE].propose(proposal.clone(), format);
        assert_eq!(refused.map(drop), Err(error.clone().into()));
    }
    let refused = clients[ALICE].commit(|commit| commit.proposal(proposal));
    assert_eq!(refused.map(drop), Err(error.into()));
    goes_on(&mut clients);
}

fn own_remove() {
    for leaf in [3, 9] {
        let leaf = LeafIndex(leaf);
        let error = ProposalError::NoSuchMember(leaf);
        refused_proposal(Proposal::remove(leaf), error);
    }
}

fn own_external_init() {
    let kem_output = Bytes::from([1; 32]);
    let proposal = Proposal::ExternalInit(ExternalInit { kem_output });
    refused_proposal(proposal, ProposalError::ExternalInit);
}

fn own_extensions() {
    let kind = ExtensionType(0xff01);
    let required = RequiredCapabilities {
        extension_types: vec![kind],
        ..RequiredCapabilities::default()
    };
    let needs_more = Proposal::group_context_extensions(Extensions::default().with(&required));
    let lacks = Capability::Extension(kind);
    refused_proposal(needs_more, ProposalError::MemberLacks(lacks));
}

fn own_list() {
    let (mut clients, _) = group();
    let remove = LeafIndex(MALLORY as u32);
    let twice = clients[ALICE].commit(|commit| commit.remove(remove).remove(remove));
    let error = ProposalError::SameLeafTwice(remove);
    assert_eq!(twice.map(drop), Err(error.into()));
    let own = clients[ALICE].commit(|commit| commit.remove(LeafIndex(ALICE as u32)));
    let error = ProposalError::RemoveOfCommitter;
    assert_eq!(own.map(drop), Err(error.into()));
    goes_on(&mut clients);
}

fn own_leaf() {
    let (mut clients, _) = group();
    let mut other = clients[ALICE].parameters();
    other.credential = Credential::basic(*b"somebody else");
    let refused = clients[ALICE].commit(|commit| commit.own_leaf(other));
    let error = CommitError::LeafNode(LeafNodeError::NotSuccessor);
    assert_eq!(refused.map(drop), Err(error.into()));
    goes_on(&mut clients);
}

/// Charlie proposes an Update that keeps its key, then one of the leaf as it is. Alice commits neither.
fn proposals_of_others() {
    let (mut clients, _) = group();
    let charlie = Insider::of(&clients[CHARLIE]);
    let old = charlie.nodes.leaf(charlie.own).unwrap().clone();
    let mut kept = old.clone();
    kept.leaf_node_source = LeafNodeSource::Update;
    let kept = sign_leaf(charlie.suite, &charlie.signer, kept, charlie.position());
    for leaf_node in [kept, old] {
        let update = Content::Proposal(Box::new(Proposal::update(leaf_node)));
        let message = charlie.public(charlie.content(update));
        let message = MlsMessage::PublicMessage(Box::new(message));
        clients[ALICE].receive(&message).unwrap();
    }
    let pending = clients[ALICE].commit(|commit| commit).unwrap();
    assert!(pending.effects.updated.is_empty() && pending.effects.proposals.is_empty());
    for client in [MALLORY, CHARLIE] {
        clients[client].receive(&pending.message).unwrap();
    }
}
