//! A disk that is full: nothing that was acknowledged is lost, what was not may be sent again, reads go
//! on, and with room the service goes on by itself.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use folkmoot_delivery_service::SqliteStore;
use folkmoot_delivery_service::store::StoreError;
use folkmoot_protocol::Refusal;
use folkmoot_protocol::call::{Answer, Call};
use folkmoot_protocol::delivery::AppendRequest;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;

use crate::shelves::{name, package, stock};
use crate::world::{Group, World, sqlite, verified};

const WRITERS: usize = 4;
/// Bytes of a message.
const SIZE: usize = 3000;

/// Fills what there is until nothing more goes in, makes room, and looks.
fn fill(store: SqliteStore, path: &Path, make_room: impl FnOnce(&SqliteStore)) {
    let store = Arc::new(store);
    let mut world = World::new(store.clone());
    let full = Arc::new(AtomicUsize::new(0));
    let told = full.clone();
    world.service = world.service.on_failure(move |error| {
        assert_eq!(*error, StoreError::Full);
        told.fetch_add(1, Ordering::Relaxed);
    });
    let groups: Vec<Group> = (0..WRITERS).map(|_| world.group()).collect();
    let owner = world.owner();
    let on_shelf = package(&world, b"on the shelf", false);
    stock(&mut world, &owner, vec![on_shelf]).unwrap();

    // Each writes until it is refused; two threads to a log, so that they share transactions.
    let refused: Mutex<Vec<(usize, AppendRequest)>> = Mutex::default();
    let acknowledged: Mutex<Vec<(usize, u64, Vec<u8>)>> = Mutex::default();
    std::thread::scope(|scope| {
        for thread in 0..2 * WRITERS {
            let (service, group, at) = (&world.service, &groups[thread / 2], thread / 2);
            let (refused, acknowledged, now) = (&refused, &acknowledged, world.now);
            scope.spawn(move || {
                let mut rng = ChaCha20Rng::from_seed([thread as u8; 32]);
                for number in 0..100_000u32 {
                    let mut body = vec![thread as u8; SIZE];
                    body[..4].copy_from_slice(&number.to_be_bytes());
                    let append = group.append(1, &body);
                    let request = group.sign(&append);
                    match service.answer(Call::Append(request.clone()), now, &mut rng) {
                        Ok(Answer::Append(receipt)) => {
                            let sequence = verified(&receipt).sequence;
                            let entry = (at, sequence, request.append);
                            acknowledged.lock().unwrap().push(entry);
                        }
                        Err(Refusal::Busy(_)) => {
                            refused.lock().unwrap().push((at, request));
                            return;
                        }
                        other => panic!("{other:?}"),
                    }
                }
                panic!("it never is full");
            });
        }
    });
    let (refused, acknowledged) = (
        refused.into_inner().unwrap(),
        acknowledged.into_inner().unwrap(),
    );
    assert_eq!(refused.len(), 2 * WRITERS, "everybody hears of it");
    assert!(full.load(Ordering::Relaxed) > 0, "and the operator");
    assert!(acknowledged.len() > 20, "{} went in", acknowledged.len());

    // What was acknowledged is read while there is no room; what was refused is not there.
    let all_there = |world: &mut World<Arc<SqliteStore>>| {
        for (at, group) in groups.iter().enumerate() {
            let read = world.read(group, 0, 0);
            for (_, sequence, content) in acknowledged.iter().filter(|(of, _, _)| *of == at) {
                let entry = &read.entries[*sequence as usize - 1];
                assert_eq!((entry.sequence, &entry.content), (*sequence, content));
            }
        }
    };
    all_there(&mut world);
    let entries = |world: &mut World<Arc<SqliteStore>>| -> usize {
        let entries = |group| world.read(group, 0, 0).entries.len();
        groups.iter().map(entries).sum()
    };
    assert_eq!(entries(&mut world), acknowledged.len());

    make_room(&store);
    for (_, request) in &refused {
        let head = world.append(request.clone()).expect("the same bytes go in");
        assert!(head.sequence > 0);
    }
    assert_eq!(entries(&mut world), acknowledged.len() + refused.len());
    all_there(&mut world);
    assert_eq!(name(&mut world, &owner).as_deref(), Some("on the shelf"));
    // And so it is after a restart.
    drop((world, store));
    let mut world = World::new(Arc::new(sqlite(path)));
    assert_eq!(entries(&mut world), acknowledged.len() + refused.len());
    all_there(&mut world);
    eprintln!("{} went in before it was full", acknowledged.len());
}

#[test]
fn a_database_as_large_as_it_may_be() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("delivery.sqlite");
    let store = sqlite(&path);
    store.limit_size(1_500_000).unwrap();
    fill(store, &path, |store| store.limit_size(1 << 30).unwrap());
}

#[test]
fn a_disk_that_is_full() {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    let mount = |options: &str| {
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", options, "folkmoot-full"])
            .arg(&disk);
        mount.output().is_ok_and(|output| output.status.success())
    };
    if !mount("size=3m") {
        eprintln!("passed over: no tmpfs may be mounted here");
        return;
    }
    let done = std::panic::catch_unwind(|| {
        let path = disk.join("delivery.sqlite");
        fill(sqlite(&path), &path, |_| assert!(mount("remount,size=64m")));
    });
    let _ = Command::new("umount").arg(&disk).status();
    if let Err(panic) = done {
        std::panic::resume_unwind(panic);
    }
}
