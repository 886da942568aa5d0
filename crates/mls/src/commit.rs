//! Commits and the path of new keys that they carry (RFC 9420, sections 7.6 and 12.4).

use crate::codec::Bytes;
use crate::crypto::HpkePublicKey;
use crate::leaf_node::LeafNode;
use crate::proposal::ProposalOrRef;

crate::tls_struct! {
    /// A ciphertext of HPKE with the encapsulated key that opens it.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct HpkeCiphertext {
        /// The encapsulated key.
        pub kem_output: Bytes,
        /// The ciphertext.
        pub ciphertext: Bytes,
    }
}

crate::tls_struct! {
    /// One node of a path.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct UpdatePathNode {
        /// The node's new key.
        pub encryption_key: HpkePublicKey,
        /// The node's path secret, once for each node in the resolution of the copath node.
        pub encrypted_path_secret: Vec<HpkeCiphertext>,
    }
}

crate::tls_struct! {
    /// New keys from the committer's leaf to the root.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct UpdatePath {
        /// The committer's new leaf.
        pub leaf_node: LeafNode,
        /// The filtered direct path, from below.
        pub nodes: Vec<UpdatePathNode>,
    }
}

crate::tls_struct! {
    /// Applies proposals and starts a new epoch.
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct Commit {
        /// What it applies, in order.
        pub proposals: Vec<ProposalOrRef>,
        /// New keys, needed unless only Adds and PSKs are applied.
        pub path: Option<UpdatePath>,
    }
}
