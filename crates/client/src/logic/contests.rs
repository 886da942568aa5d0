//! What to do when the commit after the tip is not valid: the other commits after it are judged in their
//! order, and the first valid one is followed; where there is none, one of us makes one.
//!
//! A verdict rests on the entry, its time by the DS and the group's state, so that all members come to the
//! same. Two kinds of commit cannot be judged by everybody: one that does not open for us although all that
//! is shared is in order (whoever can open it goes on with it), and one that looks like our own and whose key
//! we have used for something else. We do not contest them: we keep the evidence, and of the first kind [tell
//! the others](super::reports). If somebody else contests it, and we can follow that, we do: a commit that
//! shuts a member out is an attack, whatever the others found.
//!
//! Who made the bad commit is removed by the one that is put in its place, if it is proven: by the signature
//! of its leaf inside the message, or by a committer's key beside it. The sender that a message merely claims
//! proves nothing, since every member can encrypt in the name of every other.

use folkmoot_credential::{Committers, Version};
use folkmoot_mls::codec::Decode;
use folkmoot_mls::error::Error as EngineError;
use folkmoot_mls::group::{CommitError, Group, KeyPackageError, ProposalError};
use folkmoot_mls::message::MlsMessage;
use folkmoot_mls::message_keys::MessageKeys;
use folkmoot_mls::tree::LeafNodeError;
use folkmoot_mls::tree::path::PathError;
use folkmoot_mls::tree_math::LeafIndex;
use folkmoot_protocol::VERSION;
use folkmoot_protocol::call::Call;
use folkmoot_protocol::delivery::{CandidatesRequest, CandidatesResponse, Entry, NonceRequest};
use folkmoot_protocol::ids::{ChainHash, EntryId, LogId};
use folkmoot_protocol::log::{Append, CandidateList, part_hash};
use folkmoot_protocol::proof::{CommitterProof, Method};

use super::chain::Place;
use super::groups::{Held, member};
use super::proposals::{LAST_TURN_MS, TURN_MS, rank};
use super::reading::{Fault, Reader, blame, group_message};
use super::rows::{
    self, AttemptRow, Contested, ConversationRow, EvidenceRow, Leaver, OutboxRow, StoredEntry, Wish,
};
use super::session::{Asked, Task};
use super::{Ask, Output, Pause, Standing, Step, address};
use crate::error::{BadService, Error};
use crate::history::{Invalid, What};
use crate::sabotage::{Guard, stands};
use crate::store::Table;

/// Lines that tell of invalid commits come after all others of their entry.
const INVALID_PART: u32 = 1 << 24;

/// Invalid commits after one parent that are kept as evidence.
const EVIDENCE: u32 = 32;

/// Why a commit is not followed.
pub(super) struct Verdict {
    pub reason: String,
    /// Who made it, if that is proven and a reason to remove them.
    pub author: Option<LeafIndex>,
    /// Whether others may follow it.
    pub cut_off: bool,
    /// Whether that is since it did not open for us.
    pub unopened: bool,
}

impl Verdict {
    /// What every member finds, in a message whose author is proven by its signature, or is not.
    pub(super) fn all_see(reason: String, author: Option<LeafIndex>) -> Self {
        Self {
            reason,
            author,
            cut_off: false,
            unopened: false,
        }
    }

    /// What the engine found. An error of our own storage is passed on.
    pub(super) fn of(held: &Held, append: &Append, error: EngineError) -> Result<Self, Error> {
        let own = error == EngineError::OwnMessage && whose(&held.keys, append) != Whose::Anothers;
        let ours_alone = matches!(
            error,
            EngineError::Commit(CommitError::Path(
                PathError::Decryption(_) | PathError::WrongSecret(_) | PathError::NoKey
            ))
        );
        let untimely = is_untimely(&error);
        let reason = match error {
            EngineError::OwnMessage => NOT_OURS.to_owned(),
            error => blame(error)?,
        };
        Ok(Self {
            reason,
            author: match untimely && stands(Guard::Untimely) {
                true => None,
                false => signer(held, append),
            },
            cut_off: own || ours_alone,
            unopened: ours_alone,
        })
    }
}

/// What is told of a message that somebody else made in our name.
pub(super) const NOT_OURS: &str = "it says that it is ours, and is not";

/// Whose a message is that says it is our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// We signed it.
    Ours,
    /// Somebody else made it, as everybody sees.
    Anothers,
    /// Its key is used up, so that we cannot tell.
    Unknown,
}

/// Whose a message is that says it is our own, by the keys of its epoch.
pub(super) fn whose(keys: &MessageKeys, append: &Append) -> Whose {
    let Ok(MlsMessage::PrivateMessage(message)) = group_message(&append.message) else {
        return Whose::Anothers;
    };
    if !stands(Guard::OwnMessages) {
        return Whose::Ours;
    }
    match keys.open_own(&message) {
        Ok(_) => Whose::Ours,
        Err(EngineError::KeyGone { .. }) => Whose::Unknown,
        Err(_) => Whose::Anothers,
    }
}

/// Who has signed a message of the current epoch.
pub(super) fn signer(held: &Held, append: &Append) -> Option<LeafIndex> {
    match group_message(&append.message) {
        Ok(MlsMessage::PrivateMessage(message)) if !stands(Guard::Proven) => {
            held.keys.sender(&message).ok().map(|said| said.leaf_index)
        }
        Ok(MlsMessage::PrivateMessage(message)) => {
            held.keys.open(&message).ok().map(|opened| opened.sender)
        }
        _ => None,
    }
}

/// Whether a commit was valid when it was made, perhaps, and came too late. Nobody is removed for that.
fn is_untimely(error: &EngineError) -> bool {
    let leaf = |error: &LeafNodeError| {
        matches!(
            error,
            LeafNodeError::Lifetime { .. } | LeafNodeError::Credential(_)
        )
    };
    match error {
        EngineError::Proposal(ProposalError::KeyPackage(KeyPackageError::LeafNode(error))) => {
            leaf(error)
        }
        EngineError::Proposal(ProposalError::Update { error, .. }) => leaf(error),
        _ => false,
    }
}

/// A leaf, and whose it is at this time.
pub(super) fn leaver(group: &Group, leaf: LeafIndex) -> Option<Leaver> {
    let node = group.member(leaf)?;
    let signature_key = node.signature_key.to_vec().into();
    Some(Leaver {
        leaf,
        signature_key,
    })
}

impl Step<'_> {
    /// Whether a message that says it is ours was made by us, and before what we remember: our home was put
    /// back from an older copy. What we have offered ourselves, and somebody else has declared otherwise,
    /// proves nothing.
    pub(super) fn is_restored(&self, held: &Held, append: &Append) -> Result<bool, Error> {
        if whose(&held.keys, append) != Whose::Ours {
            return Ok(false);
        }
        let attempts: Vec<(_, AttemptRow)> =
            rows::scan(self.tx, Table::Attempts, append.log.as_ref())?;
        let message = part_hash(&append.message);
        Ok(!attempts.iter().any(|(_, own)| own.message == message))
    }

    /// The commit after the tip is not followed: the conversation stays before it, until another one is.
    pub(super) fn not_followed(
        &mut self,
        row: &mut ConversationRow,
        group: &Group,
        entry: &Entry,
        place: Place,
        verdict: Verdict,
    ) -> Result<(), Error> {
        let author = self.committer_of(row, group, entry, place.id);
        let own = group.own_index();
        let author = author.or(verdict.author).filter(|leaf| *leaf != own);
        let before = row.contested.take().unwrap_or_else(|| Contested {
            count: 0,
            chain: ChainHash::START,
            time: 0,
            reason: "".into(),
            authors: Vec::new(),
            cut_off: false,
            unopened: None,
            spent: false,
        });
        if before.count < EVIDENCE {
            let evidence = EvidenceRow {
                version: Version,
                entry: Some(StoredEntry {
                    time: entry.time,
                    content: entry.content.as_slice().into(),
                    fence_signature: entry.fence_signature.as_slice().into(),
                }),
                ours: None,
                theirs: None,
            };
            let key = rows::evidence_key(row.log, place.sequence, place.id);
            rows::put(self.tx, Table::Evidence, &key, &evidence)?;
        }
        let what = What::Invalid(Invalid {
            by: author
                .and_then(|leaf| member(group, leaf))
                .map(|(user, _)| user),
            reason: verdict.reason.as_str().into(),
            cut_off: verdict.cut_off,
        });
        let part = INVALID_PART.saturating_add(before.count);
        self.write_history(row, part, what)?;
        let mut contested = Contested {
            count: before.count.saturating_add(1),
            chain: before.chain.next_candidate(row.tip, place.time, place.id),
            time: place.time,
            reason: verdict.reason.into(),
            cut_off: before.cut_off || verdict.cut_off,
            unopened: before.unopened.or(verdict.unopened.then_some(place.id)),
            ..before
        };
        let author = author.and_then(|leaf| leaver(group, leaf));
        contested
            .authors
            .extend(author.filter(|author| !contested.authors.contains(author)));
        let is_first = contested.unopened == Some(place.id);
        row.contested = Some(contested);
        if is_first {
            self.knock_to_be_added_again(row)?;
        }
        // Ours is out too, if it was this one: perhaps the next one is in time.
        for mut waiting in self.outbox(row.log)? {
            if waiting.attempt == Some(place.id) {
                (waiting.attempt, waiting.receipt) = (None, None);
                self.put_outbox(&waiting)?;
            }
        }
        self.drop_attempt(row.log, place.id)?;
        self.hang_up(Task::Follow(row.log));
        let reading = self.session.reading(row.log);
        (reading.at_head, reading.wanted, reading.lost_at) = (false, true, None);
        self.wake.push(Task::Conversation(row.log));
        Ok(())
    }

    /// The leaf of the committer who signed a commit.
    fn committer_of(
        &self,
        row: &ConversationRow,
        group: &Group,
        entry: &Entry,
        commit: EntryId,
    ) -> Option<LeafIndex> {
        let committers: Committers = group.extensions().get().ok().flatten()?;
        let proof = CommitterProof {
            version: VERSION,
            delivery_service: row.delivery.key,
            log: row.log,
            commit,
        };
        let key = proof.verify(&entry.committer_signature).ok()?;
        let mut named = committers.committers.iter();
        named
            .find(|committer| committer.key == key)
            .map(|committer| LeafIndex(committer.leaf))
    }

    /// What comes next while no valid commit after the tip is known.
    pub(super) fn advance_contested(
        &mut self,
        row: &ConversationRow,
        contested: &Contested,
    ) -> Result<Option<Ask>, Error> {
        let log = row.log;
        loop {
            let outbox = self.outbox(log)?;
            let ours = outbox
                .iter()
                .find(|waiting| matches!(waiting.wish, Wish::Contest));
            match ours {
                Some(OutboxRow {
                    attempt: Some(entry),
                    receipt: None,
                    ..
                }) => {
                    let entry = *entry;
                    return self.ask_append(row, entry).map(Some);
                }
                Some(OutboxRow {
                    receipt: Some(_), ..
                }) => return self.ask_candidates(row, contested).map(Some),
                _ => {}
            }
            let reading = *self.session.reading(log);
            let waits = outbox.iter().any(|waiting| waiting.wish.is_users());
            if reading.wanted || (!reading.at_head && waits) {
                return self.ask_candidates(row, contested).map(Some);
            }
            let cut_off = contested.cut_off && stands(Guard::CutOff);
            if !reading.at_head || cut_off || contested.spent {
                return Ok(None);
            }
            let held = self.hold(row)?;
            let may = self.may_commit(row, &held.group)?;
            let turn = rank(&held.group, row).saturating_mul(TURN_MS);
            self.session.held.insert(log, held);
            if !may {
                return Ok(None);
            }
            let Some(ours) = ours.cloned() else {
                // What the user asked for does not wait.
                let turn = if waits { 0 } else { turn.min(LAST_TURN_MS) };
                let until = contested.time.saturating_add(turn);
                let until = until.min(self.now.saturating_add(LAST_TURN_MS));
                let known = self.session.turns.get(&log).copied();
                let until = known.map_or(until, |known| known.min(until));
                if self.now < until {
                    self.session.turns.insert(log, until);
                    let pause = Pause::Turn;
                    self.outputs.push(Output::Wait { until, pause });
                    return Ok(None);
                }
                self.session.turns.remove(&log);
                self.want(log, Wish::Contest)?;
                continue;
            };
            if !self.build_contest(row.clone(), ours)? {
                return Ok(None);
            }
        }
    }

    fn ask_candidates(
        &mut self,
        row: &ConversationRow,
        contested: &Contested,
    ) -> Result<Ask, Error> {
        let to = address(&row.delivery);
        let task = Task::Conversation(row.log);
        let Some(nonce) = self.session.nonce(&task, self.now) else {
            let call = Call::LogNonce(NonceRequest {});
            return Ok(Ask {
                to,
                call,
                asked: Asked::Nonce,
            });
        };
        let method = Method::Candidates;
        let request = CandidatesRequest {
            log: row.log.into(),
            branch: row.branch.into(),
            epoch: row.epoch,
            proof: self.fence_proof(row, row.epoch, method, nonce.as_slice().into())?,
            nonce,
            after: contested.count,
        };
        Ok(Ask {
            to,
            call: Call::Candidates(request),
            asked: Asked::Candidates(contested.count),
        })
    }

    /// Judges what else follows the tip.
    pub(super) fn listed(
        &mut self,
        log: LogId,
        after: u32,
        answer: &CandidatesResponse,
    ) -> Result<(), Error> {
        let mut row = rows::conversation(self.tx, log)?;
        let known = row.contested.as_ref().map(|contested| contested.count);
        if row.standing != Standing::Member || known != Some(after) {
            // Another process was first to hear.
            return Ok(());
        }
        let entries = match self.check_list(&row, answer) {
            Ok(entries) => entries,
            Err(fault) => return self.bad_service(log, fault),
        };
        let receipted = self
            .outbox(log)?
            .into_iter()
            .any(|waiting| matches!(waiting.wish, Wish::Contest) && waiting.receipt.is_some());
        for (entry, append, place) in entries {
            let held = self.load(&row)?;
            let mut reader = Reader {
                row: row.clone(),
                held: Some(held),
            };
            match self.commit(&mut reader, &append, place)? {
                Ok(()) => return self.branched(reader, place),
                Err(Fault::Invalid(verdict)) => {
                    let group = self.load(&row)?.group;
                    self.not_followed(&mut row, &group, entry, place, verdict)?;
                }
                Err(Fault::Service(fault)) => return self.bad_service(log, fault),
                Err(Fault::Stop(reason)) => {
                    self.put_conversation(&mut row)?;
                    return self.stop(row, reason);
                }
            }
        }
        self.put_conversation(&mut row)?;
        if !answer.more && receipted && answer.entries.is_empty() {
            return self.bad_service(log, BadService::Contradiction(log));
        }
        let reading = self.session.reading(log);
        (reading.at_head, reading.wanted) = (!answer.more, answer.more);
        Ok(())
    }

    /// Checks a list of commits: signed, in order, on the chain of those that we know, all after our tip.
    fn check_list<'a>(
        &self,
        row: &ConversationRow,
        answer: &'a CandidatesResponse,
    ) -> Result<Vec<(&'a Entry, Append, Place)>, BadService> {
        let log = row.log;
        let signed = CandidateList::read(&answer.list, &answer.signature, &row.delivery.key);
        let list = signed.map_err(|_| BadService::Signature(log))?;
        let contested = row.contested.as_ref();
        let (mut count, mut chain, mut time) = contested
            .map(|known| (known.count, known.chain, known.time))
            .unwrap_or((0, ChainHash::START, row.time));
        let mut entries = Vec::new();
        for entry in &answer.entries {
            let append = Append::from_bytes(&entry.content).map_err(|_| BadService::Answer)?;
            let id = append.id();
            let is_its = append.version == VERSION && append.log == log;
            let follows =
                (append.branch, append.parent, append.epoch) == (row.branch, row.tip, row.epoch);
            let contests = append.is_contest() == (count > 0) && append.commit.is_some();
            let sequence = row.sequence.saturating_add(1);
            let in_order = entry.sequence == sequence && entry.time >= time;
            if !(is_its && follows && contests && in_order) {
                return Err(BadService::Order(log));
            }
            time = entry.time;
            count = count.saturating_add(1);
            chain = chain.next_candidate(row.tip, time, id);
            let place = Place {
                sequence,
                chain: row.chain.next(log, sequence, time, id),
                time,
                id,
                late: None,
            };
            entries.push((entry, append, place));
        }
        let told = (list.log, list.branch, list.parent, list.count, list.chain);
        let is_all = told == (log, row.branch, row.tip, count, chain);
        if is_all || !stands(Guard::List) {
            Ok(entries)
        } else {
            Err(BadService::Contradiction(log))
        }
    }

    /// A commit after the tip was followed that starts a branch: there the conversation goes on.
    fn branched(&mut self, reader: Reader, place: Place) -> Result<(), Error> {
        let Reader { mut row, held } = reader;
        let log = row.log;
        row.contested = None;
        row.branch = place.id;
        (row.sequence, row.chain, row.time) = (place.sequence, place.chain, place.time);
        // What the DS has signed of the other branch says nothing about this one.
        row.promises.clear();
        row.head = row
            .head
            .take()
            .filter(|kept| kept.head.sequence < place.sequence);
        self.put_chain(&row)?;
        // What was offered there is offered anew.
        self.drop_attempts(log, |_| true)?;
        for waiting in self.outbox(log)? {
            if matches!(waiting.wish, Wish::Contest) {
                self.settle(log, waiting.intent, Ok(()))?;
            }
        }
        self.session.turns.remove(&log);
        let Some(held) = held else {
            self.put_conversation(&mut row)?;
            return self.over(&row);
        };
        self.keep(&mut row, held)?;
        let reading = self.session.reading(log);
        (reading.at_head, reading.wanted, reading.lost_at) = (false, true, None);
        self.wake.push(Task::Conversation(log));
        self.wake.push(Task::Follow(log));
        Ok(())
    }

    /// No further contest of ours is taken after this parent.
    pub(super) fn contest_refused(&mut self, log: LogId, entry: EntryId) -> Result<(), Error> {
        let mut row = rows::conversation(self.tx, log)?;
        self.drop_attempt(log, entry)?;
        if let Some(contested) = &mut row.contested {
            contested.spent = true;
        }
        self.put_conversation(&mut row)?;
        for waiting in self.outbox(log)? {
            if waiting.attempt == Some(entry) {
                self.settle(log, waiting.intent, Ok(()))?;
            }
        }
        let reading = self.session.reading(log);
        (reading.at_head, reading.wanted) = (false, true);
        Ok(())
    }
}
