//! What a seed stands for, before its first step.

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use super::dice::Dice;
use super::member::{Peer, Settings};
use super::{mls_rs, openmls, ours};

/// A group's setting.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// What all follows from.
    pub seed: u64,
    /// What members have in common.
    pub settings: Settings,
    /// Whose members meet.
    pub peers: Vec<Peer>,
    /// The most members that the group is let grow to.
    pub size: usize,
}

/// The suites that we have, each with those who have it too.
#[must_use]
pub fn suites() -> Vec<(u16, Vec<Peer>)> {
    let (openmls, mls_rs) = (openmls::suites(), mls_rs::suites());
    ours::suites()
        .into_iter()
        .map(|suite| {
            let mut peers = vec![Peer::Ours];
            if openmls.contains(&suite) {
                peers.push(Peer::OpenMls);
            }
            if mls_rs.contains(&suite) {
                peers.push(Peer::MlsRs);
            }
            (suite, peers)
        })
        .filter(|(_, peers)| peers.len() > 1)
        .collect()
}

impl Scenario {
    /// The scenario of a seed. Half of them have all three implementations, one quarter has mls-rs and
    /// us, one quarter OpenMLS and us: with every suite of both, and what the third lacks. Every tenth
    /// grows to 40 members.
    #[must_use]
    pub fn of_seed(seed: u64) -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let suites = suites();
        let with = |peers: &[Peer]| -> Vec<u16> {
            let all = |all: &Vec<Peer>| peers.iter().all(|peer| all.contains(peer));
            let suites = suites.iter().filter(|(_, peers)| all(peers));
            suites.map(|(suite, _)| *suite).collect()
        };
        let pair = |peer| (vec![Peer::Ours, peer], with(&[Peer::Ours, peer]));
        let (peers, suites) = match seed % 4 {
            2 => pair(Peer::MlsRs),
            3 => pair(Peer::OpenMls),
            _ => (Peer::ALL.to_vec(), with(&Peer::ALL)),
        };
        // Seeds of a kind go through its suites in turn.
        let turn = usize::try_from(seed / 4).unwrap_or(0) + usize::from(seed % 4 == 1);
        Self {
            seed,
            settings: Settings {
                suite: suites[turn % suites.len()],
                public_handshakes: rng.chance(2),
                padding: rng.chance(2),
            },
            peers,
            size: if seed % 10 == 9 { 40 } else { 4 + rng.below(7) },
        }
    }
}
