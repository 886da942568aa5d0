//! Reading: what a key opens, where it ends, and what a stranger learns.

use folkmoot_delivery_service::store::Store;
use folkmoot_mls::codec::Decode;
use folkmoot_protocol::Refusal;
use folkmoot_protocol::call::{Answer, Call};
use folkmoot_protocol::delivery::read_response::End;
use folkmoot_protocol::delivery::{LogRead, ReadRequest, ReadResponses};
use folkmoot_protocol::ids::LogId;
use folkmoot_protocol::limits;
use folkmoot_protocol::log::{Append, Open};

use crate::world::{ReadLog, World};

crate::on_every_store! {
    a_key_opens_its_epoch_and_what_follows;
    a_key_ends_at_the_first_cut;
    a_joiner_reads_nothing_from_before;
    a_cursor_goes_on_where_it_was;
    strangers_learn_nothing;
    many_logs_in_one_read;
    batches_are_bounded;
    nonces_expire;
    readers_can_check_the_chain;
}

fn a_key_opens_its_epoch_and_what_follows<S: Store>(mut world: World<S>) {
    let mut group = world.group();
    world.message(&mut group, b"one");
    world.commit(&mut group, false);
    let last = world.message(&mut group, b"two");
    world.now += 50;
    let read = world.read(&group, 0, 0);
    assert_eq!(read.sequences, [1, 2, 3]);
    assert_eq!(read.end, End::Head);
    let head = read.head.unwrap();
    assert_eq!(head.issued, world.now);
    assert_eq!((head.sequence, head.chain), (3, last.chain));
    assert_eq!(head.entry_time, last.entry_time);
    // Nothing there: the head alone.
    let empty = world.group();
    let read = world.read(&empty, 0, 0);
    assert_eq!((read.sequences.len(), read.end), (0, End::Head));
    assert_eq!(read.head.unwrap().sequence, 0);
}

fn a_key_ends_at_the_first_cut<S: Store>(mut world: World<S>) {
    let mut group = world.group();
    world.message(&mut group, b"one"); // 1
    world.commit(&mut group, false); // 2, epoch 1
    world.message(&mut group, b"two"); // 3
    let cut = world.commit(&mut group, true); // 4, epoch 2
    world.message(&mut group, b"not for the removed"); // 5
    world.commit(&mut group, true); // 6, epoch 3
    world.message(&mut group, b"three"); // 7

    for (epoch, sequences) in [(0, vec![1, 2, 3, 4]), (1, vec![3, 4])] {
        let read = world.read(&group, epoch, 0);
        assert_eq!((read.sequences, read.end), (sequences, End::Cut));
        let head = read.head.unwrap();
        assert_eq!((head.sequence, head.chain), (cut.sequence, cut.chain));
        assert_eq!(head.entry_time, cut.entry_time);
    }
    assert_eq!(world.read(&group, 2, 0).sequences, [5, 6]);
    let read = world.read(&group, 3, 0);
    assert_eq!((read.sequences, read.end), (vec![7], End::Head));

    // At the cut and beyond it there is nothing more for the old key.
    for after in [4, 5, u64::MAX] {
        let read = world.read(&group, 0, after);
        assert_eq!((read.sequences.len(), read.end), (0, End::Cut));
        assert_eq!(read.head.unwrap().sequence, 4);
    }
}

fn a_joiner_reads_nothing_from_before<S: Store>(mut world: World<S>) {
    let mut group = world.group();
    world.message(&mut group, b"before"); // 1
    world.commit(&mut group, false); // 2 adds somebody
    world.message(&mut group, b"after"); // 3
    let read = world.read(&group, 1, 0);
    assert_eq!(read.sequences, [3]);
    assert_eq!(world.read(&group, 1, 1).sequences, [3]);
}

fn a_cursor_goes_on_where_it_was<S: Store>(mut world: World<S>) {
    let mut group = world.group();
    for body in [b"one", b"two"] {
        world.message(&mut group, body);
    }
    assert_eq!(world.read(&group, 0, 1).sequences, [2]);
    let read = world.read(&group, 0, 2);
    assert_eq!((read.sequences.len(), read.end), (0, End::Head));
    // A cursor from a service that knew more: the head shows what this one knows.
    let read = world.read(&group, 0, 9);
    assert_eq!(read.head.unwrap().sequence, 2);
    assert_eq!(world.read(&group, 0, u64::MAX).sequences.len(), 0);
}

fn strangers_learn_nothing<S: Store>(mut world: World<S>) {
    let mut group = world.group();
    world.message(&mut group, b"one");
    let stranger = world.key();
    let nonce = world.nonce();
    let good = group.read(0, 0, nonce.clone());

    let mut wrong_key = group.clone();
    wrong_key.fences[0] = stranger;
    let wrong_key = wrong_key.read(0, 0, nonce.clone());
    let mut unknown_log = group.clone();
    unknown_log.log = LogId([8; 32]);
    let unknown_log = unknown_log.read(0, 0, nonce.clone());
    let unknown_branch = LogRead {
        branch: vec![9; 32],
        ..good.clone()
    };
    let unknown_epoch = LogRead {
        epoch: 1,
        ..good.clone()
    };
    let no_proof = LogRead {
        proof: Vec::new(),
        ..good.clone()
    };
    // A proof is for its own nonce.
    let other_nonce = LogRead {
        nonce: world.nonce(),
        ..good.clone()
    };
    for read in [
        wrong_key,
        unknown_log,
        unknown_branch,
        unknown_epoch,
        no_proof,
        other_nonce,
    ] {
        let log = read.log.clone();
        let answer = ask(&mut world, vec![read]).unwrap();
        assert_eq!(answer.batches.len(), 1);
        let mut blind = folkmoot_protocol::delivery::ReadResponse {
            log,
            ..Default::default()
        };
        blind.set_end(End::Blind);
        assert_eq!(answer.batches[0], blind);
    }
    assert_eq!(
        ask(&mut world, vec![good]).unwrap().batches[0]
            .entries
            .len(),
        1
    );
}

fn ask<S: Store>(world: &mut World<S>, logs: Vec<LogRead>) -> Result<ReadResponses, Refusal> {
    let follow = false;
    match world.ask(Call::Read(ReadRequest { logs, follow }))? {
        Answer::Read(responses) => Ok(responses),
        other => panic!("{other:?}"),
    }
}

fn many_logs_in_one_read<S: Store>(mut world: World<S>) {
    let groups: Vec<_> = (0..5)
        .map(|count| {
            let mut group = world.group();
            for number in 0..count {
                world.message(&mut group, &[number]);
            }
            group
        })
        .collect();
    let nonce = world.nonce();
    let mut logs: Vec<_> = groups
        .iter()
        .map(|group| group.read(0, 0, nonce.clone()))
        .collect();
    logs[2].proof[0] ^= 1;
    let answer = ask(&mut world, logs.clone()).unwrap();
    let ends: Vec<_> = answer.batches.iter().map(|batch| batch.end()).collect();
    assert_eq!(
        ends,
        [End::Head, End::Head, End::Blind, End::Head, End::Head]
    );
    for (batch, group) in answer.batches.iter().zip(&groups) {
        assert_eq!(batch.log, group.log.0);
    }
    assert_eq!(answer.batches[4].entries.len(), 4);

    assert_eq!(ask(&mut world, Vec::new()).unwrap().batches.len(), 0);
    let many = vec![logs[0].clone(); limits::LOGS_PER_READ + 1];
    assert_eq!(ask(&mut world, many), Err(Refusal::TooLarge));
    let mut short = logs[0].clone();
    short.log.pop();
    assert_eq!(
        ask(&mut world, vec![short]),
        Err(Refusal::Malformed("log".into()))
    );
    let mut short = logs[0].clone();
    short.branch.pop();
    assert_eq!(
        ask(&mut world, vec![short]),
        Err(Refusal::Malformed("branch".into()))
    );
}

fn batches_are_bounded<S: Store>(mut world: World<S>) {
    let mut group = world.group();
    // Three of these do not fit one batch; the largest fills one alone.
    for _ in 0..3 {
        let body = world.bytes().repeat(limits::READ_BATCH / 80);
        world.message(&mut group, &body);
    }
    let largest = world.bytes().repeat(limits::READ_BATCH / 16);
    world.proposal(&mut group, &largest);
    world.message(&mut group, b"small");
    let read = world.read(&group, 0, 0);
    assert_eq!(read.sequences, [1, 2, 3, 4, 5]);
    assert_eq!(read.batches, 4);
    assert_eq!(read.end, End::Head);
}

fn nonces_expire<S: Store>(mut world: World<S>) {
    let group = world.group();
    let nonce = world.nonce();
    let log = group.read(0, 0, nonce);
    world.now += 60_000;
    assert!(ask(&mut world, vec![log.clone()]).is_ok());
    world.now += 1;
    assert_eq!(ask(&mut world, vec![log]), Err(Refusal::StaleNonce));
    let made_up = group.read(0, 0, vec![0; 32]);
    assert_eq!(ask(&mut world, vec![made_up]), Err(Refusal::StaleNonce));
}

fn readers_can_check_the_chain<S: Store>(mut world: World<S>) {
    let mut group = world.group();
    let opened = world.open(group.open_request()).unwrap();
    for body in [b"one", b"two"] {
        world.now += 13;
        world.message(&mut group, body);
    }
    world.commit(&mut group, true);
    let ReadLog { entries, head, .. } = world.read(&group, 0, 0);
    let mut chain = opened.chain;
    for entry in &entries {
        let append = Append::from_bytes(&entry.content).unwrap();
        chain = chain.next(group.log, entry.sequence, entry.time, append.id());
        let proof = group.proof(
            folkmoot_protocol::proof::Method::Append,
            append.epoch,
            &append.id().0,
        );
        let fence = group.fences[append.epoch as usize].public();
        assert_eq!(proof.verify(&fence, &entry.fence_signature), Ok(()));
    }
    assert_eq!(head.unwrap().chain, chain);
    assert!(Open::from_bytes(&entries[0].content).is_err());
}
