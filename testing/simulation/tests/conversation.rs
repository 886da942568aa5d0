//! Three people talk: the list of operations of the demo, in virtual time.

use folkmoot_client::logic::Intent;
use folkmoot_client::{Standing, What};
use folkmoot_simulation::{Sim, add, new, remove, send};

const ALICE: usize = 0;
const BOB: usize = 1;
const CHARLIE: usize = 2;

/// All who are in the conversation see the same epoch.
fn agree(sim: &mut Sim, people: &[usize]) {
    let views: Vec<_> = people
        .iter()
        .map(|who| {
            let seen = sim.conversation(*who, "moot");
            assert_eq!(seen.standing, Standing::Member);
            let members = sim.members(*who, "moot").unwrap();
            let users: Vec<_> = members
                .members
                .iter()
                .map(|member| member.user.to_string())
                .collect();
            (seen.epoch, seen.epoch_authenticator, seen.sequence, users)
        })
        .collect();
    assert!(views.windows(2).all(|pair| pair[0] == pair[1]), "{views:?}");
    assert_eq!(views[0].3.len(), people.len());
}

#[test]
fn three_people_talk() {
    let mut sim = Sim::new(1, &["alice", "bob", "charlie"]);
    sim.ask(ALICE, new("moot", &[])).unwrap();
    let log = sim.conversation(ALICE, "moot").log;
    sim.ask(ALICE, send(log, "nobody hears this")).unwrap();

    sim.ask(ALICE, add(log, &["bob"])).unwrap();
    sim.sync(BOB);
    agree(&mut sim, &[ALICE, BOB]);
    sim.ask(ALICE, send(log, "welcome, bob")).unwrap();

    sim.ask(ALICE, add(log, &["charlie"])).unwrap();
    sim.sync(CHARLIE);
    sim.sync(BOB);
    agree(&mut sim, &[ALICE, BOB, CHARLIE]);
    for (who, text) in [
        (ALICE, "I am alice"),
        (BOB, "I am bob"),
        (CHARLIE, "I am charlie"),
    ] {
        sim.ask(who, send(log, text)).unwrap();
    }
    sim.sync_all();
    let all = [
        "alice: I am alice",
        "bob: I am bob",
        "charlie: I am charlie",
    ];
    let before = ["alice: nobody hears this", "alice: welcome, bob"];
    assert_eq!(sim.said(ALICE, "moot"), [&before[..], &all].concat());
    assert_eq!(sim.said(BOB, "moot"), [&before[1..], &all].concat());
    assert_eq!(sim.said(CHARLIE, "moot"), all);

    let epoch = sim.conversation(BOB, "moot").epoch;
    sim.ask(BOB, Intent::Update { log }).unwrap();
    sim.sync_all();
    agree(&mut sim, &[ALICE, BOB, CHARLIE]);
    assert_eq!(sim.conversation(ALICE, "moot").epoch, epoch + 1);

    sim.ask(ALICE, remove(log, &["charlie"])).unwrap();
    sim.ask(ALICE, send(log, "charlie cannot read this"))
        .unwrap();
    sim.sync_all();
    agree(&mut sim, &[ALICE, BOB]);
    assert_eq!(
        sim.conversation(CHARLIE, "moot").standing,
        Standing::Removed
    );
    assert_eq!(sim.said(CHARLIE, "moot"), all);
    assert!(
        sim.said(BOB, "moot")
            .contains(&"alice: charlie cannot read this".to_owned())
    );
    let last = sim.history(CHARLIE, "moot").pop().unwrap();
    assert!(matches!(last.what, What::Removed(change) if change.by.name.as_str() == "alice"));
}
