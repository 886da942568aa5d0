//! External senders (RFC 9420, section 12.1.8.1), one of each implementation.

use rand_chacha::ChaCha20Rng;

use super::member::{Change, Peer, PeerError};
use super::{mls_rs, openmls, ours};

/// An implementation outside of the group, with a key that the group may list.
pub enum Outsider {
    /// Ours.
    Ours(Box<ours::Outsider>),
    /// OpenMLS.
    OpenMls(openmls::Outsider),
    /// mls-rs.
    MlsRs(mls_rs::Outsider),
}

impl Outsider {
    /// One of this implementation, whose basic credential has this name.
    ///
    /// # Errors
    /// If the peer does not have the suite or cannot send from outside.
    pub fn new(peer: Peer, name: &str, suite: u16, rng: ChaCha20Rng) -> Result<Self, PeerError> {
        match peer {
            Peer::Ours => {
                ours::Outsider::new(suite, rng).map(|outsider| Self::Ours(Box::new(outsider)))
            }
            Peer::OpenMls => openmls::Outsider::new(suite).map(Self::OpenMls),
            Peer::MlsRs => mls_rs::Outsider::new(name, suite).map(Self::MlsRs),
        }
    }

    /// The implementation.
    #[must_use]
    pub fn peer(&self) -> Peer {
        match self {
            Self::Ours(_) => Peer::Ours,
            Self::OpenMls(_) => Peer::OpenMls,
            Self::MlsRs(_) => Peer::MlsRs,
        }
    }

    /// The public key, for the group's `external_senders`.
    #[must_use]
    pub fn signature_key(&self) -> Vec<u8> {
        match self {
            Self::Ours(outsider) => outsider.signature_key(),
            Self::OpenMls(outsider) => outsider.signature_key(),
            Self::MlsRs(outsider) => outsider.signature_key(),
        }
    }

    /// Proposes as the external sender at `index`.
    ///
    /// # Errors
    /// The peer's.
    pub fn propose(
        &mut self,
        group_info: &[u8],
        tree: &[u8],
        index: u32,
        change: &Change,
    ) -> Result<Vec<u8>, PeerError> {
        match self {
            Self::Ours(outsider) => outsider.propose(group_info, index, change),
            Self::OpenMls(outsider) => outsider.propose(group_info, index, change),
            Self::MlsRs(outsider) => outsider.propose(group_info, tree, change),
        }
    }
}
