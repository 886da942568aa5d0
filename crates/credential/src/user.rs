//! `name@domain`.

use std::fmt;
use std::str::FromStr;

use folkmoot_mls::codec::{Bytes, Decode, DecodeError, Encode, Reader, encode_bytes};
use folkmoot_mls::tls_struct;
use precis_profiles::UsernameCaseMapped;
use precis_profiles::precis_core::profile::PrecisFastInvocation;
use unicode_security::RestrictionLevel::HighlyRestrictive;
use unicode_security::{GeneralSecurityProfile, RestrictionLevelDetection, skeleton};

/// Text that names no user. Whoever typed or sent it is to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidUserId {
    /// There is no `@`.
    #[error("a user is written name@domain")]
    NoDomain,
    /// The part before the `@`.
    #[error("a user's name is 1 to 32 letters, digits, '-', '_' and '.'")]
    Name,
    /// The part before the `@` could be taken for another name.
    #[error("the name mixes scripts, or looks like one in another script")]
    Confusable,
    /// The part after the `@`.
    #[error("a domain is a host name in lower case, such as example.org or localhost")]
    Domain,
}

/// The part before the `@`, in any one script: what RFC 8265 makes of it (`UsernameCaseMapped`: lower
/// case, full-width letters folded, NFC, bidi rule), of letters, digits, `-`, `_` and `.`, with no mixture of
/// scripts that could deceive (Unicode Technical Standard 39, "highly restrictive") and no name in
/// another script that looks like one in ASCII. At most 32 characters and 64 bytes.
///
/// That is how a name is *read from people* and what an Authentication Service registers. A name that is
/// *decoded* keeps to less: it is UTF-8 within these lengths, and ASCII in it is of the characters above.
/// Tables of Unicode change, and members with different ones must judge the same credential alike. A
/// name that does not keep to the whole is shown with its characters as numbers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

/// The longest name, in characters.
const NAME_CHARACTERS: usize = 32;

/// And in bytes.
const NAME_BYTES: usize = 64;

impl Name {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is as a person could have typed it: what a service registers.
    #[must_use]
    pub fn is_safe(&self) -> bool {
        self.0.is_ascii() || self.0.parse::<Self>().is_ok_and(|name| name == *self)
    }

    /// What it looks like (Unicode Technical Standard 39, section 4): names with the same skeleton are
    /// taken for one another, so a domain has one of them only.
    #[must_use]
    pub fn skeleton(&self) -> String {
        skeleton(&self.0).collect()
    }

    /// Whether the bytes may stand in a credential, by a rule that never changes.
    fn is_allowed(text: &str) -> bool {
        let ascii = |c| matches!(c, 'a'..='z' | '0'..='9' | '-' | '_' | '.');
        matches!(text.len(), 1..=NAME_BYTES)
            && text.chars().count() <= NAME_CHARACTERS
            && text.chars().all(|c| ascii(c) || c > '\u{9f}')
    }
}

impl FromStr for Name {
    type Err = InvalidUserId;

    fn from_str(text: &str) -> Result<Self, InvalidUserId> {
        // Nothing becomes more than four times shorter by being mapped.
        if text.len() > 4 * NAME_BYTES {
            return Err(InvalidUserId::Name);
        }
        let name = UsernameCaseMapped::enforce(text).map_err(|_| InvalidUserId::Name)?;
        let is_listed = name.chars().all(GeneralSecurityProfile::identifier_allowed);
        if !Self::is_allowed(&name) || !is_listed {
            return Err(InvalidUserId::Name);
        }
        if name.is_ascii() {
            return Ok(Self(name.into_owned()));
        }
        let is_one_script = name.as_ref().detect_restriction_level() <= HighlyRestrictive;
        if !is_one_script || skeleton(&name).all(|c| c.is_ascii()) {
            return Err(InvalidUserId::Confusable);
        }
        Ok(Self(name.into_owned()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_safe() {
            return f.write_str(&self.0);
        }
        self.0.chars().try_for_each(|c| {
            if c.is_ascii() {
                write!(f, "{c}")
            } else {
                write!(f, "{}", c.escape_unicode())
            }
        })
    }
}

impl Encode for Name {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_bytes(self.0.as_bytes(), out);
    }
}

impl Decode for Name {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        std::str::from_utf8(reader.prefixed()?)
            .ok()
            .filter(|text| Self::is_allowed(text))
            .map(|text| Self(text.to_owned()))
            .ok_or(DecodeError::InvalidValue("name"))
    }
}

/// The part after the `@`: a host name (RFC 1123) in lower case, at most 253 bytes. One in another script
/// is written as its A-label (`xn--...`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Domain(String);

impl Domain {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Domain {
    type Err = InvalidUserId;

    fn from_str(text: &str) -> Result<Self, InvalidUserId> {
        let is_label = |label: &str| {
            matches!(label.len(), 1..=63)
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
        };
        if text.len() <= 253 && text.split('.').all(is_label) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidUserId::Domain)
        }
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Encode for Domain {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_bytes(self.0.as_bytes(), out);
    }
}

impl Decode for Domain {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        std::str::from_utf8(reader.prefixed()?)
            .ok()
            .and_then(|text| text.parse().ok())
            .ok_or(DecodeError::InvalidValue("domain"))
    }
}

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
            ("al ice@a", InvalidUserId::Name),
            ("al'ice@a", InvalidUserId::Name),
            ("a\u{200d}lice@a", InvalidUserId::Name),
            ("\u{202e}ecila@a", InvalidUserId::Name),
            // Greek alpha, Cyrillic a, and a name that is Cyrillic altogether.
            ("\u{3b1}lice@a", InvalidUserId::Confusable),
            ("payp\u{430}l@a", InvalidUserId::Confusable),
            (
                "\u{430}\u{440}\u{440}\u{4cf}\u{435}@a",
                InvalidUserId::Confusable,
            ),
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
        for longest in ["n".repeat(32), "ж".repeat(32), "日".repeat(21)] {
            assert!(longest.parse::<Name>().is_ok(), "{longest}");
            let longer = longest.clone() + &longest[..longest.chars().next().unwrap().len_utf8()];
            assert_eq!(longer.parse::<Name>(), Err(InvalidUserId::Name));
        }
    }

    #[test]
    fn names_are_normalised() {
        for (typed, expected) in [
            ("Alice", "alice"),
            ("ＡLice", "alice"),
            ("ÄLICE", "älice"),
            ("a\u{308}lice", "älice"),
            ("МОСКВА", "москва"),
            ("Καλημέρα", "καλημέρα"),
            ("日本太郎", "日本太郎"),
            ("alice日本", "alice日本"),
            ("אבג", "אבג"),
        ] {
            let name: Name = typed.parse().unwrap();
            assert_eq!(name.as_str(), expected);
            assert!(name.is_safe());
            assert_eq!(name.to_string(), expected);
            assert_eq!(Name::from_bytes(&name.to_bytes()), Ok(name));
        }
    }

    #[test]
    fn names_that_look_alike_have_one_skeleton() {
        let skeleton = |name: &str| name.parse::<Name>().unwrap().skeleton();
        for (one, other) in [("paypal", "paypa1"), ("modem", "modern"), ("ä", "a\u{308}")] {
            assert_eq!(skeleton(one), skeleton(other));
        }
        for (one, other) in [("alice", "älice"), ("alice", "a-lice"), ("bob", "b0b")] {
            assert_ne!(skeleton(one), skeleton(other));
        }
    }

    /// Whose library has other tables must read the same credentials.
    #[test]
    fn a_name_that_nobody_could_type_is_read_and_shown_as_what_it_is() {
        for name in ["payp\u{430}l", "\u{202e}ecila", "\u{378}"] {
            let decoded = Name::from_bytes(&name.as_bytes().to_vec().to_bytes()).unwrap();
            assert!(!decoded.is_safe());
            assert!(decoded.to_string().is_ascii());
        }
        assert!(Name::from_bytes(&b"a\xc2\x85".to_vec().to_bytes()).is_err());
    }

    proptest::proptest! {
        #[test]
        fn what_was_normalised_stays(text in "\\PC{0,40}") {
            if let Ok(name) = text.parse::<Name>() {
                proptest::prop_assert_eq!(name.as_str().parse::<Name>(), Ok(name));
            }
        }

        #[test]
        fn letters_of_any_script_stay(text in "[\\p{L}\\p{M}0-9._-]{1,12}") {
            if let Ok(name) = text.parse::<Name>() {
                proptest::prop_assert_eq!(name.as_str().parse::<Name>(), Ok(name));
            }
        }
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
