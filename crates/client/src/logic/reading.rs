//! Reading a log: entries in order, each applied once, on the chain. Only this moves a group on.

use folkmoot_credential::{UserId, Version};
use folkmoot_mls::codec::Decode;
use folkmoot_mls::error::Error as EngineError;
use folkmoot_mls::group::Processed;
use folkmoot_mls::message::MlsMessage;
use folkmoot_protocol::delivery::ReadResponses;
use folkmoot_protocol::delivery::read_response::End;
use folkmoot_protocol::ids::{ChainHash, LogId};
use folkmoot_protocol::keys::hash;
use folkmoot_protocol::log::Append;
use folkmoot_protocol::plaintext::{MessageId, Plaintext, Position};

use super::chain::Place;
use super::groups::{Held, context, member};
use super::outbox::stopped;
use super::rows::{self, AttemptRow, ConversationRow, OutboxRow, Wish};
use super::session::Task;
use super::{APPLICATION, Event, PROPOSAL, Standing, Step};
use crate::error::{BadService, Error};
use crate::history::{Contradiction, HistoryEntry, HistoryPosition, Message, Unreadable, What};
use crate::store::Table;

/// What an entry led to, beside the next one.
pub(super) enum Fault {
    /// The DS broke the protocol: nothing of the entry is applied.
    Service(BadService),
    /// The entry is one that no member may follow: the conversation stops before it.
    Stop(String),
}

/// A conversation while its entries are applied.
pub(super) struct Reader {
    pub row: ConversationRow,
    /// `None` once we are no member.
    pub held: Option<Held>,
}

impl Step<'_> {
    pub(super) fn read(&mut self, log: LogId, answer: &ReadResponses) -> Result<(), Error> {
        let row = rows::conversation(self.tx, log)?;
        if row.standing != Standing::Member {
            return Ok(());
        }
        let before = (row.sequence, row.epoch);
        let verified = match self.verify(&row, answer)? {
            Ok(verified) => verified,
            Err(fault) => return self.bad_service(log, fault),
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
                    self.put_evidence(&reader.row, entry)?;
                }
                fault = Some(found);
                break;
            }
            if reader.held.is_none() {
                break;
            }
        }
        let Reader { mut row, held } = reader;
        let Some(held) = held else {
            self.put_conversation(&mut row)?;
            return self.leave(&row);
        };
        match fault {
            Some(Fault::Stop(reason)) => {
                self.session.held.remove(&log);
                return self.stop(row, reason);
            }
            Some(Fault::Service(fault)) => {
                // The entry may have used keys of the group in memory: it is loaded again.
                drop(held);
                self.put_conversation(&mut row)?;
                return self.bad_service(log, fault);
            }
            None => self.keep(&mut row, held)?,
        }
        let moved = before != (row.sequence, row.epoch);
        if moved {
            self.session.reading(log).lost_at = None;
        }
        self.end(&row, verified.end, before)
    }

    /// What the end of a read says. `before` is the sequence and epoch before it.
    fn end(&mut self, row: &ConversationRow, end: End, before: (u64, u64)) -> Result<(), Error> {
        let log = row.log;
        let fault = match end {
            End::Head => {
                let reading = self.session.reading(log);
                reading.at_head = true;
                reading.wanted = false;
                return self.wake_invites(log);
            }
            // A newer key opens what comes after; the old one must not be all that we have.
            End::Cut if row.epoch != before.1 => return self.read_on(log),
            End::Cut => BadService::Contradiction(log),
            End::Blind => BadService::Denied(log),
            End::Gap => BadService::Gap(log),
            // A long read is cut off by whoever carries it, and goes on where it stopped.
            End::Unspecified if row.sequence != before.0 => return self.read_on(log),
            End::Unspecified => BadService::Answer,
        };
        self.bad_service(log, fault)
    }

    fn read_on(&mut self, log: LogId) -> Result<(), Error> {
        let reading = self.session.reading(log);
        reading.wanted = true;
        reading.at_head = false;
        Ok(())
    }

    /// Applies one entry.
    fn entry(
        &mut self,
        reader: &mut Reader,
        append: &Append,
        place: Place,
    ) -> Result<Result<(), Fault>, Error> {
        let here = (append.epoch, append.parent) == (reader.row.epoch, reader.row.tip);
        let applied = if append.epoch < reader.row.epoch {
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
                .retain(|promise| promise.sequence > place.sequence);
            self.put_chain(&reader.row)?;
        }
        Ok(applied)
    }

    // ---- messages and proposals

    fn message(
        &mut self,
        reader: &mut Reader,
        append: &Append,
        place: Place,
    ) -> Result<Result<(), Fault>, Error> {
        let log = reader.row.log;
        let key = rows::attempt_key(log, place.id);
        if let Some(attempt) = rows::get::<AttemptRow>(self.tx, Table::Attempts, &key)? {
            self.tx.delete(Table::Attempts, &key)?;
            let key = rows::outbox_key(log, attempt.intent);
            let row: Option<OutboxRow> = rows::get(self.tx, Table::Outbox, &key)?;
            if let Some(OutboxRow {
                intent,
                wish: Wish::Send(wish),
                ..
            }) = row
            {
                let account = self.account()?;
                let message = Message {
                    sender: account.user.clone(),
                    device: account.device.0.public(),
                    own: true,
                    id: wish.id,
                    media_type: wish.media_type,
                    content: wish.content,
                };
                self.is_new(log, &account.user, wish.id)?;
                self.write_history_at(&reader.row, place, 0, What::Message(message))?;
                self.settle(log, intent, Ok(()))?;
            }
            return Ok(Ok(()));
        }
        let Some(held) = &mut reader.held else {
            return Ok(Ok(()));
        };
        let mut ctx = context(place.time / 1000, self.rng);
        let processed = match MlsMessage::from_bytes(&append.message) {
            Ok(message) => held.group.process(&mut held.keys, &message, &mut ctx),
            Err(error) => Err(error.into()),
        };
        match processed {
            Ok(Processed::Application {
                sender,
                data,
                changes,
                ..
            }) if append.content_type == APPLICATION => {
                let sender = member(&held.group, sender);
                self.apply(log, &changes)?;
                self.said(&reader.row, place, sender, &data)?;
            }
            Ok(Processed::Proposal { group, changes, .. }) if append.content_type == PROPOSAL => {
                held.group = group;
                self.apply(log, &changes)?;
            }
            // The DS compared the header with what is declared.
            Ok(_) => return Ok(Err(Fault::Service(BadService::Order(log)))),
            Err(EngineError::OwnMessage) => return Ok(Err(Fault::Stop(restored()))),
            Err(error) => {
                let reason = blame(error)?.into();
                self.write_history_at(
                    &reader.row,
                    place,
                    0,
                    What::Unreadable(Unreadable { reason }),
                )?;
            }
        }
        Ok(Ok(()))
    }

    /// Somebody said something.
    fn said(
        &mut self,
        row: &ConversationRow,
        place: Place,
        sender: Option<(UserId, folkmoot_protocol::keys::PublicKey)>,
        data: &[u8],
    ) -> Result<(), Error> {
        let (Ok(plaintext), Some((sender, device))) = (Plaintext::from_padded(data), sender) else {
            let reason = "its content is malformed".into();
            return self.write_history_at(row, place, 0, What::Unreadable(Unreadable { reason }));
        };
        if !self.is_new(row.log, &sender, plaintext.id)? {
            return Ok(());
        }
        let agrees = self.agrees(row, &plaintext.position)?;
        let message = Message {
            sender: sender.clone(),
            device,
            own: false,
            id: plaintext.id,
            media_type: plaintext.media_type.into(),
            content: plaintext.content,
        };
        self.write_history_at(row, place, 0, What::Message(message))?;
        if !agrees {
            let sequence = plaintext.position.sequence;
            let what = What::Contradiction(Contradiction {
                with: sender,
                sequence,
            });
            self.write_history_at(row, place, 1, what)?;
        }
        Ok(())
    }

    /// Whether the user has not sent this id before; remembers it.
    fn is_new(&mut self, log: LogId, user: &UserId, id: MessageId) -> Result<bool, Error> {
        let key = [log.0, hash("user", user)].concat();
        let key = [&key[..], &id.0].concat();
        let new = self.tx.get(Table::Seen, &key)?.is_none();
        self.tx.put(Table::Seen, &key, &[])?;
        Ok(new)
    }

    /// Whether the sender saw the same log as we did. Where we have no hash we cannot tell.
    fn agrees(&self, row: &ConversationRow, position: &Position) -> Result<bool, Error> {
        if position.sequence > row.sequence {
            return Ok(false);
        }
        let key = rows::chain_key(row.log, position.sequence);
        let ours: Option<ChainHash> = rows::get(self.tx, Table::Chain, &key)?;
        Ok(ours.is_none_or(|ours| ours == position.chain))
    }

    // ---- ends

    /// We are no member any more: keys and wishes go, what was said stays.
    fn leave(&mut self, row: &ConversationRow) -> Result<(), Error> {
        let log = row.log;
        self.session.held.remove(&log);
        for table in [Table::Records, Table::Fences, Table::Attempts] {
            self.tx.delete_prefix(table, log.as_ref())?;
        }
        for waiting in self.outbox(log)? {
            let error = Error::NoLongerMember(row.title.0.clone());
            self.settle(log, waiting.intent, Err(error))?;
        }
        // Perhaps somebody has added us again.
        let invitations: Vec<(_, rows::InvitationRow)> =
            rows::scan(self.tx, Table::Invitations, &[])?;
        for (_, invitation) in invitations {
            self.wake.push(Task::Join(invitation.invitation.address));
        }
        Ok(())
    }

    /// Nobody may follow: the conversation stays at the last good entry, with the evidence.
    fn stop(&mut self, mut row: ConversationRow, reason: String) -> Result<(), Error> {
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

    // ---- history

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
        let (time, epoch) = (place.time, row.epoch);
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
}

fn restored() -> String {
    "this home was restored from an old copy: another device of yours has to add this one again"
        .into()
}

/// Why a member's message is refused; an error of our own storage is passed on.
pub(super) fn blame(error: EngineError) -> Result<String, Error> {
    match error {
        EngineError::DamagedRecord(_) | EngineError::UnsupportedCipherSuite(_) => Err(error.into()),
        EngineError::OwnMessage => Ok(restored()),
        error => Ok(error.to_string()),
    }
}
