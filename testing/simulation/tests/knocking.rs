//! Links, and people outside who knock: who answers, who cannot, and what becomes of old links.

use folkmoot_client::logic::Intent;
use folkmoot_client::sabotage::become_another_device;
use folkmoot_client::store::{Store, Table};
use folkmoot_client::{Error, Event, Standing, What};
use folkmoot_credential::LinkMode;
use folkmoot_protocol::Refusal;
use folkmoot_protocol::call::Call;
use folkmoot_protocol::delivery::DropRequest;
use folkmoot_protocol::door::Link;
use folkmoot_protocol::ids::LogId;
use folkmoot_protocol::limits;
use folkmoot_simulation::{CRASHES, Crash, Sim, accept, decline, knock, link, new, remove, send};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

const ALICE: usize = 0;
const BOB: usize = 1;
const CHARLIE: usize = 2;
const DORA: usize = 3;

const UNASKED: Option<LinkMode> = Some(LinkMode::Automatic);
const ASKING: Option<LinkMode> = Some(LinkMode::Ask);

/// Alice and Bob are in a conversation to which Alice made a link.
fn moot(seed: u64, mode: Option<LinkMode>) -> (Sim, LogId, Link) {
    let mut sim = Sim::new(seed, &["alice", "bob", "charlie", "dora"]);
    sim.ask(ALICE, new("moot", &["bob"])).unwrap();
    sim.sync(BOB);
    let log = sim.conversation(ALICE, "moot").log;
    sim.ask(ALICE, link(log, mode)).unwrap();
    let link = sim.link(ALICE, "moot").unwrap();
    assert_eq!(link.asks, mode == ASKING);
    // It is what is in its text.
    assert_eq!(link.link.to_string().parse(), Ok(link.link.clone()));
    (sim, log, link.link)
}

fn is_in(sim: &mut Sim, who: usize) -> bool {
    sim.knows(who, "moot") && sim.conversation(who, "moot").standing == Standing::Member
}

/// All who are in see the same, and nothing is left of any knock.
fn quiet(sim: &mut Sim, people: &[usize]) {
    sim.sync_all();
    let seen: Vec<_> = people
        .iter()
        .map(|who| {
            let seen = sim.conversation(*who, "moot");
            assert_eq!((seen.standing, seen.waiting), (Standing::Member, 0));
            (seen.epoch_authenticator, sim.link(*who, "moot"))
        })
        .collect();
    assert!(seen.windows(2).all(|pair| pair[0] == pair[1]), "{seen:?}");
    for who in people {
        assert_eq!(sim.knocks(*who, "moot"), [""; 0]);
        for table in [Table::Outbox, Table::Attempts, Table::Invitations] {
            assert_eq!(sim.count(*who, table), 0, "{table:?} of {who}");
        }
    }
}

#[test]
fn a_member_that_did_not_make_the_link_answers() {
    let (mut sim, log, link) = moot(1, UNASKED);
    sim.sync(BOB);
    sim.ask(CHARLIE, knock(&link)).unwrap();
    assert!(!is_in(&mut sim, CHARLIE));
    // Alice is away.
    sim.sync(BOB);
    sim.sync(CHARLIE);
    assert!(is_in(&mut sim, CHARLIE));
    sim.ask(CHARLIE, send(log, "hello")).unwrap();
    quiet(&mut sim, &[ALICE, BOB, CHARLIE]);
    assert_eq!(sim.said(ALICE, "moot"), ["charlie: hello"]);
    let by_bob = |line: &What| matches!(line, What::Added(change) if change.by.name.to_string() == "bob" && change.user.name.to_string() == "charlie");
    let history = sim.history(ALICE, "moot");
    assert!(history.iter().any(|line| by_bob(&line.what)));
    // Of his knock nothing is left; he has the group's door, and answers at it.
    for who in [ALICE, BOB, CHARLIE] {
        assert_eq!(sim.count(who, Table::Doors), 1);
    }
    sim.ask(DORA, knock(&link)).unwrap();
    sim.sync(CHARLIE);
    sim.sync(DORA);
    quiet(&mut sim, &[ALICE, BOB, CHARLIE, DORA]);
}

#[test]
fn where_members_are_asked_one_of_them_says_so() {
    let (mut sim, log, link) = moot(2, ASKING);
    sim.ask(CHARLIE, knock(&link)).unwrap();
    sim.ask(DORA, knock(&link)).unwrap();
    for who in [ALICE, BOB] {
        sim.sync(who);
        let told = |event: &&Event| matches!(event, Event::Knocked { .. });
        assert_eq!(sim.person(who).events.iter().filter(told).count(), 2);
        assert_eq!(sim.knocks(who, "moot"), ["charlie", "dora"]);
    }
    // Bob does not want Dora; that does not bind Alice.
    sim.ask(BOB, decline(log, "dora")).unwrap();
    sim.ask(BOB, accept(log, "charlie")).unwrap();
    assert_eq!(sim.knocks(BOB, "moot"), [""; 0]);
    assert!(matches!(
        sim.ask(BOB, accept(log, "dora")),
        Err(Error::NoKnock(_))
    ));
    sim.sync(CHARLIE);
    sim.sync(DORA);
    assert!(is_in(&mut sim, CHARLIE) && !is_in(&mut sim, DORA));
    sim.sync(ALICE);
    assert_eq!(sim.knocks(ALICE, "moot"), ["dora"]);
    sim.ask(ALICE, accept(log, "dora")).unwrap();
    sim.sync(DORA);
    quiet(&mut sim, &[ALICE, BOB, CHARLIE, DORA]);
}

#[test]
fn a_removal_replaces_the_link_and_lets_nobody_back_unasked() {
    let (mut sim, log, old) = moot(3, UNASKED);
    sim.ask(CHARLIE, knock(&old)).unwrap();
    sim.sync(ALICE);
    sim.sync(CHARLIE);
    quiet(&mut sim, &[ALICE, BOB, CHARLIE]);
    sim.ask(ALICE, remove(log, &["charlie"])).unwrap();
    let told = |event: &Event| matches!(event, Event::NewLink { .. });
    assert!(sim.person(ALICE).events.iter().any(told));
    sim.sync(CHARLIE);
    assert_eq!(sim.count(CHARLIE, Table::Doors), 0, "he keeps no keys");
    let current = sim.link(ALICE, "moot").unwrap().link;
    assert_ne!(current, old);
    // Whoever has the old link knocks in vain, and the service gives nothing away.
    assert_eq!(sim.ask(DORA, knock(&old)), Err(Error::DeadLink));
    let request = DropRequest {
        mailbox: old.door.mailbox.into(),
        ticket: old.door.ticket.to_vec(),
        envelope: vec![1],
    };
    let refused = sim.ask_delivery(Call::Drop(request));
    assert_eq!(refused, Err(Refusal::NotFound));
    // Charlie got the new one from somebody: he is let in by hand only; Dora is not asked about.
    sim.ask(CHARLIE, knock(&current)).unwrap();
    sim.ask(DORA, knock(&current)).unwrap();
    sim.sync(BOB);
    sim.sync(CHARLIE);
    sim.sync(DORA);
    assert!(is_in(&mut sim, DORA) && !is_in(&mut sim, CHARLIE));
    assert_eq!(sim.knocks(BOB, "moot"), ["charlie"]);
    // Also by those who came later, and were told.
    sim.sync(DORA);
    sim.sync(CHARLIE);
    assert_eq!(sim.knocks(DORA, "moot"), ["charlie"]);
    assert!(!is_in(&mut sim, CHARLIE));
    sim.ask(DORA, accept(log, "charlie")).unwrap();
    sim.sync(CHARLIE);
    quiet(&mut sim, &[ALICE, BOB, CHARLIE, DORA]);
}

#[test]
fn a_lost_device_gets_its_place_back_in_one_commit() {
    let mut sim = Sim::new(4, &["alice", "bob", "charlie"]);
    let fresh = sim.person(BOB).store.copy().unwrap();
    sim.ask(ALICE, new("moot", &["bob", "charlie"])).unwrap();
    sim.sync_all();
    let log = sim.conversation(ALICE, "moot").log;
    sim.ask(ALICE, link(log, UNASKED)).unwrap();
    let old = sim.link(ALICE, "moot").unwrap().link;
    quiet(&mut sim, &[ALICE, BOB, CHARLIE]);
    let epoch = sim.conversation(ALICE, "moot").epoch;
    // Bob's device is lost. He has another one, which his identity key vouches for.
    sim.restore(BOB, fresh);
    let now = sim.now();
    let mut rng = ChaCha20Rng::seed_from_u64(9);
    let store = &mut sim.person(BOB).store;
    store
        .transaction(|tx| become_another_device(tx, now, &mut rng))
        .unwrap();
    sim.ask(BOB, knock(&old)).unwrap();
    sim.sync(CHARLIE);
    sim.sync(BOB);
    assert!(is_in(&mut sim, BOB));
    sim.ask(BOB, send(log, "back")).unwrap();
    quiet(&mut sim, &[ALICE, BOB, CHARLIE]);
    let members = sim.members(ALICE, "moot").unwrap();
    assert_eq!((members.members.len(), members.epoch), (3, epoch + 1));
    assert_eq!(sim.said(ALICE, "moot"), ["bob: back"]);
    let replaced = |what: &What| matches!(what, What::Replaced(change) if change.user.name.to_string() == "bob");
    let history = sim.history(ALICE, "moot");
    assert!(history.iter().any(|line| replaced(&line.what)));
    // That was a removal too: the lost device's keys open no door.
    assert_ne!(sim.link(BOB, "moot").unwrap().link, old);
}

#[test]
fn a_knock_that_is_played_again_lets_nobody_in_and_puts_nobody_out() {
    let (mut sim, log, link) = moot(5, UNASKED);
    sim.listen();
    sim.ask(CHARLIE, knock(&link)).unwrap();
    let is_knock = |call: &&Call| matches!(call, Call::Drop(_));
    let knocked = sim.heard().iter().find(is_knock).unwrap().clone();
    sim.sync(ALICE);
    sim.sync(CHARLIE);
    sim.ask(CHARLIE, Intent::Update { log }).unwrap();
    quiet(&mut sim, &[ALICE, BOB, CHARLIE]);
    let before = sim.conversation(ALICE, "moot").epoch;
    for _ in 0..3 {
        sim.pass(2 * 24 * 3600 * 1000);
        sim.ask_delivery(knocked.clone()).unwrap();
        sim.sync_all();
    }
    quiet(&mut sim, &[ALICE, BOB, CHARLIE]);
    assert_eq!(sim.conversation(ALICE, "moot").epoch, before);
    sim.ask(CHARLIE, send(log, "still here")).unwrap();
}

#[test]
fn a_flood_at_the_door_is_swept_out_and_who_knocks_gets_through() {
    let (mut sim, _, link) = moot(6, UNASKED);
    for number in 0..limits::ENVELOPES_PER_DOOR {
        let request = DropRequest {
            mailbox: link.door.mailbox.into(),
            ticket: link.door.ticket.to_vec(),
            envelope: number.to_be_bytes().to_vec(),
        };
        sim.pass(2_500);
        sim.ask_delivery(Call::Drop(request)).unwrap();
    }
    sim.pass(60_000);
    let full = sim.ask(CHARLIE, knock(&link));
    assert!(matches!(full, Err(Error::Pending(_))), "{full:?}");
    sim.sync(ALICE);
    sim.sync(CHARLIE);
    sim.sync(ALICE);
    sim.sync(CHARLIE);
    assert!(is_in(&mut sim, CHARLIE));
    quiet(&mut sim, &[ALICE, BOB, CHARLIE]);
}

#[test]
fn a_link_is_taken_back() {
    let (mut sim, log, old) = moot(7, UNASKED);
    sim.ask(BOB, link(log, None)).unwrap();
    quiet(&mut sim, &[ALICE, BOB]);
    assert_eq!(sim.link(ALICE, "moot"), None);
    assert_eq!(sim.ask(CHARLIE, knock(&old)), Err(Error::DeadLink));
    for who in [ALICE, BOB, CHARLIE] {
        assert_eq!(sim.count(who, Table::Doors), 0);
    }
    sim.ask(ALICE, link(log, ASKING)).unwrap();
    assert_ne!(sim.link(ALICE, "moot").unwrap().link, old);
    sim.sync(BOB);
    let current = sim.link(BOB, "moot").unwrap().link;
    let own = sim.ask(BOB, knock(&current));
    assert_eq!(own, Err(Error::OwnLink("moot".into())));
}

/// A link is made, somebody knocks, is let in and talks, is removed, and another knocks.
fn run(sim: &mut Sim) {
    for name in ["alice", "bob", "charlie", "dora"] {
        let who = sim.join(name);
        let intent = sim.registration(name);
        sim.ask(who, intent).unwrap();
    }
    sim.ask(ALICE, new("moot", &["bob"])).unwrap();
    let log = sim.conversation(ALICE, "moot").log;
    sim.sync(BOB);
    sim.ask(ALICE, link(log, UNASKED)).unwrap();
    sim.sync(ALICE);
    let first = sim.link(ALICE, "moot").unwrap().link;
    sim.ask(CHARLIE, knock(&first)).unwrap();
    for _ in 0..2 {
        sim.sync(BOB);
        sim.sync(CHARLIE);
    }
    sim.ask(CHARLIE, send(log, "in")).unwrap();
    sim.ask(BOB, remove(log, &["charlie"])).unwrap();
    sim.sync(BOB);
    let second = sim.link(BOB, "moot").unwrap().link;
    assert_ne!(first, second);
    sim.ask(DORA, knock(&second)).unwrap();
    for _ in 0..2 {
        sim.sync(ALICE);
        sim.sync(DORA);
    }
    sim.ask(DORA, send(log, "here")).unwrap();
    quiet(sim, &[ALICE, BOB, DORA]);
    assert_eq!(sim.said(ALICE, "moot"), ["charlie: in", "dora: here"]);
    assert_eq!(sim.said(BOB, "moot"), sim.said(ALICE, "moot"));
    let charlie = sim.conversation(CHARLIE, "moot");
    assert_eq!(charlie.standing, Standing::Removed);
    assert_eq!(sim.count(CHARLIE, Table::Doors), 0);
    for who in [ALICE, BOB, DORA] {
        assert_eq!(sim.count(who, Table::Doors), 1);
    }
}

/// At each step with `FOLKMOOT_SCALE`, else at one in four.
fn crash_everywhere(crash: Crash) {
    let mut sim = Sim::empty(7);
    run(&mut sim);
    let whole = std::env::var_os("FOLKMOOT_SCALE").is_some();
    for at in (1..=sim.steps).step_by(if whole { 1 } else { 4 }) {
        let mut sim = Sim::empty(7);
        sim.crash = Some((at, crash));
        println!("power is lost at step {at}, {crash:?}");
        run(&mut sim);
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
