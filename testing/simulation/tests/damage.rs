//! Damaged rows and arbitrary answers: a typed error or an event, never a panic, and nothing lost.

use folkmoot_client::logic::Intent;
use folkmoot_client::store::{Row, Store, StoreError, Table};
use folkmoot_client::{Error, Standing};
use folkmoot_protocol::call::{Answer, Call};
use folkmoot_simulation::{Sim, add, new, send};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

const ALICE: usize = 0;
const BOB: usize = 1;

fn rows(sim: &mut Sim, who: usize, table: Table) -> Vec<Row> {
    let store = &mut sim.person(who).store;
    store
        .transaction::<_, StoreError>(|tx| tx.scan(table, &[], None, usize::MAX))
        .unwrap()
}

fn put(sim: &mut Sim, who: usize, table: Table, key: &[u8], value: &[u8]) {
    let store = &mut sim.person(who).store;
    store
        .transaction::<_, StoreError>(|tx| tx.put(table, key, value))
        .unwrap();
    store.sync();
}

/// Bob has rows of every kind: a conversation, an invitation that waits, a message under way.
fn world() -> (Sim, folkmoot_protocol::ids::LogId) {
    let mut sim = Sim::new(1, &["alice", "bob", "charlie"]);
    sim.ask(ALICE, new("moot", &["bob"])).unwrap();
    let log = sim.conversation(ALICE, "moot").log;
    sim.sync(BOB);
    sim.ask(ALICE, send(log, "hello")).unwrap();
    sim.sync(BOB);
    sim.begin(BOB, add(log, &["charlie"])).unwrap();
    for _ in 0..3 {
        sim.deliver();
    }
    sim.begin(BOB, send(log, "under way")).unwrap();
    for _ in 0..4 {
        sim.deliver();
    }
    sim.restart(BOB);
    sim.ask(ALICE, send(log, "news")).unwrap();
    (sim, log)
}

#[test]
fn damaged_rows_are_told_and_make_nothing_worse() {
    let mut rng = ChaCha20Rng::seed_from_u64(2);
    let (mut sim, log) = world();
    let healthy = sim.person(BOB).store.copy().unwrap();
    let mut told = 0;
    for table in Table::ALL {
        // Of the many packages three are enough.
        for (key, value) in rows(&mut sim, BOB, *table).into_iter().take(30) {
            for attempt in 0..3 {
                let mut damaged = value.to_vec();
                match attempt {
                    0 => damaged.truncate(value.len() / 2),
                    1 => damaged.extend_from_slice(&[1, 2, 3]),
                    _ => {
                        if let Some(byte) = (!damaged.is_empty())
                            .then(|| rng.next_u32() as usize % damaged.len())
                            .and_then(|at| damaged.get_mut(at))
                        {
                            *byte ^= 0x81;
                        }
                    }
                }
                sim.restore(BOB, healthy.clone());
                put(&mut sim, BOB, *table, &key, &damaged);
                sim.tolerant = true;
                let synced = sim.ask(BOB, Intent::Sync);
                let sent = sim.ask(BOB, send(log, "x"));
                told += usize::from(synced.is_err() || sent.is_err());
                sim.tolerant = false;
            }
        }
    }
    assert!(told > 50, "{told}");
    // The others are none the worse for it.
    sim.sync(ALICE);
    assert_eq!(sim.conversation(ALICE, "moot").standing, Standing::Member);
}

#[test]
fn a_truncated_row_is_named() {
    let (mut sim, log) = world();
    let (key, value) = rows(&mut sim, BOB, Table::Conversations).remove(0);
    put(
        &mut sim,
        BOB,
        Table::Conversations,
        &key,
        &value[..value.len() - 1],
    );
    let sent = sim.ask(BOB, send(log, "x"));
    assert_eq!(
        sent,
        Err(Error::Store(StoreError::DamagedRow("conversations")))
    );
    put(&mut sim, BOB, Table::Conversations, &key, &value);
    sim.sync(BOB);
    sim.ask(BOB, send(log, "x")).unwrap();
}

/// Changes some bytes of an answer; `None` if it cannot be read any more.
fn garble(call: &Call, answer: &Answer, rng: &mut ChaCha20Rng) -> Option<Answer> {
    let mut bytes = answer.encode();
    for _ in 0..=rng.next_u32() % 3 {
        if !bytes.is_empty() {
            let at = rng.next_u32() as usize % bytes.len();
            bytes[at] = rng.next_u32() as u8;
        }
    }
    Answer::decode(call.path(), &bytes).ok()
}

#[test]
fn garbled_answers_lead_nobody_astray() {
    for seed in 0..30 {
        let mut sim = Sim::new(seed, &["alice", "bob", "charlie"]);
        sim.ask(ALICE, new("moot", &["bob"])).unwrap();
        let log = sim.conversation(ALICE, "moot").log;
        sim.sync(BOB);
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        sim.twist = Some(Box::new(move |_, call, answer| {
            if rng.next_u32().is_multiple_of(3)
                && let Ok(good) = answer
                && let Some(garbled) = garble(call, good, &mut rng)
            {
                *answer = Ok(garbled);
            }
        }));
        for round in 0..6 {
            for who in [ALICE, BOB] {
                let intent = match round {
                    1 => Intent::Update { log },
                    3 => add(log, &["charlie"]),
                    _ => send(log, &format!("{who} {round}")),
                };
                let _ = sim.ask(who, intent);
                let _ = sim.ask(who, Intent::Sync);
            }
        }
        sim.twist = None;
        sim.sync_all();
        sim.sync_all();
        let [alice, bob] = [ALICE, BOB].map(|who| sim.conversation(who, "moot"));
        // What is not on the chain that the service signs is never applied, so nothing stopped.
        assert_eq!(
            [alice.standing, bob.standing],
            [Standing::Member; 2],
            "seed {seed}"
        );
        assert_eq!(
            alice.epoch_authenticator, bob.epoch_authenticator,
            "seed {seed}"
        );
        assert_eq!(
            sim.said(ALICE, "moot"),
            sim.said(BOB, "moot"),
            "seed {seed}"
        );
    }
}
