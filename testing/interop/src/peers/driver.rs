//! The driver: from a seed to a run, step by step.

mod commits;
mod joins;
mod messages;
mod successors;

use std::collections::{BTreeMap, BTreeSet};

use folkmoot_mls::codec::Encode;
use folkmoot_mls::credential::{Credential, CredentialType};
use folkmoot_mls::extension::{
    ExtensionContent, ExtensionType, ExternalSender, ExternalSenders, RequiredCapabilities,
};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use super::coverage::{Coverage, Operation};
use super::departures::{self, Role};
use super::dice::Dice;
use super::member::{CUSTOM_EXTENSION, Event, Member, NextGroup, Peer, PeerError, RawExtension};
use super::model::{Disagreement, Model, check_same};
use super::outsider::Outsider;
pub use super::scenario::{Scenario, suites};
use super::{mls_rs, openmls, ours};
use messages::Late;

/// The most proposals that wait at once.
const PENDING: usize = 5;

/// Why a run ended early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DriverError {
    /// A call failed.
    #[error("{name}: {error}")]
    Peer {
        /// Whose call.
        name: String,
        /// What it says.
        error: PeerError,
    },
    /// A member sees something else than it has to.
    #[error("{name}: {disagreement}")]
    Disagreement {
        /// Who.
        name: String,
        /// What.
        disagreement: Disagreement,
    },
    /// A member took a message for something else.
    #[error("{name}: took a message for {found:?} that is {expected}")]
    Event {
        /// Who.
        name: String,
        /// What it is.
        expected: &'static str,
        /// What the member took it for.
        found: Event,
    },
    /// A secret that members have in common differs.
    #[error("{name} and {other} have other secrets of component {component}")]
    SafeExport {
        /// Who.
        name: String,
        /// And who.
        other: String,
        /// Of which component.
        component: u16,
    },
}

/// A run that failed, and all that led to it.
#[derive(Debug, thiserror::Error)]
#[error(
    "seed {seed}, step {step}: {error}\n{}\nagain: cargo run --release -p folkmoot-interop --bin peers -- \
     --seed {seed} --steps {steps}", log.join("\n")
)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// The step that failed.
    pub step: u32,
    /// How many steps the run was to have.
    pub steps: u32,
    /// What was done.
    pub log: Vec<String>,
    /// What failed.
    pub error: DriverError,
}

/// Runs a seed, and counts what was done.
///
/// # Errors
/// [`Failure`], if members come to disagree or one refuses what it should not.
pub fn run(
    scenario: &Scenario,
    steps: u32,
    coverage: &mut Coverage,
) -> Result<Vec<String>, Box<Failure>> {
    let mut driver = Driver::new(scenario, coverage);
    for step in 0..=steps {
        let done = match step {
            0 => driver.begin(),
            _ => driver.step(),
        };
        if let Err(error) = done {
            return Err(Box::new(Failure {
                seed: scenario.seed,
                step,
                steps,
                log: driver.log,
                error,
            }));
        }
    }
    Ok(driver.log)
}

/// A member, and since when it has been one.
struct Client {
    member: Box<dyn Member>,
    joined_at: u64,
}

/// What a proposal does to the model.
#[derive(Clone, Debug)]
#[allow(dead_code, reason = "the log tells all of it")]
enum Effect {
    Add(String),
    Remove(String),
    Update(String),
    ExternalPsk,
    ResumptionPsk(u64),
    Extensions(Vec<RawExtension>),
    ReInit(NextGroup),
}

/// A proposal that waits.
#[derive(Clone, Debug)]
struct Pending {
    effect: Effect,
    operation: Operation,
}

struct Driver<'a> {
    scenario: Scenario,
    rng: ChaCha20Rng,
    coverage: &'a mut Coverage,
    log: Vec<String>,
    names: u32,
    clients: BTreeMap<String, Client>,
    /// Clients whose KeyPackages are in proposals.
    waiting: BTreeMap<String, Box<dyn Member>>,
    pending: Vec<Pending>,
    psks: Vec<(Vec<u8>, Vec<u8>)>,
    late: Vec<Late>,
    outsiders: Vec<Outsider>,
    model: Model,
    /// No more messages: a ReInit was committed.
    closed: bool,
}

type Done<T = ()> = Result<T, DriverError>;
type Step<D> = fn(&mut D) -> Done;

impl<'a> Driver<'a> {
    fn new(scenario: &Scenario, coverage: &'a mut Coverage) -> Self {
        Self {
            scenario: scenario.clone(),
            rng: ChaCha20Rng::seed_from_u64(scenario.seed ^ 0x666f_6c6b),
            coverage,
            log: Vec::new(),
            names: 0,
            clients: BTreeMap::new(),
            waiting: BTreeMap::new(),
            pending: Vec::new(),
            psks: Vec::new(),
            late: Vec::new(),
            outsiders: Vec::new(),
            model: Model::default(),
            closed: false,
        }
    }

    /// Epoch 0.
    fn begin(&mut self) -> Done {
        let peers = self.scenario.peers.clone();
        self.make_outsiders()?;
        let turn = usize::try_from(self.scenario.seed).unwrap_or(0);
        let peer = peers[turn % peers.len()];
        let (name, mut member) = self.new_member(peer)?;
        let extensions = self.some_extensions();
        let group_id = self.rng.bytes(16);
        self.log.push(format!(
            "suite {:#06x}, handshakes {}, up to {} members; {name} creates",
            self.scenario.settings.suite,
            if self.scenario.settings.public_handshakes {
                "in clear"
            } else {
                "encrypted"
            },
            self.scenario.size,
        ));
        member
            .create(&group_id, &extensions)
            .map_err(|error| failed(&name, error))?;
        self.made(Operation::Create, peer);
        self.model.extensions = extensions;
        self.model
            .members
            .insert(name.clone(), member.signature_key());
        self.clients.insert(
            name,
            Client {
                member,
                joined_at: 0,
            },
        );
        self.check()
    }

    /// One step, chosen among those that are possible, and the comparison after it.
    fn step(&mut self) -> Done {
        self.deliver_late()?;
        let (members, pending) = (self.clients.len(), self.pending.len());
        let (some, room) = (members > 1, members < self.scenario.size);
        let quiet = pending == 0;
        let choices: [(usize, Step<Self>); 11] = [
            (30, Self::commit),
            (
                if some && pending < PENDING { 22 } else { 0 },
                Self::propose,
            ),
            (if room { 6 } else { 0 }, Self::join_externally),
            (if some { 4 } else { 0 }, Self::resync),
            (
                if some && pending < PENDING { 8 } else { 0 },
                Self::propose_from_outside,
            ),
            (if some && quiet { 5 } else { 0 }, Self::send_out_of_order),
            (if some && quiet { 6 } else { 0 }, Self::send_late),
            (5, Self::restart),
            (if some { 3 } else { 0 }, Self::export_safely),
            (if some && quiet { 4 } else { 0 }, Self::reinitialise),
            (if some { 3 } else { 0 }, Self::branch),
        ];
        let total: usize = choices.iter().map(|(weight, _)| weight).sum();
        let mut roll = self.rng.below(total);
        for (weight, step) in choices {
            if roll < weight {
                step(self)?;
                break;
            }
            roll -= weight;
        }
        self.check()
    }

    /// All members agree with the model and each other, and read each other.
    fn check(&mut self) -> Done {
        let mut first: Option<(String, super::member::View)> = None;
        for (name, client) in &self.clients {
            let view = client.member.view().map_err(|error| failed(name, error))?;
            let result = self.model.check(&view).and_then(|()| match &first {
                Some((other, others)) => check_same(&view, other, others),
                None => Ok(()),
            });
            result.map_err(|disagreement| DriverError::Disagreement {
                name: name.clone(),
                disagreement,
            })?;
            first.get_or_insert((name.clone(), view));
        }
        if self.pending.is_empty() && !self.closed {
            self.exchange_messages()?;
        }
        let suite = self.scenario.settings.suite;
        let peers = self.clients.values().map(|client| client.member.peer());
        self.coverage.step(suite, peers);
        Ok(())
    }

    fn restart(&mut self) -> Done {
        let name = self.somebody();
        self.log.push(format!("{name} restarts"));
        self.call(&name, |member| member.restart())?;
        self.made(Operation::Restart, self.peer(&name));
        Ok(())
    }

    /// A new client, not in the group yet, with all PSKs.
    fn new_member(&mut self, peer: Peer) -> Done<(String, Box<dyn Member>)> {
        let name = format!("{peer}-{}", self.names);
        self.names += 1;
        let settings = self.scenario.settings.clone();
        let member: Result<Box<dyn Member>, PeerError> = match peer {
            Peer::Ours => {
                let rng = ChaCha20Rng::from_rng(&mut self.rng);
                ours::Ours::new(&name, &settings, rng).map(|member| Box::new(member) as _)
            }
            Peer::OpenMls => openmls::client(&name, &settings, self.rng.chance(2)),
            Peer::MlsRs => mls_rs::client(&name, &settings),
        };
        let mut member = member.map_err(|error| failed(&name, error))?;
        for (id, secret) in &self.psks {
            member
                .add_psk(id, secret)
                .map_err(|error| failed(&name, error))?;
        }
        Ok((name, member))
    }

    /// A new client of some implementation that takes part.
    fn anybody_new(&mut self) -> Done<(String, Box<dyn Member>)> {
        let peers = self.scenario.peers.clone();
        let peer = self.rng.pick(&peers).unwrap_or(Peer::Ours);
        self.new_member(peer)
    }

    /// A new PSK, which everybody has.
    fn new_psk(&mut self) -> Done<Vec<u8>> {
        let (id, secret) = (self.rng.bytes(8), self.rng.bytes(32));
        let members = self.clients.iter_mut().map(|(n, c)| (n, &mut c.member));
        for (name, member) in members.chain(self.waiting.iter_mut()) {
            member
                .add_psk(&id, &secret)
                .map_err(|error| failed(name, error))?;
        }
        self.psks.push((id.clone(), secret));
        Ok(id)
    }

    fn make_outsiders(&mut self) -> Done {
        self.outsiders.clear();
        for peer in self.scenario.peers.clone() {
            if departures::lacks(peer, Operation::ExternalSenderRemove, Role::Makes) {
                continue;
            }
            let (name, suite) = (format!("outside-{peer}"), self.scenario.settings.suite);
            let rng = ChaCha20Rng::from_rng(&mut self.rng);
            let outsider = Outsider::new(peer, &name, suite, rng);
            self.outsiders
                .push(outsider.map_err(|error| failed(&name, error))?);
        }
        Ok(())
    }

    /// GroupContext extensions that all members can live with.
    fn some_extensions(&mut self) -> Vec<RawExtension> {
        let mut list = Vec::new();
        if self.rng.chance(2) {
            let length = self.rng.below(40);
            list.push((CUSTOM_EXTENSION, self.rng.bytes(length)));
        }
        let listed = !list.is_empty() && self.scenario.peers.contains(&Peer::OpenMls);
        if listed || self.rng.chance(2) {
            let required = RequiredCapabilities {
                extension_types: vec![ExtensionType(CUSTOM_EXTENSION)],
                proposal_types: Vec::new(),
                credential_types: vec![CredentialType::BASIC],
            };
            list.push((RequiredCapabilities::EXTENSION_TYPE.0, required.to_bytes()));
        }
        if !self.outsiders.is_empty() && !self.rng.chance(4) {
            let external_senders = self
                .outsiders
                .iter()
                .map(|outsider| ExternalSender {
                    signature_key: outsider.signature_key().as_slice().into(),
                    credential: Credential::basic(
                        format!("outside-{}", outsider.peer()).as_bytes(),
                    ),
                })
                .collect();
            let senders = ExternalSenders { external_senders };
            list.push((ExternalSenders::EXTENSION_TYPE.0, senders.to_bytes()));
        }
        list
    }

    fn peer(&self, name: &str) -> Peer {
        self.clients[name].member.peer()
    }

    fn somebody(&mut self) -> String {
        let names = self.members();
        self.rng.pick(&names).unwrap_or_default()
    }

    fn members(&self) -> Vec<String> {
        self.clients.keys().cloned().collect()
    }

    /// Everybody but one.
    fn others(&self, than: &str) -> Vec<String> {
        let names = self.clients.keys();
        names.filter(|name| *name != than).cloned().collect()
    }

    fn leaf(&self, name: &str) -> u32 {
        self.clients[name].member.own_leaf()
    }

    /// Members whose leaf a pending proposal changes.
    fn touched(&self) -> BTreeSet<String> {
        self.pending
            .iter()
            .filter_map(|pending| match &pending.effect {
                Effect::Remove(name) | Effect::Update(name) => Some(name.clone()),
                _ => None,
            })
            .collect()
    }

    /// Whether `maker` can do something that all the other members can follow.
    fn possible(&self, operation: Operation, maker: Peer) -> bool {
        let mut peers = self.clients.values().map(|client| client.member.peer());
        !departures::lacks(maker, operation, Role::Makes)
            && peers.all(|peer| !departures::lacks(peer, operation, Role::Follows))
    }

    fn made(&mut self, operation: Operation, peer: Peer) {
        self.coverage.count(operation, Role::Makes, peer);
    }

    fn followed(&mut self, operations: &[Operation], peer: Peer) {
        for operation in operations {
            self.coverage.count(*operation, Role::Follows, peer);
        }
    }

    fn call<T>(
        &mut self,
        name: &str,
        call: impl FnOnce(&mut dyn Member) -> Result<T, PeerError>,
    ) -> Done<T> {
        let client = self.clients.get_mut(name).expect("a member's name");
        call(&mut *client.member).map_err(|error| failed(name, error))
    }

    /// A member reads a message that has to be what is expected.
    fn read(&mut self, name: &str, message: &[u8], expected: &'static str, event: &Event) -> Done {
        let found = self.call(name, |member| member.process(message))?;
        if found == *event {
            return Ok(());
        }
        Err(DriverError::Event {
            name: name.to_string(),
            expected,
            found,
        })
    }
}

fn failed(name: &str, error: PeerError) -> DriverError {
    DriverError::Peer {
        name: name.to_string(),
        error,
    }
}
