//! `psk_secret`: several PSKs become one secret.

use folkmoot_mls::codec::Bytes;
use folkmoot_mls::crypto::{Secret, Suite};
use folkmoot_mls::psk::{ExternalPsk, PreSharedKeyID, PskType, psk_secret};
use serde::Deserialize;

use crate::check::{Failure, Hex, check};

/// One case.
#[derive(Debug, Deserialize)]
pub struct Case {
    /// The suite.
    pub cipher_suite: u16,
    psks: Vec<Psk>,
    psk_secret: Hex,
}

#[derive(Debug, Deserialize)]
struct Psk {
    psk_id: Hex,
    psk: Hex,
    psk_nonce: Hex,
}

impl Case {
    /// Computes the secret.
    ///
    /// # Errors
    /// [`Failure`], the engine's.
    pub fn verify(&self, suite: &dyn Suite) -> Result<(), Failure> {
        let psks: Vec<_> = self.psks.iter().map(Psk::read).collect();
        let computed = psk_secret(suite, &psks).map_err(|_| Failure::Mismatch("psks"))?;
        check(*computed == *self.psk_secret, "psk_secret")
    }
}

impl Psk {
    fn read(&self) -> (PreSharedKeyID, Secret) {
        let id = PreSharedKeyID {
            psktype: PskType::External(ExternalPsk {
                psk_id: Bytes::from(&self.psk_id),
            }),
            psk_nonce: Bytes::from(&self.psk_nonce),
        };
        (id, Secret::from(&*self.psk))
    }
}
