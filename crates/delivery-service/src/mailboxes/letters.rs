//! Dropping, collecting and acknowledging envelopes.

use std::ops::ControlFlow;

use folkmoot_mls::codec::Bytes;
use folkmoot_protocol::Refusal;
use folkmoot_protocol::delivery::{CollectResponse, DropAllRequest, DropRequest, Envelope};
use folkmoot_protocol::door::ticket_hash;
use folkmoot_protocol::ids::MailboxId;
use folkmoot_protocol::keys::hash;
use folkmoot_protocol::limits;
use subtle::ConstantTimeEq;

use super::{DoorRecord, EnvelopeRecord, MailboxRecord, TicketRecord, ticket};
use crate::decision::{Decision, Denial, Request};
use crate::fields::{self, bound};
use crate::store::{Change, RECORD_VERSION, StoreError, View, get, scan};

/// What an envelope takes on the wire beside its content, at most.
const ENVELOPE_OVERHEAD: usize = 32;

/// Milliseconds of a minute.
const MINUTE: u64 = 60 * 1000;

/// An envelope for a mailbox, and the ticket that lets it in.
pub(crate) struct Drop {
    mailbox: MailboxId,
    /// The ticket's hash.
    ticket: [u8; 32],
    /// The ticket's hash if it is the standing one of a door.
    standing: [u8; 32],
    /// Under which a drop at a door is remembered, so that a repeat succeeds.
    repeat: [u8; 32],
    envelope: Bytes,
}

impl Drop {
    /// Many of them, each of which may be refused by itself.
    ///
    /// # Errors
    /// `TooLarge` for too many, or too many bytes together.
    pub(crate) fn read_all(request: DropAllRequest) -> Result<Vec<Result<Self, Refusal>>, Refusal> {
        bound(request.drops.len(), limits::DROPS_PER_CALL)?;
        let bytes = request.drops.iter().map(|drop| drop.envelope.len()).sum();
        bound(bytes, limits::DROPS_BYTES)?;
        Ok(request.drops.into_iter().map(Self::read).collect())
    }

    /// # Errors
    /// `Malformed`; `TooLarge`. A ticket of the wrong length is `NotFound`, as any that was never
    /// handed out.
    pub(crate) fn read(request: DropRequest) -> Result<Self, Refusal> {
        let mailbox = fields::mailbox(&request.mailbox)?;
        bound(request.envelope.len(), limits::ENVELOPE)?;
        let ticket = request.ticket.try_into().map_err(|_| Refusal::NotFound)?;
        let envelope = request.envelope.into();
        Ok(Self {
            mailbox,
            ticket: ticket::stored(&ticket),
            standing: ticket_hash(&ticket),
            repeat: hash("drop at a door", &(ticket, &envelope)),
            envelope,
        })
    }
}

/// What is known of a drop before anything is written.
pub(crate) enum Looked {
    /// It may come in.
    New(Drop),
    /// It is in already, or it is refused.
    Done(Result<(), Refusal>),
}

impl Drop {
    /// Decides on what is durable already. Envelopes to nowhere cost no more than this, so that nobody who
    /// sends them holds up those who write.
    pub(crate) fn look(self, records: &dyn View, now: u64) -> Looked {
        // What is damaged, the committer tells apart from what is not.
        let Ok(view) = self.load(records) else {
            return Looked::New(self);
        };
        match self.decide(view, now) {
            Ok(Decision { change: None, .. }) => Looked::Done(Ok(())),
            Err(Denial::Refusal(refusal)) => Looked::Done(Err(refusal)),
            _ => Looked::New(self),
        }
    }
}

/// What a drop rests on.
pub(crate) struct DropView {
    mailbox: Option<MailboxRecord>,
    door: Option<DoorRecord>,
    /// The ticket; at a door, the memory of this very drop.
    ticket: Option<TicketRecord>,
}

impl Request for Drop {
    type View = DropView;
    type Outcome = ();

    fn load(&self, records: &dyn View) -> Result<Self::View, StoreError> {
        let door: Option<DoorRecord> = get(records, self.mailbox, &[])?;
        let ticket = if door.is_some() {
            &self.repeat
        } else {
            &self.ticket
        };
        Ok(DropView {
            mailbox: get(records, self.mailbox, &[])?,
            ticket: get(records, self.mailbox, ticket)?,
            door,
        })
    }

    /// The same envelope again on the same ticket succeeds; another one is `Taken`, but at a door. An
    /// unknown or expired ticket, a closed door and an unknown mailbox are `NotFound`.
    fn decide(&self, view: Self::View, now: u64) -> Result<Decision<()>, Denial> {
        let mailbox = view.mailbox.ok_or(Refusal::NotFound)?;
        match view.door {
            Some(door) => self.at_door(mailbox, door, view.ticket, now),
            None => self.on_ticket(mailbox, view.ticket, now),
        }
    }
}

impl Drop {
    fn on_ticket(
        &self,
        mailbox: MailboxRecord,
        ticket: Option<TicketRecord>,
        now: u64,
    ) -> Result<Decision<()>, Denial> {
        let ticket = ticket.ok_or(Refusal::NotFound)?;
        if now >= ticket.until {
            return Err(Refusal::NotFound.into());
        }
        let envelope = hash("envelope", &self.envelope);
        match ticket.used_for {
            Some(used_for) if used_for == envelope => return Ok(Decision::unchanged(())),
            Some(_) => return Err(Refusal::Taken.into()),
            None => {}
        }
        if mailbox.envelopes >= limits::ENVELOPES_PER_MAILBOX {
            return Err(Refusal::MailboxFull.into());
        }
        let used = TicketRecord {
            used_for: Some(envelope),
            ..ticket.clone()
        };
        let mut change = self.let_in(&mailbox);
        change.require(&self.ticket, Some(&ticket));
        change.put_until(&self.ticket, &used, Some(ticket.until));
        Ok(Decision {
            change: Some(change),
            outcome: (),
        })
    }

    /// At a door any number of envelopes comes in, up to so many at a time and in a minute.
    fn at_door(
        &self,
        mailbox: MailboxRecord,
        door: DoorRecord,
        before: Option<TicketRecord>,
        now: u64,
    ) -> Result<Decision<()>, Denial> {
        let is_its: bool = door.ticket.ct_eq(&self.standing).into();
        if door.closed || !is_its {
            return Err(Refusal::NotFound.into());
        }
        if before.as_ref().is_some_and(|before| now < before.until) {
            return Ok(Decision::unchanged(()));
        }
        if mailbox.envelopes >= limits::ENVELOPES_PER_DOOR {
            return Err(Refusal::MailboxFull.into());
        }
        let minute = now / MINUTE;
        let drops = if door.minute == minute { door.drops } else { 0 };
        if drops >= limits::DOOR_DROPS_PER_MINUTE {
            return Err(Refusal::Rate(MINUTE - now % MINUTE).into());
        }
        let busier = DoorRecord {
            minute,
            drops: drops + 1,
            ..door.clone()
        };
        let until = now.saturating_add(ticket::DAY);
        let memory = TicketRecord {
            version: RECORD_VERSION,
            until,
            used_for: None,
        };
        let mut change = self.let_in(&mailbox);
        change.require(&[], Some(&door));
        change.require(&self.repeat, before.as_ref());
        change.put(&[], &busier);
        change.put_until(&self.repeat, &memory, Some(until));
        Ok(Decision {
            change: Some(change),
            outcome: (),
        })
    }

    /// The envelope, behind all that are there.
    fn let_in(&self, mailbox: &MailboxRecord) -> Change {
        let fuller = MailboxRecord {
            last_number: mailbox.last_number + 1,
            envelopes: mailbox.envelopes + 1,
            ..mailbox.clone()
        };
        let stored = EnvelopeRecord {
            version: RECORD_VERSION,
            envelope: self.envelope.clone(),
        };
        let mut change = Change::of(self.mailbox);
        change.require(&[], Some(mailbox));
        change.put(&fuller.last_number.to_be_bytes(), &stored);
        change.put(&[], &fuller);
        change
    }
}

/// The envelopes of a mailbox after a number, as many as an answer holds.
pub(crate) fn collect(
    records: &dyn View,
    mailbox: MailboxId,
    after: u64,
) -> Result<CollectResponse, StoreError> {
    let mut response = CollectResponse::default();
    let Some(from) = after.checked_add(1) else {
        return Ok(response);
    };
    let mut room = limits::COLLECT_BATCH;
    let (from, through) = (from.to_be_bytes(), u64::MAX.to_be_bytes());
    scan(
        records,
        mailbox,
        &from,
        &through,
        |key, record: EnvelopeRecord| {
            let size = record.envelope.len() + ENVELOPE_OVERHEAD;
            if size > room {
                response.more = true;
                return ControlFlow::Break(());
            }
            room -= size;
            if let Some(number) = key.last_chunk() {
                response.envelopes.push(Envelope {
                    number: u64::from_be_bytes(*number),
                    envelope: record.envelope.into_vec(),
                });
            }
            ControlFlow::Continue(())
        },
    )?;
    Ok(response)
}

/// The owner has the envelopes up to a number.
pub(crate) struct Acknowledge {
    pub(crate) mailbox: MailboxId,
    pub(crate) through: u64,
}

impl Request for Acknowledge {
    /// The mailbox, and the keys of the envelopes to delete.
    type View = (Option<MailboxRecord>, Vec<Vec<u8>>);
    type Outcome = ();

    fn load(&self, records: &dyn View) -> Result<Self::View, StoreError> {
        let mut keys = Vec::new();
        let (from, through) = (0u64.to_be_bytes(), self.through.to_be_bytes());
        scan(
            records,
            self.mailbox,
            &from,
            &through,
            |key, _: EnvelopeRecord| {
                keys.push(key.to_vec());
                ControlFlow::Continue(())
            },
        )?;
        Ok((get(records, self.mailbox, &[])?, keys))
    }

    fn decide(&self, (mailbox, keys): Self::View, _now: u64) -> Result<Decision<()>, Denial> {
        let mailbox = mailbox.ok_or(Refusal::NotFound)?;
        if keys.is_empty() {
            return Ok(Decision::unchanged(()));
        }
        let deleted = u32::try_from(keys.len()).unwrap_or(u32::MAX);
        let emptier = MailboxRecord {
            envelopes: mailbox.envelopes.saturating_sub(deleted),
            ..mailbox.clone()
        };
        let mut change = Change::of(self.mailbox);
        change.require(&[], Some(&mailbox));
        for key in keys {
            change.delete::<EnvelopeRecord>(&key);
        }
        change.put(&[], &emptier);
        Ok(Decision {
            change: Some(change),
            outcome: (),
        })
    }
}
