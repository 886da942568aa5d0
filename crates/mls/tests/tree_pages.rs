//! What a large group's pages cost: a commit writes a few, and a Welcome is small.
#![cfg(feature = "aws-lc")]

mod group_harness;

use std::collections::BTreeMap;
use std::time::Instant;

use folkmoot_mls::code_point::ProtocolVersion;
use folkmoot_mls::codec::{Bytes, Encode};
use folkmoot_mls::credential::Credential;
use folkmoot_mls::crypto::PROVIDER;
use folkmoot_mls::extension::Extensions;
use folkmoot_mls::group::{FilledGroup, Group, GroupParameters, PendingCommit};
use folkmoot_mls::leaf_node::LeafParameters;
use folkmoot_mls::psk::{PreSharedKeyID, PskType, ResumptionPSKUsage, ResumptionPsk};
use folkmoot_mls::records::{MemoryRecords, RecordKind};
use folkmoot_mls::tree_math::LeafIndex;
use folkmoot_mls::tree_pages::{Page, PageAddress, PageError, PageUpdate, TreePages};
use folkmoot_mls::welcome::Welcome;
use group_harness::{Client, SUITE, capabilities, context, suite};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

fn filled(members: u32) -> FilledGroup {
    let parameters = GroupParameters {
        version: ProtocolVersion::MLS10,
        cipher_suite: SUITE,
        group_id: Bytes::from(*b"filled"),
        extensions: Extensions::default(),
    };
    let mut leaf = |index: LeafIndex, _: &_| LeafParameters {
        credential: Credential::basic(format!("member {index}").into_bytes()),
        capabilities: capabilities(),
        extensions: Extensions::default(),
    };
    let mut rng = ChaCha20Rng::seed_from_u64(u64::from(members));
    FilledGroup::new(suite(SUITE), parameters, members, &mut leaf, &mut rng)
}

fn play(group: &FilledGroup, leaf: u32) -> (Client, TreePages) {
    let mut client = Client::new(&format!("member {leaf}"));
    let (view, keys, signer) = group.member(LeafIndex(leaf));
    client.signer = signer;
    let begun = TreePages::begin(&view);
    client.enter(view, keys, &group.records(LeafIndex(leaf)));
    (client, begun.pages)
}

type Service = BTreeMap<PageAddress, Vec<u8>>;

fn write(service: &mut Service, update: &PageUpdate) {
    for Page { address, bytes } in update.written.iter().cloned() {
        service.insert(address, bytes);
    }
    for address in &update.replaced {
        service.remove(address).unwrap();
    }
}

fn total(pages: &[Page]) -> usize {
    pages.iter().map(|page| page.bytes.len()).sum()
}

/// One commits, and the other follows with its pages.
fn follow(clients: &mut [(Client, TreePages)], by: usize, pending: PendingCommit) -> PageUpdate {
    let update = pending.pages.clone().unwrap();
    let message = pending.message.clone();
    let (author, pages) = &mut clients[by];
    author.merge(pending);
    *pages = update.pages.clone();
    for (_, (client, pages)) in clients.iter_mut().enumerate().filter(|(i, _)| *i != by) {
        let before = client.group().clone();
        client.receive(&message).unwrap();
        let own = pages.advance(&before, client.group()).unwrap();
        assert_eq!(
            (&own.written, &own.replaced),
            (&update.written, &update.replaced)
        );
        *pages = own.pages;
    }
    update
}

/// A commit in a group of `members` writes `pages` pages, of less than `limit` bytes together; somebody
/// who joins gets a small Welcome, and the rest from the pages.
fn costs(members: u32, pages: usize, limit: usize) {
    let group = filled(members);
    let mut clients = vec![play(&group, 0), play(&group, members / 2)];
    let begun = TreePages::begin(clients[0].0.group());
    let mut service = Service::new();
    write(&mut service, &begun);
    let all = (begun.written.len(), total(&begun.written));
    let tree = clients[0].0.group().tree_bytes().len();
    assert!(all.1 < tree + tree / 4, "{} for a tree of {tree}", all.1);

    let own = clients[0].1.clone();
    let pending = clients[0]
        .0
        .commit(|commit| commit.tree_pages(&own))
        .unwrap();
    let records = pending.changes.put.iter();
    let records = records.filter(|(key, _)| key.as_slice()[0] == RecordKind::TreePages as u8);
    let records: usize = records
        .map(|(key, value)| key.as_slice().len() + value.len())
        .sum();
    let update = follow(&mut clients, 0, pending);
    write(&mut service, &update);
    assert_eq!(update.written.len(), pages);
    assert_eq!(update.replaced.len(), pages);
    let written = total(&update.written);
    assert!(written < limit, "{written}");
    assert!(records < 8 * 1024, "{records}");

    let mut joiner = Client::new("joiner");
    let package = joiner.key_package();
    let own = clients[1].1.clone();
    let commit = clients[1]
        .0
        .commit(|commit| commit.tree_pages(&own).add(package));
    let pending = commit.unwrap();
    let welcome = pending.welcome.clone().unwrap();
    let whole = pending.group.tree_bytes();
    let update = follow(&mut clients, 1, pending);
    write(&mut service, &update);
    assert!(update.written.len() <= 2 * pages);

    let (shared, parts) = welcome.split();
    let (shared_size, part_size) = (shared.to_bytes().len(), parts[0].to_bytes().len());
    assert!(
        shared_size < 1024 && part_size < 500,
        "{shared_size}, {part_size}"
    );
    let welcome = shared.with_part(parts[0].clone());
    let mut rounds = Vec::new();
    let by_pages = join(&mut joiner, &welcome, &service, &mut rounds);
    // The root page, then tier by tier.
    assert_eq!(rounds.len(), pages);
    joiner.join(&welcome, Some(&whole)).unwrap();
    let joined = joiner.group();
    assert_eq!(
        by_pages.0.epoch_authenticator(),
        joined.epoch_authenticator()
    );
    assert_eq!(by_pages.0.tree_bytes(), whole);
    assert_eq!(by_pages.1, clients[0].1);
    let (before, after) = (clients[0].0.group().clone(), clients[0].1.clone());
    let commit = clients[0].0.commit(|commit| commit).unwrap();
    let times = (0..50).map(|_| {
        let start = Instant::now();
        after.advance(&before, &commit.group).unwrap();
        start.elapsed()
    });
    let time = times.min().unwrap();
    println!(
        "{members} members: {} pages of {} bytes for a tree of {tree}; a commit writes {pages} of \
         {written} bytes in {time:?}, and {records} bytes of records; Welcome: {shared_size} and \
         {part_size}",
        all.0, all.1,
    );

    // The joiner commits too, and the others compute the same pages.
    clients.push((joiner, by_pages.1));
    let own = clients[2].1.clone();
    let pending = clients[2]
        .0
        .commit(|commit| commit.tree_pages(&own))
        .unwrap();
    let update = follow(&mut clients, 2, pending);
    write(&mut service, &update);
    let current: Vec<_> = clients[0].1.addresses().collect();
    assert_eq!(current.len(), service.len());
}

/// Joins by pages; `rounds` tells how many were wanted at a time.
fn join(
    joiner: &mut Client,
    welcome: &Welcome,
    service: &Service,
    rounds: &mut Vec<usize>,
) -> (Group, TreePages) {
    let bundle = joiner.bundle.clone().unwrap();
    let mut ctx = context(None, &mut joiner.rng);
    let mut join = Group::join_by_pages(&mut ctx, welcome, &bundle, None).unwrap();
    loop {
        let wanted: Vec<_> = join.wanted().cloned().collect();
        if wanted.is_empty() {
            break;
        }
        rounds.push(wanted.len());
        for address in wanted {
            join.arrived(&mut ctx, &address, &service[&address])
                .unwrap();
        }
    }
    let joined = join.finish(&mut ctx).unwrap();
    let mut records = MemoryRecords::default();
    records.apply(&joined.joined.changes);
    let group = Group::load(&PROVIDER, &records).unwrap();
    assert_eq!(
        TreePages::load(&group, &records).unwrap(),
        Some(joined.pages.clone())
    );
    (group, joined.pages)
}

#[test]
fn a_commit_writes_a_few_pages() {
    costs(1_000, 3, 18 * 1024);
    costs(8_000, 3, 18 * 1024);
    if std::env::var_os("FOLKMOOT_SCALE").is_some() {
        costs(50_000, 4, 21 * 1024);
    }
}

#[test]
fn a_group_that_grows_and_shrinks_gets_pages_and_loses_them() {
    let group = filled(255);
    let mut clients = vec![play(&group, 0), play(&group, 100)];
    assert!(!clients[0].1.is_paged());
    let mut service = Service::new();
    let mut pages_after = |add: usize, remove: &[u32], clients: &mut Vec<(Client, TreePages)>| {
        let own = clients[1].1.clone();
        let packages = (0..add).map(|i| Client::new(&format!("new {i}")).key_package());
        let packages: Vec<_> = packages.collect();
        let commit = clients[1].0.commit(|mut commit| {
            for package in packages {
                commit = commit.add(package);
            }
            for leaf in remove {
                commit = commit.remove(LeafIndex(*leaf));
            }
            commit.tree_pages(&own)
        });
        let update = follow(clients, 1, commit.unwrap());
        write(&mut service, &update);
        service.len()
    };
    // 256 leaves travel in the Welcome.
    assert_eq!(pages_after(1, &[], &mut clients), 0);
    assert_eq!(pages_after(0, &[255], &mut clients), 0);
    // 8 pages of leaves, another one for the last, and the root.
    assert_eq!(pages_after(2, &[], &mut clients), 10);
    assert_eq!(pages_after(0, &[], &mut clients), 10);
    assert_eq!(pages_after(0, &[256], &mut clients), 0);
    assert_eq!(pages_after(0, &[], &mut clients), 0);
}

#[test]
fn pages_of_another_epoch_are_refused() {
    let group = filled(300);
    let (mut client, pages) = play(&group, 7);
    let first = client.group().clone();
    let pending = client.commit(|commit| commit.tree_pages(&pages)).unwrap();
    let next = pending.pages.clone().unwrap().pages;
    let lost = client.commit(|commit| commit).unwrap();
    client.merge(pending);
    let second = client.group().clone();
    assert_eq!(
        next.advance(&first, &second).map(drop),
        Err(PageError::WrongEpoch)
    );
    assert_eq!(
        pages.advance(&first, &first).map(drop),
        Err(PageError::WrongEpoch)
    );
    assert_eq!(
        next.advance(&lost.group, &second).map(drop),
        Err(PageError::WrongEpoch)
    );
    let root = next.root().unwrap();
    assert_eq!(next.page(&first, root), Err(PageError::WrongEpoch));
    assert_eq!(next.page(&lost.group, root), Err(PageError::WrongEpoch));
    assert!(next.page(&second, root).unwrap().is_some());
    let refused = client.commit(|commit| commit.tree_pages(&pages)).map(drop);
    assert_eq!(refused, Err(PageError::WrongEpoch.into()));
    // What was stored for one epoch is not taken for another.
    let mut records = MemoryRecords::default();
    records.apply(&TreePages::begin(&first).changes);
    assert!(TreePages::load(&second, &records).is_err());
    assert_eq!(TreePages::load(&first, &MemoryRecords::default()), Ok(None));
}

#[test]
fn a_commit_that_leaves_the_tree_alone_writes_the_root_page() {
    let group = filled(300);
    let mut clients = vec![play(&group, 0), play(&group, 100)];
    let pages = clients[0].1.clone();
    let psk = PreSharedKeyID {
        psktype: PskType::Resumption(ResumptionPsk {
            usage: ResumptionPSKUsage::Application,
            psk_group_id: clients[0].0.group().group_id().into(),
            psk_epoch: clients[0].0.group().epoch(),
        }),
        psk_nonce: Bytes::from([7; 32]),
    };
    let commit = clients[0].0.commit(|commit| {
        let commit = commit.psk(psk).without_path();
        commit.tree_pages(&pages)
    });
    let update = follow(&mut clients, 0, commit.unwrap());
    assert_eq!(update.written.len(), 1);
    assert_eq!(update.replaced, [pages.root().unwrap().clone()]);
    assert_eq!(update.pages.root(), Some(&update.written[0].address));
}
