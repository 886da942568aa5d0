//! Dropping, collecting and acknowledging envelopes.

use std::ops::ControlFlow;

use folkmoot_mls::codec::Bytes;
use folkmoot_protocol::Refusal;
use folkmoot_protocol::delivery::{CollectResponse, DropAllRequest, DropRequest, Envelope};
use folkmoot_protocol::ids::MailboxId;
use folkmoot_protocol::keys::hash;
use folkmoot_protocol::limits;

use super::{EnvelopeRecord, MailboxRecord, TicketRecord, ticket};
use crate::decision::{Decision, Denial, Request};
use crate::fields::{self, bound};
use crate::store::{Change, RECORD_VERSION, StoreError, View, get, scan};

/// What an envelope takes on the wire beside its content, at most.
const ENVELOPE_OVERHEAD: usize = 32;

/// An envelope for a mailbox, and the ticket that lets it in.
pub(crate) struct Drop {
    mailbox: MailboxId,
    /// The ticket's hash.
    ticket: [u8; 32],
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
        Ok(Self {
            mailbox,
            ticket: ticket::stored(&ticket),
            envelope: request.envelope.into(),
        })
    }
}

impl Request for Drop {
    type View = (Option<MailboxRecord>, Option<TicketRecord>);
    type Outcome = ();

    fn load(&self, records: &dyn View) -> Result<Self::View, StoreError> {
        Ok((
            get(records, self.mailbox, &[])?,
            get(records, self.mailbox, &self.ticket)?,
        ))
    }

    /// The same envelope again on the same ticket succeeds; another one is `Taken`. An unknown or
    /// expired ticket and an unknown mailbox are `NotFound`.
    fn decide(&self, (mailbox, ticket): Self::View, now: u64) -> Result<Decision<()>, Denial> {
        let (Some(mailbox), Some(ticket)) = (mailbox, ticket) else {
            return Err(Refusal::NotFound.into());
        };
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
        let fuller = MailboxRecord {
            last_number: mailbox.last_number + 1,
            envelopes: mailbox.envelopes + 1,
            ..mailbox.clone()
        };
        let used = TicketRecord {
            used_for: Some(envelope),
            ..ticket.clone()
        };
        let stored = EnvelopeRecord {
            version: RECORD_VERSION,
            envelope: self.envelope.clone(),
        };
        let mut change = Change::of(self.mailbox);
        change.require(&[], Some(&mailbox));
        change.require(&self.ticket, Some(&ticket));
        change.put(&fuller.last_number.to_be_bytes(), &stored);
        change.put(&[], &fuller);
        change.put_until(&self.ticket, &used, Some(ticket.until));
        Ok(Decision {
            change: Some(change),
            outcome: (),
        })
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
    let mut room = limits::READ_BATCH;
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
