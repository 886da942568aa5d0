//! Content, who says it, and the signature over both (RFC 9420, sections 6 and 6.1).

use crate::code_point::WireFormat;
use crate::codec::{Bytes, Decode, DecodeError, Encode, Reader};
use crate::commit::Commit;
use crate::crypto::labels::signed_data_of;
use crate::crypto::{CryptoError, Hash, SignatureKeyPair, Suite};
use crate::error::{Error, InvalidMessage};
use crate::group_context::GroupContext;
use crate::proposal::{Proposal, ProposalType};
use crate::tree_math::LeafIndex;

/// Label of a message's signature.
pub const FRAMED_CONTENT_TBS: &str = "FramedContentTBS";

/// Label of a proposal's reference.
pub const PROPOSAL_REFERENCE: &str = "MLS 1.0 Proposal Reference";

crate::tls_enum! {
    /// What a message holds.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub enum ContentType: u8 {
        /// Application data.
        Application = 1,
        /// A proposal.
        Proposal = 2,
        /// A commit.
        Commit = 3,
    }
}

crate::tls_enum! {
    /// Who sends.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Sender: u8 {
        /// A member, by its leaf.
        Member(LeafIndex) = 1,
        /// One of the group's external senders, by its place in their list.
        External(u32) = 2,
        /// Somebody who proposes to be added.
        NewMemberProposal = 3,
        /// Somebody who joins by an external commit.
        NewMemberCommit = 4,
    }
}

crate::tls_enum! {
    /// The content, after its type.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub enum Content: u8 {
        /// Application data.
        Application(Bytes) = 1,
        /// A proposal.
        Proposal(Box<Proposal>) = 2,
        /// A commit.
        Commit(Box<Commit>) = 3,
    }
}

impl Content {
    /// The type.
    #[must_use]
    pub fn content_type(&self) -> ContentType {
        match self {
            Self::Application(_) => ContentType::Application,
            Self::Proposal(_) => ContentType::Proposal,
            Self::Commit(_) => ContentType::Commit,
        }
    }

    /// About how many bytes the encoding takes.
    pub(crate) fn encoded_capacity(&self) -> usize {
        match self {
            Self::Application(data) => data.len() + 8,
            Self::Proposal(_) => 1024,
            Self::Commit(commit) => commit.encoded_capacity(),
        }
    }

    /// Writes the content without its type, as a PrivateMessage holds it.
    pub(super) fn encode_body(&self, out: &mut Vec<u8>) {
        match self {
            Self::Application(data) => data.encode(out),
            Self::Proposal(proposal) => proposal.encode(out),
            Self::Commit(commit) => commit.encode(out),
        }
    }

    /// Reads content of a type that is known from elsewhere.
    pub(super) fn decode_body(
        content_type: ContentType,
        reader: &mut Reader<'_>,
    ) -> Result<Self, DecodeError> {
        Ok(match content_type {
            ContentType::Application => Self::Application(Decode::decode(reader)?),
            ContentType::Proposal => Self::Proposal(Decode::decode(reader)?),
            ContentType::Commit => Self::Commit(Decode::decode(reader)?),
        })
    }
}

crate::tls_struct! {
    /// What somebody says to a group in an epoch.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct FramedContent {
        /// The group.
        pub group_id: Bytes,
        /// The epoch.
        pub epoch: u64,
        /// Who sends.
        pub sender: Sender,
        /// Data in clear that the signature covers.
        pub authenticated_data: Bytes,
        /// The content, with its type in front.
        pub content: Content,
    }
}

impl FramedContent {
    /// Checks that this kind of sender may send this kind of content (sections 6.1 and 12.1.8).
    ///
    /// # Errors
    /// [`InvalidMessage::SenderType`] or [`InvalidMessage::SenderProposal`], the sender's.
    pub fn check_sender_type(&self) -> Result<(), InvalidMessage> {
        let proposal = match (self.sender, &self.content) {
            (Sender::Member(_), _) | (Sender::NewMemberCommit, Content::Commit(_)) => return Ok(()),
            (Sender::External(_) | Sender::NewMemberProposal, Content::Proposal(proposal)) => {
                proposal.proposal_type()
            }
            _ => return Err(InvalidMessage::SenderType),
        };
        let fits = match self.sender {
            Sender::External(_) => proposal.may_be_external(),
            _ => proposal == ProposalType::ADD,
        };
        if fits {
            Ok(())
        } else {
            Err(InvalidMessage::SenderProposal(proposal))
        }
    }
}

/// What proves a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FramedContentAuthData {
    /// By the sender's signature key.
    pub signature: Bytes,
    /// The MAC by the new epoch's confirmation key, in commits only.
    pub confirmation_tag: Option<Bytes>,
}

impl FramedContentAuthData {
    pub(super) fn decode(
        content_type: ContentType,
        reader: &mut Reader<'_>,
    ) -> Result<Self, DecodeError> {
        let signature = Bytes::decode(reader)?;
        let confirmation_tag = match content_type {
            ContentType::Commit => Some(Bytes::decode(reader)?),
            ContentType::Application | ContentType::Proposal => None,
        };
        Ok(Self {
            signature,
            confirmation_tag,
        })
    }
}

/// The confirmation tag is written as it is: present in commits, absent elsewhere.
impl Encode for FramedContentAuthData {
    fn encode(&self, out: &mut Vec<u8>) {
        self.signature.encode(out);
        if let Some(tag) = &self.confirmation_tag {
            tag.encode(out);
        }
    }
}

/// Signed content, independent of whether it travels encrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthenticatedContent {
    /// How it travels, which the signature covers.
    pub wire_format: WireFormat,
    /// What is said.
    pub content: FramedContent,
    /// The proof.
    pub auth: FramedContentAuthData,
}

impl AuthenticatedContent {
    /// Signs content. A commit's confirmation tag is not known yet and stays empty: it depends on the
    /// signature, through the transcript.
    ///
    /// `context` is that of the content's epoch. It is signed for members and external commits.
    ///
    /// # Errors
    /// [`CryptoError::InvalidPrivateKey`], the caller's.
    pub fn sign(
        suite: &dyn Suite,
        key_pair: &SignatureKeyPair,
        wire_format: WireFormat,
        content: FramedContent,
        context: &GroupContext,
    ) -> Result<Self, CryptoError> {
        let signature = suite.sign(key_pair, &signed(wire_format, &content, context))?;
        let auth = FramedContentAuthData {
            signature,
            confirmation_tag: None,
        };
        Ok(Self {
            wire_format,
            content,
            auth,
        })
    }

    /// Verifies the signature by the sender's key, which the caller finds by [`Sender`].
    ///
    /// # Errors
    /// [`CryptoError::InvalidSignature`] or [`CryptoError::InvalidPublicKey`], the sender's.
    pub fn verify(
        &self,
        suite: &dyn Suite,
        public_key: &[u8],
        context: &GroupContext,
    ) -> Result<(), CryptoError> {
        let signed = signed(self.wire_format, &self.content, context);
        suite.verify(public_key, &signed, &self.auth.signature)
    }

    /// `FramedContentTBS`.
    #[must_use]
    pub fn tbs(&self, context: &GroupContext) -> Vec<u8> {
        let mut tbs = Vec::with_capacity(tbs_capacity(&self.content));
        encode_tbs(self.wire_format, &self.content, context, &mut tbs);
        tbs
    }

    /// Checks that this content was made to travel so, since its signature says how.
    pub(super) fn check_wire_format(&self, wire_format: WireFormat) -> Result<(), Error> {
        if self.wire_format == wire_format {
            Ok(())
        } else {
            Err(Error::UnexpectedWireFormat(self.wire_format))
        }
    }

    /// `MakeProposalRef` (section 5.2), for content that is a proposal.
    #[must_use]
    pub fn proposal_ref(&self, suite: &dyn Suite) -> Hash {
        suite.ref_hash(PROPOSAL_REFERENCE.as_bytes(), &self.to_bytes())
    }
}

impl Encode for AuthenticatedContent {
    fn encode(&self, out: &mut Vec<u8>) {
        self.wire_format.encode(out);
        self.content.encode(out);
        self.auth.encode(out);
    }
}

impl Decode for AuthenticatedContent {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let wire_format = WireFormat::decode(reader)?;
        let content = FramedContent::decode(reader)?;
        let auth = FramedContentAuthData::decode(content.content.content_type(), reader)?;
        Ok(Self {
            wire_format,
            content,
            auth,
        })
    }
}

/// What is really signed: the label and `FramedContentTBS`, written once, since commits may be large.
fn signed(wire_format: WireFormat, content: &FramedContent, context: &GroupContext) -> Vec<u8> {
    signed_data_of(FRAMED_CONTENT_TBS, tbs_capacity(content), |out| {
        encode_tbs(wire_format, content, context, out);
    })
}

/// About how many bytes `FramedContentTBS` takes.
fn tbs_capacity(content: &FramedContent) -> usize {
    content.content.encoded_capacity() + content.authenticated_data.len() + 512
}

fn encode_tbs(
    wire_format: WireFormat,
    content: &FramedContent,
    context: &GroupContext,
    out: &mut Vec<u8>,
) {
    context.version.encode(out);
    wire_format.encode(out);
    content.encode(out);
    match content.sender {
        Sender::Member(_) | Sender::NewMemberCommit => context.encode(out),
        Sender::External(_) | Sender::NewMemberProposal => {}
    }
}
