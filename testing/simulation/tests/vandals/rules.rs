//! The rules that contests and committers rest on, each broken once: what a test shows of it fails then.

use std::panic::{AssertUnwindSafe, catch_unwind};

use folkmoot_client::logic::Intent;
use folkmoot_client::sabotage as client;
use folkmoot_delivery_service::sabotage as service;
use folkmoot_protocol::Refusal;
use folkmoot_protocol::ids::LogId;
use folkmoot_protocol::keys::SigningKey;
use folkmoot_protocol::limits;
use folkmoot_protocol::log::Append;
use folkmoot_simulation::remove;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use crate::world::{
    Cost, Made, Vandal, agree, committers, contesting, eight, foreign_fence, goes_on, junk, named,
    unmarked,
};
use crate::{forged, paid, unopened};

/// Which rule is broken.
#[derive(Clone, Copy, Debug)]
enum Rule {
    Service(service::Guard),
    Client(client::Guard),
}

use client::Guard as C;
use service::Guard as S;

/// Each rule, and what shows it.
const RULES: [(Rule, fn()); 17] = [
    (
        Rule::Service(S::OneCandidate),
        a_committer_offers_one_commit,
    ),
    (Rule::Service(S::Committers), a_committer_signs),
    (Rule::Service(S::ContestPaid), paid::a_contest_costs_a_token),
    (Rule::Service(S::ContestsClosed), contests_close),
    (Rule::Service(S::ContestsBounded), contests_are_bounded),
    (Rule::Service(S::ContestForm), a_contest_is_a_cut),
    (Rule::Service(S::Fence), a_contest_is_signed_by_the_fence),
    (Rule::Client(C::Declared), a_foreign_fence_is_not_followed),
    (
        Rule::Client(C::Declared),
        an_unmarked_removal_is_not_followed,
    ),
    (
        Rule::Client(C::Committers),
        false_committers_are_not_followed,
    ),
    (
        Rule::Client(C::Removes),
        forged::whoever_is_proven_is_removed,
    ),
    (
        Rule::Client(C::Proven),
        forged::a_commit_in_anothers_name_names_nobody,
    ),
    (
        Rule::Client(C::Untimely),
        forged::who_comes_too_late_is_not_removed,
    ),
    (
        Rule::Client(C::OwnMessages),
        forged::a_message_in_anothers_name_stops_nobody,
    ),
    (Rule::Client(C::List), forged::a_contest_cannot_be_hidden),
    (
        Rule::Client(C::CutOff),
        unopened::who_cannot_open_a_commit_does_not_contest_it,
    ),
    (
        Rule::Client(C::TwoReports),
        unopened::one_report_removes_nobody,
    ),
];

#[test]
fn every_rule_holds() {
    for (rule, shows) in RULES {
        println!("{rule:?}");
        shows();
    }
}

#[test]
fn every_rule_is_missed_when_it_is_broken() {
    for (rule, shows) in RULES {
        let broken = || match rule {
            Rule::Service(guard) => service::without(Some(guard), shows),
            Rule::Client(guard) => client::without(Some(guard), shows),
        };
        let Err(noticed) = catch_unwind(AssertUnwindSafe(broken)) else {
            panic!("nobody notices that {rule:?} is broken");
        };
        let text = noticed.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| noticed.downcast_ref::<&str>().copied());
        let first = text.and_then(|text| text.lines().next());
        println!("{rule:?}: noticed: {}", first.unwrap_or_default());
    }
}

fn a_committer_offers_one_commit() {
    let (mut sim, log, vandals) = committers(101);
    let vandal = Vandal {
        who: vandals[0],
        log,
    };
    let update = Intent::Update { log };
    let made = vandal.make(&mut sim, update.clone());
    vandal.spoil(&mut sim, update, junk).unwrap();
    assert_eq!(made.offer(&mut sim, contesting), Err(Refusal::Taken));
}

fn a_committer_signs() {
    let (mut sim, log, vandals) = committers(102);
    let vandal = Vandal {
        who: vandals[0],
        log,
    };
    let made: [Made; 2] = [(); 2].map(|()| vandal.make(&mut sim, Intent::Update { log }));
    let mut keys = [None, Some(other_key())].into_iter();
    for mut made in made {
        made.committer = keys.next().unwrap();
        assert_eq!(made.offer(&mut sim, junk), Err(Refusal::BadProof));
    }
}

fn other_key() -> SigningKey {
    SigningKey::generate(&mut ChaCha20Rng::from_seed([9; 32]))
}

fn contests_close() {
    let (mut sim, log) = eight(103);
    let hanna = Vandal { who: 7, log };
    let made = Vandal { who: 1, log }.make(&mut sim, Intent::Update { log });
    hanna.spoil(&mut sim, Intent::Update { log }, junk).unwrap();
    // What is said in an epoch can be read for 30 days, its key is known an hour longer.
    sim.pass(30 * 24 * 3600 * 1000 + 1800 * 1000);
    let offered = made.offer(&mut sim, contesting);
    assert_eq!(offered, Err(Refusal::ContestsClosed));
}

fn contests_are_bounded() {
    let (mut sim, log) = eight(104);
    let hanna = Vandal { who: 7, log };
    let update = Intent::Update { log };
    let made: Vec<Made> = (0..=limits::CANDIDATES_AT_ONCE)
        .map(|_| hanna.make(&mut sim, update.clone()))
        .collect();
    hanna.spoil(&mut sim, update, junk).unwrap();
    let offered: Vec<_> = made
        .into_iter()
        .map(|made| made.offer(&mut sim, contesting))
        .collect();
    let (last, before) = offered.split_last().unwrap();
    assert!(before.iter().all(Result::is_ok));
    assert!(matches!(last, Err(Refusal::Rate(_))), "{last:?}");
}

fn a_contest_is_a_cut() {
    let (mut sim, log) = eight(105);
    let hanna = Vandal { who: 7, log };
    let update = Intent::Update { log };
    let made = hanna.make(&mut sim, update.clone());
    sim.ask(0, update).unwrap();
    let offered = made.offer(&mut sim, |append| {
        contesting(append);
        unmarked(append);
    });
    assert_eq!(offered, Err(Refusal::Malformed("cut".into())));
}

fn a_contest_is_signed_by_the_fence() {
    let (mut sim, log) = eight(106);
    let hanna = Vandal { who: 7, log };
    let update = Intent::Update { log };
    let mut made = hanna.make(&mut sim, update.clone());
    sim.ask(0, update).unwrap();
    made.fence = other_key();
    assert_eq!(made.offer(&mut sim, contesting), Err(Refusal::NotFound));
}

fn is_not_followed(wish: fn(LogId) -> Intent, change: fn(&mut Append)) {
    let (mut sim, log) = eight(107);
    let hanna = Vandal { who: 7, log };
    hanna.spoil(&mut sim, wish(log), change).unwrap();
    goes_on(&mut sim, &[2, 4, 0], log, "on", &mut Cost::default());
    assert_eq!(named(&mut sim, 2).as_deref(), Some("hanna"));
}

fn a_foreign_fence_is_not_followed() {
    is_not_followed(|log| Intent::Update { log }, foreign_fence);
}

fn an_unmarked_removal_is_not_followed() {
    is_not_followed(|log| remove(log, &["bob"]), unmarked);
}

/// A committer tells the service that it is the only one.
fn false_committers_are_not_followed() {
    let (mut sim, log, vandals) = committers(108);
    let vandal = Vandal {
        who: vandals[0],
        log,
    };
    let made = vandal.make(&mut sim, Intent::Update { log });
    let alone = made.committer.as_ref().unwrap().public();
    made.offer(&mut sim, |append| {
        append.commit.as_mut().unwrap().committers = Some(vec![alone]);
    })
    .unwrap();
    let awake = [0, vandals[1], vandals[2]];
    goes_on(&mut sim, &awake, log, "on", &mut Cost::default());
    let name = format!("m{}", vandal.who);
    assert_eq!(named(&mut sim, 0), Some(name));
    // The others commit as before.
    sim.ask(vandals[1], Intent::Update { log }).unwrap();
    for who in awake {
        sim.sync(who);
    }
    agree(&mut sim, &awake);
}
