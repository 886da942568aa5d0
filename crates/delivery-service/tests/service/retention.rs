//! What goes and what stays, in virtual time: the answers are the same before and after a sweep.

use folkmoot_delivery_service::Retention;
use folkmoot_delivery_service::store::Store;
use folkmoot_protocol::Refusal;
use folkmoot_protocol::call::Call;
use folkmoot_protocol::delivery::PickUpRequest;
use folkmoot_protocol::delivery::read_response::End;
use folkmoot_protocol::ids::PickupAddress;

use crate::world::{DAY, Group, HOUR, World};

crate::on_every_store! {
    a_cursor_before_what_is_kept_gets_gap;
    a_stranger_learns_of_no_gap;
    the_current_key_stays;
    a_past_key_goes;
    no_key_outlives_its_cut;
    welcomes_go;
    a_proposal_that_is_over_binds_nobody;
    a_log_in_use_stays;
    a_log_is_forgotten_after_a_year;
    the_operator_says_how_long;
}

/// Deletes all that is over. How many records that were.
fn sweep<S: Store>(world: &World<S>) -> usize {
    let mut swept = 0;
    loop {
        match world.service.sweep(world.now).unwrap() {
            0 => return swept,
            more => swept += more,
        }
    }
}

/// What a read gives: the sequences and the end; the same again when what is over is swept.
fn read<S: Store>(world: &mut World<S>, group: &Group, epoch: u64, after: u64) -> (Vec<u64>, End) {
    let before = world.read(group, epoch, after);
    sweep(world);
    let read = world.read(group, epoch, after);
    assert_eq!((&read.sequences, read.end), (&before.sequences, before.end));
    assert_eq!(
        read.head.is_some(),
        matches!(read.end, End::Head | End::Cut)
    );
    (read.sequences, read.end)
}

fn a_cursor_before_what_is_kept_gets_gap<S: Store>(mut world: World<S>) {
    let mut group = world.group();
    world.message(&mut group, b"one"); // 1
    world.now += DAY;
    world.message(&mut group, b"two"); // 2
    world.now += 20 * DAY;
    world.message(&mut group, b"three"); // 3
    // A millisecond before the thirty days of the first are over.
    world.now += 9 * DAY - 1;
    assert_eq!(read(&mut world, &group, 0, 0), (vec![1, 2, 3], End::Head));
    world.now += 1;
    assert_eq!(read(&mut world, &group, 0, 0), (vec![], End::Gap));
    assert_eq!(read(&mut world, &group, 0, 1), (vec![2, 3], End::Head));
    world.now += DAY;
    assert_eq!(read(&mut world, &group, 0, 1), (vec![], End::Gap));
    assert_eq!(read(&mut world, &group, 0, 2), (vec![3], End::Head));
    // Nothing at all is left of the entries; whoever has read them all is not told of a gap.
    world.now += 40 * DAY;
    assert_eq!(read(&mut world, &group, 0, 2), (vec![], End::Gap));
    assert_eq!(read(&mut world, &group, 0, 3), (vec![], End::Head));
}

fn a_stranger_learns_of_no_gap<S: Store>(mut world: World<S>) {
    let mut group = world.group();
    world.message(&mut group, b"one");
    world.now += 31 * DAY;
    let mut stranger = group.clone();
    stranger.fences[0] = world.key();
    assert_eq!(read(&mut world, &stranger, 0, 0), (vec![], End::Blind));
    assert_eq!(read(&mut world, &group, 0, 0), (vec![], End::Gap));
}

fn the_current_key_stays<S: Store>(mut world: World<S>) {
    let mut group = world.group();
    world.commit(&mut group, true); // 1
    world.now += 300 * DAY;
    sweep(&world);
    world.message(&mut group, b"after a long time"); // 2
    world.commit(&mut group, false); // 3
    assert_eq!(read(&mut world, &group, 1, 1), (vec![2, 3], End::Head));
}

fn a_past_key_goes<S: Store>(mut world: World<S>) {
    let mut group = world.group();
    world.now += 20 * DAY;
    // The key is as old as the log, but its epoch ends now.
    world.commit(&mut group, false); // 1
    world.now += 29 * DAY;
    world.message(&mut group, b"two"); // 2
    assert_eq!(read(&mut world, &group, 0, 0), (vec![1, 2], End::Head));
    world.now += DAY + 3 * HOUR;
    sweep(&world);
    assert_eq!(read(&mut world, &group, 0, 0), (vec![], End::Blind));
    assert_eq!(read(&mut world, &group, 1, 1), (vec![2], End::Head));
    // Nor does it write.
    let late = group.fences[0].clone();
    let mut append = group.append(1, b"late");
    (append.epoch, append.parent) = (0, group.tips[0]);
    assert_eq!(
        world.append(group.sign_with(&append, &late)),
        Err(Refusal::NotFound)
    );
}

fn no_key_outlives_its_cut<S: Store>(mut world: World<S>) {
    let mut group = world.group();
    world.commit(&mut group, false); // 1, epoch 1
    world.now += DAY;
    world.commit(&mut group, true); // 2, epoch 2: a cut
    for _ in 0..34 * 24 {
        world.message(&mut group, b"not for the removed");
        world.now += HOUR;
        sweep(&world);
        for epoch in [0, 1] {
            let read = world.read(&group, epoch, 0);
            let seen = read.head.map_or(0, |head| head.sequence);
            assert!(seen <= 2 && read.sequences.iter().all(|sequence| *sequence <= 2));
        }
    }
    assert_eq!(world.read(&group, 1, 0).end, End::Blind);
}

fn welcomes_go<S: Store>(mut world: World<S>) {
    let mut group = world.group();
    let address = PickupAddress(world.bytes());
    let next = world.key();
    let joiners = [(address, b"own".to_vec())];
    let (append, request) = group.commit_with_welcome(&next.public(), b"shared", &joiners);
    let head = world.append(request).unwrap();
    group.follow(&append, next, &head);
    let pick_up = Call::PickUp(PickUpRequest {
        log: group.log.into(),
        address: address.into(),
    });
    world.now += 30 * DAY - 1;
    sweep(&world);
    assert!(world.ask(pick_up.clone()).is_ok());
    world.now += HOUR;
    sweep(&world);
    assert_eq!(world.ask(pick_up), Err(Refusal::NotFound));
}

fn a_proposal_that_is_over_binds_nobody<S: Store>(mut world: World<S>) {
    let mut group = world.group();
    world.proposal(&mut group, b"seen by those who are gone"); // 1
    world.now += 31 * DAY;
    let next = world.key();
    let append = group.commit(&next.public(), false, 0);
    let head = world.append(group.sign(&append)).unwrap();
    group.follow(&append, next, &head);
    world.message(&mut group, b"go on");
}

fn a_log_in_use_stays<S: Store>(mut world: World<S>) {
    let mut group = world.group();
    // Never a year without an entry, and never a commit.
    for _ in 0..8 {
        world.now += 364 * DAY;
        sweep(&world);
        world.message(&mut group, b"we meet once a year");
    }
    world.commit(&mut group, false);
    world.now += 364 * DAY;
    sweep(&world);
    world.message(&mut group, b"still there");
    let again = world.open(group.open_request());
    assert!(again.is_err(), "its id is taken: {again:?}");
}

fn a_log_is_forgotten_after_a_year<S: Store>(mut world: World<S>) {
    let mut group = world.group();
    world.commit(&mut group, true);
    world.message(&mut group, b"the last");
    world.now += 365 * DAY + HOUR;
    sweep(&world);
    assert_eq!(read(&mut world, &group, 1, 2), (vec![], End::Blind));
    let append = group.append(1, b"too late");
    assert_eq!(world.append(group.sign(&append)), Err(Refusal::NotFound));
    world.now += 100 * DAY;
    assert!(sweep(&world) > 0);
    // Nothing is left: it can be opened as if it had never been.
    let opened = world.open(group.open_request()).unwrap();
    assert_eq!((opened.sequence, opened.entry_time), (0, world.now));
}

fn the_operator_says_how_long<S: Store>(mut world: World<S>) {
    world.service = world.service.keep_for(Retention {
        entries: 7 * DAY,
        head: 20 * DAY,
    });
    let mut group = world.group();
    world.message(&mut group, b"one");
    world.now += 7 * DAY;
    assert_eq!(read(&mut world, &group, 0, 0), (vec![], End::Gap));
    world.now += 13 * DAY + HOUR;
    sweep(&world);
    assert_eq!(read(&mut world, &group, 0, 1), (vec![], End::Blind));
}
