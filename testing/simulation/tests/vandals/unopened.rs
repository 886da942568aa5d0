//! A commit that is in order for all, but does not open for some. They do not contest it: they ask to be added
//! again, and then say which one it was. Two such reports remove its author.

use folkmoot_client::logic::Intent;
use folkmoot_client::store::Table;
use folkmoot_client::{Standing, What};
use folkmoot_credential::LinkMode;
use folkmoot_mls::codec::Encode;
use folkmoot_protocol::call::Call;
use folkmoot_protocol::ids::LogId;
use folkmoot_simulation::{Sim, add, link, remove};

use crate::insider::Insider;
use crate::insiders::{Client, next_fence, unopenable};
use crate::world::{ALICE, Vandal, agree, eight, named};

const BOB: usize = 1;
const DORA: usize = 3;
const EMIL: usize = 4;

/// Alice's commit does not open for Bob and Emil. The group has a link at which nobody is asked.
fn cut_off(seed: u64) -> (Sim, LogId) {
    let (mut sim, log) = eight(seed);
    sim.ask(ALICE, link(log, Some(LinkMode::Automatic)))
        .unwrap();
    sim.sync_all();
    let mut client = Client::of(&mut sim, ALICE, log);
    let insider = Insider::of(&client);
    // Bob is beside her; of the other half of the tree Emil is the first.
    let forged = insider.commit(&unopenable(&insider, &[(0, 0), (2, 0)]));
    let message = forged.private(&mut client).to_bytes();
    let made = Vandal { who: ALICE, log }.make(&mut sim, Intent::Update { log });
    made.offer(&mut sim, |append| {
        append.message = message.as_slice().into();
        let commit = append.commit.as_mut().unwrap();
        (commit.next_fence_key, commit.cut) = (next_fence(&forged), false);
    })
    .unwrap();
    (sim, log)
}

/// Somebody reads the commit, keeps it as evidence, and offers nothing to the log.
fn does_not_contest(sim: &mut Sim, who: usize) {
    let heard = sim.heard().len();
    let evidence = sim.count(who, Table::Evidence);
    sim.ask(who, Intent::Sync).unwrap();
    sim.pass(61_000);
    sim.ask(who, Intent::Sync).unwrap();
    let seen = sim.conversation(who, "moot");
    assert!(seen.cut_off && seen.contested.is_some(), "{seen:?}");
    assert_eq!(seen.standing, Standing::Member);
    assert_eq!(named(sim, who).as_deref(), Some("alice"));
    let kept = sim.count(who, Table::Evidence);
    assert_eq!(kept, evidence + 1);
    let appends = |call: &Call| matches!(call, Call::Append(_));
    assert!(
        !sim.heard()[heard..].iter().any(appends),
        "nothing is contested"
    );
}

/// Who has reported a commit, as it is shown to somebody, and whose it was.
fn reports(sim: &mut Sim, who: usize) -> Vec<(String, Option<String>)> {
    let lines = sim.history(who, "moot").into_iter();
    lines
        .filter_map(|line| match line.what {
            What::Unopened(report) => {
                let by = report.by.map(|user| user.name.to_string());
                Some((report.user.name.to_string(), by))
            }
            _ => None,
        })
        .collect()
}

/// Reports of Alice's commit.
fn of_alice(users: &[&str]) -> Vec<(String, Option<String>)> {
    let of_alice = |user: &&str| ((*user).to_owned(), Some("alice".to_owned()));
    users.iter().map(of_alice).collect()
}

fn has_alice(sim: &mut Sim, who: usize) -> bool {
    let members = sim.members(who, "moot").unwrap().members;
    members
        .iter()
        .any(|member| member.user.name.as_str() == "alice")
}

/// Bob knocks at the group's door and is added again; what he says alone removes nobody.
fn one_report() -> (Sim, LogId) {
    let (mut sim, log) = cut_off(81);
    does_not_contest(&mut sim, BOB);
    does_not_contest(&mut sim, EMIL);
    // Dora finds it in order. She is the only one who is awake, and answers Bob's knock, then Emil's.
    sim.sync(DORA);
    assert_eq!(sim.conversation(DORA, "moot").contested, None);
    sim.pass(61_000);
    sim.sync(DORA);
    sim.pass(61_000);
    sim.sync(DORA);
    for _ in 0..2 {
        sim.pass(3_600_000);
        sim.sync(BOB);
    }
    let seen = sim.conversation(BOB, "moot");
    assert!(!seen.cut_off, "{seen:?}");
    for _ in 0..2 {
        sim.pass(61_000);
        sim.sync(DORA);
        sim.sync(2);
    }
    assert_eq!(reports(&mut sim, DORA), of_alice(&["bob"]));
    assert!(has_alice(&mut sim, DORA), "after one report");
    (sim, log)
}

pub fn one_report_removes_nobody() {
    one_report();
}

pub fn who_cannot_open_a_commit_does_not_contest_it() {
    let (mut sim, _) = cut_off(82);
    does_not_contest(&mut sim, BOB);
    sim.sync(DORA);
    agree(&mut sim, &[DORA]);
}

#[test]
fn two_reports_of_a_commit_that_did_not_open_remove_its_author() {
    let (mut sim, log) = one_report();
    for _ in 0..2 {
        sim.pass(61_000);
        sim.sync(EMIL);
    }
    for _ in 0..2 {
        sim.pass(61_000);
        sim.sync(DORA);
    }
    assert_eq!(reports(&mut sim, DORA), of_alice(&["bob", "emil"]));
    assert!(!has_alice(&mut sim, DORA), "after two reports");
    sim.sync_all();
    agree(&mut sim, &[1, 2, 3, 4, 5, 6, 7]);
    // Who was not there when it was followed knows of the reports, not whose it was.
    let unknown = ["bob", "emil"].map(|user| (user.to_owned(), None));
    assert_eq!(reports(&mut sim, EMIL), unknown);
    for who in 1..8 {
        assert!(sim.said(who, "moot").is_empty(), "nobody is shown reports");
    }
    // She can be added again: it is for people to decide.
    sim.ask(DORA, add(log, &["alice"])).unwrap();
    sim.sync_all();
    agree(&mut sim, &[0, 1, 2, 3, 4, 5, 6, 7]);
}

/// Without a link somebody has to be asked: who is removed and added again finds its way back alike.
#[test]
fn who_is_cut_off_is_added_again_by_hand() {
    let (mut sim, log) = eight(83);
    let mut client = Client::of(&mut sim, ALICE, log);
    let insider = Insider::of(&client);
    let forged = insider.commit(&unopenable(&insider, &[(0, 0)]));
    let message = forged.private(&mut client).to_bytes();
    let made = Vandal { who: ALICE, log }.make(&mut sim, Intent::Update { log });
    made.offer(&mut sim, |append| {
        append.message = message.as_slice().into();
        let commit = append.commit.as_mut().unwrap();
        (commit.next_fence_key, commit.cut) = (next_fence(&forged), false);
    })
    .unwrap();
    does_not_contest(&mut sim, BOB);
    sim.ask(DORA, remove(log, &["bob"])).unwrap();
    sim.ask(DORA, add(log, &["bob"])).unwrap();
    sim.sync(BOB);
    sim.sync(BOB);
    sim.sync(DORA);
    assert_eq!(reports(&mut sim, DORA), of_alice(&["bob"]));
    sim.sync_all();
    agree(&mut sim, &[1, 2, 3, 4, 5, 6, 7]);
}
