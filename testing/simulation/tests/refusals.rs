//! What a refusal means: a conflict is final for its bytes, everything temporary asks for the same again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use folkmoot_client::logic::Intent;
use folkmoot_client::{Error, Standing};
use folkmoot_protocol::call::Call;
use folkmoot_protocol::ids::LogId;
use folkmoot_protocol::{Conflict, Refusal};
use folkmoot_simulation::{Sim, leave, new, send};

const ALICE: usize = 0;
const BOB: usize = 1;

fn moot(seed: u64) -> (Sim, LogId) {
    let mut sim = Sim::new(seed, &["alice", "bob", "charlie"]);
    sim.ask(ALICE, new("moot", &["bob", "charlie"])).unwrap();
    sim.sync_all();
    let log = sim.conversation(ALICE, "moot").log;
    (sim, log)
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An append's bytes, and the conflict that it met.
type Seen = (Vec<u8>, Option<Conflict>);

/// Every append of a person's from now on, with the conflict that it met. The first `refused` of them
/// get a refusal instead, without having reached the service.
fn watch(sim: &mut Sim, person: usize, refused: usize, refusal: Refusal) -> Arc<Mutex<Vec<Seen>>> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&seen);
    let calls = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&calls);
    let mut bytes = Vec::new();
    sim.meddle = Some(Box::new(move |who, call| {
        if let (true, Call::Append(request)) = (who == person, call) {
            *lock(&counted) += 1;
            if *lock(&counted) <= refused {
                // The service does not see it.
                request.fence_signature.clear();
            }
        }
    }));
    sim.twist = Some(Box::new(move |who, call, answer| {
        if let (true, Call::Append(request)) = (who == person, call) {
            bytes.clone_from(&request.append);
            if *lock(&calls) <= refused {
                *answer = Err(refusal.clone());
            }
            let conflict = match answer {
                Err(Refusal::Conflict(kind, _)) => Some(*kind),
                _ => None,
            };
            lock(&noted).push((bytes.clone(), conflict));
        }
    }));
    seen
}

#[test]
fn whatever_is_temporary_gets_the_same_bytes_again() {
    let temporary = [
        Refusal::Busy(0),
        Refusal::Rate(700),
        Refusal::CommitInterval(300),
        Refusal::Internal,
    ];
    for refusal in temporary {
        for commits in [false, true] {
            let (mut sim, log) = moot(1);
            let before = sim.conversation(BOB, "moot");
            let seen = watch(&mut sim, BOB, 3, refusal.clone());
            let intent = if commits {
                Intent::Update { log }
            } else {
                send(log, "hello")
            };
            let began = sim.now();
            assert_eq!(sim.ask(BOB, intent), Ok(()));
            assert!(
                sim.now() - began >= 250 + 500 + 1000,
                "less often each time"
            );
            let seen = lock(&seen);
            assert_eq!(seen.len(), 4);
            assert!(seen.iter().all(|(bytes, _)| *bytes == seen[0].0));
            assert_eq!(sim.conversation(BOB, "moot").sequence, before.sequence + 1);
        }
    }
}

#[test]
fn what_a_service_does_not_take_in_time_is_kept() {
    let (mut sim, log) = moot(2);
    let seen = watch(&mut sim, BOB, 1, Refusal::Rate(3_600_000));
    let sent = sim.ask(BOB, send(log, "hello"));
    assert!(matches!(sent, Err(Error::Pending(_))), "{sent:?}");
    assert_eq!(sim.conversation(BOB, "moot").waiting, 1);
    sim.sync(BOB);
    sim.sync(ALICE);
    assert_eq!(sim.said(ALICE, "moot"), ["bob: hello"]);
    let seen = lock(&seen);
    assert_eq!(seen[0].0, seen[1].0);
}

#[test]
fn a_conflict_is_final_for_its_bytes() {
    let (mut sim, log) = moot(3);
    sim.ask(ALICE, Intent::Update { log }).unwrap();
    let seen = watch(&mut sim, BOB, 0, Refusal::Internal);
    assert_eq!(sim.ask(BOB, Intent::Update { log }), Ok(()));
    let seen = lock(&seen);
    assert_eq!(seen[0].1, Some(Conflict::TipMoved));
    assert_eq!((seen.len(), seen[1].1), (2, None));
    assert_ne!(seen[0].0, seen[1].0);
}

#[test]
fn a_commit_that_saw_too_little_is_built_again() {
    let (mut sim, log) = moot(4);
    sim.ask(BOB, leave(log)).unwrap();
    sim.pass(2001);
    let epoch = sim.conversation(ALICE, "moot").epoch;
    let seen = watch(&mut sim, ALICE, 0, Refusal::Internal);
    assert_eq!(sim.ask(ALICE, Intent::Update { log }), Ok(()));
    let kinds: Vec<_> = lock(&seen).iter().map(|(_, kind)| *kind).collect();
    assert_eq!(kinds, [Some(Conflict::UnseenProposals), None]);
    // One commit did both.
    assert_eq!(sim.conversation(ALICE, "moot").epoch, epoch + 1);
    sim.sync(BOB);
    assert_eq!(sim.conversation(BOB, "moot").standing, Standing::Left);
}

#[test]
fn a_proposal_that_came_too_late_is_made_again() {
    let (mut sim, log) = moot(5);
    sim.ask(ALICE, Intent::Update { log }).unwrap();
    let seen = watch(&mut sim, BOB, 0, Refusal::Internal);
    assert_eq!(sim.ask(BOB, leave(log)), Ok(()));
    let kinds: Vec<_> = lock(&seen).iter().map(|(_, kind)| *kind).collect();
    assert_eq!(kinds, [Some(Conflict::EpochOver), None]);
    sim.sync(ALICE);
    sim.sync(BOB);
    assert_eq!(sim.conversation(BOB, "moot").standing, Standing::Left);
}
