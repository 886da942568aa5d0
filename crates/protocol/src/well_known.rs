//! `/.well-known/folkmoot`: what a domain publishes about its services, as JSON.

use serde::{Deserialize, Serialize};

use crate::keys::PublicKey;
use crate::token::TOKEN_TYPE;
use crate::token::draw::IssuerEntry;

/// Where it is served, over TLS.
pub const PATH: &str = "/.well-known/folkmoot";

/// A domain's services.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WellKnown {
    /// 1.
    pub version: u16,
    /// The part after the `@` of this domain's users.
    pub domain: String,
    /// The Authentication Service, if this domain runs one.
    pub authentication: Option<Service>,
    /// The Delivery Service, if this domain runs one.
    pub delivery: Option<Service>,
    /// The keys with which the Authentication Service issues anonymous tokens: for whoever runs a
    /// Delivery Service that is to take them. None: it issues no tokens.
    #[serde(default)]
    pub token_keys: Vec<TokenKey>,
}

/// An issuer key (RFC 9578, section 4). Times are seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenKey {
    /// 2; who does not know a type passes the key over.
    pub token_type: u16,
    /// The SubjectPublicKeyInfo.
    #[serde(with = "hex_bytes")]
    pub token_key: Vec<u8>,
    /// When it begins to issue.
    pub not_before: u64,
    /// When it stops.
    pub issues_until: u64,
    /// When its tokens are no longer good.
    pub not_after: u64,
}

impl From<&IssuerEntry> for TokenKey {
    fn from(entry: &IssuerEntry) -> Self {
        Self {
            token_type: TOKEN_TYPE,
            token_key: entry.token_key.to_vec(),
            not_before: entry.not_before,
            issues_until: entry.issues_until,
            not_after: entry.not_after,
        }
    }
}

impl WellKnown {
    /// The issuer keys of the type that we know.
    #[must_use]
    pub fn issuers(&self) -> Vec<IssuerEntry> {
        let keys = self.token_keys.iter();
        keys.filter(|key| key.token_type == TOKEN_TYPE)
            .map(|key| IssuerEntry {
                token_key: key.token_key.as_slice().into(),
                not_before: key.not_before,
                issues_until: key.issues_until,
                not_after: key.not_after,
            })
            .collect()
    }
}

/// One service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// `https://host:port`.
    pub url: String,
    /// Its Ed25519 signing key.
    #[serde(with = "hex_key")]
    pub key: PublicKey,
}

/// A key as 64 hexadecimal digits.
mod hex_key {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::keys::PublicKey;

    pub fn serialize<S: Serializer>(key: &PublicKey, serializer: S) -> Result<S::Ok, S::Error> {
        let text: String = key.0.iter().map(|byte| format!("{byte:02x}")).collect();
        serializer.serialize_str(&text)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PublicKey, D::Error> {
        let text = String::deserialize(deserializer)?;
        super::parse_hex(&text)
            .and_then(|key| PublicKey::read(&key))
            .ok_or_else(|| serde::de::Error::custom("not 64 hex digits"))
    }
}

/// Bytes as hexadecimal digits.
mod hex_bytes {
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        serializer.serialize_str(&text)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        super::parse_hex(&text).ok_or_else(|| serde::de::Error::custom("not hex digits"))
    }
}

fn parse_hex(text: &str) -> Option<Vec<u8>> {
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else {
        return None;
    };
    let byte = |[high, low]: &[u8; 2]| {
        let high = char::from(*high).to_digit(16)?;
        let low = char::from(*low).to_digit(16)?;
        u8::try_from(high * 16 + low).ok()
    };
    pairs.iter().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_survives_json() {
        let service = Service {
            url: "https://localhost:1".into(),
            key: PublicKey([0xab; 32]),
        };
        let document = WellKnown {
            version: 1,
            domain: "localhost".into(),
            authentication: Some(service),
            delivery: None,
            token_keys: vec![TokenKey {
                token_type: 2,
                token_key: vec![0x30, 0, 0xff],
                not_before: 1,
                issues_until: 2,
                not_after: 3,
            }],
        };
        let entry = &document.issuers()[0];
        assert_eq!(TokenKey::from(entry), document.token_keys[0]);
        let text = serde_json::to_string(&document).unwrap();
        assert_eq!(serde_json::from_str::<WellKnown>(&text).unwrap(), document);
        // A domain that issues no tokens may leave the keys out.
        let without = r#"{"version":1,"domain":"d","authentication":null,"delivery":null}"#;
        let without: WellKnown = serde_json::from_str(without).unwrap();
        assert_eq!(without.issuers(), []);
        let odd = text.replace("3000ff", "3000f");
        assert!(serde_json::from_str::<WellKnown>(&odd).is_err());
        let short = text.replace(&"ab".repeat(32), "abc");
        assert!(serde_json::from_str::<WellKnown>(&short).is_err());
    }
}
