//! Services and members that do not keep the rules. Nobody is led astray, and nothing is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use folkmoot_client::logic::Intent;
use folkmoot_client::store::{Store, StoreError, Table};
use folkmoot_client::{BadService, Error, Event, Standing, What};
use folkmoot_mls::codec::{Bytes, Decode, Encode};
use folkmoot_mls::framing::PrivateMessage;
use folkmoot_mls::message::MlsMessage;
use folkmoot_protocol::call::{Answer, Call};
use folkmoot_protocol::delivery::{AppendRequest, DropRequest, Lane, ReadResponses, TakeRequest};
use folkmoot_protocol::ids::{ChainHash, LogId, PickupAddress};
use folkmoot_protocol::invitation::Invitation;
use folkmoot_protocol::keys::SigningKey;
use folkmoot_protocol::log::{Append, Head, SignedHead};
use folkmoot_protocol::proof::{FenceProof, Method};
use folkmoot_protocol::{Refusal, VERSION};
use folkmoot_simulation::{Sim, new, remove, send};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use zeroize::Zeroizing;

const ALICE: usize = 0;
const BOB: usize = 1;
const CHARLIE: usize = 2;

fn moot(seed: u64) -> (Sim, LogId) {
    let mut sim = Sim::new(seed, &["alice", "bob", "charlie"]);
    sim.ask(ALICE, new("moot", &["bob", "charlie"])).unwrap();
    sim.sync_all();
    let log = sim.conversation(ALICE, "moot").log;
    (sim, log)
}

fn fence(sim: &mut Sim, who: usize, log: LogId) -> SigningKey {
    let epoch = sim.conversation(who, "moot").epoch;
    let key = [log.as_ref(), &epoch.to_be_bytes()].concat();
    let row = sim
        .person(who)
        .store
        .transaction::<_, StoreError>(|tx| tx.get(Table::Fences, &key));
    let seed: [u8; 32] = row.unwrap().unwrap().as_slice().try_into().unwrap();
    SigningKey::from_seed(Zeroizing::new(seed))
}

/// Makes Alice's device change what it appends, and sign that.
fn alice_appends(sim: &mut Sim, log: LogId, change: impl Fn(&mut Append) + Send + 'static) {
    let fence = fence(sim, ALICE, log);
    let delivery_service = sim.delivery_key();
    sim.meddle = Some(Box::new(move |who, call| {
        let (ALICE, Call::Append(request)) = (who, call) else {
            return;
        };
        let mut append = Append::from_bytes(&request.append).unwrap();
        change(&mut append);
        *request = signed(&append, &fence, delivery_service);
    }));
}

fn signed(
    append: &Append,
    fence: &SigningKey,
    delivery_service: folkmoot_protocol::keys::PublicKey,
) -> AppendRequest {
    let proof = FenceProof {
        version: VERSION,
        delivery_service,
        log: append.log,
        branch: append.branch,
        epoch: append.epoch,
        method: Method::Append,
        subject: append.id().0.into(),
    };
    AppendRequest {
        append: append.to_bytes(),
        fence_signature: proof.sign(fence).to_vec(),
        ..Default::default()
    }
}

/// Bob and Charlie do not follow, and go on without it; without Alice too, if it is proven to be hers.
fn is_not_followed(
    intent: impl Fn(LogId) -> Intent,
    change: impl Fn(&mut Append) + Send + 'static,
    proven: bool,
) {
    let (mut sim, log) = moot(1);
    sim.ask(ALICE, send(log, "good")).unwrap();
    sim.sync_all();
    let epoch = sim.conversation(BOB, "moot").epoch;
    alice_appends(&mut sim, log, change);
    let _ = sim.begin(ALICE, intent(log));
    sim.deliver_until_append();
    sim.carry(1);
    sim.restart(ALICE);
    sim.meddle = None;
    sim.ask(BOB, Intent::Sync).unwrap();
    sim.ask(CHARLIE, Intent::Sync).unwrap();
    for who in [BOB, CHARLIE] {
        let seen = sim.conversation(who, "moot");
        assert_eq!((seen.standing, seen.epoch), (Standing::Member, epoch + 1));
        let invalid: Vec<_> = sim
            .history(who, "moot")
            .into_iter()
            .filter_map(|line| match line.what {
                What::Invalid(line) => Some(line.by.map(|user| user.name.to_string())),
                _ => None,
            })
            .collect();
        assert_eq!(invalid, [proven.then(|| "alice".to_owned())]);
        let members = sim.members(who, "moot").unwrap().members.len();
        assert_eq!(members, if proven { 2 } else { 3 });
        assert_eq!(sim.count(who, Table::Evidence), 1);
        assert_eq!(sim.said(who, "moot"), ["alice: good"]);
    }
    sim.ask(BOB, send(log, "on")).unwrap();
    sim.sync(CHARLIE);
    assert_eq!(sim.said(CHARLIE, "moot"), ["alice: good", "bob: on"]);
}

#[test]
fn a_commit_with_a_false_fence_key_is_not_followed() {
    is_not_followed(
        |log| Intent::Update { log },
        |append| {
            if let Some(commit) = &mut append.commit {
                commit.next_fence_key.0[0] ^= 1;
            }
        },
        true,
    );
}

#[test]
fn a_removal_that_is_no_cut_is_not_followed() {
    is_not_followed(
        |log| remove(log, &["charlie"]),
        |append| {
            if let Some(commit) = &mut append.commit {
                commit.cut = false;
            }
        },
        true,
    );
}

#[test]
fn a_commit_that_does_not_decrypt_is_not_followed() {
    is_not_followed(
        |log| Intent::Update { log },
        |append| {
            let mut message = append.message.to_vec();
            *message.last_mut().unwrap() ^= 1;
            append.message = message.into();
        },
        // She says that it is hers, but so could everybody.
        false,
    );
}

#[test]
fn a_message_that_does_not_decrypt_is_passed_over() {
    let (mut sim, log) = moot(2);
    alice_appends(&mut sim, log, |append| {
        let Ok(MlsMessage::PrivateMessage(message)) = MlsMessage::from_bytes(&append.message)
        else {
            panic!("not private");
        };
        let junk = PrivateMessage {
            ciphertext: vec![7; 200].into(),
            ..message
        };
        append.message = MlsMessage::PrivateMessage(junk).to_bytes().into();
    });
    let _ = sim.begin(ALICE, send(log, "junk"));
    sim.settle();
    sim.meddle = None;
    sim.ask(BOB, send(log, "hello")).unwrap();
    assert_eq!(sim.said(BOB, "moot"), ["bob: hello"]);
    let unreadable =
        |line: &folkmoot_client::HistoryEntry| matches!(line.what, What::Unreadable(_));
    assert!(sim.history(BOB, "moot").iter().any(unreadable));
    sim.sync(CHARLIE);
    assert_eq!(sim.said(CHARLIE, "moot"), ["bob: hello"]);
}

/// Twists what Bob reads; he must notice, lose nothing, and go on once the service is honest again.
fn bob_notices(
    seed: u64,
    twist: impl Fn(&mut ReadResponses, &SigningKey) + Send + 'static,
    expected: impl Fn(LogId) -> BadService,
) {
    let (mut sim, log) = moot(seed);
    for text in ["one", "two", "three"] {
        sim.ask(ALICE, send(log, text)).unwrap();
    }
    let key = sim.delivery_secret.clone();
    sim.twist = Some(Box::new(move |who, _, answer| {
        if let (BOB, Ok(Answer::Read(answer))) = (who, answer) {
            twist(answer, &key);
        }
    }));
    let synced = sim.ask(BOB, Intent::Sync);
    assert_eq!(synced, Ok(()));
    let blocked = sim.person(BOB).events.iter().find_map(|event| match event {
        Event::Blocked { error } => Some(error.clone()),
        _ => None,
    });
    assert_eq!(blocked, Some(Error::BadService(expected(log))));
    sim.twist = None;
    sim.sync(BOB);
    assert_eq!(
        sim.said(BOB, "moot"),
        ["alice: one", "alice: two", "alice: three"]
    );
    sim.ask(BOB, send(log, "four")).unwrap();
    sim.sync(ALICE);
    assert_eq!(sim.said(ALICE, "moot").len(), 4);
}

#[test]
fn a_service_that_leaves_an_entry_out_is_noticed() {
    let twist = |answer: &mut ReadResponses, _: &SigningKey| {
        answer.batches[0].entries.remove(1);
    };
    bob_notices(11, twist, BadService::Order);
}

#[test]
fn a_service_that_leaves_the_last_entries_out_is_noticed() {
    let twist = |answer: &mut ReadResponses, _: &SigningKey| {
        answer.batches[0].entries.truncate(1);
    };
    bob_notices(12, twist, BadService::Contradiction);
}

#[test]
fn a_service_that_changes_the_order_is_noticed() {
    let twist = |answer: &mut ReadResponses, _: &SigningKey| {
        answer.batches[0].entries.swap(0, 1);
    };
    bob_notices(13, twist, BadService::Order);
}

#[test]
fn a_head_that_is_not_signed_is_noticed() {
    let twist = |answer: &mut ReadResponses, _: &SigningKey| {
        if let Some(head) = &mut answer.batches[0].head {
            head.signature[5] ^= 1;
        }
    };
    bob_notices(14, twist, BadService::Signature);
}

#[test]
fn a_service_that_denies_the_log_is_noticed() {
    let twist = |answer: &mut ReadResponses, _: &SigningKey| {
        answer.batches[0].entries.clear();
        answer.batches[0].end = folkmoot_protocol::delivery::read_response::End::Blind.into();
    };
    bob_notices(15, twist, BadService::Denied);
}

/// Bob reads entries with other times, under heads that are signed for them.
fn other_times(answer: &mut ReadResponses, key: &SigningKey, mut chain: ChainHash, log: LogId) {
    for batch in &mut answer.batches {
        let mut time = 0;
        for entry in &mut batch.entries {
            entry.time += 1;
            time = entry.time;
            let id = Append::from_bytes(&entry.content).unwrap().id();
            chain = chain.next(log, entry.sequence, entry.time, id);
        }
        if let (Some(receipt), false) = (&mut batch.head, batch.entries.is_empty()) {
            let head = Head {
                chain,
                entry_time: time,
                ..Head::from_bytes(&receipt.head).unwrap()
            };
            *receipt = SignedHead::sign(head, key).into();
        }
    }
}

fn chain_of(sim: &mut Sim, who: usize, log: LogId) -> ChainHash {
    let sequence = sim.conversation(who, "moot").sequence;
    let key = [log.as_ref(), &sequence.to_be_bytes()].concat();
    let row = sim
        .person(who)
        .store
        .transaction::<_, StoreError>(|tx| tx.get(Table::Chain, &key));
    ChainHash::from_bytes(&row.unwrap().unwrap()).unwrap()
}

#[test]
fn a_service_that_shows_two_logs_is_found_out_by_the_next_message() {
    let (mut sim, log) = moot(16);
    sim.ask(ALICE, send(log, "one")).unwrap();
    let (key, chain) = (sim.delivery_secret.clone(), chain_of(&mut sim, BOB, log));
    sim.twist = Some(Box::new(move |who, _, answer| {
        if let (BOB, Ok(Answer::Read(answer))) = (who, answer) {
            other_times(answer, &key, chain, log);
        }
    }));
    sim.sync(BOB);
    sim.twist = None;
    // Bob's log is another one now. What he says tells.
    let _ = sim.begin(BOB, send(log, "two"));
    sim.settle();
    sim.sync(ALICE);
    let found = sim
        .history(ALICE, "moot")
        .into_iter()
        .find_map(|line| match line.what {
            What::Contradiction(found) => Some((found.with.name.to_string(), found.sequence)),
            _ => None,
        });
    assert_eq!(found, Some(("bob".into(), 2)));
    assert_eq!(sim.said(ALICE, "moot"), ["alice: one", "bob: two"]);
}

#[test]
fn a_service_that_breaks_its_receipt_is_found_out_and_the_evidence_kept() {
    let (mut sim, log) = moot(17);
    let (key, chain) = (sim.delivery_secret.clone(), chain_of(&mut sim, BOB, log));
    sim.twist = Some(Box::new(move |who, _, answer| {
        if let (BOB, Ok(Answer::Read(answer))) = (who, answer) {
            other_times(answer, &key, chain, log);
        }
    }));
    // The receipt is honest, what is read afterwards is not.
    let sent = sim.ask(BOB, send(log, "mine"));
    let contradiction = Error::BadService(BadService::Contradiction(log));
    assert_eq!(sent, Err(Error::Pending(Box::new(contradiction))));
    assert_eq!(sim.count(BOB, Table::Evidence), 1);
    sim.twist = None;
    sim.sync(BOB);
    assert_eq!(sim.said(BOB, "moot"), ["bob: mine"]);
}

/// Answers every append of Bob with a conflict, signed for where Bob stands.
fn always_conflict(sim: &mut Sim, log: LogId) {
    let key = sim.delivery_secret.clone();
    let seen = sim.conversation(BOB, "moot");
    let chain = chain_of(sim, BOB, log);
    let time = sim.history(BOB, "moot").last().unwrap().time;
    sim.twist = Some(Box::new(move |who, call, answer| {
        if let (BOB, Call::Append(request)) = (who, call) {
            let append = Append::from_bytes(&request.append).unwrap();
            let head = Head {
                version: VERSION,
                log,
                branch: append.branch,
                sequence: seen.sequence,
                chain,
                entry_time: time,
                issued: time,
            };
            let signed = Box::new(SignedHead::sign(head, &key));
            let kind = folkmoot_protocol::Conflict::TipMoved;
            *answer = Err(folkmoot_protocol::Refusal::Conflict(kind, signed));
        }
    }));
}

#[test]
fn a_conflict_that_is_a_lie_is_settled_by_the_log() {
    for intent in [|log| send(log, "mine"), |log| Intent::Update { log }] {
        let (mut sim, log) = moot(18);
        let epoch = sim.conversation(BOB, "moot").epoch;
        always_conflict(&mut sim, log);
        assert_eq!(sim.ask(BOB, intent(log)), Ok(()));
        sim.twist = None;
        sim.sync_all();
        let [alice, bob] = [ALICE, BOB].map(|who| sim.conversation(who, "moot"));
        assert_eq!(alice.epoch_authenticator, bob.epoch_authenticator);
        assert!(bob.epoch <= epoch + 1, "it happened once");
        assert_eq!(sim.said(BOB, "moot"), sim.said(ALICE, "moot"));
        assert_eq!(sim.count(BOB, Table::Outbox), 0);
    }
}

#[test]
fn a_service_that_takes_nothing_is_not_asked_for_ever() {
    let (mut sim, log) = moot(20);
    always_conflict(&mut sim, log);
    sim.meddle = Some(Box::new(|who, call| {
        if let (BOB, Call::Append(request)) = (who, call) {
            request.fence_signature.clear();
        }
    }));
    let sent = sim.ask(BOB, send(log, "mine"));
    assert_eq!(sent, Err(Error::Pending(Box::new(Error::NotTaken))));
    (sim.meddle, sim.twist) = (None, None);
    sim.sync(BOB);
    sim.sync(ALICE);
    assert_eq!(sim.said(ALICE, "moot"), ["bob: mine"]);
}

#[test]
fn a_restored_home_is_noticed_before_anything_is_encrypted() {
    let done: [fn(LogId) -> Intent; 2] = [
        |log| send(log, "after the copy was made"),
        |log| Intent::Update { log },
    ];
    for (number, done) in done.into_iter().enumerate() {
        let (mut sim, log) = moot(19);
        let copy = sim.person(ALICE).store.copy().unwrap();
        sim.ask(ALICE, done(log)).unwrap();
        sim.restore(ALICE, copy);
        for _ in 0..2 {
            let sent = sim.ask(ALICE, send(log, "with old keys"));
            assert!(matches!(sent, Err(Error::Stopped { .. })), "{sent:?}");
        }
        sim.sync(BOB);
        let said = sim.said(BOB, "moot");
        assert_eq!(said, ["alice: after the copy was made"][number..]);
    }
}

/// Anybody who can look Bob up can invite him to anywhere, as often as he likes.
fn invite_elsewhere(sim: &mut Sim, times: u8) {
    let device = sim.look_up("bob").devices.remove(0);
    for time in 0..times {
        let request = TakeRequest {
            request_id: vec![time; 16],
            lane: Some(Lane {
                version: 1,
                cipher_suite: 1,
            }),
            mailboxes: vec![device.mailbox.to_vec()],
            payment: None,
        };
        let Ok(Answer::Take(answer)) = sim.ask_delivery(Call::Take(request)) else {
            panic!("a package is there")
        };
        let invitation = Invitation {
            version: VERSION,
            log: LogId([time; 32]),
            delivery_url: b"https://nowhere.example".as_slice().into(),
            delivery_key: sim.delivery_key(),
            delivery_pin: Bytes::default(),
            address: PickupAddress([time; 32]),
            shared_key: [1; 32],
            own_key: [2; 32],
            inviter: b"mallory@localhost".as_slice().into(),
        };
        let key = &device.mailbox_key;
        let mut rng = ChaCha20Rng::from_seed([time; 32]);
        let envelope = invitation.seal(key.version, &key.key, &mut rng).unwrap();
        let drop = DropRequest {
            mailbox: device.mailbox.to_vec(),
            ticket: answer.taken[0].ticket.clone(),
            envelope,
        };
        sim.ask_delivery(Call::Drop(drop)).unwrap();
    }
}

#[test]
fn invitations_that_lead_nowhere_stop_nothing() {
    let (mut sim, log) = moot(5);
    invite_elsewhere(&mut sim, 3);
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    sim.twist = Some(Box::new(move |_, call, result| {
        if matches!(call, Call::PickUp(_)) {
            counted.fetch_add(1, Ordering::Relaxed);
            *result = Err(Refusal::BadProof);
        }
    }));
    sim.ask(ALICE, send(log, "hello")).unwrap();
    sim.person(BOB).events.clear();
    sim.ask(BOB, Intent::Sync).unwrap();
    sim.ask(BOB, send(log, "here")).unwrap();
    assert_eq!(asked.load(Ordering::Relaxed), 3, "each is asked for once");
    let blocked = |event: &Event| matches!(event, Event::Blocked { .. });
    assert!(!sim.person(BOB).events.iter().any(blocked));
    assert_eq!(sim.said(BOB, "moot"), ["alice: hello", "bob: here"]);
    assert_eq!(sim.count(BOB, Table::Invitations), 3);
    // They are asked for again, later each time, and given up after a week.
    sim.pass(700);
    sim.restart(BOB);
    sim.ask(BOB, Intent::Sync).unwrap();
    assert_eq!(asked.load(Ordering::Relaxed), 6);
    sim.pass(8 * 24 * 3600 * 1000);
    sim.ask(BOB, Intent::Sync).unwrap();
    assert_eq!(sim.count(BOB, Table::Invitations), 0);
}
