//! Power is lost at every step of a run, in every way; answers are lost. Nothing else is.

use folkmoot_client::logic::Intent;
use folkmoot_client::store::Table;
use folkmoot_client::{Standing, What};
use folkmoot_simulation::{CRASHES, Crash, Sim, add, new, remove, send};

const ALICE: usize = 0;
const BOB: usize = 1;
const CHARLIE: usize = 2;

/// Registers, talks, renews, removes. What must hold at the end is checked here too.
fn run(sim: &mut Sim) {
    for name in ["alice", "bob", "charlie"] {
        let who = sim.join(name);
        let intent = sim.registration(name);
        sim.ask(who, intent).unwrap();
    }
    sim.ask(ALICE, new("moot", &["bob"])).unwrap();
    let log = sim.conversation(ALICE, "moot").log;
    sim.sync(BOB);
    sim.ask(BOB, send(log, "one")).unwrap();
    sim.ask(ALICE, send(log, "two")).unwrap();
    sim.ask(ALICE, add(log, &["charlie"])).unwrap();
    sim.sync(CHARLIE);
    sim.ask(CHARLIE, send(log, "three")).unwrap();
    sim.ask(CHARLIE, Intent::Update { log }).unwrap();
    sim.ask(BOB, remove(log, &["charlie"])).unwrap();
    sim.ask(BOB, send(log, "four")).unwrap();
    sim.sync_all();

    assert_eq!(
        sim.said(ALICE, "moot"),
        ["bob: one", "alice: two", "charlie: three", "bob: four"]
    );
    assert_eq!(sim.said(BOB, "moot"), sim.said(ALICE, "moot"));
    assert_eq!(sim.said(CHARLIE, "moot"), ["charlie: three"]);
    assert_eq!(
        sim.conversation(CHARLIE, "moot").standing,
        Standing::Removed
    );
    let [alice, bob] = [ALICE, BOB].map(|who| sim.conversation(who, "moot"));
    assert_eq!(alice.epoch, 4);
    assert_eq!(alice.epoch_authenticator, bob.epoch_authenticator);
    assert_eq!((alice.sequence, alice.waiting), (bob.sequence, bob.waiting));
    let epochs = |sim: &mut Sim, who| -> Vec<u64> {
        let number = |what| {
            if let What::Epoch(epoch) = what {
                Some(epoch.number)
            } else {
                None
            }
        };
        sim.history(who, "moot")
            .into_iter()
            .filter_map(|line| number(line.what))
            .collect()
    };
    assert_eq!(epochs(sim, ALICE), [1, 2, 3, 4]);
    assert_eq!(epochs(sim, BOB), [1, 2, 3, 4]);
    assert_eq!(epochs(sim, CHARLIE), [2, 3]);
    // Used and given up keys are gone.
    for who in [ALICE, BOB] {
        assert_eq!(sim.count(who, Table::Fences), 1);
    }
    for who in [ALICE, BOB, CHARLIE] {
        for table in [Table::Outbox, Table::Attempts, Table::Invitations] {
            assert_eq!(sim.count(who, table), 0, "{table:?}");
        }
    }
    for table in [Table::Fences, Table::Records] {
        assert_eq!(sim.count(CHARLIE, table), 0);
    }
}

fn steps() -> usize {
    let mut sim = Sim::empty(7);
    run(&mut sim);
    sim.steps
}

fn crash_everywhere(crash: Crash) {
    for at in 1..=steps() {
        let mut sim = Sim::empty(7);
        sim.crash = Some((at, crash));
        println!("power is lost at step {at}, {crash:?}");
        run(&mut sim);
        assert_eq!(sim.crash, None, "the crash took place");
    }
}

#[test]
fn power_is_lost_before_a_step_is_durable() {
    crash_everywhere(CRASHES[0]);
}

#[test]
fn power_is_lost_before_calls_leave() {
    crash_everywhere(CRASHES[1]);
}

#[test]
fn power_is_lost_before_answers_come() {
    crash_everywhere(CRASHES[2]);
}

#[test]
fn answers_are_lost() {
    for seed in 0..20 {
        let mut sim = Sim::empty(seed);
        sim.lose = 4;
        println!("seed {seed}");
        run(&mut sim);
    }
}

#[test]
fn reads_are_cut_off_and_go_on() {
    let mut sim = Sim::empty(7);
    sim.short_reads = true;
    run(&mut sim);
}
