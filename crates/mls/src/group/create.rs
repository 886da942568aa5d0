//! Starting a group (RFC 9420, section 11).

use super::Group;
use super::epoch::{Past, PublicState};
use super::error::ProposalError;
use super::proposals::{check_external_senders, known};
use crate::code_point::ProtocolVersion;
use crate::codec::Bytes;
use crate::context::Context;
use crate::crypto::{CipherSuite, SignatureKeyPair};
use crate::error::Error;
use crate::extension::Extensions;
use crate::group_context::GroupContext;
use crate::key_schedule::EpochSecrets;
use crate::leaf_node::{LeafNode, LeafNodeSource, LeafParameters, LeafPosition};
use crate::message_keys::MessageKeys;
use crate::records::Changes;
use crate::transcript::confirmation_tag;
use crate::tree::OwnKeys;
use crate::tree::path::random_secret;
use crate::tree::{Leaf, LeafNodeError, LeafRules, Tree, TreeError};
use crate::tree_math::LeafIndex;

/// What a group's creator decides.
#[derive(Clone, Debug)]
pub struct GroupParameters {
    /// The protocol's version.
    pub version: ProtocolVersion,
    /// The algorithms.
    pub cipher_suite: CipherSuite,
    /// The id, which no other group must have; 32 random bytes for one.
    pub group_id: Bytes,
    /// The GroupContext's extensions.
    pub extensions: Extensions,
}

/// A new group.
#[derive(Debug)]
pub struct Created {
    /// The group, with the creator as its only member.
    pub group: Group,
    /// The message keys of epoch 0.
    pub keys: MessageKeys,
    /// What to store.
    pub changes: Changes,
}

impl Group {
    /// Starts a group with one member.
    ///
    /// The creator's leaf is signed as one that a commit put there, with an empty parent hash: it is
    /// bound to the group and needs no lifetime.
    ///
    /// # Errors
    /// All to the blame of the caller: [`Error::UnsupportedVersion`];
    /// [`Error::UnsupportedCipherSuite`];
    /// [`ProposalError::MalformedExtension`]; [`ProposalError::ExternalSender`]; [`TreeError::Leaf`] for a leaf that is not valid in
    /// this group; [`CryptoError`](crate::crypto::CryptoError) for a malformed signature key.
    pub fn create(
        ctx: &mut Context<'_>,
        parameters: GroupParameters,
        signer: &SignatureKeyPair,
        leaf: LeafParameters,
    ) -> Result<Created, Error> {
        let GroupParameters {
            version,
            cipher_suite,
            group_id,
            extensions,
        } = parameters;
        ctx.check_version(version)?;
        let suite = ctx.suite(cipher_suite)?;
        let own = LeafIndex(0);
        let leaf_key = suite.kem_key_pair(ctx.rng);
        let leaf_node = LeafNode::sign(
            suite,
            signer,
            leaf,
            leaf_key.public_key().clone(),
            LeafNodeSource::Commit(Bytes::default()),
            Some(LeafPosition {
                group_id: &group_id,
                leaf_index: own,
            }),
        )?;
        let required = known(&extensions).map_err(ProposalError::MalformedExtension)?;
        let rules = LeafRules {
            version,
            suite,
            extensions: &extensions,
            required: required.as_ref(),
            authentication_service: ctx.authentication_service,
            now: ctx.now,
        };
        check_external_senders(None, &extensions, ctx)?;
        // The check of a whole tree leaves the time aside.
        let (credential, key) = (&leaf_node.credential, &leaf_node.signature_key);
        ctx.authentication_service
            .validate(credential, key, &extensions, ctx.now)
            .map_err(|error| TreeError::Leaf {
                leaf: own,
                error: LeafNodeError::Credential(error),
            })
            .map_err(ProposalError::Tree)?;
        let mut tree = Tree::of_creator(Leaf::from(&leaf_node));
        tree.validate(&group_id, &rules, ctx.workers, ctx.rng)
            .map_err(ProposalError::Tree)?;
        let context = GroupContext {
            version,
            cipher_suite,
            group_id,
            epoch: 0,
            tree_hash: Bytes::from(tree.tree_hash(suite)),
            confirmed_transcript_hash: Bytes::default(),
            extensions,
        };
        let epoch_secret = random_secret(suite.hash_length(), ctx.rng);
        let secrets = EpochSecrets::from_epoch_secret(suite, &epoch_secret);
        let tag = confirmation_tag(suite, &secrets.confirmation_key, &[]);
        let own_keys = OwnKeys::new(own, leaf_key);
        let public = PublicState::new(suite, context, tree, tag);
        let (group, keys, mut changes) = Self::enter(public, own_keys, secrets, Past::default());
        group.record_changes(None, &mut changes);
        Ok(Created {
            group,
            keys,
            changes,
        })
    }
}
