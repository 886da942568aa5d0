//! Bounds on what strangers may use up.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use folkmoot_protocol::limits as protocol;
use folkmoot_protocol::rate::Rate;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::budget::Budget;

/// Connections at the same time; more wait in the system's queue.
pub(super) const CONNECTIONS: usize = 4096;
/// Connections of one address at the same time; more are closed.
pub(super) const CONNECTIONS_PER_ADDRESS: u32 = 256;
/// Requests of one address that are under way at the same time, streams and answers that are being
/// taken included.
pub(super) const REQUESTS_PER_ADDRESS: usize = 512;
/// Bytes of one address's requests under way together.
pub(super) const REQUEST_BYTES_PER_ADDRESS: usize = 64 << 20;
/// Bytes of all answers that one address is taking.
pub(super) const ANSWER_BYTES_PER_ADDRESS: usize = 148 << 20;
/// Requests of any kind that one address may make.
pub(super) const CALLS: Rate = Rate {
    burst: 5000,
    per_second: 200,
};
/// For a TLS handshake.
pub(super) const HANDSHAKE: Duration = Duration::from_secs(10);
/// For an HTTP/1.1 request's header.
pub(super) const HEADER: Duration = Duration::from_secs(10);
/// For the first request of a connection.
pub(super) const FIRST_REQUEST: Duration = Duration::from_secs(30);
/// For the beginning of a request's body.
pub(super) const BODY: Duration = Duration::from_secs(15);
/// Bytes of a body that come each second after that, at least, on average.
pub(super) const SLOWEST: u64 = 4 << 10;
/// For a whole request, until its answer begins.
pub(super) const REQUEST: Duration = Duration::from_secs(300);
/// Between two signs of life of an idle HTTP/2 connection, and for the answer to one.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// Requests at the same time on one connection.
pub(super) const STREAMS: u32 = 100;
/// Bytes of a request's header.
pub(super) const HEADER_BYTES: u32 = 16 << 10;
/// Bytes that a request may have under way before they are read.
pub(super) const STREAM_WINDOW: u32 = 1 << 20;
/// The same for a connection.
pub(super) const CONNECTION_WINDOW: u32 = 4 << 20;
/// Bytes of an answer that wait for the peer's window, on one stream.
pub(super) const SEND_BUFFER: usize = 64 << 10;
/// Bytes of all requests under way together.
pub(super) const REQUEST_BYTES: usize = 512 << 20;
/// Bytes of all answers that are being taken together.
pub(super) const ANSWER_BYTES: usize = 512 << 20;
/// For a connection on which there is no request.
pub(super) const IDLE: Duration = Duration::from_secs(180);
/// For somebody to take the next piece of an answer; then the connection is closed.
pub(super) const STALLED: Duration = Duration::from_secs(30);
/// For requests under way when the server is told to stop.
pub(super) const GRACE: Duration = Duration::from_secs(5);

/// The largest request, in bytes: gRPC puts five bytes in front.
pub(super) const LARGEST: u64 = protocol::REQUEST as u64 + 5;

/// What each address uses.
#[derive(Debug)]
pub(super) struct Addresses {
    in_use: Mutex<HashMap<IpAddr, Neighbour>>,
    /// Whether loopback is the operator's own machine, for which none of this counts.
    trusts_loopback: bool,
}

/// What one address uses.
#[derive(Clone, Debug)]
struct Neighbour {
    connections: u32,
    bounds: Bounds,
}

/// What the connections of one address share.
#[derive(Clone, Debug)]
pub(super) struct Bounds {
    pub(super) requests: Arc<Semaphore>,
    pub(super) request_bytes: Arc<Budget>,
    pub(super) answer_bytes: Arc<Budget>,
}

/// A connection that is counted until this is dropped.
#[derive(Debug)]
pub(super) struct Counted {
    addresses: Arc<Addresses>,
    address: IpAddr,
    pub(super) bounds: Bounds,
}

impl Addresses {
    pub(super) fn new(trusts_loopback: bool) -> Arc<Self> {
        Arc::new(Self {
            in_use: Mutex::default(),
            trusts_loopback,
        })
    }

    /// Whether an address is the operator's own.
    pub(super) fn trusts(&self, ip: IpAddr) -> bool {
        self.trusts_loopback && ip.is_loopback()
    }

    /// Counts a connection of `ip`; `None` if it has too many.
    pub(super) fn count(self: &Arc<Self>, ip: IpAddr) -> Option<Counted> {
        let address = neighbourhood(ip);
        let trusted = self.trusts(ip);
        let mut in_use = self.in_use.lock().unwrap_or_else(PoisonError::into_inner);
        let neighbour = in_use.entry(address).or_insert_with(|| Neighbour {
            connections: 0,
            bounds: Bounds::new(trusted),
        });
        if neighbour.connections >= CONNECTIONS_PER_ADDRESS && !trusted {
            return None;
        }
        neighbour.connections += 1;
        Some(Counted {
            addresses: self.clone(),
            address,
            bounds: neighbour.bounds.clone(),
        })
    }
}

impl Bounds {
    fn new(trusted: bool) -> Self {
        let bytes = |bytes| if trusted { usize::MAX >> 1 } else { bytes };
        let requests = if trusted {
            Semaphore::MAX_PERMITS
        } else {
            REQUESTS_PER_ADDRESS
        };
        Self {
            requests: Arc::new(Semaphore::new(requests)),
            request_bytes: Budget::new(bytes(REQUEST_BYTES_PER_ADDRESS)),
            answer_bytes: Budget::new(bytes(ANSWER_BYTES_PER_ADDRESS)),
        }
    }

    /// A place for a request; `None` if there are too many under way.
    pub(super) fn request(&self) -> Option<OwnedSemaphorePermit> {
        self.requests.clone().try_acquire_owned().ok()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let addresses = &self.addresses;
        let mut in_use = addresses
            .in_use
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(neighbour) = in_use.get_mut(&self.address) {
            neighbour.connections -= 1;
            if neighbour.connections == 0 {
                in_use.remove(&self.address);
            }
        }
    }
}

/// An IPv6 subscriber has a /64 at least, so that counts as one address.
fn neighbourhood(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        ip => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_so_many_connections() {
        let addresses = Addresses::new(true);
        let host = |n: u16| IpAddr::from([0x2001, 0xdb8, 0, 7, 0, 0, 0, n]);
        let mut held: Vec<_> = (0..CONNECTIONS_PER_ADDRESS)
            .map(|n| addresses.count(host(n as u16)).unwrap())
            .collect();
        assert!(addresses.count(host(1)).is_none());
        assert!(addresses.count(IpAddr::from([203, 0, 113, 1])).is_some());
        held.pop();
        held.push(addresses.count(host(3)).unwrap());
        assert!(addresses.count(host(1)).is_none());
        drop(held);
        assert!(addresses.in_use.lock().unwrap().is_empty());
    }

    #[test]
    fn the_connections_of_an_address_share_its_requests() {
        let addresses = Addresses::new(true);
        let host = |n: u8| IpAddr::from([203, 0, 113, n]);
        let (one, two) = (
            addresses.count(host(1)).unwrap(),
            addresses.count(host(1)).unwrap(),
        );
        let mut held: Vec<_> = (0..REQUESTS_PER_ADDRESS)
            .map(|_| one.bounds.request().unwrap())
            .collect();
        assert!(two.bounds.request().is_none());
        assert!(addresses.count(host(2)).unwrap().bounds.request().is_some());
        held.pop();
        assert!(two.bounds.request().is_some());
    }

    #[test]
    fn the_operator_s_own_machine_has_no_such_limit() {
        let addresses = Addresses::new(true);
        let here = IpAddr::from([127, 0, 0, 1]);
        let held: Vec<_> = (0..=CONNECTIONS_PER_ADDRESS)
            .map_while(|_| addresses.count(here))
            .collect();
        assert_eq!(held.len(), CONNECTIONS_PER_ADDRESS as usize + 1);
        // Unless it is to have one.
        let addresses = Addresses::new(false);
        let held: Vec<_> = (0..=CONNECTIONS_PER_ADDRESS)
            .map_while(|_| addresses.count(here))
            .collect();
        assert_eq!(held.len(), CONNECTIONS_PER_ADDRESS as usize);
    }
}
