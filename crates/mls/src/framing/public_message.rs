//! Messages that are authenticated and not encrypted (RFC 9420, section 6.2).

use super::{AuthenticatedContent, Content, FramedContent, FramedContentAuthData, Sender};
use crate::code_point::WireFormat;
use crate::codec::{Bytes, Decode, DecodeError, Encode, Reader};
use crate::crypto::Suite;
use crate::error::{Error, InvalidMessage};
use crate::group_context::GroupContext;

/// A message in clear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicMessage {
    /// What is said.
    pub content: FramedContent,
    /// The proof of who says it.
    pub auth: FramedContentAuthData,
    /// The proof that the sender is a member; members only.
    pub membership_tag: Option<Bytes>,
}

impl PublicMessage {
    /// Makes a message of signed content. `membership_key` and `context` are those of the content's
    /// epoch; they matter for members only.
    ///
    /// # Errors
    /// [`InvalidMessage::UnencryptedApplicationData`], [`InvalidMessage::SenderType`],
    /// [`Error::UnexpectedWireFormat`] if it was signed for another way: the caller's.
    pub fn protect(
        suite: &dyn Suite,
        membership_key: &[u8],
        context: &GroupContext,
        authenticated: AuthenticatedContent,
    ) -> Result<Self, Error> {
        authenticated.check_wire_format(WireFormat::PUBLIC_MESSAGE)?;
        refuse_application_data(&authenticated.content)?;
        authenticated.content.check_sender_type()?;
        let membership_tag = match authenticated.content.sender {
            Sender::Member(_) => Some(suite.mac(membership_key, &tbm(&authenticated, context))),
            _ => None,
        };
        let AuthenticatedContent { content, auth, .. } = authenticated;
        Ok(Self {
            content,
            auth,
            membership_tag,
        })
    }

    /// Checks the membership tag and gives the content. The signature is still to be verified, see
    /// [`AuthenticatedContent::verify`].
    ///
    /// # Errors
    /// [`InvalidMessage::UnencryptedApplicationData`], [`InvalidMessage::SenderType`],
    /// [`InvalidMessage::MembershipTag`],
    /// [`CryptoError::InvalidMac`](crate::crypto::CryptoError::InvalidMac): the sender's.
    pub fn unprotect(
        &self,
        suite: &dyn Suite,
        membership_key: &[u8],
        context: &GroupContext,
    ) -> Result<AuthenticatedContent, Error> {
        refuse_application_data(&self.content)?;
        self.content.check_sender_type()?;
        let authenticated = AuthenticatedContent {
            wire_format: WireFormat::PUBLIC_MESSAGE,
            content: self.content.clone(),
            auth: self.auth.clone(),
        };
        match (self.content.sender, &self.membership_tag) {
            (Sender::Member(_), Some(tag)) => {
                suite.verify_mac(membership_key, &tbm(&authenticated, context), tag)?;
            }
            (Sender::Member(_), None) | (_, Some(_)) => {
                return Err(InvalidMessage::MembershipTag.into());
            }
            (_, None) => {}
        }
        Ok(authenticated)
    }
}

impl Encode for PublicMessage {
    fn encode(&self, out: &mut Vec<u8>) {
        self.content.encode(out);
        self.auth.encode(out);
        if let Some(tag) = &self.membership_tag {
            tag.encode(out);
        }
    }
}

impl Decode for PublicMessage {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let content = FramedContent::decode(reader)?;
        let auth = FramedContentAuthData::decode(content.content.content_type(), reader)?;
        let membership_tag = match content.sender {
            Sender::Member(_) => Some(Bytes::decode(reader)?),
            _ => None,
        };
        Ok(Self {
            content,
            auth,
            membership_tag,
        })
    }
}

/// `AuthenticatedContentTBM`.
fn tbm(authenticated: &AuthenticatedContent, context: &GroupContext) -> Vec<u8> {
    let mut tbm = authenticated.tbs(context);
    authenticated.auth.encode(&mut tbm);
    tbm
}

/// Section 6: application data travels encrypted only.
fn refuse_application_data(content: &FramedContent) -> Result<(), InvalidMessage> {
    match content.content {
        Content::Application(_) => Err(InvalidMessage::UnencryptedApplicationData),
        Content::Proposal(_) | Content::Commit(_) => Ok(()),
    }
}
