//! The ratchet tree as it is sent (RFC 9420, sections 7.1, 7.8 and 12.4.3.3).

use crate::codec::Bytes;
use crate::crypto::HpkePublicKey;
use crate::extension::{ExtensionContent, ExtensionType};
use crate::leaf_node::LeafNode;
use crate::tree_math::LeafIndex;

crate::tls_struct! {
    /// A parent node.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct ParentNode {
        /// The key that path secrets are encrypted to.
        pub encryption_key: HpkePublicKey,
        /// The hash that ties the node to its parent, see section 7.9.
        pub parent_hash: Bytes,
        /// Leaves below that do not know the private key, in increasing order.
        pub unmerged_leaves: Vec<LeafIndex>,
    }
}

crate::tls_enum! {
    /// A node that is not blank.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub enum Node: u8 {
        /// A leaf.
        Leaf(Box<LeafNode>) = 1,
        /// A parent.
        Parent(Box<ParentNode>) = 2,
    }
}

/// `optional<Node> ratchet_tree<V>`: all nodes from the left in the array of section 7.8, blanks at
/// the end left out. Whether it is a valid tree is checked where it becomes one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RatchetTree(pub Vec<Option<Node>>);

impl crate::codec::Encode for RatchetTree {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }
}

impl crate::codec::Decode for RatchetTree {
    fn decode(reader: &mut crate::codec::Reader<'_>) -> Result<Self, crate::codec::DecodeError> {
        Vec::decode(reader).map(Self)
    }
}

impl ExtensionContent for RatchetTree {
    const EXTENSION_TYPE: ExtensionType = ExtensionType::RATCHET_TREE;
}
