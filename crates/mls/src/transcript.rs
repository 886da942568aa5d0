//! The running hashes over all commits (RFC 9420, section 8.2), and the tag that confirms them.

use crate::codec::{Bytes, Encode};
use crate::crypto::{CryptoError, Hash, Suite};
use crate::framing::AuthenticatedContent;

/// `confirmed_transcript_hash` after a commit: over all before it and the commit without its
/// confirmation tag.
#[must_use]
pub fn confirmed_transcript_hash(
    suite: &dyn Suite,
    interim_transcript_hash: &[u8],
    commit: &AuthenticatedContent,
) -> Hash {
    let content = &commit.content;
    let capacity = content.content.encoded_capacity() + content.authenticated_data.len() + 512;
    let mut input = Vec::with_capacity(capacity);
    commit.wire_format.encode(&mut input);
    commit.content.encode(&mut input);
    commit.auth.signature.encode(&mut input);
    suite.hash_parts(&[interim_transcript_hash, &input])
}

/// `interim_transcript_hash` after a commit: the above with the commit's confirmation tag.
#[must_use]
pub fn interim_transcript_hash(
    suite: &dyn Suite,
    confirmed_transcript_hash: &[u8],
    confirmation_tag: &Bytes,
) -> Hash {
    suite.hash_parts(&[confirmed_transcript_hash, &confirmation_tag.to_bytes()])
}

/// `confirmation_tag`: proves that its maker arrived at this transcript and at this epoch's secrets
/// (section 6.1).
#[must_use]
pub fn confirmation_tag(
    suite: &dyn Suite,
    confirmation_key: &[u8],
    confirmed_transcript_hash: &[u8],
) -> Bytes {
    suite.mac(confirmation_key, confirmed_transcript_hash)
}

/// Verifies a confirmation tag.
///
/// # Errors
/// [`CryptoError::InvalidMac`]: the committer's, or we and it have different states.
pub fn verify_confirmation_tag(
    suite: &dyn Suite,
    confirmation_key: &[u8],
    confirmed_transcript_hash: &[u8],
    confirmation_tag: &[u8],
) -> Result<(), CryptoError> {
    suite.verify_mac(
        confirmation_key,
        confirmed_transcript_hash,
        confirmation_tag,
    )
}
