//! Reading a log: entries in order, each applied once, on the chain. Only this moves a group on.

use folkmoot_credential::Version;
use folkmoot_mls::codec::Decode;
use folkmoot_mls::error::Error as EngineError;
use folkmoot_mls::message::MlsMessage;
use folkmoot_protocol::call::Call;
use folkmoot_protocol::delivery::read_response::End;
use folkmoot_protocol::delivery::{LogRead, NonceRequest, ReadRequest, ReadResponses};
use folkmoot_protocol::ids::LogId;
use folkmoot_protocol::limits;
use folkmoot_protocol::log::Append;
use folkmoot_protocol::proof::Method;

use super::chain::Place;
use super::contests::Verdict;
use super::groups::Held;
use super::rows::{self, ConversationRow, Wish};
use super::session::{Asked, Cursor, Task};
use super::wishes::stopped;
use super::{APPLICATION, Ask, Event, Standing, Step, address};
use crate::error::{BadService, Error};
use crate::history::{HistoryEntry, HistoryPosition, What};
use crate::store::Table;

/// What an entry led to, beside the next one.
pub(super) enum Fault {
    /// The DS broke the protocol: nothing of the entry is applied.
    Service(BadService),
    /// We can follow no further, whatever comes: the conversation stops before the entry.
    Stop(String),
    /// The entry is a commit that is not followed. Perhaps another one after its parent is.
    Invalid(Verdict),
}

/// A conversation while its entries are applied.
pub(super) struct Reader {
    pub row: ConversationRow,
    /// `None` once we are no member.
    pub held: Option<Held>,
}

/// Milliseconds for which services keep entries.
const RETENTION: u64 = limits::RETENTION_DAYS * 24 * 60 * 60 * 1000;

impl Step<'_> {
    /// Asks for what is new, once or, for [`Task::Follow`], as long as it lasts.
    pub(super) fn ask_read(&mut self, row: &ConversationRow, task: Task) -> Result<Ask, Error> {
        let to = address(&row.delivery);
        let Some(nonce) = self.session.nonce(&task, self.now) else {
            let call = Call::LogNonce(NonceRequest {});
            return Ok(Ask {
                to,
                call,
                asked: Asked::Nonce,
            });
        };
        let read = LogRead {
            log: row.log.into(),
            branch: row.branch.into(),
            epoch: row.epoch,
            proof: self.fence_proof(row, row.epoch, Method::Read, nonce.as_slice().into())?,
            nonce,
            after: row.sequence,
        };
        let cursor = Cursor {
            branch: row.branch,
            epoch: row.epoch,
            after: row.sequence,
        };
        let (follow, asked) = match task {
            Task::Follow(log) => {
                self.session.following.entry(log).or_default().issued = 0;
                (true, Asked::Follow(cursor))
            }
            _ => (false, Asked::Read(cursor)),
        };
        let request = ReadRequest {
            logs: vec![read],
            follow,
        };
        Ok(Ask {
            to,
            call: Call::Read(request),
            asked,
        })
    }

    /// Takes what a read brought. `task` asked for it, from `cursor` on.
    pub(super) fn read(
        &mut self,
        task: Task,
        log: LogId,
        cursor: Cursor,
        answer: &ReadResponses,
    ) -> Result<(), Error> {
        let mut row = rows::conversation(self.tx, log)?;
        if row.standing != Standing::Member {
            self.hang_up(Task::Follow(log));
            return Ok(());
        }
        // It is of a branch that we have left.
        if row.contested.is_some() || row.branch != cursor.branch {
            self.hang_up(Task::Follow(log));
            return Ok(());
        }
        let before = row.sequence;
        let verified = match self.verify(&mut row, task, cursor, answer)? {
            Ok(verified) => verified,
            Err(fault) => {
                self.unheard(task, fault);
                return Ok(());
            }
        };
        let held = self.hold(&row)?;
        let mut reader = Reader {
            row,
            held: Some(held),
        };
        let mut fault = None;
        for (entry, append, place) in verified.entries {
            if let Err(found) = self.entry(&mut reader, &append, place)? {
                if matches!(found, Fault::Stop(_)) {
                    self.put_evidence(log, Some(entry), None, None, entry.sequence)?;
                }
                fault = Some((found, entry, place));
                break;
            }
            if reader.held.is_none() {
                break;
            }
        }
        let Reader { mut row, held } = reader;
        let Some(held) = held else {
            self.put_conversation(&mut row)?;
            return self.over(&row);
        };
        let fault = match fault {
            Some((Fault::Stop(reason), ..)) => {
                self.session.held.remove(&log);
                return self.stop(row, reason);
            }
            Some((Fault::Invalid(verdict), entry, place)) => {
                self.not_followed(&mut row, &held.group, entry, place, verdict)?;
                // It may have used keys of the group in memory: that is loaded again.
                drop(held);
                return self.put_conversation(&mut row);
            }
            Some((Fault::Service(fault), ..)) => {
                // The entry may have used keys of the group in memory: it is loaded again.
                drop(held);
                self.put_conversation(&mut row)?;
                Some(fault)
            }
            None => {
                let mut held = held;
                if verified.end == End::Head {
                    self.head_at(&mut row, &mut held, verified.issued)?;
                }
                self.keep(&mut row, held)?;
                if row.sequence != before {
                    self.session.reading(log).lost_at = None;
                }
                self.end(task, &row, verified.end, cursor)?
            }
        };
        if let Some(fault) = fault {
            self.unheard(task, fault);
        }
        Ok(())
    }

    /// We are no member any more: keys and wishes go, what was said stays.
    pub(super) fn over(&mut self, row: &ConversationRow) -> Result<(), Error> {
        let log = row.log;
        self.hang_up(Task::Follow(log));
        self.session.held.remove(&log);
        for table in [
            Table::Records,
            Table::Fences,
            Table::Attempts,
            Table::CommitterKeys,
            Table::Followed,
        ] {
            self.tx.delete_prefix(table, log.as_ref())?;
        }
        self.forget_doors(log)?;
        for waiting in self.outbox(log)? {
            let title = row.title.0.clone();
            let result = match (&waiting.wish, row.standing) {
                (Wish::Leave(_), _) => Ok(()),
                (_, Standing::Left) => Err(Error::Left(title)),
                (_, Standing::Behind) => Err(Error::Behind(title)),
                _ => Err(Error::NoLongerMember(title)),
            };
            self.settle(log, waiting.intent, result)?;
        }
        // Perhaps somebody has added us again.
        let invitations: Vec<(_, rows::InvitationRow)> =
            rows::scan(self.tx, Table::Invitations, &[])?;
        for (_, invitation) in invitations {
            self.wake.push(Task::Join(invitation.invitation.address));
        }
        Ok(())
    }

    /// Writes a line at the row's own place.
    pub(super) fn write_history(
        &mut self,
        row: &ConversationRow,
        part: u32,
        what: What,
    ) -> Result<(), Error> {
        let place = Place {
            sequence: row.sequence,
            chain: row.chain,
            time: row.time,
            id: row.tip,
            late: None,
        };
        self.write_history_at(row, place, part, what)
    }

    pub(super) fn write_history_at(
        &mut self,
        row: &ConversationRow,
        place: Place,
        part: u32,
        what: What,
    ) -> Result<(), Error> {
        let sequence = place.sequence;
        let (time, epoch) = (place.time, place.late.unwrap_or(row.epoch));
        let entry = HistoryEntry {
            version: Version,
            sequence,
            part,
            time,
            epoch,
            what,
        };
        let key = rows::history_key(row.log, HistoryPosition { sequence, part });
        rows::put(self.tx, Table::History, &key, &entry)?;
        self.tell(Event::News {
            log: row.log,
            title: row.title.0.clone(),
            entry,
        });
        Ok(())
    }

    /// The DS broke the protocol: what it says to this task is not listened to any more.
    fn unheard(&mut self, task: Task, fault: BadService) {
        if let Task::Follow(_) = task {
            self.hang_up(task);
        }
        self.block(task, Error::BadService(fault));
    }

    /// What the end of a read says, or is wrong with it.
    fn end(
        &mut self,
        task: Task,
        row: &ConversationRow,
        end: End,
        cursor: Cursor,
    ) -> Result<Option<BadService>, Error> {
        let log = row.log;
        let follows = matches!(task, Task::Follow(_));
        match end {
            End::Head => {
                let reading = self.session.reading(log);
                reading.at_head = true;
                reading.at = self.now;
                reading.wanted = false;
                self.wake_invites(log)?;
            }
            // A newer key opens what comes after; the old one must not be all that we have.
            End::Cut if row.epoch != cursor.epoch => self.read_on(log, follows),
            End::Cut => return Ok(Some(BadService::Contradiction(log))),
            End::Gap => self.behind(row.clone())?,
            // Then our key, too, may have gone.
            End::Blind if self.now.saturating_sub(row.time) >= RETENTION => {
                self.behind(row.clone())?;
            }
            End::Blind => return Ok(Some(BadService::Denied(log))),
            // A long read is cut off by whoever carries it, and goes on where it stopped.
            End::Unspecified if row.sequence > cursor.after => self.read_on(log, follows),
            End::Unspecified => return Ok(Some(BadService::Answer)),
        }
        Ok(None)
    }

    /// There is more. A stream brings it by itself, or begins again.
    fn read_on(&mut self, log: LogId, follows: bool) {
        let reading = self.session.reading(log);
        reading.at_head = false;
        reading.wanted |= !follows;
    }

    /// Applies one entry.
    fn entry(
        &mut self,
        reader: &mut Reader,
        append: &Append,
        place: Place,
    ) -> Result<Result<(), Fault>, Error> {
        if let Some(held) = &mut reader.held {
            self.entry_at(&mut reader.row, held, place.time)?;
        }
        let made = (append.epoch, append.parent);
        let here = made == (reader.row.epoch, reader.row.tip);
        let mut past = reader.row.past.iter();
        let applied = if past.any(|past| made == (past.epoch, past.commit))
            && append.content_type == APPLICATION
        {
            let late = Some(append.epoch);
            self.message(reader, append, Place { late, ..place })?
        } else if append.epoch < reader.row.epoch {
            // Written before we joined, or too late to be read.
            Ok(())
        } else if !here {
            Err(Fault::Service(BadService::Order(reader.row.log)))
        } else if append.commit.is_some() {
            self.commit(reader, append, place)?
        } else {
            self.message(reader, append, place)?
        };
        if applied.is_ok() {
            let row = &mut reader.row;
            row.sequence = place.sequence;
            row.chain = place.chain;
            row.time = place.time;
            row.promises
                .retain(|promise| promise.head.sequence > place.sequence);
            self.put_chain(&reader.row)?;
        }
        Ok(applied)
    }

    /// The log no longer reaches back to where we stopped. Nothing of it can be followed from here.
    fn behind(&mut self, mut row: ConversationRow) -> Result<(), Error> {
        row.standing = Standing::Behind;
        self.put_conversation(&mut row)?;
        self.over(&row)?;
        self.tell(Event::Behind {
            log: row.log,
            title: row.title.0,
        });
        Ok(())
    }

    /// Nobody may follow: the conversation stays at the last good entry, with the evidence.
    pub(super) fn stop(&mut self, mut row: ConversationRow, reason: String) -> Result<(), Error> {
        self.hang_up(Task::Follow(row.log));
        row.standing = Standing::Stopped;
        row.stopped = Some(reason.clone().into());
        self.put_conversation(&mut row)?;
        for waiting in self.outbox(row.log)? {
            self.settle(row.log, waiting.intent, Err(stopped(&row)))?;
        }
        self.tell(Event::Stopped {
            log: row.log,
            title: row.title.0,
            reason,
        });
        Ok(())
    }
}

/// Why a home that was put back from a copy is of no use.
pub(super) fn restored() -> String {
    "this home was put back from an older copy, whose keys must not be used again: ask another \
     member to remove you and add you again"
        .into()
}

/// Why a member's message is refused; an error of our own storage is passed on.
pub(super) fn blame(error: EngineError) -> Result<String, Error> {
    match error {
        EngineError::DamagedRecord(_)
        | EngineError::RecordVersion(_)
        | EngineError::UnsupportedCipherSuite(_) => Err(error.into()),
        error => Ok(error.to_string()),
    }
}

/// A message to a group. In a log all of them are encrypted, so that nobody from outside is heard.
pub(super) fn group_message(bytes: &[u8]) -> Result<MlsMessage, EngineError> {
    match MlsMessage::from_bytes(bytes)? {
        message @ MlsMessage::PrivateMessage(_) => Ok(message),
        other => Err(EngineError::UnexpectedWireFormat(other.wire_format())),
    }
}
