//! Proposals from outside the group (RFC 9420, sections 6.1, 12.1 and 12.1.8).

use folkmoot_mls::codec::Bytes;
use folkmoot_mls::credential::Credential;
use folkmoot_mls::crypto::{CryptoError, SignatureKeyPair};
use folkmoot_mls::error::{Error, InvalidMessage};
use folkmoot_mls::extension::{Extensions, ExternalSender, ExternalSenders};
use folkmoot_mls::framing::{Content, PublicMessage, Sender};
use folkmoot_mls::message::MlsMessage;
use folkmoot_mls::proposal::{ExternalInit, Proposal, ProposalType};
use folkmoot_mls::tree_math::LeafIndex;

use crate::group_harness::{Client, Received, SUITE, deliver, suite};
use crate::insider::Insider;
use crate::{ALICE, CHARLIE, MALLORY, goes_on, newcomer, refuses};

rules! {
    "6.1" "an external sender signs with the key in the list" => external_signature;
    "12.1.8.1" "an external sender is in the list" => external_place;
    "12.1.8" "without external_senders nobody is one" => external_without_list;
    "6.1" "an external sender sends proposals only" => external_commit;
    "12.1.8" "an external sender makes no Update" => external_update;
    "12.1.8" "an external sender makes no ExternalInit" => external_external_init;
    "12.1" "an external sender's proposal is of this epoch" => external_epoch;
    "6.1" "a new member's proposal is signed with the key in its KeyPackage" => new_member_signature;
    "6.1" "a new member who proposes sends no commit" => new_member_proposal_commit;
    "6.1" "a new member proposes an Add only" => new_member_other_proposal;
    "6.1" "a new member who commits sends no proposal" => new_member_commit_proposal;
    "12.1" "a new member's proposal is of this epoch" => new_member_epoch;
}

fn bot() -> SignatureKeyPair {
    suite(SUITE).signature_key_pair(&mut Client::new("bot").rng)
}

/// Alice, Mallory and Charlie, whose group has a bot as its external sender; what the bot needs to know.
fn group() -> (Vec<Client>, Insider) {
    let mut clients = crate::group().0;
    let sender = ExternalSender {
        signature_key: bot().public_key().clone(),
        credential: Credential::basic(*b"bot"),
    };
    let extensions = Extensions::default().with(&ExternalSenders {
        external_senders: vec![sender],
    });
    let pending = clients[ALICE]
        .commit(|commit| commit.group_context_extensions(extensions))
        .unwrap();
    deliver(&mut clients, ALICE, pending);
    let mut outsider = Insider::of(&clients[MALLORY]);
    outsider.signer = bot();
    (clients, outsider)
}

fn message(outsider: &Insider, sender: Sender, content: Content) -> MlsMessage {
    let mut content = outsider.content(content);
    content.sender = sender;
    let message: PublicMessage = outsider.public(content);
    assert_eq!(message.membership_tag, None);
    MlsMessage::PublicMessage(Box::new(message))
}

fn proposal(proposal: Proposal) -> Content {
    Content::Proposal(Box::new(proposal))
}

fn removal() -> Content {
    proposal(Proposal::remove(LeafIndex(CHARLIE as u32)))
}

const BOT: Sender = Sender::External(0);

#[test]
fn what_outsiders_may_propose_is_taken() {
    let (mut clients, outsider) = group();
    let removal = message(&outsider, BOT, removal());
    let received = clients[ALICE].receive(&removal).unwrap();
    assert!(matches!(received, Received::Proposal));
    let (client, package) = newcomer();
    let mut outsider = Insider::of(&clients[MALLORY]);
    outsider.signer = client.signer.clone();
    let add = proposal(Proposal::add(package));
    let add = message(&outsider, Sender::NewMemberProposal, add);
    let received = clients[ALICE].receive(&add).unwrap();
    assert!(matches!(received, Received::Proposal));
    let pending = clients[ALICE].commit(|commit| commit).unwrap();
    assert_eq!(
        (pending.effects.added.len(), pending.effects.removed.len()),
        (1, 1)
    );
}

fn external_signature() {
    let (mut clients, mut outsider) = group();
    outsider.signer = clients[MALLORY].signer.clone();
    let removal = message(&outsider, BOT, removal());
    refuses(&mut clients, &removal, CryptoError::InvalidSignature);
}

fn external_place() {
    for place in [1, u32::MAX] {
        let (mut clients, outsider) = group();
        let removal = message(&outsider, Sender::External(place), removal());
        let error = InvalidMessage::UnknownExternalSender(place);
        refuses(&mut clients, &removal, error);
    }
}

fn external_without_list() {
    let (mut clients, mut outsider) = crate::group();
    outsider.signer = bot();
    let removal = message(&outsider, BOT, removal());
    let error = InvalidMessage::UnknownExternalSender(0);
    refuses(&mut clients, &removal, error);
}

fn external_commit() {
    let (mut clients, outsider) = group();
    let mut plan = outsider.plan(Vec::new());
    plan.wire_format = folkmoot_mls::code_point::WireFormat::PUBLIC_MESSAGE;
    plan.edit_content = Box::new(|content| content.sender = BOT);
    let commit = outsider.commit(&plan).public(&outsider);
    refuses(&mut clients, &commit, InvalidMessage::SenderType);
}

fn external_update() {
    let (mut clients, outsider) = group();
    let leaf = outsider.nodes.leaf(outsider.own).unwrap().clone();
    let update = message(&outsider, BOT, proposal(Proposal::update(leaf)));
    let error = InvalidMessage::SenderProposal(ProposalType::UPDATE);
    refuses(&mut clients, &update, error);
}

fn external_external_init() {
    let (mut clients, outsider) = group();
    let kem_output = Bytes::from([1; 32]);
    let init = proposal(Proposal::ExternalInit(ExternalInit { kem_output }));
    let error = InvalidMessage::SenderProposal(ProposalType::EXTERNAL_INIT);
    refuses(&mut clients, &message(&outsider, BOT, init), error);
}

fn external_epoch() {
    let (mut clients, mut outsider) = group();
    let current = outsider.context.epoch;
    for message_epoch in [current - 1, current + 1] {
        outsider.context.epoch = message_epoch;
        let removal = message(&outsider, BOT, removal());
        let refused = crate::process(&mut clients[ALICE], &removal, Default::default());
        let error = Error::WrongEpoch {
            message: message_epoch,
            current,
        };
        assert_eq!(refused.map(drop), Err(error));
    }
    goes_on(&mut clients);
}

/// Somebody who asks to be added, and does it wrong.
fn joiner() -> (Vec<Client>, Insider, Content) {
    let (clients, mut outsider) = crate::group();
    let (client, package) = newcomer();
    outsider.signer = client.signer.clone();
    (clients, outsider, proposal(Proposal::add(package)))
}

fn new_member_signature() {
    let (mut clients, mut outsider, add) = joiner();
    outsider.signer = bot();
    let add = message(&outsider, Sender::NewMemberProposal, add);
    refuses(&mut clients, &add, CryptoError::InvalidSignature);
}

fn new_member_proposal_commit() {
    let (mut clients, outsider, _) = joiner();
    let mut plan = outsider.plan(Vec::new());
    plan.wire_format = folkmoot_mls::code_point::WireFormat::PUBLIC_MESSAGE;
    plan.edit_content = Box::new(|content| content.sender = Sender::NewMemberProposal);
    let commit = outsider.commit(&plan).public(&outsider);
    refuses(&mut clients, &commit, InvalidMessage::SenderType);
}

fn new_member_other_proposal() {
    let (mut clients, outsider, _) = joiner();
    let removal = message(&outsider, Sender::NewMemberProposal, removal());
    let error = InvalidMessage::SenderProposal(ProposalType::REMOVE);
    refuses(&mut clients, &removal, error);
}

fn new_member_commit_proposal() {
    let (mut clients, outsider, add) = joiner();
    let add = message(&outsider, Sender::NewMemberCommit, add);
    refuses(&mut clients, &add, InvalidMessage::SenderType);
}

fn new_member_epoch() {
    let (mut clients, mut outsider, add) = joiner();
    outsider.context.epoch += 1;
    let add = message(&outsider, Sender::NewMemberProposal, add);
    let (message, current) = (2, 1);
    refuses(&mut clients, &add, Error::WrongEpoch { message, current });
}
