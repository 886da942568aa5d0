//! Mailboxes: making one, dropping on a ticket, collecting, acknowledging.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use folkmoot_delivery_service::MemoryStore;
use folkmoot_delivery_service::store::{Store, StoreError, Transaction, View};
use folkmoot_protocol::Refusal;
use folkmoot_protocol::call::{Answer, Call};
use folkmoot_protocol::delivery::{
    AcknowledgeRequest, CollectRequest, CollectResponse, DropAllRequest, DropRequest, Taken,
};
use folkmoot_protocol::limits;
use folkmoot_protocol::proof::Method;

use crate::shelves::{package, stock, take};
use crate::world::{DAY, HOUR, MailboxOwner, World};

crate::on_every_store! {
    a_mailbox_is_its_owners;
    a_ticket_lets_one_envelope_in;
    a_ticket_is_good_for_seven_days;
    many_are_invited_at_once;
    envelopes_are_collected_and_acknowledged;
    a_mailbox_can_be_full;
    only_the_owner_collects;
}

/// Tickets come with packages.
fn tickets<S: Store>(world: &mut World<S>, owner: &MailboxOwner, number: usize) -> Vec<Taken> {
    let last = package(world, &owner.mailbox().0, true);
    stock(world, owner, vec![last]).unwrap();
    (0..number).map(|_| take(world, owner)).collect()
}

fn drop<S: Store>(world: &mut World<S>, taken: &Taken, envelope: &[u8]) -> Result<(), Refusal> {
    let request = DropRequest {
        mailbox: taken.mailbox.clone(),
        ticket: taken.ticket.clone(),
        envelope: envelope.to_vec(),
    };
    world.ask(Call::Drop(request)).map(|_| ())
}

fn many_are_invited_at_once<S: Store>(mut world: World<S>) {
    let owner = world.owner();
    let taken = tickets(&mut world, &owner, 3);
    let request = |taken: &Taken, envelope: &[u8]| DropRequest {
        mailbox: taken.mailbox.clone(),
        ticket: taken.ticket.clone(),
        envelope: envelope.to_vec(),
    };
    let mut drops: Vec<_> = taken.iter().map(|taken| request(taken, b"come")).collect();
    // Each for itself: a ticket that was never handed out, one that is used, one that is no mailbox's.
    drops[1].ticket = vec![9; 32];
    drops.push(request(&taken[0], b"another"));
    drops.push(DropRequest::default());
    let ask = |world: &mut World<S>, drops: Vec<DropRequest>| {
        world.ask(Call::DropAll(DropAllRequest { drops }))
    };
    for _ in 0..2 {
        let Ok(Answer::DropAll(answer)) = ask(&mut world, drops.clone()) else {
            panic!("it is answered")
        };
        let refusals = answer.refusals.iter();
        let refusals: Vec<_> = refusals.map(|bytes| Refusal::from_bytes(bytes)).collect();
        let expected = [
            None,
            Some(Refusal::NotFound),
            None,
            Some(Refusal::Taken),
            Some(Refusal::Malformed("mailbox".into())),
        ];
        assert_eq!(refusals, expected);
        assert!(answer.refusals[0].is_empty());
    }
    assert_eq!(collect(&mut world, &owner, 0).envelopes.len(), 2);
    let many = vec![drops[0].clone(); limits::DROPS_PER_CALL + 1];
    assert_eq!(ask(&mut world, many), Err(Refusal::TooLarge));
    let large = request(&taken[1], &[1; limits::ENVELOPE]);
    let many = vec![large; limits::DROPS_BYTES / limits::ENVELOPE + 1];
    assert_eq!(ask(&mut world, many), Err(Refusal::TooLarge));
}

fn collect<S: Store>(world: &mut World<S>, owner: &MailboxOwner, after: u64) -> CollectResponse {
    let mut request = CollectRequest { owner: None, after };
    request.owner = owner.owns(Method::Collect, world.nonce(), &request);
    match world.ask(Call::Collect(request)) {
        Ok(Answer::Collect(response)) => response,
        other => panic!("{other:?}"),
    }
}

fn acknowledge<S: Store>(world: &mut World<S>, owner: &MailboxOwner, through: u64) {
    let mut request = AcknowledgeRequest {
        owner: None,
        through,
    };
    request.owner = owner.owns(Method::Acknowledge, world.nonce(), &request);
    world.ask(Call::Acknowledge(request)).unwrap();
}

fn numbers(response: &CollectResponse) -> Vec<u64> {
    response
        .envelopes
        .iter()
        .map(|envelope| envelope.number)
        .collect()
}

fn a_mailbox_is_its_owners<S: Store>(mut world: World<S>) {
    let owner = world.owner();
    let tickets = tickets(&mut world, &owner, 1);
    drop(&mut world, &tickets[0], b"kept").unwrap();
    // Making it again changes nothing.
    let nonce = world.nonce();
    world
        .ask(Call::CreateMailbox(owner.create_request(nonce)))
        .unwrap();
    assert_eq!(numbers(&collect(&mut world, &owner, 0)), [1]);

    let thief = MailboxOwner { key: world.key() };
    let mut request = owner.create_request(world.nonce());
    request.proof = thief.create_request(request.nonce.clone()).proof;
    let refused = world.ask(Call::CreateMailbox(request));
    assert_eq!(refused, Err(Refusal::BadProof));
    let mut request = owner.create_request(world.nonce());
    request.owner_key.pop();
    let refused = world.ask(Call::CreateMailbox(request));
    assert_eq!(refused, Err(Refusal::Malformed("owner_key".into())));
    let request = owner.create_request(world.nonce());
    world.now += 60_001;
    let refused = world.ask(Call::CreateMailbox(request));
    assert_eq!(refused, Err(Refusal::StaleNonce));
}

fn a_ticket_lets_one_envelope_in<S: Store>(mut world: World<S>) {
    let (owner, other) = (world.owner(), world.owner());
    let ticket = tickets(&mut world, &owner, 1).remove(0);
    drop(&mut world, &ticket, b"invitation").unwrap();
    // The same bytes again succeed, also when they were collected.
    drop(&mut world, &ticket, b"invitation").unwrap();
    assert_eq!(collect(&mut world, &owner, 0).envelopes.len(), 1);
    acknowledge(&mut world, &owner, 1);
    drop(&mut world, &ticket, b"invitation").unwrap();
    assert_eq!(collect(&mut world, &owner, 0).envelopes.len(), 0);
    let refused = drop(&mut world, &ticket, b"another");
    assert_eq!(refused, Err(Refusal::Taken));

    let mut elsewhere = tickets(&mut world, &other, 1).remove(0);
    elsewhere.mailbox = owner.mailbox().into();
    let mut made_up = ticket.clone();
    made_up.ticket = world.bytes().to_vec();
    let mut short = ticket.clone();
    short.ticket.pop();
    for wrong in [elsewhere, made_up, short] {
        let refused = drop(&mut world, &wrong, b"invitation");
        assert_eq!(refused, Err(Refusal::NotFound));
    }
    let mut nowhere = ticket;
    nowhere.mailbox.pop();
    let refused = drop(&mut world, &nowhere, b"invitation");
    assert_eq!(refused, Err(Refusal::Malformed("mailbox".into())));
}

fn a_ticket_is_good_for_seven_days<S: Store>(mut world: World<S>) {
    let owner = world.owner();
    let tickets = tickets(&mut world, &owner, 3);
    world.now += 7 * DAY - 1;
    drop(&mut world, &tickets[0], b"in time").unwrap();
    world.now += HOUR;
    for _ in 0..2 {
        assert_eq!(
            drop(&mut world, &tickets[0], b"in time"),
            Err(Refusal::NotFound)
        );
        assert_eq!(
            drop(&mut world, &tickets[1], b"late"),
            Err(Refusal::NotFound)
        );
        // Whether it was swept already or not.
        world.service.sweep(world.now).unwrap();
    }
    assert_eq!(numbers(&collect(&mut world, &owner, 0)), [1]);
}

fn envelopes_are_collected_and_acknowledged<S: Store>(mut world: World<S>) {
    let owner = world.owner();
    assert_eq!(collect(&mut world, &owner, 0), CollectResponse::default());
    // More than one answer holds.
    let tickets = tickets(&mut world, &owner, 70);
    for (number, ticket) in tickets.iter().enumerate() {
        let envelope = vec![number as u8; limits::ENVELOPE];
        drop(&mut world, ticket, &envelope).unwrap();
    }
    let first = collect(&mut world, &owner, 0);
    assert!(first.more);
    let last = *numbers(&first).last().unwrap();
    assert_eq!(numbers(&first), (1..=last).collect::<Vec<_>>());
    assert_eq!(first.envelopes[4].envelope, vec![4; limits::ENVELOPE]);
    let second = collect(&mut world, &owner, last);
    assert!(!second.more);
    assert_eq!(numbers(&second), (last + 1..=70).collect::<Vec<_>>());
    assert!(numbers(&collect(&mut world, &owner, u64::MAX)).is_empty());

    acknowledge(&mut world, &owner, 68);
    assert_eq!(numbers(&collect(&mut world, &owner, 0)), [69, 70]);
    acknowledge(&mut world, &owner, 68);
    acknowledge(&mut world, &owner, u64::MAX);
    assert!(numbers(&collect(&mut world, &owner, 0)).is_empty());
}

fn a_mailbox_can_be_full<S: Store>(mut world: World<S>) {
    let owner = world.owner();
    let tickets = tickets(&mut world, &owner, 1001);
    for ticket in &tickets[..1000] {
        drop(&mut world, ticket, b"!").unwrap();
    }
    let refused = drop(&mut world, &tickets[1000], b"!");
    assert_eq!(refused, Err(Refusal::MailboxFull));
    // The ticket was not used up, and a number is never used again.
    acknowledge(&mut world, &owner, 1);
    drop(&mut world, &tickets[1000], b"!").unwrap();
    assert_eq!(numbers(&collect(&mut world, &owner, 999)), [1000, 1001]);

    let other = world.owner();
    let ticket = self::tickets(&mut world, &other, 1).remove(0);
    let refused = drop(&mut world, &ticket, &vec![0; limits::ENVELOPE + 1]);
    assert_eq!(refused, Err(Refusal::TooLarge));
}

fn only_the_owner_collects<S: Store>(mut world: World<S>) {
    let (owner, thief) = (world.owner(), world.owner());
    let mut request = CollectRequest {
        owner: None,
        after: 0,
    };
    let good = owner
        .owns(Method::Collect, world.nonce(), &request)
        .unwrap();
    let mut stolen = thief
        .owns(Method::Collect, world.nonce(), &request)
        .unwrap();
    stolen.mailbox = good.mailbox.clone();
    let mut acknowledging = good.clone();
    let method = Method::Acknowledge;
    acknowledging.proof = owner.proof(owner.mailbox(), method, &good.nonce, &request);
    for wrong in [stolen, acknowledging] {
        request.owner = Some(wrong);
        let refused = world.ask(Call::Collect(request));
        request = CollectRequest {
            owner: None,
            after: 0,
        };
        assert_eq!(refused, Err(Refusal::NotFound));
    }
    // The cursor is under the proof.
    request.owner = Some(good.clone());
    request.after = 1;
    let refused = world.ask(Call::Collect(request.clone()));
    assert_eq!(refused, Err(Refusal::NotFound));
    request.after = 0;
    assert!(world.ask(Call::Collect(request.clone())).is_ok());
    // And nobody who has recorded it asks it again a minute later.
    world.now += limits::NONCE_SECONDS * 1000 + 1;
    let refused = world.ask(Call::Collect(request));
    assert_eq!(refused, Err(Refusal::StaleNonce));

    let mut request = AcknowledgeRequest {
        owner: None,
        through: 5,
    };
    request.owner = thief.owns(Method::Acknowledge, world.nonce(), &request);
    request.owner.as_mut().unwrap().mailbox = owner.mailbox().into();
    let refused = world.ask(Call::Acknowledge(request));
    assert_eq!(refused, Err(Refusal::NotFound));
}

/// A store that counts its write transactions.
#[derive(Clone)]
struct Counting {
    store: MemoryStore,
    writes: Arc<AtomicUsize>,
}

impl Store for Counting {
    fn read<T>(
        &self,
        work: impl FnOnce(&dyn View) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.store.read(work)
    }

    fn write<T>(
        &self,
        work: impl FnOnce(&mut dyn Transaction) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.writes.fetch_add(1, Ordering::Relaxed);
        self.store.write(work)
    }

    fn sweep(&self, now: u64, limit: usize) -> Result<usize, StoreError> {
        self.store.sweep(now, limit)
    }
}

/// The committer is what all writers share: nobody is held up by what will not be written.
#[test]
fn envelopes_to_nowhere_cost_no_writing() {
    let store = Counting {
        store: MemoryStore::new(),
        writes: Arc::default(),
    };
    let writes = store.writes.clone();
    let mut world = World::new(store);
    let owner = world.owner();
    let taken = tickets(&mut world, &owner, 2);
    drop(&mut world, &taken[0], b"come").unwrap();
    let before = writes.load(Ordering::Relaxed);
    let nowhere = |number: usize| DropRequest {
        // A ticket that was never handed out, a mailbox that was never made, a ticket that is used.
        mailbox: match number % 3 {
            1 => vec![9; 32],
            _ => taken[0].mailbox.clone(),
        },
        ticket: match number % 3 {
            0 => vec![8; 32],
            _ => taken[0].ticket.clone(),
        },
        envelope: b"flood".to_vec(),
    };
    let mut drops: Vec<_> = (0..limits::DROPS_PER_CALL - 1).map(nowhere).collect();
    // One that came in before.
    drops.push(DropRequest {
        envelope: b"come".to_vec(),
        ..nowhere(2)
    });
    let Ok(Answer::DropAll(answer)) = world.ask(Call::DropAll(DropAllRequest { drops })) else {
        panic!("it is answered")
    };
    let [refusals @ .., repeated] = &answer.refusals[..] else {
        panic!("each has its answer")
    };
    for (number, refused) in refusals.iter().enumerate() {
        let expected = [Refusal::NotFound, Refusal::NotFound, Refusal::Taken];
        assert_eq!(*refused, expected[number % 3].to_bytes());
    }
    assert!(repeated.is_empty());
    let refused = drop_to(&mut world, nowhere(1));
    assert_eq!(refused, Err(Refusal::NotFound));
    assert_eq!(writes.load(Ordering::Relaxed), before);
    // What is for somebody is written.
    drop(&mut world, &taken[1], b"come").unwrap();
    assert_eq!(writes.load(Ordering::Relaxed), before + 1);
}

fn drop_to<S: Store>(world: &mut World<S>, request: DropRequest) -> Result<(), Refusal> {
    world.ask(Call::Drop(request)).map(|_| ())
}
