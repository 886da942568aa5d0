//! From an epoch's secrets to the values that a member works with in it (RFC 9420, section 8).

use std::sync::Arc;

use super::error::{CommitError, ProposalError};
use super::{Group, Secrets, State};
use crate::codec::Bytes;
use crate::context::Context;
use crate::crypto::{Secret, SignatureKeyPair, Suite};
use crate::error::Error;
use crate::extension::{ExtensionType, Extensions};
use crate::framing::AuthenticatedContent;
use crate::group_context::GroupContext;
use crate::group_info::GroupInfo;
use crate::key_schedule::{EpochSecrets, joiner_secret, member_secret};
use crate::message_keys::{EpochKeys, MessageKeys};
use crate::psk::{PreSharedKeyID, psk_secret};
use crate::records::Changes;
use crate::transcript::{confirmed_transcript_hash, interim_transcript_hash};
use crate::tree::OwnKeys;
use crate::tree::Tree;

/// The key schedule's way through a commit.
pub(super) struct Transition {
    /// The new epoch's context.
    pub context: GroupContext,
    pub joiner_secret: Secret,
    /// What a Welcome's key comes from.
    pub member_secret: Secret,
    pub secrets: EpochSecrets,
}

impl Group {
    /// The context that path secrets are encrypted under: the new epoch's, with the old transcript
    /// (RFC 9420, section 12.4.1). `tree` is the new tree.
    pub(super) fn provisional_context(
        &self,
        tree: &mut Tree,
        extensions: Extensions,
    ) -> Result<GroupContext, CommitError> {
        let old = &self.state().context;
        Ok(GroupContext {
            epoch: old.epoch.checked_add(1).ok_or(CommitError::LastEpoch)?,
            tree_hash: Bytes::from(tree.tree_hash(self.suite())),
            extensions,
            ..old.clone()
        })
    }

    /// Runs the key schedule for a signed commit.
    pub(super) fn advance(
        &self,
        provisional: GroupContext,
        commit: &AuthenticatedContent,
        commit_secret: Option<Secret>,
        psks: &[PreSharedKeyID],
        ctx: &Context<'_>,
    ) -> Result<Transition, Error> {
        let suite = self.suite();
        let state = self.state();
        let confirmed = confirmed_transcript_hash(suite, &state.interim_transcript_hash, commit);
        let context = GroupContext {
            confirmed_transcript_hash: Bytes::from(confirmed),
            ..provisional
        };
        let psks = Self::psk_secrets(psks, ctx)?;
        let psk_secret = psk_secret(suite, &psks).map_err(|_| ProposalError::TooManyPsks)?;
        let commit_secret = commit_secret.unwrap_or_else(|| Secret::zero(suite.hash_length()));
        let joiner_secret =
            joiner_secret(suite, &state.secrets.init_secret, &commit_secret, &context);
        let member_secret = member_secret(suite, &joiner_secret, &psk_secret);
        let secrets = EpochSecrets::derive(suite, &member_secret, &context);
        Ok(Transition {
            context,
            joiner_secret,
            member_secret,
            secrets,
        })
    }

    /// The values of a new epoch, whose secrets and tag were checked or made by the caller. The
    /// changes are those of the message keys alone.
    pub(super) fn enter(
        suite: &'static dyn Suite,
        context: GroupContext,
        tree: Tree,
        own_keys: OwnKeys,
        secrets: EpochSecrets,
        confirmation_tag: Bytes,
    ) -> (Self, MessageKeys, Changes) {
        let interim_transcript_hash = Bytes::from(interim_transcript_hash(
            suite,
            &context.confirmed_transcript_hash,
            &confirmation_tag,
        ));
        let epoch_keys = EpochKeys {
            context: context.clone(),
            own: own_keys.leaf_index(),
            leaf_count: 1 << tree.depth(),
            sender_data_secret: secrets.sender_data_secret,
            encryption_secret: secrets.encryption_secret,
            application_export_secret: secrets.application_export_secret,
        };
        let (keys, changes) = MessageKeys::new(suite, epoch_keys, Arc::new(tree.clone()));
        let secrets = Secrets {
            exporter_secret: secrets.exporter_secret,
            external_secret: secrets.external_secret,
            membership_key: secrets.membership_key,
            resumption_psk: secrets.resumption_psk,
            epoch_authenticator: secrets.epoch_authenticator,
            init_secret: secrets.init_secret,
        };
        let group = Self(Arc::new(State {
            suite,
            context,
            tree,
            own_keys,
            confirmation_tag,
            interim_transcript_hash,
            secrets,
            proposals: imbl::OrdMap::new(),
        }));
        (group, keys, changes)
    }

    /// A GroupInfo of this epoch. The signer is not checked.
    pub(super) fn signed_group_info(
        &self,
        signer: &SignatureKeyPair,
        with_tree: bool,
        mut extensions: Extensions,
    ) -> Result<GroupInfo, Error> {
        if with_tree {
            extensions.set_data(ExtensionType::RATCHET_TREE, self.tree_bytes());
        }
        let state = self.state();
        Ok(GroupInfo::sign(
            self.suite(),
            signer,
            state.context.clone(),
            extensions,
            state.confirmation_tag.clone(),
            self.own_index(),
        )?)
    }
}
