//! What comes next for a conversation's log: opening it, offering an entry, reading on; and what the DS
//! says to the first two.

use folkmoot_mls::codec::{Bytes, Encode};
use folkmoot_protocol::call::Call;
use folkmoot_protocol::delivery::{
    AppendRequest, LogRead, NonceRequest, OpenRequest, ReadRequest, Receipt,
};
use folkmoot_protocol::ids::{ChainHash, EntryId, LogId};
use folkmoot_protocol::log::{Open, SignedHead};
use folkmoot_protocol::proof::{FenceProof, Method};
use folkmoot_protocol::{Conflict, Refusal, VERSION};

use super::rows::{self, AttemptRow, ConversationRow, OutboxRow, Promise, Wish};
use super::session::{Asked, Task};
use super::{Ask, Event, Standing, Step, address};
use crate::error::{BadService, Error};
use crate::history::{Founded, What};
use crate::store::{StoreError, Table};

/// What became of building an entry.
pub(super) enum Built {
    /// It is stored as an attempt, and can be offered.
    Attempt(EntryId),
    /// There is nothing to do any more.
    Done,
    /// It cannot be done.
    Failed(Error),
}

impl Step<'_> {
    pub(super) fn advance_conversation(&mut self, log: LogId) -> Result<Option<Ask>, Error> {
        loop {
            let row: Option<ConversationRow> =
                rows::get(self.tx, Table::Conversations, log.as_ref())?;
            let Some(row) = row else {
                return Ok(None);
            };
            match row.standing {
                Standing::Opening => return self.ask_open(&row).map(Some),
                Standing::Member => {}
                Standing::Removed | Standing::Stopped => return Ok(None),
            }
            let reading = *self.session.reading(log);
            let next = self.outbox(log)?.into_iter().find(OutboxRow::is_ready);
            let Some(mut next) = next else {
                return if reading.wanted {
                    self.ask_read(&row).map(Some)
                } else {
                    Ok(None)
                };
            };
            match (next.attempt, next.receipt) {
                (Some(entry), None) => return self.ask_append(&row, entry).map(Some),
                // What stands there is not what the receipt was given for.
                (Some(_), Some(place)) if place <= row.sequence => {
                    (next.attempt, next.receipt) = (None, None);
                    self.put_outbox(&next)?;
                    self.bad_service(log, BadService::Contradiction(log))?;
                    return Ok(None);
                }
                // The receipt settles nothing by itself: the entry is read first.
                (Some(_), Some(_)) => return self.ask_read(&row).map(Some),
                (None, _) if !reading.at_head => return self.ask_read(&row).map(Some),
                (None, _) => match self.build(row, &next)? {
                    Built::Attempt(entry) => {
                        next.attempt = Some(entry);
                        next.receipt = None;
                        next.tried = true;
                        self.put_outbox(&next)?;
                    }
                    Built::Done => self.settle(log, next.intent, Ok(()))?,
                    Built::Failed(error) => self.settle(log, next.intent, Err(error))?,
                },
            }
        }
    }

    fn build(&mut self, row: ConversationRow, next: &OutboxRow) -> Result<Built, Error> {
        match &next.wish {
            Wish::Send(wish) => self.build_message(row, next.intent, wish),
            wish => self.build_commit(row, next, wish),
        }
    }

    fn ask_open(&mut self, row: &ConversationRow) -> Result<Ask, Error> {
        let fence = self.fence(row)?;
        let open = Open {
            version: VERSION,
            log: row.log,
            fence_key: fence.public(),
        };
        let proof = self.fence_proof(row, Method::Open, open.id().0.into())?;
        let request = OpenRequest {
            open: open.to_bytes(),
            fence_signature: proof,
            payment: None,
        };
        let to = address(&row.delivery);
        Ok(Ask {
            to,
            call: Call::Open(request),
            asked: Asked::Open,
        })
    }

    fn ask_append(&mut self, row: &ConversationRow, entry: EntryId) -> Result<Ask, Error> {
        let key = rows::attempt_key(row.log, entry);
        let attempt: Option<AttemptRow> = rows::get(self.tx, Table::Attempts, &key)?;
        let attempt = attempt.ok_or(StoreError::DamagedRow(Table::Outbox.name()))?;
        let request = AppendRequest {
            append: attempt.append.into_vec(),
            fence_signature: self.fence_proof(row, Method::Append, entry.0.into())?,
            shared_part: attempt.shared_part.into_vec(),
            own_parts: attempt.own_parts.into_iter().map(Bytes::into_vec).collect(),
            ..Default::default()
        };
        let to = address(&row.delivery);
        Ok(Ask {
            to,
            call: Call::Append(request),
            asked: Asked::Append(entry),
        })
    }

    fn ask_read(&mut self, row: &ConversationRow) -> Result<Ask, Error> {
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
        let read = LogRead {
            log: row.log.into(),
            branch: row.branch.into(),
            epoch: row.epoch,
            proof: self.fence_proof(row, Method::Read, nonce.as_slice().into())?,
            nonce,
            after: row.sequence,
        };
        let request = ReadRequest {
            logs: vec![read],
            follow: false,
        };
        Ok(Ask {
            to,
            call: Call::Read(request),
            asked: Asked::Read,
        })
    }

    fn fence_proof(
        &self,
        row: &ConversationRow,
        method: Method,
        subject: Bytes,
    ) -> Result<Vec<u8>, Error> {
        let proof = FenceProof {
            version: VERSION,
            delivery_service: row.delivery.key,
            log: row.log,
            branch: row.branch,
            epoch: row.epoch,
            method,
            subject,
        };
        Ok(proof.sign(&self.fence(row)?).to_vec())
    }

    // ---- what the DS said

    pub(super) fn opened(&mut self, log: LogId, receipt: &Receipt) -> Result<(), Error> {
        let mut row = rows::conversation(self.tx, log)?;
        if row.standing != Standing::Opening {
            return Ok(());
        }
        let head = match SignedHead::read(receipt, &row.delivery.key) {
            Ok(signed) => signed.head,
            Err(_) => return self.bad_service(log, BadService::Signature(log)),
        };
        let chain = ChainHash::START.next(log, 0, head.entry_time, row.branch);
        let fits = head.log == log && head.branch == row.branch;
        if !fits || (head.sequence, head.chain) != (0, chain) {
            return self.bad_service(log, BadService::Contradiction(log));
        }
        row.standing = Standing::Member;
        row.chain = chain;
        row.time = head.entry_time;
        let held = self.hold(&row)?;
        let founded = Founded {
            by: self.account()?.user,
            title: row.title.clone(),
        };
        self.write_history(&row, 0, What::Created(founded))?;
        self.put_chain(&row)?;
        self.keep(&mut row, held)?;
        // Nobody else has a key to write with: this is the head.
        self.session.reading(log).at_head = true;
        self.tell(Event::Done { intent: row.intent });
        self.wake_invites(log)
    }

    pub(super) fn appended(
        &mut self,
        log: LogId,
        entry: EntryId,
        receipt: &Receipt,
    ) -> Result<(), Error> {
        let mut row = rows::conversation(self.tx, log)?;
        let offered = self
            .outbox(log)?
            .into_iter()
            .find(|row| row.attempt == Some(entry));
        let Some(mut offered) = offered else {
            // Another process was first to hear, and to read on.
            return Ok(());
        };
        let head = match SignedHead::read(receipt, &row.delivery.key) {
            Ok(signed) if signed.head.log == log && signed.head.branch == row.branch => signed.head,
            _ => return self.bad_service(log, BadService::Signature(log)),
        };
        if head.sequence <= row.sequence {
            return self.bad_service(log, BadService::Contradiction(log));
        }
        offered.receipt = Some(head.sequence);
        self.put_outbox(&offered)?;
        promise(&mut row, head.sequence, head.chain);
        let held = self.hold(&row)?;
        self.keep(&mut row, held)
    }

    pub(super) fn append_refused(
        &mut self,
        log: LogId,
        entry: EntryId,
        refusal: Refusal,
    ) -> Result<(), Error> {
        let mut row = rows::conversation(self.tx, log)?;
        let offered = self
            .outbox(log)?
            .into_iter()
            .find(|row| row.attempt == Some(entry));
        let Some(mut offered) = offered else {
            return Ok(());
        };
        match refusal {
            Refusal::Conflict(kind, signed) => {
                let head = match SignedHead::read(&Receipt::from(*signed), &row.delivery.key) {
                    Ok(signed) if signed.head.log == log => signed.head,
                    _ => return self.bad_service(log, BadService::Signature(log)),
                };
                // The entry is out; its attempt stays until a commit after its parent was read.
                offered.attempt = None;
                self.put_outbox(&offered)?;
                if head.sequence > row.sequence && kind != Conflict::UnseenProposals {
                    promise(&mut row, head.sequence, head.chain);
                }
                let held = self.hold(&row)?;
                self.keep(&mut row, held)?;
                self.read_again(&row)
            }
            // Perhaps the epoch is over behind a cut: reading tells.
            Refusal::NotFound | Refusal::BadProof => self.read_again(&row),
            Refusal::TooLarge | Refusal::Malformed(_) | Refusal::HeaderMismatch => {
                self.tx
                    .delete(Table::Attempts, &rows::attempt_key(log, entry))?;
                self.settle(log, offered.intent, Err(refusal.into()))
            }
            refusal => {
                self.block(Task::Conversation(log), refusal.into());
                Ok(())
            }
        }
    }

    /// Reads on after losing. Losing twice at one place contradicts what was read there.
    fn read_again(&mut self, row: &ConversationRow) -> Result<(), Error> {
        let reading = self.session.reading(row.log);
        let again = reading.lost_at.replace(row.sequence) == Some(row.sequence);
        reading.at_head = false;
        reading.wanted = true;
        if again {
            self.block(Task::Conversation(row.log), Error::NotTaken);
        }
        Ok(())
    }

    pub(super) fn bad_service(&mut self, log: LogId, fault: BadService) -> Result<(), Error> {
        self.block(Task::Conversation(log), Error::BadService(fault));
        Ok(())
    }

    /// Looks at the invitations that wait for the log to be read.
    pub(super) fn wake_invites(&mut self, log: LogId) -> Result<(), Error> {
        for row in self.outbox(log)? {
            self.wake.push(Task::Invite(log, row.intent));
        }
        Ok(())
    }
}

impl OutboxRow {
    /// Whether nothing has to come before the entry.
    fn is_ready(&self) -> bool {
        match &self.wish {
            Wish::Add(wish) => wish.targets.iter().all(|target| {
                target.looked_up && target.devices.iter().all(|device| device.dropped)
            }),
            _ => true,
        }
    }
}

/// Remembers what the DS has signed.
pub(super) fn promise(row: &mut ConversationRow, sequence: u64, chain: ChainHash) {
    let promise = Promise { sequence, chain };
    if !row.promises.contains(&promise) {
        row.promises.push(promise);
    }
}
