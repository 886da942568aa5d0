//! Secrets for components, each exported once per epoch (draft-ietf-mls-extensions, section 4.4).
//!
//! A secret tree with a leaf for each of the 2^16 component ids. An exported secret cannot be computed
//! again from what is left, so an application gets forward secrecy within the epoch.

use std::collections::BTreeMap;

use crate::codec::{Decode, DecodeError, Encode, Reader, encode_prefixed};
use crate::component::ComponentID;
use crate::crypto::{Secret, Suite};
use crate::error::Error;
use crate::secret_tree::SecretTree;

/// The exporter tree of one epoch.
#[derive(Debug)]
pub struct SafeExporter(SecretTree);

impl SafeExporter {
    const HEIGHT: u32 = 16;

    /// From the epoch's `application_export_secret`.
    #[must_use]
    pub fn new(application_export_secret: Secret) -> Self {
        Self(SecretTree::new(application_export_secret, Self::HEIGHT))
    }

    /// `SafeExportSecret`: the component's secret, which is gone from here.
    ///
    /// # Errors
    /// [`Error::AlreadyExported`], the caller's.
    pub fn export(
        &mut self,
        suite: &dyn Suite,
        component_id: ComponentID,
    ) -> Result<Secret, Error> {
        self.0
            .take_leaf(suite, component_id.0.into())
            .map(|(secret, _)| secret)
            .ok_or(Error::AlreadyExported(component_id))
    }

    /// About how many bytes the encoding takes.
    pub(crate) fn encoded_capacity(&self) -> usize {
        16 + 80 * self.0.secrets().count()
    }
}

/// For storage: the secrets that are left.
impl Encode for SafeExporter {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_prefixed(out, |out| {
            for (node, secret) in self.0.secrets() {
                node.encode(out);
                secret.encode(out);
            }
        });
    }
}

impl Decode for SafeExporter {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut body = Reader::new(reader.prefixed()?);
        let mut secrets = BTreeMap::new();
        while !body.is_empty() {
            let node = u32::decode(&mut body)?;
            if node == 0 || node >> (Self::HEIGHT + 1) != 0 {
                return Err(DecodeError::InvalidValue("node of the exporter tree"));
            }
            secrets.insert(node, Secret::decode(&mut body)?);
        }
        Ok(Self(SecretTree::from_secrets(Self::HEIGHT, secrets)))
    }
}

#[cfg(all(test, feature = "aws-lc"))]
mod tests {
    use super::*;
    use crate::crypto::{CipherSuite, CryptoProvider, aws_lc::PROVIDER};

    #[test]
    fn a_secret_is_exported_once_also_across_storage() {
        let suite = CipherSuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_ED25519;
        let suite = PROVIDER.suite(suite).unwrap();
        let mut exporter = SafeExporter::new(Secret::zero(32));
        let first = exporter.export(suite, ComponentID(0x8001)).unwrap();
        assert_eq!(
            exporter.export(suite, ComponentID(0x8001)),
            Err(Error::AlreadyExported(ComponentID(0x8001)))
        );
        let bytes = exporter.to_bytes();
        assert!(bytes.len() <= exporter.encoded_capacity());
        let mut loaded = SafeExporter::from_bytes(&bytes).unwrap();
        assert_eq!(
            loaded.export(suite, ComponentID(0x8001)),
            Err(Error::AlreadyExported(ComponentID(0x8001)))
        );
        let other = loaded.export(suite, ComponentID(0x8000)).unwrap();
        assert_ne!(first, other);
        assert_eq!(
            SafeExporter::new(Secret::zero(32)).export(suite, ComponentID(0x8000)),
            Ok(other)
        );
    }
}
