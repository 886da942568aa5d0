//! Bounds on what strangers may use up.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Connections at the same time; more wait in the system's queue.
pub(super) const CONNECTIONS: usize = 4096;
/// Connections of one address at the same time; more are closed. Loopback is the operator's own.
pub(super) const CONNECTIONS_PER_ADDRESS: u32 = 512;
/// For a TLS handshake.
pub(super) const HANDSHAKE: Duration = Duration::from_secs(10);
/// For an HTTP/1.1 request's header.
pub(super) const HEADER: Duration = Duration::from_secs(10);
/// For the first request of a connection.
pub(super) const FIRST_REQUEST: Duration = Duration::from_secs(30);
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
/// Bytes of all requests under way together.
pub(super) const REQUEST_BYTES: usize = 512 << 20;
/// Bytes of all answers that are being taken together.
pub(super) const ANSWER_BYTES: usize = 512 << 20;
/// For somebody to take the next piece of an answer.
pub(super) const STALLED: Duration = Duration::from_secs(30);
/// For requests under way when the server is told to stop.
pub(super) const GRACE: Duration = Duration::from_secs(5);

/// How many connections each address has.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    connections: Mutex<HashMap<IpAddr, u32>>,
}

/// A connection that is counted until this is dropped.
#[derive(Debug)]
pub(super) struct Counted {
    addresses: Arc<Addresses>,
    address: IpAddr,
}

impl Addresses {
    /// Counts a connection of `ip`; `None` if it has too many.
    pub(super) fn count(self: &Arc<Self>, ip: IpAddr) -> Option<Counted> {
        let address = neighbourhood(ip);
        let mut connections = self
            .connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let count = connections.entry(address).or_insert(0);
        if *count >= CONNECTIONS_PER_ADDRESS && !ip.is_loopback() {
            return None;
        }
        *count += 1;
        Some(Counted {
            addresses: self.clone(),
            address,
        })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut connections = self
            .addresses
            .connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = connections.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                connections.remove(&self.address);
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
        let addresses = Arc::new(Addresses::default());
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
        assert!(addresses.connections.lock().unwrap().is_empty());
    }

    #[test]
    fn the_operator_s_own_machine_has_no_such_limit() {
        let addresses = Arc::new(Addresses::default());
        let here = IpAddr::from([127, 0, 0, 1]);
        let held: Vec<_> = (0..=CONNECTIONS_PER_ADDRESS)
            .map_while(|_| addresses.count(here))
            .collect();
        assert_eq!(held.len(), CONNECTIONS_PER_ADDRESS as usize + 1);
    }
}
