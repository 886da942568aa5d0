//! Clients and both services in one test, in virtual time.
//!
//! A [`Sim`] holds people (each a client's logic over a store in memory, or over the file that is
//! shipped), one Authentication Service, one
//! Delivery Service, a clock that only it moves and one seeded source of randomness. Calls and answers
//! pass as encoded bytes. Every client step is a transaction of its own. So a run is the same each time,
//! and it can lose power at any step, lose an answer, or let two people act at once.

mod disk;
pub mod faults;

pub use disk::{Disk, File, Tap, Written};

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use folkmoot_authentication_service::AuthenticationService;
use folkmoot_client::logic::{CallId, Input, Intent, IntentId, Logic, Output, Pause};
use folkmoot_client::store::{MemoryStore, Store, Table};
use folkmoot_client::transport::{ServiceAddress, TransportError};
use folkmoot_client::views::{self, Conversation, Members};
use folkmoot_client::{Error, Event, HistoryEntry, What};
use folkmoot_delivery_service::{DeliveryService, Progress, Reading};
use folkmoot_protocol::Refusal;
use folkmoot_protocol::authentication::LookUpRequest;
use folkmoot_protocol::call::{Answer, Call, Purpose};
use folkmoot_protocol::delivery::read_response::End;
use folkmoot_protocol::delivery::{ReadRequest, ReadResponses};
use folkmoot_protocol::directory::DirectoryEntry;
use folkmoot_protocol::keys::SigningKey;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

use disk::{Drawn, Tapped};

/// The domain of everybody.
pub const DOMAIN: &str = "moot.example";

/// Where the services are.
pub const URL: &str = "https://moot.example";

/// When it all begins: milliseconds since 1970.
pub const BEGINNING: u64 = 1_800_000_000_000;

/// How long a call takes, in milliseconds.
const LATENCY: u64 = 10;

/// How long people wait for what comes by waiting, in milliseconds: the last rank's turn.
const PATIENCE: u64 = 62_000;

/// More calls than any scenario needs: a run that goes beyond goes round in circles.
const MOST_CALLS: usize = 20_000;

/// Names a person of a [`Sim`].
pub type PersonId = usize;

/// How power is lost during a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// Before the step's transaction is durable.
    BeforeSync,
    /// After it is durable, before its calls leave.
    AfterSync,
    /// After its calls reached the services, before an answer comes.
    AfterDelivery,
}

/// All ways to crash.
pub const CRASHES: [Crash; 3] = [Crash::BeforeSync, Crash::AfterSync, Crash::AfterDelivery];

/// One device.
pub struct Person {
    /// The part of its user's name before the `@`.
    pub name: String,
    /// What it keeps.
    pub store: Disk,
    /// Sees what it writes.
    pub tap: Option<Tap>,
    /// The logic of each of its processes. But for runs with faults, the first one does everything.
    processes: Vec<Logic>,
    /// What it was told, since it was asked last.
    pub events: Vec<Event>,
}

/// A call under way.
struct Flight {
    who: PersonId,
    id: CallId,
    to: ServiceAddress,
    call: Call,
}

/// A read that follows.
struct Stream {
    who: PersonId,
    id: CallId,
    reading: Reading,
    woken: Arc<AtomicBool>,
    /// When it is to be asked again though nobody woke it.
    until: u64,
}

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

    /// A new device, not registered yet.
    pub fn join(&mut self, name: &str) -> PersonId {
        self.join_on(name, Disk::memory())
    }

    /// A new device that keeps what it has in this store, not registered yet.
    pub fn join_on(&mut self, name: &str, store: Disk) -> PersonId {
        self.people.push(Person {
            name: name.to_owned(),
            store,
            tap: None,
            processes: vec![Logic::new()],
            events: Vec::new(),
        });
        self.people.len() - 1
    }

    /// What a person wants who registers.
    ///
    /// # Panics
    /// If the name is not valid.
    #[must_use]
    pub fn registration(&self, name: &str) -> Intent {
        let address = |key| ServiceAddress {
            url: URL.into(),
            key,
            pin: None,
        };
        Intent::Register {
            name: name.parse().expect("a valid name"),
            domain: DOMAIN.parse().expect("a valid domain"),
            authentication: address(self.authentication.public_key()),
            delivery: address(self.delivery.public_key()),
        }
    }

    /// A person.
    #[must_use]
    pub fn person(&mut self, who: PersonId) -> &mut Person {
        &mut self.people[who]
    }

    /// The Delivery Service, for what no client would ask.
    ///
    /// # Errors
    /// The service's refusal.
    pub fn ask_delivery(&mut self, call: Call) -> Result<Answer, Refusal> {
        self.delivery.answer(call, self.now, &mut self.rng)
    }

    /// Keeps what the Delivery Service hears from now on.
    pub fn listen(&mut self) {
        self.heard = Some(Vec::new());
    }

    /// What the Delivery Service heard since [`Sim::listen`].
    #[must_use]
    pub fn heard(&self) -> &[Call] {
        self.heard.as_deref().unwrap_or_default()
    }

    /// All that the Delivery Service keeps, keys and values.
    #[must_use]
    pub fn kept(&self) -> Vec<u8> {
        self.disk.to_bytes()
    }

    /// What the directory says about somebody.
    ///
    /// # Panics
    /// If it says nothing, or nothing true.
    pub fn look_up(&mut self, name: &str) -> DirectoryEntry {
        let request = LookUpRequest {
            name: name.to_owned(),
            ..LookUpRequest::default()
        };
        let (now, rng) = (self.now, &mut self.rng);
        let Ok(Answer::LookUp(answer)) =
            self.authentication.answer(Call::LookUp(request), now, rng)
        else {
            panic!("{name} is unknown");
        };
        let user = format!("{name}@{DOMAIN}").parse().expect("a valid name");
        let key = self.authentication.public_key();
        DirectoryEntry::read(&answer, &user, &key, now / 1000).expect("a true answer")
    }

    /// The Delivery Service's key.
    #[must_use]
    pub fn delivery_key(&self) -> folkmoot_protocol::keys::PublicKey {
        self.delivery.public_key()
    }

    /// The Authentication Service's key.
    #[must_use]
    pub fn authentication_key(&self) -> folkmoot_protocol::keys::PublicKey {
        self.authentication.public_key()
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

    /// Puts a person's device back to an old copy of its store.
    pub fn restore(&mut self, who: PersonId, copy: MemoryStore) {
        self.restart(who);
        self.people[who].store = Disk::Memory(copy);
    }

    // ---- what people do

    /// Asks for something and waits until everything is quiet.
    ///
    /// # Errors
    /// Why it was given up; [`Error::Pending`] if it is still to be done.
    pub fn ask(&mut self, who: PersonId, intent: Intent) -> Result<(), Error> {
        let armed = self.crash.is_some();
        self.begin(who, intent.clone())?;
        self.settle();
        if armed && self.crash.is_none() && intent == Intent::Sync {
            // Syncing is nothing that is kept: whose device died meanwhile asks again.
            self.begin(who, intent)?;
            self.settle();
        }
        self.outcome(who)
    }

    /// Asks for something. A person whose device dies before it kept the wish asks again.
    ///
    /// # Errors
    /// What is wrong with the wish.
    pub fn begin(&mut self, who: PersonId, intent: Intent) -> Result<(), Error> {
        self.people[who].events.clear();
        if self.input(who, Input::Intent(intent.clone()))? {
            return Ok(());
        }
        match self.input(who, Input::Intent(intent)) {
            // It was kept after all, and done by the device that started again.
            Err(Error::AlreadyRegistered(_) | Error::TitleTaken(_)) => Ok(()),
            other => other.map(drop),
        }
    }

    /// What came of the wishes of a person since it began one.
    ///
    /// # Errors
    /// As [`Sim::ask`].
    pub fn outcome(&self, who: PersonId) -> Result<(), Error> {
        let events = &self.people[who].events;
        let mut blocked = None;
        let mut open: Vec<IntentId> = Vec::new();
        for event in events {
            match event {
                Event::Started { intent } => open.push(*intent),
                Event::Done { intent } => open.retain(|known| known != intent),
                Event::Failed { intent, error } if open.contains(intent) => {
                    return Err(error.clone());
                }
                Event::Blocked { error } => blocked = Some(error.clone()),
                _ => {}
            }
        }
        if open.is_empty() {
            Ok(())
        } else {
            Err(Error::Pending(Box::new(blocked.unwrap_or(Error::NotTaken))))
        }
    }

    /// Syncs a person, and waits until everything is quiet.
    ///
    /// # Panics
    /// If the person cannot sync.
    pub fn sync(&mut self, who: PersonId) {
        self.ask(who, Intent::Sync).unwrap();
    }

    /// Syncs everybody, twice: what one does may be news to another.
    pub fn sync_all(&mut self) {
        for who in (0..self.people.len()).chain(0..self.people.len()) {
            self.pass(1000);
            self.sync(who);
        }
    }

    /// Starts a person's device again: what it only held in memory is gone.
    pub fn restart(&mut self, who: PersonId) {
        self.flights.retain(|flight| flight.who != who);
        self.waits.retain(|(_, waiting)| *waiting != who);
        self.streams.retain(|stream| stream.who != who);
        self.held.retain(|flight| flight.who != who);
        let person = &mut self.people[who];
        person.processes.fill_with(Logic::new);
        person.store.forget_unsynced();
    }

    // ---- machinery

    /// One step. Returns whether it is durable.
    fn input(&mut self, who: PersonId, input: Input) -> Result<bool, Error> {
        self.steps += 1;
        let crash = self
            .crash
            .filter(|(at, _)| *at == self.steps)
            .map(|(_, crash)| crash);
        let outputs = self.logic_step(who, 0, input, self.now)?;
        if crash == Some(Crash::BeforeSync) {
            self.die(who);
            return Ok(false);
        }
        self.people[who].store.sync();
        let mut calls = Vec::new();
        for output in outputs {
            match output {
                Output::Call { id, to, call } => calls.push(Flight { who, id, to, call }),
                Output::HangUp { id } => {
                    self.streams
                        .retain(|stream| (stream.who, stream.id) != (who, id));
                }
                Output::Event(event) => self.people[who].events.push(event),
                // Streams that broke are begun again by `tick`.
                Output::Wait {
                    pause: Pause::Stream,
                    ..
                } => {}
                Output::Wait { until, .. } => {
                    self.waits.insert((until, who));
                }
            }
        }
        match crash {
            Some(Crash::AfterDelivery) => {
                for flight in &calls {
                    let _ = self.serve(&flight.to, &flight.call);
                }
                self.die(who);
            }
            Some(_) => self.die(who),
            None => self.flights.extend(calls),
        }
        Ok(true)
    }

    /// One step of the logic of a person's process, at the time that its clock shows.
    fn logic_step(
        &mut self,
        who: PersonId,
        process: usize,
        input: Input,
        now: u64,
    ) -> Result<Vec<Output>, Error> {
        let Person {
            store,
            tap,
            processes,
            ..
        } = &mut self.people[who];
        let logic = &mut processes[process];
        let mut rng = Drawn {
            rng: &mut self.rng,
            drawn: self.drawn.as_mut(),
        };
        store.transaction(|tx| match tap {
            Some(tap) => logic.step(&mut Tapped { tx, tap }, input, now, &mut rng),
            None => logic.step(tx, input, now, &mut rng),
        })
    }

    /// A device loses power, and is started again.
    fn die(&mut self, who: PersonId) {
        self.crash = None;
        self.restart(who);
        self.input(who, Input::Resume)
            .expect("a device that starts again can go on");
    }

    /// Carries calls until none is under way and nobody waits for a time that comes soon.
    ///
    /// # Panics
    /// If it never ends.
    pub fn settle(&mut self) {
        let end = self.now + PATIENCE;
        loop {
            while self.deliver() {}
            match self.waits.pop_first() {
                Some((until, who)) if until <= end => {
                    self.now = self.now.max(until);
                    self.input(who, Input::Tick).unwrap();
                }
                _ => return,
            }
        }
    }

    /// Carries calls until the next one is an append, or none is under way.
    ///
    /// # Panics
    /// As [`Sim::deliver`].
    pub fn deliver_until_append(&mut self) {
        let is_append = |flight: &Flight| matches!(flight.call, Call::Append(_));
        while !self.flights.front().is_some_and(is_append) && self.deliver() {}
    }

    /// Carries one call. Returns whether there was one.
    ///
    /// # Panics
    /// If a step fails, or if it never ends.
    pub fn deliver(&mut self) -> bool {
        let awake =
            |stream: &Stream| stream.until <= self.now || stream.woken.load(Ordering::Relaxed);
        let stream = self.streams.iter().position(awake);
        if self.flights.is_empty() && stream.is_none() {
            return false;
        }
        self.calls += 1;
        assert!(self.calls < MOST_CALLS, "the run goes round in circles");
        if let Some(stream) = stream
            && (self.flights.is_empty() || self.rng.next_u32().is_multiple_of(2))
        {
            self.stream_on(stream);
            return true;
        }
        let at = if self.disorder {
            self.rng.next_u32() as usize % self.flights.len()
        } else {
            0
        };
        let Some(Flight {
            who,
            id,
            to,
            mut call,
        }) = self.flights.remove(at)
        else {
            return false;
        };
        self.now += LATENCY;
        if let Some(meddle) = &mut self.meddle {
            meddle(who, &mut call);
        }
        if let Call::Read(ReadRequest { follow: true, .. }) = call {
            self.begin_stream(who, id, call);
            return true;
        }
        let mut result = self.serve(&to, &call);
        if let Some(twist) = &mut self.twist {
            twist(who, &call, &mut result);
        }
        let lost = self.lose > 0 && self.rng.next_u32().is_multiple_of(self.lose);
        let input = if lost {
            let (url, reason) = (to.url, "lost".to_owned());
            Input::Unanswered {
                id,
                error: TransportError::Unreachable { url, reason },
            }
        } else {
            Input::Answer { id, result }
        };
        let step = self.input(who, input);
        assert!(self.tolerant || step.is_ok(), "{step:?}");
        if lost {
            let step = self.input(who, Input::Resume);
            assert!(self.tolerant || step.is_ok(), "{step:?}");
        }
        true
    }

    /// A read that follows reaches the service.
    fn begin_stream(&mut self, who: PersonId, id: CallId, call: Call) {
        let Ok(Call::Read(request)) = Call::decode(call.path(), &call.encode()) else {
            panic!("a call is readable")
        };
        let woken = Arc::new(AtomicBool::new(true));
        let bell = woken.clone();
        let wake = move || bell.store(true, Ordering::Relaxed);
        match self.delivery.begin_read(request, self.now, wake) {
            Ok(reading) => self.streams.push(Stream {
                who,
                id,
                reading,
                woken,
                until: 0,
            }),
            Err(refusal) => {
                let result = Err(refusal);
                self.input(who, Input::Answer { id, result }).unwrap();
            }
        }
    }

    /// What comes next of a stream.
    fn stream_on(&mut self, at: usize) {
        let stream = &mut self.streams[at];
        let (who, id) = (stream.who, stream.id);
        stream.woken.store(false, Ordering::Relaxed);
        let progress = self.delivery.next_batch(&mut stream.reading, self.now);
        let batches = match progress {
            Ok(Progress::CaughtUp { until }) => {
                stream.until = until;
                return;
            }
            Ok(Progress::Batch(batch)) => {
                stream.until = 0;
                vec![batch]
            }
            Ok(Progress::Over) | Err(_) => Vec::new(),
        };
        let over = batches.is_empty();
        let call = Call::Read(ReadRequest::default());
        let mut result = Ok(Answer::Read(ReadResponses { batches }));
        if let (Some(twist), false) = (&mut self.twist, over) {
            twist(who, &call, &mut result);
        }
        let answer = result.map(|answer| {
            Answer::decode(call.path(), &answer.encode()).expect("an answer is readable")
        });
        let input = match answer {
            Ok(answer) if !over => Input::Part { id, answer },
            result => {
                self.streams.remove(at);
                Input::Answer { id, result }
            }
        };
        self.input(who, input).unwrap();
    }

    /// Keeps a person's calls back.
    pub fn hold(&mut self, who: PersonId) {
        let flights = std::mem::take(&mut self.flights);
        let (held, rest): (Vec<_>, Vec<_>) =
            flights.into_iter().partition(|flight| flight.who == who);
        self.held.extend(held);
        self.flights = rest.into();
    }

    /// Lets the calls that were kept back go on.
    pub fn release(&mut self) {
        self.flights.extend(self.held.drain(..));
    }

    /// Lets the calls that were kept back reach the services; nobody hears the answers.
    pub fn release_unanswered(&mut self) {
        for flight in std::mem::take(&mut self.held) {
            let _ = self.serve(&flight.to, &flight.call);
        }
    }

    /// Breaks all streams, as a network does.
    pub fn cut_streams(&mut self) {
        for Stream { who, id, .. } in std::mem::take(&mut self.streams) {
            let (url, reason) = (URL.to_owned(), "cut".to_owned());
            let error = TransportError::Unreachable { url, reason };
            self.input(who, Input::Unanswered { id, error }).unwrap();
        }
    }

    /// How many streams are open.
    #[must_use]
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    /// Tells a person that time has passed, and waits until everything is quiet.
    ///
    /// # Panics
    /// If the step fails.
    pub fn tick(&mut self, who: PersonId) {
        self.input(who, Input::Tick).unwrap();
        self.settle();
    }

    /// Tells a person that time has passed, and no more.
    ///
    /// # Panics
    /// If the step fails.
    pub fn begin_tick(&mut self, who: PersonId) {
        self.input(who, Input::Tick).unwrap();
    }

    /// Carries so many calls.
    pub fn carry(&mut self, calls: usize) {
        for _ in 0..calls {
            self.deliver();
        }
    }

    /// A service's answer; all that passes is bytes.
    ///
    /// # Errors
    /// The service's refusal.
    ///
    /// # Panics
    /// If the call is for another service than the one at its address.
    pub fn serve(&mut self, to: &ServiceAddress, call: &Call) -> Result<Answer, Refusal> {
        let (path, purpose) = (call.path(), call.purpose());
        let call = Call::decode(path, &call.encode()).expect("a call is readable");
        let (now, rng) = (self.now, &mut self.rng);
        let (key, answer) = match purpose {
            Purpose::Account | Purpose::Directory => (
                self.authentication.public_key(),
                self.authentication.answer(call, now, rng),
            ),
            _ => {
                self.heard
                    .iter_mut()
                    .for_each(|heard| heard.push(call.clone()));
                (
                    self.delivery.public_key(),
                    self.delivery.answer(call, now, rng),
                )
            }
        };
        assert_eq!(key, to.key, "{path} goes to the wrong service");
        match answer {
            Ok(mut answer) => {
                if self.short_reads {
                    cut_off(&mut answer);
                }
                Ok(Answer::decode(path, &answer.encode()).expect("an answer is readable"))
            }
            Err(refusal) => {
                Err(Refusal::from_bytes(&refusal.to_bytes()).expect("a refusal is readable"))
            }
        }
    }

    // ---- what people see

    /// A conversation, as a person sees it.
    ///
    /// # Panics
    /// If the person does not know it.
    pub fn conversation(&mut self, who: PersonId, title: &str) -> Conversation {
        self.people[who]
            .store
            .transaction(|tx| views::find(tx, title))
            .unwrap()
    }

    /// Whether a person knows a conversation.
    pub fn knows(&mut self, who: PersonId, title: &str) -> bool {
        self.people[who]
            .store
            .transaction(|tx| views::find(tx, title))
            .is_ok()
    }

    /// The members, as a person sees them.
    ///
    /// # Errors
    /// As [`views::members`].
    ///
    /// # Panics
    /// If the person does not know the conversation.
    pub fn members(&mut self, who: PersonId, title: &str) -> Result<Members, Error> {
        let log = self.conversation(who, title).log;
        self.people[who]
            .store
            .transaction(|tx| views::members(tx, log))
    }

    /// The history, as a person sees it.
    ///
    /// # Panics
    /// If the person does not know the conversation.
    pub fn history(&mut self, who: PersonId, title: &str) -> Vec<HistoryEntry> {
        let log = self.conversation(who, title).log;
        self.people[who]
            .store
            .transaction(|tx| views::history(tx, log, None))
            .unwrap()
    }

    /// What was said, as a person has it: `name: text`.
    ///
    /// # Panics
    /// If the person does not know the conversation.
    pub fn said(&mut self, who: PersonId, title: &str) -> Vec<String> {
        let said = |entry: HistoryEntry| match entry.what {
            What::Message(message) => {
                let text = String::from_utf8_lossy(&message.content).into_owned();
                Some(format!("{}: {text}", message.sender.name))
            }
            _ => None,
        };
        self.history(who, title)
            .into_iter()
            .filter_map(said)
            .collect()
    }

    /// The rows of a person's table.
    ///
    /// # Panics
    /// If the person's store cannot be read.
    pub fn rows(&mut self, who: PersonId, table: Table) -> Vec<Vec<u8>> {
        let rows = self.people[who].store.rows(table);
        let rows = rows.expect("the store works").into_iter();
        rows.map(|(_, value)| value.to_vec()).collect()
    }

    /// The references of a person's KeyPackages.
    fn package_keys(&mut self, who: PersonId) -> BTreeSet<Vec<u8>> {
        let rows = self.people[who].store.rows(Table::Packages);
        let rows = rows.expect("the store works");
        rows.into_iter().map(|(key, _)| key).collect()
    }

    /// How many rows a person's table has.
    ///
    /// # Panics
    /// If the person's store cannot be read.
    pub fn count(&mut self, who: PersonId, table: Table) -> usize {
        self.people[who].store.count(table)
    }
}

// ---- shorthands

/// A message.
#[must_use]
pub fn send(log: folkmoot_protocol::ids::LogId, text: &str) -> Intent {
    Intent::Send {
        log,
        media_type: "text/plain".into(),
        content: text.into(),
    }
}

/// Whatever comes, as it comes.
#[must_use]
pub fn follow(log: folkmoot_protocol::ids::LogId) -> Intent {
    Intent::Follow { log }
}

/// A conversation with others.
#[must_use]
pub fn new(title: &str, users: &[&str]) -> Intent {
    Intent::New {
        title: title.into(),
        users: names(users),
    }
}

/// More people.
#[must_use]
pub fn add(log: folkmoot_protocol::ids::LogId, users: &[&str]) -> Intent {
    Intent::Add {
        log,
        users: names(users),
    }
}

/// One person less.
#[must_use]
pub fn leave(log: folkmoot_protocol::ids::LogId) -> Intent {
    Intent::Leave { log }
}

/// Fewer people.
#[must_use]
pub fn remove(log: folkmoot_protocol::ids::LogId, users: &[&str]) -> Intent {
    Intent::Remove {
        log,
        users: names(users),
    }
}

fn names(users: &[&str]) -> Vec<String> {
    users.iter().map(|user| (*user).to_owned()).collect()
}

/// Leaves a read with its first entry only, as if it had been cut off behind it.
fn cut_off(answer: &mut Answer) {
    let Answer::Read(ReadResponses { batches }) = answer else {
        return;
    };
    let longer = batches.len() > 1 || batches.iter().any(|batch| batch.entries.len() > 1);
    if let (true, Some(first)) = (longer, batches.first_mut()) {
        first.entries.truncate(1);
        first.head = None;
        first.set_end(End::Unspecified);
        batches.truncate(1);
    }
}
