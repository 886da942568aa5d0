//! SelfRemove (section 6.3).

use crate::group_harness::{
    Client, Received, assert_agreement, broadcast, context, deliver, suite,
};
use crate::{client, clients};
use folkmoot_mls::code_point::WireFormat;
use folkmoot_mls::commit::Commit;
use folkmoot_mls::component::{AppDataDictionary, SafeAadComponents};
use folkmoot_mls::error::{Error, InvalidMessage};
use folkmoot_mls::extension::Extensions;
use folkmoot_mls::framing::{AuthenticatedContent, Content, FramedContent, PublicMessage, Sender};
use folkmoot_mls::group::{
    CommitError, ExternalCommitBuilder, Group, GroupInfoOptions, IncludeProposals, JoinError,
    PendingCommit, ProposalError,
};
use folkmoot_mls::message::MlsMessage;
use folkmoot_mls::proposal::{Proposal, ProposalOrRef, ProposalType};
use folkmoot_mls::tree_math::LeafIndex;

const CLEAR: WireFormat = WireFormat::PUBLIC_MESSAGE;
const PRIVATE: WireFormat = WireFormat::PRIVATE_MESSAGE;

/// Another SelfRemove of a member, made by hand, in clear, with this in the authenticated data.
fn leave_again(client: &Client, authenticated_data: &[u8]) -> MlsMessage {
    let group = client.group();
    let content = FramedContent {
        group_id: group.group_id().into(),
        epoch: group.epoch(),
        sender: Sender::Member(group.own_index()),
        authenticated_data: authenticated_data.into(),
        content: Content::Proposal(Box::new(Proposal::SelfRemove)),
    };
    let (suite, context) = (suite(client.suite), group.group_context());
    let content =
        AuthenticatedContent::sign(suite, &client.signer, CLEAR, content, context).unwrap();
    // The joiner has no key for the membership tag.
    let message = PublicMessage::protect(suite, &[], context, content).unwrap();
    MlsMessage::PublicMessage(Box::new(message))
}

fn leave(clients: &mut [Client], leaver: usize) -> MlsMessage {
    let proposed = clients[leaver].propose(Proposal::SelfRemove, CLEAR);
    let message = proposed.unwrap().message;
    broadcast(clients, leaver, &message);
    message
}

/// A message that a member makes by hand, encrypted.
fn forge(client: &mut Client, content: Content) -> MlsMessage {
    let group = client.group();
    let content = FramedContent {
        group_id: group.group_id().into(),
        epoch: group.epoch(),
        sender: Sender::Member(group.own_index()),
        authenticated_data: b"".as_slice().into(),
        content,
    };
    let (suite, context) = (suite(client.suite), group.group_context());
    let mut content =
        AuthenticatedContent::sign(suite, &client.signer, PRIVATE, content, context).unwrap();
    if let Content::Commit(_) = content.content.content {
        content.auth.confirmation_tag = Some([0; 32].into());
    }
    let keys = &mut client.member.as_mut().unwrap().keys;
    MlsMessage::PrivateMessage(keys.protect(&content, 0, &mut client.rng).unwrap().0)
}

fn join(
    newcomer: &mut Client,
    member: &Client,
    change: impl FnOnce(ExternalCommitBuilder) -> ExternalCommitBuilder,
) -> Result<PendingCommit, Error> {
    let options = GroupInfoOptions {
        ratchet_tree: true,
        external_pub: true,
        extensions: Extensions::default(),
    };
    let info = member.group().group_info(&member.signer, options).unwrap();
    let builder = change(Group::join_external(info, newcomer.parameters()));
    let signer = newcomer.signer.clone();
    builder.build(&signer, &mut context(newcomer.now, &mut newcomer.rng))
}

#[test]
fn somebody_leaves_by_the_commit_of_another() {
    let mut clients = clients(Extensions::default());
    leave(&mut clients, 2);
    let pending = clients[0].commit(|commit| commit.without_path()).unwrap();
    assert!(pending.effects.path.is_some(), "a path is needed");
    let removed: Vec<_> = pending
        .effects
        .removed
        .iter()
        .map(|(leaf, _)| *leaf)
        .collect();
    assert_eq!(removed, [LeafIndex(2)]);
    let gone = clients[2].receive(&pending.message).unwrap();
    assert!(matches!(
        gone,
        Received::Removed(Sender::Member(LeafIndex(0)))
    ));
    deliver(&mut clients, 0, pending);
    assert_eq!(clients[0].group().member_count(), 2);
}

#[test]
fn somebody_leaves_while_others_join() {
    let mut clients = clients(Extensions::default());
    let leaves = [2, 1].map(|leaver| leave(&mut clients, leaver));
    let mut newcomer = client("newcomer");
    let pending = join(&mut newcomer, &clients[0], |commit| {
        leaves
            .iter()
            .cloned()
            .fold(commit, |commit, leave| commit.self_remove(leave))
    });
    let pending = pending.unwrap();
    assert_eq!(pending.effects.removed.len(), 2);
    newcomer.enter(pending.group, pending.keys, &pending.changes);
    for client in &mut clients {
        let received = client.receive(&pending.message).unwrap();
        let stays = client.name == "alice";
        assert_eq!(matches!(received, Received::Commit(_)), stays);
    }
    clients.push(newcomer);
    assert_agreement(&clients);
    assert_eq!(clients[0].group().member_count(), 2);
    let pending = clients[3].commit(|commit| commit).unwrap();
    deliver(&mut clients, 3, pending);
}

#[test]
fn somebody_comes_again_while_another_leaves() {
    let mut clients = clients(Extensions::default());
    let left = leave(&mut clients, 1);
    // Charlie lost everything but its keys. Its earlier leaf is not the first that goes.
    let mut again = client("again");
    again.leaf = clients[2].leaf.clone();
    again.signer = clients[2].signer.clone();
    let pending = join(&mut again, &clients[0], |commit| {
        commit.self_remove(left).resync_own()
    });
    let pending = pending.unwrap();
    let former = clients[0].group().member(LeafIndex(2));
    assert!(
        pending
            .effects
            .removed
            .iter()
            .any(|(_, old)| Some(old) == former.as_ref())
    );
    clients[0].receive(&pending.message).unwrap();
    again.enter(pending.group, pending.keys, &pending.changes);
    assert_agreement([&clients[0], &again]);
    let now = Some(5);
    let mut rng = clients[0].rng.clone();
    let before = clients[2].group().clone();
    let judged = before.judge_again(&pending.effects, &mut context(now, &mut rng));
    assert_eq!(judged, Ok(()));
}

#[test]
fn a_joiner_takes_one_leave_of_each_member() {
    let mut clients = clients(Extensions::default());
    let left = leave(&mut clients, 1);
    let again = leave_again(&clients[1], b"again");
    let mut newcomer = client("newcomer");
    let pending = join(&mut newcomer, &clients[0], |commit| {
        let commit = commit.self_remove(left.clone()).self_remove(again);
        commit.self_remove(left)
    });
    let pending = pending.unwrap();
    let leaver = Sender::Member(LeafIndex(1));
    let leaves = pending.effects.proposals.iter();
    let leaves = leaves.filter(|(_, proposal)| *proposal == Proposal::SelfRemove);
    assert!(leaves.map(|(sender, _)| *sender).eq([leaver]));
    // The first is the one that the members know.
    assert!(matches!(
        clients[0].receive(&pending.message).unwrap(),
        Received::Commit(_)
    ));
    newcomer.enter(pending.group, pending.keys, &pending.changes);
    assert_agreement([&clients[0], &newcomer]);
}

#[test]
fn who_left_comes_again() {
    let mut clients = clients(Extensions::default());
    let left = leave(&mut clients, 2);
    let mut again = client("again");
    again.leaf = clients[2].leaf.clone();
    again.signer = clients[2].signer.clone();
    for change in [
        ExternalCommitBuilder::resync_own,
        |commit: ExternalCommitBuilder| commit.resync(LeafIndex(2)),
    ] {
        let left = left.clone();
        let pending = join(&mut again, &clients[0], |commit| {
            change(commit.self_remove(left))
        });
        let pending = pending.unwrap();
        let removals = pending.effects.proposals[1..].iter();
        let leaver = Sender::Member(LeafIndex(2));
        assert!(removals.eq(&[(leaver, Proposal::SelfRemove)]));
        clients[0].peek(&pending.message).unwrap();
        again.member = None;
        again.enter(pending.group, pending.keys, &pending.changes);
        assert_eq!(again.group().own_index(), LeafIndex(2), "it is free");
    }
}

#[test]
fn a_joiner_takes_no_leave_that_members_refuse() {
    let dictionary = AppDataDictionary::default().with(&SafeAadComponents::default());
    let mut clients = clients(Extensions::default().with(&dictionary));
    let mut newcomer = client("newcomer");
    let refused = leave_again(&clients[1], b"anything");
    let joined = join(&mut newcomer, &clients[0], |commit| {
        commit.self_remove(refused)
    });
    assert_eq!(joined.unwrap_err(), Error::Join(JoinError::SelfRemove));
    let left = leave(&mut clients, 1);
    let pending = join(&mut newcomer, &clients[0], |commit| {
        commit.self_remove(left)
    });
    clients[0].receive(&pending.unwrap().message).unwrap();
}

#[test]
fn a_remove_by_value_of_who_leaves_is_left_out() {
    let mut clients = clients(Extensions::default());
    let left = clients[1].propose(Proposal::SelfRemove, CLEAR).unwrap();
    broadcast(&mut clients, 1, &left.message);
    let of_leaver = LeafIndex(1);
    let leave = (Sender::Member(of_leaver), Proposal::SelfRemove);
    for include in [
        IncludeProposals::All,
        IncludeProposals::AllOf(vec![left.reference.clone()]),
        IncludeProposals::Only(vec![left.reference]),
    ] {
        let pending = clients[0]
            .commit(|commit| commit.remove(of_leaver).include_proposals(include))
            .unwrap();
        assert_eq!(pending.effects.proposals, std::slice::from_ref(&leave));
    }
    // Who does not take the SelfRemove in removes the member itself.
    let pending = clients[0].commit(|commit| {
        commit
            .remove(of_leaver)
            .include_proposals(IncludeProposals::None)
    });
    let own = (Sender::Member(LeafIndex(0)), Proposal::remove(of_leaver));
    assert_eq!(pending.unwrap().effects.proposals, [own]);
    let pending = clients[2]
        .commit(|commit| commit.remove(of_leaver).remove(LeafIndex(0)))
        .unwrap();
    assert_eq!(pending.effects.proposals.len(), 2);
    assert_eq!(pending.effects.removed.len(), 2);
}

#[test]
fn a_joiner_takes_no_other_message_for_a_leave() {
    let mut clients = clients(Extensions::default());
    let content = Content::Proposal(Box::new(Proposal::SelfRemove));
    let encrypted = forge(&mut clients[1], content);
    let remove = clients[1].propose(Proposal::remove(LeafIndex(2)), CLEAR);
    let remove = remove.unwrap().message;
    let leave = leave(&mut clients, 1);
    let changed = |change: &dyn Fn(&mut FramedContent)| {
        let MlsMessage::PublicMessage(mut message) = leave.clone() else {
            panic!("it is in clear")
        };
        change(&mut message.content);
        MlsMessage::PublicMessage(message)
    };
    let wrong = [
        encrypted,
        remove,
        changed(&|content| content.epoch += 1),
        changed(&|content| content.group_id = b"other".as_slice().into()),
        changed(&|content| content.sender = Sender::Member(LeafIndex(2))),
        changed(&|content| content.sender = Sender::Member(LeafIndex(9))),
        changed(&|content| content.authenticated_data = b"x".as_slice().into()),
    ];
    let mut newcomer = client("newcomer");
    for message in wrong {
        let joined = join(&mut newcomer, &clients[0], |commit| {
            commit.self_remove(message)
        });
        assert_eq!(joined.unwrap_err(), Error::Join(JoinError::SelfRemove));
    }
    let joined = join(&mut newcomer, &clients[0], |commit| {
        commit.self_remove(leave)
    });
    assert!(joined.is_ok());
}

#[test]
fn a_leave_is_in_clear_and_made_once() {
    let mut clients = clients(Extensions::default());
    let encrypted = Error::InvalidMessage(InvalidMessage::EncryptedSelfRemove);
    let refused = clients[1].propose(Proposal::SelfRemove, PRIVATE);
    assert_eq!(refused.unwrap_err(), encrypted);
    let content = Content::Proposal(Box::new(Proposal::SelfRemove));
    let forged = forge(&mut clients[1], content);
    assert_eq!(clients[0].receive(&forged).unwrap_err(), encrypted);
    leave(&mut clients, 1);
    let refused = clients[1].propose(Proposal::SelfRemove, CLEAR);
    assert_eq!(
        refused.unwrap_err(),
        Error::Proposal(ProposalError::SecondSelfRemove)
    );
}

#[test]
fn a_leave_is_committed_by_reference_by_somebody_else_with_a_path() {
    let mut clients = clients(Extensions::default());
    let refused = clients[0].commit(|commit| commit.proposal(Proposal::SelfRemove));
    let by_value = Error::Proposal(ProposalError::SelfRemoveByValue);
    assert_eq!(refused.unwrap_err(), by_value);
    let of_value = |proposal| ProposalOrRef::Proposal(Box::new(proposal));
    let commit = |proposals| {
        Content::Commit(Box::new(Commit {
            proposals,
            path: None,
        }))
    };
    let forged = forge(
        &mut clients[1],
        commit(vec![of_value(Proposal::SelfRemove)]),
    );
    assert_eq!(clients[0].receive(&forged).unwrap_err(), by_value);

    leave(&mut clients, 1);
    let reference = clients[0].group().pending_proposals()[0].0.clone();
    let referred = || ProposalOrRef::Reference(reference.clone());
    let forged = forge(&mut clients[1], commit(vec![referred()]));
    assert_eq!(
        clients[0].receive(&forged).unwrap_err(),
        Error::Proposal(ProposalError::RemoveOfCommitter)
    );
    let forged = forge(&mut clients[2], commit(vec![referred()]));
    assert_eq!(
        clients[0].receive(&forged).unwrap_err(),
        Error::Commit(CommitError::MissingPath)
    );
    // Nobody else removes who removes itself.
    let twice = Error::Proposal(ProposalError::SameLeafTwice(LeafIndex(1)));
    let remove = of_value(Proposal::remove(LeafIndex(1)));
    for list in [
        vec![referred(), remove.clone()],
        vec![remove, referred()],
        vec![referred(), referred()],
    ] {
        let forged = forge(&mut clients[2], commit(list));
        assert_eq!(clients[0].receive(&forged).unwrap_err(), twice);
    }
    // Of what waits, a leave goes before a Remove and an Update of the same leaf.
    let update = clients[1].propose_update(CLEAR);
    broadcast(&mut clients, 1, &update.message);
    let remove = clients[2]
        .propose(Proposal::remove(LeafIndex(1)), CLEAR)
        .unwrap();
    broadcast(&mut clients, 2, &remove.message);
    let pending = clients[0].commit(|commit| commit).unwrap();
    let leaver = Sender::Member(LeafIndex(1));
    assert_eq!(pending.effects.proposals, [(leaver, Proposal::SelfRemove)]);
    // The leaver's own commit leaves it out.
    let own = clients[1].commit(|commit| commit).unwrap();
    assert!(own.effects.removed.is_empty());
    let only = IncludeProposals::Only(vec![reference.clone()]);
    let own = clients[1].commit(|commit| commit.include_proposals(only));
    assert_eq!(
        own.unwrap_err(),
        Error::Proposal(ProposalError::RemoveOfCommitter)
    );
}

#[test]
fn a_reference_that_leads_nowhere_is_refused_in_an_external_commit() {
    let mut clients = clients(Extensions::default());
    let left = clients[1].propose(Proposal::SelfRemove, CLEAR);
    let left = left.unwrap().message;
    clients[0].receive(&left).unwrap();
    let mut newcomer = client("newcomer");
    let pending = join(&mut newcomer, &clients[0], |commit| {
        commit.self_remove(left)
    });
    // The message never came to Charlie: for him the reference leads nowhere.
    let message = pending.unwrap().message;
    assert_eq!(
        clients[2].receive(&message).unwrap_err(),
        Error::Proposal(ProposalError::UnknownReference)
    );
    clients[0].receive(&message).unwrap();
}

#[test]
fn everybody_who_stays_supports_it() {
    let mut clients = clients(Extensions::default());
    let mut plain = client("plain");
    let mut leaf = plain.parameters();
    leaf.capabilities.proposals = Vec::new();
    plain.leaf = Some(leaf);
    let package = plain.key_package();
    clients.push(plain);
    let pending = clients[0].commit(|commit| commit.add(package)).unwrap();
    deliver(&mut clients, 0, pending);
    let unsupported = ProposalError::UnsupportedProposal(ProposalType::SELF_REMOVE);
    let refused = clients[1].propose(Proposal::SelfRemove, CLEAR);
    assert_eq!(refused.unwrap_err(), Error::Proposal(unsupported));
}
