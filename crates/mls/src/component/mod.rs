//! Components of an application (draft-ietf-mls-extensions, section 4): parts that do not know each
//! other and share one group safely.
//!
//! A component is named by a [`ComponentID`], which goes into every operation that it does with the
//! group's keys, so that nothing made for one component, or for MLS itself, is of use elsewhere.
//!
//! A client says what it supports in its leaf, with [`LeafParameters::with_components`]; a group says in its
//! GroupContext's dictionary what it requires. The application's own part is a [`ComponentLogic`] in each
//! [`Context`](crate::context::Context):
//!
//! The draft's own components need no logic: an AppDataUpdate of `app_components`, `safe_aad` or
//! `content_media_types` puts a well-formed value in the place of the one before, and an AppEphemeral of
//! `app_ack` is a well-formed [`AppAck`]. An application that allows less knows them and decides itself.
//!
//! [`LeafParameters::with_components`]: crate::leaf_node::LeafParameters::with_components
//!
//! ```
//! use folkmoot_mls::codec::Bytes;
//! use folkmoot_mls::component::{ComponentID, ComponentInput, ComponentLogic, Refused};
//!
//! /// The group's topic, which an update replaces.
//! struct Topic;
//!
//! const TOPIC: ComponentID = ComponentID(0x8001);
//!
//! impl ComponentLogic for Topic {
//!     fn knows(&self, component_id: ComponentID) -> bool {
//!         component_id == TOPIC
//!     }
//!
//!     fn update(
//!         &self,
//!         _: ComponentID,
//!         _before: Option<&[u8]>,
//!         updates: &[ComponentInput<'_>],
//!     ) -> Result<Bytes, Refused> {
//!         let last = updates.last().ok_or(Refused)?;
//!         std::str::from_utf8(last.data).map_err(|_| Refused)?;
//!         Ok(last.data.into())
//!     }
//!
//!     fn ephemeral(&self, _: ComponentID, _: ComponentInput<'_>) -> Result<(), Refused> {
//!         Err(Refused)
//!     }
//! }
//!
//! // A member proposes or commits `Proposal::app_data_update(TOPIC, ..)`, and every member's engine
//! // asks `Topic` what becomes of it.
//! let input = ComponentInput {
//!     sender: folkmoot_mls::framing::Sender::External(0),
//!     committer: folkmoot_mls::framing::Sender::External(0),
//!     data: b"the next moot",
//! };
//! assert_eq!(Topic.update(TOPIC, None, &[input]), Ok(Bytes::from(*b"the next moot")));
//! ```
//!
//! | Section of the draft | Here |
//! | --- | --- |
//! | 4.1 to 4.3: labels, HPKE, signatures | [`ComponentOperationLabel`], methods of `dyn Suite`, of [`Group`](crate::group::Group) |
//! | 4.4: exported secrets | [`MessageKeys::safe_export`](crate::message_keys::MessageKeys::safe_export) |
//! | 4.5: pre-shared keys | [`PskType::Application`](crate::psk::PskType::Application) |
//! | 4.6: data in messages and in the group | [`AppDataDictionary`] |
//! | 4.7, 4.8: AppDataUpdate, AppEphemeral | [`proposal`](crate::proposal), [`ComponentLogic`] |
//! | 4.9: authenticated data | [`SafeAAD`] |
//! | 5: negotiation | [`AppComponents`], [`SafeAadComponents`], [`RequiredWireFormats`] |
//! | 6.1: AppAck | [`AppAck`] |
//! | 6.2: content advertisement | [`MediaTypeList`], [`ApplicationFraming`]: the forms only. To compare what a group requires with what its members support, before it adds somebody or requires more, and to put application data into the framing and take it out, is the application's |
//! | 6.3: SelfRemove | [`proposal`](crate::proposal) |
//! | 6.4: KeyPackages of last resort | [`LastResortKeyPackage`] |

mod app_ack;
pub(crate) mod built_in;
mod dictionary;
mod labels;
mod media;
pub mod safe_aad;

pub use app_ack::{AppAck, MessageRange};
pub use dictionary::{
    AppComponents, AppDataDictionary, ComponentContent, ComponentData, LastResortKeyPackage,
    RequiredWireFormats, SafeAadComponents, SupportedWireFormats,
};
pub(crate) use dictionary::{check_group, unreadable_in_leaf};
pub use labels::{BASE_LABEL, ComponentOperationLabel};
pub use media::{ApplicationFraming, MediaType, MediaTypeList, Parameter};
pub use safe_aad::{SafeAAD, SafeAADItem};

use rand_core::CryptoRng;

use crate::code_point::code_points;
use crate::codec::Bytes;
use crate::framing::Sender;

code_points! {
    /// The kinds of components (draft-ietf-mls-extensions, section 7.6). From 0x8000 on they are the
    /// application's own.
    pub struct ComponentID {
        /// Which components are supported (LeafNode) or required (GroupContext).
        APP_COMPONENTS = 1 => "app_components",
        /// Which components put items into the authenticated data.
        SAFE_AAD = 2 => "safe_aad",
        /// Which media types are supported or required.
        CONTENT_MEDIA_TYPES = 3 => "content_media_types",
        /// Marks a KeyPackage of last resort.
        LAST_RESORT_KEY_PACKAGE = 4 => "last_resort_key_package",
        /// Acknowledges application messages.
        APP_ACK = 5 => "app_ack",
    }
}

impl ComponentID {
    /// One of the ids that stand for no component, so that receivers stay tolerant (section 5.1). It may be
    /// listed or have data in a LeafNode, and have data in a KeyPackage or GroupInfo.
    pub fn grease(rng: &mut dyn CryptoRng) -> Self {
        let number = (rng.next_u32() % 8) as u16;
        Self(number << 12 | 0x0a00 | number << 4 | 0x0a)
    }
}

impl From<u16> for ComponentID {
    fn from(value: u16) -> Self {
        Self(value)
    }
}

/// The application refuses what a proposal does to a component. Its author is to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the application refuses it")]
pub struct Refused;

/// What one proposal brings for a component.
#[derive(Clone, Copy, Debug)]
pub struct ComponentInput<'a> {
    /// Who proposes.
    pub sender: Sender,
    /// Who commits.
    pub committer: Sender,
    /// The update, or the ephemeral data.
    pub data: &'a [u8],
}

/// What an application's components decide about proposals for them. Members who answer differently
/// do not follow each other's commits: so answers depend on the arguments only.
pub trait ComponentLogic: Send + Sync {
    /// Whether the application knows the component. Proposals for others are refused, but for those that
    /// this crate judges itself, see [the module](self).
    fn knows(&self, component_id: ComponentID) -> bool;

    /// What a component's data in the group becomes by the updates of one commit, in their order.
    ///
    /// # Errors
    /// [`Refused`]: the commit is then not valid.
    fn update(
        &self,
        component_id: ComponentID,
        data: Option<&[u8]>,
        updates: &[ComponentInput<'_>],
    ) -> Result<Bytes, Refused>;

    /// Whether the component's data may be taken out of the group. The input's data is empty.
    ///
    /// # Errors
    /// [`Refused`]: the commit is then not valid.
    fn remove(&self, component_id: ComponentID, by: ComponentInput<'_>) -> Result<(), Refused> {
        let _ = (component_id, by);
        Ok(())
    }

    /// Whether ephemeral data for a component is valid. What it says, the application reads from the
    /// commit's effects.
    ///
    /// # Errors
    /// [`Refused`]: the commit is then not valid.
    fn ephemeral(
        &self,
        component_id: ComponentID,
        input: ComponentInput<'_>,
    ) -> Result<(), Refused>;
}

/// An application without components.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoComponents;

impl ComponentLogic for NoComponents {
    fn knows(&self, _: ComponentID) -> bool {
        false
    }

    fn update(
        &self,
        _: ComponentID,
        _: Option<&[u8]>,
        _: &[ComponentInput<'_>],
    ) -> Result<Bytes, Refused> {
        Err(Refused)
    }

    fn ephemeral(&self, _: ComponentID, _: ComponentInput<'_>) -> Result<(), Refused> {
        Err(Refused)
    }
}
