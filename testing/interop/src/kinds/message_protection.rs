//! `message-protection`: content in public and private messages, both ways.

use std::sync::Arc;

use folkmoot_mls::code_point::{ProtocolVersion, WireFormat};
use folkmoot_mls::codec::{Bytes, Decode, Encode};
use folkmoot_mls::crypto::{CipherSuite, Secret, SignatureKeyPair, SignaturePublicKey, Suite};
use folkmoot_mls::error::{Error, InvalidMessage};
use folkmoot_mls::extension::Extensions;
use folkmoot_mls::framing::{
    AuthenticatedContent, Content, ContentType, FramedContent, PrivateMessage, PublicMessage,
    Sender,
};
use folkmoot_mls::group_context::GroupContext;
use folkmoot_mls::message::MlsMessage;
use folkmoot_mls::message_keys::{EpochKeys, MessageKeys, SignatureKeys};
use folkmoot_mls::tree_math::LeafIndex;
use rand_core::CryptoRng;
use serde::Deserialize;

use super::private_key;
use crate::check::{Failure, Hex, check};

/// The sender in all of these.
const SENDER: LeafIndex = LeafIndex(1);
const READER: LeafIndex = LeafIndex(0);

/// One case.
#[derive(Debug, Deserialize)]
pub struct Case {
    /// The suite.
    pub cipher_suite: u16,
    group_id: Hex,
    epoch: u64,
    tree_hash: Hex,
    confirmed_transcript_hash: Hex,
    signature_priv: Hex,
    signature_pub: Hex,
    encryption_secret: Hex,
    sender_data_secret: Hex,
    membership_key: Hex,
    proposal: Hex,
    proposal_pub: Hex,
    proposal_priv: Hex,
    commit: Hex,
    commit_pub: Hex,
    commit_priv: Hex,
    application: Hex,
    application_priv: Hex,
}

/// Only the sender is in the tree.
struct OneSender(SignaturePublicKey);

impl SignatureKeys for OneSender {
    fn signature_key(&self, leaf: LeafIndex) -> Option<SignaturePublicKey> {
        (leaf == SENDER).then(|| self.0.clone())
    }
}

impl Case {
    /// Opens the vector's messages, and our own of the same content.
    ///
    /// # Errors
    /// [`Failure`], the engine's.
    pub fn verify(
        &self,
        suite: &'static dyn Suite,
        rng: &mut dyn CryptoRng,
    ) -> Result<(), Failure> {
        let proposal = Content::Proposal(Box::new(Decode::from_bytes(&self.proposal)?));
        let commit = Content::Commit(Box::new(Decode::from_bytes(&self.commit)?));
        let application = Content::Application(Bytes::from(&self.application));

        self.verify_private(suite, &proposal, &self.proposal_priv, rng)?;
        self.verify_private(suite, &commit, &self.commit_priv, rng)?;
        self.verify_private(suite, &application, &self.application_priv, rng)?;
        self.verify_public(suite, &proposal, &self.proposal_pub)?;
        self.verify_public(suite, &commit, &self.commit_pub)?;

        let signed = self.sign(suite, WireFormat::PUBLIC_MESSAGE, application)?;
        let refused = PublicMessage::protect(suite, &self.membership_key, &self.context(), signed);
        let expected = Err(Error::from(InvalidMessage::UnencryptedApplicationData));
        check(refused == expected, "application data in a public message")
    }

    fn verify_public(
        &self,
        suite: &dyn Suite,
        content: &Content,
        message: &[u8],
    ) -> Result<(), Failure> {
        let open = |message: PublicMessage| {
            let context = self.context();
            let opened = message.unprotect(suite, &self.membership_key, &context)?;
            opened.verify(suite, &self.signature_pub, &context)?;
            check(
                opened.content.content == *content,
                "content of a public message",
            )
        };
        match MlsMessage::from_bytes(message)? {
            MlsMessage::PublicMessage(message) => open(*message)?,
            _ => return Err(Failure::Mismatch("wire format")),
        }
        let signed = self.sign(suite, WireFormat::PUBLIC_MESSAGE, content.clone())?;
        let own = PublicMessage::protect(suite, &self.membership_key, &self.context(), signed)?;
        open(PublicMessage::from_bytes(&own.to_bytes())?)
    }

    fn verify_private(
        &self,
        suite: &'static dyn Suite,
        content: &Content,
        message: &[u8],
        rng: &mut dyn CryptoRng,
    ) -> Result<(), Failure> {
        let open = |message: PrivateMessage| {
            let mut keys = self.keys(suite, READER);
            let opened = keys.open(&message)?;
            check(opened.sender == SENDER, "sender of a private message")?;
            let FramedContent {
                content: opened_content,
                ..
            } = &opened.content.content;
            check(*opened_content == *content, "content of a private message")?;
            keys.consume(opened.key)?;
            check(
                matches!(keys.open(&message), Err(Error::KeyGone { .. })),
                "a key used twice",
            )
        };
        match MlsMessage::from_bytes(message)? {
            MlsMessage::PrivateMessage(message) => open(message)?,
            _ => return Err(Failure::Mismatch("wire format")),
        }
        let signed = self.sign(suite, WireFormat::PRIVATE_MESSAGE, content.clone())?;
        let (own, _) = self.keys(suite, SENDER).protect(&signed, 17, rng)?;
        open(PrivateMessage::from_bytes(&own.to_bytes())?)
    }

    fn sign(
        &self,
        suite: &dyn Suite,
        wire_format: WireFormat,
        content: Content,
    ) -> Result<AuthenticatedContent, Failure> {
        let signer = SignatureKeyPair::new(
            private_key(suite, &self.signature_priv),
            Bytes::from(&self.signature_pub).into(),
        );
        let content = FramedContent {
            group_id: Bytes::from(&self.group_id),
            epoch: self.epoch,
            sender: Sender::Member(SENDER),
            authenticated_data: Bytes::from(*b"authenticated data"),
            content,
        };
        let is_commit = content.content.content_type() == ContentType::Commit;
        let context = self.context();
        let mut signed =
            AuthenticatedContent::sign(suite, &signer, wire_format, content, &context)?;
        // The vectors give no confirmation key; any tag travels.
        signed.auth.confirmation_tag = is_commit.then(|| suite.mac(b"key", b"transcript"));
        Ok(signed)
    }

    fn keys(&self, suite: &'static dyn Suite, own: LeafIndex) -> MessageKeys {
        let epoch = EpochKeys {
            context: self.context(),
            own,
            leaf_count: 2,
            replaced: Vec::new(),
            suspended: false,
            sender_data_secret: Secret::from(&*self.sender_data_secret),
            encryption_secret: Secret::from(&*self.encryption_secret),
            application_export_secret: Secret::zero(suite.hash_length()),
        };
        let sender = OneSender(Bytes::from(&self.signature_pub).into());
        MessageKeys::new(suite, epoch, Arc::new(sender)).0
    }

    fn context(&self) -> GroupContext {
        GroupContext {
            version: ProtocolVersion::MLS10,
            cipher_suite: CipherSuite(self.cipher_suite),
            group_id: Bytes::from(&self.group_id),
            epoch: self.epoch,
            tree_hash: Bytes::from(&self.tree_hash),
            confirmed_transcript_hash: Bytes::from(&self.confirmed_transcript_hash),
            extensions: Extensions::default(),
        }
    }
}
