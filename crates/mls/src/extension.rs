//! Extensions and their contents (RFC 9420, section 13.4).

use std::collections::BTreeSet;

use rand_core::CryptoRng;

use crate::code_point::{code_points, random_data, random_grease};
use crate::codec::{Bytes, Decode, DecodeError, Encode, Reader};
use crate::component::AppDataDictionary;
use crate::credential::{Credential, CredentialType};
use crate::crypto::{HpkePublicKey, SignaturePublicKey};
use crate::proposal::ProposalType;

code_points! {
    /// The kinds of extensions (RFC 9420, section 17.3; draft-ietf-mls-extensions, section 7.1).
    pub struct ExtensionType {
        /// [`ApplicationId`], in a LeafNode.
        APPLICATION_ID = 1 => "application_id",
        /// [`RatchetTree`](crate::node::RatchetTree), in a GroupInfo.
        RATCHET_TREE = 2 => "ratchet_tree",
        /// [`RequiredCapabilities`], in a GroupContext.
        REQUIRED_CAPABILITIES = 3 => "required_capabilities",
        /// [`ExternalPub`], in a GroupInfo.
        EXTERNAL_PUB = 4 => "external_pub",
        /// [`ExternalSenders`], in a GroupContext.
        EXTERNAL_SENDERS = 5 => "external_senders",
        /// [`AppDataDictionary`], in a KeyPackage, LeafNode,
        /// GroupContext or GroupInfo.
        APP_DATA_DICTIONARY = 6 => "app_data_dictionary",
        /// [`SupportedWireFormats`](crate::component::SupportedWireFormats), in a LeafNode.
        SUPPORTED_WIRE_FORMATS = 7 => "supported_wire_formats",
        /// [`RequiredWireFormats`](crate::component::RequiredWireFormats), in a GroupContext.
        REQUIRED_WIRE_FORMATS = 8 => "required_wire_formats",
    }
}

impl ExtensionType {
    /// Whether RFC 9420 defines it, so that everybody supports it and nobody lists it (7.2).
    #[must_use]
    pub fn is_default(self) -> bool {
        (Self::APPLICATION_ID..=Self::EXTERNAL_SENDERS).contains(&self)
    }
}

crate::tls_struct! {
    /// One extension. What is unknown is kept as it came.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Extension {
        /// The kind.
        pub extension_type: ExtensionType,
        /// The content, encoded.
        pub extension_data: Bytes,
    }
}

/// The content of a known extension.
pub trait ExtensionContent: Encode + Decode {
    /// Its kind.
    const EXTENSION_TYPE: ExtensionType;
}

/// `Extension extensions<V>`: the order is kept, and no kind comes twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extensions(Vec<Extension>);

impl Extensions {
    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Extension> {
        self.0.iter()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The kinds, in order.
    pub fn types(&self) -> impl Iterator<Item = ExtensionType> {
        self.0.iter().map(|extension| extension.extension_type)
    }

    /// The encoded content of one kind.
    #[must_use]
    pub fn data(&self, extension_type: ExtensionType) -> Option<&Bytes> {
        self.iter()
            .find(|extension| extension.extension_type == extension_type)
            .map(|extension| &extension.extension_data)
    }

    /// The content of one kind, if it is there.
    ///
    /// # Errors
    /// [`DecodeError`] if the content is malformed, to the blame of who wrote the list.
    pub fn get<T: ExtensionContent>(&self) -> Result<Option<T>, DecodeError> {
        self.data(T::EXTENSION_TYPE)
            .map(|data| T::from_bytes(data))
            .transpose()
    }

    /// Takes one kind out.
    pub fn remove(&mut self, extension_type: ExtensionType) {
        self.0
            .retain(|known| known.extension_type != extension_type);
    }

    /// Puts a content in; one of the same kind is replaced in its place.
    pub fn set<T: ExtensionContent>(&mut self, content: &T) {
        self.set_data(T::EXTENSION_TYPE, content.to_bytes());
    }

    /// Puts an encoded content in; one of the same kind is replaced in its place.
    pub fn set_data(&mut self, extension_type: ExtensionType, data: impl Into<Bytes>) {
        let extension = Extension {
            extension_type,
            extension_data: data.into(),
        };
        match self
            .0
            .iter_mut()
            .find(|known| known.extension_type == extension_type)
        {
            Some(known) => *known = extension,
            None => self.0.push(extension),
        }
    }

    /// The same list with one content more that means nothing, at random: for KeyPackages and
    /// GroupInfos, so that nobody refuses what it does not know (RFC 9420, section 13.5). So has an
    /// `app_data_dictionary` that is there (draft-ietf-mls-extensions, section 5.1). A GroupContext holds
    /// none.
    #[must_use]
    pub fn with_grease(mut self, rng: &mut dyn CryptoRng) -> Self {
        if let Ok(Some(dictionary)) = self.get::<AppDataDictionary>() {
            self.set(&dictionary.with_grease(rng));
        }
        self.set_data(ExtensionType(random_grease(rng)), random_data(rng));
        self
    }

    /// The same list with one content more, for building in one expression.
    #[must_use]
    pub fn with<T: ExtensionContent>(mut self, content: &T) -> Self {
        self.set(content);
        self
    }
}

/// Keeps the first of each kind.
impl FromIterator<Extension> for Extensions {
    fn from_iter<I: IntoIterator<Item = Extension>>(extensions: I) -> Self {
        let mut seen = BTreeSet::new();
        Self(
            extensions
                .into_iter()
                .filter(|e| seen.insert(e.extension_type))
                .collect(),
        )
    }
}

impl Encode for Extensions {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }
}

impl Decode for Extensions {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let extensions: Vec<Extension> = Vec::decode(reader)?;
        let mut seen = BTreeSet::new();
        if extensions
            .iter()
            .all(|extension| seen.insert(extension.extension_type))
        {
            Ok(Self(extensions))
        } else {
            Err(DecodeError::InvalidValue("extensions"))
        }
    }

    fn skip(reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        // Most lists are empty; whether a type comes twice, decoding tells.
        let mut empty = reader.clone();
        match empty.prefixed() {
            Ok([]) => {
                *reader = empty;
                Ok(())
            }
            _ => Self::decode(reader).map(drop),
        }
    }
}

crate::tls_struct! {
    /// An application's own id for a leaf (RFC 9420, section 5.3.3).
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct ApplicationId {
        /// The id.
        pub application_id: Bytes,
    }
}

crate::tls_struct! {
    /// What every member must support (RFC 9420, section 11.1).
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct RequiredCapabilities {
        /// Extensions beyond the default ones.
        pub extension_types: Vec<ExtensionType>,
        /// Proposals beyond the default ones.
        pub proposal_types: Vec<ProposalType>,
        /// Credentials.
        pub credential_types: Vec<CredentialType>,
    }
}

crate::tls_struct! {
    /// The public key for external commits (RFC 9420, section 12.4.3.2).
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct ExternalPub {
        /// `external_pub` of the epoch.
        pub external_pub: HpkePublicKey,
    }
}

crate::tls_struct! {
    /// Somebody outside the group who may propose (RFC 9420, section 12.1.8.1).
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct ExternalSender {
        /// The key that verifies the proposals.
        pub signature_key: SignaturePublicKey,
        /// Who it is.
        pub credential: Credential,
    }
}

crate::tls_struct! {
    /// The list of those outside who may propose; a sender is named by its place in it.
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct ExternalSenders {
        /// The senders.
        pub external_senders: Vec<ExternalSender>,
    }
}

impl ExtensionContent for ApplicationId {
    const EXTENSION_TYPE: ExtensionType = ExtensionType::APPLICATION_ID;
}

impl ExtensionContent for RequiredCapabilities {
    const EXTENSION_TYPE: ExtensionType = ExtensionType::REQUIRED_CAPABILITIES;
}

impl ExtensionContent for ExternalPub {
    const EXTENSION_TYPE: ExtensionType = ExtensionType::EXTERNAL_PUB;
}

impl ExtensionContent for ExternalSenders {
    const EXTENSION_TYPE: ExtensionType = ExtensionType::EXTERNAL_SENDERS;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_that_comes_twice_is_refused() {
        let twice = [6, 0, 9, 0, 0, 9, 0];
        assert_eq!(
            Extensions::from_bytes(&twice),
            Err(DecodeError::InvalidValue("extensions"))
        );
    }

    #[test]
    fn contents_are_found_by_their_type() {
        let id = ApplicationId {
            application_id: Bytes::from([1, 2]),
        };
        let extensions = Extensions::default()
            .with(&id)
            .with(&RequiredCapabilities::default());
        assert_eq!(extensions.get::<ApplicationId>(), Ok(Some(id)));
        assert_eq!(extensions.get::<ExternalSenders>(), Ok(None));
        assert_eq!(
            Extensions::from_bytes(&extensions.to_bytes()),
            Ok(extensions)
        );
    }
}
