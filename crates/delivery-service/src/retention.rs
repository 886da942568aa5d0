//! How long things are kept (DESIGN, "Retention").
//!
//! Every record of a log carries the time from which on a sweep may delete it:
//!
//! - entries, the positions that receipts are made from, proposals and the parts of Welcomes: a while
//!   after they came, 30 days by default;
//! - a tree page that was put back: twice as long. It counts as missing, so that it is put back again, before
//!   it could go while somebody who is invited may still come for it;
//! - an epoch's fence key: that long after the epoch has ended. The current one stays, however old;
//! - a cut: a day longer than the last key that it stops, so that no key outlives what stops it;
//! - where a branch stands: a year after its last entry, and then the log is forgotten. What else
//!   stands for the log (its opening, the current fence key) is written anew at the first append of
//!   each [`PERIOD`], so that it lives as long.

use crate::mailboxes::ticket::DAY;

/// Milliseconds. In each such period of the clock the first append renews what lives as long as the
/// log.
const PERIOD: u64 = 30 * DAY;

/// Milliseconds for which late messages of an epoch may come, and more.
const LATE: u64 = 60 * 60 * 1000;

/// Milliseconds for which a client that has found its Welcome tries to join, and a day more.
const JOINING: u64 = 8 * DAY;

/// How long things are kept, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Entries and what belongs to them.
    pub entries: u64,
    /// Where a log stands, after its last entry. Not shorter than entries are kept.
    pub head: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            entries: 30 * DAY,
            head: 365 * DAY,
        }
    }
}

impl Retention {
    /// Whether an entry of this time is gone, whether swept or not.
    pub(crate) fn is_over(self, time: u64, now: u64) -> bool {
        self.entry(time) <= now
    }

    /// Until when an entry of this time stays, and what belongs to it.
    pub(crate) fn entry(self, time: u64) -> u64 {
        time.saturating_add(self.entries)
    }

    /// Until when a tree page stays that is put back at this time.
    pub(crate) fn put_back(self, time: u64) -> u64 {
        self.entry(self.entry(time))
    }

    /// Whether a page that stays until then is gone too early for who is added now: a Welcome stays for as
    /// long as an entry, and whoever has found it comes within [`JOINING`].
    pub(crate) fn goes_early(self, until: u64, now: u64) -> bool {
        until < self.entry(now).saturating_add(JOINING)
    }

    /// Until when the fence key of an epoch stays that ended at this time.
    pub(crate) fn past_epoch(self, ended: u64) -> u64 {
        self.entry(ended).saturating_add(LATE)
    }

    /// Until when a cut of this time stays.
    pub(crate) fn cut(self, time: u64) -> u64 {
        self.past_epoch(time).saturating_add(DAY)
    }

    /// Until when it stays known where a branch stands whose last entry has this time.
    pub(crate) fn head(self, time: u64) -> u64 {
        time.saturating_add(self.head.max(self.entries))
    }

    /// Until when that stays which is renewed once in a [`PERIOD`]: longer than any head that is
    /// written until then.
    pub(crate) fn log(self, time: u64) -> u64 {
        self.head(time).saturating_add(2 * PERIOD)
    }

    /// Whether an append at `now` is the first one of its period, the one before it being of
    /// `before`.
    pub(crate) fn renews(before: u64, now: u64) -> bool {
        before / PERIOD != now / PERIOD
    }
}
