//! Doors: making one, dropping on its standing ticket, closing it; and that no door leads into a log.

use folkmoot_delivery_service::store::Store;
use folkmoot_protocol::call::{Answer, Call};
use folkmoot_protocol::delivery::{
    AcknowledgeRequest, CloseDoorRequest, CollectRequest, CreateDoorRequest, DropRequest,
};
use folkmoot_protocol::door::{DoorKeys, ticket_hash};
use folkmoot_protocol::proof::Method;
use folkmoot_protocol::{Refusal, limits};

use crate::world::{DAY, Group, MailboxOwner, World};

crate::on_every_store! {
    whoever_has_the_standing_ticket_drops;
    a_drop_repeated_is_one_envelope;
    a_door_is_neither_flooded_nor_filled;
    a_closed_door_stays_closed;
    only_the_owner_makes_and_closes;
    nobody_outside_a_group_appends_to_its_log;
}

const MINUTE: u64 = 60_000;

fn door<S: Store>(world: &mut World<S>, seed: u8) -> (DoorKeys, MailboxOwner) {
    let keys = DoorKeys::derive(&[seed; 32]);
    let owner = MailboxOwner {
        key: keys.owner.clone(),
    };
    assert_eq!(create(world, &keys), Ok(()));
    (keys, owner)
}

fn create_request<S: Store>(world: &mut World<S>, keys: &DoorKeys) -> CreateDoorRequest {
    let owner = MailboxOwner {
        key: keys.owner.clone(),
    };
    let mut request = CreateDoorRequest {
        owner_key: keys.owner.public().into(),
        ticket: ticket_hash(&keys.ticket).to_vec(),
        nonce: world.nonce(),
        ..Default::default()
    };
    request.proof = owner.proof(
        owner.mailbox(),
        Method::CreateDoor,
        &request.nonce,
        &request,
    );
    request
}

fn create<S: Store>(world: &mut World<S>, keys: &DoorKeys) -> Result<(), Refusal> {
    let request = create_request(world, keys);
    world.ask(Call::CreateDoor(request)).map(drop)
}

fn knock<S: Store>(world: &mut World<S>, keys: &DoorKeys, envelope: &[u8]) -> Result<(), Refusal> {
    let request = DropRequest {
        mailbox: keys.mailbox().into(),
        ticket: keys.ticket.to_vec(),
        envelope: envelope.to_vec(),
    };
    world.ask(Call::Drop(request)).map(drop)
}

fn inside<S: Store>(world: &mut World<S>, owner: &MailboxOwner) -> Vec<Vec<u8>> {
    let mut request = CollectRequest {
        owner: None,
        after: 0,
    };
    request.owner = owner.owns(Method::Collect, world.nonce(), &request);
    match world.ask(Call::CollectDoor(request)) {
        Ok(Answer::CollectDoor(response)) => response
            .envelopes
            .into_iter()
            .map(|envelope| envelope.envelope)
            .collect(),
        other => panic!("{other:?}"),
    }
}

fn close<S: Store>(world: &mut World<S>, owner: &MailboxOwner) -> Result<(), Refusal> {
    let mut request = CloseDoorRequest::default();
    request.owner = owner.owns(Method::CloseDoor, world.nonce(), &request);
    world.ask(Call::CloseDoor(request)).map(drop)
}

fn whoever_has_the_standing_ticket_drops<S: Store>(mut world: World<S>) {
    let (keys, owner) = door(&mut world, 1);
    // Making it again changes nothing.
    assert_eq!(knock(&mut world, &keys, b"one"), Ok(()));
    assert_eq!(create(&mut world, &keys), Ok(()));
    assert_eq!(knock(&mut world, &keys, b"two"), Ok(()));
    assert_eq!(inside(&mut world, &owner), [b"one", b"two"]);
    // Another's ticket, and what is kept of this one, open nothing.
    let (other, _) = door(&mut world, 2);
    for ticket in [other.ticket.to_vec(), ticket_hash(&keys.ticket).to_vec()] {
        let request = DropRequest {
            mailbox: keys.mailbox().into(),
            ticket,
            envelope: b"three".to_vec(),
        };
        assert_eq!(world.ask(Call::Drop(request)), Err(Refusal::NotFound));
    }
    let large = vec![0; limits::ENVELOPE + 1];
    assert_eq!(knock(&mut world, &keys, &large), Err(Refusal::TooLarge));
}

fn a_drop_repeated_is_one_envelope<S: Store>(mut world: World<S>) {
    let (keys, owner) = door(&mut world, 1);
    for _ in 0..3 {
        assert_eq!(knock(&mut world, &keys, b"one"), Ok(()));
        world.now += DAY / 4;
    }
    assert_eq!(inside(&mut world, &owner).len(), 1);
}

fn a_door_is_neither_flooded_nor_filled<S: Store>(mut world: World<S>) {
    let (keys, owner) = door(&mut world, 1);
    world.now = (world.now / MINUTE + 1) * MINUTE + 10_000;
    let mut number = 0u32;
    let mut another = |world: &mut World<S>| {
        number += 1;
        knock(world, &keys, &number.to_be_bytes())
    };
    for _ in 0..limits::DOOR_DROPS_PER_MINUTE {
        assert_eq!(another(&mut world), Ok(()));
    }
    assert_eq!(another(&mut world), Err(Refusal::Rate(50_000)));
    // What came in counts once, also when there is no room for more.
    assert_eq!(knock(&mut world, &keys, &1u32.to_be_bytes()), Ok(()));
    world.now += MINUTE;
    while inside(&mut world, &owner).len() < limits::ENVELOPES_PER_DOOR as usize {
        world.now += 2_000;
        assert_eq!(another(&mut world), Ok(()));
    }
    world.now += MINUTE;
    assert_eq!(another(&mut world), Err(Refusal::MailboxFull));
    // Whoever answers makes room.
    let mut request = AcknowledgeRequest {
        owner: None,
        through: 1,
    };
    request.owner = owner.owns(Method::Acknowledge, world.nonce(), &request);
    world.ask(Call::AcknowledgeDoor(request)).unwrap();
    assert_eq!(another(&mut world), Ok(()));
}

fn a_closed_door_stays_closed<S: Store>(mut world: World<S>) {
    let (keys, owner) = door(&mut world, 1);
    assert_eq!(knock(&mut world, &keys, b"one"), Ok(()));
    assert_eq!(close(&mut world, &owner), Ok(()));
    assert_eq!(close(&mut world, &owner), Ok(()));
    assert_eq!(inside(&mut world, &owner), Vec::<Vec<u8>>::new());
    for envelope in [b"one", b"two"] {
        let refused = knock(&mut world, &keys, envelope);
        assert_eq!(refused, Err(Refusal::NotFound));
    }
    // Whoever was a member still has the owner's key; it makes no door of it again, nor a mailbox.
    world.now += 400 * DAY;
    world.service.sweep(world.now).unwrap();
    assert_eq!(create(&mut world, &keys), Err(Refusal::Taken));
    let nonce = world.nonce();
    world
        .ask(Call::CreateMailbox(owner.create_request(nonce)))
        .unwrap();
    assert_eq!(knock(&mut world, &keys, b"one"), Err(Refusal::NotFound));
}

fn only_the_owner_makes_and_closes<S: Store>(mut world: World<S>) {
    let (keys, _) = door(&mut world, 1);
    let thief = MailboxOwner { key: world.key() };
    let mut request = CloseDoorRequest::default();
    request.owner = thief.owns(Method::CloseDoor, world.nonce(), &request);
    if let Some(owner) = &mut request.owner {
        owner.mailbox = keys.mailbox().into();
    }
    let refused = world.ask(Call::CloseDoor(request));
    assert_eq!(refused, Err(Refusal::NotFound));
    // Another ticket than was signed, and one for a door that has another.
    let mut request = create_request(&mut world, &DoorKeys::derive(&[2; 32]));
    request.ticket = ticket_hash(&[9; 32]).to_vec();
    assert_eq!(world.ask(Call::CreateDoor(request)), Err(Refusal::BadProof));
    let mut changed = DoorKeys::derive(&[1; 32]);
    changed.ticket = [9; 32].into();
    assert_eq!(create(&mut world, &changed), Err(Refusal::Taken));
    // An old request is none.
    let request = create_request(&mut world, &DoorKeys::derive(&[2; 32]));
    world.now += limits::NONCE_SECONDS * 1000 + 1;
    let refused = world.ask(Call::CreateDoor(request));
    assert_eq!(refused, Err(Refusal::StaleNonce));
    // A device's mailbox is no door, and does not become one.
    let owner = world.owner();
    assert_eq!(close(&mut world, &owner), Err(Refusal::NotFound));
    let mut becoming = DoorKeys::derive(&[3; 32]);
    becoming.owner = owner.key.clone();
    assert_eq!(create(&mut world, &becoming), Err(Refusal::Taken));
    assert_eq!(knock(&mut world, &keys, b"one"), Ok(()));
}

/// Everything that somebody outside can have: the link, so the door's ticket; the log's id; an entry
/// that a member signed; keys of its own.
fn nobody_outside_a_group_appends_to_its_log<S: Store>(mut world: World<S>) {
    let mut group = world.group();
    let member = group.sign(&group.append(1, b"member"));
    world.append(member.clone()).unwrap();
    let before = world.commit(&mut group, false);
    let (keys, _) = door(&mut world, 1);
    let outsider = world.key();
    let append = group.append(1, b"outsider");
    for key in [&outsider, &keys.owner] {
        let refused = world.append(group.sign_with(&append, key));
        assert_eq!(refused, Err(Refusal::NotFound));
    }
    // A member's signature on something else, and none.
    let mut request = group.sign_with(&append, &outsider);
    request.fence_signature = member.fence_signature;
    assert_eq!(world.append(request.clone()), Err(Refusal::NotFound));
    request.fence_signature.clear();
    assert_eq!(world.append(request), Err(Refusal::NotFound));
    // The log is not opened a second time with another fence key either.
    let vandal = Group::new(append.log, outsider);
    assert_eq!(world.open(vandal.open_request()), Err(Refusal::Taken));
    let commit = vandal.commit(&keys.owner.public(), false, 0);
    let refused = world.append(vandal.sign(&commit));
    assert!(refused.is_err(), "{refused:?}");
    // The members' next entry follows the last one that was theirs.
    let after = world.message(&mut group, b"member");
    assert_eq!(after.sequence, before.sequence + 1);
}
