//! Making a commit (RFC 9420, section 12.4.1).

use rand_core::CryptoRng;
use zeroize::Zeroizing;

use super::Group;
use super::epoch::{Past, PublicState, Transition};
use super::error::CommitError;
use super::gather::{Gathered, IncludeProposals};
use super::process::CommitEffects;
use super::proposals::Applied;
use super::resumption::{PastPsks, psk_secrets};
use super::successor::Link;
use crate::code_point::WireFormat;
use crate::codec::{Bytes, Encode};
use crate::commit::Commit;
use crate::component::{ComponentID, safe_aad};
use crate::context::{Context, PskStore};
use crate::crypto::{Secret, SignatureKeyPair};
use crate::error::Error;
use crate::extension::Extensions;
use crate::framing::{AuthenticatedContent, Content, FramedContent, PublicMessage, Sender};
use crate::group_info::GroupInfo;
use crate::key_package::KeyPackage;
use crate::key_schedule::WelcomeKey;
use crate::leaf_node::LeafParameters;
use crate::message::MlsMessage;
use crate::message_keys::MessageKeys;
use crate::proposal::{Proposal, ReInit};
use crate::psk::PreSharedKeyID;
use crate::records::Changes;
use crate::transcript::confirmation_tag;

use crate::tree::path::{NewPath, SEALS};
use crate::tree_math::LeafIndex;
use crate::tree_pages::{PageUpdate, TreePages};
use crate::welcome::{EncryptedGroupSecrets, GroupSecrets, PathSecret, WELCOME, Welcome};
use crate::workers::by_chunks;

/// A commit in the making. Its methods say what it is to do; [`build`](Self::build) makes it.
#[derive(Clone, Debug)]
#[must_use]
pub struct CommitBuilder {
    pub(super) group: Group,
    pub(super) include: IncludeProposals,
    pub(super) proposals: Vec<Proposal>,
    leaf: Option<LeafParameters>,
    new_signer: Option<SignatureKeyPair>,
    without_path: bool,
    wire_format: WireFormat,
    authenticated_data: Bytes,
    tree_in_welcome: bool,
    tree_pages: Option<TreePages>,
    group_info_extensions: Extensions,
    padding: usize,
    pub(super) link: Option<Link>,
}

/// A commit that was made and not yet ordered, with all that follows from it. Dropping it is how it
/// is given up. It holds the new epoch only: to merge it, take `group` and `keys`, or apply
/// `changes` to the records and load both.
#[derive(Debug)]
pub struct PendingCommit {
    /// For the members.
    pub message: MlsMessage,
    /// For those added, if there are any.
    pub welcome: Option<Welcome>,
    /// The GroupInfo of the new epoch: that of the Welcome, or for a commit from outside the one that was
    /// asked for. There is none if nobody was added; [`Group::group_info`] makes one when it is needed.
    pub group_info: Option<GroupInfo>,
    /// The group in the new epoch.
    pub group: Group,
    /// The message keys of the new epoch.
    pub keys: MessageKeys,
    /// What to store when the commit is merged: from the old epoch's records to the new one's. With
    /// [`Group::proposals_deletion`] of the group as it is then, for proposals that came since.
    pub changes: Changes,
    /// What the commit does to the tree's pages, if [`CommitBuilder::tree_pages`] was called; what to
    /// store of it is in `changes`.
    pub pages: Option<PageUpdate>,
    /// What to store before the commit is sent: the key of the old epoch that encrypted it is used
    /// up, whatever becomes of it.
    pub sent: Changes,
    /// What the commit does.
    pub effects: CommitEffects,
}

impl Group {
    /// Begins a commit. Unless told otherwise it takes in all pending proposals (those from outside and,
    /// if there is nothing else, a ReInit too, see [`IncludeProposals`]), has a path, is encrypted, and
    /// puts the tree into the Welcome.
    pub fn commit(&self) -> CommitBuilder {
        CommitBuilder {
            group: self.clone(),
            include: IncludeProposals::All,
            proposals: Vec::new(),
            leaf: None,
            new_signer: None,
            without_path: false,
            wire_format: WireFormat::PRIVATE_MESSAGE,
            authenticated_data: Bytes::default(),
            tree_in_welcome: true,
            tree_pages: None,
            group_info_extensions: Extensions::default(),
            padding: 0,
            link: None,
        }
    }
}

impl CommitBuilder {
    /// Adds a client.
    #[allow(clippy::should_implement_trait)] // The RFC's word, and nothing else would be added.
    pub fn add(self, key_package: KeyPackage) -> Self {
        self.proposal(Proposal::add(key_package))
    }

    /// Removes a member. If it removes itself by a proposal that the commit takes in, that one does it.
    pub fn remove(self, leaf: LeafIndex) -> Self {
        self.proposal(Proposal::remove(leaf))
    }

    /// Replaces the group's extensions.
    pub fn group_context_extensions(self, extensions: Extensions) -> Self {
        self.proposal(Proposal::group_context_extensions(extensions))
    }

    /// Brings a pre-shared key in, which `ctx.psks` must have when the commit is built, unless it is a
    /// resumption PSK that the group keeps itself.
    pub fn psk(self, psk: PreSharedKeyID) -> Self {
        self.proposal(Proposal::psk(psk))
    }

    /// Updates the data of a component in the group.
    pub fn app_data_update(self, component_id: ComponentID, update: impl Into<Bytes>) -> Self {
        self.proposal(Proposal::app_data_update(component_id, update))
    }

    /// Brings data for a component along.
    pub fn app_ephemeral(self, component_id: ComponentID, data: impl Into<Bytes>) -> Self {
        self.proposal(Proposal::app_ephemeral(component_id, data))
    }

    /// Ends the group in favour of a new one, see [`Group::successor`]. A ReInit is alone in its commit,
    /// so no pending proposals are taken in.
    pub fn reinit(self, reinit: ReInit) -> Self {
        self.proposal(Proposal::reinit(reinit))
    }

    /// Takes in a proposal by value.
    pub fn proposal(mut self, proposal: Proposal) -> Self {
        self.proposals.push(proposal);
        self
    }

    /// Which pending proposals to take in.
    pub fn include_proposals(mut self, include: IncludeProposals) -> Self {
        self.include = include;
        self
    }

    /// Gives our leaf other parameters. The commit will have a path.
    pub fn own_leaf(mut self, leaf: LeafParameters) -> Self {
        self.leaf = Some(leaf);
        self
    }

    /// Gives our leaf another signature key, which signs from the new epoch on. The commit will have
    /// a path.
    pub fn signature_key(mut self, signer: SignatureKeyPair) -> Self {
        self.new_signer = Some(signer);
        self
    }

    /// Leaves the path out where the proposals allow it. Such a commit does not renew our own keys.
    pub fn without_path(mut self) -> Self {
        self.without_path = true;
        self
    }

    /// How the message is framed: `PRIVATE_MESSAGE` or `PUBLIC_MESSAGE`.
    pub fn wire_format(mut self, wire_format: WireFormat) -> Self {
        self.wire_format = wire_format;
        self
    }

    /// Data in clear that the commit's signature covers; in a group that uses it, an encoded
    /// [`SafeAAD`](crate::component::SafeAAD).
    pub fn authenticated_data(mut self, data: impl Into<Bytes>) -> Self {
        self.authenticated_data = data.into();
        self
    }

    /// Whether the Welcome's GroupInfo holds the ratchet tree.
    pub fn tree_in_welcome(mut self, tree_in_welcome: bool) -> Self {
        self.tree_in_welcome = tree_in_welcome;
        self
    }

    /// Writes the commit's [pages](crate::tree_pages) too, from those of the group's epoch. If the tree
    /// has pages then, the GroupInfo tells of them instead of holding the tree.
    pub fn tree_pages(mut self, tree_pages: &TreePages) -> Self {
        self.tree_pages = Some(tree_pages.clone());
        self
    }

    /// Further extensions of the GroupInfo.
    pub fn group_info_extensions(mut self, extensions: Extensions) -> Self {
        self.group_info_extensions = extensions;
        self
    }

    /// Zero bytes to add to the message if it is encrypted.
    pub fn padding(mut self, padding: usize) -> Self {
        self.padding = padding;
        self
    }

    /// Makes the commit. `keys` are the message keys of the group's epoch, `signer` is the key in
    /// our leaf. If this fails, `keys` is unchanged.
    ///
    /// # Errors
    /// All to the blame of the caller, or of the author of a proposal that the caller took in:
    /// - [`Error::Proposal`]: the proposals cannot be committed.
    /// - [`Error::Commit`]: our new leaf is not valid, or somebody's key cannot be encrypted to.
    /// - [`Error::TreePages`]: the pages are of another epoch.
    /// - [`Error::GroupSuspended`], [`Error::WrongSigner`], [`Error::WrongEpoch`],
    ///   [`Error::RatchetExhausted`],
    ///   [`Error::UnexpectedWireFormat`].
    pub fn build(
        self,
        keys: &mut MessageKeys,
        signer: &SignatureKeyPair,
        ctx: &mut Context<'_>,
    ) -> Result<PendingCommit, Error> {
        self.prepare(keys, signer, ctx)?.finish(keys, ctx)
    }

    /// Ties the group to another one, for its first commit.
    pub(super) fn linked(mut self, link: Link) -> Self {
        self.link = Some(link);
        self
    }

    /// Makes all of the commit but its framing.
    pub(super) fn prepare(
        mut self,
        keys: &MessageKeys,
        signer: &SignatureKeyPair,
        ctx: &mut Context<'_>,
    ) -> Result<Prepared, Error> {
        let group = self.group.clone();
        let (suite, public) = (group.suite(), group.public());
        let own = group.own_index();
        let sender = Sender::Member(own);
        group.check_suite(ctx)?;
        group.check_keys(keys)?;
        group.check_active()?;
        group.check_signer(signer)?;
        let Gathered {
            proposals,
            sourced,
            mut applied,
            mut tree,
        } = self.gather(ctx)?;
        let new_members = applied.new_members();
        let new_signer = self.new_signer.take();
        let leaf_signer = new_signer.as_ref().unwrap_or(signer);
        let wants_path = !self.without_path || self.leaf.is_some() || new_signer.is_some();

        let new_path = if applied.path_required || wants_path {
            let parameters = self
                .leaf
                .take()
                .unwrap_or_else(|| group.own_leaf().parameters());
            let id = group.group_id();
            let path = tree
                .renew_path(suite, own, parameters, leaf_signer, id, ctx.rng)
                .map_err(CommitError::Path)?;
            public.check_path_leaf(&applied, sender, path.leaf_node(), &tree, ctx)?;
            Some(path)
        } else {
            None
        };
        let provisional =
            public.provisional_context(&mut tree, std::mem::take(&mut applied.extensions))?;
        let path = match &new_path {
            Some(path) => {
                let context = provisional.to_bytes();
                let (workers, rng) = (ctx.workers, &mut *ctx.rng);
                let path = path.encrypt(suite, &tree, &context, &new_members, workers, rng);
                Some(path.map_err(CommitError::Path)?)
            }
            None => None,
        };

        let content = FramedContent {
            group_id: public.context.group_id.clone(),
            epoch: group.epoch(),
            sender,
            authenticated_data: safe_aad::framed(
                safe_aad::is_used(group.extensions()),
                &self.authenticated_data,
            )?,
            content: Content::Commit(Box::new(Commit { proposals, path })),
        };
        let mut commit = AuthenticatedContent::sign(
            suite,
            signer,
            self.wire_format,
            content,
            group.group_context(),
        )?;
        let commit_secret = new_path.as_ref().map(|path| path.commit_secret.clone());
        let Transition {
            context,
            joiner_secret,
            member_secret,
            secrets,
        } = {
            let init_secret = &group.active_secrets()?.init_secret;
            let mut stores: Vec<&dyn PskStore> = vec![&group, ctx.psks];
            stores.extend(
                self.link
                    .iter()
                    .map(|link| &link.predecessor as &dyn PskStore),
            );
            let psks = psk_secrets(&applied.psks, &stores)?;
            public.advance(provisional, &commit, init_secret, commit_secret, &psks)?
        };
        let confirmed = &context.confirmed_transcript_hash;
        let tag = confirmation_tag(suite, &secrets.confirmation_key, confirmed);
        commit.auth.confirmation_tag = Some(tag.clone());

        let own_keys = match &new_path {
            Some(path) => path.own_keys.clone(),
            None => {
                let mut own_keys = group.state().own_keys.clone();
                own_keys.retain_current(&tree);
                own_keys
            }
        };
        let next = PublicState::new(suite, context, tree, tag);
        let past = Past {
            psks: PastPsks::after(&group),
            reinit: applied.reinit.take(),
            replaced: next.tree.replaced_signature_keys(group.tree()),
        };
        let (next, next_keys, mut changes) = Group::enter(next, own_keys, secrets, past);
        next.record_changes(Some(&group), &mut changes);
        let mut extensions = std::mem::take(&mut self.group_info_extensions);
        let pages = self.tree_pages.take();
        let mut pages = pages
            .map(|pages| pages.advance(&group, &next))
            .transpose()?;
        let mut in_pages = false;
        if let Some(update) = &mut pages {
            changes.append(std::mem::take(&mut update.changes));
            if let Some(root) = update.pages.extension() {
                extensions.set(&root);
                in_pages = true;
            }
        }
        let (mut group_info, mut welcome) = (None, None);
        if !applied.added.is_empty() {
            let with_tree = self.tree_in_welcome && !in_pages;
            let info = next.signed_group_info(leaf_signer, with_tree, extensions)?;
            let sealed = WelcomeKey::derive(suite, &member_secret).seal(suite, &info.to_bytes());
            let path = new_path.as_ref();
            welcome = Some(self.welcome(&applied, path, &joiner_secret, sealed, ctx)?);
            group_info = Some(info);
        }
        let path = new_path.as_ref().map(|path| path.leaf_node().clone());
        let effects = CommitEffects::new(sender, path, sourced, applied);
        Ok(Prepared {
            group,
            commit,
            padding: self.padding,
            welcome,
            group_info,
            next,
            next_keys,
            changes,
            pages,
            effects,
        })
    }

    /// One Welcome for all who are added. What does not depend on the recipient is hashed once.
    fn welcome(
        &self,
        applied: &Applied,
        path: Option<&NewPath>,
        joiner_secret: &Secret,
        encrypted_group_info: Vec<u8>,
        ctx: &mut Context<'_>,
    ) -> Result<Welcome, Error> {
        let suite = self.group.suite();
        let info = suite.encrypt_info(WELCOME, &encrypted_group_info);
        // Room for all of it, so that no copy of a secret is left behind by growing.
        let capacity = 256 + applied.psks.to_bytes().len();
        let seal = |(leaf, key_package): &(LeafIndex, KeyPackage), rng: &mut dyn CryptoRng| {
            let path_secret =
                path.and_then(|path| path.secret_for(*leaf))
                    .map(|secret| PathSecret {
                        path_secret: secret.clone(),
                    });
            let group_secrets = GroupSecrets {
                joiner_secret: joiner_secret.clone(),
                path_secret,
                psks: applied.psks.clone(),
            };
            let mut plaintext = Zeroizing::new(Vec::with_capacity(capacity));
            group_secrets.encode(&mut plaintext);
            Ok::<_, Error>(EncryptedGroupSecrets {
                new_member: Bytes::from(key_package.reference(suite)),
                encrypted_group_secrets: suite.hpke_seal(
                    &key_package.init_key,
                    &info,
                    &[],
                    &plaintext,
                    rng,
                )?,
            })
        };
        let sealed = by_chunks(
            ctx.workers,
            &applied.added,
            SEALS,
            ctx.rng,
            |_, chunk, rng| {
                let sealed = chunk.iter().map(|added| seal(added, rng));
                sealed.collect::<Result<Vec<_>, _>>()
            },
        );
        let sealed: Vec<_> = sealed.into_iter().collect::<Result<_, _>>()?;
        let secrets = sealed.into_iter().flatten().collect();
        Ok(Welcome {
            cipher_suite: self.group.cipher_suite(),
            secrets,
            encrypted_group_info: encrypted_group_info.into(),
        })
    }
}

/// A commit that is complete but for its framing, which uses a key up.
pub(super) struct Prepared {
    group: Group,
    commit: AuthenticatedContent,
    padding: usize,
    welcome: Option<Welcome>,
    group_info: Option<GroupInfo>,
    next: Group,
    next_keys: MessageKeys,
    changes: Changes,
    pages: Option<PageUpdate>,
    effects: CommitEffects,
}

impl Prepared {
    /// The group in the new epoch.
    pub fn next(&self) -> &Group {
        &self.next
    }

    /// If this fails, `keys` is unchanged.
    pub fn finish(
        self,
        keys: &mut MessageKeys,
        ctx: &mut Context<'_>,
    ) -> Result<PendingCommit, Error> {
        let (message, sent) = self
            .group
            .protect(self.commit, keys, self.padding, ctx.rng)?;
        Ok(PendingCommit {
            message,
            welcome: self.welcome,
            group_info: self.group_info,
            group: self.next,
            keys: self.next_keys,
            changes: self.changes,
            pages: self.pages,
            sent,
            effects: self.effects,
        })
    }
}

impl Group {
    /// Frames our own signed proposal or commit.
    pub(super) fn protect(
        &self,
        content: AuthenticatedContent,
        keys: &mut MessageKeys,
        padding: usize,
        rng: &mut dyn CryptoRng,
    ) -> Result<(MlsMessage, Changes), Error> {
        match content.wire_format {
            WireFormat::PUBLIC_MESSAGE => {
                let key = &self.active_secrets()?.membership_key;
                let context = self.group_context();
                let message = PublicMessage::protect(self.suite(), key, context, content)?;
                Ok((
                    MlsMessage::PublicMessage(Box::new(message)),
                    Changes::default(),
                ))
            }
            WireFormat::PRIVATE_MESSAGE => {
                let (message, changes) = keys.protect(&content, padding, rng)?;
                Ok((MlsMessage::PrivateMessage(message), changes))
            }
            other => Err(Error::UnexpectedWireFormat(other)),
        }
    }
}
