//! The owner adds packages to its shelf.
//!
//! A package belongs to one shelf of the service for as long as it lives. So it is claimed first,
//! in a change of its own under its own id, and put on the shelf afterwards; if the service stops
//! in between, the same request again goes through.

use std::collections::HashMap;
use std::ops::ControlFlow;

use folkmoot_protocol::Refusal;
use folkmoot_protocol::delivery::StockRequest;
use folkmoot_protocol::ids::{MailboxId, PackageId};
use folkmoot_protocol::limits;

use super::{ClaimRecord, Lane, PackageRecord, Place, ShelfRecord};
use crate::decision::{Decision, Denial, Request};
use crate::fields::{bound, ensure};
use crate::store::{Change, RECORD_VERSION, StoreError, View, get, scan};

/// Seconds from now within which a package must expire: a KeyPackage lives for 90 days at most,
/// and its owner's clock may differ.
const LIFETIME: u64 = 100 * 24 * 60 * 60;

/// A package with its declared place.
#[derive(Clone)]
pub(crate) struct Package {
    place: Place,
    sealed: Vec<u8>,
}

/// Reads the packages of a request, each once, and their ids in the request's order.
///
/// # Errors
/// `Malformed` for a missing lane, an expired package or one that expires too far off; `TooLarge`;
/// `Taken` if one package is declared in two ways.
pub(crate) fn read(
    request: StockRequest,
    now: u64,
) -> Result<(Vec<Package>, Vec<PackageId>), Refusal> {
    bound(request.packages.len(), limits::PACKAGES_PER_SHELF)?;
    let mut packages: Vec<Package> = Vec::new();
    let mut places = HashMap::new();
    let mut ids = Vec::with_capacity(request.packages.len());
    for package in request.packages {
        bound(package.sealed.len(), limits::PACKAGE)?;
        let id = PackageId::of(&package.sealed);
        let place = Place {
            lane: Lane::read(package.lane)?,
            last_resort: package.last_resort,
            expires: package.expires,
            package: id,
        };
        let soon = now / 1000 + LIFETIME;
        ensure(place.is_good(now) && place.expires <= soon, "expires")?;
        ids.push(id);
        match places.insert(id, place) {
            None => packages.push(Package {
                place,
                sealed: package.sealed,
            }),
            Some(before) if before == place => {}
            Some(_) => return Err(Refusal::Taken),
        }
    }
    Ok((packages, ids))
}

/// Claims a package for a shelf.
pub(crate) struct ClaimPackage {
    mailbox: MailboxId,
    place: Place,
}

impl ClaimPackage {
    pub(crate) fn of(mailbox: MailboxId, package: &Package) -> Self {
        Self {
            mailbox,
            place: package.place,
        }
    }
}

impl Request for ClaimPackage {
    type View = Option<ClaimRecord>;
    type Outcome = ();

    fn load(&self, records: &dyn View) -> Result<Self::View, StoreError> {
        get(records, self.place.package, &[])
    }

    /// `Taken` if it belongs to another shelf.
    fn decide(&self, view: Self::View, now: u64) -> Result<Decision<()>, Denial> {
        let until = self.place.expires;
        if let Some(claim) = &view
            && claim.until > now / 1000
        {
            if claim.mailbox != self.mailbox {
                return Err(Refusal::Taken.into());
            }
            if claim.until >= until {
                return Ok(Decision::unchanged(()));
            }
        }
        let mut change = Change::of(self.place.package);
        change.require(&[], view.as_ref());
        let claim = ClaimRecord {
            version: RECORD_VERSION,
            mailbox: self.mailbox,
            until,
        };
        change.put_until(&[], &claim, self.place.swept());
        Ok(Decision {
            change: Some(change),
            outcome: (),
        })
    }
}

/// Puts claimed packages on a shelf.
pub(crate) struct Stock {
    pub(crate) mailbox: MailboxId,
    pub(crate) packages: Vec<Package>,
}

/// What is on the shelf, and what there is of the packages to add.
pub(crate) struct StockView {
    shelf: Vec<Place>,
    packages: Vec<Option<PackageRecord>>,
}

impl Request for Stock {
    type View = StockView;
    type Outcome = ();

    fn load(&self, records: &dyn View) -> Result<StockView, StoreError> {
        let one = |package: &Package| get(records, self.mailbox, &package.place.package.0);
        Ok(StockView {
            shelf: shelf(records, self.mailbox)?,
            packages: self.packages.iter().map(one).collect::<Result<_, _>>()?,
        })
    }

    /// A package that is there already and was not taken is left as it is; one that was taken, or
    /// is there with another lane or expiry, is `Taken`. A shelf that is full is `MailboxFull`. A
    /// last-resort package replaces the one of its lane.
    fn decide(&self, view: StockView, now: u64) -> Result<Decision<()>, Denial> {
        let mut shelf: Vec<_> = view
            .shelf
            .iter()
            .filter(|place| place.is_good(now))
            .collect();
        let mut change = Change::of(self.mailbox);
        let mut added = Vec::new();
        for (package, stored) in self.packages.iter().zip(&view.packages) {
            let Package { place, .. } = package;
            match stored {
                None => {}
                Some(stored) if stored.place == *place && !stored.taken => continue,
                Some(_) => return Err(Refusal::Taken.into()),
            }
            if place.last_resort {
                let stays = |other: &Place| !other.last_resort || other.lane != place.lane;
                added.retain(|other: &&Package| stays(&other.place));
                for replaced in shelf.extract_if(.., |other| !stays(other)) {
                    change.delete::<ShelfRecord>(&replaced.key());
                    change.delete::<PackageRecord>(&replaced.package.0);
                }
            }
            added.push(package);
        }
        if shelf.len() + added.len() > limits::PACKAGES_PER_SHELF {
            return Err(Refusal::MailboxFull.into());
        }
        for Package { place, sealed } in added {
            let version = RECORD_VERSION;
            change.require::<PackageRecord>(&place.package.0, None);
            change.put_until(&place.key(), &ShelfRecord { version }, place.swept());
            let package = PackageRecord {
                version,
                place: *place,
                taken: false,
                sealed: sealed.as_slice().into(),
            };
            change.put_until(&place.package.0, &package, place.swept());
        }
        Ok(Decision {
            change: Some(change),
            outcome: (),
        })
    }
}

/// All places of a shelf, in the order of handing out.
pub(super) fn shelf(records: &dyn View, mailbox: MailboxId) -> Result<Vec<Place>, StoreError> {
    let mut places = Vec::new();
    scan(records, mailbox, &[], &[0xff; 64], |key, _: ShelfRecord| {
        places.extend(Place::read(key));
        ControlFlow::Continue(())
    })?;
    Ok(places)
}
