//! `secret-tree`: senders' ratchets, and the key of the sender data.

use folkmoot_mls::crypto::{Secret, Suite};
use folkmoot_mls::framing::sender_data_key;
use folkmoot_mls::ratchet::{Ratchet, RatchetKind};
use folkmoot_mls::secret_tree::SecretTree;
use folkmoot_mls::tree_math::LeafIndex;
use serde::Deserialize;

use crate::check::{Failure, Hex, check};

/// One case.
#[derive(Debug, Deserialize)]
pub struct Case {
    /// The suite.
    pub cipher_suite: u16,
    sender_data: SenderData,
    encryption_secret: Hex,
    leaves: Vec<Vec<Generation>>,
}

#[derive(Debug, Deserialize)]
struct SenderData {
    sender_data_secret: Hex,
    ciphertext: Hex,
    key: Hex,
    nonce: Hex,
}

#[derive(Debug, Deserialize)]
struct Generation {
    generation: u32,
    handshake_key: Hex,
    handshake_nonce: Hex,
    application_key: Hex,
    application_nonce: Hex,
}

impl Case {
    /// Derives every listed key.
    ///
    /// # Errors
    /// [`Failure`], the engine's.
    pub fn verify(&self, suite: &dyn Suite) -> Result<(), Failure> {
        let SenderData {
            sender_data_secret,
            ciphertext,
            key,
            nonce,
        } = &self.sender_data;
        let (computed_key, computed_nonce) = sender_data_key(suite, sender_data_secret, ciphertext);
        check(*computed_key == **key, "sender_data.key")?;
        check(*computed_nonce == **nonce, "sender_data.nonce")?;

        let width = u32::try_from(self.leaves.len()).map_err(|_| Failure::Mismatch("leaves"))?;
        let mut tree = SecretTree::with_leaves(Secret::from(&*self.encryption_secret), width);
        for (index, generations) in (0..).zip(&self.leaves) {
            let (leaf, _) = tree
                .take_leaf(suite, index)
                .ok_or(Failure::Mismatch("leaves"))?;
            let ratchet = |kind| Ratchet::new(suite, kind, LeafIndex(index), &leaf);
            let mut handshake = ratchet(RatchetKind::Handshake);
            let mut application = ratchet(RatchetKind::Application);
            for expected in generations {
                let computed = handshake.take(suite, expected.generation)?;
                check(*computed.key == *expected.handshake_key, "handshake_key")?;
                check(
                    *computed.nonce == *expected.handshake_nonce,
                    "handshake_nonce",
                )?;
                let computed = application.take(suite, expected.generation)?;
                check(
                    *computed.key == *expected.application_key,
                    "application_key",
                )?;
                check(
                    *computed.nonce == *expected.application_nonce,
                    "application_nonce",
                )?;
            }
        }
        Ok(())
    }
}
