//! Credentials (RFC 9420, section 5.3).

use crate::code_point::code_points;
use crate::codec::{Bytes, Decode, DecodeError, Encode, Reader};

code_points! {
    /// The kinds of credentials (RFC 9420, sections 5.3 and 17.5).
    pub struct CredentialType {
        /// A bare identity.
        BASIC = 1 => "basic",
        /// A chain of X.509 certificates.
        X509 = 2 => "x509",
    }
}

crate::tls_struct! {
    /// One certificate in DER.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Certificate {
        /// The bytes.
        pub cert_data: Bytes,
    }
}

/// Who a leaf says that it is. Whether it is so, is the Authentication Service's to judge, see
/// [`AuthenticationService`](crate::context::AuthenticationService).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Credential {
    /// An identity in the application's own format.
    Basic {
        /// The identity.
        identity: Bytes,
    },
    /// A chain of certificates, the end entity's first.
    X509 {
        /// The chain.
        certificates: Vec<Certificate>,
    },
    /// Any other kind. Its content is one `opaque<V>`, as the two known kinds' content is.
    Custom {
        /// The kind.
        credential_type: CredentialType,
        /// The content, without its length.
        data: Bytes,
    },
}

impl Credential {
    /// A basic credential.
    #[must_use]
    pub fn basic(identity: impl Into<Bytes>) -> Self {
        Self::Basic {
            identity: identity.into(),
        }
    }

    /// The kind.
    #[must_use]
    pub fn credential_type(&self) -> CredentialType {
        match self {
            Self::Basic { .. } => CredentialType::BASIC,
            Self::X509 { .. } => CredentialType::X509,
            Self::Custom {
                credential_type, ..
            } => *credential_type,
        }
    }
}

impl Encode for Credential {
    fn encode(&self, out: &mut Vec<u8>) {
        self.credential_type().encode(out);
        match self {
            Self::Basic { identity } => identity.encode(out),
            Self::X509 { certificates } => certificates.encode(out),
            Self::Custom { data, .. } => data.encode(out),
        }
    }
}

impl Decode for Credential {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match CredentialType::decode(reader)? {
            CredentialType::BASIC => Self::Basic {
                identity: Bytes::decode(reader)?,
            },
            CredentialType::X509 => Self::X509 {
                certificates: Vec::decode(reader)?,
            },
            credential_type => Self::Custom {
                credential_type,
                data: Bytes::decode(reader)?,
            },
        })
    }

    fn skip(reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        match CredentialType::decode(reader)? {
            CredentialType::X509 => Vec::<Certificate>::skip(reader),
            _ => Bytes::skip(reader),
        }
    }
}
