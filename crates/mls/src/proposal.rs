//! Proposals (RFC 9420, section 12.1).

use crate::code_point::{ProtocolVersion, code_points};
use crate::codec::Bytes;
use crate::component::ComponentID;
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
        /// [`AppDataUpdate`].
        APP_DATA_UPDATE = 8 => "app_data_update",
        /// [`AppEphemeral`].
        APP_EPHEMERAL = 9 => "app_ephemeral",
        /// [`Proposal::SelfRemove`].
        SELF_REMOVE = 10 => "self_remove",
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
            Self::APP_DATA_UPDATE,
            Self::APP_EPHEMERAL,
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
    /// What an [`AppDataUpdate`] does.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub enum AppDataUpdateOperation: u8 {
        /// The component makes its new data of the old data and this.
        Update(Bytes) = 1,
        /// The component's data goes.
        Remove = 2,
    }
}

crate::tls_struct! {
    /// Changes the data of a component in the group's `app_data_dictionary`
    /// (draft-ietf-mls-extensions, section 4.7).
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct AppDataUpdate {
        /// Whose data.
        pub component_id: ComponentID,
        /// What happens to it.
        pub op: AppDataUpdateOperation,
    }
}

crate::tls_struct! {
    /// Data of a component that goes with a commit and changes nothing (draft-ietf-mls-extensions,
    /// section 4.8).
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct AppEphemeral {
        /// Whose data.
        pub component_id: ComponentID,
        /// The data.
        pub data: Bytes,
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
        /// Changes the data of a component.
        AppDataUpdate(AppDataUpdate) = 8,
        /// Brings data for a component along.
        AppEphemeral(AppEphemeral) = 9,
        /// Removes its sender (draft-ietf-mls-extensions, section 6.3).
        SelfRemove = 10,
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

    /// A ReInit.
    #[must_use]
    pub fn reinit(reinit: ReInit) -> Self {
        Self::ReInit(reinit)
    }

    /// A GroupContextExtensions.
    #[must_use]
    pub fn group_context_extensions(extensions: Extensions) -> Self {
        Self::GroupContextExtensions(GroupContextExtensions { extensions })
    }

    /// An AppDataUpdate that updates.
    #[must_use]
    pub fn app_data_update(component_id: ComponentID, update: impl Into<Bytes>) -> Self {
        let op = AppDataUpdateOperation::Update(update.into());
        Self::AppDataUpdate(AppDataUpdate { component_id, op })
    }

    /// An AppDataUpdate that removes.
    #[must_use]
    pub fn app_data_removal(component_id: ComponentID) -> Self {
        let op = AppDataUpdateOperation::Remove;
        Self::AppDataUpdate(AppDataUpdate { component_id, op })
    }

    /// An AppEphemeral.
    #[must_use]
    pub fn app_ephemeral(component_id: ComponentID, data: impl Into<Bytes>) -> Self {
        let data = data.into();
        Self::AppEphemeral(AppEphemeral { component_id, data })
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
            Self::AppDataUpdate(_) => ProposalType::APP_DATA_UPDATE,
            Self::AppEphemeral(_) => ProposalType::APP_EPHEMERAL,
            Self::SelfRemove => ProposalType::SELF_REMOVE,
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
