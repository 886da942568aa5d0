//! What people do, and what happens to them.

use folkmoot_client::Standing;
use folkmoot_client::logic::{Input, Intent};
use folkmoot_client::store::Store;
use folkmoot_client::views::{self, Conversation};
use folkmoot_delivery_service::sabotage;

use super::network::{Packet, World};
use super::{Broken, Outcome, Settings, Violation, broken, check, name};
use crate::PersonId;

/// How long things go wrong, in milliseconds.
pub(super) const SPAN: u64 = 60_000;

/// At most so many rounds of syncing until it is quiet.
const ROUNDS: usize = 30;

/// Longer than a joiner pauses between two looks, and than any grace, in milliseconds.
const ROUND: u64 = 3_700_000;

/// Something that happens at a time that was drawn beforehand.
#[derive(Clone, Copy, Debug)]
pub(super) enum Act {
    /// Somebody does something.
    Wish(PersonId),
    /// Somebody's device loses power.
    CutPower(PersonId),
    /// One of somebody's processes is killed.
    Kill(PersonId),
    /// The Delivery Service loses power.
    StopDelivery,
    /// Somebody cannot reach a service for so many milliseconds.
    CutOff(PersonId, usize, u64),
}

/// Makes the run that a seed names.
#[must_use]
pub fn run(seed: u64, settings: &Settings) -> Outcome {
    let broken = match settings.broken {
        Some(Broken::CompareAndSet) => Some(sabotage::Guard::CompareAndSet),
        Some(Broken::RepeatedAppend) => Some(sabotage::Guard::RepeatedAppend),
        Some(Broken::Cut) => Some(sabotage::Guard::Cut),
        Some(Broken::OneAfterAnother) => Some(sabotage::Guard::OneAfterAnother),
        _ => None,
    };
    let held = (settings.broken == Some(Broken::HeldGroup))
        .then_some(folkmoot_client::sabotage::Guard::HeldGroup);
    let mut world = World::new(seed, 2 + (seed % 7) as usize, settings);
    let result = sabotage::without(broken, || {
        folkmoot_client::sabotage::without(held, || {
            world.live().and_then(|()| check::check(&mut world))
        })
    });
    let logs = world.observer.logs.values();
    for entry in logs.flat_map(|log| log.entries.values()) {
        world.counts.entries += 1;
        world.counts.commits += u64::from(entry.append.commit.is_some());
    }
    Outcome {
        trace: world.trace,
        counts: world.counts,
        result,
    }
}

impl World {
    /// Everything that happens in a run, until it is quiet.
    fn live(&mut self) -> Result<(), Violation> {
        self.register()?;
        let people = self.devices.len() as u64;
        for _ in 0..20 + self.below(25) {
            let who = self.below(people) as usize;
            self.plan(Act::Wish(who));
        }
        for _ in 0..self.below(3) {
            let who = self.below(people) as usize;
            self.plan(Act::CutPower(who));
        }
        for _ in 0..self.below(3) {
            let who = self.below(people) as usize;
            self.plan(Act::Kill(who));
        }
        for _ in 0..self.below(3) {
            self.plan(Act::StopDelivery);
        }
        for _ in 0..self.below(4) {
            let (who, service) = (self.below(people) as usize, self.below(2) as usize);
            let time = self.below(15_000);
            self.plan(Act::CutOff(who, service, time));
        }
        self.run()?;
        self.heal();
        self.run()?;
        self.finish_registering()?;
        self.quiet()?;
        self.go_on()?;
        self.quiet()
    }

    fn plan(&mut self, act: Act) {
        let at = self.below(SPAN);
        self.later(at, Packet::Act(act));
    }

    pub(super) fn act(&mut self, act: Act) -> Result<(), Violation> {
        match act {
            Act::Wish(who) => {
                let intent = self.wish(who);
                let of = self.some_process(who);
                self.step(of, Input::Intent(intent))
            }
            Act::Kill(who) => {
                let of = self.some_process(who);
                self.kill(of);
                Ok(())
            }
            Act::CutPower(who) => {
                self.cut_power(who);
                Ok(())
            }
            Act::StopDelivery => {
                self.stop_delivery();
                Ok(())
            }
            Act::CutOff(who, service, time) => {
                let until = self.sim.now() + time;
                self.devices[who].cut_from[service] = until;
                self.say(|| format!("{} is cut off from {service} for {time} ms", name(who)));
                Ok(())
            }
        }
    }

    /// One of somebody's processes is asked for something.
    fn ask(&mut self, who: PersonId, input: Input) -> Result<(), Violation> {
        let of = self.some_process(who);
        self.step(of, input)
    }

    /// Somebody's account, most of the time in peace.
    fn register(&mut self) -> Result<(), Violation> {
        self.healed = self.below(4) != 0;
        for who in 0..self.devices.len() {
            let intent = self.sim.registration(name(who));
            self.ask(who, Input::Intent(intent))?;
            self.run()?;
        }
        self.healed = false;
        Ok(())
    }

    fn finish_registering(&mut self) -> Result<(), Violation> {
        for who in 0..self.devices.len() {
            let account = self.sim.people[who]
                .store
                .transaction(|tx| views::account(tx));
            let ready = matches!(account, Ok(Some(account)) if account.ready);
            if !ready {
                let intent = self.sim.registration(name(who));
                self.ask(who, Input::Intent(intent))?;
                self.run()?;
            }
        }
        Ok(())
    }

    pub(super) fn conversations(&mut self, who: PersonId) -> Vec<Conversation> {
        self.sim.people[who]
            .store
            .transaction(|tx| views::conversations(tx))
            .unwrap_or_default()
    }

    /// What somebody wants.
    fn wish(&mut self, who: PersonId) -> Intent {
        let conversations = self.conversations(who);
        let known = conversations.len() as u64;
        let founding = known == 0 && (who < 2 || self.below(8) == 0);
        if founding || (known < 2 && self.below(40) == 0) {
            let title = format!("{}'s {known}", name(who));
            let users = (0..self.below(3)).map(|_| self.somebody()).collect();
            return Intent::New { title, users };
        }
        if known == 0 {
            return Intent::Sync;
        }
        let log = conversations[self.below(known) as usize].log;
        match self.below(20) {
            0..=8 => {
                let content = format!("{} {}", name(who), self.counts.steps);
                crate::send(log, &content)
            }
            9..=10 => Intent::Update { log },
            11..=13 => {
                let users = vec![self.somebody()];
                Intent::Add { log, users }
            }
            14 if self.below(2) == 0 => Intent::Leave { log },
            14..=15 => {
                let users = vec![self.somebody()];
                Intent::Remove { log, users }
            }
            16 => Intent::Follow { log },
            17 if self.below(2) == 0 => Intent::Follow { log },
            _ => Intent::Sync,
        }
    }

    fn somebody(&mut self) -> String {
        let people = self.devices.len() as u64;
        name(self.below(people) as usize).to_owned()
    }

    /// Everybody syncs until nothing changes any more.
    fn quiet(&mut self) -> Result<(), Violation> {
        let mut before = Vec::new();
        let mut same = 0;
        for _ in 0..ROUNDS {
            for who in 0..self.devices.len() {
                self.ask(who, Input::Intent(Intent::Sync))?;
                self.run()?;
            }
            self.sim.pass(ROUND);
            let now: Vec<_> = (0..self.devices.len())
                .map(|who| self.conversations(who))
                .collect();
            same = if now == before { same + 1 } else { 0 };
            before = now;
            if same == 3 {
                return Ok(());
            }
        }
        broken(super::Rule::Honest, "it never becomes quiet")
    }

    /// What has survived can be used: in every conversation somebody renews its keys, everybody talks.
    fn go_on(&mut self) -> Result<(), Violation> {
        for who in 0..self.devices.len() {
            for known in self.conversations(who) {
                if known.standing != Standing::Member {
                    continue;
                }
                let log = known.log;
                let content = format!("{} at last", name(who));
                self.ask(who, Input::Intent(crate::send(log, &content)))?;
                self.ask(who, Input::Intent(Intent::Update { log }))?;
            }
        }
        self.run()
    }
}
