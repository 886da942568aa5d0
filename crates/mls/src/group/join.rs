//! Joining by a Welcome (RFC 9420, section 12.4.3.1).

use super::Group;
use super::epoch::{Past, PublicState};
use super::error::{JoinError, ProposalError};
use super::list::check_psks;
use super::proposals::known;
use super::resumption::psk_secrets;
use super::successor::{check_link, check_successor, link_of};
use crate::codec::Decode;
use crate::context::{AuthenticationService, Context};
use crate::crypto::{HpkeKeyPair, HpkePublicKey, Secret, Suite};
use crate::error::Error;
use crate::extension::{ExtensionType, RequiredCapabilities};
use crate::group_context::GroupContext;
use crate::group_info::GroupInfo;
use crate::key_package::{KeyPackage, KeyPackageBundle};
use crate::key_schedule::{EpochSecrets, WelcomeKey, member_secret};
use crate::message_keys::MessageKeys;
use crate::psk::{ResumptionPSKUsage, psk_secret};
use crate::records::Changes;
use crate::transcript::verify_confirmation_tag;
use crate::tree::OwnKeys;
use crate::tree::path::PathError;
use crate::tree::{Leaf, LeafRules, Tree, TreeError};
use crate::tree_math::{LeafIndex, NodeIndex};
use crate::welcome::{GroupSecrets, PathSecret, WELCOME, Welcome};

/// A group that was joined.
#[derive(Debug)]
pub struct Joined {
    /// The group.
    pub group: Group,
    /// The message keys of its epoch.
    pub keys: MessageKeys,
    /// What to store. The private keys of the KeyPackage are to be deleted with it, unless it is one
    /// of last resort.
    pub changes: Changes,
    /// What the inviter signed, with extensions that may be the application's.
    pub group_info: GroupInfo,
    /// How the group follows from another one, if it does.
    pub link: Option<ResumptionPSKUsage>,
}

impl Group {
    /// Joins a group. `tree` is the encoded `ratchet_tree`, where the Welcome does not hold it. That
    /// we are not in the group already is the caller's to check.
    ///
    /// The time of `ctx` is not used: leaves of sitting members may be older than their lifetime.
    ///
    /// # Errors
    /// - [`Error::UnsupportedCipherSuite`]: nobody's fault.
    /// - [`JoinError::NotForUs`], [`JoinError::PrivateKeys`], [`JoinError::MissingTree`]: the
    ///   caller's fault, or of whoever delivered the Welcome.
    /// - [`SuccessorError::NeedsPredecessor`](super::SuccessorError::NeedsPredecessor): the group follows
    ///   from another one, see [`join_successor`](Self::join_successor).
    /// - any other [`JoinError`], [`Error::Decode`]: the inviter's fault.
    pub fn join(
        ctx: &mut Context<'_>,
        welcome: &Welcome,
        bundle: &KeyPackageBundle,
        tree: Option<&[u8]>,
    ) -> Result<Joined, Error> {
        Self::join_linked(ctx, welcome, bundle, tree, None)
    }

    /// Joins a group that follows from another one: that takes its place after a ReInit, or is a branch
    /// of it (RFC 9420, sections 11.2 and 11.3). `predecessor` is our own view of the old group, in the
    /// epoch that the ReInit led to or, for a branch, in one with the members to compare with.
    ///
    /// # Errors
    /// As [`join`](Self::join); [`JoinError::Successor`] tells what is not as it should be.
    pub fn join_successor(
        ctx: &mut Context<'_>,
        welcome: &Welcome,
        bundle: &KeyPackageBundle,
        tree: Option<&[u8]>,
        predecessor: &Self,
    ) -> Result<Joined, Error> {
        Self::join_linked(ctx, welcome, bundle, tree, Some(predecessor))
    }

    fn join_linked(
        ctx: &mut Context<'_>,
        welcome: &Welcome,
        bundle: &KeyPackageBundle,
        tree: Option<&[u8]>,
        predecessor: Option<&Self>,
    ) -> Result<Joined, Error> {
        let opened = OpenedWelcome::open(ctx, welcome, bundle, predecessor)?;
        let group_info = &opened.group_info;
        let tree = tree
            .or_else(|| {
                group_info
                    .extensions
                    .data(ExtensionType::RATCHET_TREE)
                    .map(|b| &**b)
            })
            .ok_or(JoinError::MissingTree)?;
        let tree = joined_tree(opened.suite, tree, group_info, ctx)?;
        opened.enter(tree, predecessor, ctx)
    }
}

/// A Welcome that was opened: all of a join but for the tree.
pub(super) struct OpenedWelcome {
    pub suite: &'static dyn Suite,
    pub group_info: GroupInfo,
    pub secrets: EpochSecrets,
    own_leaf: Leaf,
    leaf_key: HpkeKeyPair,
    path_secret: Option<PathSecret>,
    usage: Option<ResumptionPSKUsage>,
}

impl OpenedWelcome {
    pub fn open(
        ctx: &mut Context<'_>,
        welcome: &Welcome,
        bundle: &KeyPackageBundle,
        predecessor: Option<&Group>,
    ) -> Result<Self, Error> {
        let key_package = &bundle.key_package;
        let suite = ctx.suite(welcome.cipher_suite)?;
        if key_package.cipher_suite != welcome.cipher_suite {
            return Err(JoinError::CipherSuite.into());
        }
        let (init_key, leaf_key) = key_pairs(suite, bundle)?;
        let group_secrets = open_group_secrets(suite, welcome, key_package, &init_key)?;
        let psks = &group_secrets.psks;
        let link = link_of(psks).map_err(JoinError::Successor)?;
        check_link(link, predecessor).map_err(JoinError::Successor)?;
        let usage = link.map(|link| link.usage);
        check_psks(psks, suite, usage).map_err(JoinError::Psk)?;
        let psks = match predecessor {
            Some(old) => psk_secrets(psks, &[old, ctx.psks]),
            None => psk_secrets(psks, &[ctx.psks]),
        }
        .map_err(JoinError::Psk)?;
        let psk_secret =
            psk_secret(suite, &psks).map_err(|_| JoinError::Psk(ProposalError::TooManyPsks))?;
        let member_secret = member_secret(suite, &group_secrets.joiner_secret, &psk_secret);
        let group_info = WelcomeKey::derive(suite, &member_secret)
            .open(suite, &welcome.encrypted_group_info)
            .map_err(JoinError::GroupInfoDecryption)?;
        let group_info = GroupInfo::from_bytes(&group_info)?;
        let context = &group_info.group_context;
        if context.version != key_package.version || ctx.check_version(context.version).is_err() {
            return Err(JoinError::Version.into());
        }
        if context.cipher_suite != welcome.cipher_suite {
            return Err(JoinError::GroupInfoCipherSuite.into());
        }
        let secrets = EpochSecrets::derive(suite, &member_secret, context);
        Ok(Self {
            suite,
            secrets,
            own_leaf: Leaf::from(&key_package.leaf_node),
            leaf_key,
            path_secret: group_secrets.path_secret,
            usage,
            group_info,
        })
    }

    /// Enters the group whose tree this is; it was found valid, and so was the GroupInfo's signature.
    pub fn enter(
        self,
        tree: Tree,
        predecessor: Option<&Group>,
        ctx: &Context<'_>,
    ) -> Result<Joined, Error> {
        let (suite, group_info) = (self.suite, self.group_info);
        let own = tree
            .find_signature_key(self.own_leaf.signature_key())
            .filter(|leaf| tree.leaf(*leaf) == Some(&self.own_leaf))
            .ok_or(JoinError::NoLeaf)?;
        let mut own_keys = OwnKeys::new(own, self.leaf_key);
        if let Some(PathSecret { path_secret }) = self.path_secret {
            let nodes = path_nodes(&tree, own, group_info.signer).map_err(JoinError::Path)?;
            own_keys
                .follow(suite, &tree, nodes.into_iter(), path_secret)
                .map_err(JoinError::Path)?;
        }
        let context = group_info.group_context.clone();
        let tag = group_info.confirmation_tag.clone();
        let confirmed = &context.confirmed_transcript_hash;
        verify_confirmation_tag(suite, &self.secrets.confirmation_key, confirmed, &tag)
            .map_err(|_| JoinError::ConfirmationTag)?;
        if let (Some(old), Some(usage)) = (predecessor, self.usage) {
            check_successor(old, usage, &context, &tree, ctx.authentication_service)
                .map_err(JoinError::Successor)?;
        }
        let public = PublicState::new(suite, context, tree, tag);
        let (group, keys, mut changes) =
            Group::enter(public, own_keys, self.secrets, Past::default());
        group.record_changes(None, &mut changes);
        Ok(Joined {
            group,
            keys,
            changes,
            group_info,
            link: self.usage,
        })
    }
}

/// The key pairs of a KeyPackage, after checking that they are its own.
fn key_pairs(
    suite: &dyn Suite,
    bundle: &KeyPackageBundle,
) -> Result<(HpkeKeyPair, HpkeKeyPair), JoinError> {
    let pair = |private_key: &Secret, expected: &HpkePublicKey| {
        let pair = HpkeKeyPair::new(private_key.clone(), expected.clone());
        match suite.kem_check_key_pair(&pair) {
            Ok(()) => Ok(pair),
            Err(_) => Err(JoinError::PrivateKeys),
        }
    };
    let key_package = &bundle.key_package;
    Ok((
        pair(&bundle.init_private_key, &key_package.init_key)?,
        pair(
            &bundle.encryption_private_key,
            &key_package.leaf_node.encryption_key,
        )?,
    ))
}

/// Our own part of the Welcome.
fn open_group_secrets(
    suite: &dyn Suite,
    welcome: &Welcome,
    key_package: &KeyPackage,
    init_key: &HpkeKeyPair,
) -> Result<GroupSecrets, Error> {
    let reference = key_package.reference(suite);
    let ours = welcome
        .secrets
        .iter()
        .find(|part| *part.new_member == *reference)
        .ok_or(JoinError::NotForUs)?;
    let secrets = suite
        .decrypt_with_label(
            init_key,
            WELCOME,
            &welcome.encrypted_group_info,
            &ours.encrypted_group_secrets,
        )
        .map_err(JoinError::Decryption)?;
    Ok(GroupSecrets::from_bytes(&secrets)?)
}

/// The tree, once it and the GroupInfo's signature are found valid.
pub(super) fn joined_tree(
    suite: &'static dyn Suite,
    tree: &[u8],
    group_info: &GroupInfo,
    ctx: &mut Context<'_>,
) -> Result<Tree, JoinError> {
    let context = &group_info.group_context;
    let mut tree = Tree::from_ratchet_tree(tree)?;
    if *tree.tree_hash(suite) != *context.tree_hash {
        return Err(TreeError::TreeHash.into());
    }
    verify_group_info(suite, &tree, group_info)?;
    let required = known(&context.extensions).map_err(JoinError::MalformedExtension)?;
    let rules = leaf_rules(
        suite,
        context,
        required.as_ref(),
        ctx.authentication_service,
    );
    tree.validate(&context.group_id, &rules, ctx.workers, ctx.rng)?;
    Ok(tree)
}

/// Checks the GroupInfo's signature.
pub(super) fn verify_group_info(
    suite: &dyn Suite,
    tree: &Tree,
    group_info: &GroupInfo,
) -> Result<(), JoinError> {
    let signer = tree
        .leaf(group_info.signer)
        .ok_or(JoinError::NoSigner(group_info.signer))?;
    group_info
        .verify_signature(suite, signer.signature_key())
        .map_err(JoinError::Signature)
}

/// What the leaves of a tree that is joined are measured by.
pub(super) fn leaf_rules<'a>(
    suite: &'static dyn Suite,
    context: &'a GroupContext,
    required: Option<&'a RequiredCapabilities>,
    authentication_service: &'a dyn AuthenticationService,
) -> LeafRules<'a> {
    LeafRules {
        version: context.version,
        suite,
        extensions: &context.extensions,
        required,
        authentication_service,
        now: None,
    }
}

/// The nodes whose keys a new member derives from its path secret: the committer's path from where
/// it meets ours.
fn path_nodes(
    tree: &Tree,
    own: LeafIndex,
    committer: LeafIndex,
) -> Result<Vec<NodeIndex>, PathError> {
    let common = NodeIndex::common_ancestor(own, committer);
    if own == committer || tree.node(common).is_none() {
        return Err(PathError::WrongSecret(common));
    }
    let above = common
        .direct_path(tree.depth())
        .filter(|node| tree.node(*node).is_some());
    Ok(std::iter::once(common).chain(above).collect())
}
