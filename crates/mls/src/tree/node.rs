//! Nodes as the tree keeps them (RFC 9420, sections 7.1, 7.2 and 7.8).

use std::sync::Arc;

use crate::capabilities::Capabilities;
use crate::codec::{Decode, DecodeError, Encode, Reader};
use crate::credential::{Credential, CredentialType};
use crate::extension::Extensions;
use crate::leaf_node::{LeafNode, LeafNodeSource};
use crate::node::ParentNode;

/// A leaf node in the bytes that its member signed. Hashing and signature checks use these bytes;
/// fields are decoded when they are asked for.
#[derive(Clone, PartialEq)]
pub struct Leaf(Arc<[u8]>);

impl Leaf {
    /// The encoding of the [`LeafNode`].
    #[must_use]
    pub fn encoded(&self) -> &[u8] {
        &self.0
    }

    /// The whole leaf node.
    #[must_use]
    pub fn leaf_node(&self) -> LeafNode {
        LeafNode::from_bytes(&self.0).expect(WELL_FORMED)
    }

    /// `LeafNode.encryption_key`.
    #[must_use]
    pub fn encryption_key(&self) -> &[u8] {
        self.keys().0
    }

    /// `LeafNode.signature_key`.
    #[must_use]
    pub fn signature_key(&self) -> &[u8] {
        self.keys().1
    }

    fn keys(&self) -> (&[u8], &[u8]) {
        let mut reader = Reader::new(&self.0);
        let mut next = || reader.prefixed().expect(WELL_FORMED);
        (next(), next())
    }

    /// The leaf node cut into pieces, without decoding them.
    pub(super) fn parts(&self) -> LeafParts<'_> {
        LeafParts::read(&mut Reader::new(&self.0)).expect(WELL_FORMED)
    }
}

/// Only what was decoded, or passed over as if, becomes a [`Leaf`].
const WELL_FORMED: &str = "a leaf holds the encoding of a leaf node";

/// Pieces of an encoded [`LeafNode`].
pub(super) struct LeafParts<'a> {
    pub credential_type: CredentialType,
    /// The encoded [`Capabilities`].
    pub capabilities: &'a [u8],
    /// The encoded [`LeafNodeSource`].
    pub source: &'a [u8],
    /// The encoded [`Extensions`].
    pub extensions: &'a [u8],
}

impl<'a> LeafParts<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        reader.prefixed()?;
        reader.prefixed()?;
        let credential_type = CredentialType::decode(&mut reader.clone())?;
        Credential::skip(reader)?;
        let capabilities = piece::<Capabilities>(reader)?;
        let source = piece::<LeafNodeSource>(reader)?;
        let extensions = piece::<Extensions>(reader)?;
        Ok(Self {
            credential_type,
            capabilities,
            source,
            extensions,
        })
    }
}

/// The bytes of what stands at the front.
fn piece<'a, T: Decode>(reader: &mut Reader<'a>) -> Result<&'a [u8], DecodeError> {
    let start = reader.rest();
    T::skip(reader)?;
    Ok(&start[..start.len() - reader.rest().len()])
}

impl From<&LeafNode> for Leaf {
    fn from(leaf_node: &LeafNode) -> Self {
        Self(leaf_node.to_bytes().into())
    }
}

impl std::fmt::Debug for Leaf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.leaf_node().fmt(f)
    }
}

impl Encode for Leaf {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }
}

impl Decode for Leaf {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        piece::<LeafNode>(reader).map(|encoded| Self(encoded.into()))
    }
}

/// A node that is not blank. Cheap to clone.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    /// A member.
    Leaf(Leaf),
    /// A key that the members below share.
    Parent(Arc<ParentNode>),
}

impl Node {
    /// The public key that opens what is encrypted to this node.
    #[must_use]
    pub fn encryption_key(&self) -> &[u8] {
        match self {
            Self::Leaf(leaf) => leaf.encryption_key(),
            Self::Parent(parent) => &parent.encryption_key,
        }
    }

    /// The leaf, if it is one.
    #[must_use]
    pub fn leaf(&self) -> Option<&Leaf> {
        match self {
            Self::Leaf(leaf) => Some(leaf),
            Self::Parent(_) => None,
        }
    }

    /// The parent node, if it is one.
    #[must_use]
    pub fn parent(&self) -> Option<&ParentNode> {
        match self {
            Self::Leaf(_) => None,
            Self::Parent(parent) => Some(parent),
        }
    }

    /// Whether both are the same value in memory: a cheap test that never says yes wrongly.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Leaf(a), Self::Leaf(b)) => Arc::ptr_eq(&a.0, &b.0),
            (Self::Parent(a), Self::Parent(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

/// `NodeType` (RFC 9420, section 7.8).
pub(super) const LEAF: u8 = 1;
/// `NodeType` (RFC 9420, section 7.8).
pub(super) const PARENT: u8 = 2;

impl Encode for Node {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Leaf(leaf) => {
                LEAF.encode(out);
                leaf.encode(out);
            }
            Self::Parent(parent) => {
                PARENT.encode(out);
                parent.encode(out);
            }
        }
    }
}

impl Decode for Node {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match u8::decode(reader)? {
            LEAF => Leaf::decode(reader).map(Self::Leaf),
            PARENT => ParentNode::decode(reader).map(|parent| Self::Parent(Arc::new(parent))),
            _ => Err(DecodeError::InvalidValue("Node.node_type")),
        }
    }
}
