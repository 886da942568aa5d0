//! Reads that follow: what comes when, and where they end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use folkmoot_delivery_service::store::Store;
use folkmoot_delivery_service::{Progress, Reading};
use folkmoot_protocol::Refusal;
use folkmoot_protocol::delivery::read_response::End;
use folkmoot_protocol::delivery::{ReadRequest, ReadResponse};
use folkmoot_protocol::limits;

use crate::world::{Group, World, verified};

crate::on_every_store! {
    entries_come_as_they_are_committed;
    a_head_comes_every_minute;
    a_cut_ends_a_log_and_the_last_log_the_stream;
    a_slow_reader_loses_nothing;
    a_stranger_cannot_stay;
    streams_end_with_the_service;
}

/// A stream, and how often it was woken.
struct Stream {
    reading: Reading,
    woken: Arc<AtomicUsize>,
}

impl Stream {
    fn new<S: Store>(world: &mut World<S>, logs: &[(&Group, u64, u64)]) -> Self {
        Self::begin(world, logs).unwrap()
    }

    fn begin<S: Store>(world: &mut World<S>, logs: &[(&Group, u64, u64)]) -> Result<Self, Refusal> {
        let nonce = world.nonce();
        let logs = logs
            .iter()
            .map(|(group, epoch, after)| group.read(*epoch, *after, nonce.clone()))
            .collect();
        let follow = true;
        let woken = Arc::new(AtomicUsize::new(0));
        let bell = woken.clone();
        let wake = move || {
            bell.fetch_add(1, Ordering::Relaxed);
        };
        let request = ReadRequest { logs, follow };
        let reading = world.service.begin_read(request, world.now, wake)?;
        Ok(Self { reading, woken })
    }

    fn next<S: Store>(&mut self, world: &World<S>) -> Progress {
        world
            .service
            .next_batch(&mut self.reading, world.now)
            .unwrap()
    }

    /// The batches up to where there is nothing more.
    fn rest<S: Store>(&mut self, world: &World<S>) -> Vec<ReadResponse> {
        let mut batches = Vec::new();
        while let Progress::Batch(batch) = self.next(world) {
            batches.push(batch);
        }
        batches
    }

    /// Sequences of the entries up to where there is nothing more, and the last head and end.
    fn news<S: Store>(&mut self, world: &World<S>) -> (Vec<u64>, u64, End) {
        let batches = self.rest(world);
        let last = batches.last().expect("something new");
        let head = last.head.as_ref().map(verified).expect("a head");
        assert_eq!(head.issued, world.now);
        let entries = batches.iter().flat_map(|batch| &batch.entries);
        let sequences = entries.map(|entry| entry.sequence).collect();
        (sequences, head.sequence, last.end())
    }

    fn woken(&self) -> usize {
        self.woken.swap(0, Ordering::Relaxed)
    }
}

fn entries_come_as_they_are_committed<S: Store>(mut world: World<S>) {
    let (mut group, mut other) = (world.group(), world.group());
    world.message(&mut group, b"one");
    let mut stream = Stream::new(&mut world, &[(&group, 0, 0)]);
    assert_eq!(stream.news(&world), (vec![1], 1, End::Head));
    let until = world.now + limits::HEAD_EVERY_MS;
    assert_eq!(stream.next(&world), Progress::CaughtUp { until });
    // Other logs and repeated appends are no news.
    world.message(&mut other, b"elsewhere");
    let repeated = group.append(1, b"one");
    world.append(group.sign(&repeated)).unwrap();
    assert_eq!(stream.woken(), 0);
    assert_eq!(stream.rest(&world), []);

    world.message(&mut group, b"two");
    assert_eq!(stream.woken(), 1);
    world.commit(&mut group, false);
    world.now += 10;
    assert_eq!(stream.news(&world), (vec![2, 3], 3, End::Head));
    assert_eq!(stream.rest(&world), []);
    world.message(&mut group, b"three");
    assert_eq!(stream.news(&world), (vec![4], 4, End::Head));
}

fn a_head_comes_every_minute<S: Store>(mut world: World<S>) {
    let mut groups = [world.group(), world.group()];
    let logs: Vec<_> = groups.iter().map(|group| (group, 0, 0)).collect();
    let mut stream = Stream::new(&mut world, &logs);
    assert_eq!(stream.rest(&world).len(), 2);
    world.now += 20_000;
    world.message(&mut groups[0], b"news");
    assert_eq!(stream.news(&world).0, [1]);
    let begun = world.now - 20_000;
    let until = begun + limits::HEAD_EVERY_MS;
    const { assert!(limits::HEAD_EVERY_MS < 60_000) };
    assert_eq!(stream.next(&world), Progress::CaughtUp { until });
    // First that of the quiet log, then that of the other one.
    for (at, log) in [(until, &groups[1]), (until + 20_000, &groups[0])] {
        world.now = at - 1;
        assert_eq!(stream.rest(&world), []);
        world.now = at;
        let [head] = &stream.rest(&world)[..] else {
            panic!("one batch")
        };
        assert_eq!(head.log, log.log.0);
        assert_eq!((head.entries.len(), head.end()), (0, End::Head));
        assert_eq!(verified(head.head.as_ref().unwrap()).issued, at);
    }
}

fn a_cut_ends_a_log_and_the_last_log_the_stream<S: Store>(mut world: World<S>) {
    let (mut group, mut other) = (world.group(), world.group());
    let mut stream = Stream::new(&mut world, &[(&group, 0, 0), (&other, 0, 0)]);
    assert_eq!(stream.rest(&world).len(), 2);
    world.commit(&mut group, true);
    world.message(&mut group, b"not for the removed");
    assert_eq!(stream.news(&world), (vec![1], 1, End::Cut));
    stream.woken();
    world.message(&mut group, b"nor this");
    assert_eq!((stream.woken(), stream.rest(&world)), (0, vec![]));
    world.now += limits::HEAD_EVERY_MS;
    let heads = stream.rest(&world);
    assert!(heads.iter().all(|head| head.log == other.log.0));

    world.commit(&mut other, true);
    assert_eq!(stream.news(&world), (vec![1], 1, End::Cut));
    assert_eq!(stream.next(&world), Progress::Over);
    // The newer key goes on.
    let mut stream = Stream::new(&mut world, &[(&group, 1, 1)]);
    assert_eq!(stream.news(&world), (vec![2, 3], 3, End::Head));
}

fn a_slow_reader_loses_nothing<S: Store>(mut world: World<S>) {
    let mut group = world.group();
    let mut stream = Stream::new(&mut world, &[(&group, 0, 0)]);
    stream.rest(&world);
    for number in 1..=30 {
        let body = vec![number; 100_000];
        world.message(&mut group, &body);
    }
    // More than a batch holds: the bells have only said that there is something.
    let Progress::Batch(first) = stream.next(&world) else {
        panic!("a batch")
    };
    assert_eq!((first.end(), first.head), (End::Unspecified, None));
    let seen = first.entries.len() as u64;
    for number in 31..=40 {
        world.message(&mut group, &[number]);
    }
    let (rest, head, end) = stream.news(&world);
    assert_eq!(rest, (seen + 1..=40).collect::<Vec<_>>());
    assert_eq!((head, end), (40, End::Head));
}

fn a_stranger_cannot_stay<S: Store>(mut world: World<S>) {
    let group = world.group();
    let mut stranger = group.clone();
    stranger.fences[0] = world.key();
    let mut stream = Stream::new(&mut world, &[(&stranger, 0, 0)]);
    let [blind] = &stream.rest(&world)[..] else {
        panic!("one batch")
    };
    assert_eq!((blind.end(), blind.head.is_some()), (End::Blind, false));
    assert_eq!(stream.next(&world), Progress::Over);
}

fn streams_end_with_the_service<S: Store>(mut world: World<S>) {
    let mut group = world.group();
    let mut stream = Stream::new(&mut world, &[(&group, 0, 0)]);
    stream.rest(&world);
    world.service.end_streams();
    assert_eq!(stream.woken(), 1);
    assert_eq!(stream.next(&world), Progress::Over);
    let refused = Stream::begin(&mut world, &[(&group, 0, 0)]).err();
    assert!(matches!(refused, Some(Refusal::Busy(_))), "{refused:?}");
    // What is not a stream goes on.
    world.message(&mut group, b"still here");
    assert_eq!(world.read(&group, 0, 0).sequences, [1]);
}
