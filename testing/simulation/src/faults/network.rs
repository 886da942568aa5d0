//! The world of a run: a clock, devices and services that lose power, and a network that is not kind.

use std::collections::{BTreeMap, BTreeSet};

use folkmoot_authentication_service::AuthenticationService;
use folkmoot_client::Error;
use folkmoot_client::logic::{CallId, Input, Output};
use folkmoot_client::store::Store;
use folkmoot_client::transport::{ServiceAddress, TransportError};
use folkmoot_delivery_service::DeliveryService;
use folkmoot_delivery_service::store::{Crash as ServiceCrash, Store as _};
use folkmoot_protocol::Refusal;
use folkmoot_protocol::call::{Answer, Call, Purpose};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

use super::observer::Observer;
use super::people::Act;
use super::{Broken, Counts, Rule, Settings, Violation, broken, name};
use crate::{CRASHES, Crash, PersonId, Sim, cut_off};

/// How long a device waits for an answer, in milliseconds.
const PATIENCE: u64 = 3000;

/// More events than any run needs.
const MOST_EVENTS: u64 = 200_000;

/// Something that will happen.
pub(super) enum Packet {
    /// A call arrives at its service.
    Call(Letter),
    /// An answer arrives at the device.
    Answer {
        who: PersonId,
        life: u32,
        id: CallId,
        result: Result<Answer, Refusal>,
    },
    /// A device has waited for long enough.
    Silence {
        who: PersonId,
        life: u32,
        id: CallId,
        url: String,
    },
    /// A device goes on with what was blocked.
    Resume { who: PersonId, life: u32 },
    /// A time that the logic waited for.
    Tick { who: PersonId, life: u32 },
    /// A device that lost power starts again.
    Start { who: PersonId },
    /// The Delivery Service starts again.
    ServiceStart,
    /// Somebody does something, or something happens to somebody.
    Act(Act),
}

/// A call on its way.
#[derive(Clone)]
pub(super) struct Letter {
    who: PersonId,
    life: u32,
    id: CallId,
    to: ServiceAddress,
    call: Call,
}

/// One device, from outside.
#[derive(Clone, Default)]
pub(super) struct Device {
    /// How often it was started: answers to an earlier life reach nobody.
    pub life: u32,
    pub down: bool,
    /// How wrong its clock is, in milliseconds.
    pub skew: i64,
    /// Until when it cannot reach the Authentication and the Delivery Service.
    pub cut_from: [u64; 2],
}

pub(super) struct World {
    pub sim: Sim,
    pub rng: ChaCha20Rng,
    pub observer: Observer,
    pub devices: Vec<Device>,
    /// Whether nothing goes wrong any more.
    pub healed: bool,
    pub counts: Counts,
    pub settings: Settings,
    pub trace: Vec<String>,
    queue: BTreeMap<(u64, u64), Packet>,
    events: u64,
    /// Calls that wait for an answer.
    open: BTreeSet<(PersonId, u32, CallId)>,
}

impl World {
    pub(super) fn new(seed: u64, people: usize, settings: &Settings) -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(seed ^ 0x6661_756c_7473);
        let mut sim = Sim::empty(seed);
        for who in 0..people {
            sim.join(name(who));
            if settings.broken == Some(Broken::StateTogether) {
                sim.people[who].store.split_transactions();
            }
        }
        if settings.broken == Some(Broken::WelcomesTogether) {
            sim.disk.split_transactions();
        }
        build_delivery(&mut sim);
        let device = |_| Device {
            skew: i64::from(rng.next_u32() % 1_200_000) - 600_000,
            ..Device::default()
        };
        Self {
            devices: (0..people).map(device).collect(),
            sim,
            rng,
            observer: Observer::default(),
            healed: false,
            counts: Counts::default(),
            settings: settings.clone(),
            trace: Vec::new(),
            queue: BTreeMap::new(),
            events: 0,
            open: BTreeSet::new(),
        }
    }

    /// A number below `most`.
    pub(super) fn below(&mut self, most: u64) -> u64 {
        u64::from(self.rng.next_u32()) % most
    }

    /// Whether one in so many happens, while things go wrong.
    fn one_in(&mut self, so_many: u64) -> bool {
        !self.healed && self.below(so_many) == 0
    }

    pub(super) fn say(&mut self, line: impl FnOnce() -> String) {
        if self.settings.trace {
            let time = self.sim.now - crate::BEGINNING;
            self.trace.push(format!("{time:>9} ms  {}", line()));
        }
    }

    /// Lets something happen, in so many milliseconds.
    pub(super) fn later(&mut self, delay: u64, packet: Packet) {
        self.events += 1;
        self.queue
            .insert((self.sim.now + delay, self.events), packet);
    }

    /// Lets everything happen that will.
    pub(super) fn run(&mut self) -> Result<(), Violation> {
        while let Some(((time, _), packet)) = self.queue.pop_first() {
            if self.events > MOST_EVENTS {
                return broken(Rule::Honest, "the run goes round in circles");
            }
            self.sim.now = self.sim.now.max(time);
            self.happen(packet)?;
        }
        Ok(())
    }

    fn happen(&mut self, packet: Packet) -> Result<(), Violation> {
        match packet {
            Packet::Call(letter) => self.arrive(letter),
            Packet::Answer {
                who,
                life,
                id,
                result,
            } => {
                self.open.remove(&(who, life, id));
                if self.lives(who, life) {
                    self.step(who, Input::Answer { id, result })
                } else {
                    Ok(())
                }
            }
            Packet::Silence { who, life, id, url } => {
                if !self.open.remove(&(who, life, id)) || !self.lives(who, life) {
                    return Ok(());
                }
                self.counts.lost += 1;
                let pause = 50 + self.below(2000);
                self.later(pause, Packet::Resume { who, life });
                let reason = "lost".to_owned();
                let error = TransportError::Unreachable { url, reason };
                self.step(who, Input::Unanswered { id, error })
            }
            Packet::Resume { who, life } if self.lives(who, life) => self.step(who, Input::Resume),
            Packet::Tick { who, life } if self.lives(who, life) => self.step(who, Input::Tick),
            Packet::Resume { .. } | Packet::Tick { .. } => Ok(()),
            Packet::Start { who } => {
                self.devices[who].down = false;
                self.say(|| format!("{} starts again", name(who)));
                self.step(who, Input::Resume)
            }
            Packet::ServiceStart => {
                self.start_delivery();
                Ok(())
            }
            Packet::Act(act) => self.act(act),
        }
    }

    fn lives(&self, who: PersonId, life: u32) -> bool {
        self.devices[who].life == life && !self.devices[who].down
    }

    // ---- devices

    /// One step of a device's logic.
    pub(super) fn step(&mut self, who: PersonId, input: Input) -> Result<(), Violation> {
        if self.devices[who].down {
            return Ok(());
        }
        self.counts.steps += 1;
        self.say(|| format!("{} <- {}", name(who), describe(&input)));
        let crash = self
            .one_in(60)
            .then(|| CRASHES[self.below(CRASHES.len() as u64) as usize]);
        let wish = match &input {
            Input::Intent(intent) => Some(intent.clone()),
            _ => None,
        };
        let now = self.sim.now.saturating_add_signed(self.devices[who].skew);
        let before = self.sim.package_keys(who);
        let person = &mut self.sim.people[who];
        let (logic, rng) = (&mut person.logic, &mut self.sim.rng);
        let outputs = match person
            .store
            .transaction(|tx| logic.step(tx, input, now, rng))
        {
            Ok(outputs) => outputs,
            // What cannot be is told at once, and nothing is kept.
            Err(error) if wish.is_some() => {
                self.say(|| format!("{} hears: {error}", name(who)));
                return match error {
                    Error::Store(_) | Error::Engine(_) => {
                        broken(Rule::Honest, format!("{}: {error}", name(who)))
                    }
                    _ => Ok(()),
                };
            }
            Err(error) => return broken(Rule::Honest, format!("{}: {error}", name(who))),
        };
        if crash == Some(Crash::BeforeSync) {
            self.cut_power(who);
            return Ok(());
        }
        self.sim.people[who].store.sync();
        self.observer.wished(wish);
        let mut calls = Vec::new();
        for output in outputs {
            match output {
                Output::Call { id, to, call } => calls.push((id, to, call)),
                // Nobody follows here.
                Output::HangUp { .. } => {}
                Output::Event(event) => {
                    self.say(|| format!("{} tells {event:?}", name(who)));
                    self.observer.told(who, &event)?;
                    self.observer
                        .check_packages(who, &event, &before, &mut self.sim)?;
                }
                Output::Wait { until, .. } => {
                    let skew = self.devices[who].skew;
                    let delay = until
                        .saturating_add_signed(-skew)
                        .saturating_sub(self.sim.now);
                    let life = self.devices[who].life;
                    self.later(delay, Packet::Tick { who, life });
                }
            }
        }
        for (_, _, call) in &calls {
            self.observer.offered(who, call, &mut self.sim)?;
        }
        if crash != Some(Crash::AfterSync) {
            for (id, to, call) in calls {
                self.send(who, id, to, call);
            }
        }
        if crash.is_some() {
            self.cut_power(who);
        }
        Ok(())
    }

    /// A device loses power, and is started again later.
    pub(super) fn cut_power(&mut self, who: PersonId) {
        if self.devices[who].down {
            return;
        }
        self.say(|| format!("{} loses power", name(who)));
        self.counts.crashes += 1;
        self.sim.restart(who);
        self.devices[who].life += 1;
        self.devices[who].down = true;
        let pause = self.below(6000);
        self.later(pause, Packet::Start { who });
    }

    // ---- the network

    fn delay(&mut self) -> u64 {
        if self.healed {
            5
        } else if self.below(20) == 0 {
            self.below(6000)
        } else {
            2 + self.below(300)
        }
    }

    fn is_cut_off(&self, who: PersonId, service: usize) -> bool {
        !self.healed && self.devices[who].cut_from[service] > self.sim.now
    }

    fn send(&mut self, who: PersonId, id: CallId, to: ServiceAddress, call: Call) {
        let life = self.devices[who].life;
        self.open.insert((who, life, id));
        let url = to.url.clone();
        self.later(PATIENCE, Packet::Silence { who, life, id, url });
        let letter = Letter {
            who,
            life,
            id,
            to,
            call,
        };
        let service = service_of(&letter.call);
        if self.is_cut_off(who, service) || self.one_in(14) {
            self.say(|| format!("lost: {} of {}", letter.call.path(), name(who)));
            return;
        }
        let delay = self.delay();
        if self.one_in(16) {
            self.counts.doubled += 1;
            let later = delay + self.delay();
            self.later(later, Packet::Call(letter.clone()));
        }
        self.later(delay, Packet::Call(letter));
    }

    /// A call arrives at its service.
    fn arrive(&mut self, letter: Letter) -> Result<(), Violation> {
        let Letter {
            who,
            life,
            id,
            to,
            call,
        } = letter;
        let service = service_of(&call);
        if service == DELIVERY {
            if self.delivery_is_down() {
                return Ok(());
            }
            if self.one_in(120) {
                let crash = match self.below(2) {
                    0 => ServiceCrash::BeforeSync,
                    _ => ServiceCrash::AfterSync,
                };
                self.sim.disk.crash_at_next_write(crash);
            }
        } else if self.one_in(40) {
            // What it was asked meanwhile is lost, which is as if it had lost what it wrote for it.
            self.start_authentication();
            return Ok(());
        }
        let mut result = self.sim.serve(&to, &call);
        if service == DELIVERY && self.delivery_is_down() {
            self.stop_delivery();
            return Ok(());
        }
        self.say(|| {
            let (path, who) = (call.path(), name(who));
            match &result {
                Ok(_) => format!("{path} of {who}: answered"),
                Err(refusal) => format!("{path} of {who}: {refusal}"),
            }
        });
        if let Err(Refusal::Conflict(..)) = result {
            self.counts.conflicts += 1;
        }
        self.observer.answered(who, &call, &result)?;
        if self.is_cut_off(who, service) || self.one_in(14) {
            return Ok(());
        }
        if self.one_in(6)
            && let Ok(answer) = &mut result
        {
            cut_off(answer);
        }
        let delay = self.delay();
        let answer = Packet::Answer {
            who,
            life,
            id,
            result,
        };
        self.later(delay, answer);
        Ok(())
    }

    // ---- services

    fn delivery_is_down(&self) -> bool {
        self.sim.disk.read(|_| Ok(())).is_err()
    }

    /// The Delivery Service loses power.
    pub(super) fn stop_delivery(&mut self) {
        self.say(|| "the Delivery Service loses power".into());
        self.counts.restarts += 1;
        self.sim.disk.crash();
        let pause = self.below(5000);
        self.later(pause, Packet::ServiceStart);
    }

    pub(super) fn start_delivery(&mut self) {
        self.say(|| "the Delivery Service starts again".into());
        self.sim.disk.restart();
        build_delivery(&mut self.sim);
    }

    fn start_authentication(&mut self) {
        self.say(|| "the Authentication Service starts again".into());
        self.counts.restarts += 1;
        let sim = &mut self.sim;
        let (store, key) = (
            sim.authentication_store.clone(),
            sim.authentication_secret.clone(),
        );
        let domain = sim.authentication.domain().clone();
        sim.authentication = AuthenticationService::new(store, key, domain);
    }

    /// Nothing goes wrong from now on.
    pub(super) fn heal(&mut self) {
        self.say(|| "everything heals".into());
        self.healed = true;
        self.start_delivery();
    }
}

/// A Delivery Service over what it has stored. That its store is down is nothing to report here.
fn build_delivery(sim: &mut Sim) {
    let (store, key) = (sim.disk.clone(), sim.delivery_secret.clone());
    sim.delivery = DeliveryService::new(store, key, &mut sim.rng).on_failure(|_| ());
}

/// Index of the Delivery Service among the services.
const DELIVERY: usize = 1;

fn service_of(call: &Call) -> usize {
    match call.purpose() {
        Purpose::Account | Purpose::Directory => 0,
        _ => DELIVERY,
    }
}

fn describe(input: &Input) -> String {
    match input {
        Input::Answer {
            id,
            result: Ok(answer),
        } => {
            let kind = format!("{answer:?}");
            let kind = kind.split('(').next().unwrap_or_default().to_owned();
            format!("answer {}: {kind}", id.0)
        }
        Input::Answer {
            id,
            result: Err(refusal),
        } => format!("answer {}: {refusal}", id.0),
        Input::Unanswered { id, .. } => format!("no answer {}", id.0),
        other => format!("{other:?}"),
    }
}
