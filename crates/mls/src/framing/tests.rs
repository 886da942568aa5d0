//! What travels well, and what is refused.

use super::*;
use crate::code_point::WireFormat;
use crate::codec::Bytes;
use crate::crypto::aws_lc::PROVIDER;
use crate::crypto::{CryptoError, CryptoProvider, Secret, SignatureKeyPair, Suite};
use crate::error::{Error, InvalidMessage};
use crate::proposal::{Proposal, ProposalType};
use crate::ratchet::MessageKey;
use crate::testing::{StepRng, group_context};
use crate::tree_math::LeafIndex;

const MEMBER: Sender = Sender::Member(LeafIndex(3));

fn suite() -> &'static dyn Suite {
    PROVIDER.suite(group_context().cipher_suite).unwrap()
}

fn signer() -> SignatureKeyPair {
    suite().signature_key_pair(&mut StepRng(1))
}

fn proposal() -> Content {
    Content::Proposal(Box::new(Proposal::remove(LeafIndex(9))))
}

fn commit() -> Content {
    Content::Commit(Box::default())
}

fn signed(wire_format: WireFormat, sender: Sender, content: Content) -> AuthenticatedContent {
    let context = group_context();
    let content = FramedContent {
        group_id: context.group_id.clone(),
        epoch: context.epoch,
        sender,
        authenticated_data: Bytes::from(*b"in clear"),
        content,
    };
    AuthenticatedContent::sign(suite(), &signer(), wire_format, content, &context).unwrap()
}

fn message_key() -> MessageKey {
    let secret = |length| Secret::from(vec![5; length]);
    let (key, nonce) = (
        secret(suite().aead_key_length()),
        secret(suite().aead_nonce_length()),
    );
    MessageKey {
        generation: 7,
        key,
        nonce,
    }
}

fn private(content: Content, padding: usize) -> PrivateMessage {
    let signed = signed(WireFormat::PRIVATE_MESSAGE, MEMBER, content);
    let rng = &mut StepRng(2);
    PrivateMessage::protect(suite(), &[6; 32], &message_key(), &signed, padding, rng).unwrap()
}

#[test]
fn a_public_message_is_tied_to_its_group_and_epoch() {
    let context = group_context();
    let signed = signed(WireFormat::PUBLIC_MESSAGE, MEMBER, proposal());
    let message = PublicMessage::protect(suite(), b"key", &context, signed.clone()).unwrap();
    assert_eq!(
        message.unprotect(suite(), b"key", &context),
        Ok(signed.clone())
    );
    let wrong = Err(CryptoError::InvalidMac.into());
    assert_eq!(message.unprotect(suite(), b"other", &context), wrong);
    let mut later = context.clone();
    later.tree_hash = Bytes::from([9; 32]);
    assert_eq!(message.unprotect(suite(), b"key", &later), wrong);

    let public_key = signer().public_key().clone();
    assert_eq!(signed.verify(suite(), &public_key, &context), Ok(()));
    let wrong = Err(CryptoError::InvalidSignature);
    assert_eq!(signed.verify(suite(), &public_key, &later), wrong);
    let mut changed = signed;
    changed.content.authenticated_data = Bytes::default();
    assert_eq!(changed.verify(suite(), &public_key, &context), wrong);
}

#[test]
fn a_membership_tag_belongs_to_members_only() {
    let context = group_context();
    let protect = |sender| {
        let signed = signed(WireFormat::PUBLIC_MESSAGE, sender, proposal());
        PublicMessage::protect(suite(), b"key", &context, signed).unwrap()
    };
    let external = protect(Sender::External(0));
    assert_eq!(external.membership_tag, None);
    assert!(external.unprotect(suite(), b"key", &context).is_ok());
    let refused = Err(InvalidMessage::MembershipTag.into());
    let tagged = PublicMessage {
        membership_tag: Some(Bytes::default()),
        ..external
    };
    assert_eq!(tagged.unprotect(suite(), b"key", &context), refused);
    let untagged = PublicMessage {
        membership_tag: None,
        ..protect(MEMBER)
    };
    assert_eq!(untagged.unprotect(suite(), b"key", &context), refused);
}

#[test]
fn senders_send_what_they_may() {
    let context = group_context();
    let protect = |sender, content| {
        let signed = signed(WireFormat::PUBLIC_MESSAGE, sender, content);
        PublicMessage::protect(suite(), b"key", &context, signed).map(|_| ())
    };
    let refused = Err(InvalidMessage::SenderType.into());
    assert_eq!(protect(Sender::External(0), commit()), refused);
    assert_eq!(protect(Sender::NewMemberCommit, proposal()), refused);
    // Only to be added may somebody outside propose.
    let kind = ProposalType::REMOVE;
    let refused = Err(InvalidMessage::SenderProposal(kind).into());
    assert_eq!(protect(Sender::NewMemberProposal, proposal()), refused);
    assert_eq!(protect(Sender::External(0), proposal()), Ok(()));
    assert_eq!(protect(Sender::NewMemberCommit, commit()), Ok(()));
    let data = Content::Application(Bytes::default());
    let refused = Err(InvalidMessage::UnencryptedApplicationData.into());
    assert_eq!(protect(MEMBER, data), refused);
}

#[test]
fn content_travels_as_it_was_signed_for() {
    let context = group_context();
    let public = signed(WireFormat::PUBLIC_MESSAGE, MEMBER, proposal());
    let (key, rng) = (message_key(), &mut StepRng(2));
    let refused = PrivateMessage::protect(suite(), &[6; 32], &key, &public, 0, rng);
    assert_eq!(
        refused,
        Err(Error::UnexpectedWireFormat(WireFormat::PUBLIC_MESSAGE))
    );
    let private = signed(WireFormat::PRIVATE_MESSAGE, MEMBER, proposal());
    let refused = PublicMessage::protect(suite(), b"key", &context, private);
    assert_eq!(
        refused,
        Err(Error::UnexpectedWireFormat(WireFormat::PRIVATE_MESSAGE))
    );
}

#[test]
fn a_private_message_hides_all_but_its_header() {
    let data = Content::Application(Bytes::from(*b"a secret"));
    let message = private(data.clone(), 100);
    let sender_data = message.sender_data(suite(), &[6; 32]).unwrap();
    assert_eq!(
        (sender_data.leaf_index, sender_data.generation),
        (LeafIndex(3), 7)
    );
    let opened = message
        .unprotect(suite(), &message_key(), &sender_data)
        .unwrap();
    assert_eq!(opened.content.content, data);
    assert_eq!(opened.content.sender, MEMBER);
    assert_eq!(
        opened.verify(suite(), signer().public_key(), &group_context()),
        Ok(())
    );
    assert_eq!(
        message.ciphertext.len(),
        private(data, 0).ciphertext.len() + 100
    );
}

#[test]
fn every_field_of_a_private_message_is_authenticated() {
    let message = private(proposal(), 0);
    let open = |message: &PrivateMessage| {
        let sender_data = message.sender_data(suite(), &[6; 32])?;
        message.unprotect(suite(), &message_key(), &sender_data)
    };
    assert!(open(&message).is_ok());
    let changes: [fn(&mut PrivateMessage); 6] = [
        |message| message.group_id = Bytes::from([8]),
        |message| message.epoch += 1,
        |message| message.content_type = ContentType::Commit,
        |message| message.authenticated_data = Bytes::default(),
        |message| message.encrypted_sender_data = Bytes::from([1; 28]),
        |message| message.ciphertext = Bytes::from([1; 90]),
    ];
    for change in changes {
        let mut changed = message.clone();
        change(&mut changed);
        assert_eq!(open(&changed), Err(CryptoError::DecryptionFailed.into()));
    }
}

/// A sender who knows the keys can write any plaintext.
#[test]
fn padding_that_is_not_zero_is_refused() {
    let message = private(Content::Application(Bytes::from(*b"data")), 16);
    let sender_data = message.sender_data(suite(), &[6; 32]).unwrap();
    let mut nonce = message_key().nonce.to_vec();
    nonce
        .iter_mut()
        .zip(sender_data.reuse_guard)
        .for_each(|(byte, guard)| *byte ^= guard);
    let aad = message.content_aad();
    let key = message_key().key;
    let mut plaintext = suite()
        .aead_open(&key, &nonce, &aad, &message.ciphertext)
        .unwrap()
        .to_vec();
    assert_eq!(plaintext[plaintext.len() - 16..], [0; 16]);
    *plaintext.last_mut().unwrap() = 1;
    let ciphertext = suite().aead_seal(&key, &nonce, &aad, &plaintext).into();
    let forged = PrivateMessage {
        ciphertext,
        ..message
    };
    let refused = forged.unprotect(suite(), &message_key(), &sender_data);
    assert_eq!(refused, Err(InvalidMessage::NonZeroPadding.into()));
}
