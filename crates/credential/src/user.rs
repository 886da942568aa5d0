//! `name@domain`.

use std::fmt;
use std::str::FromStr;

use folkmoot_mls::codec::{Bytes, Decode, DecodeError, Encode, Reader, encode_bytes};
use folkmoot_mls::tls_struct;

/// Text that names no user. Whoever typed or sent it is to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidUserId {
    /// There is no `@`.
    #[error("a user is written name@domain")]
    NoDomain,
    /// The part before the `@`.
    #[error("a user's name is 1 to 32 lower-case letters, digits, '-', '_' and '.'")]
    Name,
    /// The part after the `@`.
    #[error("a domain is a host name in lower case, such as example.org or localhost")]
    Domain,
}

macro_rules! text {
    ($(#[$meta:meta])* $name:ident, $field:literal, $error:ident, $rule:expr) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidUserId;

            fn from_str(text: &str) -> Result<Self, InvalidUserId> {
                let allowed: fn(&str) -> bool = $rule;
                if allowed(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(InvalidUserId::$error)
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Encode for $name {
            fn encode(&self, out: &mut Vec<u8>) {
                encode_bytes(self.0.as_bytes(), out);
            }
        }

        impl Decode for $name {
            fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
                std::str::from_utf8(reader.prefixed()?)
                    .ok()
                    .and_then(|text| text.parse().ok())
                    .ok_or(DecodeError::InvalidValue($field))
            }
        }
    };
}

text!(
    /// The part before the `@`: 1 to 32 of `a-z 0-9 - _ .`, so that no other alphabet's letters pass
    /// for these.
    Name,
    "name",
    Name,
    |text| {
        matches!(text.len(), 1..=32)
            && text.bytes().all(
                |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.'),
            )
    }
);

text!(
    /// The part after the `@`: a host name (RFC 1123) in lower case, at most 253 bytes.
    Domain,
    "domain",
    Domain,
    |text| {
        text.len() <= 253
            && text.split('.').all(|label| {
                matches!(label.len(), 1..=63)
                    && !label.starts_with('-')
                    && !label.ends_with('-')
                    && label
                        .bytes()
                        .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
            })
    }
);

tls_struct! {
    /// A user: `name@domain`.
    #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub struct UserId {
        /// The part before the `@`.
        pub name: Name,
        /// The part after it.
        pub domain: Domain,
    }
}

impl UserId {
    /// Reads what a person typed: `name@domain`, or `name` alone for one of `home`.
    ///
    /// # Errors
    /// [`InvalidUserId`].
    pub fn parse_in(text: &str, home: &Domain) -> Result<Self, InvalidUserId> {
        if text.contains('@') {
            text.parse()
        } else {
            Ok(Self {
                name: text.parse()?,
                domain: home.clone(),
            })
        }
    }

    /// The text as a field of a structure.
    #[must_use]
    pub fn to_field(&self) -> Bytes {
        self.to_string().into_bytes().into()
    }
}

impl FromStr for UserId {
    type Err = InvalidUserId;

    fn from_str(text: &str) -> Result<Self, InvalidUserId> {
        let (name, domain) = text.split_once('@').ok_or(InvalidUserId::NoDomain)?;
        Ok(Self {
            name: name.parse()?,
            domain: domain.parse()?,
        })
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.domain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_read_as_they_are_printed() {
        for text in ["alice@example.org", "a@localhost", "x-1_y.z@a-b.c"] {
            assert_eq!(text.parse::<UserId>().unwrap().to_string(), text);
        }
        let home = "example.org".parse().unwrap();
        let bob = UserId::parse_in("bob", &home).unwrap();
        assert_eq!(bob.to_string(), "bob@example.org");
        assert_eq!(UserId::parse_in("bob@example.org", &home), Ok(bob));
    }

    #[test]
    fn what_is_no_user_is_refused_for_its_reason() {
        let long_name = format!("{}@a", "n".repeat(33));
        let long_domain = format!("a@{}", vec!["d"; 128].join("."));
        let long_label = format!("a@{}", "d".repeat(64));
        for (text, expected) in [
            ("alice", InvalidUserId::NoDomain),
            ("", InvalidUserId::NoDomain),
            ("@a", InvalidUserId::Name),
            ("Alice@a", InvalidUserId::Name),
            ("al ice@a", InvalidUserId::Name),
            ("älice@a", InvalidUserId::Name),
            (&long_name, InvalidUserId::Name),
            ("a@", InvalidUserId::Domain),
            ("a@b@c", InvalidUserId::Domain),
            ("a@.", InvalidUserId::Domain),
            ("a@b..c", InvalidUserId::Domain),
            ("a@-b", InvalidUserId::Domain),
            ("a@b-", InvalidUserId::Domain),
            ("a@B", InvalidUserId::Domain),
            ("a@b:1", InvalidUserId::Domain),
            (&long_domain, InvalidUserId::Domain),
            (&long_label, InvalidUserId::Domain),
        ] {
            assert_eq!(text.parse::<UserId>(), Err(expected), "{text:?}");
        }
        assert_eq!(
            format!("{}@a", "n".repeat(32))
                .parse::<UserId>()
                .map(|_| ()),
            Ok(())
        );
    }

    #[test]
    fn decoding_keeps_the_same_rules() {
        let user: UserId = "alice@example.org".parse().unwrap();
        assert_eq!(UserId::from_bytes(&user.to_bytes()), Ok(user));
        assert_eq!(
            UserId::from_bytes(b"\x01A\x01b"),
            Err(DecodeError::InvalidValue("name"))
        );
        assert_eq!(
            UserId::from_bytes(b"\x01a\x01\xff"),
            Err(DecodeError::InvalidValue("domain"))
        );
    }
}
