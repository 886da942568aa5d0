//! Proposals (RFC 9420, section 12.1).

use crate::code_point::{ProtocolVersion, code_points};
use crate::codec::Bytes;
use crate::crypto::CipherSuite;
use crate::extension::Extensions;
use crate::key_package::KeyPackage;
use crate::leaf_node::LeafNode;
use crate::psk::PreSharedKeyID;
use crate::tree_math::LeafIndex;

code_points! {
    /// The kinds of proposals (RFC 9420, section 17.4).
    pub struct ProposalType {
        /// [`Add`].
        ADD = 1 => "add",
        /// [`Update`].
        UPDATE = 2 => "update",
        /// [`Remove`].
        REMOVE = 3 => "remove",
        /// [`PreSharedKey`].
        PSK = 4 => "psk",
        /// [`ReInit`].
        REINIT = 5 => "reinit",
        /// [`ExternalInit`].
        EXTERNAL_INIT = 6 => "external_init",
        /// [`GroupContextExtensions`].
        GROUP_CONTEXT_EXTENSIONS = 7 => "group_context_extensions",
    }
}

impl ProposalType {
    /// Whether RFC 9420 defines it, so that everybody supports it and nobody lists it (7.2).
    #[must_use]
    pub fn is_default(self) -> bool {
        (Self::ADD..=Self::GROUP_CONTEXT_EXTENSIONS).contains(&self)
    }

    /// Whether one of the group's external senders may make it: the column "Ext" of the registry
    /// (sections 12.1.8 and 17.4).
    #[must_use]
    pub fn may_be_external(self) -> bool {
        let types = [
            Self::ADD,
            Self::REMOVE,
            Self::PSK,
            Self::REINIT,
            Self::GROUP_CONTEXT_EXTENSIONS,
        ];
        types.contains(&self)
    }
}

/// `HashReference ProposalRef`.
pub type ProposalRef = Bytes;

crate::tls_struct! {
    /// Adds a client (section 12.1.1).
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Add {
        /// The client's offer.
        pub key_package: KeyPackage,
    }
}

crate::tls_struct! {
    /// Replaces the sender's leaf (section 12.1.2).
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Update {
        /// The new leaf.
        pub leaf_node: LeafNode,
    }
}

crate::tls_struct! {
    /// Removes a member (section 12.1.3).
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Remove {
        /// Whose leaf goes.
        pub removed: LeafIndex,
    }
}

crate::tls_struct! {
    /// Brings a key from elsewhere into the key schedule (section 12.1.4).
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct PreSharedKey {
        /// Which key.
        pub psk: PreSharedKeyID,
    }
}

crate::tls_struct! {
    /// Ends the group in favour of a new one (section 12.1.5).
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct ReInit {
        /// The new group's id.
        pub group_id: Bytes,
        /// The new group's protocol version.
        pub version: ProtocolVersion,
        /// The new group's algorithms.
        pub cipher_suite: CipherSuite,
        /// The new group's extensions.
        pub extensions: Extensions,
    }
}

crate::tls_struct! {
    /// The init secret of an external commit (section 12.1.6).
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct ExternalInit {
        /// The encapsulation for `external_pub`.
        pub kem_output: Bytes,
    }
}

crate::tls_struct! {
    /// Replaces the group's extensions (section 12.1.7).
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct GroupContextExtensions {
        /// All of them, also those that stay.
        pub extensions: Extensions,
    }
}

crate::tls_enum! {
    /// A proposal. One of an unknown kind is refused when decoding, since nothing says how long
    /// it is.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub enum Proposal: u16 {
        /// Adds a client.
        Add(Box<Add>) = 1,
        /// Replaces the sender's leaf.
        Update(Box<Update>) = 2,
        /// Removes a member.
        Remove(Remove) = 3,
        /// Brings in a key from elsewhere.
        PreSharedKey(PreSharedKey) = 4,
        /// Ends the group in favour of a new one.
        ReInit(ReInit) = 5,
        /// The init secret of an external commit.
        ExternalInit(ExternalInit) = 6,
        /// Replaces the group's extensions.
        GroupContextExtensions(GroupContextExtensions) = 7,
    }
}

impl Proposal {
    /// An Add.
    #[must_use]
    pub fn add(key_package: KeyPackage) -> Self {
        Self::Add(Box::new(Add { key_package }))
    }

    /// An Update.
    #[must_use]
    pub fn update(leaf_node: LeafNode) -> Self {
        Self::Update(Box::new(Update { leaf_node }))
    }

    /// A Remove.
    #[must_use]
    pub fn remove(removed: LeafIndex) -> Self {
        Self::Remove(Remove { removed })
    }

    /// A PreSharedKey.
    #[must_use]
    pub fn psk(psk: PreSharedKeyID) -> Self {
        Self::PreSharedKey(PreSharedKey { psk })
    }

    /// A GroupContextExtensions.
    #[must_use]
    pub fn group_context_extensions(extensions: Extensions) -> Self {
        Self::GroupContextExtensions(GroupContextExtensions { extensions })
    }

    /// The kind.
    #[must_use]
    pub fn proposal_type(&self) -> ProposalType {
        match self {
            Self::Add(_) => ProposalType::ADD,
            Self::Update(_) => ProposalType::UPDATE,
            Self::Remove(_) => ProposalType::REMOVE,
            Self::PreSharedKey(_) => ProposalType::PSK,
            Self::ReInit(_) => ProposalType::REINIT,
            Self::ExternalInit(_) => ProposalType::EXTERNAL_INIT,
            Self::GroupContextExtensions(_) => ProposalType::GROUP_CONTEXT_EXTENSIONS,
        }
    }
}

crate::tls_enum! {
    /// A proposal in a Commit: by value, or by the reference of one sent before (section 12.4).
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub enum ProposalOrRef: u8 {
        /// By value.
        Proposal(Box<Proposal>) = 1,
        /// By reference.
        Reference(ProposalRef) = 2,
    }
}
