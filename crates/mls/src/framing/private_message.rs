//! Messages that are encrypted (RFC 9420, section 6.3).

use rand_core::CryptoRng;
use zeroize::Zeroizing;

use super::{
    AuthenticatedContent, Content, ContentType, FramedContent, FramedContentAuthData, Sender,
};
use crate::code_point::WireFormat;
use crate::codec::{Bytes, Decode, Encode, Reader};
use crate::crypto::{Secret, Suite};
use crate::error::{Error, InvalidMessage};
use crate::ratchet::MessageKey;
use crate::tree_math::LeafIndex;

crate::tls_struct! {
    /// An encrypted message.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct PrivateMessage {
        /// The group.
        pub group_id: Bytes,
        /// The epoch.
        pub epoch: u64,
        /// What is inside.
        pub content_type: ContentType,
        /// Data in clear that is authenticated.
        pub authenticated_data: Bytes,
        /// [`SenderData`], encrypted.
        pub encrypted_sender_data: Bytes,
        /// `PrivateMessageContent`, encrypted.
        pub ciphertext: Bytes,
    }
}

crate::tls_struct! {
    /// Who sent a PrivateMessage, and under which of its keys.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct SenderData {
        /// The sender's leaf.
        pub leaf_index: LeafIndex,
        /// The number of the key in the sender's ratchet.
        pub generation: u32,
        /// What the nonce is changed with, so that a key used twice by mistake does less harm.
        pub reuse_guard: [u8; 4],
    }
}

impl PrivateMessage {
    /// Encrypts signed content of a member under a key of its ratchet, which the caller never uses
    /// again. As many zero bytes as `padding` says are added.
    ///
    /// # Errors
    /// [`InvalidMessage::SenderType`] unless the sender is a member,
    /// [`Error::UnexpectedWireFormat`] if it was signed for another way: the caller's.
    pub fn protect(
        suite: &dyn Suite,
        sender_data_secret: &[u8],
        key: &MessageKey,
        authenticated: &AuthenticatedContent,
        padding: usize,
        rng: &mut dyn CryptoRng,
    ) -> Result<Self, Error> {
        authenticated.check_wire_format(WireFormat::PRIVATE_MESSAGE)?;
        let content = &authenticated.content;
        let Sender::Member(leaf_index) = content.sender else {
            return Err(InvalidMessage::SenderType.into());
        };
        let mut reuse_guard = [0; 4];
        rng.fill_bytes(&mut reuse_guard);

        let mut message = Self {
            group_id: content.group_id.clone(),
            epoch: content.epoch,
            content_type: content.content.content_type(),
            authenticated_data: content.authenticated_data.clone(),
            encrypted_sender_data: Bytes::default(),
            ciphertext: Bytes::default(),
        };
        let plaintext = private_message_content(authenticated, padding);
        let nonce = guarded(&key.nonce, reuse_guard);
        message.ciphertext = suite
            .aead_seal(&key.key, &nonce, &message.content_aad(), &plaintext)
            .into();

        let sender_data = SenderData {
            leaf_index,
            generation: key.generation,
            reuse_guard,
        };
        let (data_key, data_nonce) = message.sender_data_key(suite, sender_data_secret);
        let aad = message.sender_data_aad();
        message.encrypted_sender_data = suite
            .aead_seal(&data_key, &data_nonce, &aad, &sender_data.to_bytes())
            .into();
        Ok(message)
    }

    /// Who sent the message. Any member can make this say what it likes, until the content's
    /// signature is verified.
    ///
    /// # Errors
    /// [`CryptoError::DecryptionFailed`](crate::crypto::CryptoError::DecryptionFailed) or a
    /// [`DecodeError`](crate::codec::DecodeError), the sender's.
    pub fn sender_data(
        &self,
        suite: &dyn Suite,
        sender_data_secret: &[u8],
    ) -> Result<SenderData, Error> {
        let (key, nonce) = self.sender_data_key(suite, sender_data_secret);
        let aad = self.sender_data_aad();
        let sender_data = suite.aead_open(&key, &nonce, &aad, &self.encrypted_sender_data)?;
        Ok(SenderData::from_bytes(&sender_data)?)
    }

    /// Decrypts the content under the key that [`SenderData`] names. The signature is still to be
    /// verified, see [`AuthenticatedContent::verify`].
    ///
    /// # Errors
    /// [`CryptoError::DecryptionFailed`](crate::crypto::CryptoError::DecryptionFailed), a
    /// [`DecodeError`](crate::codec::DecodeError) or [`InvalidMessage::NonZeroPadding`], the
    /// sender's.
    pub fn unprotect(
        &self,
        suite: &dyn Suite,
        key: &MessageKey,
        sender_data: &SenderData,
    ) -> Result<AuthenticatedContent, Error> {
        let nonce = guarded(&key.nonce, sender_data.reuse_guard);
        let plaintext = suite.aead_open(&key.key, &nonce, &self.content_aad(), &self.ciphertext)?;
        let mut reader = Reader::new(&plaintext);
        let content = Content::decode_body(self.content_type, &mut reader)?;
        let auth = FramedContentAuthData::decode(self.content_type, &mut reader)?;
        if reader.rest().iter().any(|byte| *byte != 0) {
            return Err(InvalidMessage::NonZeroPadding.into());
        }
        Ok(AuthenticatedContent {
            wire_format: WireFormat::PRIVATE_MESSAGE,
            content: FramedContent {
                group_id: self.group_id.clone(),
                epoch: self.epoch,
                sender: Sender::Member(sender_data.leaf_index),
                authenticated_data: self.authenticated_data.clone(),
                content,
            },
            auth,
        })
    }

    /// `PrivateContentAAD`.
    pub(super) fn content_aad(&self) -> Vec<u8> {
        let mut aad = self.sender_data_aad();
        self.authenticated_data.encode(&mut aad);
        aad
    }

    /// `SenderDataAAD`.
    fn sender_data_aad(&self) -> Vec<u8> {
        let mut aad = Vec::with_capacity(self.group_id.len() + self.authenticated_data.len() + 32);
        self.group_id.encode(&mut aad);
        self.epoch.encode(&mut aad);
        self.content_type.encode(&mut aad);
        aad
    }

    fn sender_data_key(&self, suite: &dyn Suite, sender_data_secret: &[u8]) -> (Secret, Secret) {
        sender_data_key(suite, sender_data_secret, &self.ciphertext)
    }
}

/// `PrivateMessageContent`. What is not public yet is written once, without moving it about.
fn private_message_content(
    authenticated: &AuthenticatedContent,
    padding: usize,
) -> Zeroizing<Vec<u8>> {
    let content = &authenticated.content.content;
    let capacity = content.encoded_capacity() + 256 + padding;
    let mut plaintext = Zeroizing::new(Vec::with_capacity(capacity));
    content.encode_body(&mut plaintext);
    authenticated.auth.encode(&mut plaintext);
    let length = plaintext.len() + padding;
    plaintext.resize(length, 0);
    plaintext
}

/// `sender_data_key` and `sender_data_nonce`, from a sample of the ciphertext (section 6.3.2).
#[must_use]
pub fn sender_data_key(
    suite: &dyn Suite,
    sender_data_secret: &[u8],
    ciphertext: &[u8],
) -> (Secret, Secret) {
    let sample = ciphertext.get(..suite.hash_length()).unwrap_or(ciphertext);
    let expand = |label, length| suite.expand_with_label(sender_data_secret, label, sample, length);
    (
        expand("key", suite.aead_key_length()),
        expand("nonce", suite.aead_nonce_length()),
    )
}

/// The nonce with its first four bytes changed.
fn guarded(nonce: &[u8], reuse_guard: [u8; 4]) -> Secret {
    let mut guarded = Zeroizing::new(nonce.to_vec());
    guarded
        .iter_mut()
        .zip(reuse_guard)
        .for_each(|(byte, guard)| *byte ^= guard);
    Secret::from(guarded)
}
