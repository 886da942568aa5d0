//! Welcomes: they come with their commit or not at all, and are found by address.

use folkmoot_delivery_service::store::Store;
use folkmoot_protocol::call::{Answer, Call};
use folkmoot_protocol::delivery::{PickUpRequest, PickUpResponse};
use folkmoot_protocol::ids::{LogId, PickupAddress};
use folkmoot_protocol::limits;
use folkmoot_protocol::{Conflict, Refusal};

use crate::world::{World, verified};

crate::on_every_store! {
    joiners_find_their_parts;
    a_lost_commit_leaves_nothing;
    an_address_is_used_once;
    parts_must_be_the_declared_ones;
}

fn pick_up<S: Store>(
    world: &mut World<S>,
    log: LogId,
    address: PickupAddress,
) -> Result<PickUpResponse, Refusal> {
    let request = PickUpRequest {
        log: log.into(),
        address: address.into(),
    };
    match world.ask(Call::PickUp(request))? {
        Answer::PickUp(response) => Ok(response),
        other => panic!("{other:?}"),
    }
}

fn joiners_find_their_parts<S: Store>(mut world: World<S>) {
    let mut group = world.group();
    let addresses = [PickupAddress(world.bytes()), PickupAddress(world.bytes())];
    // Invitation first: nothing there yet looks like an unknown log.
    let missing = pick_up(&mut world, group.log, addresses[0]);
    assert_eq!(missing, Err(Refusal::NotFound));

    let joiners = [
        (addresses[0], b"one".to_vec()),
        (addresses[1], b"two".to_vec()),
    ];
    let next = world.key();
    let (append, request) = group.commit_with_welcome(&next.public(), b"shared", &joiners);
    let head = world.append(request).unwrap();
    group.follow(&append, next, &head);
    world.message(&mut group, b"later");
    for (address, own_part) in joiners {
        let found = pick_up(&mut world, group.log, address).unwrap();
        assert_eq!(found.commit, append.id().0);
        assert_eq!(verified(&found.receipt.unwrap()), head);
        assert_eq!(found.shared_part, b"shared");
        assert_eq!(found.own_part, own_part);
    }
    let elsewhere = pick_up(&mut world, LogId([0; 32]), addresses[0]);
    assert_eq!(elsewhere, Err(Refusal::NotFound));
    let unknown = pick_up(&mut world, group.log, PickupAddress([0; 32]));
    assert_eq!(unknown, Err(Refusal::NotFound));
}

fn a_lost_commit_leaves_nothing<S: Store>(mut world: World<S>) {
    let mut group = world.group();
    let address = PickupAddress(world.bytes());
    let next = world.key().public();
    let joiners = [(address, b"lost".to_vec())];
    let (_, lost) = group.commit_with_welcome(&next, b"lost", &joiners);
    world.commit(&mut group, false);
    assert!(matches!(
        world.append(lost),
        Err(Refusal::Conflict(Conflict::TipMoved, _))
    ));
    let missing = pick_up(&mut world, group.log, address);
    assert_eq!(missing, Err(Refusal::NotFound));
    // The commit that is built anew uses the same invitation.
    let joiners = [(address, b"found".to_vec())];
    let (_, request) = group.commit_with_welcome(&next, b"shared", &joiners);
    world.append(request).unwrap();
    let found = pick_up(&mut world, group.log, address).unwrap();
    assert_eq!(found.own_part, b"found");
}

fn an_address_is_used_once<S: Store>(mut world: World<S>) {
    let mut group = world.group();
    let address = PickupAddress(world.bytes());
    let next = world.key();
    let joiners = [(address, b"first".to_vec())];
    let (append, request) = group.commit_with_welcome(&next.public(), b"shared", &joiners);
    let head = world.append(request).unwrap();
    group.follow(&append, next, &head);
    let next = world.key().public();
    let joiners = [(address, b"second".to_vec())];
    let (_, request) = group.commit_with_welcome(&next, b"shared", &joiners);
    assert_eq!(world.append(request), Err(Refusal::Taken));
    let found = pick_up(&mut world, group.log, address).unwrap();
    assert_eq!(found.own_part, b"first");
    // Twice in one commit.
    let address = PickupAddress(world.bytes());
    let twice = [(address, b"one".to_vec()), (address, b"two".to_vec())];
    let (_, request) = group.commit_with_welcome(&next, b"shared", &twice);
    assert_eq!(
        world.append(request),
        Err(Refusal::Malformed("pickups".into()))
    );
}

fn parts_must_be_the_declared_ones<S: Store>(mut world: World<S>) {
    let group = world.group();
    let next = world.key().public();
    let address = PickupAddress(world.bytes());
    let (_, good) = group.commit_with_welcome(&next, b"shared", &[(address, b"own".to_vec())]);
    let malformed = |field: &str| Err(Refusal::Malformed(field.into()));

    let mut request = good.clone();
    request.shared_part[0] ^= 1;
    assert_eq!(world.append(request), malformed("shared_part"));
    let mut request = good.clone();
    request.shared_part.clear();
    assert_eq!(world.append(request), malformed("shared_part"));
    let mut request = good.clone();
    request.own_parts[0][0] ^= 1;
    assert_eq!(world.append(request), malformed("own_parts"));
    let mut request = good.clone();
    request.own_parts.pop();
    assert_eq!(world.append(request), malformed("own_parts"));
    // A shared part that nobody picks up.
    let (_, request) = group.commit_with_welcome(&next, b"shared", &[]);
    assert_eq!(world.append(request), malformed("pickups"));

    let large = vec![0; limits::OWN_PART + 1];
    let (_, request) = group.commit_with_welcome(&next, b"shared", &[(address, large)]);
    assert_eq!(world.append(request), Err(Refusal::TooLarge));
    let large = vec![0; limits::SHARED_PART + 1];
    let (_, request) = group.commit_with_welcome(&next, &large, &[(address, b"own".to_vec())]);
    assert_eq!(world.append(request), Err(Refusal::TooLarge));

    assert!(world.append(good).is_ok());
}
