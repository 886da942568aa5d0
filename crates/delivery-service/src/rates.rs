//! Rates that all callers of one log, or of one mailbox, share.
//!
//! What is asked without a right is bounded by address, at the edge. These count what somebody with a
//! right asked, after its proof: so nobody outside can use a group's rate up. They are kept in memory, by
//! each node for itself, and are bounded there; time is an argument.

use folkmoot_protocol::Refusal;
use folkmoot_protocol::ids::{LogId, MailboxId};
use folkmoot_protocol::rate::{Buckets, Rate};

/// How much may be asked of one log or mailbox in a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    /// Appends to one log that are not repeated ones.
    pub appends: Rate,
    /// KiB that come with them.
    pub kibibytes: Rate,
    /// What the owner of one mailbox asks for, its shelf included.
    pub owner: Rate,
}

impl Rates {
    /// No bounds: whoever asks is trusted.
    pub const UNLIMITED: Self = Self {
        appends: Rate::UNLIMITED,
        kibibytes: Rate::UNLIMITED,
        owner: Rate::UNLIMITED,
    };
}

impl Default for Rates {
    fn default() -> Self {
        let rate = |burst, per_second| Rate { burst, per_second };
        Self {
            appends: rate(2000, 50),
            // Two of the largest commits at once, then about 80 GB a day.
            kibibytes: rate(320 << 10, 1 << 10),
            owner: rate(500, 5),
        }
    }
}

/// What has been asked lately.
pub(crate) struct Asked {
    appends: Buckets<LogId>,
    kibibytes: Buckets<LogId>,
    owner: Buckets<MailboxId>,
}

impl Asked {
    pub(crate) fn new(rates: Rates) -> Self {
        Self {
            appends: Buckets::new(rates.appends),
            kibibytes: Buckets::new(rates.kibibytes),
            owner: Buckets::new(rates.owner),
        }
    }

    /// Counts an append of so many bytes; `now` in milliseconds since 1970.
    ///
    /// # Errors
    /// `Rate`.
    pub(crate) fn append(&self, log: LogId, bytes: u64, now: u64) -> Result<(), Refusal> {
        self.appends.spend(Some(log), 1, now)?;
        let kibibytes = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
        self.kibibytes.spend(Some(log), kibibytes, now)
    }

    /// Counts a chunk of an append that is staged: so many bytes.
    ///
    /// # Errors
    /// `Rate`.
    pub(crate) fn upload(&self, log: LogId, bytes: usize, now: u64) -> Result<(), Refusal> {
        let kibibytes = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
        self.kibibytes.spend(Some(log), kibibytes, now)
    }

    /// Counts a call of a mailbox's owner.
    ///
    /// # Errors
    /// `Rate`.
    pub(crate) fn owner(&self, mailbox: MailboxId, now: u64) -> Result<(), Refusal> {
        self.owner.spend(Some(mailbox), 1, now)
    }
}
