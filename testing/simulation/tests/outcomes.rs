//! Why an intent was given up is left for the process that began it, when another one did it; for an hour.

use folkmoot_client::Error;
use folkmoot_client::Event;
use folkmoot_client::logic::Intent;
use folkmoot_client::store::Table;
use folkmoot_protocol::ids::LogId;
use folkmoot_simulation::{Sim, new, remove, send};

const ALICE: usize = 0;
const HOUR: u64 = 3600 * 1000;

fn moot() -> (Sim, LogId) {
    let mut sim = Sim::new(1, &["alice", "bob", "charlie"]);
    sim.ask(ALICE, new("moot", &["bob"])).unwrap();
    let log = sim.conversation(ALICE, "moot").log;
    (sim, log)
}

/// A process begins what cannot be done, and ends; the next one gives it up.
fn given_up_by_the_next(sim: &mut Sim, log: LogId) {
    sim.begin(ALICE, remove(log, &["charlie"])).unwrap();
    sim.restart(ALICE);
    sim.sync(ALICE);
    let is_failure = |event: &Event| {
        matches!(event, Event::Failed { error: Error::NotMember(user), .. }
            if user.name.to_string() == "charlie")
    };
    assert!(sim.person(ALICE).events.iter().any(is_failure));
    assert_eq!(sim.count(ALICE, Table::Outbox), 0);
}

#[test]
fn word_is_left_for_the_process_that_began_it() {
    let (mut sim, log) = moot();
    given_up_by_the_next(&mut sim, log);
    let rows = sim.rows(ALICE, Table::Outcomes);
    assert_eq!(rows.len(), 1);
    let reason = b"charlie@moot.example is no member";
    assert!(rows[0].windows(reason.len()).any(|part| part == reason));
}

#[test]
fn no_word_is_left_where_nobody_waits_for_it() {
    let (mut sim, log) = moot();
    // The process that began it hears of it itself.
    let failed = sim.ask(ALICE, remove(log, &["charlie"]));
    assert!(matches!(failed, Err(Error::NotMember(_))));
    // What went well needs no word.
    sim.begin(ALICE, send(log, "hello")).unwrap();
    sim.restart(ALICE);
    sim.ask(ALICE, Intent::Sync).unwrap();
    assert_eq!(sim.said(ALICE, "moot"), ["alice: hello"]);
    assert_eq!(sim.count(ALICE, Table::Outcomes), 0);
}

#[test]
fn word_that_nobody_came_for_goes_after_an_hour() {
    let (mut sim, log) = moot();
    given_up_by_the_next(&mut sim, log);
    sim.pass(HOUR / 2);
    given_up_by_the_next(&mut sim, log);
    assert_eq!(sim.count(ALICE, Table::Outcomes), 2);
    sim.pass(HOUR / 2 + 60_000);
    given_up_by_the_next(&mut sim, log);
    assert_eq!(
        sim.count(ALICE, Table::Outcomes),
        2,
        "the first one is gone"
    );
}
