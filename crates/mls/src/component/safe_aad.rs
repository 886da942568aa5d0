//! Authenticated data that several components share (draft-ietf-mls-extensions, section 4.9).
//!
//! If the GroupContext's dictionary holds the `safe_aad` component, all authenticated data of the
//! group's messages is a [`SafeAAD`]; anything else is refused, on either side.

use super::{AppDataDictionary, ComponentID};
use crate::codec::{Bytes, Decode, DecodeError, Encode, Reader};
use crate::error::InvalidMessage;
use crate::extension::Extensions;

crate::tls_struct! {
    /// What one component says in clear.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct SafeAADItem {
        /// Which component.
        pub component_id: ComponentID,
        /// What it says.
        pub aad_item_data: Bytes,
    }
}

/// The authenticated data of a message: one item of each component that has something to say, in the
/// order of their ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SafeAAD(Vec<SafeAADItem>);

impl SafeAAD {
    /// The items, in order.
    #[must_use]
    pub fn aad_items(&self) -> &[SafeAADItem] {
        &self.0
    }

    /// What a component says.
    #[must_use]
    pub fn get(&self, component_id: ComponentID) -> Option<&Bytes> {
        let place = self.place(component_id).ok()?;
        Some(&self.0[place].aad_item_data)
    }

    /// Says something for a component, in the place of what it said before.
    pub fn set(&mut self, component_id: ComponentID, data: impl Into<Bytes>) {
        let item = SafeAADItem {
            component_id,
            aad_item_data: data.into(),
        };
        match self.place(component_id) {
            Ok(place) => self.0[place] = item,
            Err(place) => self.0.insert(place, item),
        }
    }

    /// The same with one item more, for building in one expression.
    #[must_use]
    pub fn with(mut self, component_id: ComponentID, data: impl Into<Bytes>) -> Self {
        self.set(component_id, data);
        self
    }

    fn place(&self, component_id: ComponentID) -> Result<usize, usize> {
        self.0
            .binary_search_by_key(&component_id, |item| item.component_id)
    }
}

impl Encode for SafeAAD {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }
}

impl Decode for SafeAAD {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let items: Vec<SafeAADItem> = Vec::decode(reader)?;
        if items.is_sorted_by(|one, next| one.component_id < next.component_id) {
            Ok(Self(items))
        } else {
            Err(DecodeError::InvalidValue("aad_items"))
        }
    }
}

/// Whether a group's authenticated data is a [`SafeAAD`]. `group` is the GroupContext's extensions.
#[must_use]
pub fn is_used(group: &Extensions) -> bool {
    let dictionary = group.get::<AppDataDictionary>().ok().flatten();
    dictionary.is_some_and(|dictionary| dictionary.data(ComponentID::SAFE_AAD).is_some())
}

/// Checks the authenticated data of a message to a group that uses [`SafeAAD`], if `used`.
///
/// # Errors
/// [`InvalidMessage::SafeAad`], the sender's.
pub(crate) fn check(used: bool, authenticated_data: &[u8]) -> Result<(), InvalidMessage> {
    if used {
        SafeAAD::from_bytes(authenticated_data).map_err(InvalidMessage::SafeAad)?;
    }
    Ok(())
}

/// What a message of our own carries: nothing to say is an empty list where [`SafeAAD`] is used.
///
/// # Errors
/// [`InvalidMessage::SafeAad`] if it is something else: the caller's.
pub(crate) fn framed(used: bool, authenticated_data: &[u8]) -> Result<Bytes, InvalidMessage> {
    if used && authenticated_data.is_empty() {
        return Ok(SafeAAD::default().to_bytes().into());
    }
    check(used, authenticated_data)?;
    Ok(authenticated_data.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::component::SafeAadComponents;

    #[test]
    fn items_are_sorted_and_there_is_one_of_each() {
        let aad = SafeAAD::default()
            .with(ComponentID(0x8002), [2])
            .with(ComponentID(0x8001), [1])
            .with(ComponentID(0x8002), []);
        let bytes = b"\x07\x80\x01\x01\x01\x80\x02\x00";
        assert_eq!(aad.to_bytes(), bytes);
        assert_eq!(aad.get(ComponentID(0x8001)), Some(&Bytes::from([1])));
        assert_eq!(aad.get(ComponentID(0x8003)), None);
        assert_eq!(SafeAAD::from_bytes(bytes), Ok(aad));
        for wrong in [
            b"\x06\x80\x02\x00\x80\x01\x00",
            b"\x06\x80\x01\x00\x80\x01\x00",
        ] {
            assert_eq!(
                SafeAAD::from_bytes(wrong),
                Err(DecodeError::InvalidValue("aad_items"))
            );
        }
    }

    #[test]
    fn a_group_uses_it_if_the_component_is_there_even_if_it_is_empty() {
        let dictionary = AppDataDictionary::default();
        assert!(!is_used(&Extensions::default()));
        assert!(!is_used(&Extensions::default().with(&dictionary)));
        let dictionary = dictionary.with(&SafeAadComponents::default());
        assert!(is_used(&Extensions::default().with(&dictionary)));

        assert_eq!(
            framed(false, b"anything"),
            Ok(b"anything".as_slice().into())
        );
        assert_eq!(framed(true, b""), Ok([0].into()));
        let refused = InvalidMessage::SafeAad(DecodeError::Truncated);
        assert_eq!(framed(true, b"anything"), Err(refused));
        assert_eq!(check(true, b""), Err(refused), "received, it is not framed");
        assert_eq!(check(false, b""), Ok(()));
        let trailing = InvalidMessage::SafeAad(DecodeError::TrailingBytes);
        assert_eq!(check(true, &[0, 0]), Err(trailing));
    }
}
