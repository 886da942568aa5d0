//! Shelves: a mailbox's KeyPackages, sealed (DESIGN, "Mailboxes, shelves, blobs, tokens").

pub(crate) mod count;
pub(crate) mod discard;
pub(crate) mod stock;
pub(crate) mod take;

use folkmoot_mls::codec::{Bytes, Decode, Encode};
use folkmoot_mls::tls_struct;
use folkmoot_protocol::Refusal;
use folkmoot_protocol::delivery;
use folkmoot_protocol::ids::{MailboxId, PackageId};

use crate::fields::malformed;
use crate::store::record;

tls_struct! {
    /// Packages that can stand for each other: an MLS version and a cipher suite.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub(crate) struct Lane {
        pub(crate) version: u16,
        pub(crate) cipher_suite: u16,
    }
}

impl Lane {
    /// # Errors
    /// `Malformed` if it is missing or a number is none of MLS's.
    pub(crate) fn read(lane: Option<delivery::Lane>) -> Result<Self, Refusal> {
        let lane = lane.ok_or_else(|| malformed("lane"))?;
        let number = |number: u32| u16::try_from(number).map_err(|_| malformed("lane"));
        Ok(Self {
            version: number(lane.version)?,
            cipher_suite: number(lane.cipher_suite)?,
        })
    }
}

impl From<Lane> for delivery::Lane {
    fn from(lane: Lane) -> Self {
        Self {
            version: lane.version.into(),
            cipher_suite: lane.cipher_suite.into(),
        }
    }
}

tls_struct! {
    /// A package's place on a shelf. The order of these bytes is the order of handing out: by
    /// lane, the last-resort one last, those first that expire first.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct Place {
        pub(crate) lane: Lane,
        pub(crate) last_resort: bool,
        /// Seconds since 1970; never handed out from then on.
        pub(crate) expires: u64,
        pub(crate) package: PackageId,
    }
}

impl Place {
    /// The key of the place.
    pub(crate) fn key(&self) -> Vec<u8> {
        self.to_bytes()
    }

    /// The place of a key; `None` if it is none.
    pub(crate) fn read(key: &[u8]) -> Option<Self> {
        Self::from_bytes(key).ok()
    }

    /// When it is swept away, milliseconds since 1970.
    pub(crate) fn swept(&self) -> Option<u64> {
        Some(self.expires.saturating_mul(1000))
    }

    /// Whether it may be handed out at `now`, milliseconds since 1970.
    pub(crate) fn is_good(&self, now: u64) -> bool {
        self.expires > now / 1000
    }
}

record! {
    /// That a place is filled.
    ShelfRecord in Shelves {}
}

record! {
    /// A package, or what is kept of it once it was handed out: that it was.
    PackageRecord in Packages {
        place: Place,
        /// Handed out for good. Never so for a last-resort one.
        taken: bool,
        sealed: Bytes,
    }
}

record! {
    /// Which shelf a package belongs to, on all of the service.
    ClaimRecord in Claims {
        mailbox: MailboxId,
        /// The package's expiry, seconds since 1970.
        until: u64,
    }
}
