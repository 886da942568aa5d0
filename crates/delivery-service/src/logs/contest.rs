//! Contests: commits beside the first one after a parent (DESIGN, "Contest").
//!
//! The service cannot tell whether a commit is valid. Members can, and all of them alike; so it takes
//! further commits after the same parent and keeps their order, and members follow the first valid
//! one. A contest is signed by the fence key of the parent's epoch like any commit after it. It
//! forks off before the first commit after the parent: what was said in the epoch until then belongs
//! to all branches, what came after the first commit only to that commit's. Older keys do not open the
//! new branch, so that a contest is a cut; and it adds nobody, so that nobody is led to a branch that
//! the members do not follow.
//!
//! Contests are taken for as long as the parent's epoch can be read: whoever can still find out that a
//! commit is invalid can also mend it.

use folkmoot_protocol::ids::ChainHash;
use folkmoot_protocol::keys::PublicKey;
use folkmoot_protocol::log::CommitDeclaration;
use folkmoot_protocol::{Refusal, limits};

use super::parse::Parsed;
use super::quota;
use super::records::{
    BranchRecord, CandidateRecord, ContestsRecord, EntryRecord, EpochRecord, PositionRecord,
    candidate, numbered,
};
use crate::decision::Denial;
use crate::fields::ensure;
use crate::retention::Retention;
use crate::sabotage::{Guard, stands};
use crate::store::{Change, RECORD_VERSION, StoreError, View, get};

/// What a contest rests on.
pub(super) struct ContestView {
    epoch: Option<EpochRecord>,
    first: Option<First>,
    contests: Option<ContestsRecord>,
}

/// The first commit after the parent.
struct First {
    position: PositionRecord,
    entry: EntryRecord,
    /// The log's hash before it, where all branches fork off.
    before: ChainHash,
}

/// What a contest makes.
pub(super) struct Contested {
    pub change: Change,
    /// Where the new branch stands.
    pub at: BranchRecord,
    /// The log's hash before it.
    pub before: ChainHash,
    pub commit_interval: u32,
    pub committers: Option<folkmoot_protocol::ids::EntryId>,
}

impl ContestView {
    pub(super) fn load(parsed: &Parsed, records: &dyn View) -> Result<Self, StoreError> {
        let append = &parsed.append;
        let (log, branch) = (append.log, append.branch);
        let number = append.epoch.saturating_add(1);
        let next: Option<EpochRecord> = get(records, log, &numbered(branch, number))?;
        let first = match next {
            Some(next) => First::load(parsed, &next, records)?,
            None => None,
        };
        Ok(Self {
            epoch: get(records, log, &numbered(branch, append.epoch))?,
            first,
            contests: get(records, log, &append.parent.0)?,
        })
    }

    /// Decides; see the module.
    pub(super) fn decide(
        &self,
        parsed: &Parsed,
        commit: &CommitDeclaration,
        retention: Retention,
        now: u64,
    ) -> Result<Contested, Denial> {
        let append = &parsed.append;
        let epoch = self.epoch.as_ref().ok_or(Refusal::NotFound)?;
        // Nothing to contest: it is a commit like any other, and should say so.
        let first = self.first.as_ref();
        let first = first.ok_or_else(|| Refusal::Malformed("contest".into()))?;
        if retention.is_over(first.position.time, now) && stands(Guard::ContestsClosed) {
            return Err(Refusal::ContestsClosed.into());
        }
        let before = self.contests.clone().unwrap_or_else(|| ContestsRecord {
            version: RECORD_VERSION,
            count: 0,
            chain: ChainHash::START.next_candidate(
                append.parent,
                first.position.time,
                first.entry.id,
            ),
            time: first.position.time,
            used: first.committer().into_iter().collect(),
        });
        let bounded = stands(Guard::ContestsBounded);
        if before.count.saturating_add(1) >= limits::CANDIDATES && bounded {
            return Err(Refusal::ContestsClosed.into());
        }
        if let Some(committer) = parsed.committer
            && before.used.contains(&committer)
            && stands(Guard::OneCandidate)
        {
            return Err(Refusal::Taken.into());
        }
        let now = now.max(before.time);
        if before.count >= limits::CANDIDATES_AT_ONCE && bounded {
            let passed = now - before.time;
            if passed < limits::CANDIDATE_EVERY_MS {
                return Err(Refusal::Rate(limits::CANDIDATE_EVERY_MS - passed).into());
            }
        }
        let base = first.position.sequence.saturating_sub(1);
        ensure(commit.last_seen == base, "last_seen")?;

        let (id, version) = (parsed.id, RECORD_VERSION);
        let at = BranchRecord {
            version,
            sequence: first.position.sequence,
            chain: first
                .before
                .next(append.log, first.position.sequence, now, id),
            time: now,
            tip: id,
            tip_time: now,
            epoch: append.epoch.saturating_add(1),
            proposals: 0,
            // A branch has room of its own: else whoever spoilt a commit could fill the branch behind
            // it, and nobody could contest.
            filled: quota::fill(0, parsed.weight(), true, retention, now)
                .ok_or(Refusal::LogFull)?,
        };
        let mut after = ContestsRecord {
            count: before.count + 1,
            chain: before.chain.next_candidate(append.parent, now, id),
            time: now,
            ..before
        };
        after.used.extend(parsed.committer);
        let mut change = Change::of(append.log);
        change.require(&append.parent.0, self.contests.as_ref());
        // As long as an entry of this time.
        let goes = Some(retention.entry(now));
        change.put_until(
            &candidate(append.parent, after.count),
            &CandidateRecord {
                version,
                commit: id,
                chain: after.chain,
            },
            goes,
        );
        change.put_until(&append.parent.0, &after, goes);
        Ok(Contested {
            change,
            at,
            before: first.before,
            commit_interval: epoch.commit_interval,
            committers: epoch.committers,
        })
    }
}

impl First {
    fn load(
        parsed: &Parsed,
        next: &EpochRecord,
        records: &dyn View,
    ) -> Result<Option<Self>, StoreError> {
        let (log, branch) = (parsed.append.log, parsed.append.branch);
        let position: Option<PositionRecord> = get(records, log, &next.commit.0)?;
        let Some(position) = position else {
            return Ok(None);
        };
        let entry: Option<EntryRecord> = get(records, log, &numbered(branch, position.sequence))?;
        Ok(entry.map(|entry| Self {
            position,
            entry,
            before: next.before,
        }))
    }

    fn committer(&self) -> Option<PublicKey> {
        let key = self.entry.committer_signature.first_chunk::<32>();
        key.map(|key| PublicKey(*key))
    }
}
