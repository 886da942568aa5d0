//! What is stored of a log, and under which keys.

use std::ops::ControlFlow;

use folkmoot_mls::codec::Bytes;
use folkmoot_protocol::VERSION;
use folkmoot_protocol::ids::{ChainHash, EntryId, LogId, PageAddress};
use folkmoot_protocol::keys::PublicKey;
use folkmoot_protocol::log::{Head, Stage};

use crate::rates::Share;
use crate::sabotage::{Guard, stands};
use crate::store::{StoreError, View, get, record, scan};

record! {
    /// What opened a log. Its first branch is named by it.
    LogRecord in Logs {
        open: EntryId,
    }
}

record! {
    /// Where a branch stands. Every append rests on it and replaces it.
    BranchRecord in Branches {
        sequence: u64,
        chain: ChainHash,
        /// Of the last entry.
        time: u64,
        /// The last commit, or the Open.
        tip: EntryId,
        tip_time: u64,
        /// The one that the tip made.
        epoch: u64,
        /// Proposals in this epoch.
        proposals: u32,
        /// Microseconds since 1970 until which it counts as not empty: what each entry takes of what a
        /// branch may hold, as a share of the time for which entries are kept.
        filled: u64,
    }
}

record! {
    /// One entry.
    EntryRecord in Entries {
        id: EntryId,
        time: u64,
        chain: ChainHash,
        content: Bytes,
        fence_signature: Bytes,
        committer_signature: Bytes,
    }
}

record! {
    /// Where an entry stands: all that its receipt needs.
    PositionRecord in Positions {
        branch: EntryId,
        sequence: u64,
        chain: ChainHash,
        time: u64,
    }
}

record! {
    /// An epoch of a branch.
    EpochRecord in Epochs {
        fence_key: PublicKey,
        /// The commit that made it, or the Open.
        commit: EntryId,
        /// That commit's sequence number.
        start: u64,
        /// The log's hash before that commit, from which all commits after its parent fork off.
        before: ChainHash,
        /// Seconds between commits, while this epoch lasts.
        commit_interval: u32,
        /// The commit that named the committers of this epoch, if any are named.
        committers: Option<EntryId>,
    }
}

record! {
    /// The commits after one parent but the first.
    ContestsRecord in Contests {
        count: u32,
        /// Over all of them and the first.
        chain: ChainHash,
        /// Of the last one.
        time: u64,
        /// Committer keys that have offered one, the first one's included.
        used: Vec<PublicKey>,
    }
}

record! {
    /// A commit beside the first one after its parent.
    CandidateRecord in Candidates {
        /// Names it and its branch.
        commit: EntryId,
        /// Over all until it.
        chain: ChainHash,
    }
}

record! {
    /// Who signs commits, beside the fence.
    CommittersRecord in Committers {
        keys: Vec<PublicKey>,
    }
}

record! {
    /// A commit at which readers with keys of its epoch or older stop.
    CutRecord in Cuts {
        sequence: u64,
        chain: ChainHash,
        time: u64,
    }
}

record! {
    /// A proposal of the current epoch.
    ProposalRecord in Proposals {
        time: u64,
    }
}

record! {
    /// One joiner's part of a Welcome.
    PickupRecord in Pickups {
        commit: EntryId,
        own_part: Bytes,
    }
}

record! {
    /// The part of a Welcome that all joiners share.
    SharedPartRecord in SharedParts {
        part: Bytes,
        /// Of the tree's root page, if the commit has pages.
        root_page: Option<PageAddress>,
    }
}

record! {
    /// A tree page.
    PageRecord in Pages {
        page: Bytes,
    }
}

record! {
    /// Beside a page that was put back, at [`put_back`](super::pages::put_back) of its address: until when
    /// it stays.
    PutBackRecord in Pages {
        /// Milliseconds since 1970.
        until: u64,
    }
}

record! {
    /// What a large append goes up in.
    StageRecord in Stages {
        /// When its staging began, milliseconds since 1970.
        time: u64,
        stage: Stage,
        /// Of each chunk, whether it is there.
        present: Vec<u8>,
        /// The entry that it became; its chunks are gone then.
        named: Option<EntryId>,
    }
}

record! {
    /// A chunk of a stage.
    ChunkRecord in Chunks {
        chunk: Bytes,
    }
}

/// The key of a thing with a number on a branch: entries, epochs, cuts, proposals; and of a commit
/// beside the first one after its parent.
pub(super) fn numbered(branch: EntryId, number: u64) -> Vec<u8> {
    [&branch.0[..], &number.to_be_bytes()].concat()
}

/// The key of a commit beside the first one after `parent`.
pub(super) fn candidate(parent: EntryId, number: u32) -> Vec<u8> {
    numbered(parent, number.into())
}

impl PositionRecord {
    /// The head after the entry, as a receipt holds it.
    pub(super) fn receipt(&self, log: LogId) -> Head {
        head(log, self.branch, self.sequence, self.chain, self.time)
    }
}

/// A head at an entry, issued at the entry's time.
pub(super) fn head(
    log: LogId,
    branch: EntryId,
    sequence: u64,
    chain: ChainHash,
    entry_time: u64,
) -> Head {
    Head {
        version: VERSION,
        log,
        branch,
        sequence,
        chain,
        entry_time,
        issued: entry_time,
    }
}

/// The first cut among the commits of `epoch` or later.
pub(super) fn first_cut(
    records: &dyn View,
    log: LogId,
    branch: EntryId,
    epoch: u64,
) -> Result<Option<CutRecord>, StoreError> {
    let mut first = None;
    if !stands(Guard::Cut) {
        return Ok(first);
    }
    let (from, through) = (numbered(branch, epoch), numbered(branch, u64::MAX));
    scan(records, log, &from, &through, |_, cut| {
        first = Some(cut);
        ControlFlow::Break(())
    })?;
    Ok(first)
}

/// Whose share of the log's rates somebody uses up who writes with the key of an epoch.
pub(super) fn share(
    records: &dyn View,
    log: LogId,
    branch: EntryId,
    epoch: u64,
) -> Result<Share, StoreError> {
    let at: Option<BranchRecord> = get(records, log, &branch.0)?;
    if at.is_some_and(|at| at.epoch == epoch) {
        return Ok(Share::Branch(branch));
    }
    let cut = first_cut(records, log, branch, epoch)?;
    Ok(cut.map_or(Share::Late, |_| Share::Stopped))
}

/// The head that a key of an epoch may see, issued at `now`: at the first cut, if there is one.
pub(super) fn visible_head(
    log: LogId,
    branch: EntryId,
    at: &BranchRecord,
    cut: Option<&CutRecord>,
    now: u64,
) -> Head {
    let mut visible = match cut {
        Some(cut) => head(log, branch, cut.sequence, cut.chain, cut.time),
        None => head(log, branch, at.sequence, at.chain, at.time),
    };
    visible.issued = now.max(visible.entry_time);
    visible
}
