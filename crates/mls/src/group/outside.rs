//! Proposals from outside the group (RFC 9420, section 12.1.8): by those whom the group lists as its
//! external senders, and by those who ask to be added.

use crate::code_point::{ProtocolVersion, WireFormat};
use crate::codec::Bytes;
use crate::component::safe_aad;
use crate::context::Context;
use crate::crypto::{CipherSuite, SignatureKeyPair};
use crate::error::Error;
use crate::extension::Extensions;
use crate::framing::{AuthenticatedContent, Content, FramedContent, PublicMessage, Sender};
use crate::group_context::GroupContext;
use crate::key_package::KeyPackage;
use crate::message::MlsMessage;
use crate::proposal::Proposal;

/// The group and epoch that a proposal from outside is for. Of a group's state it needs no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The protocol's version.
    pub version: ProtocolVersion,
    /// The group's algorithms.
    pub cipher_suite: CipherSuite,
    /// The group.
    pub group_id: Bytes,
    /// The epoch.
    pub epoch: u64,
    /// Whether the group's authenticated data is a [`SafeAAD`](crate::component::SafeAAD).
    pub safe_aad: bool,
}

impl From<&GroupContext> for Destination {
    fn from(context: &GroupContext) -> Self {
        Self {
            version: context.version,
            cipher_suite: context.cipher_suite,
            group_id: context.group_id.clone(),
            epoch: context.epoch,
            safe_aad: safe_aad::is_used(&context.extensions),
        }
    }
}

/// A proposal by an external sender: the one at `place` in the group's list
/// ([`ExternalSenders`](crate::extension::ExternalSenders)), whose key `signer` is.
///
/// # Errors
/// The caller's: [`InvalidMessage::SenderProposal`](crate::error::InvalidMessage::SenderProposal) for a
/// proposal that only members make,
/// [`InvalidMessage::SafeAad`](crate::error::InvalidMessage::SafeAad), [`Error::UnsupportedCipherSuite`],
/// [`CryptoError::InvalidPrivateKey`](crate::crypto::CryptoError::InvalidPrivateKey).
pub fn propose_as_external_sender(
    ctx: &Context<'_>,
    to: &Destination,
    place: u32,
    signer: &SignatureKeyPair,
    proposal: Proposal,
    authenticated_data: &[u8],
) -> Result<MlsMessage, Error> {
    let sender = Sender::External(place);
    propose(ctx, to, sender, signer, proposal, authenticated_data)
}

/// Asks to be added. `signer` is the key of the KeyPackage's leaf.
///
/// # Errors
/// The caller's: [`Error::WrongSigner`],
/// [`InvalidMessage::SafeAad`](crate::error::InvalidMessage::SafeAad), [`Error::UnsupportedCipherSuite`],
/// [`CryptoError::InvalidPrivateKey`](crate::crypto::CryptoError::InvalidPrivateKey).
pub fn propose_join(
    ctx: &Context<'_>,
    to: &Destination,
    signer: &SignatureKeyPair,
    key_package: KeyPackage,
    authenticated_data: &[u8],
) -> Result<MlsMessage, Error> {
    if key_package.leaf_node.signature_key != *signer.public_key() {
        return Err(Error::WrongSigner);
    }
    let (sender, add) = (Sender::NewMemberProposal, Proposal::add(key_package));
    propose(ctx, to, sender, signer, add, authenticated_data)
}

fn propose(
    ctx: &Context<'_>,
    to: &Destination,
    sender: Sender,
    signer: &SignatureKeyPair,
    proposal: Proposal,
    authenticated_data: &[u8],
) -> Result<MlsMessage, Error> {
    let suite = ctx.suite(to.cipher_suite)?;
    let content = FramedContent {
        group_id: to.group_id.clone(),
        epoch: to.epoch,
        sender,
        authenticated_data: safe_aad::framed(to.safe_aad, authenticated_data)?,
        content: Content::Proposal(Box::new(proposal)),
    };
    let wire_format = WireFormat::PUBLIC_MESSAGE;
    content.check_sender_type()?;
    // The signature of a proposal from outside does not cover the group's state.
    let context = GroupContext {
        version: to.version,
        cipher_suite: to.cipher_suite,
        group_id: to.group_id.clone(),
        epoch: to.epoch,
        tree_hash: Bytes::default(),
        confirmed_transcript_hash: Bytes::default(),
        extensions: Extensions::default(),
    };
    let signed = AuthenticatedContent::sign(suite, signer, wire_format, content, &context)?;
    let message = PublicMessage::protect(suite, &[], &context, signed)?;
    Ok(MlsMessage::PublicMessage(Box::new(message)))
}
