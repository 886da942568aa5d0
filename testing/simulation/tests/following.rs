//! Following a conversation live, and what heads are held against.

use folkmoot_client::logic::Intent;
use folkmoot_client::store::Table;
use folkmoot_client::{BadService, Error, Event, Standing, What};
use folkmoot_mls::codec::Decode;
use folkmoot_protocol::call::Answer;
use folkmoot_protocol::delivery::ReadResponse;
use folkmoot_protocol::delivery::read_response::End;
use folkmoot_protocol::ids::LogId;
use folkmoot_protocol::log::{Head, SignedHead};
use folkmoot_simulation::{Sim, follow, new, remove, send};

const ALICE: usize = 0;
const BOB: usize = 1;
const CHARLIE: usize = 2;

/// Two minutes: a head is due.
const LONG: u64 = 120_000;

fn moot(seed: u64) -> (Sim, LogId) {
    let mut sim = Sim::new(seed, &["alice", "bob", "charlie"]);
    sim.ask(ALICE, new("moot", &["bob", "charlie"])).unwrap();
    sim.sync_all();
    let log = sim.conversation(ALICE, "moot").log;
    (sim, log)
}

fn blocked(sim: &mut Sim, who: usize) -> Vec<Error> {
    let events = sim.person(who).events.iter();
    let blocked = events.filter_map(|event| match event {
        Event::Blocked { error } => Some(error.clone()),
        _ => None,
    });
    blocked.collect()
}

#[test]
fn what_others_say_comes_without_asking() {
    for seed in 0..8 {
        let (mut sim, log) = moot(seed);
        sim.disorder = true;
        sim.ask(BOB, follow(log)).unwrap();
        sim.ask(CHARLIE, follow(log)).unwrap();
        for (who, text) in [(ALICE, "one"), (CHARLIE, "two"), (BOB, "three")] {
            sim.ask(who, send(log, text)).unwrap();
        }
        // Entries that the stream and a read both bring are applied once.
        sim.begin(ALICE, send(log, "four")).unwrap();
        sim.begin(BOB, Intent::Sync).unwrap();
        sim.settle();
        sim.sync(ALICE);
        let said = ["alice: one", "charlie: two", "bob: three", "alice: four"];
        for who in [ALICE, BOB, CHARLIE] {
            assert_eq!(sim.said(who, "moot"), said);
        }
        assert_eq!(blocked(&mut sim, BOB), []);
    }
}

#[test]
fn a_stream_goes_on_with_a_newer_key_after_a_cut() {
    let (mut sim, log) = moot(20);
    sim.ask(BOB, follow(log)).unwrap();
    sim.ask(CHARLIE, follow(log)).unwrap();
    sim.ask(ALICE, remove(log, &["charlie"])).unwrap();
    // Who was removed reads that, and nothing after it.
    assert_eq!(
        sim.conversation(CHARLIE, "moot").standing,
        Standing::Removed
    );
    assert_eq!(sim.streams(), 1);
    sim.ask(ALICE, send(log, "without charlie")).unwrap();
    sim.ask(ALICE, Intent::Update { log }).unwrap();
    sim.ask(ALICE, send(log, "and again")).unwrap();
    let said = ["alice: without charlie", "alice: and again"];
    assert_eq!(sim.said(BOB, "moot"), said);
    assert_eq!(sim.said(CHARLIE, "moot").len(), 0);
    assert_eq!(blocked(&mut sim, BOB), []);
}

#[test]
fn a_stream_that_breaks_is_begun_again_less_and_less_often() {
    let (mut sim, log) = moot(21);
    sim.ask(BOB, follow(log)).unwrap();
    sim.cut_streams();
    assert_eq!(sim.streams(), 0);
    sim.ask(ALICE, send(log, "one")).unwrap();
    // Not at once.
    sim.tick(BOB);
    assert_eq!((sim.streams(), sim.said(BOB, "moot").len()), (0, 0));
    let mut waited = Vec::new();
    for _ in 0..8 {
        let mut wait = 0;
        while sim.streams() == 0 {
            sim.pass(500);
            wait += 500;
            sim.begin_tick(BOB);
            if sim.streams() == 0 {
                sim.carry(2);
            }
        }
        waited.push(wait);
        // It breaks before anything came.
        sim.cut_streams();
    }
    assert!(
        waited.windows(2).take(5).all(|two| two[0] < two[1]),
        "{waited:?}"
    );
    assert!(waited.iter().all(|wait| *wait <= 80_000), "{waited:?}");
    assert_eq!(blocked(&mut sim, BOB).len(), 1, "said once");
    sim.pass(80_000);
    sim.tick(BOB);
    assert_eq!(sim.said(BOB, "moot"), ["alice: one"]);
    sim.ask(ALICE, send(log, "two")).unwrap();
    assert_eq!(sim.said(BOB, "moot").len(), 2);
}

#[test]
fn a_follower_without_power_starts_again() {
    let (mut sim, log) = moot(22);
    sim.ask(BOB, follow(log)).unwrap();
    sim.restart(BOB);
    assert_eq!(sim.streams(), 0);
    sim.ask(ALICE, send(log, "one")).unwrap();
    sim.ask(BOB, follow(log)).unwrap();
    assert_eq!(sim.said(BOB, "moot"), ["alice: one"]);
}

/// Bob follows and hears something false in a quiet minute; he must notice that.
fn bob_hears(
    seed: u64,
    change: impl Fn(&mut ReadResponse, Head) -> Head + Send + 'static,
    expected: impl Fn(LogId) -> BadService,
) -> (Sim, LogId) {
    let (mut sim, log) = moot(seed);
    sim.ask(BOB, follow(log)).unwrap();
    sim.ask(ALICE, send(log, "one")).unwrap();
    sim.pass(LONG);
    sim.settle();
    let key = sim.delivery_secret.clone();
    sim.twist = Some(Box::new(move |who, _, answer| {
        if let (BOB, Ok(Answer::Read(answer))) = (who, answer) {
            for batch in &mut answer.batches {
                let head = batch.head.clone().unwrap();
                let head = Head::from_bytes(&head.head).unwrap();
                let head = change(batch, head);
                batch.head = Some(SignedHead::sign(head, &key).into());
            }
        }
    }));
    sim.pass(LONG);
    sim.settle();
    sim.twist = None;
    let expected = Error::BadService(expected(log));
    assert_eq!(blocked(&mut sim, BOB), [expected]);
    assert_eq!(sim.streams(), 0, "nobody listens to that any more");
    // Nothing is lost by it, and an honest service is heard again.
    sim.ask(ALICE, send(log, "two")).unwrap();
    sim.ask(BOB, send(log, "three")).unwrap();
    assert_eq!(sim.said(BOB, "moot").len(), 3);
    (sim, log)
}

fn alarms(sim: &mut Sim, who: usize) -> Vec<u64> {
    let history = sim.history(who, "moot").into_iter();
    let alarms = history.filter_map(|line| match line.what {
        What::TwoLogs(found) => Some(found.sequence),
        _ => None,
    });
    alarms.collect()
}

#[test]
fn a_head_of_another_log_is_proof_and_an_alarm() {
    let change = |_: &mut ReadResponse, mut head: Head| {
        head.chain.0[0] ^= 1;
        head
    };
    let (mut sim, _) = bob_hears(30, change, BadService::Contradiction);
    assert_eq!(alarms(&mut sim, BOB), [2]);
    // Both heads are kept, and the service has signed both.
    let key = sim.delivery_key();
    let rows = sim.rows(BOB, Table::Evidence);
    let [evidence] = &rows[..] else {
        panic!("one proof")
    };
    let [ours, theirs] = heads_in(evidence, &key).try_into().unwrap();
    assert_eq!((ours.log, ours.branch), (theirs.log, theirs.branch));
    assert_eq!(ours.sequence, theirs.sequence);
    assert_ne!(ours.chain, theirs.chain);
}

/// The heads in a row of evidence that the service has signed.
fn heads_in(row: &[u8], key: &folkmoot_protocol::keys::PublicKey) -> Vec<Head> {
    use folkmoot_mls::codec::{Bytes, Reader};
    let mut reader = Reader::new(row);
    let _version = u16::decode(&mut reader).unwrap();
    let entry = Option::<(u64, (Bytes, Bytes))>::decode(&mut reader).unwrap();
    assert_eq!(entry, None);
    let heads = (0..2).map(|_| Option::<(Head, Bytes)>::decode(&mut reader).unwrap());
    let heads = heads.flatten().map(|(head, signature)| {
        key.verify("head", &head, &signature).unwrap();
        head
    });
    heads.collect()
}

#[test]
fn a_head_of_an_earlier_time_is_noticed() {
    let change = |_: &mut ReadResponse, mut head: Head| {
        head.issued -= LONG + 1000;
        assert!(head.issued > head.entry_time);
        head
    };
    let (mut sim, _) = bob_hears(31, change, BadService::Time);
    assert!(alarms(&mut sim, BOB).is_empty());
}

#[test]
fn a_head_of_an_earlier_place_is_noticed() {
    // As a service says that was put back to an old copy, and signed an honest chain there.
    let (mut sim, log) = moot(32);
    sim.ask(ALICE, send(log, "one")).unwrap();
    sim.sync(BOB);
    let old = std::sync::Arc::new(std::sync::Mutex::new(None));
    let kept = old.clone();
    sim.twist = Some(Box::new(move |who, _, answer| {
        if let (BOB, Ok(Answer::Read(answer))) = (who, answer) {
            *kept.lock().unwrap() = answer.batches.last().unwrap().head.clone();
        }
    }));
    sim.sync(BOB);
    sim.twist = None;
    sim.ask(ALICE, send(log, "two")).unwrap();
    sim.sync(BOB);
    let old = old.lock().unwrap().take();
    sim.twist = Some(Box::new(move |who, _, answer| {
        if let (BOB, Ok(Answer::Read(answer))) = (who, answer) {
            answer.batches[0].head = old.clone();
        }
    }));
    sim.ask(BOB, Intent::Sync).unwrap();
    let expected = Error::BadService(BadService::Contradiction(log));
    assert_eq!(blocked(&mut sim, BOB), [expected]);
}

#[test]
fn a_head_at_a_cut_is_checked_too() {
    let (mut sim, log) = moot(33);
    sim.ask(BOB, follow(log)).unwrap();
    sim.twist = Some(Box::new(|who, _, answer| {
        if let (BOB, Ok(Answer::Read(answer))) = (who, answer) {
            let cuts = answer.batches.iter_mut();
            for batch in cuts.filter(|batch| batch.end() == End::Cut) {
                batch.head = None;
            }
        }
    }));
    sim.ask(ALICE, remove(log, &["charlie"])).unwrap();
    let expected = Error::BadService(BadService::Signature(log));
    assert_eq!(blocked(&mut sim, BOB), [expected]);
    sim.twist = None;
    sim.ask(ALICE, send(log, "one")).unwrap();
    sim.sync(BOB);
    assert_eq!(sim.said(BOB, "moot"), ["alice: one"]);
}
