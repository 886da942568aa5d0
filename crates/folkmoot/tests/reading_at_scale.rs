//! Reading at scale, over real sockets: slow readers, long logs, many logs. What a reader does not take
//! stays in the store: no memory grows with it, no writer waits for it, and nothing is lost.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use common::wire::{Log, batch, delivery_key, fill, logs, read, run};
use common::{Server, folkmoot, scale};
use folkmoot_protocol::delivery::ReadResponse;
use folkmoot_protocol::delivery::read_response::End;
use tonic::Streaming;

/// Bytes that a slow reader lets be under way.
const WINDOW: u32 = 64 << 10;

/// A server that takes no payment.
fn start(folder: &tempfile::TempDir) -> Server {
    let data = folder.path().join("server");
    Server::started_with(folkmoot(), &data, "127.0.0.1:0", &["--no-tokens"])
}

/// The sequences of a log's entries up to its head, checked to be those after `after` and no other.
async fn rest(stream: &mut Streaming<ReadResponse>, log: &Log, after: u64) -> u64 {
    let mut last = after;
    loop {
        let batch = batch(stream).await;
        for entry in &batch.entries {
            last += 1;
            assert_eq!(entry.sequence, last, "in order, each once");
        }
        if batch.end() == End::Head {
            assert_eq!(log.head(&batch).sequence, last);
            return last;
        }
    }
}

#[test]
fn readers_who_stop_slow_no_writer_and_lose_nothing() {
    const READERS: usize = 12;
    const MESSAGES: u64 = 400;
    const SIZE: usize = 16 << 10;
    let folder = tempfile::tempdir().unwrap();
    let server = start(&folder);
    let listen = server.listen();
    run(async {
        let mut writer = logs(&listen, None).await;
        let mut log = Log::open(&mut writer, delivery_key(&server).await)
            .await
            .unwrap();
        fill(&mut log, &writer, 10, SIZE).await;
        // Alone, twice, so that the machine's own moods show.
        let mut alone = Duration::ZERO;
        for _ in 0..2 {
            let start = Instant::now();
            fill(&mut log, &writer, MESSAGES / 2, SIZE).await;
            alone = alone.max(start.elapsed());
        }

        let mut streams = Vec::new();
        for _ in 0..READERS {
            let mut reader = logs(&listen, Some(WINDOW)).await;
            let mut stream = read(&mut reader, &[(&log, 0)], true).await;
            let first = batch(&mut stream).await;
            let last = first.entries.last().unwrap().sequence;
            assert_eq!(first.end(), End::Unspecified, "there is more");
            streams.push((reader, stream, last));
        }
        // From here on they take nothing.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let before = server.memory("VmRSS");
        let mut watched = Duration::ZERO;
        for _ in 0..4 {
            let start = Instant::now();
            fill(&mut log, &writer, MESSAGES / 2, SIZE).await;
            watched = watched.max(start.elapsed());
        }
        let grown = server.memory("VmRSS").saturating_sub(before);
        let waiting = (READERS as u64 * 2 * MESSAGES * SIZE as u64) >> 10;
        println!(
            "{READERS} readers stand still: the slowest {} messages took {watched:?}, alone {alone:?}; \
             {grown} KiB more memory, while {waiting} KiB waited for them",
            MESSAGES / 2
        );
        assert!(
            grown < waiting / 4,
            "{grown} KiB for what the readers do not take"
        );
        assert!(watched < 4 * alone + Duration::from_millis(500));

        // When they go on they get all of it, while there is more to come.
        let end = 10 + 3 * MESSAGES;
        for (_, stream, last) in &mut streams {
            assert_eq!(rest(stream, &log, *last).await, end);
        }
        log.append(&mut writer, 100).await.unwrap();
        for (_, stream, _) in &mut streams {
            assert_eq!(rest(stream, &log, end).await, end + 1);
        }
    });
}

#[test]
fn ten_thousand_entries_come_in_one_stream_in_bounded_memory() {
    const ENTRIES: u64 = 10_000;
    const SIZE: usize = 6 << 10;
    let folder = tempfile::tempdir().unwrap();
    let server = start(&folder);
    let listen = server.listen();
    run(async {
        let mut client = logs(&listen, None).await;
        let mut log = Log::open(&mut client, delivery_key(&server).await)
            .await
            .unwrap();
        fill(&mut log, &client, ENTRIES, SIZE).await;
        let before = server.memory("VmRSS");
        server.forget_peak();
        let start = Instant::now();
        let mut stream = read(&mut client, &[(&log, 0)], false).await;
        assert_eq!(rest(&mut stream, &log, 0).await, ENTRIES);
        assert_eq!(stream.message().await.unwrap(), None);
        let taken = start.elapsed();
        let grown = server.memory("VmHWM").saturating_sub(before);
        let all = (ENTRIES * SIZE as u64) >> 10;
        println!("{ENTRIES} entries ({all} KiB) in {taken:?}; {grown} KiB more at the peak");
        assert!(grown < 12 << 10, "{grown} KiB");
    });
}

#[test]
fn one_stream_serves_a_thousand_logs() {
    let count = scale(200, 1000);
    let folder = tempfile::tempdir().unwrap();
    let server = start(&folder);
    let listen = server.listen();
    run(async {
        let mut client = logs(&listen, None).await;
        let key = delivery_key(&server).await;
        let mut all = Vec::new();
        for _ in 0..count {
            all.push(Log::open(&mut client, key).await.unwrap());
        }
        // One of them is long: the others are not held up by it.
        fill(&mut all[0], &client, 200, 16 << 10).await;
        let wanted: Vec<_> = all.iter().map(|log| (log, 0)).collect();
        let start = Instant::now();
        let mut stream = read(&mut client, &wanted, true).await;
        let mut at_head = BTreeSet::new();
        let mut order = Vec::new();
        while at_head.len() < count {
            let batch = batch(&mut stream).await;
            if batch.end() == End::Head {
                at_head.insert(batch.log.clone());
                order.push(batch.log);
            }
        }
        println!("{count} logs at their heads in {:?}", start.elapsed());
        assert_eq!(
            order.last().unwrap(),
            all[0].id.as_ref(),
            "the long one comes last"
        );

        // What is new comes, of those logs alone.
        let chosen = [count - 1, 3, count / 2];
        for index in chosen {
            all[index].append(&mut client, 100).await.unwrap();
        }
        let mut news = BTreeMap::new();
        while news.len() < chosen.len() {
            let batch = batch(&mut stream).await;
            if let Some(entry) = batch.entries.last() {
                news.insert(batch.log, entry.sequence);
            }
        }
        let expected = chosen.map(|index| (Vec::from(all[index].id), 1));
        assert_eq!(news, expected.into());
    });
}
