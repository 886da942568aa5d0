//! Appending: the checks in the order of the protocol's rule 8, then compare and set.
//!
//! An append goes through two steps. [`Parsed::check`] runs on the caller's thread, against what
//! is durable: known id, size, log and branch, fence signature, header. Nothing of that can change
//! afterwards, for fence keys stay as they are. [`Checked`] is then what the committer decides on:
//! known id once more, and compare and set.

use std::ops::ControlFlow;

use folkmoot_mls::codec::{Bytes, Encode};
use folkmoot_mls::framing::ContentType;
use folkmoot_protocol::ids::{ChainHash, EntryId, LogId, PageAddress};
use folkmoot_protocol::keys::PublicKey;
use folkmoot_protocol::limits;
use folkmoot_protocol::log::{CommitDeclaration, Head};
use folkmoot_protocol::proof::{CommitterProof, FenceProof, Method};
use folkmoot_protocol::{Conflict, Refusal, VERSION};

use super::contest::{ContestView, Contested};
use super::parse::Parsed;
use super::quota;
use super::records::{
    BranchRecord, CommittersRecord, CutRecord, EntryRecord, EpochRecord, LogRecord, PageRecord,
    PickupRecord, PositionRecord, ProposalRecord, SharedPartRecord, first_cut, numbered, share,
    visible_head,
};
use crate::decision::{Decision, Denial, Request};
use crate::fields::ensure;
use crate::rates::Share;
use crate::retention::Retention;
use crate::sabotage::{Guard, stands};
use crate::store::{Change, RECORD_VERSION, StoreError, View, get, scan};

/// What the first step rests on.
pub(crate) struct CheckView {
    known: Option<PositionRecord>,
    epoch: Option<EpochRecord>,
    /// Who signs commits of the epoch, if that is named.
    committers: Option<CommittersRecord>,
    /// Whose share of the rates it uses up.
    share: Share,
}

/// Of the pages that a commit replaces, so many bytes are looked at.
const REPLACED_BYTES: usize = 64 << 20;

/// What the first step comes to.
pub(crate) enum Check {
    /// The append was made before: its receipt.
    Known(Head),
    /// It may be decided on.
    New(Box<Checked>),
}

/// An append that some member of the epoch signed, and whose message is what it declares; with it how
/// long things are kept, when it came, and whose share of the rates it uses up.
pub(crate) struct Checked(Parsed, Retention, u64, Share);

impl Parsed {
    /// Loads what [`Parsed::check`] needs.
    pub(crate) fn load(&self, records: &dyn View) -> Result<CheckView, StoreError> {
        let Self { append, id, .. } = self;
        let epoch_key = numbered(append.branch, append.epoch);
        let epoch: Option<EpochRecord> = get(records, append.log, &epoch_key)?;
        let named_by = epoch.as_ref().and_then(|epoch| epoch.committers);
        let committers = match named_by {
            Some(named_by) if append.commit.is_some() => get(records, append.log, &named_by.0)?,
            _ => None,
        };
        Ok(CheckView {
            known: get(records, append.log, &id.0)?,
            epoch,
            committers,
            share: match append.is_contest() {
                true => Share::Contest,
                false => share(records, append.log, append.branch, append.epoch)?,
            },
        })
    }

    /// All checks before compare and set.
    ///
    /// # Errors
    /// `TooLarge`; `NotFound` for an unknown log, branch or epoch and for a signature by another
    /// key, which all look alike; `BadProof` if no committer signed where they are named;
    /// `HeaderMismatch`; `Malformed`.
    pub(crate) fn check(
        mut self,
        view: CheckView,
        delivery_service: PublicKey,
        retention: Retention,
        now: u64,
    ) -> Result<Check, Refusal> {
        let append = &self.append;
        if let Some(position) = &view.known
            && stands(Guard::RepeatedAppend)
        {
            return Ok(Check::Known(position.receipt(append.log)));
        }
        self.size()?;
        let epoch = view.epoch.ok_or(Refusal::NotFound)?;
        let proof = FenceProof {
            version: VERSION,
            delivery_service,
            log: append.log,
            branch: append.branch,
            epoch: append.epoch,
            method: Method::Append,
            subject: self.id.0.into(),
        };
        let signed = proof.verify(&epoch.fence_key, &self.fence_signature);
        if signed.is_err() && stands(Guard::Fence) {
            return Err(Refusal::NotFound);
        }
        self.committer = match &view.committers {
            Some(committers) if stands(Guard::Committers) => {
                let proof = CommitterProof {
                    version: VERSION,
                    delivery_service,
                    log: append.log,
                    commit: self.id,
                };
                let signed = proof.verify(&self.committer_signature);
                let named = signed.ok().filter(|key| committers.keys.contains(key));
                Some(named.ok_or(Refusal::BadProof)?)
            }
            _ => None,
        };
        // What nobody checked is not handed on.
        if self.committer.is_none() {
            self.committer_signature = Bytes::default();
        }
        self.header()?;
        let append = &self.append;
        // On one branch an epoch is made by one commit, so who names another one errs.
        ensure(append.parent == epoch.commit, "parent")?;
        Ok(Check::New(Box::new(Checked(
            self, retention, now, view.share,
        ))))
    }
}

/// What the second step rests on.
pub(crate) struct AppendView {
    known: Option<PositionRecord>,
    branch: Option<BranchRecord>,
    cut: Option<CutRecord>,
    /// When the append's epoch ended, if it has: the time of the commit that made the next one.
    ended: Option<u64>,
    /// Of a commit: the proposals of its epoch, sequence and time.
    proposals: Vec<(u64, u64)>,
    /// Of a commit: the pages that it replaces, as far as they are there.
    replaced: Vec<(PageAddress, PageRecord)>,
    /// Of a commit: whether another one left something at an address that this one names.
    address_taken: bool,
    /// What was said of the epoch that stands, where that is to be written anew.
    current: Option<EpochRecord>,
    /// What stands for the log, where that is to be written anew.
    opened: Option<LogRecord>,
    /// The epoch that the append is of.
    epoch: Option<EpochRecord>,
    /// Of a contest.
    contest: Option<ContestView>,
    /// Who signs commits, where that is to be written anew.
    committers: Option<(EntryId, CommittersRecord)>,
}

impl Request for Checked {
    type View = AppendView;
    type Outcome = Head;

    fn load(&self, records: &dyn View) -> Result<AppendView, StoreError> {
        let Parsed { append, id, .. } = &self.0;
        let (log, branch) = (append.log, append.branch);
        let at: Option<BranchRecord> = get(records, log, &branch.0)?;
        let mut proposals = Vec::new();
        let mut address_taken = false;
        let mut replaced = Vec::new();
        if self.0.content_type == ContentType::Commit {
            let (from, through) = (numbered(branch, 0), numbered(branch, u64::MAX));
            scan(
                records,
                log,
                &from,
                &through,
                |key, proposal: ProposalRecord| {
                    if let Some(sequence) = key.last_chunk() {
                        proposals.push((u64::from_be_bytes(*sequence), proposal.time));
                    }
                    ControlFlow::Continue(())
                },
            )?;
            for address in self.0.addresses() {
                address_taken |= get::<PickupRecord>(records, log, &address.0)?.is_some();
            }
            // Only for a commit that will be taken, and no more than fits: the rest goes with its log.
            let follows = at
                .as_ref()
                .is_some_and(|at| (at.epoch, at.tip) == (append.epoch, append.parent));
            let named = append.commit.iter().flat_map(|commit| &commit.replaced);
            let mut bytes = 0;
            for address in named.take_while(|_| follows) {
                let page: Option<PageRecord> = get(records, log, &address.0)?;
                bytes += page.as_ref().map_or(0, |page| page.page.len());
                replaced.extend(page.map(|page| (*address, page)));
                if bytes > REPLACED_BYTES {
                    break;
                }
            }
        }
        let mut ended = None;
        if self.0.content_type == ContentType::Application {
            let next = numbered(branch, append.epoch.saturating_add(1));
            if let Some(next) = get::<EpochRecord>(records, log, &next)? {
                let commit: Option<PositionRecord> = get(records, log, &next.commit.0)?;
                ended = commit.map(|commit| commit.time);
            }
        }
        let (mut current, mut opened, mut committers) = (None, None, None);
        if let Some(at) = &at {
            let renews = Retention::renews(at.time, self.2);
            if renews || self.0.content_type == ContentType::Commit {
                current = get(records, log, &numbered(branch, at.epoch))?;
            }
            if renews {
                opened = get(records, log, &[])?;
                let named_by = current.as_ref().and_then(|at: &EpochRecord| at.committers);
                if let Some(named_by) = named_by {
                    let named: Option<CommittersRecord> = get(records, log, &named_by.0)?;
                    committers = named.map(|named| (named_by, named));
                }
            }
        }
        Ok(AppendView {
            known: get(records, log, &id.0)?,
            branch: at,
            current,
            opened,
            committers,
            cut: first_cut(records, log, branch, append.epoch)?,
            ended,
            proposals,
            replaced,
            address_taken,
            epoch: get(records, log, &numbered(branch, append.epoch))?,
            contest: match append.is_contest() {
                true => Some(ContestView::load(&self.0, records)?),
                false => None,
            },
        })
    }

    fn decide(&self, view: AppendView, now: u64) -> Result<Decision<Head>, Denial> {
        let append = &self.0.append;
        if let Some(position) = &view.known
            && stands(Guard::RepeatedAppend)
        {
            return Ok(Decision::unchanged(position.receipt(append.log)));
        }
        let at = view.branch.as_ref().ok_or(Refusal::NotFound)?;
        let epoch = view.epoch.as_ref().ok_or(Refusal::NotFound)?;
        if let (Some(contest), Some(commit)) = (&view.contest, &append.commit) {
            let contested = contest.decide(&self.0, commit, self.1, now)?;
            return Ok(Next::contest(contested, commit, &self.0, self.1));
        }
        // The service's clock, which on a log never runs back.
        let now = now.max(at.time);
        let conflict = |kind| {
            let head = visible_head(append.log, append.branch, at, view.cut.as_ref(), now);
            Err(Denial::Conflict(kind, Box::new(head)))
        };
        let commit = append.commit.as_ref();
        let follows = (append.epoch, append.parent) == (at.epoch, at.tip);
        let compared = commit.is_none() || stands(Guard::CompareAndSet);
        if !follows && compared && !self.is_late(&view, at, now) {
            return conflict(match commit {
                Some(_) => Conflict::TipMoved,
                None => Conflict::EpochOver,
            });
        }
        if let Some(commit) = commit {
            ensure(commit.last_seen <= at.sequence, "last_seen")?;
            // A large commit takes its time to come up: what counts is when it was made.
            let staged = self.0.staged.as_ref().map(|stage| stage.time);
            let made = staged.unwrap_or(now).min(now);
            let unseen = view.proposals.iter().any(|(sequence, time)| {
                let waits = made.saturating_sub(*time) > limits::UNSEEN_AFTER_MS;
                *sequence > commit.last_seen && waits && !self.1.is_over(*time, now)
            });
            if unseen {
                return conflict(Conflict::UnseenProposals);
            }
            let interval = u64::from(epoch.commit_interval) * 1000;
            let passed = now - at.tip_time;
            if passed < interval {
                return Err(Refusal::CommitInterval(interval - passed).into());
            }
            if view.address_taken {
                return Err(Refusal::Taken.into());
            }
        }
        if self.0.content_type == ContentType::Proposal
            && at.proposals >= limits::PROPOSALS_PER_EPOCH
        {
            return Err(Refusal::Rate(limits::UNSEEN_AFTER_MS).into());
        }
        let is_commit = commit.is_some();
        let filled = quota::fill(at.filled, self.0.weight(), is_commit, self.1, now);
        let filled = filled.ok_or(Refusal::LogFull)?;
        let mut next = Next::after(at, &self.0, self.1, now);
        next.at.filled = filled;
        next.renew(append.branch, &view);
        if let Some(stage) = &self.0.staged {
            stage.name(next.entry, &mut next.change);
        }
        if let Some(commit) = commit {
            let inherited = (epoch.commit_interval, epoch.committers);
            next.commit(commit, &self.0, &view, inherited);
            next.pages(commit, &self.0, &view.replaced);
        } else if self.0.content_type == ContentType::Proposal {
            next.proposal(append.branch);
        }
        Ok(next.finish(Some(at), &self.0))
    }
}

impl Checked {
    pub(crate) fn log(&self) -> LogId {
        self.0.append.log
    }

    /// Whose share of the log's rates it uses up.
    pub(crate) fn share(&self) -> Share {
        self.3
    }

    /// Bytes that came with it, but for what was counted when it was staged.
    pub(crate) fn uncounted(&self) -> u64 {
        match self.0.is_staged() {
            true => 0,
            false => self.0.weight(),
        }
    }

    /// Whether it is a message of a past epoch that is still taken: one that ended at most five
    /// commits and 60 seconds ago, and no commit since was a cut. Members keep its keys that long.
    fn is_late(&self, view: &AppendView, at: &BranchRecord, now: u64) -> bool {
        let Some(ended) = view.ended else {
            return false;
        };
        self.0.content_type == ContentType::Application
            && view.cut.is_none()
            && at.epoch.saturating_sub(self.0.append.epoch) <= limits::PAST_EPOCHS
            && now.saturating_sub(ended) <= limits::PAST_EPOCH_MS
    }
}

/// The change that an append makes, while it is put together.
struct Next {
    change: Change,
    at: BranchRecord,
    entry: EntryId,
    retention: Retention,
}

impl Next {
    /// The branch, one entry further.
    fn after(at: &BranchRecord, parsed: &Parsed, retention: Retention, now: u64) -> Self {
        let sequence = at.sequence + 1;
        let chain = at.chain.next(parsed.append.log, sequence, now, parsed.id);
        Self {
            change: Change::of(parsed.append.log),
            at: BranchRecord {
                sequence,
                chain,
                time: now,
                ..at.clone()
            },
            entry: parsed.id,
            retention,
        }
    }

    /// Lets what stands for the log stay as long as where it stands.
    fn renew(&mut self, branch: EntryId, view: &AppendView) {
        let stays = Some(self.retention.log(self.at.time));
        if let Some(opened) = &view.opened {
            self.change.put_until(&[], opened, stays);
            if let Some(current) = &view.current {
                let key = numbered(branch, self.at.epoch);
                self.change.put_until(&key, current, stays);
            }
            if let Some((named_by, committers)) = &view.committers {
                self.change.put_until(&named_by.0, committers, stays);
            }
        }
    }

    /// A branch that begins with a commit after a parent that another one follows.
    fn contest(
        contested: Contested,
        commit: &CommitDeclaration,
        parsed: &Parsed,
        retention: Retention,
    ) -> Decision<Head> {
        let Contested {
            change,
            at,
            before,
            commit_interval,
            committers,
        } = contested;
        let entry = parsed.id;
        let mut next = Self {
            change,
            at,
            entry,
            retention,
        };
        next.epoch(commit, entry, before, (commit_interval, committers));
        // What it replaces stays: nobody knows yet which branch is followed.
        next.pages(commit, parsed, &[]);
        if let Some(stage) = &parsed.staged {
            stage.name(entry, &mut next.change);
        }
        next.finish(None, parsed)
    }

    /// The epoch that a commit makes: its fence key, who signs commits, and how often.
    fn epoch(
        &mut self,
        commit: &CommitDeclaration,
        branch: EntryId,
        before: ChainHash,
        (commit_interval, committers): (u32, Option<EntryId>),
    ) {
        let (version, stays) = (RECORD_VERSION, Some(self.retention.log(self.at.time)));
        if let Some(keys) = &commit.committers {
            let named = CommittersRecord {
                version,
                keys: keys.clone(),
            };
            self.change.put_until(&self.entry.0, &named, stays);
        }
        let named = commit.committers.as_ref().map(|_| self.entry);
        let epoch = EpochRecord {
            version,
            fence_key: commit.next_fence_key,
            commit: self.entry,
            start: self.at.sequence,
            before,
            commit_interval: commit.commit_interval.unwrap_or(commit_interval),
            committers: named.or(committers),
        };
        self.change
            .put_until(&numbered(branch, self.at.epoch), &epoch, stays);
    }

    /// A new epoch: its fence key, the cut, the parts of the Welcome. The key of the last one, and
    /// all that belongs to the commit, is kept for a while.
    fn commit(
        &mut self,
        commit: &CommitDeclaration,
        parsed: &Parsed,
        view: &AppendView,
        inherited: (u32, Option<EntryId>),
    ) {
        let (version, branch, at) = (RECORD_VERSION, parsed.append.branch, &mut self.at);
        let goes = Some(self.retention.entry(at.time));
        if let Some(past) = &view.current {
            let until = self.retention.past_epoch(at.time);
            self.change
                .put_until(&numbered(branch, at.epoch), past, Some(until));
        }
        if commit.cut {
            let cut = CutRecord {
                version,
                sequence: at.sequence,
                chain: at.chain,
                time: at.time,
            };
            let until = Some(self.retention.cut(at.time));
            self.change
                .put_until(&numbered(branch, at.epoch), &cut, until);
        }
        for (sequence, _) in &view.proposals {
            self.change
                .delete::<ProposalRecord>(&numbered(branch, *sequence));
        }
        at.tip = self.entry;
        at.tip_time = at.time;
        at.epoch += 1;
        at.proposals = 0;
        let before = view.branch.as_ref().map_or(ChainHash::START, |at| at.chain);
        self.epoch(commit, branch, before, inherited);
        if commit.shared_part.is_some() {
            let shared = SharedPartRecord {
                version,
                part: parsed.shared_part.clone(),
                root_page: commit.pages.last().copied(),
            };
            self.change.put_until(&self.entry.0, &shared, goes);
        }
        for (address, own_part) in parsed.addresses().zip(&parsed.own_parts) {
            let pickup = PickupRecord {
                version,
                commit: self.entry,
                own_part: own_part.clone(),
            };
            self.change.put_until(&address.0, &pickup, goes);
        }
    }

    /// The tree's pages: those that the commit writes come, those that it replaces go in time, since
    /// joiners of past epochs may still want them. One that nobody has replaced for longer than a log
    /// stays goes too, so that nothing is left of a log that is forgotten; members put it back.
    fn pages(
        &mut self,
        commit: &CommitDeclaration,
        parsed: &Parsed,
        replaced: &[(PageAddress, PageRecord)],
    ) {
        for (address, page) in replaced {
            let until = Some(self.retention.entry(self.at.time));
            self.change.put_until(&address.0, page, until);
        }
        for (address, page) in commit.pages.iter().zip(&parsed.pages) {
            let page = PageRecord {
                version: RECORD_VERSION,
                page: page.clone(),
            };
            let until = Some(self.retention.log(self.at.time));
            self.change.put_until(&address.0, &page, until);
        }
    }

    /// Something that the next commit must have seen.
    fn proposal(&mut self, branch: EntryId) {
        let at = &mut self.at;
        at.proposals += 1;
        let proposal = ProposalRecord {
            version: RECORD_VERSION,
            time: at.time,
        };
        let goes = Some(self.retention.entry(at.time));
        self.change
            .put_until(&numbered(branch, at.sequence), &proposal, goes);
    }

    /// The entry itself, if the branch still stands where it stood, or does not exist yet.
    fn finish(mut self, before: Option<&BranchRecord>, parsed: &Parsed) -> Decision<Head> {
        let (version, append, at) = (RECORD_VERSION, &parsed.append, &self.at);
        let branch = append.stands_on();
        let position = PositionRecord {
            version,
            branch,
            sequence: at.sequence,
            chain: at.chain,
            time: at.time,
        };
        let entry = EntryRecord {
            version,
            id: self.entry,
            time: at.time,
            chain: at.chain,
            content: append.to_bytes().into(),
            fence_signature: parsed.fence_signature.clone(),
            committer_signature: parsed.committer_signature.clone(),
        };
        self.change.require(&branch.0, before);
        let goes = Some(self.retention.entry(at.time));
        let head = Some(self.retention.head(at.time));
        self.change.put_until(&branch.0, at, head);
        self.change.put_until(&self.entry.0, &position, goes);
        self.change
            .put_until(&numbered(branch, at.sequence), &entry, goes);
        Decision {
            change: Some(self.change),
            outcome: position.receipt(append.log),
        }
    }
}
