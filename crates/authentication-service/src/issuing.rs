//! Issuing anonymous tokens (RFC 9578, section 6): the issuer keys, and what an account may draw.
//!
//! The AS signs what it cannot read. It knows which account draws how much and when; which token
//! came of it, it does not, and neither what the token is for.

use std::sync::{Arc, Mutex, PoisonError};

use folkmoot_credential::Version;
use folkmoot_mls::codec::{Decode, Encode};
use folkmoot_mls::crypto::Secret;
use folkmoot_mls::tls_struct;
use folkmoot_protocol::Refusal;
use folkmoot_protocol::token::draw::{AT_ONCE, IssuerEntry, MAX_KEYS, PERIOD};
use folkmoot_protocol::token::{IssuerSecret, TokenError};
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::store::{Place, Store, StoreError, Stored};

const DAY: u64 = 24 * 3600;

/// How far the clocks of those who draw may differ, in seconds: for so long a key issues before and
/// after its time.
const GRACE: u64 = DAY;

/// How often the same draw is answered: often enough for any lost answer, and no way to keep the
/// service busy.
const REPEATS: u8 = 8;

/// When issuer keys come and go, in seconds. Every token of a key could be any account's that drew in
/// the key's time, so keys live long; and spent tokens are remembered for as long as their keys live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeySchedule {
    /// How long a key issues.
    pub issues: u64,
    /// How long its tokens are good afterwards.
    pub good: u64,
    /// How long before the end of a key the next one is made and listed, so that every DS knows it.
    pub ahead: u64,
    /// How long a key stays in the list when its tokens are no longer good.
    pub listed: u64,
}

/// Four weeks each, the next key a week ahead.
impl Default for KeySchedule {
    fn default() -> Self {
        Self {
            issues: 28 * DAY,
            good: 28 * DAY,
            ahead: 7 * DAY,
            listed: 7 * DAY,
        }
    }
}

tls_struct! {
    /// The issuer keys, as stored.
    #[derive(Clone, PartialEq)]
    struct StoredKeys {
        version: Version,
        keys: Vec<StoredKey>,
    }
}

tls_struct! {
    #[derive(Clone, PartialEq)]
    struct StoredKey {
        entry: IssuerEntry,
        /// PKCS #8; nothing once it issues no more.
        secret: Secret,
    }
}

impl StoredKeys {
    /// The keys as they should be at `now`, seconds since 1970. `make` makes one if one is missing.
    fn rotated(
        &self,
        schedule: &KeySchedule,
        now: u64,
        make: impl FnOnce() -> Result<IssuerSecret, TokenError>,
    ) -> Result<Self, TokenError> {
        let mut keys = self.keys.clone();
        keys.retain(|key| key.entry.not_after.saturating_add(schedule.listed) > now);
        for key in &mut keys {
            if key.entry.issues_until.saturating_add(GRACE) <= now {
                key.secret = Secret::from(&[][..]);
            }
        }
        let ends = keys.iter().map(|key| key.entry.issues_until).max();
        if ends.is_none_or(|ends| ends <= now.saturating_add(schedule.ahead)) {
            let secret = make()?;
            let not_before = ends.filter(|ends| *ends > now).unwrap_or(now);
            let issues_until = not_before.saturating_add(schedule.issues);
            let entry = IssuerEntry {
                token_key: secret.public()?.spki().into(),
                not_before,
                issues_until,
                not_after: issues_until.saturating_add(schedule.good),
            };
            let secret = Secret::from(secret.to_pkcs8()?.as_slice());
            keys.push(StoredKey { entry, secret });
        }
        // A clock that jumps makes no list longer than others read.
        let surplus = keys.len().saturating_sub(MAX_KEYS);
        keys.drain(..surplus);
        Ok(Self {
            version: Version,
            keys,
        })
    }

    /// When that changes next.
    fn due(&self, schedule: &KeySchedule) -> u64 {
        let ends = self.keys.iter().map(|key| key.entry.issues_until).max();
        let next = ends.map(|ends| ends.saturating_sub(schedule.ahead));
        let unlisted = self.keys.iter().map(|key| &key.entry.not_after);
        let unlisted = unlisted.map(|end| end.saturating_add(schedule.listed));
        let over = self.keys.iter().filter(|key| !key.secret.is_empty());
        let over = over.map(|key| key.entry.issues_until.saturating_add(GRACE));
        next.into_iter()
            .chain(unlisted)
            .chain(over)
            .min()
            .unwrap_or(0)
    }
}

/// Makes a fresh issuer key.
pub type MakeKey = dyn Fn(&mut dyn CryptoRng) -> Result<IssuerSecret, TokenError> + Send + Sync;

/// Issuing, with the keys ready for use.
pub(crate) struct Issuing {
    schedule: KeySchedule,
    make: Box<MakeKey>,
    held: Mutex<Option<Arc<Keys>>>,
}

/// The keys as they stood when they were last looked at.
pub(crate) struct Keys {
    entries: Vec<IssuerEntry>,
    issuing: Vec<IssuingKey>,
    /// When they are to be looked at again, seconds since 1970.
    due: u64,
}

struct IssuingKey {
    id: [u8; 32],
    /// Seconds since 1970.
    not_before: u64,
    issues_until: u64,
    secret: IssuerSecret,
}

impl Keys {
    fn of(stored: &StoredKeys, schedule: &KeySchedule) -> Result<Self, TokenError> {
        let with_secret = stored.keys.iter().filter(|key| !key.secret.is_empty());
        let issuing = |StoredKey { entry, secret }: &StoredKey| {
            Ok(IssuingKey {
                id: *entry.key()?.id(),
                not_before: entry.not_before,
                issues_until: entry.issues_until,
                secret: IssuerSecret::from_pkcs8(secret.as_slice())?,
            })
        };
        Ok(Self {
            entries: stored.keys.iter().map(|key| key.entry.clone()).collect(),
            issuing: with_secret.map(issuing).collect::<Result<_, _>>()?,
            due: stored.due(schedule),
        })
    }

    /// What is published.
    pub(crate) fn entries(&self) -> Vec<IssuerEntry> {
        self.entries.clone()
    }

    /// The key with this id, if it issues at `now`.
    pub(crate) fn issuing(&self, id: &[u8; 32], now: u64) -> Option<&IssuerSecret> {
        let key = self.issuing.iter().find(|key| key.id == *id)?;
        let begins = key.not_before.saturating_sub(GRACE);
        let issues = begins <= now && now < key.issues_until.saturating_add(GRACE);
        issues.then_some(&key.secret)
    }
}

impl Issuing {
    pub(crate) fn new(schedule: KeySchedule, make: Box<MakeKey>) -> Self {
        Self {
            schedule,
            make,
            held: Mutex::default(),
        }
    }

    /// The keys at `now`, seconds since 1970; made, and taken out of use, as it is time.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::Damaged`] for keys that cannot be used.
    pub(crate) fn keys(
        &self,
        store: &impl Store,
        now: u64,
        rng: &mut dyn CryptoRng,
    ) -> Result<Arc<Keys>, StoreError> {
        let damaged = |_| StoreError::Damaged;
        // One at a time: making a key takes long, and nobody needs two.
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(keys) = held.as_ref().filter(|keys| now < keys.due) {
            return Ok(keys.clone());
        }
        loop {
            let (revision, stored) = match store.load(Place::Issuers)? {
                None => (None, None),
                Some(Stored { revision, value }) => {
                    let value = Zeroizing::new(value);
                    let stored = StoredKeys::from_bytes(&value).map_err(|_| StoreError::Damaged)?;
                    (Some(revision), Some(stored))
                }
            };
            let known = stored.clone().unwrap_or(StoredKeys {
                version: Version,
                keys: Vec::new(),
            });
            let rotated = known
                .rotated(&self.schedule, now, || (self.make)(rng))
                .map_err(damaged)?;
            let kept = stored.as_ref() == Some(&rotated)
                || store.save(Place::Issuers, revision, rotated.to_bytes())?;
            // Else another process was faster, and its keys are the ones.
            if kept {
                let keys = Arc::new(Keys::of(&rotated, &self.schedule).map_err(damaged)?);
                *held = Some(keys.clone());
                return Ok(keys);
            }
        }
    }
}

tls_struct! {
    /// What an account has drawn, as stored.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub(crate) struct Allowance {
        version: Version,
        /// Seconds since 1970 at which everything may be drawn again.
        full: u64,
        /// Of the last draw.
        number: u64,
        /// Its hash.
        draw: [u8; 32],
        /// How often it was repeated.
        repeats: u8,
    }
}

impl Allowance {
    /// The allowance after a draw with this number and hash, at `now` (seconds since 1970). The last
    /// draw again costs nothing.
    ///
    /// # Errors
    /// `Taken` for a number that is not larger than the last; `Rate` for a draw too many.
    pub(crate) fn after(
        known: Option<&Self>,
        number: u64,
        draw: [u8; 32],
        now: u64,
    ) -> Result<Self, Refusal> {
        let milliseconds = |seconds: u64| seconds.saturating_mul(1000);
        let mut full = now;
        if let Some(known) = known {
            if known.draw == draw {
                if known.repeats >= REPEATS {
                    return Err(Refusal::Rate(milliseconds(PERIOD)));
                }
                let mut again = known.clone();
                again.repeats += 1;
                return Ok(again);
            }
            if known.number >= number {
                return Err(Refusal::Taken);
            }
            full = now.max(known.full);
        }
        let full = full.saturating_add(PERIOD);
        let most = now.saturating_add(AT_ONCE * PERIOD);
        if full > most {
            return Err(Refusal::Rate(milliseconds(full - most)));
        }
        Ok(Self {
            version: Version,
            full,
            number,
            draw,
            repeats: 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    #[test]
    fn an_account_draws_so_much_and_no_more() {
        let draw = |known: Option<&Allowance>, number: u64, now| {
            Allowance::after(known, number, [number as u8; 32], now)
        };
        let mut known = draw(None, 1, NOW).unwrap();
        for number in 2..=AT_ONCE {
            known = draw(Some(&known), number, NOW).unwrap();
        }
        let refused = draw(Some(&known), 9, NOW);
        assert_eq!(refused, Err(Refusal::Rate(PERIOD * 1000)));
        let refused = draw(Some(&known), 9, NOW + PERIOD - 1);
        assert_eq!(refused, Err(Refusal::Rate(1000)));
        // After a period it is one more, and after a long time no more than at first.
        let next = draw(Some(&known), 9, NOW + PERIOD).unwrap();
        assert!(draw(Some(&next), 10, NOW + PERIOD).is_err());
        let mut known = draw(Some(&next), 10, NOW + 1000 * PERIOD).unwrap();
        for number in 11..10 + AT_ONCE {
            known = draw(Some(&known), number, NOW + 1000 * PERIOD).unwrap();
        }
        assert!(draw(Some(&known), 20, NOW + 1000 * PERIOD).is_err());
    }

    #[test]
    fn the_last_draw_is_repeated_and_no_older_one() {
        let first = Allowance::after(None, 5, [1; 32], NOW).unwrap();
        let mut known = first.clone();
        for _ in 0..REPEATS {
            known = Allowance::after(Some(&known), 5, [1; 32], NOW).unwrap();
            assert_eq!((known.full, known.number), (first.full, 5));
        }
        let often = Allowance::after(Some(&known), 5, [1; 32], NOW);
        assert_eq!(often, Err(Refusal::Rate(PERIOD * 1000)));
        let second = Allowance::after(Some(&first), 6, [2; 32], NOW).unwrap();
        let old = Allowance::after(Some(&second), 5, [1; 32], NOW);
        assert_eq!(old, Err(Refusal::Taken));
        let same_number = Allowance::after(Some(&second), 6, [3; 32], NOW);
        assert_eq!(same_number, Err(Refusal::Taken));
    }
}
