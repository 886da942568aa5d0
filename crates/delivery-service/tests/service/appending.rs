//! Appending: compare and set, and each refusal.

use folkmoot_delivery_service::store::Store;
use folkmoot_mls::codec::{Decode, Encode, encode_bytes};
use folkmoot_mls::message::MlsMessage;
use folkmoot_protocol::delivery::AppendRequest;
use folkmoot_protocol::ids::EntryId;
use folkmoot_protocol::limits;
use folkmoot_protocol::log::{Append, Head};
use folkmoot_protocol::{Conflict, Refusal};

use crate::world::{Group, World, private_message};

crate::on_every_store! {
    entries_follow_each_other_in_one_chain;
    a_repeated_append_gets_the_first_receipt;
    one_commit_wins_and_the_loser_hears_the_tip;
    messages_of_a_past_epoch_are_taken_for_a_while;
    messages_are_taken_for_five_commits;
    no_message_of_before_a_cut_is_taken_after_it;
    a_conflict_never_tells_past_a_cut;
    the_parent_must_be_the_commit_that_made_the_epoch;
    commits_must_have_seen_the_proposals;
    proposals_of_an_epoch_are_bounded;
    who_has_no_right_is_told_nothing;
    the_header_must_be_what_is_declared;
    forms_are_checked;
    sizes_are_bounded;
    the_commit_interval_is_kept;
    time_never_runs_back;
}

fn conflict(outcome: Result<Head, Refusal>) -> (Conflict, Head) {
    match outcome {
        Err(Refusal::Conflict(kind, signed)) => (kind, signed.head),
        other => panic!("{other:?}"),
    }
}

fn malformed<T>(field: &str) -> Result<T, Refusal> {
    Err(Refusal::Malformed(field.into()))
}

fn entries_follow_each_other_in_one_chain<S: Store>(mut world: World<S>) {
    let mut group = world.group();
    let opened = world.open(group.open_request()).unwrap();
    world.now += 10;
    let message = group.append(1, b"hello");
    let head = world.append(group.sign(&message)).unwrap();
    let chain = opened.chain.next(group.log, 1, world.now, message.id());
    assert_eq!((head.sequence, head.chain), (1, chain));
    assert_eq!((head.entry_time, head.issued), (world.now, world.now));

    group.sequence = 1;
    world.now += 10;
    let committed = world.commit(&mut group, false);
    let chain = chain.next(group.log, 2, world.now, group.tip);
    assert_eq!((committed.sequence, committed.chain), (2, chain));
    // The new epoch's fence signs what comes next.
    assert_eq!(world.message(&mut group, b"new epoch").sequence, 3);
}

fn a_repeated_append_gets_the_first_receipt<S: Store>(mut world: World<S>) {
    let mut group = world.group();
    let message = group.sign(&group.append(1, b"hello"));
    let first = world.append(message.clone()).unwrap();
    world.now += 100_000;
    assert_eq!(world.append(message.clone()), Ok(first.clone()));
    // Also when its epoch is over, and before any other check.
    world.commit(&mut group, true);
    assert_eq!(world.append(message.clone()), Ok(first.clone()));
    let mut unsigned = message;
    unsigned.fence_signature.clear();
    assert_eq!(world.append(unsigned), Ok(first));
    // Nothing was appended by it.
    assert_eq!(world.message(&mut group, b"next").sequence, 3);

    let before = group.clone();
    let (next, head) = (world.key(), world.commit(&mut group, false));
    let again = before.sign(&Append {
        commit: Some(folkmoot_protocol::log::CommitDeclaration {
            next_fence_key: group.fences[2].public(),
            ..before
                .commit(&next.public(), false, before.sequence)
                .commit
                .unwrap()
        }),
        ..before.append(3, &group.fences[2].public().0)
    });
    assert_eq!(world.append(again), Ok(head));
}

fn one_commit_wins_and_the_loser_hears_the_tip<S: Store>(mut world: World<S>) {
    let mut group = world.group();
    let rival = world.key();
    let loser = group.commit(&rival.public(), false, 0);
    let won = world.commit(&mut group, false);
    world.now += 7;
    let (kind, head) = conflict(world.append(group.sign(&loser)));
    assert_eq!(kind, Conflict::TipMoved);
    assert_eq!(head.issued, world.now);
    assert_eq!(
        Head {
            issued: won.issued,
            ..head
        },
        won
    );
    // The loser's fence key opens nothing.
    group.fences[1] = rival;
    let refused = world.append(group.sign(&group.append(1, b"from the lost epoch")));
    assert_eq!(refused, Err(Refusal::NotFound));
}

fn messages_of_a_past_epoch_are_taken_for_a_while<S: Store>(mut world: World<S>) {
    let mut group = world.group();
    let before = group.clone();
    let of_the_first = |body: &[u8]| before.sign(&before.append(1, body));
    let committed = world.commit(&mut group, false);
    // Nothing of it counts for the epoch that is over: a message is no reason for a new one.
    world.now += 1000;
    let late = world.append(of_the_first(b"late")).unwrap();
    let chain = committed.chain;
    let id = before.append(1, b"late").id();
    assert_eq!((late.sequence, late.entry_time), (2, world.now));
    assert_eq!(late.chain, chain.next(group.log, 2, world.now, id));
    group.sequence = 2;
    // Both a member of the past epoch and one of the current one read it; a joiner has its key.
    assert_eq!(world.read(&group, 0, 0).sequences, [1, 2]);
    assert_eq!(world.read(&group, 1, 0).sequences, [2]);
    // A proposal or a commit of a past epoch is never taken.
    let proposal = before.sign(&before.append(2, b"late"));
    assert_eq!(conflict(world.append(proposal)).0, Conflict::EpochOver);
    let rival = before.sign(&before.commit(&world.key().public(), false, 0));
    assert_eq!(conflict(world.append(rival)).0, Conflict::TipMoved);

    // By the service's clock: to the last millisecond.
    world.now = committed.entry_time + limits::PAST_EPOCH_MS;
    world.append(of_the_first(b"just in time")).unwrap();
    world.now += 1;
    let refused = world.append(of_the_first(b"too late"));
    assert_eq!(conflict(refused).0, Conflict::EpochOver);
    // What was taken is taken.
    assert_eq!(world.append(of_the_first(b"late")), Ok(late));
}

fn messages_are_taken_for_five_commits<S: Store>(mut world: World<S>) {
    let mut group = world.group();
    let before = group.clone();
    for number in 0..limits::PAST_EPOCHS {
        world.commit(&mut group, false);
        let late = before.append(1, &[number as u8]);
        group.sequence = world.append(before.sign(&late)).unwrap().sequence;
    }
    world.commit(&mut group, false);
    let refused = world.append(before.sign(&before.append(1, b"too late")));
    assert_eq!(conflict(refused).0, Conflict::EpochOver);
    // The next epoch's are good for one commit more.
    let mut next = before;
    next.epoch = 1;
    next.tip = group.tips[1];
    let late = group.sign(&next.append(1, b"in time"));
    world.append(late).unwrap();
}

fn no_message_of_before_a_cut_is_taken_after_it<S: Store>(mut world: World<S>) {
    let mut group = world.group();
    let mut before = Vec::new();
    for cut in [false, true, false] {
        before.push(group.clone());
        world.commit(&mut group, cut);
    }
    for (epoch, past) in before.iter().enumerate() {
        let taken = world.append(group.sign(&past.append(1, b"late")));
        if epoch == 2 {
            taken.unwrap();
        } else {
            assert_eq!(conflict(taken).0, Conflict::EpochOver);
        }
    }
}

fn a_conflict_never_tells_past_a_cut<S: Store>(mut world: World<S>) {
    let mut group = world.group();
    let late = group.append(1, b"late");
    world.commit(&mut group, false);
    let cut = world.commit(&mut group, true);
    world.commit(&mut group, false);
    world.message(&mut group, b"secret of the next epochs");
    let (_, head) = conflict(world.append(group.sign(&late)));
    assert_eq!((head.sequence, head.chain), (cut.sequence, cut.chain));
    // A key from after the cut hears all there is.
    let rival = world.key();
    let mut late = group.clone();
    late.epoch = 2;
    late.tip = group.tips[2];
    let late = late.commit(&rival.public(), false, 0);
    let (kind, head) = conflict(world.append(group.sign(&late)));
    assert_eq!((kind, head.sequence), (Conflict::TipMoved, group.sequence));
}

fn the_parent_must_be_the_commit_that_made_the_epoch<S: Store>(mut world: World<S>) {
    let mut group = world.group();
    world.commit(&mut group, false);
    let orphan = Append {
        parent: EntryId([0; 32]),
        ..group.append(1, b"orphan")
    };
    assert_eq!(world.append(group.sign(&orphan)), malformed("parent"));
}

fn commits_must_have_seen_the_proposals<S: Store>(mut world: World<S>) {
    let mut group = world.group();
    let proposal = world.proposal(&mut group, b"remove me");
    let next = world.key();
    // Two seconds old is young enough to be missed.
    let blind = group.commit(&next.public(), false, proposal.sequence - 1);
    world.now += 2_001;
    let (kind, head) = conflict(world.append(group.sign(&blind)));
    assert_eq!(kind, Conflict::UnseenProposals);
    assert_eq!(head.sequence, proposal.sequence);
    let younger = world.proposal(&mut group, b"another");
    world.now += 2_000;
    let one_seen = group.commit(&next.public(), false, proposal.sequence);
    assert_eq!(
        world.append(group.sign(&one_seen)).unwrap().sequence,
        younger.sequence + 1
    );

    // Proposals of past epochs do not bind.
    let head = Head::clone(&younger);
    group.follow(&one_seen, next, &head);
    world.now += 60_000;
    let next = world.key();
    let later = group.commit(&next.public(), false, 0);
    assert!(world.append(group.sign(&later)).is_ok());
}

fn proposals_of_an_epoch_are_bounded<S: Store>(mut world: World<S>) {
    let mut group = world.group();
    for number in 0..1000u32 {
        world.proposal(&mut group, &number.to_be_bytes());
    }
    let one_more = group.sign(&group.append(2, b"one more"));
    assert_eq!(world.append(one_more.clone()), Err(Refusal::Rate(2000)));
    world.message(&mut group, b"messages still go through");
    world.commit(&mut group, false);
    assert_eq!(conflict(world.append(one_more)).0, Conflict::EpochOver);
    world.proposal(&mut group, b"a new epoch");
}

fn who_has_no_right_is_told_nothing<S: Store>(mut world: World<S>) {
    let mut group = world.group();
    let stranger = world.key();
    let good = group.append(1, b"hello");

    let wrong_key = group.sign_with(&good, &stranger);
    let mut no_signature = group.sign(&good);
    no_signature.fence_signature.clear();
    let mut other_log = Group::new(folkmoot_protocol::ids::LogId([77; 32]), stranger.clone());
    let unknown_log = other_log.sign(&other_log.append(1, b"hello"));
    other_log.log = group.log;
    let unknown_branch = other_log.sign(&other_log.append(1, b"hello"));
    let future = Append {
        epoch: 1,
        ..good.clone()
    };
    let future = group.sign_with(&future, &group.fences[0]);
    // A read proof and a proof for another service are none for an append.
    let mut read_proof = group.sign(&good);
    let subject = &good.id().0;
    let proof = group.proof(folkmoot_protocol::proof::Method::Read, 0, subject);
    read_proof.fence_signature = proof.sign(&group.fences[0]).to_vec();
    let mut elsewhere = group.sign(&good);
    let mut proof = group.proof(folkmoot_protocol::proof::Method::Append, 0, subject);
    proof.delivery_service = stranger.public();
    elsewhere.fence_signature = proof.sign(&group.fences[0]).to_vec();

    for request in [
        wrong_key,
        no_signature,
        unknown_log,
        unknown_branch,
        future,
        read_proof,
        elsewhere,
    ] {
        assert_eq!(world.append(request), Err(Refusal::NotFound));
    }
    // A past epoch's key does not write in the current one.
    world.commit(&mut group, false);
    let removed = group.sign_with(&group.append(1, b"still here"), &group.fences[0]);
    assert_eq!(world.append(removed), Err(Refusal::NotFound));
}

fn the_header_must_be_what_is_declared<S: Store>(mut world: World<S>) {
    let group = world.group();
    let log = &group.log.0;
    let with = |message: Vec<u8>| {
        group.sign(&Append {
            message: message.into(),
            ..group.append(1, b"")
        })
    };
    for message in [
        private_message(&[3; 32], 0, 1, b"x"),
        private_message(&log[..31], 0, 1, b"x"),
        private_message(log, 1, 1, b"x"),
        private_message(log, 0, 2, b"x"),
        public_message(log),
    ] {
        assert_eq!(world.append(with(message)), Err(Refusal::HeaderMismatch));
    }
    let mut trailing = private_message(log, 0, 1, b"x");
    trailing.push(0);
    let mut version = private_message(log, 0, 1, b"x");
    version[1] = 2;
    let short = private_message(log, 0, 1, b"x")[..40].to_vec();
    let mut welcome = private_message(log, 0, 1, b"x");
    welcome[3] = 3;
    for message in [trailing, version, short, welcome, Vec::new()] {
        assert_eq!(world.append(with(message)), malformed("message"));
    }
}

/// An MLSMessage with a PublicMessage: a member proposes to remove leaf 5.
fn public_message(group_id: &[u8]) -> Vec<u8> {
    let mut message = vec![0, 1, 0, 1];
    encode_bytes(group_id, &mut message);
    0u64.encode(&mut message);
    message.extend_from_slice(&[1, 0, 0, 0, 3]); // from leaf 3
    encode_bytes(&[], &mut message);
    message.extend_from_slice(&[2, 0, 3, 0, 0, 0, 5]); // proposal, remove, leaf 5
    encode_bytes(&[6; 64], &mut message);
    encode_bytes(&[7; 32], &mut message);
    assert!(MlsMessage::from_bytes(&message).is_ok());
    message
}

fn forms_are_checked<S: Store>(mut world: World<S>) {
    let group = world.group();
    let next = world.key().public();
    let message = group.append(1, b"hello");
    let commit = group.commit(&next, false, 0);
    let mut check = |append: &Append, edit: fn(&mut AppendRequest), field: &str| {
        let mut request = group.sign(append);
        edit(&mut request);
        assert_eq!(world.append(request), malformed(field), "{field}");
    };
    check(&message, |request| request.append[1] = 2, "append");
    check(&message, |request| request.append.push(0), "append");
    check(&message, |request| request.append.clear(), "append");
    let untyped = Append {
        content_type: 4,
        ..message.clone()
    };
    check(&untyped, |_| {}, "content_type");
    let undeclared = Append {
        commit: None,
        ..commit.clone()
    };
    check(&undeclared, |_| {}, "commit");
    let declaring = Append {
        commit: commit.commit.clone(),
        ..message.clone()
    };
    check(&declaring, |_| {}, "commit");
    check(
        &message,
        |request| request.committer_signature.push(1),
        "committer_signature",
    );
    check(&message, |request| request.pages.push(vec![1]), "pages");
    check(
        &message,
        |request| request.shared_part.push(1),
        "shared_part",
    );
    check(
        &message,
        |request| request.own_parts.push(vec![1]),
        "own_parts",
    );
    check(
        &commit,
        |request| request.shared_part.push(1),
        "shared_part",
    );
    check(
        &commit,
        |request| request.own_parts.push(vec![1]),
        "own_parts",
    );
    let prophet = group.commit(&next, false, 1);
    check(&prophet, |_| {}, "last_seen");
    let mut slow = commit.clone();
    slow.commit.as_mut().unwrap().commit_interval = Some(3601);
    check(&slow, |_| {}, "commit_interval");
}

fn sizes_are_bounded<S: Store>(mut world: World<S>) {
    let group = world.group();
    let overhead = private_message(&group.log.0, 0, 1, &[]).len() + 3;
    let largest = vec![7; limits::APPLICATION_MESSAGE - overhead];
    let append = group.append(1, &largest);
    assert_eq!(append.message.len(), limits::APPLICATION_MESSAGE);
    assert_eq!(world.append(group.sign(&append)).unwrap().sequence, 1);
    let append = group.append(1, &[&largest[..], &[7]].concat());
    assert_eq!(world.append(group.sign(&append)), Err(Refusal::TooLarge));
    // A proposal may be larger.
    let append = group.append(2, &[&largest[..], &[7]].concat());
    assert!(world.append(group.sign(&append)).is_ok());
}

fn the_commit_interval_is_kept<S: Store>(mut world: World<S>) {
    let mut group = world.group();
    let next = world.key();
    let mut first = group.commit(&next.public(), false, 0);
    first.commit.as_mut().unwrap().commit_interval = Some(3);
    let head = world.append(group.sign(&first)).unwrap();
    group.follow(&first, next, &head);

    world.now += 1_000;
    let next = world.key();
    let second = group.commit(&next.public(), false, 1);
    assert_eq!(
        world.append(group.sign(&second)),
        Err(Refusal::CommitInterval(2_000))
    );
    world.message(&mut group, b"messages go through");
    world.now += 2_000;
    // The same bytes, later.
    let head = world.append(group.sign(&second)).unwrap();
    group.follow(&second, next, &head);
    // It holds until a commit sets another.
    let next = world.key();
    let mut third = group.commit(&next.public(), false, 3);
    third.commit.as_mut().unwrap().commit_interval = Some(0);
    assert_eq!(
        world.append(group.sign(&third)),
        Err(Refusal::CommitInterval(3_000))
    );
    world.now += 3_000;
    let head = world.append(group.sign(&third)).unwrap();
    group.follow(&third, next, &head);
    world.commit(&mut group, false);
}

fn time_never_runs_back<S: Store>(mut world: World<S>) {
    let mut group = world.group();
    let start = world.now;
    world.now -= 60_000;
    assert_eq!(world.message(&mut group, b"one").entry_time, start);
    world.now = start + 5;
    assert_eq!(world.message(&mut group, b"two").entry_time, start + 5);
    world.now = 0;
    assert_eq!(world.commit(&mut group, false).entry_time, start + 5);
    let read = world.read(&group, 0, 0);
    let times: Vec<_> = read.entries.iter().map(|entry| entry.time).collect();
    assert_eq!(times, [start, start + 5, start + 5]);
    assert_eq!(read.head.unwrap().issued, start + 5);
}
