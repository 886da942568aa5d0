//! Somebody was away for longer than the service keeps entries: that is told as what it is, nothing of
//! the group's state is wrong, and whoever is added again goes on.

use folkmoot_client::{Error, Event, Standing, What};
use folkmoot_simulation::{Sim, add, new, remove, send};

const ALICE: usize = 0;
const BOB: usize = 1;
const CHARLIE: usize = 2;
const DAY: u64 = 24 * 60 * 60 * 1000;

/// A group in which Bob has read one message, and then is away for so many days, while the others talk
/// each day, in the same epoch or renewing keys.
fn away(days: u64, update: bool) -> Sim {
    let mut sim = Sim::new(7, &["alice", "bob", "charlie"]);
    sim.ask(ALICE, new("moot", &["bob", "charlie"])).unwrap();
    sim.sync_all();
    let log = sim.conversation(ALICE, "moot").log;
    sim.ask(ALICE, send(log, "before")).unwrap();
    sim.sync_all();
    for day in 0..days {
        sim.pass(DAY);
        sim.ask(ALICE, send(log, &format!("day {day}"))).unwrap();
        if update && day == days / 2 {
            let update = folkmoot_client::logic::Intent::Update { log };
            sim.ask(CHARLIE, update).unwrap();
        }
        sim.sync(ALICE);
        sim.sync(CHARLIE);
        sim.sweep();
    }
    sim
}

#[test]
fn who_is_back_in_time_reads_everything() {
    let mut sim = away(27, true);
    sim.sync(BOB);
    assert_eq!(sim.conversation(BOB, "moot").standing, Standing::Member);
    assert_eq!(sim.said(BOB, "moot"), sim.said(ALICE, "moot"));
}

#[test]
fn who_is_back_too_late_is_told_so_and_is_added_again() {
    // With the epoch's key still held, the answer is a gap; with a key that has gone, the blind one.
    for (days, update) in [(35, false), (75, true)] {
        let mut sim = away(days, update);
        let log = sim.conversation(BOB, "moot").log;
        let before = sim.said(BOB, "moot");
        let epoch = sim.conversation(BOB, "moot").epoch;
        sim.sync(BOB);
        let seen = sim.conversation(BOB, "moot");
        assert_eq!((seen.standing, seen.epoch), (Standing::Behind, epoch));
        let told = sim.person(BOB).events.iter().any(|event| {
            matches!(event, Event::Behind { log: of, title } if *of == log && title == "moot")
        });
        assert!(told, "he is told");
        assert_eq!(sim.said(BOB, "moot"), before, "what was said before stays");
        let sent = sim.ask(BOB, send(log, "hello?"));
        assert_eq!(sent, Err(Error::Behind("moot".into())));

        // The others take his old leaf out, and add him.
        sim.ask(ALICE, remove(log, &["bob"])).unwrap();
        sim.ask(ALICE, add(log, &["bob"])).unwrap();
        sim.sync_all();
        assert_eq!(sim.conversation(BOB, "moot").standing, Standing::Member);
        sim.ask(BOB, send(log, "back")).unwrap();
        sim.sync_all();
        for who in [ALICE, BOB, CHARLIE] {
            assert_eq!(sim.said(who, "moot").last().unwrap(), "bob: back");
            let history = sim.history(who, "moot");
            let unreadable = |what: &What| matches!(what, What::Unreadable(_));
            assert!(!history.iter().any(|line| unreadable(&line.what)));
        }
    }
}
