//! `/.well-known/folkmoot`: what a domain publishes about its services, as JSON.

use serde::{Deserialize, Serialize};

use crate::keys::PublicKey;

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
            .map(PublicKey)
            .ok_or_else(|| serde::de::Error::custom("not 64 hex digits"))
    }
}

fn parse_hex(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let mut key = [0; 32];
    for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
        let high = char::from(pair[0]).to_digit(16)?;
        let low = char::from(pair[1]).to_digit(16)?;
        *byte = (high * 16 + low) as u8;
    }
    Some(key)
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
        };
        let text = serde_json::to_string(&document).unwrap();
        assert_eq!(serde_json::from_str::<WellKnown>(&text).unwrap(), document);
        let short = text.replace(&"ab".repeat(32), "abc");
        assert!(serde_json::from_str::<WellKnown>(&short).is_err());
    }
}
