//! Proposing a change without making it (RFC 9420, section 12.1).

use super::Group;
use super::components::{check_known, check_known_ephemeral};
use super::error::ProposalError;
use super::list::{check_psks, check_reinit};
use super::proposals::{check_key_package, known};
use super::signatures::Signatures;
use crate::code_point::WireFormat;
use crate::component::safe_aad;
use crate::context::Context;
use crate::crypto::{HpkeKeyPair, SignatureKeyPair};
use crate::error::{Error, InvalidMessage};
use crate::extension::{Extensions, RequiredCapabilities};
use crate::framing::{AuthenticatedContent, Content, FramedContent, Sender};
use crate::key_package::KeyPackage;
use crate::leaf_node::{LeafNode, LeafNodeSource, LeafParameters, LeafPosition};
use crate::message::MlsMessage;
use crate::message_keys::MessageKeys;
use crate::proposal::{Proposal, ProposalRef};
use crate::records::Changes;
use crate::tree::leaf_validation::Standing;
use crate::tree::{Capability, LeafRules};

/// A proposal that was made.
#[derive(Debug)]
pub struct Proposed {
    /// For the members.
    pub message: MlsMessage,
    /// What a commit names it by.
    pub reference: ProposalRef,
    /// The group that knows the proposal.
    pub group: Group,
    /// What to store before the message is sent.
    pub changes: Changes,
}

impl Group {
    /// Proposes anything but an Update of our own leaf, which [`propose_update`](Self::propose_update)
    /// does. `keys` are the message keys of the group's epoch, `signer` is the key in our leaf. If
    /// this fails, `keys` is unchanged.
    ///
    /// # Errors
    /// All the caller's: [`Error::GroupSuspended`], [`Error::WrongSigner`], [`Error::WrongEpoch`], [`Error::WrongGroup`],
    /// [`Error::RatchetExhausted`], [`Error::UnexpectedWireFormat`], [`Error::TooManyProposals`],
    /// [`ProposalError::UpdateOfCommitter`] for an Update, [`ProposalError::NoSuchMember`] for a
    /// Remove of nobody, [`ProposalError::KeyPackage`] for an Add that is not valid, what a commit
    /// would be refused for with a GroupContextExtensions, a PSK or a ReInit that is not valid,
    /// [`ProposalError::ExternalInit`], [`ProposalError::UnsupportedProposal`],
    /// [`ProposalError::UnknownComponent`], [`ProposalError::SecondSelfRemove`],
    /// [`InvalidMessage::EncryptedSelfRemove`] and [`InvalidMessage::SafeAad`].
    #[allow(clippy::too_many_arguments)]
    pub fn propose(
        &self,
        keys: &mut MessageKeys,
        signer: &SignatureKeyPair,
        proposal: Proposal,
        authenticated_data: &[u8],
        wire_format: WireFormat,
        ctx: &mut Context<'_>,
    ) -> Result<Proposed, Error> {
        self.check_active()?;
        match &proposal {
            Proposal::Update(_) => return Err(ProposalError::UpdateOfCommitter.into()),
            Proposal::Remove(remove) if self.tree().leaf(remove.removed).is_none() => {
                return Err(ProposalError::NoSuchMember(remove.removed).into());
            }
            Proposal::Add(add) => self.check_key_package(&add.key_package, ctx)?,
            Proposal::GroupContextExtensions(new) => self.check_extensions(&new.extensions, ctx)?,
            Proposal::PreSharedKey(psk) => {
                check_psks(std::slice::from_ref(&psk.psk), self.suite(), None)?;
            }
            Proposal::ExternalInit(_) => return Err(ProposalError::ExternalInit.into()),
            Proposal::ReInit(reinit) => check_reinit(reinit, self.group_context())?,
            Proposal::AppDataUpdate(update) => check_known(update.component_id, ctx.components)?,
            Proposal::AppEphemeral(data) => {
                check_known_ephemeral(data.component_id, ctx.components)?
            }
            Proposal::SelfRemove if wire_format != WireFormat::PUBLIC_MESSAGE => {
                return Err(InvalidMessage::EncryptedSelfRemove.into());
            }
            Proposal::SelfRemove if self.removes_itself() => {
                return Err(ProposalError::SecondSelfRemove.into());
            }
            Proposal::Remove(_) | Proposal::SelfRemove => {}
        }
        let proposal_type = proposal.proposal_type();
        if !self
            .tree()
            .everybody_has(Capability::Proposal(proposal_type))
        {
            return Err(ProposalError::UnsupportedProposal(proposal_type).into());
        }
        self.send_proposal(
            keys,
            signer,
            proposal,
            None,
            authenticated_data,
            wire_format,
            ctx,
        )
    }

    /// Whether a SelfRemove of ours waits.
    fn removes_itself(&self) -> bool {
        let own = Sender::Member(self.own_index());
        let mut proposals = self.state().proposals.iter();
        proposals
            .any(|(_, pending)| pending.sender == own && pending.proposal == Proposal::SelfRemove)
    }

    /// Proposes to replace our own leaf by one with fresh keys. The private key waits with the
    /// proposal.
    ///
    /// # Errors
    /// As [`propose`](Self::propose), and [`ProposalError::Update`] if the new leaf is not valid.
    pub fn propose_update(
        &self,
        keys: &mut MessageKeys,
        signer: &SignatureKeyPair,
        leaf: Option<LeafParameters>,
        authenticated_data: &[u8],
        wire_format: WireFormat,
        ctx: &mut Context<'_>,
    ) -> Result<Proposed, Error> {
        self.check_active()?;
        let leaf_key = self.suite().kem_key_pair(ctx.rng);
        let leaf_node = LeafNode::sign(
            self.suite(),
            signer,
            leaf.unwrap_or_else(|| self.own_leaf().parameters()),
            leaf_key.public_key().clone(),
            LeafNodeSource::Update,
            Some(LeafPosition {
                group_id: self.group_id(),
                leaf_index: self.own_index(),
            }),
        )?;
        let leaf = self.own_index();
        let required = known(self.extensions()).map_err(ProposalError::MalformedExtension)?;
        self.leaf_rules(required.as_ref(), ctx)
            .check_new(
                &leaf_node,
                Standing::Update {
                    old: &self.own_leaf(),
                },
            )
            .map_err(|error| ProposalError::Update { leaf, error })?;
        let proposal = Proposal::update(leaf_node);
        let key = Some(leaf_key);
        self.send_proposal(
            keys,
            signer,
            proposal,
            key,
            authenticated_data,
            wire_format,
            ctx,
        )
    }

    /// Checks a KeyPackage as it has to be before its client is added (RFC 9420, section 10.1). Its
    /// lifetime is judged at `ctx.now`.
    ///
    /// # Errors
    /// [`ProposalError::KeyPackage`], to the blame of its owner.
    pub fn check_key_package(
        &self,
        key_package: &KeyPackage,
        ctx: &mut Context<'_>,
    ) -> Result<(), Error> {
        self.check_addition(key_package, self.extensions(), ctx)
    }

    /// Checks a KeyPackage as a commit does that adds it and makes these the group's extensions; so it
    /// tells which one is not valid where many are added.
    ///
    /// # Errors
    /// [`ProposalError::KeyPackage`], to the blame of its owner; [`ProposalError::MalformedExtension`].
    pub fn check_addition(
        &self,
        key_package: &KeyPackage,
        extensions: &Extensions,
        ctx: &mut Context<'_>,
    ) -> Result<(), Error> {
        let required = known(extensions).map_err(ProposalError::MalformedExtension)?;
        let rules = LeafRules {
            extensions,
            ..self.leaf_rules(required.as_ref(), ctx)
        };
        let mut signatures = Signatures::default();
        check_key_package(key_package, &rules, &mut signatures)
            .map_err(ProposalError::KeyPackage)?;
        Ok(signatures.verify(self.suite(), extensions, ctx)?)
    }

    /// The rules for leaf nodes in this epoch.
    fn leaf_rules<'a>(
        &'a self,
        required: Option<&'a RequiredCapabilities>,
        ctx: &'a Context<'_>,
    ) -> LeafRules<'a> {
        LeafRules {
            version: self.group_context().version,
            suite: self.suite(),
            extensions: self.extensions(),
            required,
            authentication_service: ctx.authentication_service,
            now: ctx.now,
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn send_proposal(
        &self,
        keys: &mut MessageKeys,
        signer: &SignatureKeyPair,
        proposal: Proposal,
        own_leaf_key: Option<HpkeKeyPair>,
        authenticated_data: &[u8],
        wire_format: WireFormat,
        ctx: &mut Context<'_>,
    ) -> Result<Proposed, Error> {
        self.check_suite(ctx)?;
        self.check_keys(keys)?;
        self.check_signer(signer)?;
        let sender = Sender::Member(self.own_index());
        let content = FramedContent {
            group_id: self.group_context().group_id.clone(),
            epoch: self.epoch(),
            sender,
            authenticated_data: safe_aad::framed(
                safe_aad::is_used(self.extensions()),
                authenticated_data,
            )?,
            content: Content::Proposal(Box::new(proposal.clone())),
        };
        let context = self.group_context();
        let content =
            AuthenticatedContent::sign(self.suite(), signer, wire_format, content, context)?;
        let reference = ProposalRef::from(content.proposal_ref(self.suite()));
        let group = self
            .with_proposal(reference.clone(), sender, proposal, own_leaf_key)
            .map_err(|_| Error::TooManyProposals)?;
        let (message, mut changes) = self.protect(content, keys, 0, ctx.rng)?;
        group.record_changes(Some(self), &mut changes);
        Ok(Proposed {
            message,
            reference,
            group,
            changes,
        })
    }
}
