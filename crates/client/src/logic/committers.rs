//! Who may commit. A group of more than 64 leaves names committers, each with a random key that signs its
//! commits at the Delivery Service, so that the author of a commit that nobody can read is known too.
//!
//! Whoever makes a group large names itself. While there are fewer than eight, others offer themselves, in
//! an order that each computes; the next committer takes the offers in. An offer is signed by the device that
//! makes it, so that nobody is named without wanting it.

use folkmoot_credential::{Committer, Committers};
use folkmoot_mls::codec::Decode;
use folkmoot_mls::group::Group;
use folkmoot_mls::tree_math::LeafIndex;
use folkmoot_protocol::VERSION;
use folkmoot_protocol::ids::EntryId;
use folkmoot_protocol::keys::SigningKey;
use folkmoot_protocol::plaintext::Plaintext;
use folkmoot_protocol::proof::CommitterProof;

use super::groups::member;
use super::proposals::{LAST_TURN_MS, TURN_MS, rank_among};
use super::rows::{self, ConversationRow, Seed, SendWish};
use super::{Output, Pause, Step};
use crate::error::Error;
use crate::store::Table;

/// Members offer themselves while there are fewer.
const WANTED: usize = 8;

/// The media type of an offer. Nobody is shown it.
const OFFER: &str = "application/vnd.folkmoot.committer";

fn named(group: &Group) -> Committers {
    group.extensions().get().ok().flatten().unwrap_or_default()
}

/// Adds somebody, unless the device or the key is there, or there are enough.
pub(super) fn take_in(committers: &mut Committers, offer: &Committer) {
    let list = &mut committers.committers;
    let known = |one: &Committer| one.key == offer.key || one.leaf == offer.leaf;
    if list.len() < WANTED && !list.iter().any(known) {
        list.push(offer.clone());
    }
}

/// The offers that can still be taken in.
pub(super) fn still_offered(group: &Group, offers: &mut Vec<Committer>) {
    let list = named(group);
    offers.retain(|offer| {
        let mut next = list.clone();
        take_in(&mut next, offer);
        next != list && is_its(group, offer)
    });
}

/// Whether the leaf is the device's.
fn is_its(group: &Group, offer: &Committer) -> bool {
    member(group, LeafIndex(offer.leaf)).is_some_and(|(_, device)| device == offer.device)
}

/// Takes an offer down, if it is one: then nobody is shown the message.
pub(super) fn hear_offer(
    row: &mut ConversationRow,
    group: &Group,
    plaintext: &Plaintext,
    time: u64,
) -> bool {
    if plaintext.media_type != OFFER {
        return false;
    }
    let Ok(offer) = Committer::from_bytes(&plaintext.content) else {
        return true;
    };
    let fits = named(group).committers.len() + row.offers.len() < WANTED;
    let known = row.offers.iter().any(|known| known.leaf == offer.leaf);
    if fits && !known && offer.verify(group.group_id()).is_ok() {
        row.offers.push(offer);
        still_offered(group, &mut row.offers);
        if row.cause == 0 && !row.offers.is_empty() {
            row.cause = time;
        }
    }
    true
}

/// Whether a message is no message to people.
pub(super) fn is_offer(wish: &SendWish) -> bool {
    wish.media_type.0 == OFFER
}

impl Step<'_> {
    fn committer_key(&self, row: &ConversationRow) -> Result<Option<SigningKey>, Error> {
        let key: Option<Seed> = rows::get(self.tx, Table::CommitterKeys, row.log.as_ref())?;
        Ok(key.map(|Seed(key)| key))
    }

    /// Whether we may commit in this epoch.
    pub(super) fn may_commit(&self, row: &ConversationRow, group: &Group) -> Result<bool, Error> {
        let committers = named(group).committers;
        if committers.is_empty() {
            return Ok(true);
        }
        let Some(key) = self.committer_key(row)? else {
            return Ok(false);
        };
        let (own, key) = (group.own_index().0, key.public());
        Ok(committers
            .iter()
            .any(|committer| (committer.leaf, committer.key) == (own, key)))
    }

    /// Signs a commit as a committer, if we have a key for that.
    pub(super) fn committer_signature(
        &self,
        row: &ConversationRow,
        commit: EntryId,
    ) -> Result<Vec<u8>, Error> {
        let key = self.committer_key(row)?;
        let proof = CommitterProof {
            version: VERSION,
            delivery_service: row.delivery.key,
            log: row.log,
            commit,
        };
        Ok(key.map(|key| proof.sign(&key)).unwrap_or_default())
    }

    /// Ourselves as a committer, with a key that is made when it is first asked for.
    pub(super) fn own_committer(
        &mut self,
        row: &ConversationRow,
        group: &Group,
    ) -> Result<Committer, Error> {
        let key = match self.committer_key(row)? {
            Some(key) => key,
            None => {
                let key = SigningKey::generate(self.rng);
                let seed = Seed(key.clone());
                rows::put(self.tx, Table::CommitterKeys, row.log.as_ref(), &seed)?;
                key
            }
        };
        let device = self.account()?.device.0;
        let leaf = group.own_index().0;
        Ok(Committer::offer(
            leaf,
            &device,
            group.group_id(),
            key.public(),
        ))
    }

    /// Makes a message in which we offer to be a committer, if there are too few and it is our turn;
    /// else says when that is. Returns whether there is such a message now.
    pub(super) fn want_offer(&mut self, row: &ConversationRow) -> Result<bool, Error> {
        let log = row.log;
        let held = self.hold(row)?;
        let list = named(&held.group).committers;
        let own = held.group.own_index().0;
        let of_own = |one: &Committer| one.leaf == own;
        let known = list.iter().chain(&row.offers).any(of_own);
        let wanted = !list.is_empty() && list.len() + row.offers.len() < WANTED && !known;
        let others = |leaf: LeafIndex| !list.iter().any(|one| one.leaf == leaf.0);
        let wait = match wanted {
            true => rank_among(&held.group, row, others).saturating_mul(TURN_MS),
            false => 0,
        };
        let offer = match wanted {
            true => Some(self.own_committer(row, &held.group)?),
            false => None,
        };
        self.session.held.insert(log, held);
        let Some(offer) = offer else {
            return Ok(false);
        };
        // From the commit on, so that talk puts it off for nobody.
        let wait = wait.min(LAST_TURN_MS);
        let until = row.epoch_time.saturating_add(wait);
        let until = until.min(self.now.saturating_add(wait));
        if self.now < until {
            self.session.turns.insert(log, until);
            let pause = Pause::Turn;
            self.outputs.push(Output::Wait { until, pause });
            return Ok(false);
        }
        self.session.turns.remove(&log);
        self.want_said(log, OFFER, &offer)?;
        Ok(true)
    }
}
