//! What the draft itself says about proposals for its own components, where the application does not
//! decide (draft-ietf-mls-extensions, sections 5, 6.1 and 6.2).

use super::{AppAck, AppComponents, ComponentID, ComponentInput, MediaTypeList, SafeAadComponents};
use crate::codec::{Bytes, Decode, DecodeError};

/// Whether an update replaces the component's data in the group.
pub(crate) fn is_replaced(component_id: ComponentID) -> bool {
    matches!(
        component_id,
        ComponentID::APP_COMPONENTS | ComponentID::SAFE_AAD | ComponentID::CONTENT_MEDIA_TYPES
    )
}

/// What such a component's data becomes: the last update. All must be well-formed.
///
/// # Errors
/// [`DecodeError`], to the blame of who wrote the update.
pub(crate) fn replaced(
    component_id: ComponentID,
    updates: &[ComponentInput<'_>],
) -> Result<Bytes, DecodeError> {
    let mut data = Bytes::default();
    for update in updates {
        match component_id {
            ComponentID::APP_COMPONENTS => drop(AppComponents::from_bytes(update.data)?),
            ComponentID::SAFE_AAD => drop(SafeAadComponents::from_bytes(update.data)?),
            _ => drop(MediaTypeList::from_bytes(update.data)?),
        }
        data = update.data.into();
    }
    Ok(data)
}

/// Whether the draft says what ephemeral data of the component is.
pub(crate) fn is_ephemeral(component_id: ComponentID) -> bool {
    component_id == ComponentID::APP_ACK
}

/// Checks the form of such ephemeral data.
///
/// # Errors
/// [`DecodeError`], to the blame of who wrote it.
pub(crate) fn check_ephemeral(data: &[u8]) -> Result<(), DecodeError> {
    AppAck::from_bytes(data).map(drop)
}
