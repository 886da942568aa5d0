//! What members seal for each other: invitations, and the parts of a Welcome at a pickup.
//!
//! An invitation is dropped before the commit that it announces, and holds nothing of the commit,
//! so a commit that has to be rebuilt uses it again.

use folkmoot_mls::codec::Bytes;
use folkmoot_mls::tls_struct;

use crate::ids::{LogId, PickupAddress};
use crate::keys::PublicKey;

tls_struct! {
    /// Tells a device where its Welcome will be, and how to open it. Sealed to the mailbox key.
    #[derive(Clone, PartialEq, Eq)]
    pub struct Invitation {
        /// [`crate::VERSION`].
        pub version: u16,
        /// The log to join.
        pub log: LogId,
        /// The DS that holds it: `https://host:port`, UTF-8.
        pub delivery_url: Bytes,
        /// That DS's signing key.
        pub delivery_key: PublicKey,
        /// How its TLS certificate is known: empty for the web's roots, else SHA-256 of the
        /// public key to pin.
        pub delivery_pin: Bytes,
        /// Where the Welcome will be picked up.
        pub address: PickupAddress,
        /// Opens the shared part.
        pub shared_key: [u8; 32],
        /// Opens this device's own part.
        pub own_key: [u8; 32],
        /// Who invites: `name@domain`, UTF-8. A claim until the Welcome's signer confirms it.
        pub inviter: Bytes,
    }
}

impl std::fmt::Debug for Invitation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Invitation")
            .field("log", &self.log)
            .finish_non_exhaustive()
    }
}
