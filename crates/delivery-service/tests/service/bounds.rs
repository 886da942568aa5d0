//! What may be asked of one log or mailbox in a time, and what a log may hold.

use folkmoot_delivery_service::store::{Change, Partition, Put, Store, Table};
use folkmoot_delivery_service::{MemoryStore, Rates};
use folkmoot_protocol::call::{Answer, Call};
use folkmoot_protocol::delivery::{
    AcknowledgeRequest, CollectRequest, CountRequest, PutPagesRequest,
};
use folkmoot_protocol::ids::PageAddress;
use folkmoot_protocol::log::pages_subject;
use folkmoot_protocol::proof::Method;
use folkmoot_protocol::rate::Rate;
use folkmoot_protocol::{Refusal, limits};

use crate::world::{DAY, Group, World};

crate::on_every_store! {
    a_log_takes_so_many_appends_in_a_time;
    a_log_takes_so_many_bytes_in_a_time;
    who_was_removed_uses_nothing_up;
    a_branch_that_was_left_uses_nothing_up;
    an_owner_asks_so_often;
}

const SLOW: Rate = Rate {
    burst: 3,
    per_second: 1,
};

fn with_rates<S: Store>(mut world: World<S>, rates: Rates) -> World<S> {
    world.service = world.service.rates(rates);
    world
}

fn try_message<S: Store>(world: &mut World<S>, group: &Group, body: &[u8]) -> Result<(), Refusal> {
    let request = group.sign(&group.append(1, body));
    world.append(request).map(|_| ())
}

fn a_log_takes_so_many_appends_in_a_time<S: Store>(world: World<S>) {
    let mut world = with_rates(
        world,
        Rates {
            appends: SLOW,
            ..Rates::UNLIMITED
        },
    );
    let (group, other) = (world.group(), world.group());
    // Whoever has no right uses nothing of it up.
    let stranger = world.key();
    for number in 0..10 {
        let append = group.append(1, &[number]);
        let refused = world.append(group.sign_with(&append, &stranger));
        assert_eq!(refused, Err(Refusal::NotFound));
    }
    for body in [b"a", b"b", b"c"] {
        assert_eq!(try_message(&mut world, &group, body), Ok(()));
    }
    let refused = Err(Refusal::Rate(1000));
    assert_eq!(try_message(&mut world, &group, b"d"), refused);
    // A repeated one costs nothing, and another log has its own.
    assert_eq!(try_message(&mut world, &group, b"a"), Ok(()));
    assert_eq!(try_message(&mut world, &other, b"a"), Ok(()));
    world.now += 1000;
    assert_eq!(try_message(&mut world, &group, b"d"), Ok(()));
    assert_eq!(try_message(&mut world, &group, b"e"), refused);
    assert_eq!(world.read(&group, 0, 0).sequences, [1, 2, 3, 4]);
}

fn a_log_takes_so_many_bytes_in_a_time<S: Store>(world: World<S>) {
    let kibibytes = Rate {
        burst: 10,
        per_second: 1,
    };
    let mut world = with_rates(
        world,
        Rates {
            kibibytes,
            ..Rates::UNLIMITED
        },
    );
    let (group, other) = (world.group(), world.group());
    let [first, second] = [1, 2].map(|byte| vec![byte; 6 << 10]);
    assert_eq!(try_message(&mut world, &group, &first), Ok(()));
    let refused = try_message(&mut world, &group, &second);
    assert!(matches!(refused, Err(Refusal::Rate(_))), "{refused:?}");
    // What is small still fits; so does the rest, later.
    assert_eq!(try_message(&mut world, &group, b"small"), Ok(()));
    assert_eq!(try_message(&mut world, &other, &second), Ok(()));
    world.now += 10_000;
    assert_eq!(try_message(&mut world, &group, &second), Ok(()));
}

fn who_was_removed_uses_nothing_up<S: Store>(world: World<S>) {
    let kibibytes = Rate {
        burst: 200,
        per_second: 1,
    };
    let mut world = with_rates(
        world,
        Rates {
            appends: SLOW,
            stopped: SLOW,
            kibibytes,
            ..Rates::UNLIMITED
        },
    );
    let mut group = world.group();
    let removed = group.clone();
    world.commit(&mut group, true);
    world.now += 60_000;
    // Whoever was removed hears so, for a while. What it sends is large.
    for number in 0..20 {
        let append = removed.append(1, &[number; 30 << 10]);
        let refused = world.append(removed.sign(&append));
        match number {
            0..3 => assert!(
                matches!(refused, Err(Refusal::Conflict(_, _))),
                "{refused:?}"
            ),
            _ => assert_eq!(refused, Err(Refusal::Rate(1000))),
        }
        let page = vec![number; 30 << 10];
        let subject = pages_subject(&[PageAddress::of(&page)]);
        let proof = removed.proof(Method::PutPages, 0, &subject);
        let request = PutPagesRequest {
            log: removed.log.into(),
            branch: removed.branch.into(),
            epoch: 0,
            pages: vec![page],
            fence_signature: proof.sign(&removed.fences[0]).to_vec(),
        };
        assert!(world.ask(Call::PutPages(request)).is_err());
    }
    // The members have all of their rate, of appends and of bytes.
    for number in 0..3 {
        let message = group.append(1, &[number; 30 << 10]);
        assert!(world.append(group.sign(&message)).is_ok());
    }
    let refused = world.append(group.sign(&group.append(1, b"one more")));
    assert_eq!(refused.map(drop), Err(Refusal::Rate(1000)));
}

fn a_branch_that_was_left_uses_nothing_up<S: Store>(world: World<S>) {
    let mut world = with_rates(
        world,
        Rates {
            appends: SLOW,
            stopped: SLOW,
            ..Rates::UNLIMITED
        },
    );
    let mut spoilt = world.group();
    let mut group = spoilt.clone();
    world.commit(&mut spoilt, false);
    world.now += 60_000;
    // Whoever has made the commit writes as much as it may, in the epoch before as well.
    let hammer = |world: &mut World<S>, spoilt: &Group, before: &Group| {
        for number in 0..10 {
            let append = spoilt.append(1, &[number]);
            let _ = world.append(spoilt.sign(&append));
            let append = before.append(1, &[number]);
            let _ = world.append(before.sign(&append));
        }
        let refused = world.append(spoilt.sign(&spoilt.append(1, b"more")));
        assert!(matches!(refused, Err(Refusal::Rate(_))), "{refused:?}");
    };
    hammer(&mut world, &spoilt, &group);
    // The others contest it all the same, and go on at their own rate.
    let next = world.key();
    let mut contest = group.commit(&next.public(), true, 0);
    contest.commit.as_mut().unwrap().contest = true;
    let head = world.append(group.sign(&contest)).unwrap();
    group.branch = contest.id();
    group.follow(&contest, next, &head);
    hammer(&mut world, &spoilt, &spoilt);
    for body in [b"a", b"b", b"c"] {
        assert!(world.append(group.sign(&group.append(1, body))).is_ok());
    }
}

fn an_owner_asks_so_often<S: Store>(world: World<S>) {
    let mut world = with_rates(
        world,
        Rates {
            owner: SLOW,
            ..Rates::UNLIMITED
        },
    );
    let (owner, other) = (world.owner(), world.owner());
    let collect = |world: &mut World<S>, by: &crate::world::MailboxOwner| {
        let mut request = CollectRequest::default();
        request.owner = by.owns(Method::Collect, world.nonce(), &request);
        request.owner.as_mut().unwrap().mailbox = owner.mailbox().into();
        world.ask(Call::Collect(request)).map(drop)
    };
    for _ in 0..10 {
        assert_eq!(collect(&mut world, &other), Err(Refusal::NotFound));
    }
    assert_eq!(collect(&mut world, &owner), Ok(()));
    // Mailbox and shelf have one rate together.
    let mut request = AcknowledgeRequest::default();
    request.owner = owner.owns(Method::Acknowledge, world.nonce(), &request);
    assert!(world.ask(Call::Acknowledge(request)).is_ok());
    let count = |world: &mut World<S>, owner: &crate::world::MailboxOwner| {
        let mut request = CountRequest::default();
        request.owner = owner.owns(Method::Count, world.nonce(), &request);
        world.ask(Call::Count(request)).map(drop)
    };
    assert_eq!(count(&mut world, &owner), Ok(()));
    let refused = Err(Refusal::Rate(1000));
    assert_eq!(count(&mut world, &owner), refused);
    assert_eq!(collect(&mut world, &owner), refused);
    assert_eq!(count(&mut world, &other), Ok(()));
    world.now += 1000;
    assert_eq!(collect(&mut world, &owner), Ok(()));
}

/// As good as full: to fill it takes gigabytes.
fn fill(store: &MemoryStore, group: &Group, filled: u64) {
    let (partition, key) = (Partition::from(group.log), group.branch.0.to_vec());
    let value = store.read(|view| view.get(Table::Branches, partition, &key));
    let mut value = value.unwrap().expect("where the branch stands");
    // Until when it counts as not empty, in microseconds, is the last that a branch says of itself.
    let was = value.split_off(value.len() - 8);
    let was = u64::from_be_bytes(was.try_into().unwrap());
    assert!(was < filled);
    value.extend(filled.to_be_bytes());
    let put = Put {
        table: Table::Branches,
        key,
        value,
        expires: None,
    };
    let change = Change {
        partition,
        requires: Vec::new(),
        deletes: Vec::new(),
        puts: vec![put],
    };
    assert!(
        store
            .write(|transaction| transaction.apply(&change))
            .unwrap()
    );
}

#[test]
fn a_log_that_is_full_takes_commits_alone() {
    let store = MemoryStore::new();
    let mut world = World::new(store.clone());
    let mut group = world.group();
    world.message(&mut group, b"one");
    let kept = limits::RETENTION_DAYS * DAY;
    fill(&store, &group, (world.now + kept) * 1000);
    let full = Err(Refusal::LogFull);
    let message = group.sign(&group.append(1, b"two"));
    assert_eq!(world.append(message.clone()), full);
    assert_eq!(
        world.append(group.sign(&group.append(2, b"proposal"))),
        full
    );
    // What is in it is read, and repeated.
    let repeated = group.sign(&group.append(1, b"one"));
    assert_eq!(world.append(repeated).unwrap().sequence, 1);
    assert_eq!(world.read(&group, 0, 0).sequences, [1]);
    // Whoever has filled it can be removed.
    world.commit(&mut group, true);
    // Commits have an end as well.
    fill(&store, &group, (world.now + kept + kept / 8) * 1000);
    let next = world.key().public();
    let commit = group.sign(&group.commit(&next, false, group.sequence));
    assert_eq!(world.append(commit.clone()), full);
    // Refused for good it is not: what goes makes room.
    world.now += kept / 4;
    assert!(world.append(commit).is_ok());
}

/// What joiners find counts as well: the whole of what an append leaves in the store.
#[test]
fn parts_of_a_welcome_take_room() {
    let store = MemoryStore::new();
    let mut world = World::new(store.clone());
    let group = world.group();
    let kept = limits::RETENTION_DAYS * DAY * 1000;
    let mebibyte = u64::try_from(u128::from(kept) * (1 << 20) / u128::from(limits::LOG_BYTES));
    // Room for less than a mebibyte.
    let room = kept + kept / 8 - mebibyte.unwrap();
    fill(&store, &group, world.now * 1000 + room);
    let next = world.key().public();
    let joiners: Vec<_> = (0..300u16)
        .map(|number| {
            let mut address = [0; 32];
            address[..2].copy_from_slice(&number.to_be_bytes());
            (
                folkmoot_protocol::ids::PickupAddress(address),
                vec![7; 4000],
            )
        })
        .collect();
    let (_, large) = group.commit_with_welcome(&next, b"shared", &joiners);
    assert_eq!(world.append(large), Err(Refusal::LogFull));
    let (_, large) = group.commit_with_welcome(&next, &vec![7; 1 << 20], &joiners[..1]);
    assert_eq!(world.append(large), Err(Refusal::LogFull));
    let (_, small) = group.commit_with_welcome(&next, b"shared", &joiners[..1]);
    assert!(matches!(
        world.ask(Call::Append(small)),
        Ok(Answer::Append(_))
    ));
}
