//! Runs scripts of the working group's format against clients that speak its interop service.
//!
//! Each script is run for each cipher suite, with handshakes in clear and encrypted, and for each
//! assignment of clients to the script's actors (or one at random). As the working group's runner does,
//! it compares the epoch authenticators with which clients answer, and what they decrypt with what was
//! encrypted. Beyond that it asks, after each step that moves a group, everybody concerned for the
//! authenticator and for an exported secret, and compares them.

mod run;
pub mod script;

pub use run::{RunError, run};

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use tonic::transport::{Channel, Endpoint};

use crate::proto::mls_client_client::MlsClientClient;
use crate::proto::{NameRequest, SupportedCiphersuitesRequest};
use script::{Action, Script, actors};

/// How long one call may take.
const TIMEOUT: Duration = Duration::from_secs(120);

/// More assignments of clients to actors than this are not all tried.
const ASSIGNMENTS: usize = 4096;

/// A client that is driven.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its name, by itself.
    pub name: String,
    /// The suites that it supports.
    pub suites: BTreeSet<u32>,
    /// The connection.
    pub rpc: MlsClientClient<Channel>,
}

impl Peer {
    /// Connects to a client at `host:port`.
    ///
    /// # Errors
    /// [`tonic::Status`] if nobody answers, or not as a client does.
    pub async fn connect(address: &str) -> Result<Self, tonic::Status> {
        let unavailable = |error: tonic::transport::Error| {
            tonic::Status::unavailable(format!("{address}: {error}"))
        };
        let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(unavailable)?;
        let channel = endpoint
            .timeout(TIMEOUT)
            .connect()
            .await
            .map_err(unavailable)?;
        let mut rpc = MlsClientClient::new(channel);
        let name = rpc.name(NameRequest {}).await?.into_inner().name;
        let suites = rpc
            .supported_ciphersuites(SupportedCiphersuitesRequest {})
            .await?;
        let suites = suites.into_inner().ciphersuites.into_iter().collect();
        Ok(Self { name, suites, rpc })
    }
}

/// What is run.
#[derive(Clone, Debug)]
pub struct Options {
    /// One suite, or all that a client supports.
    pub suite: Option<u32>,
    /// Whether handshakes are encrypted: each of these is tried.
    pub encrypt: Vec<bool>,
    /// One random assignment of clients to actors instead of all.
    pub random: bool,
    /// Whether everybody is asked for authenticators and exported secrets after each step.
    pub compare: bool,
    /// What group ids, keys and assignments come from.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            suite: None,
            encrypt: vec![true, false],
            random: false,
            compare: true,
            seed: 0,
        }
    }
}

/// One run of one script.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The cipher suite at the start.
    pub suite: u32,
    /// Whether handshakes were encrypted.
    pub encrypt: bool,
    /// Which client, by its place in the list, took which role.
    pub roles: BTreeMap<String, usize>,
    /// How it failed, if it did: the step's number, and why.
    pub failure: Option<(usize, RunError)>,
}

/// Runs a script in all ways that the options ask for.
pub async fn run_script(peers: &[Peer], script: &Script, options: &Options) -> Vec<Outcome> {
    let mut rng = ChaCha20Rng::seed_from_u64(options.seed);
    let suites: BTreeSet<u32> = match options.suite {
        Some(suite) => BTreeSet::from([suite]),
        None => peers.iter().flat_map(|peer| peer.suites.clone()).collect(),
    };
    let actors: Vec<String> = actors(script).into_iter().collect();
    let mut outcomes = Vec::new();
    for suite in suites {
        let able: Vec<usize> = (0..peers.len())
            .filter(|place| peers[*place].suites.contains(&suite))
            .collect();
        for encrypt in options.encrypt.iter().copied() {
            for roles in assignments(&able, &actors, options.random, &mut rng) {
                let cast = roles
                    .iter()
                    .map(|(actor, place)| (actor.clone(), peers[*place].clone()))
                    .collect();
                let result = run(cast, script, suite, encrypt, options.compare, &mut rng).await;
                outcomes.push(Outcome {
                    suite,
                    encrypt,
                    roles,
                    failure: result.err(),
                });
            }
        }
    }
    outcomes
}

/// Which of `able` plays whom: all ways, or one at random, also where there are too many.
fn assignments(
    able: &[usize],
    actors: &[String],
    random: bool,
    rng: &mut impl Rng,
) -> Vec<BTreeMap<String, usize>> {
    if able.is_empty() {
        return Vec::new();
    }
    let count = u32::try_from(actors.len())
        .ok()
        .and_then(|slots| able.len().checked_pow(slots))
        .filter(|count| *count <= ASSIGNMENTS && !random);
    let Some(count) = count else {
        let place = |_: &String| able[rng.next_u32() as usize % able.len()];
        let places: Vec<usize> = actors.iter().map(place).collect();
        return vec![actors.iter().cloned().zip(places).collect()];
    };
    (0..count)
        .map(|mut number| {
            let place = |actor: &String| {
                let place = able[number % able.len()];
                number /= able.len();
                (actor.clone(), place)
            };
            actors.iter().map(place).collect()
        })
        .collect()
}

/// What a script's step is called in a report.
#[must_use]
pub fn describe(script: &[Action], step: usize) -> String {
    script
        .get(step)
        .map_or_else(String::new, |action| format!("{action:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_plays_every_role() {
        let actors = ["alice".to_owned(), "bob".to_owned()];
        let rng = &mut ChaCha20Rng::seed_from_u64(0);
        let all = assignments(&[3, 5], &actors, false, rng);
        let pairs: BTreeSet<_> = all.iter().map(|a| (a["alice"], a["bob"])).collect();
        assert_eq!(pairs, BTreeSet::from([(3, 3), (3, 5), (5, 3), (5, 5)]));
        assert_eq!(all.len(), 4);
        assert_eq!(assignments(&[3, 5], &actors, true, rng).len(), 1);
        assert!(assignments(&[], &actors, false, rng).is_empty());
    }
}
