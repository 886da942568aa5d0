//! Messages that a commit overtook: read by everybody, once; and how long old keys stay.

use folkmoot_client::logic::Intent;
use folkmoot_client::store::Table;
use folkmoot_client::{Standing, What};
use folkmoot_protocol::ids::LogId;
use folkmoot_protocol::limits;
use folkmoot_simulation::{Sim, new, send};

const ALICE: usize = 0;
const BOB: usize = 1;
const EVERYBODY: [usize; 3] = [0, 1, 2];
const SEEDS: u64 = 32;

/// A minute, and what it takes until a head says so beyond doubt.
const GRACE: u64 = limits::PAST_EPOCH_MS + 15_000;

fn moot(seed: u64) -> (Sim, LogId) {
    let mut sim = Sim::new(seed, &["alice", "bob", "charlie"]);
    sim.ask(ALICE, new("moot", &["bob", "charlie"])).unwrap();
    sim.sync_all();
    sim.pass(GRACE);
    sim.sync_all();
    let log = sim.conversation(ALICE, "moot").log;
    (sim, log)
}

/// Bob's message is encrypted and on its way; Alice commits so often before it arrives. Returns
/// whether a commit was a cut, as her own store tells.
fn overtaken(sim: &mut Sim, log: LogId, commits: u64) -> bool {
    sim.begin(BOB, send(log, "late")).unwrap();
    sim.deliver_until_append();
    sim.hold(BOB);
    let mut cut = false;
    for number in 1..=commits {
        sim.ask(ALICE, Intent::Update { log }).unwrap();
        cut |= sim.count(ALICE, Table::Fences) as u64 != 1 + number;
    }
    cut
}

/// The epoch in which Bob's message stands, if everybody has it once.
fn epoch_of_the_message(sim: &mut Sim) -> u64 {
    sim.sync_all();
    let mut epochs = Vec::new();
    for who in EVERYBODY {
        assert_eq!(sim.said(who, "moot"), ["bob: late"], "{who}");
        assert_eq!(sim.conversation(who, "moot").standing, Standing::Member);
        assert_eq!(sim.count(who, Table::Outbox), 0);
        let history = sim.history(who, "moot").into_iter();
        epochs.extend(
            history
                .filter(|line| matches!(line.what, What::Message(_)))
                .map(|line| line.epoch),
        );
    }
    assert!(epochs.iter().all(|epoch| *epoch == epochs[0]), "{epochs:?}");
    epochs[0]
}

#[test]
fn a_message_that_a_commit_overtook_is_read_once_by_everybody() {
    let mut cuts = 0;
    for seed in 0..SEEDS {
        let (mut sim, log) = moot(seed);
        let cut = overtaken(&mut sim, log, 1);
        sim.release();
        sim.settle();
        let epoch = sim.conversation(ALICE, "moot").epoch;
        // After a cut it is encrypted again, else it stands as it was.
        let stands = epoch_of_the_message(&mut sim);
        assert_eq!(stands, if cut { epoch } else { epoch - 1 }, "{seed}");
        cuts += u64::from(cut);
    }
    // Some commits that remove nobody are cuts, at random.
    assert!((1..SEEDS).contains(&cuts), "{cuts}");
}

#[test]
fn a_late_message_whose_answer_is_lost_is_our_own_when_it_is_read() {
    for seed in 0..SEEDS {
        let (mut sim, log) = moot(seed);
        overtaken(&mut sim, log, 2);
        // It arrives, and the device that sent it dies.
        sim.release_unanswered();
        sim.restart(BOB);
        epoch_of_the_message(&mut sim);
    }
}

#[test]
fn a_device_that_reads_the_commit_first_offers_the_same_again() {
    for seed in 0..SEEDS {
        let (mut sim, log) = moot(seed);
        let cut = overtaken(&mut sim, log, 1);
        // What was on its way never arrives.
        sim.restart(BOB);
        sim.sync(BOB);
        let epoch = sim.conversation(ALICE, "moot").epoch;
        let stands = epoch_of_the_message(&mut sim);
        assert_eq!(stands, if cut { epoch } else { epoch - 1 }, "{seed}");
    }
}

#[test]
fn what_comes_too_late_is_encrypted_again() {
    for seed in 0..SEEDS {
        let (mut sim, log) = moot(seed);
        overtaken(&mut sim, log, 1);
        sim.pass(GRACE);
        sim.release();
        sim.settle();
        let epoch = sim.conversation(ALICE, "moot").epoch;
        assert_eq!(epoch_of_the_message(&mut sim), epoch);

        let (mut sim, log) = moot(seed);
        overtaken(&mut sim, log, limits::PAST_EPOCHS + 1);
        sim.release();
        sim.settle();
        let epoch = sim.conversation(ALICE, "moot").epoch;
        assert_eq!(epoch_of_the_message(&mut sim), epoch);
    }
}

#[test]
fn old_keys_go_when_their_time_is_over() {
    let mut kept = 0;
    for seed in 0..SEEDS {
        let (mut sim, log) = moot(seed);
        for who in EVERYBODY {
            assert_eq!(sim.count(who, Table::Fences), 1);
        }
        let before = sim.count(ALICE, Table::Records);
        for _ in 0..=limits::PAST_EPOCHS + 1 {
            sim.ask(ALICE, Intent::Update { log }).unwrap();
            let fences = sim.count(ALICE, Table::Fences);
            assert!(fences as u64 <= 1 + limits::PAST_EPOCHS);
            kept += fences - 1;
        }
        sim.sync_all();
        // A head says that a minute is over; nothing is left of any epoch but the last.
        sim.pass(GRACE);
        sim.sync_all();
        for who in EVERYBODY {
            assert_eq!(sim.count(who, Table::Fences), 1);
            assert_eq!(sim.count(who, Table::Attempts), 0);
        }
        assert!(sim.count(ALICE, Table::Records) <= before + 4);
    }
    assert!(kept > 0);
}
