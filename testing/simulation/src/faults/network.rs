//! The world of a run: a clock, devices and services that lose power, and a network that is not kind.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use folkmoot_authentication_service::AuthenticationService;
use folkmoot_client::Error;
use folkmoot_client::logic::{CallId, Input, Logic, Output};
use folkmoot_client::transport::{ServiceAddress, TransportError};
use folkmoot_delivery_service::DeliveryService;
use folkmoot_delivery_service::store::{Crash as ServiceCrash, Store as _};
use folkmoot_protocol::Refusal;
use folkmoot_protocol::call::{Answer, Call, Purpose};
use folkmoot_protocol::delivery::ReadRequest;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

use super::observer::Observer;
use super::people::Act;
use super::streams::Stream;
use super::{Broken, Counts, Rule, Settings, Violation, broken, name};
use crate::services::cut_off;
use crate::{CRASHES, Crash, PersonId, Sim};

/// How long a device waits for an answer, in milliseconds.
const PATIENCE: u64 = 3000;

/// More events than any run needs.
const MOST_EVENTS: u64 = 200_000;

/// Something that will happen.
pub(super) enum Packet {
    /// A call arrives at its service.
    Call(Letter),
    /// Appends that came at the same moment are decided on together.
    Gathered,
    /// An answer arrives at the device.
    Answer {
        of: Process,
        id: CallId,
        result: Result<Answer, Refusal>,
    },
    /// What a stream carries arrives at the device.
    Part {
        of: Process,
        id: CallId,
        answer: Answer,
    },
    /// A stream breaks.
    Broken { of: Process, id: CallId },
    /// A stream has something to show though nothing happened.
    Pump,
    /// A device has waited for long enough.
    Silence {
        of: Process,
        id: CallId,
        url: String,
    },
    /// A process goes on with what was blocked.
    Resume { of: Process },
    /// A time that the logic waited for.
    Tick { of: Process },
    /// A process that ended starts again.
    Start { of: Process },
    /// The Delivery Service starts again.
    ServiceStart,
    /// Somebody does something, or something happens to somebody.
    Act(Act),
}

/// One life of a process of a device: answers to an earlier life reach nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Process {
    pub who: PersonId,
    /// Of the device's processes, which.
    pub number: usize,
    /// How often it was started.
    life: u32,
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number {
            0 => f.write_str(name(self.who)),
            number => write!(f, "{}/{number}", name(self.who)),
        }
    }
}

/// A call on its way.
#[derive(Clone)]
pub(super) struct Letter {
    pub of: Process,
    pub id: CallId,
    pub to: ServiceAddress,
    pub call: Call,
}

/// One device, from outside.
#[derive(Clone, Default)]
pub(super) struct Device {
    /// Of each of its processes how often it was started, and whether it runs.
    lives: Vec<(u32, bool)>,
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
    pub open: BTreeSet<(Process, CallId)>,
    pub streams: Vec<Stream>,
    /// Appends that will be decided on together.
    gathered: Vec<Letter>,
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
        let mut device = |who: PersonId| {
            // Half of all devices run two processes on one home.
            let processes = 1 + rng.next_u32() as usize % 2;
            sim.people[who].processes.resize_with(processes, Logic::new);
            Device {
                skew: i64::from(rng.next_u32() % 1_200_000) - 600_000,
                lives: vec![(0, true); processes],
                ..Device::default()
            }
        };
        Self {
            devices: (0..people).map(&mut device).collect(),
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
            streams: Vec::new(),
            gathered: Vec::new(),
        }
    }

    /// A number below `most`.
    pub(super) fn below(&mut self, most: u64) -> u64 {
        u64::from(self.rng.next_u32()) % most
    }

    /// Whether one in so many happens, while things go wrong.
    pub(super) fn one_in(&mut self, so_many: u64) -> bool {
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
            Packet::Call(letter) => {
                self.arrive(letter)?;
                self.pump()
            }
            Packet::Gathered => {
                self.decide_together()?;
                self.pump()
            }
            Packet::Pump => self.pump(),
            Packet::Answer { of, id, result } => {
                self.open.remove(&(of, id));
                self.step(of, Input::Answer { id, result })
            }
            Packet::Part { of, id, answer } => self.step(of, Input::Part { id, answer }),
            Packet::Broken { of, id } => self.stream_broken(of, id),
            Packet::Silence { of, id, url } => {
                if !self.open.remove(&(of, id)) || !self.lives(of) {
                    return Ok(());
                }
                self.counts.lost += 1;
                let pause = 50 + self.below(2000);
                self.later(pause, Packet::Resume { of });
                let reason = "lost".to_owned();
                let error = TransportError::Unreachable { url, reason };
                self.step(of, Input::Unanswered { id, error })
            }
            Packet::Resume { of } => self.step(of, Input::Resume),
            Packet::Tick { of } => self.step(of, Input::Tick),
            Packet::Start { of } => {
                let life = &mut self.devices[of.who].lives[of.number];
                if life.0 == of.life {
                    life.1 = true;
                    self.say(|| format!("{of} starts again"));
                }
                self.step(of, Input::Resume)
            }
            Packet::ServiceStart => {
                self.start_delivery();
                Ok(())
            }
            Packet::Act(act) => self.act(act),
        }
    }

    fn lives(&self, of: Process) -> bool {
        self.devices[of.who].lives[of.number] == (of.life, true)
    }

    /// A process of a device as it is now.
    pub(super) fn process(&self, who: PersonId, number: usize) -> Process {
        let (life, _) = self.devices[who].lives[number];
        Process { who, number, life }
    }

    /// One of a device's processes.
    pub(super) fn some_process(&mut self, who: PersonId) -> Process {
        let number = self.below(self.devices[who].lives.len() as u64) as usize;
        self.process(who, number)
    }

    // ---- devices

    /// One step of a device's logic.
    pub(super) fn step(&mut self, of: Process, input: Input) -> Result<(), Violation> {
        if !self.lives(of) {
            return Ok(());
        }
        let who = of.who;
        self.counts.steps += 1;
        self.say(|| format!("{of} <- {}", describe(&input)));
        let crash = self
            .one_in(60)
            .then(|| CRASHES[self.below(CRASHES.len() as u64) as usize]);
        let wish = match &input {
            Input::Intent(intent) => Some(intent.clone()),
            _ => None,
        };
        let now = self.sim.now.saturating_add_signed(self.devices[who].skew);
        let before = self.sim.package_keys(who);
        let outputs = match self.sim.logic_step(who, of.number, input, now) {
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
            self.end(of);
            return Ok(());
        }
        self.sim.people[who].store.sync();
        self.observer.wished(wish);
        let mut calls = Vec::new();
        for output in outputs {
            match output {
                Output::Call { id, to, call } => calls.push((id, to, call)),
                Output::HangUp { id } => self.drop_streams(|by, of_call| (by, of_call) == (of, id)),
                Output::Event(event) => {
                    self.say(|| format!("{of} tells {event:?}"));
                    self.observer.told(who, &event)?;
                    self.observer
                        .check_packages(who, &event, &before, &mut self.sim)?;
                }
                Output::Wait { until, .. } => {
                    let skew = self.devices[who].skew;
                    let delay = until
                        .saturating_add_signed(-skew)
                        .saturating_sub(self.sim.now);
                    self.later(delay, Packet::Tick { of });
                }
            }
        }
        for (_, _, call) in &calls {
            self.observer.offered(who, call, &mut self.sim)?;
        }
        if crash != Some(Crash::AfterSync) {
            for (id, to, call) in calls {
                self.send(of, id, to, call);
            }
        }
        if crash.is_some() {
            self.end(of);
        }
        Ok(())
    }

    /// A process ends in the middle of what it does: it alone, or with its device.
    fn end(&mut self, of: Process) {
        if self.devices[of.who].lives.len() > 1 && self.below(2) == 0 {
            self.kill(of);
        } else {
            self.cut_power(of.who);
        }
    }

    /// A process is killed, and started again later. What it did last may be on the disk or not; what
    /// other processes did before is.
    pub(super) fn kill(&mut self, of: Process) {
        if !self.lives(of) {
            return;
        }
        self.say(|| format!("{of} is killed"));
        self.counts.crashes += 1;
        let person = &mut self.sim.people[of.who];
        person.store.forget_unsynced();
        person.processes[of.number] = Logic::new();
        self.stop(of);
    }

    /// A process does not run any more, and is started again later.
    fn stop(&mut self, of: Process) {
        self.drop_streams(|by, _| by == of);
        self.devices[of.who].lives[of.number] = (of.life + 1, false);
        let pause = self.below(6000);
        let of = self.process(of.who, of.number);
        self.later(pause, Packet::Start { of });
    }

    /// A device loses power, and is started again later.
    pub(super) fn cut_power(&mut self, who: PersonId) {
        let processes = 0..self.devices[who].lives.len();
        let mut running: Vec<_> = processes.map(|number| self.process(who, number)).collect();
        running.retain(|of| self.lives(*of));
        if running.is_empty() {
            return;
        }
        self.say(|| format!("{} loses power", name(who)));
        self.counts.crashes += 1;
        self.sim.restart(who);
        for of in running {
            self.stop(of);
        }
    }

    // ---- the network

    pub(super) fn delay(&mut self) -> u64 {
        if self.healed {
            5
        } else if self.below(20) == 0 {
            self.below(6000)
        } else {
            2 + self.below(300)
        }
    }

    pub(super) fn is_cut_off(&self, who: PersonId, service: usize) -> bool {
        !self.healed && self.devices[who].cut_from[service] > self.sim.now
    }

    fn send(&mut self, of: Process, id: CallId, to: ServiceAddress, call: Call) {
        self.open.insert((of, id));
        let url = to.url.clone();
        self.later(PATIENCE, Packet::Silence { of, id, url });
        let letter = Letter { of, id, to, call };
        let service = service_of(&letter.call);
        if self.is_cut_off(of.who, service) || self.one_in(14) {
            self.say(|| format!("lost: {} of {of}", letter.call.path()));
            return;
        }
        let delay = self.delay();
        if !is_follow(&letter.call) && self.one_in(16) {
            self.counts.doubled += 1;
            let later = delay + self.delay();
            self.later(later, Packet::Call(letter.clone()));
        }
        self.later(delay, Packet::Call(letter));
    }

    /// A call arrives at its service.
    fn arrive(&mut self, letter: Letter) -> Result<(), Violation> {
        let service = service_of(&letter.call);
        if service == DELIVERY {
            if self.delivery_is_down() {
                return Ok(());
            }
            if is_follow(&letter.call) {
                // Its device may have given up, or hung up.
                if self.open.contains(&(letter.of, letter.id)) && self.lives(letter.of) {
                    self.begin_stream(letter);
                }
                return Ok(());
            }
            if matches!(letter.call, Call::Append(_)) && self.below(2) == 0 {
                if self.gathered.is_empty() {
                    let wait = self.below(1500);
                    self.later(wait, Packet::Gathered);
                }
                self.gathered.push(letter);
                return Ok(());
            }
            self.perhaps_crash(120);
        } else if self.one_in(40) {
            // What it was asked meanwhile is lost, which is as if it had lost what it wrote for it.
            self.start_authentication();
            return Ok(());
        }
        let result = self.sim.serve(&letter.to, &letter.call);
        if service == DELIVERY && self.delivery_is_down() {
            self.stop_delivery();
            return Ok(());
        }
        self.answered(letter, result)
    }

    /// Once in so many times the Delivery Service loses power while it writes next.
    fn perhaps_crash(&mut self, one_in: u64) {
        if self.one_in(one_in) {
            let crash = match self.below(2) {
                0 => ServiceCrash::BeforeSync,
                _ => ServiceCrash::AfterSync,
            };
            self.sim.disk.crash_at_next_write(crash);
        }
    }

    /// Appends that came at the same moment share a transaction.
    fn decide_together(&mut self) -> Result<(), Violation> {
        let letters = std::mem::take(&mut self.gathered);
        if self.delivery_is_down() {
            return Ok(());
        }
        let requests: Vec<_> = letters
            .iter()
            .filter_map(
                |letter| match Call::decode(letter.call.path(), &letter.call.encode()) {
                    Ok(Call::Append(request)) => Some(request),
                    _ => None,
                },
            )
            .collect();
        if requests.len() > 1 {
            self.counts.grouped += requests.len() as u64;
            self.say(|| format!("{} appends share a transaction", requests.len()));
        }
        self.perhaps_crash(if requests.len() > 1 { 15 } else { 120 });
        let answers = self.sim.delivery.append_all(requests, self.sim.now);
        if self.delivery_is_down() {
            self.stop_delivery();
            return Ok(());
        }
        for (letter, answer) in letters.into_iter().zip(answers) {
            let result = match answer {
                Ok(receipt) => Ok(Answer::Append(receipt)),
                Err(refusal) => Err(refusal),
            };
            self.answered(letter, result)?;
        }
        Ok(())
    }

    /// A service answers.
    fn answered(
        &mut self,
        letter: Letter,
        mut result: Result<Answer, Refusal>,
    ) -> Result<(), Violation> {
        let Letter { of, id, call, .. } = letter;
        self.say(|| {
            let path = call.path();
            match &result {
                Ok(_) => format!("{path} of {of}: answered"),
                Err(refusal) => format!("{path} of {of}: {refusal}"),
            }
        });
        if let Err(Refusal::Conflict(..)) = result {
            self.counts.conflicts += 1;
        }
        self.observer.answered(of.who, &call, &result)?;
        if self.is_cut_off(of.who, service_of(&call)) || self.one_in(14) {
            return Ok(());
        }
        if self.one_in(6)
            && let Ok(answer) = &mut result
        {
            cut_off(answer);
        }
        let delay = self.delay();
        self.later(delay, Packet::Answer { of, id, result });
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
        self.gathered.clear();
        self.break_streams();
        let pause = self.below(5000);
        self.later(pause, Packet::ServiceStart);
    }

    pub(super) fn start_delivery(&mut self) {
        self.say(|| "the Delivery Service starts again".into());
        self.sim.disk.restart();
        self.break_streams();
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
pub(super) const DELIVERY: usize = 1;

/// Whether a call's answer comes in parts.
fn is_follow(call: &Call) -> bool {
    matches!(call, Call::Read(ReadRequest { follow: true, .. }))
}

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
        Input::Part { id, .. } => format!("part of {}", id.0),
        Input::Unanswered { id, .. } => format!("no answer {}", id.0),
        other => format!("{other:?}"),
    }
}
