//! What members have proposed, and leaving (RFC 9420, sections 12.1.3 and 12.4).
//!
//! Whoever wants to leave proposes the Remove of its own leaf and sends nothing more. Everybody who reads
//! a proposal commits it before the next message of their own, or when it is their turn. A leave that a
//! commit passed over is not forgotten: the next commit carries it out by value.
//!
//! Proposals by reference that are taken in are Removes and Updates. An Add needs an invitation, which
//! only its author could have sent; rules of the group change by value only. Those are passed over, as is
//! whatever the engine finds invalid: nobody can make our commit invalid by proposing something.

use folkmoot_credential::Version;
use folkmoot_mls::code_point::WireFormat;
use folkmoot_mls::codec::Encode;
use folkmoot_mls::group::Group;
use folkmoot_mls::proposal::{Proposal, ProposalRef};
use folkmoot_mls::tree_math::LeafIndex;
use folkmoot_protocol::VERSION;
use folkmoot_protocol::ids::LogId;
use folkmoot_protocol::keys::hash;
use folkmoot_protocol::log::Append;

use super::groups::context;
use super::outbox::Built;
use super::rows::{self, AttemptRow, ConversationRow, LeaveWish, Leaver, OutboxRow, Wish};
use super::{Output, PROPOSAL, Pause, Standing, Step};
use crate::error::Error;
use crate::history::{Update, What};
use crate::store::Table;

/// How long each rank waits for the one before it, and the longest that anybody waits.
const TURN_MS: u64 = 2_000;
const LAST_TURN_MS: u64 = 60_000;

/// What our next commit has to take in.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Due {
    /// Proposals of this epoch.
    pub references: Vec<ProposalRef>,
    /// Leaves that a commit passed over.
    pub leaves: Vec<LeafIndex>,
}

/// What our next commit has to take in.
pub(super) fn due(group: &Group, row: &ConversationRow) -> Due {
    let own = group.own_index();
    let mut due = Due::default();
    let mut removed = vec![own];
    for (reference, pending) in group.pending_proposals() {
        match &pending.proposal {
            Proposal::Remove(remove) if remove.removed != own => removed.push(remove.removed),
            Proposal::Update(_) => {}
            _ => continue,
        }
        due.references.push(reference.clone());
    }
    let leaves = row.leaving.iter().filter(|leaver| is_at(group, leaver));
    due.leaves = leaves
        .map(|leaver| leaver.leaf)
        .filter(|leaf| !removed.contains(leaf))
        .collect();
    due
}

/// Whether a proposal of somebody's makes a commit of ours due. Our own removal is for others.
pub(super) fn concerns(group: &Group, proposal: &Proposal) -> bool {
    !matches!(proposal, Proposal::Remove(remove) if remove.removed == group.own_index())
}

fn is_at(group: &Group, leaver: &Leaver) -> bool {
    group
        .member(leaver.leaf)
        .is_some_and(|node| *node.signature_key == *leaver.signature_key)
}

/// Those who have not left by now.
pub(super) fn still_leaving(group: &Group, leaving: &mut Vec<Leaver>) {
    leaving.retain(|leaver| is_at(group, leaver));
}

/// Whether we want to leave, and everybody else does too: nobody is left to commit it.
pub(super) fn all_leave(group: &Group, row: &ConversationRow) -> bool {
    let own = group.own_index();
    group
        .members()
        .all(|(leaf, _)| leaf == own || row.leaving.iter().any(|leaver| leaver.leaf == leaf))
}

/// Our place in the order in which members act on the same cause: by the hash of group, epoch and leaf,
/// among those who do not leave.
fn rank(group: &Group, row: &ConversationRow) -> u64 {
    let place = |leaf: LeafIndex| hash("rank", &(row.log, (group.epoch(), leaf)));
    let own = place(group.own_index());
    let is_before = |leaf: LeafIndex| {
        place(leaf) < own && !row.leaving.iter().any(|leaver| leaver.leaf == leaf)
    };
    let before = group.members().filter(|(leaf, _)| is_before(*leaf));
    before.count() as u64
}

impl Step<'_> {
    pub(super) fn want_leave(&mut self, log: LogId) -> Result<(), Error> {
        self.account()?;
        self.check_usable(log)?;
        let wish = Wish::Leave(LeaveWish { proposed: false });
        self.wish(log, wish).map(drop)
    }

    /// Whether we asked to leave, and why nothing else can be done any more.
    pub(super) fn check_staying(&self, row: &ConversationRow) -> Result<(), Error> {
        let outbox = self.outbox(row.log)?;
        let leaves = outbox.iter().any(|row| matches!(row.wish, Wish::Leave(_)));
        if leaves {
            Err(Error::Leaving(row.title.0.clone()))
        } else {
            Ok(())
        }
    }

    /// Proposes our own removal.
    pub(super) fn build_leave(
        &mut self,
        mut row: ConversationRow,
        next: &OutboxRow,
    ) -> Result<Built, Error> {
        let account = self.account()?;
        let mut held = self.hold(&row)?;
        if all_leave(&held.group, &row) {
            drop(held);
            self.close(row)?;
            return Ok(Built::Closed);
        }
        let own = held.group.own_index();
        let mut ctx = context(self.now / 1000, self.rng);
        let proposed = held.group.propose(
            &mut held.keys,
            &account.signer(),
            Proposal::remove(own),
            &[],
            WireFormat::PRIVATE_MESSAGE,
            &mut ctx,
        )?;
        self.apply(row.log, &proposed.changes)?;
        // Should the proposal not get into the log of this epoch, the group forgets it with the epoch;
        // and until then we commit nothing.
        held.group = proposed.group;
        let append = Append {
            version: VERSION,
            log: row.log,
            branch: row.branch,
            parent: row.tip,
            epoch: row.epoch,
            content_type: PROPOSAL,
            commit: None,
            message: proposed.message.to_bytes().into(),
        };
        let entry = append.id();
        let attempt = AttemptRow {
            version: Version,
            intent: next.intent,
            parent: row.tip,
            append: append.to_bytes().into(),
            shared_part: Default::default(),
            own_parts: Vec::new(),
            commit: None,
        };
        let key = rows::attempt_key(row.log, entry);
        rows::put(self.tx, Table::Attempts, &key, &attempt)?;
        self.keep(&mut row, held)?;
        Ok(Built::Attempt(entry))
    }

    /// Ends a conversation that nobody is left in who could confirm it.
    fn close(&mut self, mut row: ConversationRow) -> Result<(), Error> {
        row.standing = Standing::Left;
        let by = self.account()?.user;
        let last = self.tx.last(Table::History, row.log.as_ref())?;
        let last: Option<crate::history::HistoryEntry> = last
            .map(|(_, value)| rows::decode(Table::History, &value))
            .transpose()?;
        let part = last
            .filter(|last| last.sequence == row.sequence)
            .map_or(0, |last| last.part.saturating_add(1));
        self.write_history(&row, part, What::Left(Update { by }))?;
        self.put_conversation(&mut row)?;
        self.over(&row)
    }

    /// Our leave is in the log. What is left to us is to read; and if the others leave too, to go.
    pub(super) fn advance_leaver(&mut self, row: ConversationRow) -> Result<(), Error> {
        let held = self.hold(&row)?;
        let all = all_leave(&held.group, &row);
        self.session.held.insert(row.log, held);
        if all { self.close(row) } else { Ok(()) }
    }

    /// Makes a wish of what others have proposed: at once if a message of ours waits for it, else if
    /// it is our turn. Otherwise says when that is. Returns whether there is such a wish now.
    pub(super) fn want_proposals(
        &mut self,
        row: &ConversationRow,
        at_once: bool,
    ) -> Result<bool, Error> {
        if row.cause == 0 {
            return Ok(false);
        }
        if !at_once {
            let held = self.hold(row)?;
            let wait = rank(&held.group, row)
                .saturating_mul(TURN_MS)
                .min(LAST_TURN_MS);
            self.session.held.insert(row.log, held);
            // A clock of ours that runs late makes nobody wait for longer than the last turn.
            let until = row.cause.saturating_add(wait);
            let until = until.min(self.now.saturating_add(LAST_TURN_MS));
            let known = self.session.turns.get(&row.log).copied();
            let until = known.map_or(until, |known| known.min(until));
            if self.now < until {
                self.session.turns.insert(row.log, until);
                let pause = Pause::Turn;
                self.outputs.push(Output::Wait { until, pause });
                return Ok(false);
            }
        }
        self.session.turns.remove(&row.log);
        let wish = OutboxRow {
            version: Version,
            log: row.log,
            intent: rows::next_intent(self.tx)?,
            attempt: None,
            receipt: None,
            tried: false,
            wish: Wish::Proposals,
        };
        self.put_outbox(&wish)?;
        Ok(true)
    }

    /// Nothing of this epoch has to be committed any more, or it cannot be.
    pub(super) fn nothing_due(&mut self, log: LogId) -> Result<(), Error> {
        let mut row = rows::conversation(self.tx, log)?;
        row.cause = 0;
        let held = self.hold(&row)?;
        self.keep(&mut row, held)
    }
}
