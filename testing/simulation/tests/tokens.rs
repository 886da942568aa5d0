//! Anonymous tokens: drawn by the clock, spent on what costs some, never missed at the wrong time.

use folkmoot_client::Error;
use folkmoot_client::logic::Intent;
use folkmoot_client::store::{Store, StoreError, Table};
use folkmoot_protocol::call::{Answer, Call, Purpose};
use folkmoot_protocol::token::draw::{BATCH, INTERVAL, PLAN};
use folkmoot_protocol::token::{Token, TokenPurpose};
use folkmoot_protocol::{PaymentFault, Refusal};
use folkmoot_simulation::{CRASHES, PersonId, Sim, add, new, send};

const ALICE: PersonId = 0;
const BOB: PersonId = 1;

/// The longest that a draw comes after another, milliseconds.
const DAY: u64 = INTERVAL * 1000 * 5 / 4;

/// People at services that issue tokens and ask for them.
fn paying(seed: u64, names: &[&str]) -> Sim {
    let mut sim = Sim::empty(seed);
    sim.issue_tokens();
    for name in names {
        let who = sim.join(name);
        let intent = sim.registration(name);
        sim.ask(who, intent).unwrap();
    }
    sim
}

/// How many tokens somebody has.
fn stock(sim: &mut Sim, who: PersonId) -> usize {
    let rows: Result<_, StoreError> = sim
        .person(who)
        .store
        .transaction(|tx| tx.scan(Table::Tokens, &[], None, usize::MAX));
    rows.unwrap().len()
}

fn planned(purpose: TokenPurpose) -> usize {
    PLAN.iter().find(|(of, _)| *of == purpose).unwrap().1
}

/// Opens as many conversations as there are tokens for in a batch.
fn use_up(sim: &mut Sim, who: PersonId) {
    for number in 0..planned(TokenPurpose::OpenLog) {
        sim.ask(who, new(&format!("moot {number}"), &[])).unwrap();
    }
}

#[test]
fn a_fresh_home_can_pay_at_once() {
    let mut sim = paying(1, &["alice", "bob"]);
    // One for the mailbox.
    assert_eq!(stock(&mut sim, ALICE), BATCH - 1);
    sim.ask(ALICE, new("moot", &["bob"])).unwrap();
    // The log, and Bob's KeyPackage.
    assert_eq!(stock(&mut sim, ALICE), BATCH - 3);
    sim.sync(BOB);
    let log = sim.conversation(ALICE, "moot").log;
    sim.ask(ALICE, send(log, "hello")).unwrap();
    sim.sync(BOB);
    // Talking costs nothing.
    assert_eq!(stock(&mut sim, ALICE), BATCH - 3);
    assert_eq!(stock(&mut sim, BOB), BATCH - 1);
}

#[test]
fn tokens_are_drawn_by_the_clock_alone() {
    let mut sim = paying(2, &["alice"]);
    use_up(&mut sim, ALICE);
    let left = BATCH - 1 - planned(TokenPurpose::OpenLog);
    assert_eq!(stock(&mut sim, ALICE), left);
    // Nothing is drawn because there are none left; what was to be done waits, and says why.
    let waits = Err(Error::Pending(Box::new(Error::NoTokens)));
    assert_eq!(sim.ask(ALICE, new("one more", &[])), waits);
    sim.pass(DAY / 2);
    sim.sync(ALICE);
    assert_eq!(stock(&mut sim, ALICE), left);
    // A day later new ones come, needed or not, and what waited is done.
    sim.pass(DAY / 2);
    sim.tick(ALICE);
    assert_eq!(stock(&mut sim, ALICE), left + BATCH - 1);
    let log = sim.conversation(ALICE, "one more").log;
    sim.ask(ALICE, send(log, "hello")).unwrap();
    // The stock has bounds.
    for _ in 0..12 {
        sim.pass(DAY);
        sim.sync(ALICE);
    }
    assert_eq!(stock(&mut sim, ALICE), 8 * BATCH);
}

#[test]
fn tokens_survive_the_issuers_keys_and_expire_with_them() {
    let mut sim = paying(3, &["alice"]);
    const WEEK: u64 = 7 * 24 * 3600 * 1000;
    for _ in 0..5 {
        sim.pass(WEEK);
        sim.trust_issuers();
        sim.sync(ALICE);
    }
    // The first key issues no more, and its tokens still pay.
    sim.ask(ALICE, new("moot", &[])).unwrap();
    // Alice is away for long; what she has is too old, what she draws now is not.
    sim.pass(WEEK * 15 / 2);
    sim.trust_issuers();
    sim.sync(ALICE);
    sim.ask(ALICE, new("later", &[])).unwrap();
    assert_eq!(stock(&mut sim, ALICE), BATCH - 1);
}

#[test]
fn lost_answers_cost_no_tokens() {
    for seed in 10..16 {
        let mut sim = Sim::empty(seed);
        sim.issue_tokens();
        sim.lose = 3;
        let who = sim.join("alice");
        let intent = sim.registration("alice");
        let mut outcome = sim.ask(who, intent);
        for _ in 0..50 {
            if outcome.is_ok() {
                break;
            }
            let again = sim.registration("alice");
            outcome = sim.ask(who, again);
            if matches!(outcome, Err(Error::AlreadyRegistered(_))) {
                outcome = Ok(());
            }
        }
        outcome.unwrap();
        sim.lose = 0;
        sim.pass(3600 * 1000);
        sim.sync(who);
        assert_eq!(stock(&mut sim, who), BATCH - 1, "seed {seed}");
    }
}

#[test]
fn a_crash_at_any_step_costs_no_tokens() {
    let run = |crash| {
        let mut sim = Sim::empty(20);
        sim.issue_tokens();
        sim.crash = crash;
        let who = sim.join("alice");
        let intent = sim.registration("alice");
        sim.ask(who, intent).unwrap();
        sim.ask(who, new("moot", &[])).unwrap();
        (sim.steps, stock(&mut sim, who))
    };
    let (steps, left) = run(None);
    assert_eq!(left, BATCH - 2);
    for step in 1..=steps {
        for crash in CRASHES {
            assert_eq!(run(Some((step, crash))).1, left, "{crash:?} at {step}");
        }
    }
}

#[test]
fn an_old_copy_of_a_home_pays_with_its_next_token() {
    let mut sim = paying(4, &["alice"]);
    let copy = sim.person(ALICE).store.copy().unwrap();
    sim.ask(ALICE, new("moot", &[])).unwrap();
    sim.restore(ALICE, copy);
    // Its first token is spent, on another log.
    sim.ask(ALICE, new("moot again", &[])).unwrap();
    assert_eq!(stock(&mut sim, ALICE), BATCH - 3);
}

#[test]
fn what_the_service_does_not_take_is_not_thrown_away() {
    let mut sim = paying(5, &["alice"]);
    let faults = [
        PaymentFault::Missing,
        PaymentFault::UnknownIssuer,
        PaymentFault::Forged,
        PaymentFault::WrongService,
    ];
    for (number, fault) in faults.into_iter().enumerate() {
        sim.twist = Some(Box::new(move |_, call, answer| {
            if matches!(call, Call::Open(_)) {
                *answer = Err(Refusal::Payment(fault));
            }
        }));
        let title = format!("{fault:?}");
        let waits = Error::Pending(Box::new(Error::Refused(Refusal::Payment(fault))));
        assert_eq!(sim.ask(ALICE, new(&title, &[])), Err(waits));
        assert_eq!(stock(&mut sim, ALICE), BATCH - 1 - number);
        // The log was opened all the same; the repeat is paid for with the same token.
        sim.twist = None;
        sim.sync(ALICE);
        let log = sim.conversation(ALICE, &title).log;
        sim.ask(ALICE, send(log, "hello")).unwrap();
        assert_eq!(stock(&mut sim, ALICE), BATCH - 2 - number);
    }
}

#[test]
fn a_token_stays_with_its_request() {
    let mut sim = paying(9, &["alice"]);
    // The log is opened, and Alice does not hear of it.
    sim.twist = Some(Box::new(|_, call, answer| {
        if matches!(call, Call::Open(_)) {
            *answer = Err(Refusal::NotFound);
        }
    }));
    assert!(sim.ask(ALICE, new("first", &[])).is_err());
    sim.twist = None;
    // Another has a token of its own.
    sim.ask(ALICE, new("second", &[])).unwrap();
    assert_eq!(stock(&mut sim, ALICE), BATCH - 2);
    // Among many others it is still the same token with which the first is repeated.
    sim.pass(DAY);
    sim.tick(ALICE);
    assert_eq!(stock(&mut sim, ALICE), 2 * BATCH - 2);
    sim.sync(ALICE);
    let log = sim.conversation(ALICE, "first").log;
    sim.ask(ALICE, send(log, "hello")).unwrap();
    assert_eq!(stock(&mut sim, ALICE), 2 * BATCH - 3);
}

#[test]
fn a_service_that_asks_for_nothing_takes_what_it_gets() {
    let mut sim = Sim::new(6, &["alice", "bob"]);
    assert_eq!(stock(&mut sim, ALICE), 0);
    sim.ask(ALICE, new("moot", &["bob"])).unwrap();
    // From now on tokens are issued: those who have registered draw theirs when they look next.
    sim.issue_tokens();
    assert!(matches!(
        sim.ask(ALICE, new("paid", &[])),
        Err(Error::Pending(_))
    ));
    sim.pass(DAY);
    sim.sync(ALICE);
    let log = sim.conversation(ALICE, "paid").log;
    sim.ask(ALICE, add(log, &["bob"])).unwrap();
    assert_eq!(stock(&mut sim, ALICE), BATCH - 2);
}

/// What the issuer hears and says, against what the Delivery Service hears.
#[test]
fn no_token_shows_at_the_issuer() {
    use std::sync::{Arc, Mutex};
    let mut sim = Sim::empty(7);
    sim.issue_tokens();
    let issuer = Arc::new(Mutex::new(Vec::new()));
    let seen = issuer.clone();
    sim.twist = Some(Box::new(move |_, call, answer| {
        if call.purpose() == Purpose::Account {
            let mut seen = seen.lock().unwrap();
            seen.push(call.encode());
            seen.extend(answer.as_ref().ok().map(Answer::encode));
        }
    }));
    sim.listen();
    for name in ["alice", "bob"] {
        let who = sim.join(name);
        let intent = sim.registration(name);
        sim.ask(who, intent).unwrap();
    }
    sim.ask(ALICE, new("moot", &["bob"])).unwrap();
    let mut tokens = Vec::new();
    for call in sim.heard() {
        let mut call = call.clone();
        if let Some(priced) = call.priced() {
            let payment = priced.payment().take().expect("it costs tokens");
            tokens.extend(
                payment
                    .tokens
                    .iter()
                    .map(|token| Token::read(token).unwrap()),
            );
        }
    }
    // Two mailboxes, a log, a KeyPackage.
    assert_eq!(tokens.len(), 4);
    let seen = issuer.lock().unwrap().concat();
    assert!(seen.len() > 2 * 2 * BATCH * 256, "both have drawn");
    let seen: std::collections::HashSet<&[u8]> = seen.windows(8).collect();
    for token in &tokens {
        for part in [
            &token.nonce[..],
            &token.challenge_digest,
            &token.authenticator,
        ] {
            assert!(part.windows(8).all(|piece| !seen.contains(piece)));
        }
    }
}

#[test]
fn nobody_is_told_of_a_draw_that_fails() {
    let mut sim = paying(8, &["alice"]);
    sim.pass(DAY);
    sim.twist = Some(Box::new(|_, call, answer| {
        if matches!(call, Call::Issuers(_)) {
            *answer = Err(Refusal::Internal);
        }
    }));
    sim.ask(ALICE, Intent::Sync).unwrap();
    assert_eq!(sim.person(ALICE).events, []);
    sim.ask(ALICE, new("moot", &[])).unwrap();
    sim.twist = None;
    sim.sync(ALICE);
    assert_eq!(stock(&mut sim, ALICE), 2 * BATCH - 2);
}
