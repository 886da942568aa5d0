//! From an epoch's secrets to the values that a member works with in it (RFC 9420, section 8).

use std::sync::Arc;

use super::error::{CommitError, ProposalError};
use super::pending::Pending;
use super::resumption::PastPsks;
use super::{ActiveSecrets, Group, Secrets, State};
use crate::codec::Bytes;
use crate::crypto::{Secret, SignatureKeyPair, Suite};
use crate::error::Error;
use crate::extension::{ExtensionType, Extensions};
use crate::framing::AuthenticatedContent;
use crate::group_context::GroupContext;
use crate::group_info::GroupInfo;
use crate::key_schedule::{EpochSecrets, joiner_secret, member_secret};
use crate::message_keys::{EpochKeys, MessageKeys, ReplacedKeys};
use crate::proposal::ReInit;
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

/// What whoever has a GroupInfo and the tree knows of an epoch, member or not.
#[derive(Clone)]
pub(super) struct PublicState {
    pub suite: &'static dyn Suite,
    pub context: GroupContext,
    pub tree: Tree,
    pub confirmation_tag: Bytes,
    pub interim_transcript_hash: Bytes,
}

impl PublicState {
    pub fn new(
        suite: &'static dyn Suite,
        context: GroupContext,
        tree: Tree,
        confirmation_tag: Bytes,
    ) -> Self {
        let interim_transcript_hash = Bytes::from(interim_transcript_hash(
            suite,
            &context.confirmed_transcript_hash,
            &confirmation_tag,
        ));
        Self {
            suite,
            context,
            tree,
            confirmation_tag,
            interim_transcript_hash,
        }
    }

    /// The context that path secrets are encrypted under: the new epoch's, with the old transcript
    /// (RFC 9420, section 12.4.1). `tree` is the new tree.
    pub fn provisional_context(
        &self,
        tree: &mut Tree,
        extensions: Extensions,
    ) -> Result<GroupContext, CommitError> {
        let old = &self.context;
        Ok(GroupContext {
            epoch: old.epoch.checked_add(1).ok_or(CommitError::LastEpoch)?,
            tree_hash: Bytes::from(tree.tree_hash(self.suite)),
            extensions,
            ..old.clone()
        })
    }

    /// Runs the key schedule for a signed commit.
    pub fn advance(
        &self,
        provisional: GroupContext,
        commit: &AuthenticatedContent,
        init_secret: &Secret,
        commit_secret: Option<Secret>,
        psks: &[(PreSharedKeyID, Secret)],
    ) -> Result<Transition, Error> {
        let suite = self.suite;
        let confirmed = confirmed_transcript_hash(suite, &self.interim_transcript_hash, commit);
        let context = GroupContext {
            confirmed_transcript_hash: Bytes::from(confirmed),
            ..provisional
        };
        let psk_secret = psk_secret(suite, psks).map_err(|_| ProposalError::TooManyPsks)?;
        let commit_secret = commit_secret.unwrap_or_else(|| Secret::zero(suite.hash_length()));
        let joiner_secret = joiner_secret(suite, init_secret, &commit_secret, &context);
        let member_secret = member_secret(suite, &joiner_secret, &psk_secret);
        let secrets = EpochSecrets::derive(suite, &member_secret, &context);
        Ok(Transition {
            context,
            joiner_secret,
            member_secret,
            secrets,
        })
    }
}

/// What an epoch takes over from the one before.
#[derive(Default)]
pub(super) struct Past {
    pub psks: PastPsks,
    /// The ReInit of the commit that led to the epoch.
    pub reinit: Option<ReInit>,
    /// Signature keys that the commit changed.
    pub replaced: ReplacedKeys,
}

impl Group {
    /// The values of a new epoch, whose secrets and tag were checked or made by the caller. The
    /// changes are those of the message keys alone.
    ///
    /// After a ReInit nothing is sent and nothing is read (RFC 9420, section 12.4.2), so what only
    /// that would take is dropped here: private keys, and the secrets for messages and commits. So
    /// whoever takes the state of a group that ended can neither read nor write in it.
    pub(super) fn enter(
        public: PublicState,
        own_keys: OwnKeys,
        secrets: EpochSecrets,
        past: Past,
    ) -> (Self, MessageKeys, Changes) {
        let PublicState {
            suite,
            context,
            tree,
            ..
        } = &public;
        let suspended = past.reinit.is_some();
        let own_keys = if suspended {
            own_keys.emptied()
        } else {
            own_keys
        };
        let epoch_keys = EpochKeys {
            context: context.clone(),
            own: own_keys.leaf_index(),
            leaf_count: 1 << tree.depth(),
            replaced: past.replaced,
            suspended,
            sender_data_secret: secrets.sender_data_secret,
            encryption_secret: secrets.encryption_secret,
            application_export_secret: secrets.application_export_secret,
        };
        let (keys, changes) = MessageKeys::new(*suite, epoch_keys, Arc::new(tree.clone()));
        let active = ActiveSecrets {
            external_secret: secrets.external_secret,
            membership_key: secrets.membership_key,
            init_secret: secrets.init_secret,
        };
        let secrets = Secrets {
            exporter_secret: secrets.exporter_secret,
            resumption_psk: secrets.resumption_psk,
            epoch_authenticator: secrets.epoch_authenticator,
            active: (!suspended).then_some(active),
        };
        let group = Self(Arc::new(State {
            public,
            own_keys,
            secrets,
            proposals: Pending::default(),
            past_psks: Arc::new(past.psks),
            reinit: past.reinit.map(Arc::new),
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
        let public = self.public();
        Ok(GroupInfo::sign(
            self.suite(),
            signer,
            public.context.clone(),
            extensions,
            public.confirmation_tag.clone(),
            self.own_index(),
        )?)
    }
}
