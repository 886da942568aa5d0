//! Doors: mailboxes with a standing ticket, made once and closed for good.

use std::ops::ControlFlow;

use folkmoot_protocol::delivery::CreateDoorRequest;
use folkmoot_protocol::ids::MailboxId;
use folkmoot_protocol::keys::PublicKey;
use folkmoot_protocol::mailbox::OwnerContent;
use folkmoot_protocol::proof::{MailboxProof, Method};
use folkmoot_protocol::{Refusal, VERSION};

use super::{DoorRecord, EnvelopeRecord, MailboxRecord};
use crate::decision::{Decision, Denial, Request};
use crate::fields::{self, malformed};
use crate::nonce::NonceKey;
use crate::store::{Change, RECORD_VERSION, StoreError, View, get, scan};

/// A request for a door, proven by the owner's key.
pub(crate) struct CreateDoor {
    owner_key: PublicKey,
    mailbox: MailboxId,
    /// Hash of the standing ticket.
    ticket: [u8; 32],
}

impl CreateDoor {
    /// # Errors
    /// `Malformed`; `StaleNonce`; `BadProof`.
    pub(crate) fn check(
        request: &CreateDoorRequest,
        delivery_service: PublicKey,
        nonces: &NonceKey,
        now: u64,
    ) -> Result<Self, Refusal> {
        let owner_key = fields::owner_key(&request.owner_key)?;
        let mailbox = MailboxId::of(&owner_key);
        let ticket = request.ticket.as_slice().try_into();
        let ticket = ticket.map_err(|_| malformed("ticket"))?;
        if !nonces.is_fresh(&request.nonce, now) {
            return Err(Refusal::StaleNonce);
        }
        let proof = MailboxProof {
            version: VERSION,
            delivery_service,
            mailbox,
            method: Method::CreateDoor,
            nonce: request.nonce.as_slice().into(),
            content: request.owner_content(),
        };
        proof
            .verify(&owner_key, &request.proof)
            .map_err(|_| Refusal::BadProof)?;
        Ok(Self {
            owner_key,
            mailbox,
            ticket,
        })
    }
}

impl Request for CreateDoor {
    type View = (Option<MailboxRecord>, Option<DoorRecord>);
    type Outcome = MailboxId;

    fn load(&self, records: &dyn View) -> Result<Self::View, StoreError> {
        Ok((
            get(records, self.mailbox, &[])?,
            get(records, self.mailbox, &[])?,
        ))
    }

    /// A mailbox that is no door, a closed door and one with another ticket are `Taken`.
    fn decide(&self, view: Self::View, _now: u64) -> Result<Decision<MailboxId>, Denial> {
        match view {
            (Some(_), Some(door)) if !door.closed && door.ticket == self.ticket => {
                return Ok(Decision::unchanged(self.mailbox));
            }
            (None, None) => {}
            _ => return Err(Refusal::Taken.into()),
        }
        let mailbox = MailboxRecord {
            version: RECORD_VERSION,
            owner_key: self.owner_key,
            last_number: 0,
            envelopes: 0,
        };
        let door = DoorRecord {
            version: RECORD_VERSION,
            ticket: self.ticket,
            closed: false,
            minute: 0,
            drops: 0,
        };
        let mut change = Change::of(self.mailbox);
        change.require::<MailboxRecord>(&[], None);
        change.require::<DoorRecord>(&[], None);
        change.put(&[], &mailbox);
        change.put(&[], &door);
        Ok(Decision {
            change: Some(change),
            outcome: self.mailbox,
        })
    }
}

/// The owner closes its door.
pub(crate) struct CloseDoor {
    pub(crate) mailbox: MailboxId,
}

impl Request for CloseDoor {
    /// The mailbox, the door, and the keys of what is in it.
    type View = (Option<MailboxRecord>, Option<DoorRecord>, Vec<Vec<u8>>);
    type Outcome = ();

    fn load(&self, records: &dyn View) -> Result<Self::View, StoreError> {
        let mut keys = Vec::new();
        let (from, through) = (0u64.to_be_bytes(), u64::MAX.to_be_bytes());
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
        Ok((
            get(records, self.mailbox, &[])?,
            get(records, self.mailbox, &[])?,
            keys,
        ))
    }

    /// Closing again changes nothing. What is no door is `NotFound`.
    fn decide(&self, (mailbox, door, keys): Self::View, _now: u64) -> Result<Decision<()>, Denial> {
        let (Some(mailbox), Some(door)) = (mailbox, door) else {
            return Err(Refusal::NotFound.into());
        };
        if door.closed {
            return Ok(Decision::unchanged(()));
        }
        let empty = MailboxRecord {
            envelopes: 0,
            ..mailbox.clone()
        };
        let closed = DoorRecord {
            closed: true,
            ..door.clone()
        };
        let mut change = Change::of(self.mailbox);
        change.require(&[], Some(&mailbox));
        change.require(&[], Some(&door));
        for key in keys {
            change.delete::<EnvelopeRecord>(&key);
        }
        change.put(&[], &empty);
        change.put(&[], &closed);
        Ok(Decision {
            change: Some(change),
            outcome: (),
        })
    }
}
