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

/// A page that was opened.
pub(super) struct Content {
    /// The nodes, as many as the layout puts on the page.
    pub nodes: Vec<Option<Node>>,
    /// Of an index page: those below.
    pub below: Vec<Option<Below>>,
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

/// Seals an encoded page.
pub(super) fn seal(
    suite: &dyn Suite,
    page: PageId,
    secret: Secret,
    content: &[u8],
) -> Result<(Entry, Vec<u8>), PageError> {
    let (key, nonce) = key(suite, &secret, content);
    let mut bytes = nonce.as_slice().to_vec();
    bytes.extend(suite.aead_seal(&key, &nonce, &[], content));
    if bytes.len() > MAX_PAGE {
        let size = bytes.len();
        return Err(PageError::TooLarge { page, size });
    }
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

/// Reads the content of a page of a tree of 2^`depth` leaves. What the nodes are worth is the caller's
/// to check.
pub(super) fn decode(
    layout: Layout,
    page: PageId,
    depth: u32,
    content: &[u8],
) -> Result<Content, PageError> {
    let malformed = |error| PageError::Malformed(page, error);
    let mut reader = Reader::new(content);
    if u8::decode(&mut reader).map_err(malformed)? != VERSION {
        return Err(malformed(DecodeError::InvalidValue("TreePage.version")));
    }
    let found = PageId::decode(&mut reader).map_err(malformed)?;
    let top = u32::from(u8::decode(&mut reader).map_err(malformed)?);
    if found != page || top != layout.root(page, depth).level() {
        return Err(PageError::WrongPlace { page, found });
    }
    let nodes = layout.nodes(page, depth);
    let nodes = nodes.map(|_| Option::<Node>::decode(&mut reader));
    let nodes: Vec<_> = nodes.collect::<Result<_, _>>().map_err(malformed)?;
    let below = layout.children(page, depth);
    let below = below.map(|_| Option::<Below>::decode(&mut reader));
    let below: Vec<_> = below.collect::<Result<_, _>>().map_err(malformed)?;
    let rest = reader.rest();
    if rest.len() >= PADDING
        || rest.iter().any(|byte| *byte != 0)
        || !content.len().is_multiple_of(PADDING)
    {
        let error = DecodeError::InvalidValue("TreePage.zeros");
        return Err(PageError::Malformed(page, error));
    }
    Ok(Content { nodes, below })
}
