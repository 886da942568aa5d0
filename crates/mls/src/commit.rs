//! Commits and the path of new keys that they carry (RFC 9420, sections 7.6 and 12.4).

use crate::codec::{
    Bytes, Decode, DecodeError, Encode, Reader, encode_bytes, encode_prefixed_about,
};
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

/// `HPKECiphertext encrypted_path_secret<V>`: many ciphertexts, left in their encoding. The first commits
/// in a group carry one for each member, and each member needs a single one.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct HpkeCiphertexts {
    encoded: Vec<u8>,
    count: usize,
}

impl HpkeCiphertexts {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The one at `place`, from 0. Those before it are passed over.
    #[must_use]
    pub fn get(&self, place: usize) -> Option<HpkeCiphertext> {
        let mut reader = Reader::new(&self.encoded);
        for _ in 0..place {
            skip(&mut reader).ok()?;
        }
        HpkeCiphertext::decode(&mut reader).ok()
    }

    /// All of them.
    #[must_use]
    pub fn to_vec(&self) -> Vec<HpkeCiphertext> {
        let mut reader = Reader::new(&self.encoded);
        (0..self.count)
            .map_while(|_| HpkeCiphertext::decode(&mut reader).ok())
            .collect()
    }
}

/// Passes a ciphertext over.
fn skip(reader: &mut Reader<'_>) -> Result<(), DecodeError> {
    reader.prefixed()?; // kem_output
    reader.prefixed()?; // ciphertext
    Ok(())
}

impl FromIterator<HpkeCiphertext> for HpkeCiphertexts {
    fn from_iter<I: IntoIterator<Item = HpkeCiphertext>>(ciphertexts: I) -> Self {
        let mut list = Self::default();
        for ciphertext in ciphertexts {
            ciphertext.encode(&mut list.encoded);
            list.count += 1;
        }
        list
    }
}

impl From<Vec<HpkeCiphertext>> for HpkeCiphertexts {
    fn from(ciphertexts: Vec<HpkeCiphertext>) -> Self {
        ciphertexts.into_iter().collect()
    }
}

impl std::fmt::Debug for HpkeCiphertexts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ciphertexts", self.count)
    }
}

impl Encode for HpkeCiphertexts {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_bytes(&self.encoded, out);
    }
}

/// Reads all of them to the end, so that none is malformed, and keeps the bytes.
impl Decode for HpkeCiphertexts {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let encoded = reader.prefixed()?;
        let mut list = Reader::new(encoded);
        let mut count = 0;
        while !list.is_empty() {
            skip(&mut list)?;
            count += 1;
        }
        Ok(Self {
            encoded: encoded.to_vec(),
            count,
        })
    }
}

crate::tls_struct! {
    /// One node of a path.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct UpdatePathNode {
        /// The node's new key.
        pub encryption_key: HpkePublicKey,
        /// The node's path secret, once for each node in the resolution of the copath node.
        pub encrypted_path_secret: HpkeCiphertexts,
    }
}

/// New keys from the committer's leaf to the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdatePath {
    /// The committer's new leaf.
    pub leaf_node: LeafNode,
    /// The filtered direct path, from below.
    pub nodes: Vec<UpdatePathNode>,
}

impl UpdatePath {
    /// About how many bytes the encoding of `nodes` takes.
    fn nodes_capacity(&self) -> usize {
        let nodes = self.nodes.iter();
        nodes
            .map(|node| node.encryption_key.len() + node.encrypted_path_secret.encoded.len() + 8)
            .sum()
    }
}

impl Encode for UpdatePath {
    fn encode(&self, out: &mut Vec<u8>) {
        self.leaf_node.encode(out);
        encode_prefixed_about(self.nodes_capacity(), out, |out| {
            self.nodes.iter().for_each(|node| node.encode(out));
        });
    }
}

impl Decode for UpdatePath {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            leaf_node: LeafNode::decode(reader)?,
            nodes: Vec::decode(reader)?,
        })
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

impl Commit {
    /// About how many bytes the encoding takes; more for proposals by value.
    pub(crate) fn encoded_capacity(&self) -> usize {
        self.path.as_ref().map_or(0, UpdatePath::nodes_capacity) + 1024
    }
}
