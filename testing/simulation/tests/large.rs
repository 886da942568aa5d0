//! A group whose tree travels in pages, made by a commit that is staged.

use std::collections::BTreeSet;

use folkmoot_client::logic::Intent;
use folkmoot_client::store::Table;
use folkmoot_client::{Error, Standing};
use folkmoot_mls::codec::Decode;
use folkmoot_protocol::call::{Answer, Call};
use folkmoot_protocol::limits;
use folkmoot_protocol::log::Append;
use folkmoot_protocol::token::TokenPurpose;
use folkmoot_protocol::token::draw::{INTERVAL, PLAN};
use folkmoot_protocol::token::price::MAILBOXES_PER_TOKEN;
use folkmoot_simulation::{CRASHES, PersonId, Sim, add, leave, new, send};

const ALICE: PersonId = 0;
const BOB: PersonId = 1;
const CHARLIE: PersonId = 2;

/// What the group is called.
const TITLE: &str = "a secret moot";

/// The longest that a draw of tokens comes after another, milliseconds.
const DAY: u64 = INTERVAL * 1000 * 5 / 4;

/// So many people, Alice first. Most of them will never look.
fn crowd(seed: u64, count: usize) -> (Sim, Vec<String>) {
    let names: Vec<String> = (0..count)
        .map(|number| match number {
            0 => "alice".to_owned(),
            1 => "bob".to_owned(),
            2 => "charlie".to_owned(),
            _ => format!("m{number}"),
        })
        .collect();
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    let sim = Sim::new(seed, &all);
    (sim, names)
}

fn others(names: &[String]) -> Vec<&str> {
    names[1..].iter().map(String::as_str).collect()
}

fn count(sim: &Sim, is_it: impl Fn(&Call) -> bool) -> usize {
    sim.heard().iter().filter(|call| is_it(call)).count()
}

fn is_upload(call: &Call) -> bool {
    matches!(call, Call::Upload(_))
}

/// Offers to be a committer do not wait for their turn here: time passes, two seconds for each of 300.
fn settle(sim: &mut Sim, who: &[PersonId]) {
    for who in who {
        sim.pass(610_000);
        sim.sync(*who);
    }
}

/// Nothing that the service has heard lately, or keeps, says who is in the group or what it is called.
fn shows_nothing(sim: &mut Sim) {
    let mut secrets = vec![TITLE.as_bytes().to_vec()];
    for name in ["alice", "bob", "m299"] {
        let entry = sim.look_up(name);
        secrets.push(entry.binding.statement.identity_key.into());
        secrets.push(entry.devices[0].certificate.signature_key.into());
        secrets.push(entry.devices[0].certificate.signature.to_vec());
    }
    let mut seen: Vec<u8> = sim.heard().iter().flat_map(Call::encode).collect();
    seen.extend(sim.kept());
    for window in seen.windows(12) {
        for secret in &secrets {
            assert_ne!(window, &secret[..12]);
        }
    }
}

#[test]
fn a_group_with_pages_is_made_joined_and_left() {
    let (mut sim, names) = crowd(71, 300);
    sim.listen();
    sim.ask(ALICE, new(TITLE, &others(&names))).unwrap();
    // One commit, staged; the invitations of all in one call; what is written is there.
    assert_eq!(count(&sim, |call| matches!(call, Call::AppendStaged(_))), 1);
    assert_eq!(count(&sim, is_upload), 1);
    assert_eq!(count(&sim, |call| matches!(call, Call::DropAll(_))), 1);
    assert_eq!(count(&sim, |call| matches!(call, Call::Take(_))), 1);
    assert_eq!(count(&sim, |call| matches!(call, Call::PutPages(_))), 0);
    shows_nothing(&mut sim);
    let log = sim.conversation(ALICE, TITLE).log;
    assert_eq!(sim.conversation(ALICE, TITLE).epoch, 1);

    // Bob finds no pages at first, and asks again.
    sim.twist = Some(Box::new(|_, call, answer| {
        if let (Call::Pages(request), Ok(Answer::Pages(pages))) = (call, answer) {
            pages.pages.clear();
            pages.missing = request.addresses.clone();
        }
    }));
    sim.sync(BOB);
    assert!(!sim.knows(BOB, TITLE));
    sim.twist = None;
    sim.pass(3_600_000);
    for who in [BOB, CHARLIE] {
        sim.sync(who);
        let members = sim.members(who, TITLE).unwrap().members;
        assert_eq!(members.len(), 300);
    }
    let authenticator =
        |sim: &mut Sim, who| sim.conversation(who, TITLE).epoch_authenticator.clone();
    assert_eq!(authenticator(&mut sim, BOB), authenticator(&mut sim, ALICE));

    // The group is large now: nobody but committers commits, and nothing is taken in vain.
    let bobs = sim.ask(BOB, add(log, &["m3"]));
    assert_eq!(bobs, Err(Error::NotCommitter(TITLE.to_owned())));
    assert_eq!(count(&sim, |call| matches!(call, Call::Take(_))), 1);
    // They commit once a second.
    settle(&mut sim, &[BOB, CHARLIE, ALICE, BOB, CHARLIE]);
    let begun = sim.now();
    for who in [ALICE, ALICE, ALICE] {
        sim.ask(who, Intent::Update { log }).unwrap();
    }
    let pause = 1000 * u64::from(limits::LARGE_INTERVAL_SECONDS);
    assert!(sim.now() - begun >= 2 * pause, "{}", sim.now() - begun);

    // Pages that the service has lost are put back by whoever adds somebody. It was asked today already: an
    // add costs what it changes.
    let who = sim.join("yann");
    let intent = sim.registration("yann");
    sim.ask(who, intent).unwrap();
    sim.listen();
    sim.ask(ALICE, add(log, &["yann"])).unwrap();
    assert_eq!(count(&sim, |call| matches!(call, Call::Pages(_))), 0);
    sim.pass(DAY);
    let who = sim.join("zoe");
    let intent = sim.registration("zoe");
    sim.ask(who, intent).unwrap();
    sim.listen();
    let mut lost = false;
    sim.twist = Some(Box::new(move |_, call, answer| {
        if let (Call::Pages(request), Ok(Answer::Pages(pages))) = (call, answer)
            && request.missing_only
            && !std::mem::replace(&mut lost, true)
        {
            pages.missing = request.addresses[..2].to_vec();
        }
    }));
    sim.ask(ALICE, add(log, &["zoe"])).unwrap();
    sim.twist = None;
    let mut put = sim.heard().iter().filter_map(|call| match call {
        Call::PutPages(request) => Some(request.pages.len()),
        _ => None,
    });
    assert_eq!((put.next(), put.next()), (Some(2), None));
    sim.sync(who);
    assert_eq!(sim.members(who, TITLE).unwrap().members.len(), 302);

    // What is said and who leaves is seen by all.
    sim.ask(ALICE, send(log, "hello")).unwrap();
    sim.ask(CHARLIE, leave(log)).unwrap();
    sim.ask(ALICE, send(log, "farewell")).unwrap();
    for who in [BOB, who] {
        sim.sync(who);
        assert_eq!(sim.said(who, TITLE), ["alice: hello", "alice: farewell"]);
        assert_eq!(sim.members(who, TITLE).unwrap().members.len(), 301);
        assert_eq!(authenticator(&mut sim, who), authenticator(&mut sim, ALICE));
    }
    shows_nothing(&mut sim);
    sim.sync(CHARLIE);
    let standing = sim.conversation(CHARLIE, TITLE).standing;
    assert_eq!(standing, Standing::Left);
    for table in [
        Table::Targets,
        Table::Attempts,
        Table::Commits,
        Table::Chunks,
    ] {
        assert_eq!(sim.count(ALICE, table), 0, "{table:?}");
    }
}

#[test]
fn an_upload_goes_on_where_it_stopped() {
    let (mut sim, names) = crowd(72, 270);
    let users = others(&names);
    for (path, uploads) in [
        ("/folkmoot.delivery.v1.Logs/Stage", 1..=1),
        ("/folkmoot.delivery.v1.Logs/Upload", 1..=2),
        // The service has the chunk.
        ("/folkmoot.delivery.v1.Logs/AppendStaged", 0..=0),
    ] {
        for crash in CRASHES {
            let title = format!("{path} {crash:?}");
            sim.begin(ALICE, new(&title, &users)).unwrap();
            assert!(sim.deliver_until(path), "{title}");
            sim.listen();
            sim.crash = Some((sim.steps + 1, crash));
            sim.deliver();
            assert_eq!(sim.crash, None, "{title}: the crash took place");
            sim.settle();
            sim.sync(ALICE);
            let seen = sim.conversation(ALICE, &title);
            assert_eq!((seen.epoch, seen.waiting), (1, 0), "{title}");
            assert_eq!(sim.members(ALICE, &title).unwrap().members.len(), 270);
            let sent = count(&sim, is_upload);
            assert!(uploads.contains(&sent), "{title}: {sent} uploads");
        }
    }
    // Nothing is left of it.
    for table in [
        Table::Targets,
        Table::Attempts,
        Table::Commits,
        Table::Chunks,
    ] {
        assert_eq!(sim.count(ALICE, table), 0, "{table:?}");
    }
}

#[test]
fn adding_many_waits_for_tokens_and_goes_on() {
    let mut sim = Sim::empty(73);
    sim.issue_tokens();
    let names: Vec<String> = (0..MAILBOXES_PER_TOKEN + 10)
        .map(|number| format!("m{number}"))
        .collect();
    let alice = sim.join("alice");
    let intent = sim.registration("alice");
    sim.ask(alice, intent).unwrap();
    // One token is left.
    let planned = PLAN
        .iter()
        .find(|(of, _)| *of == TokenPurpose::TakePackages);
    let planned = planned.unwrap().1;
    for name in &names {
        let who = sim.join(name);
        let intent = sim.registration(name);
        sim.ask(who, intent).unwrap();
    }
    sim.ask(alice, new("moot", &[])).unwrap();
    let log = sim.conversation(alice, "moot").log;
    for name in &names[..planned - 1] {
        sim.ask(alice, add(log, &[name])).unwrap();
    }
    sim.listen();
    let title = "large";
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    let asked = sim.ask(alice, new(title, &all));
    assert_eq!(asked, Err(Error::Pending(Box::new(Error::NoTokens))));
    let taken = |sim: &Sim| -> Vec<usize> {
        let takes = sim.heard().iter().filter_map(|call| match call {
            Call::Take(take) if take.payment.is_some() => Some(take.mailboxes.len()),
            _ => None,
        });
        takes.collect()
    };
    assert_eq!(taken(&sim), [MAILBOXES_PER_TOKEN]);
    // A crash forgets nothing of it.
    sim.restart(alice);
    sim.pass(DAY);
    sim.tick(alice);
    sim.sync(alice);
    assert_eq!(taken(&sim), [MAILBOXES_PER_TOKEN, 10]);
    let seen = sim.members(alice, title).unwrap().members;
    let users: BTreeSet<_> = seen.iter().map(|member| member.user.to_string()).collect();
    assert_eq!(users.len(), names.len() + 1);
}

/// Carries what is under way, and waits for nothing.
fn drain(sim: &mut Sim, who: PersonId, intent: Intent) {
    sim.begin(who, intent).unwrap();
    while sim.deliver() {}
}

#[test]
fn who_offers_to_be_a_committer_has_its_turn_while_all_talk() {
    let (mut sim, names) = crowd(74, 70);
    sim.ask(ALICE, new(TITLE, &others(&names))).unwrap();
    let log = sim.conversation(ALICE, TITLE).log;
    let online = 1..=12;
    for who in online.clone() {
        drain(&mut sim, who, Intent::Sync);
    }
    sim.listen();
    let (begun, mut said) = (sim.now(), 0);
    // Somebody says something every second or two.
    while sim.now() < begun + 300_000 {
        drain(&mut sim, ALICE, send(log, "and then"));
        said += 1;
        for who in online.clone() {
            drain(&mut sim, who, Intent::Sync);
        }
        sim.pass(300);
    }
    assert!(said > 100, "{said} messages");
    let is_message = |call: &Call| match call {
        Call::Append(request) => Append::from_bytes(&request.append).unwrap().content_type == 1,
        _ => false,
    };
    // Alice is one, and each of the others offered itself when nobody else did.
    assert_eq!(count(&sim, is_message) - said, 7);
    sim.ask(ALICE, Intent::Update { log }).unwrap();
    let commits = |sim: &mut Sim, who| {
        sim.pass(2000);
        sim.sync(who);
        sim.ask(who, Intent::Update { log }).is_ok()
    };
    let committers = online.filter(|who| commits(&mut sim, *who)).count();
    assert_eq!(committers, 7);
}
