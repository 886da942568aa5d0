//! What the service gives to whom: the removed read no further than their removal, the added nothing
//! from before; also if they ask by hand, with the keys that they had.

use folkmoot_client::logic::Intent;
use folkmoot_client::store::{Store, StoreError, Table};
use folkmoot_client::{Error, Standing};
use folkmoot_protocol::VERSION;
use folkmoot_protocol::call::{Answer, Call};
use folkmoot_protocol::delivery::read_response::End;
use folkmoot_protocol::delivery::{
    AppendRequest, LogRead, NonceRequest, ReadRequest, ReadResponse,
};
use folkmoot_protocol::ids::{EntryId, LogId};
use folkmoot_protocol::keys::SigningKey;
use folkmoot_protocol::log::Append;
use folkmoot_protocol::proof::{FenceProof, Method};
use folkmoot_simulation::{Sim, add, new, remove, send};
use zeroize::Zeroizing;

const ALICE: usize = 0;
const BOB: usize = 1;
const CHARLIE: usize = 2;

/// The fence key that a device has now, with its epoch: what a thief would find.
fn fence(sim: &mut Sim, who: usize, log: LogId) -> (SigningKey, u64) {
    let epoch = sim.conversation(who, "moot").epoch;
    let key = [log.as_ref(), &epoch.to_be_bytes()].concat();
    let row = sim
        .person(who)
        .store
        .transaction::<_, StoreError>(|tx| tx.get(Table::Fences, &key));
    let seed: [u8; 32] = row.unwrap().unwrap().as_slice().try_into().unwrap();
    (SigningKey::from_seed(Zeroizing::new(seed)), epoch)
}

fn branch(sim: &mut Sim, log: LogId) -> EntryId {
    // The Open's id names the branch; the founder's fence key of epoch 0 made it.
    let (fence, epoch) = fence(sim, ALICE, log);
    assert_eq!(epoch, 0);
    folkmoot_protocol::log::Open {
        version: VERSION,
        log,
        fence_key: fence.public(),
    }
    .id()
}

/// Reads a log by hand.
fn read(
    sim: &mut Sim,
    log: LogId,
    branch: EntryId,
    key: &(SigningKey, u64),
    after: u64,
) -> Vec<ReadResponse> {
    let Ok(Answer::LogNonce(nonce)) = sim.ask_delivery(Call::LogNonce(NonceRequest {})) else {
        panic!("no nonce");
    };
    let proof = FenceProof {
        version: VERSION,
        delivery_service: sim.delivery_key(),
        log,
        branch,
        epoch: key.1,
        method: Method::Read,
        subject: nonce.nonce.as_slice().into(),
    };
    let read = LogRead {
        log: log.into(),
        branch: branch.into(),
        epoch: key.1,
        nonce: nonce.nonce,
        proof: proof.sign(&key.0).to_vec(),
        after,
    };
    match sim.ask_delivery(Call::Read(ReadRequest {
        logs: vec![read],
        follow: false,
    })) {
        Ok(Answer::Read(answer)) => answer.batches,
        other => panic!("{other:?}"),
    }
}

fn sequences(batches: &[ReadResponse]) -> Vec<u64> {
    batches
        .iter()
        .flat_map(|batch| &batch.entries)
        .map(|entry| entry.sequence)
        .collect()
}

#[test]
fn the_removed_read_up_to_their_removal_and_the_added_from_their_adding() {
    let mut sim = Sim::new(5, &["alice", "bob", "charlie"]);
    sim.ask(ALICE, new("moot", &[])).unwrap();
    let log = sim.conversation(ALICE, "moot").log;
    let branch = branch(&mut sim, log);
    sim.ask(ALICE, send(log, "before charlie")).unwrap(); // 1
    sim.ask(ALICE, add(log, &["bob", "charlie"])).unwrap(); // 2
    sim.sync_all();
    sim.ask(BOB, send(log, "with charlie")).unwrap(); // 3
    sim.sync_all();
    let charlies = fence(&mut sim, CHARLIE, log);

    // Nothing from before, whatever the cursor says.
    let batches = read(&mut sim, log, branch, &charlies, 0);
    assert_eq!(sequences(&batches).first(), Some(&3));

    sim.ask(ALICE, remove(log, &["charlie"])).unwrap(); // 4, a cut
    sim.ask(ALICE, send(log, "after charlie")).unwrap(); // 5
    sim.sync(BOB);
    sim.ask(BOB, Intent::Update { log }).unwrap(); // 6
    let batches = read(&mut sim, log, branch, &charlies, 0);
    assert_eq!(sequences(&batches), [3, 4]);
    assert_eq!(batches.last().unwrap().end(), End::Cut);
    let batches = read(&mut sim, log, branch, &charlies, 4);
    assert!(sequences(&batches).is_empty());

    // Nor does the old key write.
    let (tip, epoch) = (sim.conversation(ALICE, "moot"), charlies.1);
    let append = Append {
        version: VERSION,
        log,
        branch,
        parent: branch,
        epoch,
        content_type: 1,
        commit: None,
        message: b"no message".as_slice().into(),
    };
    let proof = FenceProof {
        version: VERSION,
        delivery_service: sim.delivery_key(),
        log,
        branch,
        epoch,
        method: Method::Append,
        subject: append.id().0.into(),
    };
    let request = AppendRequest {
        append: folkmoot_mls::codec::Encode::to_bytes(&append),
        fence_signature: proof.sign(&charlies.0).to_vec(),
        ..Default::default()
    };
    assert!(sim.ask_delivery(Call::Append(request)).is_err());
    sim.sync_all();
    assert_eq!(
        sim.conversation(ALICE, "moot").sequence,
        tip.sequence + 1,
        "bob's update"
    );

    assert_eq!(
        sim.conversation(CHARLIE, "moot").standing,
        Standing::Removed
    );
    assert_eq!(sim.said(CHARLIE, "moot"), ["bob: with charlie"]);
    assert_eq!(
        sim.members(CHARLIE, "moot"),
        Err(Error::NoLongerMember("moot".into()))
    );
}

#[test]
fn what_cannot_be_is_told() {
    let mut sim = Sim::new(6, &["alice", "bob"]);
    let stranger = sim.join("zoe");
    let user = |name: &str| format!("{name}@moot.example").parse().unwrap();

    assert_eq!(
        sim.ask(stranger, new("moot", &[])),
        Err(Error::NotRegistered)
    );
    let taken = sim.registration("alice");
    let refused = sim.ask(stranger, taken);
    assert_eq!(
        refused,
        Err(Error::Refused(folkmoot_protocol::Refusal::NameTaken))
    );
    let free = sim.registration("zoe");
    assert_eq!(sim.ask(stranger, free), Ok(()));
    let again = sim.registration("zoe");
    assert_eq!(
        sim.ask(stranger, again),
        Err(Error::AlreadyRegistered(user("zoe")))
    );

    assert_eq!(sim.ask(ALICE, new("", &[])), Err(Error::InvalidTitle));
    sim.ask(ALICE, new("moot", &["bob"])).unwrap();
    assert_eq!(
        sim.ask(ALICE, new("moot", &[])),
        Err(Error::TitleTaken("moot".into()))
    );
    let log = sim.conversation(ALICE, "moot").log;
    assert_eq!(
        sim.ask(ALICE, add(log, &["nobody"])),
        Err(Error::UnknownUser(user("nobody")))
    );
    assert_eq!(
        sim.ask(ALICE, add(log, &["bob"])),
        Err(Error::AlreadyMember(user("bob")))
    );
    assert_eq!(sim.ask(ALICE, add(log, &["alice"])), Err(Error::Oneself));
    assert_eq!(sim.ask(ALICE, add(log, &[])), Err(Error::NobodyNamed));
    let elsewhere = "bob@elsewhere.example";
    let other_domain = Error::OtherDomain(elsewhere.parse().unwrap());
    assert_eq!(sim.ask(ALICE, add(log, &[elsewhere])), Err(other_domain));
    assert_eq!(
        sim.ask(ALICE, remove(log, &["zoe"])),
        Err(Error::NotMember(user("zoe")))
    );
    assert!(matches!(
        sim.ask(ALICE, add(log, &["Bob!"])),
        Err(Error::InvalidUser(_))
    ));
    let bad_type = Intent::Send {
        log,
        media_type: "\u{7}".into(),
        content: vec![],
    };
    assert_eq!(sim.ask(ALICE, bad_type), Err(Error::InvalidMediaType));
    let long = Intent::Send {
        log,
        media_type: "a/b".into(),
        content: vec![0; 1 << 20],
    };
    assert!(matches!(sim.ask(ALICE, long), Err(Error::TooLong { .. })));
    // After all that everything works.
    sim.ask(ALICE, send(log, "hello")).unwrap();
    sim.sync(BOB);
    assert_eq!(sim.said(BOB, "moot"), ["alice: hello"]);
}

#[test]
fn the_longest_message_arrives() {
    let mut sim = Sim::new(8, &["alice", "bob"]);
    sim.ask(ALICE, new("moot", &["bob"])).unwrap();
    let log = sim.conversation(ALICE, "moot").log;
    let content = vec![7; folkmoot_protocol::plaintext::Plaintext::MAX_CONTENT];
    sim.ask(
        ALICE,
        Intent::Send {
            log,
            media_type: "a/b".into(),
            content,
        },
    )
    .unwrap();
    sim.sync(BOB);
    assert_eq!(sim.said(BOB, "moot").len(), 1);
}

#[test]
fn an_empty_shelf_still_has_its_package_of_last_resort() {
    let mut sim = Sim::new(9, &["alice", "bob"]);
    // Bob never syncs, so nobody fills his shelf: twenty packages, then the last one again and again.
    let mut logs = Vec::new();
    for number in 0..24 {
        let title = format!("moot {number}");
        sim.ask(ALICE, new(&title, &["bob"])).unwrap();
        logs.push(sim.conversation(ALICE, &title).log);
    }
    sim.sync(BOB);
    sim.sync(BOB);
    for (number, log) in logs.into_iter().enumerate() {
        let title = format!("moot {number}");
        sim.ask(BOB, send(log, "here")).unwrap();
        sim.sync(ALICE);
        assert_eq!(sim.said(ALICE, &title), ["bob: here"]);
    }
    // Used keys are gone, new packages are there.
    assert_eq!(sim.count(BOB, Table::Packages), 21);
}

#[test]
fn a_package_that_has_expired_is_not_used() {
    let mut sim = Sim::new(10, &["alice", "bob"]);
    sim.ask(ALICE, new("moot", &[])).unwrap();
    let log = sim.conversation(ALICE, "moot").log;
    // All but the last resort have expired; then that one too.
    sim.pass(30 * 24 * 3600 * 1000);
    sim.ask(ALICE, add(log, &["bob"])).unwrap();
    sim.sync(BOB);
    sim.ask(BOB, send(log, "here")).unwrap();
    sim.ask(ALICE, new("late", &[])).unwrap();
    let late = sim.conversation(ALICE, "late").log;
    sim.ask(BOB, Intent::Sync).unwrap();
    sim.pass(60 * 24 * 3600 * 1000);
    let refused = sim.ask(ALICE, add(late, &["bob"]));
    let bob = "bob@moot.example".parse().unwrap();
    assert!(
        matches!(&refused, Err(Error::NoPackage(user) | Error::BadDirectory(user, _)) if *user == bob),
        "{refused:?}"
    );
}

/// Alice and Bob are in a group; Alice makes a commit, which is ordered so many days later.
fn ordered_days_later(days: u64, wish: impl Fn(LogId) -> Intent) -> [(Standing, u64); 2] {
    let mut sim = Sim::new(11, &["alice", "bob", "charlie"]);
    sim.ask(ALICE, new("moot", &["bob"])).unwrap();
    let log = sim.conversation(ALICE, "moot").log;
    sim.sync_all();
    sim.begin(ALICE, wish(log)).unwrap();
    sim.deliver_until_append();
    sim.pass(days * 24 * 3600 * 1000);
    sim.settle();
    sim.sync(ALICE);
    sim.sync(BOB);
    [ALICE, BOB].map(|who| {
        let moot = sim.conversation(who, "moot");
        (moot.standing, moot.epoch)
    })
}

#[test]
fn a_late_commit_is_judged_alike_by_its_author_and_the_others() {
    let add_charlie = |log| add(log, &["charlie"]);
    let update = |log| Intent::Update { log };
    let member = Standing::Member;
    assert_eq!(ordered_days_later(1, add_charlie), [(member, 2); 2]);
    // Charlie's package has expired on the way: nobody follows, and nobody is removed for it.
    assert_eq!(ordered_days_later(40, add_charlie), [(member, 2); 2]);
    // Alice's own credential has expired on the way. That makes no commit invalid: all follow.
    assert_eq!(ordered_days_later(100, update), [(member, 2); 2]);
}

#[test]
fn keys_of_past_epochs_are_not_kept() {
    let mut sim = Sim::new(21, &["alice", "bob"]);
    sim.ask(ALICE, new("moot", &["bob"])).unwrap();
    sim.sync(BOB);
    let log = sim.conversation(ALICE, "moot").log;
    let mut counts = Vec::new();
    for _ in 0..5 {
        for who in [ALICE, BOB] {
            sim.sync(who);
            sim.ask(who, send(log, "hello")).unwrap();
            sim.ask(who, Intent::Update { log }).unwrap();
        }
        // Their messages may come for a minute, if no commit was a cut.
        sim.pass(75_000);
        sim.sync_all();
        counts.push(
            [ALICE, BOB]
                .map(|who| [Table::Records, Table::Fences].map(|table| sim.count(who, table))),
        );
    }
    // A round leaves nothing behind that the round before did not: no key outlives its epoch.
    assert_eq!(counts[1], counts[4], "{counts:?}");
    assert_eq!(counts[4][0][1], 1);
}
