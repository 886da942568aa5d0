//! A rate for each address, in the place of payment until tokens exist (RULES on payment).

use std::collections::HashMap;
use std::net::IpAddr;
#[cfg(feature = "grpc")]
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use crate::Refusal;

/// Addresses that are remembered. When there are more, those that are not in the table share one
/// bucket until others have filled up again.
const ADDRESSES: usize = 1 << 16;

/// How much an address may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Requests at once.
    pub burst: u32,
    /// Requests per second in the long run; not 0.
    pub per_second: u32,
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
pub struct Limiter {
    rate: Rate,
    buckets: Mutex<HashMap<Address, Bucket>>,
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

/// Whom a bucket is for: an IPv4 address, an IPv6 network of 64 bits (one customer has that many
/// addresses), or everybody else.
type Address = Option<[u8; 8]>;

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
        Self {
            rate,
            buckets: Mutex::default(),
        }
    }

    /// Takes `cost` requests out of an address's bucket; `now` in milliseconds. `None` stands for
    /// all whose address is not known.
    ///
    /// # Errors
    /// `Rate` with the time until there is enough. A request that costs more than a whole burst
    /// needs a full bucket.
    pub fn spend(&self, address: Option<IpAddr>, cost: u32, now: u64) -> Result<(), Refusal> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let mut key = address.map(shorten);
        if buckets.len() >= ADDRESSES && !buckets.contains_key(&key) {
            buckets.retain(|_, bucket| self.level(*bucket, now) < self.full());
            if buckets.len() >= ADDRESSES {
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

fn shorten(address: IpAddr) -> [u8; 8] {
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
        for number in 0..ADDRESSES {
            assert_eq!(limiter.spend(host(number), 1, 0), Ok(()));
        }
        // The others share one bucket, which still lets some through.
        for number in 0..3 {
            assert_eq!(limiter.spend(host(ADDRESSES + number), 1, 0), Ok(()));
        }
        let refused = limiter.spend(host(ADDRESSES + 3), 1, 0);
        assert_eq!(refused, Err(Refusal::Rate(500)));
        assert!(limiter.buckets.lock().unwrap().len() <= ADDRESSES + 1);
        // When the others have filled up, they are forgotten.
        assert_eq!(limiter.spend(host(ADDRESSES + 3), 1, 1000), Ok(()));
        assert!(limiter.buckets.lock().unwrap().len() <= 2);
    }
}
