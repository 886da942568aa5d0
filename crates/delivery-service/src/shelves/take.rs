//! Somebody who wants to invite takes a package of each mailbox: each is handed out exactly once,
//! then the last-resort one, an expired one never.
//!
//! A take over many mailboxes is as many independent changes. The same request id gets the same
//! answer for a day, or a little longer, also where there was nothing.

use std::collections::HashSet;
use std::ops::ControlFlow;

use folkmoot_mls::codec::Bytes;
use folkmoot_protocol::Refusal;
use folkmoot_protocol::delivery::{self, TakeRequest, Taken};
use folkmoot_protocol::ids::{MailboxId, PackageId};
use folkmoot_protocol::keys::hash;
use folkmoot_protocol::limits;

use super::{Lane, PackageRecord, Place, ShelfRecord};
use crate::decision::{Decision, Denial, Request};
use crate::fields::{self, bound, ensure};
use crate::mailboxes::TicketRecord;
use crate::mailboxes::ticket::{self, DAY, TicketKey};
use crate::store::{Change, RECORD_VERSION, StoreError, View, get, record, scan};

/// Times of takes are stored in steps of this, milliseconds, rounded up. An exact one would tell,
/// beside the exact time of a commit in some log, whose device was added there.
const STEP: u64 = 60 * 60 * 1000;

/// Packages with less than this left, seconds, are handed out after the others: who adds a member
/// wants a day at least.
const COMFORTABLE: u64 = 24 * 60 * 60;

record! {
    /// What a take got from a mailbox, for as long as a repeat gets the same.
    TakeRecord in Takes {
        /// Milliseconds since 1970, in steps of [`STEP`].
        time: u64,
        got: Option<Got>,
    }
}

folkmoot_mls::tls_struct! {
    /// A package that was handed out.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub(crate) struct Got {
        place: Place,
        sealed: Bytes,
    }
}

/// A take from one mailbox.
pub(crate) struct Take {
    mailbox: MailboxId,
    lane: Lane,
    /// Hash of request id and lane.
    take: [u8; 32],
    tickets: TicketKey,
    now: u64,
}

impl Take {
    /// One take for each mailbox of a request, in its order.
    ///
    /// # Errors
    /// `TooLarge` for too many mailboxes; `Malformed`, also for a mailbox named twice.
    pub(crate) fn read(
        request: &TakeRequest,
        tickets: &TicketKey,
        now: u64,
    ) -> Result<Vec<Self>, Refusal> {
        bound(request.mailboxes.len(), limits::MAILBOXES_PER_TAKE)?;
        ensure(
            limits::REQUEST_ID.contains(&request.request_id.len()),
            "request_id",
        )?;
        let lane = Lane::read(request.lane)?;
        let take = hash("take", &(Bytes::from(request.request_id.as_slice()), lane));
        let mut seen = HashSet::new();
        let one = |mailbox: &Vec<u8>| {
            let mailbox = fields::mailbox(mailbox)?;
            ensure(seen.insert(mailbox), "mailboxes")?;
            Ok(Self {
                mailbox,
                lane,
                take,
                tickets: tickets.clone(),
                now,
            })
        };
        request.mailboxes.iter().map(one).collect()
    }

    fn taken(&self, time: u64, got: Option<Got>) -> Taken {
        let mailbox = self.mailbox.into();
        match got {
            None => Taken {
                mailbox,
                ..Taken::default()
            },
            Some(Got { place, sealed }) => Taken {
                mailbox,
                package: Some(delivery::Package {
                    lane: Some(place.lane.into()),
                    expires: place.expires,
                    last_resort: place.last_resort,
                    sealed: sealed.into_vec(),
                }),
                ticket: self.ticket(time).to_vec(),
            },
        }
    }

    fn ticket(&self, time: u64) -> [u8; 32] {
        self.tickets.ticket(self.mailbox, self.take, time)
    }

    fn place(&self, last_resort: bool, expires: u64, package: PackageId) -> Place {
        Place {
            lane: self.lane,
            last_resort,
            expires,
            package,
        }
    }
}

/// What an earlier take with this id got, and what is to be handed out next.
pub(crate) struct TakeView {
    earlier: Option<TakeRecord>,
    next: Option<PackageRecord>,
}

impl Request for Take {
    type View = TakeView;
    type Outcome = Taken;

    fn load(&self, records: &dyn View) -> Result<TakeView, StoreError> {
        let good = self.now / 1000 + 1;
        // What has a day left, what has less, the last resort. One scan, since each reads all of the
        // shelf.
        let mut first: [Option<Place>; 3] = [None; 3];
        let from = self.place(false, good, PackageId([0; 32])).key();
        let through = self.place(true, u64::MAX, PackageId([0xff; 32])).key();
        scan(
            records,
            self.mailbox,
            &from,
            &through,
            |key, _: ShelfRecord| {
                let place = Place::read(key).filter(|place| place.expires >= good);
                let Some(place) = place else {
                    return ControlFlow::Continue(());
                };
                let rank = match place.last_resort {
                    false if place.expires >= good + COMFORTABLE => 0,
                    false => 1,
                    true => 2,
                };
                first[rank].get_or_insert(place);
                if rank == 0 {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            },
        )?;
        let next = first.into_iter().flatten().next();
        let next = match next {
            Some(place) => get(records, self.mailbox, &place.package.0)?,
            None => None,
        };
        Ok(TakeView {
            earlier: get(records, self.mailbox, &self.take)?,
            next,
        })
    }

    fn decide(&self, view: TakeView, now: u64) -> Result<Decision<Taken>, Denial> {
        let version = RECORD_VERSION;
        let mut change = Change::of(self.mailbox);
        change.require(&self.take, view.earlier.as_ref());
        if let Some(earlier) = view.earlier
            && now < earlier.time.saturating_add(DAY)
        {
            return Ok(Decision::unchanged(self.taken(earlier.time, earlier.got)));
        }
        let time = now.checked_next_multiple_of(STEP).unwrap_or(now);
        let got = view.next.map(|package| {
            let PackageRecord { place, sealed, .. } = &package;
            let got = Got {
                place: *place,
                sealed: sealed.clone(),
            };
            change.require(&place.package.0, Some(&package));
            if !place.last_resort {
                change.delete::<ShelfRecord>(&place.key());
                let gone = PackageRecord {
                    version,
                    place: *place,
                    taken: true,
                    sealed: Bytes::default(),
                };
                change.put_until(&place.package.0, &gone, place.swept());
            }
            let ticket = TicketRecord {
                version,
                until: time.saturating_add(ticket::LIFETIME),
                used_for: None,
            };
            let key = ticket::stored(&self.ticket(time));
            change.put_until(&key, &ticket, Some(ticket.until));
            got
        });
        let taken = self.taken(time, got.clone());
        let record = TakeRecord { version, time, got };
        change.put_until(&self.take, &record, Some(time.saturating_add(DAY)));
        Ok(Decision {
            change: Some(change),
            outcome: taken,
        })
    }
}
