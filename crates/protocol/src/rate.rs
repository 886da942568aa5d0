//! Rates: by address, in the place of payment until tokens exist (RULES on payment), and by whatever else
//! callers share, a log above all. Kept in memory, so each node counts for itself.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
#[cfg(feature = "grpc")]
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use crate::Refusal;

/// Keys that are remembered. When there are more, those that are not in the table share one bucket
/// until others have filled up again.
const KEYS: usize = 1 << 16;

/// Milliseconds between two searches for buckets that have filled up again.
const SEARCH_EVERY: u64 = 1000;

/// How much one may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Requests at once.
    pub burst: u32,
    /// Requests per second in the long run; not 0.
    pub per_second: u32,
}

impl Rate {
    /// No bound.
    pub const UNLIMITED: Self = Self {
        burst: u32::MAX,
        per_second: u32::MAX,
    };
}

impl Default for Rate {
    fn default() -> Self {
        Self {
            burst: 1000,
            per_second: 20,
        }
    }
}

/// Token buckets by address.
#[derive(Debug)]
pub struct Limiter(Buckets<Address>);

/// Token buckets by key. Bounded in memory, whatever keys come.
#[derive(Debug)]
pub struct Buckets<K> {
    rate: Rate,
    table: Mutex<Table<K>>,
}

#[derive(Debug)]
struct Table<K> {
    /// `None` is everybody else.
    buckets: HashMap<Option<K>, Bucket>,
    /// When those that have filled up again were last looked for.
    searched: u64,
}

/// The address that a gRPC request comes from: tonic's connection info, or a [`SocketAddr`] among
/// the request's extensions, put there by whoever accepted the connection.
#[cfg(feature = "grpc")]
#[must_use]
pub fn address<T>(request: &tonic::Request<T>) -> Option<IpAddr> {
    let accepted = || request.extensions().get::<SocketAddr>().copied();
    request
        .remote_addr()
        .or_else(accepted)
        .map(|address| address.ip())
}

/// An IPv4 address, or an IPv6 network of 64 bits (one customer has that many addresses).
type Address = [u8; 8];

/// In thousandths of a request, so that time in milliseconds needs no fractions.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    level: u64,
    time: u64,
}

impl Limiter {
    /// Everybody may start with a burst.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        Self(Buckets::new(rate))
    }

    /// Takes `cost` requests out of an address's bucket; `now` in milliseconds. `None` stands for
    /// all whose address is not known.
    ///
    /// # Errors
    /// As [`Buckets::spend`].
    pub fn spend(&self, address: Option<IpAddr>, cost: u32, now: u64) -> Result<(), Refusal> {
        self.0.spend(address.map(shorten), cost, now)
    }
}

impl<K: Eq + Hash> Buckets<K> {
    /// Every key may start with a burst.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        let table = Table {
            buckets: HashMap::new(),
            searched: 0,
        };
        Self {
            rate,
            table: Mutex::new(table),
        }
    }

    /// Takes `cost` requests out of a key's bucket; `now` in milliseconds. `None` stands for all
    /// whose key is not known.
    ///
    /// # Errors
    /// `Rate` with the time until there is enough. A request that costs more than a whole burst
    /// needs a full bucket.
    pub fn spend(&self, key: Option<K>, cost: u32, now: u64) -> Result<(), Refusal> {
        if self.rate == Rate::UNLIMITED {
            return Ok(());
        }
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let Table { buckets, searched } = &mut *table;
        let mut key = key;
        if buckets.len() >= KEYS && !buckets.contains_key(&key) {
            // Not for each request: it takes time, and strangers decide how often it is due.
            if now.saturating_sub(*searched) >= SEARCH_EVERY {
                buckets.retain(|_, bucket| self.level(*bucket, now) < self.full());
                *searched = now;
            }
            if buckets.len() >= KEYS {
                key = None;
            }
        }
        let bucket = buckets.entry(key).or_insert(Bucket {
            level: self.full(),
            time: now,
        });
        let level = self.level(*bucket, now);
        let cost = (u64::from(cost) * 1000).min(self.full());
        // The clock may be set back: then nothing is gained until it has caught up.
        let time = now.max(bucket.time);
        if level < cost {
            *bucket = Bucket { level, time };
            let wait = (cost - level).div_ceil(self.rate.per_second.max(1).into());
            return Err(Refusal::Rate(wait));
        }
        *bucket = Bucket {
            level: level - cost,
            time,
        };
        Ok(())
    }

    fn full(&self) -> u64 {
        u64::from(self.rate.burst) * 1000
    }

    fn level(&self, bucket: Bucket, now: u64) -> u64 {
        let passed = now.saturating_sub(bucket.time);
        let gained = passed.saturating_mul(self.rate.per_second.into());
        bucket.level.saturating_add(gained).min(self.full())
    }
}

fn shorten(address: IpAddr) -> Address {
    let mut short = [0; 8];
    match address.to_canonical() {
        IpAddr::V4(address) => short[..4].copy_from_slice(&address.octets()),
        IpAddr::V6(address) => short.copy_from_slice(&address.octets()[..8]),
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    const RATE: Rate = Rate {
        burst: 3,
        per_second: 2,
    };

    fn address(last: u8) -> Option<IpAddr> {
        Some(Ipv4Addr::new(192, 0, 2, last).into())
    }

    #[test]
    fn a_bucket_empties_and_fills_again() {
        let limiter = Limiter::new(RATE);
        for _ in 0..3 {
            assert_eq!(limiter.spend(address(1), 1, 0), Ok(()));
        }
        assert_eq!(limiter.spend(address(1), 1, 0), Err(Refusal::Rate(500)));
        assert_eq!(limiter.spend(address(2), 1, 0), Ok(()));
        assert_eq!(limiter.spend(address(1), 1, 499), Err(Refusal::Rate(1)));
        assert_eq!(limiter.spend(address(1), 1, 500), Ok(()));
        // It never holds more than a burst, and a clock that runs back gives nothing.
        assert_eq!(limiter.spend(address(1), 3, 100_000), Ok(()));
        assert_eq!(limiter.spend(address(1), 1, 0), Err(Refusal::Rate(500)));
        assert_eq!(
            limiter.spend(address(1), 1, 100_000),
            Err(Refusal::Rate(500))
        );
        // What costs more than a burst needs a full bucket.
        assert_eq!(limiter.spend(address(1), 9, 101_500), Ok(()));
    }

    #[test]
    fn one_ipv6_network_is_one_customer() {
        let limiter = Limiter::new(RATE);
        let host = |last| Some(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last).into());
        for last in 0..3 {
            assert_eq!(limiter.spend(host(last), 1, 0), Ok(()));
        }
        assert_eq!(limiter.spend(host(9), 1, 0), Err(Refusal::Rate(500)));
    }

    #[test]
    fn memory_is_bounded() {
        let limiter = Limiter::new(RATE);
        let host = |number: usize| Some(Ipv4Addr::from_bits(number as u32).into());
        for number in 0..KEYS {
            assert_eq!(limiter.spend(host(number), 1, 0), Ok(()));
        }
        // The others share one bucket, which still lets some through.
        for number in 0..3 {
            assert_eq!(limiter.spend(host(KEYS + number), 1, 0), Ok(()));
        }
        let refused = limiter.spend(host(KEYS + 3), 1, 0);
        assert_eq!(refused, Err(Refusal::Rate(500)));
        assert!(limiter.0.table.lock().unwrap().buckets.len() <= KEYS + 1);
        // When the others have filled up, they are forgotten.
        assert_eq!(limiter.spend(host(KEYS + 3), 1, 1000), Ok(()));
        assert!(limiter.0.table.lock().unwrap().buckets.len() <= 2);
    }
}
