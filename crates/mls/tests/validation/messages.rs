//! Messages: framing, signatures, MACs, encryption (RFC 9420, sections 6, 9, 12.1 and 12.4.2).

use folkmoot_mls::code_point::WireFormat;
use folkmoot_mls::codec::{Bytes, Decode, DecodeError, Encode};
use folkmoot_mls::crypto::CryptoError;
use folkmoot_mls::error::{Error, InvalidMessage};
use folkmoot_mls::framing::{AuthenticatedContent, Content, PublicMessage, Sender};
use folkmoot_mls::message::MlsMessage;
use folkmoot_mls::proposal::Proposal;
use folkmoot_mls::ratchet::{MAX_JUMP, RatchetKind};
use folkmoot_mls::tree_math::LeafIndex;

use crate::group_harness::{Client, SUITE, suite};
use crate::insider::{Insider, Sealed};
use crate::{ALICE, CHARLIE, MALLORY, goes_on, group, newcomer, refuses, refuses_commit};

rules! {
    "6" "application data is encrypted" => application_data_is_encrypted;
    "6" "a message is for the group" => group_id;
    "6.1" "a member signs a PublicMessage with the key of its leaf" => public_signature;
    "6.1" "a member signs an encrypted proposal with the key of its leaf" => handshake_signature;
    "6.1" "a member signs application data with the key of its leaf" => application_signature;
    "6.1" "a member's signature covers the GroupContext" => signature_covers_the_context;
    "6.1" "the signature covers the wire format" => signature_covers_the_wire_format;
    "6.1" "the sender of a PublicMessage is a member" => public_sender;
    "6.1" "a commit has a confirmation tag" => confirmation_tag_is_there;
    "6.2" "the membership tag is right" => membership_tag;
    "6.2" "the membership tag covers the content" => membership_tag_covers_the_content;
    "6.2" "the membership tag covers the signature" => membership_tag_covers_the_proof;
    "6.2" "a member's PublicMessage has a membership tag" => membership_tag_is_there;
    "6.2" "a PublicMessage of an outsider has no membership tag" => membership_tag_of_an_outsider;
    "6.3.1" "the padding is zero" => padding;
    "6.3.1" "the content opens" => content_opens;
    "6.3.1" "the encryption covers the authenticated data" => authenticated_data;
    "6.3.2" "the sender data opens" => sender_data_opens;
    "6.3.2" "the encryption of the sender data covers the content type" => sender_data_covers;
    "6.3.2" "the sender of a PrivateMessage is a member" => private_sender;
    "9.1" "a key is used once" => keys_are_used_once;
    "9.1" "a message is not further ahead than is followed" => too_far_ahead;
    "12.1" "a proposal is of this epoch" => proposals_of_this_epoch;
    "12.4.2" "a commit is of this epoch" => commits_of_this_epoch;
    "12.4.2" "a commit is not our own" => own_commits;
    "12.4" "only a message to a group is processed as one" => kinds_of_messages;
}

fn removal() -> Content {
    Content::Proposal(Box::new(Proposal::remove(LeafIndex(CHARLIE as u32))))
}

fn wrap(message: PublicMessage) -> MlsMessage {
    MlsMessage::PublicMessage(Box::new(message))
}

/// Alice takes this one, in a group of its own.
fn taken(message: impl FnOnce(&Insider) -> MlsMessage) {
    let (mut clients, mallory) = group();
    clients[ALICE].receive(&message(&mallory)).unwrap();
    // The keys that were used by hand are those of Mallory's next messages.
    drop(clients[MALLORY].send(b"lost"));
    drop(clients[MALLORY].commit(|commit| commit));
    goes_on(&mut clients);
}

#[test]
fn what_an_insider_makes_by_hand_is_right() {
    taken(|mallory| wrap(mallory.public(mallory.content(removal()))));
    for content in [removal(), Content::Application(Bytes::from([7; 9]))] {
        taken(|mallory| {
            let content = mallory.content(content);
            mallory.sealed(&mallory.signer, content).message(mallory)
        });
    }
}

fn application_data_is_encrypted() {
    let (mut clients, mallory) = group();
    let content = mallory.content(Content::Application(Bytes::from(*b"in clear")));
    let message = wrap(mallory.public(content));
    refuses(
        &mut clients,
        &message,
        InvalidMessage::UnencryptedApplicationData,
    );
}

fn group_id() {
    let (mut clients, mut mallory) = group();
    mallory.context.group_id = Bytes::from(*b"grouq");
    let in_clear = wrap(mallory.public(mallory.content(removal())));
    let content = mallory.content(Content::Application(Bytes::default()));
    let encrypted = mallory.sealed(&mallory.signer, content).message(&mallory);
    for message in [in_clear, encrypted] {
        let refused = crate::process(&mut clients[ALICE], &message, Default::default());
        assert_eq!(refused.map(drop), Err(Error::WrongGroup));
    }
    goes_on(&mut clients);
}

/// Charlie's key, which is not Mallory's.
fn charlies_key(clients: &[Client]) -> folkmoot_mls::crypto::SignatureKeyPair {
    clients[CHARLIE].signer.clone()
}

fn public_signature() {
    let (mut clients, mut mallory) = group();
    mallory.signer = charlies_key(&clients);
    let message = wrap(mallory.public(mallory.content(removal())));
    refuses(&mut clients, &message, CryptoError::InvalidSignature);
}

fn handshake_signature() {
    let (mut clients, mallory) = group();
    let signer = charlies_key(&clients);
    let sealed = mallory.sealed(&signer, mallory.content(removal()));
    refuses(
        &mut clients,
        &sealed.message(&mallory),
        CryptoError::InvalidSignature,
    );
}

/// Mallory knows the keys of Charlie's ratchet, but not how to sign for Charlie.
fn application_signature() {
    let (mut clients, mallory) = group();
    let mut content = mallory.content(Content::Application(Bytes::from(*b"I am Charlie")));
    content.sender = Sender::Member(LeafIndex(CHARLIE as u32));
    let sealed = mallory.sealed(&mallory.signer, content.clone());
    refuses(
        &mut clients,
        &sealed.message(&mallory),
        CryptoError::InvalidSignature,
    );
    let by_charlie = charlies_key(&clients);
    taken(|mallory| mallory.sealed(&by_charlie, content).message(mallory));
}

fn signature_covers_the_context() {
    let (mut clients, mallory) = group();
    let mut elsewhere = mallory.clone();
    elsewhere.context.confirmed_transcript_hash = Bytes::from([7; 32]);
    let mut message = elsewhere.public(mallory.content(removal()));
    // The tag is right for the group as it is.
    let signed = AuthenticatedContent {
        wire_format: WireFormat::PUBLIC_MESSAGE,
        content: message.content,
        auth: message.auth,
    };
    message = mallory.tagged(signed);
    refuses(&mut clients, &wrap(message), CryptoError::InvalidSignature);
}

fn signature_covers_the_wire_format() {
    let (mut clients, mallory) = group();
    let (suite, format) = (mallory.suite, WireFormat::PRIVATE_MESSAGE);
    let content = mallory.content(removal());
    let mut signed =
        AuthenticatedContent::sign(suite, &mallory.signer, format, content, &mallory.context)
            .unwrap();
    signed.wire_format = WireFormat::PUBLIC_MESSAGE;
    let message = wrap(mallory.tagged(signed));
    refuses(&mut clients, &message, CryptoError::InvalidSignature);
}

fn public_sender() {
    for leaf in [3, 9, u32::MAX] {
        let (mut clients, mallory) = group();
        let mut content = mallory.content(removal());
        content.sender = Sender::Member(LeafIndex(leaf));
        let message = wrap(mallory.public(content));
        refuses(&mut clients, &message, InvalidMessage::UnknownSender);
    }
}

fn confirmation_tag_is_there() {
    let (mut clients, mallory) = group();
    let mut plan = mallory.plan(Vec::new());
    plan.wire_format = WireFormat::PUBLIC_MESSAGE;
    let mut forged = mallory.commit(&plan);
    forged.content.auth.confirmation_tag = None;
    let message = mallory.tagged(forged.content.clone());
    // What travels is read as if the membership tag were the confirmation tag, and ends there.
    let bytes = wrap(message.clone()).to_bytes();
    assert_eq!(MlsMessage::from_bytes(&bytes), Err(DecodeError::Truncated));
    // Nor is it taken from a caller who read it in another way.
    let client = &mut clients[ALICE];
    let member = client.member.as_mut().unwrap();
    let ctx = &mut crate::context(None, &mut client.rng);
    let refused = member.group.process(&mut member.keys, &wrap(message), ctx);
    let missing = InvalidMessage::MissingConfirmationTag.into();
    assert_eq!(refused.map(drop), Err(missing));
    goes_on(&mut clients);
}

fn membership_tag() {
    let (mut clients, mallory) = group();
    let mut message = mallory.public(mallory.content(removal()));
    message.membership_tag = Some(Bytes::from([0; 32]));
    refuses(&mut clients, &wrap(message), CryptoError::InvalidMac);
}

fn membership_tag_covers_the_content() {
    let (mut clients, mallory) = group();
    let good = mallory.public(mallory.content(removal()));
    let mut other_data = mallory.content(removal());
    other_data.authenticated_data = Bytes::from([1]);
    let mut other_sender = mallory.content(removal());
    other_sender.sender = Sender::Member(LeafIndex(CHARLIE as u32));
    for content in [other_data, other_sender] {
        let message = PublicMessage {
            membership_tag: good.membership_tag.clone(),
            ..mallory.public(content)
        };
        let refused = crate::process(&mut clients[ALICE], &wrap(message), Default::default());
        assert_eq!(refused.map(drop), Err(CryptoError::InvalidMac.into()));
    }
    goes_on(&mut clients);
}

fn membership_tag_covers_the_proof() {
    let (mut clients, mallory) = group();
    let mut plan = mallory.plan(Vec::new());
    plan.wire_format = WireFormat::PUBLIC_MESSAGE;
    let good = mallory.commit(&plan);
    let mut other = good.content.clone();
    other.auth.confirmation_tag = Some(Bytes::from([0; 32]));
    let message = PublicMessage {
        membership_tag: mallory.tagged(other).membership_tag,
        ..mallory.tagged(good.content)
    };
    refuses(&mut clients, &wrap(message), CryptoError::InvalidMac);
}

fn membership_tag_is_there() {
    let (mut clients, mallory) = group();
    let mut message = mallory.public(mallory.content(removal()));
    message.membership_tag = None;
    let bytes = wrap(message.clone()).to_bytes();
    assert_eq!(MlsMessage::from_bytes(&bytes), Err(DecodeError::Truncated));
    let client = &mut clients[ALICE];
    let member = client.member.as_mut().unwrap();
    let ctx = &mut crate::context(None, &mut client.rng);
    let refused = member.group.process(&mut member.keys, &wrap(message), ctx);
    let missing = InvalidMessage::MembershipTag.into();
    assert_eq!(refused.map(drop), Err(missing));
    goes_on(&mut clients);
}

fn membership_tag_of_an_outsider() {
    let (mut clients, mallory) = group();
    let mut content = mallory.content(Content::Proposal(Box::new(Proposal::add(newcomer().1))));
    content.sender = Sender::NewMemberProposal;
    let mut message = mallory.public(content);
    assert_eq!(message.membership_tag, None);
    message.membership_tag = Some(Bytes::from([0; 32]));
    let bytes = wrap(message.clone()).to_bytes();
    let refused = MlsMessage::from_bytes(&bytes);
    assert_eq!(refused, Err(DecodeError::TrailingBytes));
    let key = &mallory.membership_key;
    let refused = message.unprotect(suite(SUITE), key, &mallory.context);
    assert_eq!(refused, Err(InvalidMessage::MembershipTag.into()));
    goes_on(&mut clients);
}

/// Something that Mallory says, encrypted.
fn word(mallory: &Insider) -> Sealed {
    let mut content = mallory.content(Content::Application(Bytes::from(*b"word")));
    content.authenticated_data = Bytes::from(*b"in clear");
    mallory.sealed(&mallory.signer, content)
}

fn padding() {
    let (mut clients, mallory) = group();
    let mut sealed = word(&mallory);
    sealed.plaintext.extend([0, 0, 1, 0]);
    let message = sealed.message(&mallory);
    refuses(&mut clients, &message, InvalidMessage::NonZeroPadding);
    taken(|mallory| {
        let mut sealed = word(mallory);
        sealed.plaintext.extend([0, 0, 0, 0]);
        sealed.message(mallory)
    });
}

/// The message with one part changed after it was made.
fn altered(
    mallory: &Insider,
    change: impl FnOnce(&mut folkmoot_mls::framing::PrivateMessage),
) -> MlsMessage {
    let MlsMessage::PrivateMessage(mut message) = word(mallory).message(mallory) else {
        panic!("it is encrypted")
    };
    change(&mut message);
    MlsMessage::PrivateMessage(message)
}

fn flip(bytes: &mut Bytes, place: usize) {
    let mut vec = std::mem::take(bytes).into_vec();
    vec[place] ^= 1;
    *bytes = vec.into();
}

fn content_opens() {
    let (mut clients, mallory) = group();
    // Behind the sample that the sender data's key comes from.
    let message = altered(&mallory, |message| flip(&mut message.ciphertext, 40));
    refuses(&mut clients, &message, CryptoError::DecryptionFailed);
}

fn authenticated_data() {
    let (mut clients, mallory) = group();
    let message = altered(&mallory, |message| flip(&mut message.authenticated_data, 0));
    refuses(&mut clients, &message, CryptoError::DecryptionFailed);
}

fn sender_data_opens() {
    let (mut clients, mallory) = group();
    let message = altered(&mallory, |message| {
        flip(&mut message.encrypted_sender_data, 0);
    });
    refuses(&mut clients, &message, CryptoError::DecryptionFailed);
}

fn sender_data_covers() {
    let (mut clients, mallory) = group();
    let message = altered(&mallory, |message| {
        message.content_type = folkmoot_mls::framing::ContentType::Proposal;
    });
    refuses(&mut clients, &message, CryptoError::DecryptionFailed);
}

fn private_sender() {
    for leaf in [3, 9, u32::MAX] {
        let (mut clients, mallory) = group();
        let mut sealed = word(&mallory);
        sealed.sender_data.leaf_index = LeafIndex(leaf);
        if leaf == 3 {
            // Leaf 3 is blank, but it has keys like any other.
            sealed.key = mallory.message_key(LeafIndex(leaf), RatchetKind::Application, 0);
        }
        let message = sealed.message(&mallory);
        refuses(&mut clients, &message, InvalidMessage::UnknownSender);
    }
}

fn keys_are_used_once() {
    let (mut clients, mallory) = group();
    let first = word(&mallory).message(&mallory);
    clients[ALICE].receive(&first).unwrap();
    let mut second = word(&mallory);
    second.sender_data.reuse_guard = [9; 4];
    let gone = |generation| Error::KeyGone {
        sender: LeafIndex(MALLORY as u32),
        generation,
    };
    for message in [first, second.message(&mallory)] {
        let refused = crate::process(&mut clients[ALICE], &message, Default::default());
        assert_eq!(refused.map(drop), Err(gone(0)));
    }
    // Nor is a key that was skipped, once its message came.
    let words: Vec<_> = (0..3).map(|_| clients[CHARLIE].send(b"word").0).collect();
    for place in [2, 0] {
        clients[ALICE].receive(&words[place]).unwrap();
        let generation = place as u32;
        let sender = LeafIndex(CHARLIE as u32);
        let error = Error::KeyGone { sender, generation };
        assert_eq!(clients[ALICE].receive(&words[place]).unwrap_err(), error);
    }
    clients[ALICE].receive(&words[1]).unwrap();
    // Mallory's own count starts now, so her first message repeats the key.
    let repeated = clients[MALLORY].send(b"word").0;
    assert_eq!(clients[ALICE].receive(&repeated).unwrap_err(), gone(0));
    goes_on(&mut clients);
}

fn too_far_ahead() {
    let (mut clients, mallory) = group();
    let generation = MAX_JUMP + 1;
    let mut sealed = word(&mallory);
    sealed.sender_data.generation = generation;
    // The key is of no matter: it would take too long to come to it.
    let error = InvalidMessage::TooFarAhead { generation };
    refuses(&mut clients, &sealed.message(&mallory), error);
}

fn proposals_of_this_epoch() {
    let (mut clients, mut mallory) = group();
    let current = mallory.context.epoch;
    for message in [current - 1, current + 1] {
        mallory.context.epoch = message;
        let proposal = wrap(mallory.public(mallory.content(removal())));
        let refused = crate::process(&mut clients[ALICE], &proposal, Default::default());
        assert_eq!(
            refused.map(drop),
            Err(Error::WrongEpoch { message, current })
        );
    }
    let encrypted = mallory.sealed(&mallory.signer, mallory.content(removal()));
    let message = mallory.context.epoch;
    let error = Error::WrongEpoch { message, current };
    refuses(&mut clients, &encrypted.message(&mallory), error);
}

fn commits_of_this_epoch() {
    let (mut clients, mallory) = group();
    let mut plan = mallory.plan(Vec::new());
    plan.wire_format = WireFormat::PUBLIC_MESSAGE;
    plan.edit_content = Box::new(|content| content.epoch += 1);
    let (message, current) = (2, 1);
    let error = Error::WrongEpoch { message, current };
    refuses_commit(&mut clients, &mallory, &plan, error);
    // Alice is in epoch 2 now: a commit of epoch 1 comes too late.
    plan.edit_content = Box::new(|_| {});
    let late = mallory.commit(&plan).public(&mallory);
    let (message, current) = (1, 2);
    let error = Error::WrongEpoch { message, current };
    refuses(&mut clients, &late, error);
}

fn own_commits() {
    for format in [WireFormat::PUBLIC_MESSAGE, WireFormat::PRIVATE_MESSAGE] {
        let (mut clients, _) = group();
        let pending = clients[ALICE]
            .commit(|commit| commit.wire_format(format))
            .unwrap();
        refuses(&mut clients, &pending.message, Error::OwnMessage);
    }
}

fn kinds_of_messages() {
    let (mut clients, _) = group();
    let (_, package) = newcomer();
    let pending = clients[MALLORY]
        .commit(|commit| commit.add(package.clone()))
        .unwrap();
    let group_info = pending.group_info.unwrap();
    for (message, format) in [
        (
            MlsMessage::KeyPackage(Box::new(package)),
            WireFormat::KEY_PACKAGE,
        ),
        (
            MlsMessage::Welcome(pending.welcome.unwrap()),
            WireFormat::WELCOME,
        ),
        (
            MlsMessage::GroupInfo(Box::new(group_info)),
            WireFormat::GROUP_INFO,
        ),
    ] {
        let refused = crate::process(&mut clients[ALICE], &message, Default::default());
        assert_eq!(refused.map(drop), Err(Error::UnexpectedWireFormat(format)));
    }
    goes_on(&mut clients);
}
