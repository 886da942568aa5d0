//! Rates that all callers of one log, or of one mailbox, share.
//!
//! What is asked without a right is bounded by address, at the edge. These count what somebody with a
//! right asked, after its proof: so nobody outside can use a group's rate up. Nor can who was removed, or has
//! gone to a branch that nobody else follows: keys that may write have a [`Share`] of their own. They are kept
//! in memory, by each node for itself, and are bounded there; time is an argument.

use folkmoot_protocol::Refusal;
use folkmoot_protocol::ids::{EntryId, LogId, MailboxId};
use folkmoot_protocol::rate::{Buckets, Rate};

/// How much may be asked of one log or mailbox in a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    /// Appends to one branch of a log that are not repeated ones; those of epochs that are over count
    /// by themselves, all branches together.
    pub appends: Rate,
    /// Appends to one log with keys that a cut has stopped. Contests have as much beside.
    pub stopped: Rate,
    /// KiB that come with appends; those of each kind count by themselves.
    pub kibibytes: Rate,
    /// What the owner of one mailbox asks for, its shelf included.
    pub owner: Rate,
}

impl Rates {
    /// No bounds: whoever asks is trusted.
    pub const UNLIMITED: Self = Self {
        appends: Rate::UNLIMITED,
        stopped: Rate::UNLIMITED,
        kibibytes: Rate::UNLIMITED,
        owner: Rate::UNLIMITED,
    };
}

impl Default for Rates {
    fn default() -> Self {
        let rate = |burst, per_second| Rate { burst, per_second };
        Self {
            appends: rate(2000, 50),
            // All that they are told is that they read on to the cut.
            stopped: rate(60, 1),
            // Two of the largest commits at once, then about 80 GB a day.
            kibibytes: rate(320 << 10, 1 << 10),
            owner: rate(500, 5),
        }
    }
}

/// Whose share of a log's rates an append uses up. A branch costs whoever starts it a token, and brings
/// rates of its own, as it brings room of its own: the service does not know which one is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Share {
    /// A branch's, with the key of its current epoch.
    Branch(EntryId),
    /// An earlier epoch's, from which nobody has been removed since.
    Late,
    /// An epoch's before a cut. The log takes nothing of it any more.
    Stopped,
    /// A commit beside another, by whoever may read what it contests.
    Contest,
}

/// What has been asked lately.
pub(crate) struct Asked {
    appends: Buckets<(LogId, Share)>,
    stopped: Buckets<(LogId, Share)>,
    kibibytes: Buckets<(LogId, Share)>,
    owner: Buckets<MailboxId>,
}

impl Asked {
    pub(crate) fn new(rates: Rates) -> Self {
        Self {
            appends: Buckets::new(rates.appends),
            stopped: Buckets::new(rates.stopped),
            kibibytes: Buckets::new(rates.kibibytes),
            owner: Buckets::new(rates.owner),
        }
    }

    /// Counts an append of so many bytes; `now` in milliseconds since 1970.
    ///
    /// # Errors
    /// `Rate`.
    pub(crate) fn append(
        &self,
        log: LogId,
        share: Share,
        bytes: u64,
        now: u64,
    ) -> Result<(), Refusal> {
        let appends = match share {
            Share::Branch(_) | Share::Late => &self.appends,
            Share::Stopped | Share::Contest => &self.stopped,
        };
        appends.spend(Some((log, share)), 1, now)?;
        self.bytes(log, share, bytes, now)
    }

    /// Counts bytes alone: a chunk of an append that is staged, or pages that are put back.
    ///
    /// # Errors
    /// `Rate`.
    pub(crate) fn bytes(
        &self,
        log: LogId,
        share: Share,
        bytes: u64,
        now: u64,
    ) -> Result<(), Refusal> {
        let kibibytes = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
        self.kibibytes.spend(Some((log, share)), kibibytes, now)
    }

    /// Counts a call of a mailbox's owner.
    ///
    /// # Errors
    /// `Rate`.
    pub(crate) fn owner(&self, mailbox: MailboxId, now: u64) -> Result<(), Refusal> {
        self.owner.spend(Some(mailbox), 1, now)
    }
}
