//! Large appends go up in chunks; what is staged is bounded, and changes nothing else.

use folkmoot_delivery_service::Rates;
use folkmoot_delivery_service::store::Store;
use folkmoot_mls::codec::Encode;
use folkmoot_protocol::call::{Answer, Call};
use folkmoot_protocol::delivery::{
    AppendRequest, AppendStagedRequest, PagesRequest, PickUpRequest, StageRequest, UploadRequest,
};
use folkmoot_protocol::ids::{PageAddress, PickupAddress, StageId};
use folkmoot_protocol::log::{Append, Head, Stage};
use folkmoot_protocol::proof::Method;
use folkmoot_protocol::rate::Rate;
use folkmoot_protocol::{Conflict, Refusal, limits};

use crate::on_every_store;
use crate::world::{DAY, Group, HOUR, World, sqlite, verified};

on_every_store! {
    a_staged_commit_is_a_commit;
    an_upload_goes_on_where_it_stopped;
    a_chunk_is_the_declared_one;
    only_members_of_the_epoch_stage;
    what_is_staged_is_bounded;
    each_branch_has_room_of_its_own;
    what_is_never_named_goes;
    a_staged_commit_has_seen_what_came_before_its_staging;
    what_goes_up_counts_as_what_is_appended;
    a_contest_has_pages_of_its_own;
}

/// A commit with so many joiners that it takes several chunks.
pub fn large<S: Store>(world: &mut World<S>, group: &Group) -> (Append, AppendRequest) {
    let joiners: Vec<_> = (0..700)
        .map(|_| (PickupAddress(world.bytes()), vec![7; 4000]))
        .collect();
    let next = world.key().public();
    group.commit_with_welcome(&next, b"shared", &joiners)
}

fn stage_of(group: &Group, request: &AppendRequest) -> (Stage, Vec<u8>) {
    let bytes = Call::Append(request.clone()).encode();
    let stage = Stage::of(group.log, group.branch, group.epoch, &bytes).unwrap();
    (stage, bytes)
}

fn open<S: Store>(world: &mut World<S>, group: &Group, stage: &Stage) -> Result<Vec<u32>, Refusal> {
    let proof = group.proof(Method::Stage, stage.epoch, &stage.id().0);
    let fence = &group.fences[stage.epoch as usize];
    let request = StageRequest {
        stage: stage.to_bytes(),
        fence_signature: proof.sign(fence).to_vec(),
    };
    match world.ask(Call::Stage(request))? {
        Answer::Stage(answer) => Ok(answer.missing),
        other => panic!("{other:?}"),
    }
}

fn upload<S: Store>(
    world: &mut World<S>,
    stage: &Stage,
    bytes: &[u8],
    number: u32,
) -> Result<(), Refusal> {
    let chunk = bytes.chunks(limits::CHUNK).nth(number as usize).unwrap();
    put(world, stage, number, chunk)
}

fn put<S: Store>(
    world: &mut World<S>,
    stage: &Stage,
    number: u32,
    chunk: &[u8],
) -> Result<(), Refusal> {
    let request = UploadRequest {
        log: stage.log.into(),
        stage: stage.id().into(),
        number,
        chunk: chunk.to_vec(),
    };
    world.ask(Call::Upload(request)).map(|_| ())
}

fn append<S: Store>(world: &mut World<S>, group: &Group, id: StageId) -> Result<Head, Refusal> {
    let request = AppendStagedRequest {
        log: group.log.into(),
        stage: id.into(),
        payment: None,
    };
    match world.ask(Call::AppendStaged(request))? {
        Answer::AppendStaged(receipt) => Ok(verified(&receipt)),
        other => panic!("{other:?}"),
    }
}

/// Stages a request whole.
pub fn stage<S: Store>(world: &mut World<S>, group: &Group, request: &AppendRequest) -> StageId {
    let (stage, bytes) = stage_of(group, request);
    for number in open(world, group, &stage).unwrap() {
        upload(world, &stage, &bytes, number).unwrap();
    }
    stage.id()
}

fn a_staged_commit_is_a_commit<S: Store>(mut world: World<S>) {
    let mut group = world.group();
    let (commit, request) = large(&mut world, &group);
    let id = stage(&mut world, &group, &request);
    // Nothing of it is to be seen yet.
    let pickup = commit.commit.as_ref().unwrap().pickups[300].address;
    let pick_up = PickUpRequest {
        log: group.log.into(),
        address: pickup.into(),
    };
    let picked = world.ask(Call::PickUp(pick_up.clone()));
    assert_eq!(picked, Err(Refusal::NotFound));
    let head = append(&mut world, &group, id).unwrap();
    assert_eq!(head.sequence, 1);
    // The same again, and in one piece, is the same append.
    assert_eq!(append(&mut world, &group, id), Ok(head.clone()));
    assert_eq!(world.append(request), Ok(head.clone()));
    let Ok(Answer::PickUp(picked)) = world.ask(Call::PickUp(pick_up)) else {
        panic!("it is there")
    };
    assert_eq!(picked.own_part, vec![7; 4000]);
    let key = world.key();
    group.follow(&commit, key, &head);
    // What another one stages for the epoch that is over has lost.
    let late = Stage::of(group.log, group.branch, 0, b"late").unwrap();
    assert!(matches!(
        open(&mut world, &group, &late),
        Err(Refusal::Conflict(Conflict::TipMoved, _))
    ));
}

fn an_upload_goes_on_where_it_stopped<S: Store>(mut world: World<S>) {
    let group = world.group();
    let (_, request) = large(&mut world, &group);
    let (stage, bytes) = stage_of(&group, &request);
    assert_eq!(open(&mut world, &group, &stage), Ok(vec![0, 1, 2]));
    for _ in 0..2 {
        upload(&mut world, &stage, &bytes, 1).unwrap();
    }
    assert_eq!(open(&mut world, &group, &stage), Ok(vec![0, 2]));
    // It is no append before it is whole.
    let early = append(&mut world, &group, stage.id());
    assert_eq!(early, Err(Refusal::NotFound));
    upload(&mut world, &stage, &bytes, 2).unwrap();
    upload(&mut world, &stage, &bytes, 0).unwrap();
    assert_eq!(open(&mut world, &group, &stage), Ok(vec![]));
    assert_eq!(append(&mut world, &group, stage.id()).unwrap().sequence, 1);
}

fn a_chunk_is_the_declared_one<S: Store>(mut world: World<S>) {
    let group = world.group();
    let (_, request) = large(&mut world, &group);
    let (stage, bytes) = stage_of(&group, &request);
    let unknown = upload(&mut world, &stage, &bytes, 0);
    assert_eq!(unknown, Err(Refusal::NotFound));
    open(&mut world, &group, &stage).unwrap();
    let malformed = |field: &str| Err(Refusal::Malformed(field.into()));
    let mut chunk = bytes[..limits::CHUNK].to_vec();
    assert_eq!(put(&mut world, &stage, 3, &chunk), malformed("number"));
    assert_eq!(put(&mut world, &stage, 0, &chunk[1..]), malformed("number"));
    assert_eq!(put(&mut world, &stage, 1, &chunk), malformed("chunk"));
    chunk[9] ^= 1;
    assert_eq!(put(&mut world, &stage, 0, &chunk), malformed("chunk"));
    chunk.push(0);
    assert_eq!(put(&mut world, &stage, 0, &chunk), Err(Refusal::TooLarge));
    // What goes up has to be an append of that log.
    let garbage = vec![0xff; 3000];
    let bad = Stage::of(group.log, group.branch, 0, &garbage).unwrap();
    open(&mut world, &group, &bad).unwrap();
    put(&mut world, &bad, 0, &garbage).unwrap();
    assert_eq!(
        append(&mut world, &group, bad.id()).map(drop),
        malformed("stage")
    );
    let other = world.group();
    let (_, elsewhere) = large(&mut world, &other);
    let id = self::stage(&mut world, &group, &elsewhere);
    assert_eq!(append(&mut world, &group, id).map(drop), malformed("log"));
    // Its size is that of its chunks.
    for size in [0, 2 << 20, (3 << 20) + 1, u32::MAX] {
        let unsound = Stage {
            size,
            ..stage.clone()
        };
        assert_eq!(
            open(&mut world, &group, &unsound).map(drop),
            malformed("stage")
        );
    }
}

fn only_members_of_the_epoch_stage<S: Store>(mut world: World<S>) {
    let group = world.group();
    let (_, request) = large(&mut world, &group);
    let (stage, _) = stage_of(&group, &request);
    let mut stranger = group.clone();
    stranger.fences = vec![world.key()];
    let refused = open(&mut world, &stranger, &stage);
    assert_eq!(refused, Err(Refusal::NotFound));
    let epoch = Stage { epoch: 1, ..stage };
    stranger.fences.push(world.key());
    assert_eq!(open(&mut world, &stranger, &epoch), Err(Refusal::NotFound));
}

fn what_is_staged_is_bounded<S: Store>(mut world: World<S>) {
    let mut group = world.group();
    let stages = |world: &mut World<S>, group: &Group, count: usize| -> Vec<_> {
        (0..count)
            .map(|_| {
                let bytes = world.bytes();
                let stage = Stage::of(group.log, group.branch, group.epoch, &bytes).unwrap();
                open(world, group, &stage).err()
            })
            .collect()
    };
    let count = limits::STAGES_PER_LOG;
    let opened = stages(&mut world, &group, count + 1);
    assert!(opened[..count].iter().all(Option::is_none));
    assert!(matches!(opened[count], Some(Refusal::Rate(_))));
    // With the epoch all of that is over.
    world.commit(&mut group, false);
    assert_eq!(stages(&mut world, &group, 1), [None]);
    // Bytes count as they are declared.
    let whole = |mark: u8| Stage {
        size: limits::STAGED as u32,
        chunks: vec![[mark; 32]; limits::STAGED / limits::CHUNK],
        ..Stage::of(group.log, group.branch, group.epoch, &[mark]).unwrap()
    };
    assert!(open(&mut world, &group, &whole(1)).is_ok());
    assert!(matches!(
        open(&mut world, &group, &whole(2)),
        Err(Refusal::Rate(_))
    ));
}

/// Whoever is left behind on a branch of its own uses up no room of those who go on.
fn each_branch_has_room_of_its_own<S: Store>(mut world: World<S>) {
    let group = world.group();
    let mut follow = |contest: bool| {
        let key = world.key();
        let mut append = group.commit(&key.public(), contest, group.sequence);
        append.commit.as_mut().unwrap().contest = contest;
        let head = world.append(group.sign(&append)).unwrap();
        let mut branch = group.clone();
        branch.follow(&append, key, &head);
        branch.branch = append.stands_on();
        branch
    };
    let (left_behind, others) = (follow(false), follow(true));
    assert_ne!(left_behind.branch, others.branch);
    let mut open_one = |group: &Group| {
        let bytes = world.bytes();
        let stage = Stage::of(group.log, group.branch, group.epoch, &bytes).unwrap();
        open(&mut world, group, &stage)
    };
    for _ in 0..limits::STAGES_PER_LOG {
        assert!(open_one(&left_behind).is_ok());
    }
    assert!(matches!(open_one(&left_behind), Err(Refusal::Rate(_))));
    assert!(open_one(&others).is_ok());
}

fn what_is_never_named_goes<S: Store>(mut world: World<S>) {
    let group = world.group();
    let (_, request) = large(&mut world, &group);
    let id = stage(&mut world, &group, &request);
    world.now += DAY;
    assert_eq!(append(&mut world, &group, id), Err(Refusal::NotFound));
    // The stage and its three chunks.
    world.now += 2 * HOUR;
    assert_eq!(world.service.sweep(world.now), Ok(4));
    let id = stage(&mut world, &group, &request);
    assert!(append(&mut world, &group, id).is_ok());
}

fn a_staged_commit_has_seen_what_came_before_its_staging<S: Store>(mut world: World<S>) {
    let mut group = world.group();
    let (_, request) = large(&mut world, &group);
    let (stage, bytes) = stage_of(&group, &request);
    world.now += 1000;
    world.proposal(&mut group.clone(), b"before");
    world.now += 3000;
    open(&mut world, &group, &stage).unwrap();
    for number in 0..3 {
        upload(&mut world, &stage, &bytes, number).unwrap();
    }
    // It was three seconds old when the staging began.
    assert!(matches!(
        append(&mut world, &group, stage.id()),
        Err(Refusal::Conflict(Conflict::UnseenProposals, _))
    ));
    group.sequence = 1;
    let (_, request) = large(&mut world, &group);
    let id = self::stage(&mut world, &group, &request);
    world.now += 1;
    world.proposal(&mut group.clone(), b"after");
    // That this one is older than two seconds now does not count.
    world.now += 60_000;
    assert_eq!(append(&mut world, &group, id).unwrap().sequence, 3);
}

fn what_goes_up_counts_as_what_is_appended<S: Store>(mut world: World<S>) {
    // A little more than the commit has.
    let rates = Rates {
        kibibytes: Rate {
            burst: 4 << 10,
            per_second: 1,
        },
        ..Rates::UNLIMITED
    };
    world.service = world.service.rates(rates);
    let group = world.group();
    let (_, request) = large(&mut world, &group);
    let (stage, bytes) = stage_of(&group, &request);
    open(&mut world, &group, &stage).unwrap();
    for number in [0, 1, 1, 1, 2] {
        // What is there already costs nothing.
        upload(&mut world, &stage, &bytes, number).unwrap();
    }
    let more = world.append(group.sign(&group.append(1, &[7; 500_000])));
    assert!(more.is_ok());
    let other = world.append(group.sign(&group.append(1, &[8; 1_000_000])));
    assert!(matches!(other, Err(Refusal::Rate(_))), "{other:?}");
    // The append costs nothing beside.
    assert!(append(&mut world, &group, stage.id()).is_ok());
    // Whoever is no member cannot use it up: there is no stage that it could open.
    let stranger = upload(&mut world, &stage, &bytes, 0);
    assert_eq!(stranger, Err(Refusal::NotFound));
}

/// The commit that was contested replaced a page; on the branch it is still needed.
fn a_contest_has_pages_of_its_own<S: Store>(mut world: World<S>) {
    let mut group = world.group();
    let before = group.clone();
    let next = world.key();
    let mut first = group.commit(&next.public(), false, 0);
    let commit = first.commit.as_mut().unwrap();
    commit.pages = vec![PageAddress::of(b"root")];
    let request = AppendRequest {
        pages: vec![b"root".to_vec()],
        ..group.sign(&first)
    };
    let head = world.append(request).unwrap();
    group.follow(&first, next, &head);
    let key = world.key().public();
    let (mut bad, mut contest) = (
        group.commit(&key, false, group.sequence),
        group.commit(&key, true, group.sequence),
    );
    let replaced = vec![PageAddress::of(b"root")];
    bad.commit.as_mut().unwrap().replaced = replaced.clone();
    world.append(group.sign(&bad)).unwrap();
    let commit = contest.commit.as_mut().unwrap();
    (commit.contest, commit.replaced) = (true, replaced);
    commit.pages = vec![PageAddress::of(b"its root")];
    let request = AppendRequest {
        pages: vec![b"its root".to_vec()],
        ..group.sign(&contest)
    };
    world.append(request).unwrap();
    let request = PagesRequest {
        log: before.log.into(),
        addresses: [&b"root"[..], b"its root"]
            .map(|page| PageAddress::of(page).into())
            .to_vec(),
        missing_only: false,
    };
    let Ok(Answer::Pages(answer)) = world.ask(Call::Pages(request)) else {
        panic!("pages")
    };
    assert_eq!(answer.pages, [&b"root"[..], b"its root"]);
}

#[test]
fn what_went_up_survives_the_service() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("delivery.sqlite");
    let mut world = World::new(sqlite(&path));
    let group = world.group();
    let (_, request) = large(&mut world, &group);
    let (stage, bytes) = stage_of(&group, &request);
    open(&mut world, &group, &stage).unwrap();
    for number in [0, 2] {
        upload(&mut world, &stage, &bytes, number).unwrap();
    }
    drop(world);
    let mut world = World::new(sqlite(&path));
    assert_eq!(open(&mut world, &group, &stage), Ok(vec![1]));
    upload(&mut world, &stage, &bytes, 1).unwrap();
    assert_eq!(append(&mut world, &group, stage.id()).unwrap().sequence, 1);
}
