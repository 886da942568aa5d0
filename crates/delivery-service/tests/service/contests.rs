//! Contests, and logs that name committers: what is taken, what is refused, who reads what.

use folkmoot_delivery_service::store::Store;
use folkmoot_mls::codec::{Decode, Encode};
use folkmoot_protocol::call::{Answer, Call};
use folkmoot_protocol::delivery::read_response::End;
use folkmoot_protocol::delivery::{AppendRequest, CandidatesRequest, CandidatesResponse};
use folkmoot_protocol::ids::{ChainHash, PickupAddress};
use folkmoot_protocol::keys::{PublicKey, SigningKey};
use folkmoot_protocol::log::{Append, CandidateList, Head, part_hash};
use folkmoot_protocol::proof::{CommitterProof, Method};
use folkmoot_protocol::{Refusal, VERSION, limits};

use crate::world::{Group, World, service_key};

crate::on_every_store! {
    a_contest_starts_a_branch_of_its_own;
    commits_after_a_parent_are_listed_in_their_order;
    a_contest_is_of_a_form;
    who_was_removed_learns_nothing_by_contesting;
    a_contest_is_taken_as_long_as_its_epoch_can_be_read;
    commits_after_a_parent_are_bounded;
    a_committer_signs_and_offers_one_commit;
    a_spoilt_commit_names_nobody_on_the_other_branch;
}

/// A commit beside the first one after the group's tip.
fn contest(group: &Group, next: &PublicKey, last_seen: u64) -> Append {
    let mut append = group.commit(next, true, last_seen);
    append.commit.as_mut().unwrap().contest = true;
    append
}

/// Somebody spoils the group's next commit. Nobody has the key that it names.
fn spoil<S: Store>(world: &mut World<S>, group: &Group) -> Head {
    let foreign = world.key();
    let bad = group.commit(&foreign.public(), false, group.sequence);
    world.append(group.sign(&bad)).unwrap()
}

/// Contests, and moves the group to the new branch.
fn mend<S: Store>(world: &mut World<S>, group: &mut Group) -> Head {
    let next = world.key();
    let append = contest(group, &next.public(), group.sequence);
    let head = world.append(group.sign(&append)).unwrap();
    group.branch = append.id();
    group.follow(&append, next, &head);
    head
}

fn list<S: Store>(
    world: &mut World<S>,
    group: &Group,
    epoch: u64,
    after: u32,
) -> Result<(CandidatesResponse, CandidateList), Refusal> {
    let nonce = world.nonce();
    let proof = group.proof(Method::Candidates, epoch, &nonce);
    let request = CandidatesRequest {
        log: group.log.into(),
        branch: group.branch.into(),
        epoch,
        proof: proof.sign(&group.fences[epoch as usize]).to_vec(),
        nonce,
        after,
    };
    match world.ask(Call::Candidates(request))? {
        Answer::Candidates(answer) => {
            let key = service_key().public();
            let list = CandidateList::read(&answer.list, &answer.signature, &key).unwrap();
            Ok((answer, list))
        }
        other => panic!("{other:?}"),
    }
}

fn malformed<T>(field: &str) -> Result<T, Refusal> {
    Err(Refusal::Malformed(field.into()))
}

fn a_contest_starts_a_branch_of_its_own<S: Store>(mut world: World<S>) {
    let mut group = world.group();
    let base = world.message(&mut group, b"for all branches");
    let before = group.clone();
    let bad = spoil(&mut world, &group);
    assert_eq!(bad.sequence, 2);
    // Somebody who has not read it yet: only that branch has it.
    let late = world
        .append(before.sign(&before.append(1, b"late")))
        .unwrap();
    assert_eq!(late.sequence, 3);

    world.now += 50;
    let head = mend(&mut world, &mut group);
    let chain = base.chain.next(group.log, 2, world.now, group.tip);
    assert_eq!(
        (head.branch, head.sequence, head.chain),
        (group.tip, 2, chain)
    );
    assert_eq!(world.message(&mut group, b"on").sequence, 3);
    let read = world.read(&group, 1, 0);
    assert_eq!((read.sequences, read.end), (vec![3], End::Head));
    // The other one is readable as it was, for who has its key.
    let read = world.read(&before, 0, 1);
    assert_eq!((read.sequences, read.end), (vec![2, 3], End::Head));
    // The first receipt again, on the branch that it stands on.
    let next = group.fences[1].public();
    let again = contest(&before, &next, before.sequence);
    assert_eq!(world.append(before.sign(&again)), Ok(head));
    // The new branch goes on as any other, and can be contested itself.
    world.commit(&mut group, false);
    spoil(&mut world, &group);
    mend(&mut world, &mut group);
    assert_eq!(world.message(&mut group, b"and on").sequence, 6);
}

fn commits_after_a_parent_are_listed_in_their_order<S: Store>(mut world: World<S>) {
    let mut group = world.group();
    let before = group.clone();
    let (answer, none) = list(&mut world, &before, 0, 0).unwrap();
    assert_eq!((answer.entries.len(), none.count), (0, 0));
    spoil(&mut world, &group);
    let mut ids = vec![];
    for _ in 0..3 {
        world.now += 5;
        let next = world.key();
        let append = contest(&before, &next.public(), 0);
        world.append(before.sign(&append)).unwrap();
        ids.push(append.id());
    }
    mend(&mut world, &mut group);
    ids.push(group.tip);

    let (answer, all) = list(&mut world, &before, 0, 0).unwrap();
    let entries = |answer: &CandidatesResponse| -> Vec<_> {
        let entries = answer.entries.iter();
        entries
            .map(|entry| Append::from_bytes(&entry.content).unwrap().id())
            .collect()
    };
    assert_eq!(entries(&answer)[1..], ids);
    assert!(answer.entries.iter().all(|entry| entry.sequence == 1));
    assert!(!answer.more);
    let chain = |chain: ChainHash, answer: &CandidatesResponse| {
        answer
            .entries
            .iter()
            .zip(entries(answer))
            .fold(chain, |chain, (entry, id)| {
                chain.next_candidate(before.tip, entry.time, id)
            })
    };
    let hash = chain(ChainHash::START, &answer);
    assert_eq!((all.count, all.chain, all.parent), (5, hash, before.tip));
    // From a place on, it is the same list.
    for after in 1..=5 {
        let (first, rest) = (&answer.entries[..after], &answer.entries[after..]);
        let known = CandidatesResponse {
            entries: first.to_vec(),
            ..Default::default()
        };
        let (answer, list) = list(&mut world, &before, 0, after as u32).unwrap();
        assert_eq!((&answer.entries[..], list.count), (rest, 5));
        assert_eq!(chain(chain(ChainHash::START, &known), &answer), list.chain);
    }
    // For holders of the epoch's key only.
    let mut stranger = before.clone();
    stranger.fences[0] = world.key();
    assert_eq!(
        list(&mut world, &stranger, 0, 0).err(),
        Some(Refusal::NotFound)
    );
    stranger.log.0[0] ^= 1;
    assert_eq!(
        list(&mut world, &stranger, 0, 0).err(),
        Some(Refusal::NotFound)
    );
}

fn a_contest_is_of_a_form<S: Store>(mut world: World<S>) {
    let mut group = world.group();
    world.commit(&mut group, false);
    world.message(&mut group, b"hello");
    let next = world.key().public();
    let right = contest(&group, &next, group.sequence);
    // Nothing to contest yet.
    assert_eq!(world.append(group.sign(&right)), malformed("contest"));
    spoil(&mut world, &group);
    let foreign = world.key();
    assert_eq!(
        world.append(group.sign_with(&right, &foreign)),
        Err(Refusal::NotFound)
    );
    let mut check = |change: &dyn Fn(&mut Append), field| {
        let mut wrong = right.clone();
        change(&mut wrong);
        assert_eq!(world.append(group.sign(&wrong)), malformed(field));
    };
    check(&|append| append.commit.as_mut().unwrap().cut = false, "cut");
    check(
        &|append| append.commit.as_mut().unwrap().last_seen = 1,
        "last_seen",
    );
    check(
        &|append| append.commit.as_mut().unwrap().last_seen = 3,
        "last_seen",
    );
    check(
        &|append| append.commit.as_mut().unwrap().commit_interval = Some(1),
        "commit_interval",
    );
    check(&|append| append.parent.0[0] ^= 1, "parent");
    // It adds nobody: who joined by it would perhaps be where nobody is.
    let joiner = (PickupAddress([1; 32]), b"part".to_vec());
    let (mut append, mut request) = group.commit_with_welcome(&next, b"shared", &[joiner]);
    let commit = append.commit.as_mut().unwrap();
    (commit.contest, commit.cut) = (true, true);
    assert_eq!(commit.shared_part, Some(part_hash(b"shared")));
    request.fence_signature = group.sign(&append).fence_signature;
    request.append = append.to_bytes();
    assert_eq!(world.append(request), malformed("pickups"));
    world.append(group.sign(&right)).unwrap();
}

fn who_was_removed_learns_nothing_by_contesting<S: Store>(mut world: World<S>) {
    let mut group = world.group();
    let removed = group.clone();
    world.commit(&mut group, true);
    world.message(&mut group, b"behind the cut");
    // It tries to undo the cut. That makes a branch on which nobody is.
    let mut undone = removed.clone();
    mend(&mut world, &mut undone);
    let (answer, list) = list(&mut world, &removed, 0, 0).unwrap();
    assert_eq!((answer.entries.len(), list.count), (2, 2));
    let first = Append::from_bytes(&answer.entries[0].content).unwrap();
    assert_eq!(
        first.id(),
        group.tip,
        "the removal came first, for everybody"
    );
    let read = world.read(&removed, 0, 0);
    assert_eq!((read.sequences, read.end), (vec![1], End::Cut));
    assert_eq!(world.read(&undone, 1, 0).sequences, [0u64; 0]);
    // The group goes on as if nothing had been.
    assert_eq!(world.message(&mut group, b"on").sequence, 3);
    assert_eq!(world.read(&group, 1, 0).sequences, [2, 3]);
    // Nor does an old key open a contest's branch.
    let mut old = undone.clone();
    old.fences[1] = old.fences[0].clone();
    assert_eq!(world.read(&old, 1, 0).end, End::Blind);
    assert_eq!(world.read(&old, 0, 0).end, End::Blind);
}

/// All but one were away for eight days, and nobody had said anything for long before.
fn a_contest_is_taken_as_long_as_its_epoch_can_be_read<S: Store>(mut world: World<S>) {
    let mut group = world.group();
    world.message(&mut group, b"long ago");
    world.now += 40 * crate::world::DAY;
    world.service.sweep(world.now).unwrap();
    spoil(&mut world, &group);
    let before = group.clone();
    world.now += 8 * crate::world::DAY;
    mend(&mut world, &mut group);
    assert_eq!(world.message(&mut group, b"back").sequence, 3);
    // What nobody can read any more, nobody can mend.
    world.now += 23 * crate::world::DAY;
    let late = contest(&before, &world.key().public(), before.sequence);
    let refused = world.append(before.sign(&late));
    let closed = [Err(Refusal::ContestsClosed), Err(Refusal::NotFound)];
    assert!(closed.contains(&refused), "{refused:?}");
}

fn commits_after_a_parent_are_bounded<S: Store>(mut world: World<S>) {
    let group = world.group();
    spoil(&mut world, &group);
    let offer = |world: &mut World<S>| {
        let next = world.key().public();
        world.append(group.sign(&contest(&group, &next, 0)))
    };
    for _ in 0..limits::CANDIDATES_AT_ONCE {
        offer(&mut world).unwrap();
    }
    world.now += 1000;
    let wait = limits::CANDIDATE_EVERY_MS - 1000;
    assert_eq!(offer(&mut world), Err(Refusal::Rate(wait)));
    for _ in 0..limits::CANDIDATES - limits::CANDIDATES_AT_ONCE - 1 {
        world.now += limits::CANDIDATE_EVERY_MS;
        offer(&mut world).unwrap();
    }
    world.now += limits::CANDIDATE_EVERY_MS;
    assert_eq!(offer(&mut world), Err(Refusal::ContestsClosed));
}

fn by(group: &Group, append: &Append, committer: &SigningKey) -> AppendRequest {
    let proof = CommitterProof {
        version: VERSION,
        delivery_service: service_key().public(),
        log: append.log,
        commit: append.id(),
    };
    AppendRequest {
        committer_signature: proof.sign(committer),
        ..group.sign(append)
    }
}

/// A group whose log names two committers.
fn named<S: Store>(world: &mut World<S>) -> (Group, [SigningKey; 2]) {
    let mut group = world.group();
    let committers = [world.key(), world.key()];
    let next = world.key();
    let mut append = group.commit(&next.public(), false, 0);
    let keys = committers.iter().map(SigningKey::public).collect();
    append.commit.as_mut().unwrap().committers = Some(keys);
    let head = world.append(group.sign(&append)).unwrap();
    group.follow(&append, next, &head);
    (group, committers)
}

fn a_committer_signs_and_offers_one_commit<S: Store>(mut world: World<S>) {
    let (mut group, [one, other]) = named(&mut world);
    let (next, stranger) = (world.key(), world.key());
    let append = group.commit(&next.public(), false, group.sequence);
    assert_eq!(world.append(group.sign(&append)), Err(Refusal::BadProof));
    let by_stranger = by(&group, &append, &stranger);
    assert_eq!(world.append(by_stranger), Err(Refusal::BadProof));
    let mut damaged = by(&group, &append, &one);
    damaged.committer_signature[40] ^= 1;
    assert_eq!(world.append(damaged), Err(Refusal::BadProof));
    // A signature for another commit.
    let mut moved = by(&group, &append, &one);
    let another = group.commit(&stranger.public(), false, group.sequence);
    moved.append = another.to_bytes();
    moved.fence_signature = group.sign(&another).fence_signature;
    assert_eq!(world.append(moved), Err(Refusal::BadProof));
    // Messages need none.
    world.message(&mut group, b"hello");
    let append = group.commit(&next.public(), false, group.sequence);
    world.append(by(&group, &append, &one)).unwrap();
    let read = world.read(&group, 1, group.sequence);
    assert_eq!(read.entries[0].committer_signature[..32], one.public().0);

    // Each of them offers one commit after a parent, whatever it was.
    let mut contest_by = |committer: &SigningKey| {
        let next = world.key().public();
        let append = contest(&group, &next, group.sequence);
        world.append(by(&group, &append, committer)).map(drop)
    };
    assert_eq!(contest_by(&one), Err(Refusal::Taken));
    assert_eq!(contest_by(&stranger), Err(Refusal::BadProof));
    assert_eq!(contest_by(&other), Ok(()));
    assert_eq!(contest_by(&other), Err(Refusal::Taken));
    // A list has a form.
    let mut check = |keys: Vec<PublicKey>| {
        let mut append = group.commit(&next.public(), false, group.sequence);
        append.commit.as_mut().unwrap().committers = Some(keys);
        assert_eq!(
            world.append(by(&group, &append, &one)),
            malformed("committers")
        );
    };
    check(Vec::new());
    check(vec![one.public(); 2]);
    let many = (0..=limits::COMMITTERS).map(|number| PublicKey([number as u8; 32]));
    check(many.collect());
}

fn a_spoilt_commit_names_nobody_on_the_other_branch<S: Store>(mut world: World<S>) {
    let (mut group, [one, other]) = named(&mut world);
    // One of them names itself alone, in a commit that nobody follows.
    let foreign = world.key();
    let mut bad = group.commit(&foreign.public(), false, group.sequence);
    let commit = bad.commit.as_mut().unwrap();
    commit.committers = Some(vec![one.public()]);
    commit.commit_interval = Some(3600);
    world.append(by(&group, &bad, &one)).unwrap();
    let next = world.key();
    let append = contest(&group, &next.public(), group.sequence);
    let head = world.append(by(&group, &append, &other)).unwrap();
    group.branch = append.id();
    group.follow(&append, next, &head);
    // There the first list is in force, and the first interval.
    let next = world.key();
    let append = group.commit(&next.public(), false, group.sequence);
    assert_eq!(world.append(group.sign(&append)), Err(Refusal::BadProof));
    world.append(by(&group, &append, &other)).unwrap();
}
