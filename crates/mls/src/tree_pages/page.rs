//! What is on a page, and how it is sealed.
//!
//! ```text
//! struct {
//!     uint8 version = 1;
//!     uint8 tier; uint32 position;      // which page
//!     uint8 top;                        // the level of its highest node
//!     optional<Node> nodes[];           // from left to right, as many as the place has
//!     optional<Below> below[];          // of an index page: from left to right
//!     uint8 zeros[];                    // up to a multiple of 512 bytes
//! } TreePage;
//!
//! struct { opaque address<V>; opaque page_secret<V>; opaque tree_hash<V>; } Below;
//!
//! epoch_pages_secret = DeriveSecret(DeriveSecret(exporter_secret, "folkmoot tree pages"), "pages")
//! page_secret = ExpandWithLabel(epoch_pages_secret, "page", tier || position, KDF.Nh)
//! key         = ExpandWithLabel(page_secret, "key", "", AEAD.Nk)
//! nonce       = ExpandWithLabel(page_secret, "nonce", Hash(TreePage), AEAD.Nn)
//! sealed      = nonce || AEAD.Seal(key, nonce, "", TreePage)
//! address     = Hash(sealed)
//! ```
//! A page secret seals one content. Should a member have been told a false one, and so compute another
//! content under the same secret, the nonce differs with it.

use zeroize::Zeroizing;

use super::layout::{Layout, PageId};
use super::{MAX_PAGE, PageError, VERSION};
use crate::codec::{Bytes, Decode, DecodeError, Encode, Reader};
use crate::crypto::{Secret, Suite};
use crate::tree::Node;

/// What a page's length is a multiple of before it is sealed.
const PADDING: usize = 512;

/// The most bytes of a page before it is sealed: what sealing adds is less than one step.
const MAX_CONTENT: usize = MAX_PAGE - PADDING;

/// The bytes in front of a page's nodes.
const HEAD: usize = 7;

/// Where a sealed page is kept: its hash by the group's suite. Who stores it can check it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageAddress(pub Bytes);

impl PageAddress {
    /// The address of sealed bytes.
    #[must_use]
    pub fn of(suite: &dyn Suite, sealed: &[u8]) -> Self {
        Self(suite.hash(sealed).into())
    }
}

impl std::fmt::Debug for PageAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl Encode for PageAddress {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }
}

impl Decode for PageAddress {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Bytes::decode(reader).map(Self)
    }
}

/// A sealed page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The hash of the bytes.
    pub address: PageAddress,
    /// The sealed bytes.
    pub bytes: Vec<u8>,
}

crate::tls_struct! {
    /// What opens a page.
    #[derive(Clone, PartialEq)]
    pub(super) struct Entry {
        pub address: PageAddress,
        pub secret: Secret,
    }
}

crate::tls_struct! {
    /// What an index page says of one below it.
    #[derive(Clone, PartialEq)]
    pub(super) struct Below {
        pub entry: Entry,
        pub tree_hash: Bytes,
    }
}

/// A page that was opened. It is decoded for its form only: what is on it is checked where the tree is put
/// together.
#[derive(Clone, PartialEq)]
pub struct TreePage {
    /// Which page it says that it is.
    pub page: PageId,
    /// The level of its highest node.
    pub top: u32,
    /// Its nodes, from left to right.
    pub nodes: Vec<Option<Node>>,
    /// Of an index page: those below.
    pub(super) below: Vec<Option<Below>>,
}

/// The secret of one page in the epoch that writes it.
pub(super) fn page_secret(suite: &dyn Suite, epoch_secret: &Secret, page: PageId) -> Secret {
    let length = suite.hash_length();
    suite.expand_with_label(epoch_secret, "page", &page.to_bytes(), length)
}

/// Encodes a page.
pub(super) fn encode<'a>(
    page: PageId,
    top: u32,
    nodes: impl Iterator<Item = Option<&'a Node>>,
    below: &[Option<Below>],
) -> Zeroizing<Vec<u8>> {
    let mut public = Vec::new();
    VERSION.encode(&mut public);
    page.encode(&mut public);
    (top as u8).encode(&mut public);
    nodes.for_each(|node| node.encode(&mut public));
    let secrets: usize = below
        .iter()
        .map(|below| {
            1 + below.as_ref().map_or(0, |below| {
                12 + below.entry.address.0.len() + below.entry.secret.len() + below.tree_hash.len()
            })
        })
        .sum();
    // Room for all of it, so that no copy of a secret is left behind by growing.
    let mut out = Zeroizing::new(Vec::with_capacity(public.len() + secrets + PADDING));
    out.extend_from_slice(&public);
    below.iter().for_each(|below| below.encode(&mut out));
    let length = out.len().next_multiple_of(PADDING);
    debug_assert!(length <= out.capacity());
    out.resize(length, 0);
    out
}

/// Whether a page of these nodes can be sealed, with `present` pages below it out of `children`.
/// `scratch` is for the nodes, one at a time.
pub(super) fn fits<'a>(
    suite: &dyn Suite,
    nodes: impl Iterator<Item = Option<&'a Node>>,
    children: usize,
    present: usize,
    scratch: &mut Vec<u8>,
) -> bool {
    let nodes: usize = nodes
        .map(|node| {
            scratch.clear();
            node.encode(scratch);
            scratch.len()
        })
        .sum();
    // An address, a secret and a tree hash: all as long as a hash, and its length.
    scratch.clear();
    Bytes::from(vec![0; suite.hash_length()]).encode(scratch);
    let length = HEAD + nodes + children + 3 * scratch.len() * present;
    length.next_multiple_of(PADDING) <= MAX_CONTENT
}

/// Seals an encoded page.
pub(super) fn seal(
    suite: &dyn Suite,
    page: PageId,
    secret: Secret,
    content: &[u8],
) -> Result<(Entry, Vec<u8>), PageError> {
    if content.len() > MAX_CONTENT {
        let size = content.len();
        return Err(PageError::TooLarge { page, size });
    }
    let (key, nonce) = key(suite, &secret, content);
    let mut bytes = nonce.as_slice().to_vec();
    bytes.extend(suite.aead_seal(&key, &nonce, &[], content));
    debug_assert!(bytes.len() <= MAX_PAGE);
    let address = PageAddress::of(suite, &bytes);
    Ok((Entry { address, secret }, bytes))
}

fn key(suite: &dyn Suite, secret: &Secret, content: &[u8]) -> (Secret, Secret) {
    let hash = suite.hash(content);
    (
        suite.expand_with_label(secret, "key", &[], suite.aead_key_length()),
        suite.expand_with_label(secret, "nonce", &hash, suite.aead_nonce_length()),
    )
}

/// Opens what [`seal`] gave.
pub(super) fn open(
    suite: &dyn Suite,
    page: PageId,
    secret: &Secret,
    bytes: &[u8],
) -> Result<Secret, PageError> {
    let nonce_length = suite.aead_nonce_length();
    let (nonce, sealed) = bytes
        .split_at_checked(nonce_length)
        .ok_or(PageError::Malformed(page, DecodeError::Truncated))?;
    let aead_key = suite.expand_with_label(secret, "key", &[], suite.aead_key_length());
    let content = suite
        .aead_open(&aead_key, nonce, &[], sealed)
        .map_err(|error| PageError::Decryption(page, error))?;
    if *key(suite, secret, &content).1 != *nonce {
        return Err(PageError::Nonce(page));
    }
    Ok(content)
}

/// Reads a page of a tree of 2^`depth` leaves.
pub(super) fn decode(
    layout: Layout,
    page: PageId,
    depth: u32,
    content: &[u8],
) -> Result<TreePage, PageError> {
    let decoded =
        TreePage::read(layout, content).map_err(|error| PageError::Malformed(page, error))?;
    let found = decoded.page;
    if found != page || decoded.top != layout.root(page, depth).level() {
        return Err(PageError::WrongPlace { page, found });
    }
    Ok(decoded)
}

impl TreePage {
    fn read(layout: Layout, content: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(content);
        if u8::decode(&mut reader)? != VERSION {
            return Err(DecodeError::InvalidValue("TreePage.version"));
        }
        let page = PageId::decode(&mut reader)?;
        let top = u8::decode(&mut reader)?.into();
        let (nodes, below) = layout
            .counts(page.tier, top)
            .ok_or(DecodeError::InvalidValue("TreePage.top"))?;
        let nodes = (0..nodes).map(|_| Option::decode(&mut reader));
        let nodes = nodes.collect::<Result<_, _>>()?;
        let below = (0..below).map(|_| Option::decode(&mut reader));
        let below = below.collect::<Result<_, _>>()?;
        let zeros = reader.rest();
        if zeros.len() >= PADDING
            || zeros.iter().any(|byte| *byte != 0)
            || !content.len().is_multiple_of(PADDING)
        {
            return Err(DecodeError::InvalidValue("TreePage.zeros"));
        }
        Ok(Self {
            page,
            top,
            nodes,
            below,
        })
    }
}

impl std::fmt::Debug for TreePage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TreePage")
            .field("page", &self.page)
            .field("nodes", &self.nodes)
            .finish_non_exhaustive()
    }
}

impl Encode for TreePage {
    fn encode(&self, out: &mut Vec<u8>) {
        let nodes = self.nodes.iter().map(Option::as_ref);
        out.extend_from_slice(&encode(self.page, self.top, nodes, &self.below));
    }
}

/// A page is all that there is: its end is told by the length.
impl Decode for TreePage {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let content = reader.rest();
        reader.take(content.len())?;
        Self::read(Layout::V1, content)
    }
}
