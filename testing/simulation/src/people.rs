//! People: what their devices are, what they ask for, and each step that a device makes.

use folkmoot_client::logic::{Input, Intent, IntentId, Logic, Output, Pause};
use folkmoot_client::store::{MemoryStore, Store};
use folkmoot_client::transport::ServiceAddress;
use folkmoot_client::{Error, Event};

use crate::disk::{Disk, Drawn, Tap, Tapped};
use crate::network::Flight;
use crate::{DOMAIN, PersonId, Sim, URL};

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
    pub(crate) processes: Vec<Logic>,
    /// What it was told, since it was asked last.
    pub events: Vec<Event>,
}

impl Sim {
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

    /// Puts a person's device back to an old copy of its store.
    pub fn restore(&mut self, who: PersonId, copy: MemoryStore) {
        self.restart(who);
        self.people[who].store = Disk::Memory(copy);
    }

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

    /// One step. Returns whether it is durable.
    pub(crate) fn input(&mut self, who: PersonId, input: Input) -> Result<bool, Error> {
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
    pub(crate) fn logic_step(
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
}
