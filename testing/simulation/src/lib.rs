//! Clients and both services in one test, in virtual time.
//!
//! A [`Sim`] holds people (each a client's logic over a store in memory, or over the file that is
//! shipped), one Authentication Service, one Delivery Service, a clock that only it moves and one seeded
//! source of randomness. Calls and answers pass as encoded bytes. Every client step is a transaction of
//! its own. So a run is the same each time, and it can lose power at any step, lose an answer, or let two
//! people act at once.

mod disk;
pub mod faults;
mod network;
mod people;
mod seen;
mod services;
mod streams;
mod wishes;

pub use disk::{Disk, File, Tap, Written};
pub use people::{CRASHES, Crash, Person};
pub use wishes::{accept, add, decline, follow, knock, leave, link, new, remove, send};

use std::collections::{BTreeSet, VecDeque};

use folkmoot_authentication_service::AuthenticationService;
use folkmoot_delivery_service::DeliveryService;
use folkmoot_protocol::Refusal;
use folkmoot_protocol::call::{Answer, Call};
use folkmoot_protocol::keys::SigningKey;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use network::Flight;
use streams::Stream;

/// The domain of everybody.
pub const DOMAIN: &str = "moot.example";

/// Where the services are.
pub const URL: &str = "https://moot.example";

/// When it all begins: milliseconds since 1970.
pub const BEGINNING: u64 = 1_800_000_000_000;

/// Names a person of a [`Sim`].
pub type PersonId = usize;

/// The world.
pub struct Sim {
    now: u64,
    rng: ChaCha20Rng,
    authentication: AuthenticationService<folkmoot_authentication_service::store::MemoryStore>,
    delivery: DeliveryService<folkmoot_delivery_service::MemoryStore>,
    authentication_store: folkmoot_authentication_service::store::MemoryStore,
    authentication_secret: SigningKey,
    disk: folkmoot_delivery_service::MemoryStore,
    heard: Option<Vec<Call>>,
    /// Random values of 32 bytes that anybody's device has drawn, if they are to be remembered.
    pub drawn: Option<Vec<[u8; 32]>>,
    people: Vec<Person>,
    flights: VecDeque<Flight>,
    /// Who is to be woken, and when.
    waits: BTreeSet<(u64, PersonId)>,
    streams: Vec<Stream>,
    /// Calls that are kept back.
    held: Vec<Flight>,
    /// How many steps were made.
    pub steps: usize,
    /// At which step somebody loses power, and how.
    pub crash: Option<(usize, Crash)>,
    /// One in so many answers is lost; 0 for none.
    pub lose: u32,
    /// Whether calls overtake each other.
    pub disorder: bool,
    /// Whether a read brings one entry at a time, as one that its carrier cuts off.
    pub short_reads: bool,
    /// Whether a step may fail on the way: a store is damaged.
    pub tolerant: bool,
    /// Changes calls on their way: a person's device does not keep the rules.
    pub meddle: Option<Box<Meddle>>,
    /// Changes answers on their way: the service does not keep the rules.
    pub twist: Option<Box<Twist>>,
    /// What the Delivery Service signs with, for those who break its rules.
    pub delivery_secret: SigningKey,
    calls: usize,
}

/// See [`Sim::meddle`].
pub type Meddle = dyn FnMut(PersonId, &mut Call) + Send;

/// See [`Sim::twist`].
pub type Twist = dyn FnMut(PersonId, &Call, &mut Result<Answer, Refusal>) + Send;

impl Sim {
    /// A world with people who are registered.
    ///
    /// # Panics
    /// If registering fails.
    #[must_use]
    pub fn new(seed: u64, names: &[&str]) -> Self {
        let mut sim = Self::empty(seed);
        for name in names {
            let who = sim.join(name);
            let intent = sim.registration(name);
            sim.ask(who, intent).unwrap();
        }
        sim
    }

    /// A world without people.
    ///
    /// # Panics
    /// Never: the domain is valid.
    #[must_use]
    pub fn empty(seed: u64) -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let authentication_store = folkmoot_authentication_service::store::MemoryStore::default();
        let authentication_secret = SigningKey::generate(&mut rng);
        let authentication = AuthenticationService::new(
            authentication_store.clone(),
            authentication_secret.clone(),
            DOMAIN.parse().expect("a valid domain"),
        );
        let key = SigningKey::generate(&mut rng);
        let store = folkmoot_delivery_service::MemoryStore::new();
        let delivery = DeliveryService::new(store.clone(), key.clone(), &mut rng);
        Self {
            now: BEGINNING,
            rng,
            authentication,
            delivery,
            authentication_store,
            authentication_secret,
            disk: store,
            heard: None,
            drawn: None,
            people: Vec::new(),
            flights: VecDeque::new(),
            waits: BTreeSet::new(),
            streams: Vec::new(),
            held: Vec::new(),
            steps: 0,
            crash: None,
            lose: 0,
            disorder: false,
            short_reads: false,
            tolerant: false,
            meddle: None,
            twist: None,
            delivery_secret: key,
            calls: 0,
        }
    }

    /// Milliseconds since 1970.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.now
    }

    /// Lets time pass.
    pub fn pass(&mut self, milliseconds: u64) {
        self.now += milliseconds;
    }
}
