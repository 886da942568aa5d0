//! Numbers with names from the IANA registries (RFC 9420, section 17). Unknown values survive
//! decoding, since what a peer lists or carries may be newer than this program.

use rand_core::CryptoRng;

/// Declares a `uint16` registry: the type, its named values, and a `Debug` that prints the names.
macro_rules! code_points {
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident {
            $( $(#[$value_meta:meta])* $constant:ident = $value:literal => $text:literal ),* $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        $vis struct $name(pub u16);

        impl $name {
            $( $(#[$value_meta])* pub const $constant: Self = Self($value); )*

            /// The registry's name, if this program knows the value.
            #[must_use]
            pub fn name(self) -> Option<&'static str> {
                match self.0 {
                    $( $value => Some($text), )*
                    _ => None,
                }
            }

            /// Whether this is one of the values that keep receivers tolerant (RFC 9420, 13.5).
            #[must_use]
            pub fn is_grease(self) -> bool {
                self.0 & 0x0f0f == 0x0a0a && self.0 >> 8 == self.0 & 0xff && self.0 != 0xfafa
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self.name() {
                    Some(name) => f.write_str(name),
                    None => write!(f, "0x{:04x}", self.0),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Debug::fmt(self, f)
            }
        }

        impl $crate::codec::Encode for $name {
            fn encode(&self, out: &mut Vec<u8>) {
                $crate::codec::Encode::encode(&self.0, out);
            }
        }

        impl $crate::codec::Decode for $name {
            fn decode(
                reader: &mut $crate::codec::Reader<'_>,
            ) -> Result<Self, $crate::codec::DecodeError> {
                <u16 as $crate::codec::Decode>::decode(reader).map(Self)
            }
        }
    };
}
pub(crate) use code_points;

/// One of the 15 values that keep receivers tolerant (RFC 9420, section 13.5).
pub(crate) fn random_grease(rng: &mut dyn CryptoRng) -> u16 {
    let [random] = random_bytes(rng);
    0x0a0a + 0x1010 * u16::from(random % 15)
}

/// Up to 15 bytes without a meaning.
pub(crate) fn random_data(rng: &mut dyn CryptoRng) -> Vec<u8> {
    let [length, data @ ..] = random_bytes::<16>(rng);
    data[..usize::from(length % 16)].to_vec()
}

fn random_bytes<const N: usize>(rng: &mut dyn CryptoRng) -> [u8; N] {
    let mut bytes = [0; N];
    rng.fill_bytes(&mut bytes);
    bytes
}

code_points! {
    /// The version of the protocol (RFC 9420, section 6).
    pub struct ProtocolVersion {
        /// The version of RFC 9420.
        MLS10 = 1 => "mls10",
    }
}

code_points! {
    /// What a message is (RFC 9420, sections 6 and 17.2).
    pub struct WireFormat {
        /// A [`PublicMessage`](crate::framing::PublicMessage).
        PUBLIC_MESSAGE = 1 => "mls_public_message",
        /// A [`PrivateMessage`](crate::framing::PrivateMessage).
        PRIVATE_MESSAGE = 2 => "mls_private_message",
        /// A [`Welcome`](crate::welcome::Welcome).
        WELCOME = 3 => "mls_welcome",
        /// A [`GroupInfo`](crate::group_info::GroupInfo).
        GROUP_INFO = 4 => "mls_group_info",
        /// A [`KeyPackage`](crate::key_package::KeyPackage).
        KEY_PACKAGE = 5 => "mls_key_package",
    }
}

impl WireFormat {
    /// Whether RFC 9420 defines it, so that everybody supports it and nobody lists it.
    #[must_use]
    pub fn is_default(self) -> bool {
        (Self::PUBLIC_MESSAGE..=Self::KEY_PACKAGE).contains(&self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_their_number_and_print_their_name() {
        assert_eq!(format!("{:?}", ProtocolVersion::MLS10), "mls10");
        assert_eq!(format!("{:?}", ProtocolVersion(0xf001)), "0xf001");
        assert!(WireFormat(0x0a0a).is_grease());
        assert!(WireFormat(0xeaea).is_grease());
        assert!(!WireFormat(0x0a1a).is_grease());
        assert!(!WireFormat(0xfafa).is_grease());
    }
}
