//! What makes a leaf node valid (RFC 9420, section 7.3), but for what concerns all members: unique
//! keys and each other's credential types are the [`Tree`](super::Tree)'s to check.

use std::collections::BTreeSet;

use super::Capability;
use crate::code_point::ProtocolVersion;
use crate::codec::DecodeError;
use crate::component::{
    self, AppComponents, AppDataDictionary, RequiredWireFormats, SafeAadComponents,
};
use crate::context::{AuthenticationService, CredentialClaim, CredentialError};
use crate::credential::CredentialType;
use crate::crypto::{CryptoError, Suite};
use crate::extension::{ExtensionType, Extensions, RequiredCapabilities};
use crate::leaf_node::{LeafNode, LeafNodeSource};

/// Why a leaf node is not valid. The leaf's owner is to blame, and whoever brought it into the
/// group.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LeafNodeError {
    /// The Authentication Service refuses the credential.
    #[error("the credential is not accepted: {0}")]
    Credential(CredentialError),
    /// The new credential is not one that the same client may change to.
    #[error("the new credential is not a successor of the old one")]
    NotSuccessor,
    /// The leaf's own signature.
    #[error("the signature is not valid: {0}")]
    Signature(CryptoError),
    /// The encryption key is no key of the suite.
    #[error("the encryption key is not valid: {0}")]
    EncryptionKey(CryptoError),
    /// The leaf came in one way and says that it came in another.
    #[error("leaf_node_source does not fit where the leaf stands")]
    Source,
    /// An Update or a path that keeps the old encryption key.
    #[error("the encryption key was not renewed")]
    EncryptionKeyNotRenewed,
    /// Before or after its lifetime.
    #[error("the lifetime does not include the time {now}")]
    Lifetime {
        /// The time of the check, seconds since 1970.
        now: u64,
    },
    /// Its lifetime is longer than the application accepts.
    #[error("the lifetime of {seconds} seconds is too long")]
    LifetimeTooLong {
        /// From the first second to the last.
        seconds: u64,
    },
    /// The group needs what the client does not list.
    #[error("the client lacks {0:?}, which the group needs")]
    Lacks(Capability),
    /// An extension of the leaf that its own capabilities do not list.
    #[error("extension {0} of the leaf is not in its own capabilities")]
    UnlistedExtension(ExtensionType),
    /// An extension of the leaf that every member has to know has a content that cannot be read.
    #[error("extension {0} of the leaf is malformed")]
    MalformedExtension(ExtensionType),
    /// The leaf's credential type is not in its own capabilities.
    #[error("credential type {0} of the leaf is not in its own capabilities")]
    UnlistedCredential(CredentialType),
}

/// What the leaf nodes of a group are measured by.
#[derive(Clone, Copy)]
pub struct LeafRules<'a> {
    /// The group's version of the protocol.
    pub version: ProtocolVersion,
    /// The group's algorithms.
    pub suite: &'a dyn Suite,
    /// The group's extensions, the new ones if a commit replaces them.
    pub extensions: &'a Extensions,
    /// The part of them that asks for capabilities.
    pub required: Option<&'a RequiredCapabilities>,
    /// Judges credentials.
    pub authentication_service: &'a dyn AuthenticationService,
    /// The time at which lifetimes and credentials are judged, if they are.
    pub now: Option<u64>,
}

/// Where a leaf node stands.
#[derive(Clone, Copy)]
pub enum Standing<'a> {
    /// In a KeyPackage.
    KeyPackage,
    /// In an Update, in place of the old leaf.
    Update {
        /// The leaf that it replaces.
        old: &'a LeafNode,
    },
    /// In a path, in place of the old leaf.
    Commit {
        /// The leaf that it replaces, if it is not that of a new member.
        old: Option<&'a LeafNode>,
    },
}

/// Leaf nodes whose signatures and credentials are checked at a time, which is one job of
/// [`Workers`](crate::workers::Workers): enough for a batch to pay, few enough to keep memory small.
pub(crate) const BATCH: usize = 512;

impl LeafRules<'_> {
    /// Checks one leaf node that newly comes into the group, but for its signature.
    ///
    /// # Errors
    /// [`LeafNodeError`], to the blame of the leaf's owner.
    pub fn check_new(
        &self,
        leaf_node: &LeafNode,
        standing: Standing<'_>,
    ) -> Result<(), LeafNodeError> {
        match self.check_unjudged(leaf_node, standing)? {
            Some(CredentialClaim {
                credential,
                signature_key,
            }) => self
                .authentication_service
                .validate(credential, signature_key, self.extensions, self.now)
                .map_err(LeafNodeError::Credential),
            None => Ok(()),
        }
    }

    /// Checks one leaf node that newly comes into the group, but for its signature and its credential,
    /// which are checked with others. Returns what is to be judged of the credential, if anything is.
    ///
    /// # Errors
    /// [`LeafNodeError`], to the blame of the leaf's owner.
    pub fn check_unjudged<'a>(
        &self,
        leaf_node: &'a LeafNode,
        standing: Standing<'_>,
    ) -> Result<Option<CredentialClaim<'a>>, LeafNodeError> {
        let old = match (standing, &leaf_node.leaf_node_source) {
            (Standing::KeyPackage, LeafNodeSource::KeyPackage(lifetime)) => {
                if let Some(now) = self.now.filter(|now| !lifetime.contains(*now)) {
                    return Err(LeafNodeError::Lifetime { now });
                }
                None
            }
            (Standing::Update { old }, LeafNodeSource::Update) => Some(old),
            (Standing::Commit { old }, LeafNodeSource::Commit(_)) => old,
            _ => return Err(LeafNodeError::Source),
        };
        self.check_length_of_lifetime(leaf_node)?;
        if let Some(old) = old {
            if old.encryption_key == leaf_node.encryption_key {
                return Err(LeafNodeError::EncryptionKeyNotRenewed);
            }
            let service = self.authentication_service;
            if old.credential != leaf_node.credential
                && !service.is_successor(&old.credential, &leaf_node.credential)
            {
                return Err(LeafNodeError::NotSuccessor);
            }
        }
        // A credential that is in the group already was judged when it came in. If it expired
        // since, that is a reason to propose the member's removal, not to refuse a commit.
        let is_new = old.is_none_or(|old| {
            old.credential != leaf_node.credential || old.signature_key != leaf_node.signature_key
        });
        self.check_capabilities(leaf_node)?;
        Ok(is_new.then(|| CredentialClaim::of(leaf_node)))
    }

    /// Checks one leaf node of a tree that is joined, but for its signature and its credential. Nothing
    /// here depends on the time: a sitting member's leaf may be older than its lifetime.
    ///
    /// # Errors
    /// [`LeafNodeError`], to the blame of the leaf's owner.
    pub(super) fn check(&self, leaf_node: &LeafNode) -> Result<(), LeafNodeError> {
        self.check_length_of_lifetime(leaf_node)?;
        self.check_capabilities(leaf_node)
    }

    fn check_length_of_lifetime(&self, leaf_node: &LeafNode) -> Result<(), LeafNodeError> {
        let LeafNodeSource::KeyPackage(lifetime) = &leaf_node.leaf_node_source else {
            return Ok(());
        };
        let seconds = lifetime.not_after.saturating_sub(lifetime.not_before);
        match self.authentication_service.longest_lifetime() {
            Some(longest) if seconds > longest => Err(LeafNodeError::LifetimeTooLong { seconds }),
            _ => Ok(()),
        }
    }

    fn check_capabilities(&self, leaf_node: &LeafNode) -> Result<(), LeafNodeError> {
        let capabilities = &leaf_node.capabilities;
        // Both lists are the leaf owner's and may be long, so neither is searched for each of the other.
        let kinds = leaf_node.extensions.types();
        let mut unlisted: BTreeSet<_> = kinds.filter(|kind| !kind.is_default()).collect();
        if !unlisted.is_empty() {
            for kind in &capabilities.extensions {
                unlisted.remove(kind);
            }
        }
        if let Some(unlisted) = unlisted.first() {
            return Err(LeafNodeError::UnlistedExtension(*unlisted));
        }
        // Where nobody has to know the type, other members cannot tell that it is malformed.
        if let Some(malformed) = component::unreadable_in_leaf(&leaf_node.extensions).find(|kind| {
            needed(self.extensions, self.required)
                .any(|capability| capability == Capability::Extension(*kind))
        }) {
            return Err(LeafNodeError::MalformedExtension(malformed));
        }
        let credential = leaf_node.credential.credential_type();
        if !capabilities.supports_credential(credential) {
            return Err(LeafNodeError::UnlistedCredential(credential));
        }
        let basics = [
            Capability::Version(self.version),
            Capability::CipherSuite(self.suite.id()),
        ];
        let listed = Capability::all(leaf_node);
        if let Some(lacking) = basics
            .into_iter()
            .chain(needed(self.extensions, self.required))
            .find(|capability| !capability.is_default() && !listed.contains(capability))
        {
            return Err(LeafNodeError::Lacks(lacking));
        }
        self.suite
            .kem_check_public_key(&leaf_node.encryption_key)
            .map_err(LeafNodeError::EncryptionKey)
    }
}

/// What a group's extensions ask of every member: to know each of them (RFC 9420, section 13.4),
/// and what `required_capabilities` lists (section 11.1).
pub fn needed<'a>(
    extensions: &'a Extensions,
    required: Option<&'a RequiredCapabilities>,
) -> impl Iterator<Item = Capability> + 'a {
    let known = extensions.types().map(Capability::Extension);
    let listed = required.into_iter().flat_map(|required| {
        let extensions = required
            .extension_types
            .iter()
            .copied()
            .map(Capability::Extension);
        let proposals = required
            .proposal_types
            .iter()
            .copied()
            .map(Capability::Proposal);
        let credentials = required
            .credential_types
            .iter()
            .copied()
            .map(Capability::Credential);
        extensions.chain(proposals).chain(credentials)
    });
    known.chain(listed).chain(needed_beyond(extensions))
}

/// What extensions of the GroupContext ask of every member beyond `required_capabilities`
/// (draft-ietf-mls-extensions, section 5). Malformed ones ask nothing.
fn needed_beyond(extensions: &Extensions) -> impl Iterator<Item = Capability> {
    let formats: Option<RequiredWireFormats> = extensions.get().ok().flatten();
    let formats = formats.unwrap_or_default().wire_formats;
    let dictionary: Option<AppDataDictionary> = extensions.get().ok().flatten();
    let dictionary = dictionary.unwrap_or_default();
    let components: Option<AppComponents> = dictionary.get().ok().flatten();
    let components = components.unwrap_or_default().component_ids;
    let safe_aad: Option<SafeAadComponents> = dictionary.get().ok().flatten();
    let safe_aad = safe_aad.unwrap_or_default().component_ids;
    let formats = formats.into_iter().map(Capability::WireFormat);
    let components = components.into_iter().map(Capability::Component);
    formats
        .chain(components)
        .chain(safe_aad.into_iter().map(Capability::SafeAad))
}

/// The `required_capabilities` among a group's extensions.
///
/// # Errors
/// [`DecodeError`], to the blame of who set the extensions.
pub fn required_capabilities(
    extensions: &Extensions,
) -> Result<Option<RequiredCapabilities>, DecodeError> {
    extensions.get()
}
