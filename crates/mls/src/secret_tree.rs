//! The secret tree and the senders' ratchets (RFC 9420, section 9).

use crate::crypto::Secret;

/// The key and nonce for one message.
#[derive(Clone, Debug, PartialEq)]
pub struct MessageKey {
    /// Its number in the sender's ratchet.
    pub generation: u32,
    /// The AEAD's key.
    pub key: Secret,
    /// The AEAD's nonce, before the reuse guard.
    pub nonce: Secret,
}
