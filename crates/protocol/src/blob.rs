//! Blobs: the capabilities that reach them (DESIGN, "Mailboxes, shelves, blobs, tokens").
//!
//! Whoever uploads an attachment draws two capabilities. One goes to the readers, with the key that the
//! attachment is encrypted under; the other stays with the uploader. The service keeps hashes only, so
//! what it stores opens nothing.

use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::ids::BlobId;
use crate::keys::hash;

macro_rules! capability {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Clone, PartialEq, Eq)]
        pub struct $name(Zeroizing<[u8; 32]>);

        impl $name {
            /// A random one.
            #[must_use]
            pub fn generate(rng: &mut dyn CryptoRng) -> Self {
                let mut bytes = Zeroizing::new([0; 32]);
                rng.fill_bytes(bytes.as_mut());
                Self(bytes)
            }

            /// Reads one from a protobuf field; `None` unless it has 32 bytes.
            #[must_use]
            pub fn read(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(|bytes| Self(Zeroizing::new(bytes)))
            }

            /// As it is shown to the service, or sealed for a reader.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        /// Shows nothing.
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(concat!(stringify!($name), "(..)"))
            }
        }
    };
}

capability!(
    /// Whoever has it reads a blob.
    ReadCapability
);
capability!(
    /// Whoever has it uploads a blob, and deletes it.
    WriteCapability
);

impl ReadCapability {
    /// The blob that it reads.
    #[must_use]
    pub fn blob(&self) -> BlobId {
        BlobId(hash("blob", &*self.0))
    }
}

impl WriteCapability {
    /// What the service keeps of it.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        hash("blob write", &*self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_capability_is_not_the_other() {
        let bytes = [7; 32];
        let read = ReadCapability::read(&bytes).unwrap();
        let write = WriteCapability::read(&bytes).unwrap();
        assert_ne!(read.blob().0, write.hash());
        assert_ne!(read.blob().0, bytes);
        assert_eq!(read.as_bytes(), &bytes);
        assert_eq!(ReadCapability::read(&bytes[..31]), None);
        assert_eq!(
            format!("{read:?} {write:?}"),
            "ReadCapability(..) WriteCapability(..)"
        );
    }
}
