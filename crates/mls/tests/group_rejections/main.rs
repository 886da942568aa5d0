//! One broken rule at a time, and the exact error. Mallory is a member, so her messages open.
#![cfg(feature = "aws-lc")]

#[path = "../group_harness/mod.rs"]
mod group_harness;

mod commits;
mod joining;
mod proposals;

use folkmoot_mls::code_point::WireFormat;
use folkmoot_mls::codec::Bytes;
use folkmoot_mls::commit::Commit;
use folkmoot_mls::error::Error;
use folkmoot_mls::framing::{AuthenticatedContent, Content, FramedContent, Sender};
use folkmoot_mls::group::ProposalError;
use folkmoot_mls::key_package::{KEY_PACKAGE_TBS, KeyPackage};
use folkmoot_mls::leaf_node::{LeafNode, LeafPosition};
use folkmoot_mls::message::MlsMessage;
use folkmoot_mls::proposal::{Proposal, ProposalOrRef};
use folkmoot_mls::tree_math::LeafIndex;
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
