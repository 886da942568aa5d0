//! What vandals and the others pay where the service takes tokens.

use folkmoot_client::logic::Intent;
use folkmoot_mls::codec::Decode;
use folkmoot_protocol::call::Call;
use folkmoot_protocol::delivery::AppendRequest;
use folkmoot_protocol::ids::LogId;
use folkmoot_protocol::log::Append;
use folkmoot_protocol::{PaymentFault, Refusal};
use folkmoot_simulation::{Sim, new};

use crate::world::{ALICE, Cost, EIGHT, Made, Vandal, agree, contesting, goes_on, junk};

/// Eight people at a service that takes tokens.
fn paying(seed: u64) -> (Sim, LogId) {
    let mut sim = Sim::empty(seed);
    sim.issue_tokens();
    for name in EIGHT {
        let who = sim.join(name);
        let intent = sim.registration(name);
        sim.ask(who, intent).unwrap();
    }
    sim.ask(ALICE, new("moot", &EIGHT[1..])).unwrap();
    sim.sync_all();
    let log = sim.conversation(ALICE, "moot").log;
    sim.listen();
    (sim, log)
}

/// The last commit that the service was asked to take, with what was paid.
fn last_commit(sim: &Sim) -> (AppendRequest, Append) {
    let mut calls = sim.heard().iter().rev();
    let found = calls.find_map(|call| match call {
        Call::Append(request) => {
            let append = Append::from_bytes(&request.append).unwrap();
            append.commit.is_some().then(|| (request.clone(), append))
        }
        _ => None,
    });
    found.expect("somebody has committed")
}

const MISSING: Result<(), Refusal> = Err(Refusal::Payment(PaymentFault::Missing));
const SPENT: Result<(), Refusal> = Err(Refusal::Payment(PaymentFault::Spent));

pub fn a_contest_costs_a_token() {
    let (mut sim, log) = paying(91);
    let hanna = Vandal { who: 7, log };
    let update = Intent::Update { log };
    let made: [Made; 3] = [(); 3].map(|()| hanna.make(&mut sim, update.clone()));
    // The first commit after another is free, even a spoilt one.
    hanna.spoil(&mut sim, update.clone(), junk).unwrap();
    let [unpaid, again, with_anothers] = made;
    assert_eq!(unpaid.offer(&mut sim, contesting), MISSING);
    let mut cost = Cost::default();
    goes_on(&mut sim, &[2, 1, 0, 3, 4, 5, 6], log, "on", &mut cost);
    assert_eq!((cost.commits, cost.tokens), (1, 1));
    let (request, contest) = last_commit(&sim);
    assert!(contest.is_contest() && contest.is_paid());
    assert_eq!(request.payment.as_ref().unwrap().tokens.len(), 1);
    // The same again goes through; for anything else the token is spent.
    let again_the_same = sim.ask_delivery(Call::Append(request.clone()));
    assert!(again_the_same.is_ok(), "{again_the_same:?}");
    let mut stolen = with_anothers;
    stolen.request.payment = request.payment.clone();
    assert_eq!(stolen.offer(&mut sim, contesting), SPENT);
    assert_eq!(again.offer(&mut sim, contesting), MISSING);

    // The commit after a contest costs one too: else a vandal would pay nothing for what costs the others.
    sim.sync(hanna.who);
    let mut next = hanna.make(&mut sim, update.clone());
    assert!(next.append.is_paid());
    next.request.payment = None;
    assert_eq!(next.offer(&mut sim, junk), MISSING);
    sim.ask(3, update.clone()).unwrap();
    let (request, commit) = last_commit(&sim);
    assert!(commit.is_paid() && !commit.is_contest());
    assert_eq!(request.payment.unwrap().tokens.len(), 1);
    // Then they are free again.
    sim.ask(4, update).unwrap();
    let (request, commit) = last_commit(&sim);
    assert!(!commit.is_paid() && request.payment.is_none());
    sim.sync_all();
    agree(&mut sim, &[0, 1, 2, 3, 4, 5, 6, 7]);
}

/// Whoever has no token left to contest with is helped by somebody who has.
#[test]
fn a_group_outlives_a_vandal_with_the_tokens_that_it_draws() {
    let (mut sim, log) = paying(92);
    let hanna = Vandal { who: 7, log };
    let mut cost = Cost::default();
    for round in 0..12 {
        let awake = [[2, 4, 1], [4, 1, 2], [1, 2, 4]][round % 3];
        // Behind a contest her next one would cost her a token too; somebody else pays for it.
        sim.ask(awake[1], Intent::Update { log }).unwrap();
        sim.sync(hanna.who);
        hanna.spoil(&mut sim, Intent::Update { log }, junk).unwrap();
        goes_on(&mut sim, &awake, log, &format!("round {round}"), &mut cost);
        sim.pass(6 * 3600 * 1000);
    }
    println!("8 members who pay, random bytes 12 times in three days: {cost:?}");
    sim.sync_all();
    agree(&mut sim, &[0, 1, 2, 3, 4, 5, 6, 7]);
}
