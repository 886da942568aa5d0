//! The 32-byte names of things at the services.

use folkmoot_mls::codec::{Decode, DecodeError, Encode, Reader};

macro_rules! id {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 32]);

        impl $name {
            /// Reads an id from a protobuf field; `None` unless it has 32 bytes.
            #[must_use]
            pub fn read(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self)
            }
        }

        impl From<$name> for Vec<u8> {
            fn from(id: $name) -> Self {
                id.0.to_vec()
            }
        }

        impl AsRef<[u8]> for $name {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        /// The first eight bytes in hexadecimal, enough to tell two apart by eye.
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0[..8].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl Encode for $name {
            fn encode(&self, out: &mut Vec<u8>) {
                self.0.encode(out);
            }
        }

        impl Decode for $name {
            fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
                reader.array().map(Self)
            }
        }
    };
}

id!(
    /// A log: the MLS `group_id`, 32 random bytes.
    LogId
);
id!(
    /// An entry: the append id, a hash of its content. Commits, parents and branches are named so.
    EntryId
);
id!(
    /// The hash of a log up to and including an entry.
    ChainHash
);
id!(
    /// A random pickup address inside a log.
    PickupAddress
);
id!(
    /// What a large append goes up in: the hash of a [`Stage`](crate::log::Stage).
    StageId
);
id!(
    /// A sealed tree page inside a log: SHA-256 of its bytes, as the engine has it for cipher suites with
    /// that hash.
    PageAddress
);
id!(
    /// A mailbox, and the shelf that belongs to it: a hash of the owner's key.
    MailboxId
);
id!(
    /// A sealed KeyPackage at a DS: the hash of its sealed bytes.
    PackageId
);
