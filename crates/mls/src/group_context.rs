//! What all members agree on (RFC 9420, section 8.1).

use crate::code_point::ProtocolVersion;
use crate::codec::Bytes;
use crate::crypto::CipherSuite;
use crate::extension::Extensions;

crate::tls_struct! {
    /// The summary of a group's state in one epoch.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct GroupContext {
        /// The protocol's version.
        pub version: ProtocolVersion,
        /// The group's algorithms.
        pub cipher_suite: CipherSuite,
        /// The group's id.
        pub group_id: Bytes,
        /// How many commits were applied.
        pub epoch: u64,
        /// The hash of the ratchet tree.
        pub tree_hash: Bytes,
        /// The hash of all commits up to this epoch.
        pub confirmed_transcript_hash: Bytes,
        /// The group's extensions.
        pub extensions: Extensions,
    }
}
