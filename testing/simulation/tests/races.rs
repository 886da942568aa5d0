//! People act at the same time; one wins, the other builds anew.

use folkmoot_client::logic::Intent;
use folkmoot_client::store::Table;
use folkmoot_client::{Error, Standing};
use folkmoot_protocol::ids::LogId;
use folkmoot_simulation::{Sim, add, new, remove, send};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

const ALICE: usize = 0;
const BOB: usize = 1;
const CHARLIE: usize = 2;

fn moot(seed: u64, people: &[&str], members: &[&str]) -> (Sim, LogId) {
    let mut sim = Sim::new(seed, people);
    sim.ask(ALICE, new("moot", members)).unwrap();
    sim.sync_all();
    let log = sim.conversation(ALICE, "moot").log;
    (sim, log)
}

fn users(sim: &mut Sim, who: usize) -> Vec<String> {
    let mut users: Vec<_> = sim
        .members(who, "moot")
        .unwrap()
        .members
        .into_iter()
        .map(|member| member.user.name.to_string())
        .collect();
    users.sort();
    users
}

fn agree(sim: &mut Sim, people: &[usize]) {
    sim.sync_all();
    let seen: Vec<_> = people
        .iter()
        .map(|who| sim.conversation(*who, "moot"))
        .collect();
    for pair in seen.windows(2) {
        assert_eq!(pair[0].epoch_authenticator, pair[1].epoch_authenticator);
        assert_eq!(
            (pair[0].epoch, pair[0].sequence),
            (pair[1].epoch, pair[1].sequence)
        );
    }
    assert!(
        seen.iter()
            .all(|seen| seen.standing == Standing::Member && seen.waiting == 0)
    );
}

#[test]
fn two_commits_at_once_both_happen() {
    for seed in 0..10 {
        let (mut sim, log) = moot(seed, &["alice", "bob"], &["bob"]);
        sim.disorder = true;
        let epoch = sim.conversation(ALICE, "moot").epoch;
        sim.begin(ALICE, Intent::Update { log }).unwrap();
        sim.begin(BOB, Intent::Update { log }).unwrap();
        sim.settle();
        assert_eq!(sim.outcome(ALICE), Ok(()));
        assert_eq!(sim.outcome(BOB), Ok(()));
        agree(&mut sim, &[ALICE, BOB]);
        assert_eq!(sim.conversation(ALICE, "moot").epoch, epoch + 2);
    }
}

#[test]
fn two_add_different_people_at_once() {
    let names = ["alice", "bob", "charlie", "dora"];
    for seed in 0..10 {
        let (mut sim, log) = moot(seed, &names, &["bob"]);
        sim.disorder = true;
        sim.begin(ALICE, add(log, &["charlie"])).unwrap();
        sim.begin(BOB, add(log, &["dora"])).unwrap();
        sim.settle();
        agree(&mut sim, &[0, 1, 2, 3]);
        assert_eq!(users(&mut sim, CHARLIE), names);
    }
}

#[test]
fn two_add_the_same_person_at_once() {
    for seed in 0..10 {
        let (mut sim, log) = moot(seed, &["alice", "bob", "charlie"], &["bob"]);
        sim.disorder = true;
        sim.begin(ALICE, add(log, &["charlie"])).unwrap();
        sim.begin(BOB, add(log, &["charlie"])).unwrap();
        sim.settle();
        // Who came second finds it done, or is told.
        for who in [ALICE, BOB] {
            let outcome = sim.outcome(who);
            assert!(
                matches!(outcome, Ok(()) | Err(Error::AlreadyMember(_))),
                "{outcome:?}"
            );
        }
        agree(&mut sim, &[ALICE, BOB, CHARLIE]);
        assert_eq!(users(&mut sim, CHARLIE), ["alice", "bob", "charlie"]);
    }
}

#[test]
fn two_remove_the_same_person_at_once() {
    for seed in 0..10 {
        let (mut sim, log) = moot(seed, &["alice", "bob", "charlie"], &["bob", "charlie"]);
        sim.disorder = true;
        sim.begin(ALICE, remove(log, &["charlie"])).unwrap();
        sim.begin(BOB, remove(log, &["charlie"])).unwrap();
        sim.settle();
        for who in [ALICE, BOB] {
            let outcome = sim.outcome(who);
            assert!(
                matches!(outcome, Ok(()) | Err(Error::NotMember(_))),
                "{outcome:?}"
            );
        }
        agree(&mut sim, &[ALICE, BOB]);
        assert_eq!(
            sim.conversation(CHARLIE, "moot").standing,
            Standing::Removed
        );
    }
}

#[test]
fn two_remove_each_other_at_once() {
    for seed in 0..10 {
        let (mut sim, log) = moot(seed, &["alice", "bob"], &["bob"]);
        sim.disorder = true;
        sim.begin(ALICE, remove(log, &["bob"])).unwrap();
        sim.begin(BOB, remove(log, &["alice"])).unwrap();
        sim.settle();
        sim.sync_all();
        let standings = [ALICE, BOB].map(|who| sim.conversation(who, "moot").standing);
        assert!(
            standings == [Standing::Member, Standing::Removed]
                || standings == [Standing::Removed, Standing::Member]
        );
        let loser = if standings[0] == Standing::Removed {
            ALICE
        } else {
            BOB
        };
        assert_eq!(
            sim.outcome(loser),
            Ok(()),
            "the last thing it did was to sync"
        );
        let sent = sim.ask(loser, send(log, "still here?"));
        assert_eq!(sent, Err(Error::NoLongerMember("moot".into())));
    }
}

#[test]
fn a_message_that_meets_a_commit_is_encrypted_again_and_read_once() {
    for seed in 0..10 {
        let (mut sim, log) = moot(seed, &["alice", "bob"], &["bob"]);
        sim.disorder = true;
        sim.begin(ALICE, Intent::Update { log }).unwrap();
        sim.begin(BOB, send(log, "hello")).unwrap();
        sim.settle();
        agree(&mut sim, &[ALICE, BOB]);
        assert_eq!(sim.said(ALICE, "moot"), ["bob: hello"]);
        assert_eq!(sim.said(BOB, "moot"), ["bob: hello"]);
    }
}

#[test]
fn whoever_was_removed_can_be_added_again() {
    let (mut sim, log) = moot(3, &["alice", "bob", "charlie"], &["bob", "charlie"]);
    sim.ask(CHARLIE, send(log, "before")).unwrap();
    sim.ask(ALICE, remove(log, &["charlie"])).unwrap();
    sim.ask(ALICE, send(log, "without charlie")).unwrap();
    // Charlie has not heard of the removal when the new invitation comes.
    sim.ask(ALICE, add(log, &["charlie"])).unwrap();
    sim.ask(ALICE, send(log, "with charlie")).unwrap();
    agree(&mut sim, &[ALICE, BOB, CHARLIE]);
    assert_eq!(
        sim.said(CHARLIE, "moot"),
        ["charlie: before", "alice: with charlie"]
    );
    sim.ask(CHARLIE, send(log, "back")).unwrap();
    agree(&mut sim, &[ALICE, BOB, CHARLIE]);
    assert_eq!(sim.said(BOB, "moot").last().unwrap(), "charlie: back");
}

#[test]
fn whoever_finds_two_invitations_to_one_conversation_ends_up_in_it() {
    for seed in 0..20 {
        let (mut sim, log) = moot(seed, &["alice", "bob"], &[]);
        // All of it before Bob looks: he is in it again when he does.
        sim.ask(ALICE, add(log, &["bob"])).unwrap();
        sim.ask(ALICE, send(log, "one")).unwrap();
        sim.ask(ALICE, remove(log, &["bob"])).unwrap();
        sim.ask(ALICE, add(log, &["bob"])).unwrap();
        sim.ask(ALICE, send(log, "two")).unwrap();
        sim.disorder = true;
        agree(&mut sim, &[ALICE, BOB]);
        sim.ask(BOB, send(log, "here")).unwrap();
        agree(&mut sim, &[ALICE, BOB]);
        let said = sim.said(BOB, "moot");
        let all = ["alice: one", "alice: two", "bob: here"];
        // What was said before a removal that he never heard of he may have missed.
        assert!(said == all || said == all[1..], "{said:?}");
        assert_eq!(sim.count(BOB, Table::Invitations), 0);
    }
}

/// Anybody does anything at any time, calls overtake each other, answers are lost, devices die.
#[test]
fn everybody_converges_whatever_they_do() {
    let names = ["alice", "bob", "charlie", "dora"];
    for seed in 0..12 {
        let mut rng = ChaCha20Rng::seed_from_u64(1000 + seed);
        let mut below = |most: usize| rng.next_u32() as usize % most;
        let (mut sim, log) = moot(seed, &names, &["bob", "charlie"]);
        sim.disorder = true;
        sim.lose = 10;
        for round in 0..25 {
            let who = below(names.len());
            let other = names[below(names.len())];
            let intent = match below(8) {
                0 => add(log, &[other]),
                1 => remove(log, &[other]),
                2 => Intent::Update { log },
                3 => Intent::Sync,
                _ => send(log, &format!("{round}")),
            };
            // Some of it is impossible, which is for its user to hear.
            let _ = sim.begin(who, intent);
            for _ in 0..below(12) {
                sim.deliver();
            }
            if below(6) == 0 {
                sim.restart(below(names.len()));
            }
        }
        sim.lose = 0;
        sim.settle();
        sim.sync_all();
        sim.sync_all();
        let members: Vec<usize> = (0..names.len())
            .filter(|who| {
                sim.knows(*who, "moot")
                    && sim.conversation(*who, "moot").standing == Standing::Member
            })
            .collect();
        println!("seed {seed}: {} members", members.len());
        assert!(!members.is_empty(), "nobody can remove themselves");
        agree(&mut sim, &members);
        let expected = users(&mut sim, members[0]);
        assert_eq!(expected.len(), members.len());
        let all_said = sim.said(members[0], "moot");
        for who in &members {
            let said = sim.said(*who, "moot");
            let both = |lines: &[String], others: &[String]| -> Vec<String> {
                lines
                    .iter()
                    .filter(|line| others.contains(line))
                    .cloned()
                    .collect()
            };
            assert_eq!(
                both(&said, &all_said),
                both(&all_said, &said),
                "one order for all"
            );
            let unique: std::collections::BTreeSet<_> = said.iter().collect();
            assert_eq!(unique.len(), said.len(), "nothing is read twice");
        }
    }
}
