//! People leave; whoever is online carries it out. Proposals come before messages, by rank. Whoever others
//! propose to remove holds its messages back.

use std::cell::RefCell;
use std::sync::{Arc, Mutex};

use folkmoot_client::logic::Intent;
use folkmoot_client::store::{Store, StoreError, Table, Transaction};
use folkmoot_client::{Error, Event, Standing, What};
use folkmoot_credential::Judge;
use folkmoot_mls::code_point::WireFormat;
use folkmoot_mls::codec::{Decode, Encode};
use folkmoot_mls::component::NoComponents;
use folkmoot_mls::context::{Context, NoPsks, OneThread};
use folkmoot_mls::crypto::aws_lc::PROVIDER;
use folkmoot_mls::crypto::{Secret, SignatureKeyPair};
use folkmoot_mls::group::Group;
use folkmoot_mls::proposal::Proposal;
use folkmoot_mls::records::{RecordKey, Records};
use folkmoot_mls::tree_math::LeafIndex;
use folkmoot_protocol::VERSION;
use folkmoot_protocol::call::{Answer, Call};
use folkmoot_protocol::delivery::AppendRequest;
use folkmoot_protocol::ids::{EntryId, LogId};
use folkmoot_protocol::keys::{PublicKey, SigningKey};
use folkmoot_protocol::log::Append;
use folkmoot_protocol::proof::{FenceProof, Method};
use folkmoot_simulation::{CRASHES, Sim, add, leave, new, remove, send};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use zeroize::Zeroizing;

const ALICE: usize = 0;
const BOB: usize = 1;
const CHARLIE: usize = 2;
/// Whose device does not keep to what this client does; its own stops when it reads that.
const DORA: usize = 3;

fn moot(seed: u64, people: &[&str]) -> (Sim, LogId) {
    let mut sim = Sim::new(seed, people);
    sim.ask(ALICE, new("moot", &people[1..])).unwrap();
    sim.sync_all();
    let log = sim.conversation(ALICE, "moot").log;
    (sim, log)
}

fn standing(sim: &mut Sim, who: usize) -> Standing {
    sim.conversation(who, "moot").standing
}

fn agree(sim: &mut Sim, people: &[usize]) {
    let seen: Vec<_> = people
        .iter()
        .map(|who| sim.conversation(*who, "moot"))
        .collect();
    for pair in seen.windows(2) {
        assert_eq!(pair[0].epoch_authenticator, pair[1].epoch_authenticator);
        assert_eq!(pair[0].sequence, pair[1].sequence);
    }
    assert!(seen.iter().all(|seen| seen.waiting == 0));
}

/// A group's records, read in one transaction.
struct Stored<'a> {
    tx: RefCell<&'a mut dyn Transaction>,
    log: LogId,
}

impl Records for Stored<'_> {
    fn get(&self, key: &RecordKey) -> Option<Zeroizing<Vec<u8>>> {
        let key = [self.log.as_ref(), key.as_slice()].concat();
        self.tx.borrow().get(Table::Records, &key).unwrap()
    }
}

/// Somebody's device proposes the removal of others, in one message each: what this client never does
/// by itself. Where the group stands in its log is taken from the last entry of the person's own.
fn propose_to_remove(sim: &mut Sim, who: usize, log: LogId, users: &[&str]) {
    let members = sim.members(who, "moot").unwrap().members;
    let leaf = |user: &&str| {
        let member = members
            .iter()
            .find(|member| member.user.name.to_string() == **user);
        LeafIndex(member.unwrap().leaf)
    };
    let leaves: Vec<_> = users.iter().map(leaf).collect();
    let (tip, branch) = tip(sim, who, log);
    let own = members.iter().find(|member| member.own).unwrap().device;
    let signer = signer(sim, who, &own);
    let service = sim.delivery_key();
    let now = sim.now() / 1000;
    let mut rng = ChaCha20Rng::seed_from_u64(now);
    let store = &mut sim.person(who).store;
    let made: Result<Vec<AppendRequest>, StoreError> = store.transaction(|tx| {
        let records = Stored {
            tx: RefCell::new(tx),
            log,
        };
        let mut group = Group::load(&PROVIDER, &records).unwrap();
        let mut keys = group.load_keys(&PROVIDER, group.epoch(), &records).unwrap();
        let mut made = Vec::new();
        for leaf in leaves {
            let mut ctx = Context {
                provider: &PROVIDER,
                authentication_service: &Judge,
                components: &NoComponents,
                psks: &NoPsks,
                now: Some(now),
                workers: &OneThread,
                rng: &mut rng,
            };
            let proposal = Proposal::remove(leaf);
            let wire = WireFormat::PRIVATE_MESSAGE;
            let proposed = group.propose(&mut keys, &signer, proposal, &[], wire, &mut ctx);
            let proposed = proposed.unwrap();
            let append = Append {
                version: VERSION,
                log,
                branch,
                parent: tip,
                epoch: group.epoch(),
                content_type: 2,
                commit: None,
                message: proposed.message.to_bytes().into(),
            };
            let key = [log.as_ref(), &group.epoch().to_be_bytes()].concat();
            let fence = records.tx.borrow().get(Table::Fences, &key)?.unwrap();
            let fence: [u8; 32] = fence.as_slice().try_into().unwrap();
            let proof = FenceProof {
                version: VERSION,
                delivery_service: service,
                log,
                branch,
                epoch: group.epoch(),
                method: Method::Append,
                subject: append.id().0.into(),
            };
            made.push(AppendRequest {
                append: append.to_bytes(),
                fence_signature: proof.sign(&SigningKey::from_seed(fence.into())).to_vec(),
                ..Default::default()
            });
            group = proposed.group;
        }
        Ok(made)
    });
    for request in made.unwrap() {
        let answer = sim.ask_delivery(Call::Append(request));
        assert!(matches!(answer, Ok(Answer::Append(_))), "{answer:?}");
    }
}

/// The commit and the branch on which a person stands: those that its next append names.
fn tip(sim: &mut Sim, who: usize, log: LogId) -> (EntryId, EntryId) {
    let named = Arc::new(Mutex::new(None));
    let found = named.clone();
    sim.meddle = Some(Box::new(move |by, call| {
        if let (true, Call::Append(request)) = (by == who, call) {
            let append = Append::from_bytes(&request.append).unwrap();
            *found.lock().unwrap() = Some((append.parent, append.branch));
        }
    }));
    sim.ask(who, send(log, "before")).unwrap();
    sim.meddle = None;
    named.lock().unwrap().take().unwrap()
}

/// What a person's device signs with: the one of its stored seeds that belongs to the key.
fn signer(sim: &mut Sim, who: usize, device: &PublicKey) -> SignatureKeyPair {
    let rows = sim.person(who).store.rows(Table::Account).unwrap();
    let seeds = rows.iter().flat_map(|(_, value)| value.windows(32));
    let seed = seeds
        .map(|seed| <[u8; 32]>::try_from(seed).unwrap())
        .find(|seed| SigningKey::from_seed((*seed).into()).public() == *device);
    SignatureKeyPair::new(Secret::from(seed.unwrap().to_vec()), device.0.into())
}

/// Whether somebody's history says that a person left.
fn saw_leave(sim: &mut Sim, who: usize, leaver: &str) -> bool {
    sim.history(who, "moot")
        .iter()
        .any(|line| matches!(&line.what, What::Left(left) if left.by.name.to_string() == leaver))
}

#[test]
fn who_leaves_is_out_as_soon_as_another_is_online() {
    let (mut sim, log) = moot(1, &["alice", "bob", "charlie"]);
    sim.ask(BOB, send(log, "goodbye")).unwrap();
    assert_eq!(sim.ask(BOB, leave(log)), Ok(()));
    assert!(sim.conversation(BOB, "moot").leaving);
    assert_eq!(standing(&mut sim, BOB), Standing::Member);
    // A leaver sends nothing more.
    for intent in [send(log, "oh"), Intent::Update { log }, leave(log)] {
        assert_eq!(sim.ask(BOB, intent), Err(Error::Leaving("moot".into())));
    }
    sim.sync(CHARLIE);
    sim.sync(BOB);
    assert_eq!(standing(&mut sim, BOB), Standing::Left);
    assert!(!sim.conversation(BOB, "moot").leaving);
    sim.sync_all();
    agree(&mut sim, &[ALICE, CHARLIE]);
    assert_eq!(sim.members(ALICE, "moot").unwrap().members.len(), 2);
    for who in [ALICE, BOB, CHARLIE] {
        assert!(saw_leave(&mut sim, who, "bob"));
        assert_eq!(sim.said(who, "moot"), ["bob: goodbye"], "history is kept");
    }
    for table in [
        Table::Records,
        Table::Fences,
        Table::Attempts,
        Table::Outbox,
    ] {
        assert_eq!(sim.count(BOB, table), 0, "{table:?}");
    }
    assert_eq!(
        sim.ask(BOB, send(log, "?")),
        Err(Error::Left("moot".into()))
    );
    // And can come back.
    sim.ask(ALICE, add(log, &["bob"])).unwrap();
    sim.sync_all();
    sim.ask(BOB, send(log, "back")).unwrap();
    sim.sync_all();
    agree(&mut sim, &[ALICE, BOB, CHARLIE]);
}

#[test]
fn a_message_carries_the_leave_out_first() {
    let (mut sim, log) = moot(2, &["alice", "bob", "charlie"]);
    sim.ask(BOB, leave(log)).unwrap();
    let epoch = sim.conversation(ALICE, "moot").epoch;
    sim.restart(ALICE);
    assert_eq!(sim.ask(ALICE, send(log, "without bob")), Ok(()));
    assert_eq!(sim.conversation(ALICE, "moot").epoch, epoch + 1);
    sim.sync(BOB);
    assert_eq!(standing(&mut sim, BOB), Standing::Left);
    assert_eq!(sim.said(BOB, "moot"), Vec::<String>::new());
    sim.sync_all();
    agree(&mut sim, &[ALICE, CHARLIE]);
    assert_eq!(sim.said(CHARLIE, "moot"), ["alice: without bob"]);
}

#[test]
fn any_commit_takes_the_leave_along() {
    for seed in 0..4 {
        let (mut sim, log) = moot(seed, &["alice", "bob", "charlie"]);
        sim.ask(BOB, leave(log)).unwrap();
        // Too late to say that it was not seen, wherever Alice stopped reading.
        sim.pass(2001);
        let epoch = sim.conversation(ALICE, "moot").epoch;
        let intent = [
            Intent::Update { log },
            remove(log, &["charlie"]),
            remove(log, &["bob"]),
            remove(log, &["bob", "charlie"]),
        ];
        assert_eq!(sim.ask(ALICE, intent[seed as usize].clone()), Ok(()));
        assert_eq!(sim.conversation(ALICE, "moot").epoch, epoch + 1);
        sim.sync(BOB);
        assert_eq!(standing(&mut sim, BOB), Standing::Left);
        sim.sync_all();
        sim.ask(ALICE, send(log, "still works")).unwrap();
    }
}

/// A commit whose author had not seen the proposal passes it over, and it stays everybody's business.
#[test]
fn a_leave_that_was_passed_over_is_carried_out_by_value() {
    for seed in 0..20 {
        let (mut sim, log) = moot(seed, &["alice", "bob", "charlie"]);
        sim.disorder = true;
        sim.begin(BOB, leave(log)).unwrap();
        sim.begin(ALICE, Intent::Update { log }).unwrap();
        sim.settle();
        assert_eq!(sim.outcome(BOB), Ok(()));
        assert_eq!(sim.outcome(ALICE), Ok(()));
        sim.sync(CHARLIE);
        sim.sync(ALICE);
        sim.sync(BOB);
        assert_eq!(standing(&mut sim, BOB), Standing::Left);
        sim.sync_all();
        agree(&mut sim, &[ALICE, CHARLIE]);
        assert!(saw_leave(&mut sim, CHARLIE, "bob"));
    }
}

#[test]
fn the_last_one_closes_the_door() {
    let (mut sim, log) = moot(5, &["alice"]);
    sim.ask(ALICE, send(log, "anybody?")).unwrap();
    assert_eq!(sim.ask(ALICE, leave(log)), Ok(()));
    assert_eq!(standing(&mut sim, ALICE), Standing::Left);
    assert_eq!(sim.said(ALICE, "moot"), ["alice: anybody?"]);
    assert!(saw_leave(&mut sim, ALICE, "alice"));
    assert_eq!(sim.count(ALICE, Table::Records), 0);
    assert_eq!(sim.count(ALICE, Table::Outbox), 0);
}

#[test]
fn everybody_leaves_at_once() {
    for seed in 0..10 {
        let (mut sim, log) = moot(seed, &["alice", "bob", "charlie"]);
        sim.disorder = true;
        for who in [ALICE, BOB, CHARLIE] {
            sim.begin(who, leave(log)).unwrap();
        }
        sim.settle();
        sim.sync_all();
        sim.sync_all();
        for who in [ALICE, BOB, CHARLIE] {
            assert_eq!(standing(&mut sim, who), Standing::Left);
            assert_eq!(sim.count(who, Table::Records), 0);
            assert_eq!(sim.count(who, Table::Outbox), 0);
        }
    }
}

#[test]
fn members_take_turns_to_commit() {
    let names = ["alice", "bob", "charlie", "dora", "emil"];
    for seed in 0..5 {
        let (mut sim, log) = moot(seed, &names);
        let epoch = sim.conversation(ALICE, "moot").epoch;
        sim.ask(BOB, leave(log)).unwrap();
        let left = sim.now();
        // All of them read the proposal at the same moment.
        let mut commits = 0;
        let others = [0, 2, 3, 4];
        for who in others {
            sim.begin(who, Intent::Sync).unwrap();
        }
        sim.settle();
        for who in others {
            let conversation = sim.conversation(who, "moot");
            commits = commits.max(conversation.epoch - epoch);
            assert_eq!(sim.outcome(who), Ok(()));
        }
        assert_eq!(commits, 1, "the others saw it in time");
        assert!(sim.now() - left < 10_000);
        sim.sync_all();
        agree(&mut sim, &others);
    }
}

#[test]
fn power_is_lost_while_somebody_leaves() {
    let run = |sim: &mut Sim, log| {
        sim.ask(BOB, leave(log)).unwrap();
        sim.ask(ALICE, send(log, "one")).unwrap();
        sim.ask(CHARLIE, leave(log)).unwrap();
        sim.sync_all();
        sim.sync_all();
        for who in [BOB, CHARLIE] {
            assert_eq!(standing(sim, who), Standing::Left);
        }
        sim.ask(ALICE, send(log, "two")).unwrap();
        assert_eq!(sim.said(ALICE, "moot"), ["alice: one", "alice: two"]);
        assert_eq!(sim.members(ALICE, "moot").unwrap().members.len(), 1);
        assert_eq!(sim.count(ALICE, Table::Outbox), 0);
        assert_eq!(sim.count(ALICE, Table::Attempts), 0);
    };
    let (mut sim, log) = moot(7, &["alice", "bob", "charlie"]);
    let before = sim.steps;
    run(&mut sim, log);
    for at in before + 1..=sim.steps {
        for crash in CRASHES {
            println!("power is lost at step {at}, {crash:?}");
            let (mut sim, log) = moot(7, &["alice", "bob", "charlie"]);
            sim.crash = Some((at, crash));
            run(&mut sim, log);
        }
    }
}

/// Somebody reads what is there, and waits for no turn.
fn read(sim: &mut Sim, who: usize) {
    sim.begin(who, Intent::Sync).unwrap();
    while sim.deliver() {}
}

fn held_back() -> Result<(), Error> {
    Err(Error::Pending(Box::new(Error::RemovalProposed(
        "moot".into(),
    ))))
}

#[test]
fn who_is_to_be_removed_holds_its_messages_until_the_others_have_done_it() {
    let (mut sim, log) = moot(11, &["alice", "bob", "charlie", "dora"]);
    propose_to_remove(&mut sim, DORA, log, &["bob"]);
    let epoch = sim.conversation(CHARLIE, "moot").epoch;
    read(&mut sim, BOB);
    assert_eq!(sim.ask(BOB, send(log, "still here")), held_back());
    let seen = sim.conversation(BOB, "moot");
    assert_eq!(
        (seen.epoch, seen.waiting),
        (epoch, 1),
        "it is shown as waiting"
    );
    // As long as it takes: it is not Bob who commits.
    for _ in 0..3 {
        sim.pass(100_000);
        sim.restart(BOB);
        sim.sync(BOB);
        assert_eq!(sim.conversation(BOB, "moot").waiting, 1);
        assert_eq!(sim.conversation(BOB, "moot").epoch, epoch);
    }
    sim.sync(CHARLIE);
    assert_eq!(sim.conversation(CHARLIE, "moot").epoch, epoch + 1);
    sim.begin(BOB, Intent::Sync).unwrap();
    sim.settle();
    assert_eq!(standing(&mut sim, BOB), Standing::Removed);
    let failed = sim.person(BOB).events.iter().any(|event| {
        matches!(event, Event::Failed { error, .. } if *error == Error::NoLongerMember("moot".into()))
    });
    assert!(failed, "{:?}", sim.person(BOB).events);
    sim.sync_all();
    agree(&mut sim, &[ALICE, CHARLIE]);
    assert_eq!(sim.said(CHARLIE, "moot"), ["dora: before"]);
}

#[test]
fn messages_go_on_when_the_epoch_ends_without_the_removal() {
    let (mut sim, log) = moot(12, &["alice", "bob", "charlie", "dora"]);
    propose_to_remove(&mut sim, DORA, log, &["bob"]);
    read(&mut sim, BOB);
    assert_eq!(sim.ask(BOB, send(log, "first")), held_back());
    // What the user asks for beside it does not wait; and it ends the epoch.
    assert_eq!(sim.ask(BOB, Intent::Update { log }), Ok(()));
    sim.sync(BOB);
    assert_eq!(sim.conversation(BOB, "moot").waiting, 0);
    sim.ask(BOB, send(log, "second")).unwrap();
    sim.sync_all();
    agree(&mut sim, &[ALICE, BOB, CHARLIE]);
    assert_eq!(
        sim.said(CHARLIE, "moot"),
        ["dora: before", "bob: first", "bob: second"]
    );
}

/// Whoever proposes to remove all others, and is never seen again, silences nobody.
#[test]
fn nobody_is_silenced_for_ever() {
    let (mut sim, log) = moot(13, &["alice", "bob", "charlie", "dora"]);
    propose_to_remove(&mut sim, DORA, log, &["alice", "bob", "charlie"]);
    let proposed = sim.now();
    read(&mut sim, BOB);
    read(&mut sim, CHARLIE);
    sim.begin(BOB, send(log, "bob")).unwrap();
    sim.begin(CHARLIE, send(log, "charlie")).unwrap();
    while sim.deliver() {}
    for who in [BOB, CHARLIE] {
        assert_eq!(sim.conversation(who, "moot").waiting, 1);
        assert_eq!(sim.outcome(who), held_back());
    }
    assert!(sim.now() < proposed + 10_000);
    // Nobody who could do all of it came: one of them does what it may.
    sim.settle();
    sim.sync(BOB);
    sim.sync(CHARLIE);
    sim.sync(BOB);
    let stay = [BOB, CHARLIE].map(|who| standing(&mut sim, who) == Standing::Member);
    assert!(stay[0] || stay[1]);
    for (who, stays) in [BOB, CHARLIE].into_iter().zip(stay) {
        assert_eq!(sim.conversation(who, "moot").waiting, 0);
        if stays {
            sim.ask(who, send(log, "go on")).unwrap();
        }
    }
    assert!(sim.now() < proposed + 200_000);
}

#[test]
fn a_leaver_whose_removal_is_proposed_too_leaves() {
    let (mut sim, log) = moot(14, &["alice", "bob", "charlie", "dora"]);
    propose_to_remove(&mut sim, DORA, log, &["bob"]);
    read(&mut sim, BOB);
    assert_eq!(sim.ask(BOB, leave(log)), Ok(()));
    assert_eq!(
        sim.ask(BOB, send(log, "oh")),
        Err(Error::Leaving("moot".into()))
    );
    sim.sync(CHARLIE);
    sim.sync(BOB);
    assert_eq!(standing(&mut sim, BOB), Standing::Left);
    sim.sync_all();
    agree(&mut sim, &[ALICE, CHARLIE]);
}
