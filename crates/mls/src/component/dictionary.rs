//! Data of components in a GroupContext, LeafNode, KeyPackage or GroupInfo (draft-ietf-mls-extensions,
//! section 4.6), and what the components that the draft defines keep there (section 5).

use std::collections::BTreeMap;

use rand_core::CryptoRng;

use super::{ComponentID, MediaTypeList};
use crate::capabilities::insert;
use crate::code_point::{WireFormat, random_data};
use crate::codec::{Bytes, Decode, DecodeError, Encode, Reader};
use crate::extension::{ExtensionContent, ExtensionType, Extensions};
use crate::key_package::KeyPackage;

crate::tls_struct! {
    /// The data of one component.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct ComponentData {
        /// Whose.
        pub component_id: ComponentID,
        /// What, in the component's own format.
        pub data: Bytes,
    }
}

/// The content of an `app_data_dictionary`: the data of components, in the order of their ids, each
/// once. Ids that are not known stay as they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppDataDictionary(BTreeMap<ComponentID, Bytes>);

impl AppDataDictionary {
    /// All entries, in order.
    pub fn iter(&self) -> impl Iterator<Item = (ComponentID, &Bytes)> {
        self.0.iter().map(|(id, data)| (*id, data))
    }

    /// A component's data.
    #[must_use]
    pub fn data(&self, component_id: ComponentID) -> Option<&Bytes> {
        self.0.get(&component_id)
    }

    /// Puts a component's data in, in the place of what was there.
    pub fn set_data(&mut self, component_id: ComponentID, data: impl Into<Bytes>) {
        self.0.insert(component_id, data.into());
    }

    /// Takes a component's data out.
    pub fn remove(&mut self, component_id: ComponentID) -> Option<Bytes> {
        self.0.remove(&component_id)
    }

    /// The data of a component that this crate knows, if it is there.
    ///
    /// # Errors
    /// [`DecodeError`] if it is malformed, to the blame of who wrote it.
    pub fn get<T: ComponentContent>(&self) -> Result<Option<T>, DecodeError> {
        self.data(T::COMPONENT_ID)
            .map(|data| T::from_bytes(data))
            .transpose()
    }

    /// Puts the data of a component that this crate knows in.
    pub fn set<T: ComponentContent>(&mut self, content: &T) {
        self.set_data(T::COMPONENT_ID, content.to_bytes());
    }

    /// The same with one content more, for building in one expression.
    #[must_use]
    pub fn with<T: ComponentContent>(mut self, content: &T) -> Self {
        self.set(content);
        self
    }

    /// The same with the data of one component more.
    #[must_use]
    pub fn with_data(mut self, component_id: ComponentID, data: impl Into<Bytes>) -> Self {
        self.set_data(component_id, data);
        self
    }
}

impl AppDataDictionary {
    /// The same with an entry more that means nothing, at random (section 5.1).
    pub(crate) fn with_grease(self, rng: &mut dyn CryptoRng) -> Self {
        self.with_data(ComponentID::grease(rng), random_data(rng))
    }

    /// The same with an id more that means nothing in each list of components.
    pub(crate) fn with_grease_in_lists(mut self, rng: &mut dyn CryptoRng) -> Self {
        if let Ok(Some(mut list)) = self.get::<AppComponents>() {
            insert(&mut list.component_ids, ComponentID::grease(rng), rng);
            self.set(&list);
        }
        if let Ok(Some(mut list)) = self.get::<SafeAadComponents>() {
            insert(&mut list.component_ids, ComponentID::grease(rng), rng);
            self.set(&list);
        }
        self
    }
}

impl Encode for AppDataDictionary {
    fn encode(&self, out: &mut Vec<u8>) {
        crate::codec::encode_prefixed(out, |out| {
            for (component_id, data) in &self.0 {
                component_id.encode(out);
                data.encode(out);
            }
        });
    }
}

impl Decode for AppDataDictionary {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let entries: Vec<ComponentData> = Vec::decode(reader)?;
        if entries.is_sorted_by(|one, next| one.component_id < next.component_id) {
            let entries = entries.into_iter();
            Ok(Self(entries.map(|e| (e.component_id, e.data)).collect()))
        } else {
            Err(DecodeError::InvalidValue("component_data"))
        }
    }
}

impl ExtensionContent for AppDataDictionary {
    const EXTENSION_TYPE: ExtensionType = ExtensionType::APP_DATA_DICTIONARY;
}

impl Extensions {
    /// The data of a component that this crate knows, in the `app_data_dictionary`.
    ///
    /// # Errors
    /// [`DecodeError`] if dictionary or data are malformed, to the blame of who wrote the list.
    pub fn component<T: ComponentContent>(&self) -> Result<Option<T>, DecodeError> {
        match self.get::<AppDataDictionary>()? {
            Some(dictionary) => dictionary.get(),
            None => Ok(None),
        }
    }
}

/// What a component that this crate knows keeps.
pub trait ComponentContent: Encode + Decode {
    /// The component.
    const COMPONENT_ID: ComponentID;
}

macro_rules! components_list {
    ($($(#[$meta:meta])* $name:ident = $id:ident;)*) => {$(
        crate::tls_struct! {
            $(#[$meta])*
            #[derive(Clone, Debug, Default, PartialEq, Eq)]
            pub struct $name {
                /// The components.
                pub component_ids: Vec<ComponentID>,
            }
        }

        impl ComponentContent for $name {
            const COMPONENT_ID: ComponentID = ComponentID::$id;
        }
    )*};
}

components_list! {
    /// `app_components`: which components a client supports (LeafNode) or each member has to support
    /// (GroupContext).
    AppComponents = APP_COMPONENTS;
    /// `safe_aad`: which components with items in the authenticated data a client supports (LeafNode)
    /// or each member has to support (GroupContext). In a GroupContext, even if it is empty, it says
    /// that authenticated data is a [`SafeAAD`](super::SafeAAD).
    SafeAadComponents = SAFE_AAD;
}

crate::tls_struct! {
    /// `last_resort_key_package`: the KeyPackage may be used more than once. It holds nothing.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct LastResortKeyPackage {}
}

impl ComponentContent for LastResortKeyPackage {
    const COMPONENT_ID: ComponentID = ComponentID::LAST_RESORT_KEY_PACKAGE;
}

impl KeyPackage {
    /// Whether its owner marks it as one of last resort, which may be used more than once
    /// (draft-ietf-mls-extensions, section 6.4). A malformed mark is none.
    #[must_use]
    pub fn is_last_resort(&self) -> bool {
        let mark = self.extensions.component::<LastResortKeyPackage>();
        mark.is_ok_and(|mark| mark.is_some())
    }
}

crate::tls_struct! {
    /// Wire formats beyond those of RFC 9420 that a client supports: an extension of a LeafNode
    /// (draft-ietf-mls-extensions, section 5).
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct SupportedWireFormats {
        /// The formats.
        pub wire_formats: Vec<WireFormat>,
    }
}

crate::tls_struct! {
    /// Wire formats beyond those of RFC 9420 that each member has to support: an extension of a
    /// GroupContext (draft-ietf-mls-extensions, section 5).
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct RequiredWireFormats {
        /// The formats.
        pub wire_formats: Vec<WireFormat>,
    }
}

impl ExtensionContent for SupportedWireFormats {
    const EXTENSION_TYPE: ExtensionType = ExtensionType::SUPPORTED_WIRE_FORMATS;
}

impl ExtensionContent for RequiredWireFormats {
    const EXTENSION_TYPE: ExtensionType = ExtensionType::REQUIRED_WIRE_FORMATS;
}

/// Whether what a leaf node holds of this draft can be read, or which extensions cannot. The data of
/// components is theirs to judge.
pub(crate) fn unreadable_in_leaf(extensions: &Extensions) -> impl Iterator<Item = ExtensionType> {
    let dictionary = readable::<AppDataDictionary>(extensions).err();
    dictionary
        .into_iter()
        .chain(readable::<SupportedWireFormats>(extensions).err())
}

/// Whether what a GroupContext holds of this draft can be read, or which extension cannot.
pub(crate) fn check_group(extensions: &Extensions) -> Result<(), ExtensionType> {
    readable::<AppDataDictionary>(extensions)?;
    readable::<RequiredWireFormats>(extensions)?;
    let components = [
        extensions.component::<AppComponents>().map(drop),
        extensions.component::<SafeAadComponents>().map(drop),
        extensions.component::<MediaTypeList>().map(drop),
    ];
    if components.iter().all(Result::is_ok) {
        Ok(())
    } else {
        Err(ExtensionType::APP_DATA_DICTIONARY)
    }
}

fn readable<T: ExtensionContent>(extensions: &Extensions) -> Result<(), ExtensionType> {
    extensions
        .get::<T>()
        .map(drop)
        .map_err(|_| T::EXTENSION_TYPE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_sorted_and_there_is_one_of_each() {
        let mut dictionary = AppDataDictionary::default();
        dictionary.set_data(ComponentID(0x8002), [2]);
        dictionary.set_data(ComponentID(0x8001), [1, 1]);
        dictionary.set_data(ComponentID(0x8002), []);
        let bytes = b"\x08\x80\x01\x02\x01\x01\x80\x02\x00";
        assert_eq!(dictionary.to_bytes(), bytes);
        assert_eq!(AppDataDictionary::from_bytes(bytes), Ok(dictionary));
        for wrong in [
            b"\x06\x80\x02\x00\x80\x01\x00",
            b"\x06\x80\x01\x00\x80\x01\x00",
        ] {
            assert_eq!(
                AppDataDictionary::from_bytes(wrong),
                Err(DecodeError::InvalidValue("component_data"))
            );
        }
    }

    #[test]
    fn contents_are_found_by_their_component() {
        let list = AppComponents {
            component_ids: vec![ComponentID::SAFE_AAD, ComponentID(0x8001)],
        };
        let dictionary = AppDataDictionary::default().with(&list);
        assert_eq!(
            dictionary.to_bytes(),
            b"\x08\x00\x01\x05\x04\x00\x02\x80\x01"
        );
        let extensions = Extensions::default().with(&dictionary);
        assert_eq!(extensions.component(), Ok(Some(list)));
        assert_eq!(extensions.component::<SafeAadComponents>(), Ok(None));
        let malformed = dictionary.with_data(ComponentID::SAFE_AAD, [1]);
        let extensions = Extensions::default().with(&malformed);
        assert_eq!(
            extensions.component::<SafeAadComponents>(),
            Err(DecodeError::Truncated)
        );
    }
}
