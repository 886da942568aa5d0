//! People leave; whoever is online carries it out. Proposals come before messages, by rank.

use folkmoot_client::logic::Intent;
use folkmoot_client::store::Table;
use folkmoot_client::{Error, Standing, What};
use folkmoot_protocol::ids::LogId;
use folkmoot_simulation::{CRASHES, Sim, add, leave, new, remove, send};

const ALICE: usize = 0;
const BOB: usize = 1;
const CHARLIE: usize = 2;

fn moot(seed: u64, people: &[&str]) -> (Sim, LogId) {
    let mut sim = Sim::new(seed, people);
    sim.ask(ALICE, new("moot", &people[1..])).unwrap();
    sim.sync_all();
    let log = sim.conversation(ALICE, "moot").log;
    (sim, log)
}

fn standing(sim: &mut Sim, who: usize) -> Standing {
    sim.conversation(who, "moot").standing
}

fn agree(sim: &mut Sim, people: &[usize]) {
    let seen: Vec<_> = people
        .iter()
        .map(|who| sim.conversation(*who, "moot"))
        .collect();
    for pair in seen.windows(2) {
        assert_eq!(pair[0].epoch_authenticator, pair[1].epoch_authenticator);
        assert_eq!(pair[0].sequence, pair[1].sequence);
    }
    assert!(seen.iter().all(|seen| seen.waiting == 0));
}

/// Whether somebody's history says that a person left.
fn saw_leave(sim: &mut Sim, who: usize, leaver: &str) -> bool {
    sim.history(who, "moot")
        .iter()
        .any(|line| matches!(&line.what, What::Left(left) if left.by.name.to_string() == leaver))
}

#[test]
fn who_leaves_is_out_as_soon_as_another_is_online() {
    let (mut sim, log) = moot(1, &["alice", "bob", "charlie"]);
    sim.ask(BOB, send(log, "goodbye")).unwrap();
    assert_eq!(sim.ask(BOB, leave(log)), Ok(()));
    assert!(sim.conversation(BOB, "moot").leaving);
    assert_eq!(standing(&mut sim, BOB), Standing::Member);
    // A leaver sends nothing more.
    for intent in [send(log, "oh"), Intent::Update { log }, leave(log)] {
        assert_eq!(sim.ask(BOB, intent), Err(Error::Leaving("moot".into())));
    }
    sim.sync(CHARLIE);
    sim.sync(BOB);
    assert_eq!(standing(&mut sim, BOB), Standing::Left);
    assert!(!sim.conversation(BOB, "moot").leaving);
    sim.sync_all();
    agree(&mut sim, &[ALICE, CHARLIE]);
    assert_eq!(sim.members(ALICE, "moot").unwrap().members.len(), 2);
    for who in [ALICE, BOB, CHARLIE] {
        assert!(saw_leave(&mut sim, who, "bob"));
        assert_eq!(sim.said(who, "moot"), ["bob: goodbye"], "history is kept");
    }
    for table in [
        Table::Records,
        Table::Fences,
        Table::Attempts,
        Table::Outbox,
    ] {
        assert_eq!(sim.count(BOB, table), 0, "{table:?}");
    }
    assert_eq!(
        sim.ask(BOB, send(log, "?")),
        Err(Error::Left("moot".into()))
    );
    // And can come back.
    sim.ask(ALICE, add(log, &["bob"])).unwrap();
    sim.sync_all();
    sim.ask(BOB, send(log, "back")).unwrap();
    sim.sync_all();
    agree(&mut sim, &[ALICE, BOB, CHARLIE]);
}

#[test]
fn a_message_carries_the_leave_out_first() {
    let (mut sim, log) = moot(2, &["alice", "bob", "charlie"]);
    sim.ask(BOB, leave(log)).unwrap();
    let epoch = sim.conversation(ALICE, "moot").epoch;
    sim.restart(ALICE);
    assert_eq!(sim.ask(ALICE, send(log, "without bob")), Ok(()));
    assert_eq!(sim.conversation(ALICE, "moot").epoch, epoch + 1);
    sim.sync(BOB);
    assert_eq!(standing(&mut sim, BOB), Standing::Left);
    assert_eq!(sim.said(BOB, "moot"), Vec::<String>::new());
    sim.sync_all();
    agree(&mut sim, &[ALICE, CHARLIE]);
    assert_eq!(sim.said(CHARLIE, "moot"), ["alice: without bob"]);
}

#[test]
fn any_commit_takes_the_leave_along() {
    for seed in 0..4 {
        let (mut sim, log) = moot(seed, &["alice", "bob", "charlie"]);
        sim.ask(BOB, leave(log)).unwrap();
        // Too late to say that it was not seen, wherever Alice stopped reading.
        sim.pass(2001);
        let epoch = sim.conversation(ALICE, "moot").epoch;
        let intent = [
            Intent::Update { log },
            remove(log, &["charlie"]),
            remove(log, &["bob"]),
            remove(log, &["bob", "charlie"]),
        ];
        assert_eq!(sim.ask(ALICE, intent[seed as usize].clone()), Ok(()));
        assert_eq!(sim.conversation(ALICE, "moot").epoch, epoch + 1);
        sim.sync(BOB);
        assert_eq!(standing(&mut sim, BOB), Standing::Left);
        sim.sync_all();
        sim.ask(ALICE, send(log, "still works")).unwrap();
    }
}

/// A commit whose author had not seen the proposal passes it over, and it stays everybody's business.
#[test]
fn a_leave_that_was_passed_over_is_carried_out_by_value() {
    for seed in 0..20 {
        let (mut sim, log) = moot(seed, &["alice", "bob", "charlie"]);
        sim.disorder = true;
        sim.begin(BOB, leave(log)).unwrap();
        sim.begin(ALICE, Intent::Update { log }).unwrap();
        sim.settle();
        assert_eq!(sim.outcome(BOB), Ok(()));
        assert_eq!(sim.outcome(ALICE), Ok(()));
        sim.sync(CHARLIE);
        sim.sync(ALICE);
        sim.sync(BOB);
        assert_eq!(standing(&mut sim, BOB), Standing::Left);
        sim.sync_all();
        agree(&mut sim, &[ALICE, CHARLIE]);
        assert!(saw_leave(&mut sim, CHARLIE, "bob"));
    }
}

#[test]
fn the_last_one_closes_the_door() {
    let (mut sim, log) = moot(5, &["alice"]);
    sim.ask(ALICE, send(log, "anybody?")).unwrap();
    assert_eq!(sim.ask(ALICE, leave(log)), Ok(()));
    assert_eq!(standing(&mut sim, ALICE), Standing::Left);
    assert_eq!(sim.said(ALICE, "moot"), ["alice: anybody?"]);
    assert!(saw_leave(&mut sim, ALICE, "alice"));
    assert_eq!(sim.count(ALICE, Table::Records), 0);
    assert_eq!(sim.count(ALICE, Table::Outbox), 0);
}

#[test]
fn everybody_leaves_at_once() {
    for seed in 0..10 {
        let (mut sim, log) = moot(seed, &["alice", "bob", "charlie"]);
        sim.disorder = true;
        for who in [ALICE, BOB, CHARLIE] {
            sim.begin(who, leave(log)).unwrap();
        }
        sim.settle();
        sim.sync_all();
        sim.sync_all();
        for who in [ALICE, BOB, CHARLIE] {
            assert_eq!(standing(&mut sim, who), Standing::Left);
            assert_eq!(sim.count(who, Table::Records), 0);
            assert_eq!(sim.count(who, Table::Outbox), 0);
        }
    }
}

#[test]
fn members_take_turns_to_commit() {
    let names = ["alice", "bob", "charlie", "dora", "emil"];
    for seed in 0..5 {
        let (mut sim, log) = moot(seed, &names);
        let epoch = sim.conversation(ALICE, "moot").epoch;
        sim.ask(BOB, leave(log)).unwrap();
        let left = sim.now();
        // All of them read the proposal at the same moment.
        let mut commits = 0;
        let others = [0, 2, 3, 4];
        for who in others {
            sim.begin(who, Intent::Sync).unwrap();
        }
        sim.settle();
        for who in others {
            let conversation = sim.conversation(who, "moot");
            commits = commits.max(conversation.epoch - epoch);
            assert_eq!(sim.outcome(who), Ok(()));
        }
        assert_eq!(commits, 1, "the others saw it in time");
        assert!(sim.now() - left < 10_000);
        sim.sync_all();
        agree(&mut sim, &others);
    }
}

#[test]
fn power_is_lost_while_somebody_leaves() {
    let run = |sim: &mut Sim, log| {
        sim.ask(BOB, leave(log)).unwrap();
        sim.ask(ALICE, send(log, "one")).unwrap();
        sim.ask(CHARLIE, leave(log)).unwrap();
        sim.sync_all();
        sim.sync_all();
        for who in [BOB, CHARLIE] {
            assert_eq!(standing(sim, who), Standing::Left);
        }
        sim.ask(ALICE, send(log, "two")).unwrap();
        assert_eq!(sim.said(ALICE, "moot"), ["alice: one", "alice: two"]);
        assert_eq!(sim.members(ALICE, "moot").unwrap().members.len(), 1);
        assert_eq!(sim.count(ALICE, Table::Outbox), 0);
        assert_eq!(sim.count(ALICE, Table::Attempts), 0);
    };
    let (mut sim, log) = moot(7, &["alice", "bob", "charlie"]);
    let before = sim.steps;
    run(&mut sim, log);
    for at in before + 1..=sim.steps {
        for crash in CRASHES {
            println!("power is lost at step {at}, {crash:?}");
            let (mut sim, log) = moot(7, &["alice", "bob", "charlie"]);
            sim.crash = Some((at, crash));
            run(&mut sim, log);
        }
    }
}
