//! Tree pages: brought by commits, fetched by whoever knows their addresses, put back by members.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use folkmoot_delivery_service::store::{
    Change, Partition, Store, StoreError, Table, Transaction, View, Visit,
};
use folkmoot_delivery_service::{MemoryStore, Rates};
use folkmoot_protocol::call::{Answer, Call};
use folkmoot_protocol::delivery::{
    AppendRequest, PagesRequest, PagesResponse, PickUpRequest, PutPagesRequest,
};
use folkmoot_protocol::ids::{PageAddress, PickupAddress};
use folkmoot_protocol::log::{Append, pages_subject};
use folkmoot_protocol::proof::Method;
use folkmoot_protocol::rate::Rate;
use folkmoot_protocol::{Refusal, limits};

use crate::on_every_store;
use crate::world::{DAY, Group, HOUR, World};

on_every_store! {
    a_commit_brings_its_pages;
    replaced_pages_go_in_time;
    pages_are_the_declared_ones;
    an_answer_is_bounded;
    members_put_back_what_is_missing;
    what_is_put_back_stays_for_who_is_invited;
    what_is_put_back_counts_as_what_is_appended;
}

fn with_pages<S: Store>(
    world: &mut World<S>,
    group: &Group,
    pages: &[&[u8]],
    replaced: &[&[u8]],
) -> (Append, AppendRequest) {
    let next = world.key().public();
    let address = PickupAddress(world.bytes());
    let (mut append, welcome) =
        group.commit_with_welcome(&next, b"shared", &[(address, b"own".to_vec())]);
    let commit = append.commit.as_mut().unwrap();
    commit.pages = pages.iter().map(|page| PageAddress::of(page)).collect();
    commit.replaced = replaced.iter().map(|page| PageAddress::of(page)).collect();
    let request = AppendRequest {
        shared_part: welcome.shared_part,
        own_parts: welcome.own_parts,
        pages: pages.iter().map(|page| page.to_vec()).collect(),
        ..group.sign(&append)
    };
    (append, request)
}

fn fetch<S: Store>(world: &mut World<S>, group: &Group, pages: &[&[u8]]) -> PagesResponse {
    ask(world, group, pages, false)
}

fn ask<S: Store>(
    world: &mut World<S>,
    group: &Group,
    pages: &[&[u8]],
    missing_only: bool,
) -> PagesResponse {
    let addresses = pages.iter().map(|page| PageAddress::of(page).into());
    let request = PagesRequest {
        log: group.log.into(),
        addresses: addresses.collect(),
        missing_only,
    };
    match world.ask(Call::Pages(request)) {
        Ok(Answer::Pages(answer)) => answer,
        other => panic!("{other:?}"),
    }
}

fn a_commit_brings_its_pages<S: Store>(mut world: World<S>) {
    let group = world.group();
    let (append, request) = with_pages(&mut world, &group, &[b"leaf", b"root"], &[]);
    assert!(fetch(&mut world, &group, &[b"leaf"]).pages.is_empty());
    world.append(request).unwrap();
    let found = fetch(&mut world, &group, &[b"root", b"none", b"leaf"]);
    assert_eq!(found.pages, [b"root", b"leaf"]);
    assert_eq!(found.missing, [Vec::from(PageAddress::of(b"none"))]);
    assert_eq!(found.looked_at, 3);
    // A joiner hears where the root page is.
    let address = append.commit.unwrap().pickups[0].address;
    let request = PickUpRequest {
        log: group.log.into(),
        address: address.into(),
    };
    let Ok(Answer::PickUp(picked)) = world.ask(Call::PickUp(request)) else {
        panic!("it is there")
    };
    assert_eq!(picked.root_page, PageAddress::of(b"root").0);
}

fn replaced_pages_go_in_time<S: Store>(mut world: World<S>) {
    let mut group = world.group();
    let next = world.key();
    let (mut append, mut request) = with_pages(&mut world, &group, &[b"leaf", b"old root"], &[]);
    append.commit.as_mut().unwrap().next_fence_key = next.public();
    request = AppendRequest {
        append: group.sign(&append).append,
        fence_signature: group.sign(&append).fence_signature,
        ..request
    };
    let head = world.append(request).unwrap();
    group.follow(&append, next, &head);
    let (_, request) = with_pages(&mut world, &group, &[b"root"], &[b"old root", b"never was"]);
    world.append(request).unwrap();
    // Joiners of the epoch before may still want the old one.
    let all: [&[u8]; 3] = [b"leaf", b"old root", b"root"];
    assert_eq!(fetch(&mut world, &group, &all).pages.len(), 3);
    world.now += 30 * DAY + 2 * HOUR;
    world.service.sweep(world.now).unwrap();
    assert_eq!(
        fetch(&mut world, &group, &all).pages,
        [&b"leaf"[..], b"root"]
    );
}

fn pages_are_the_declared_ones<S: Store>(mut world: World<S>) {
    let group = world.group();
    let malformed = || Err(Refusal::Malformed("pages".into()));
    let (_, good) = with_pages(&mut world, &group, &[b"leaf", b"root"], &[b"old"]);
    let mut request = good.clone();
    request.pages[0][0] ^= 1;
    assert_eq!(world.append(request), malformed());
    let mut request = good.clone();
    request.pages.pop();
    assert_eq!(world.append(request), malformed());
    let mut request = good.clone();
    request.pages.swap(0, 1);
    assert_eq!(world.append(request), malformed());
    let (_, twice) = with_pages(&mut world, &group, &[b"page", b"page"], &[]);
    assert_eq!(world.append(twice), malformed());
    let (_, both) = with_pages(&mut world, &group, &[b"page"], &[b"page"]);
    assert_eq!(world.append(both), malformed());
    let large = vec![1; limits::PAGE + 1];
    let (_, large) = with_pages(&mut world, &group, &[&large], &[]);
    assert_eq!(world.append(large), Err(Refusal::TooLarge));
    let mut message = group.sign(&group.append(1, b"hello"));
    message.pages = vec![b"page".to_vec()];
    assert_eq!(world.append(message), malformed());
    assert!(world.append(good).is_ok());
}

fn an_answer_is_bounded<S: Store>(mut world: World<S>) {
    let group = world.group();
    let pages: Vec<Vec<u8>> = (0..5).map(|n| vec![n; 1 << 20]).collect();
    let pages: Vec<&[u8]> = pages.iter().map(|page| &page[..]).collect();
    let (_, request) = with_pages(&mut world, &group, &pages, &[]);
    world.append(request).unwrap();
    let found = fetch(&mut world, &group, &pages);
    assert_eq!((found.pages.len(), found.looked_at), (4, 4));
    let request = PagesRequest {
        log: group.log.into(),
        addresses: vec![vec![1; 32]; limits::PAGES_PER_CALL + 1],
        missing_only: false,
    };
    assert_eq!(world.ask(Call::Pages(request)), Err(Refusal::TooLarge));
    // A small question is no much larger work.
    let request = PagesRequest {
        log: group.log.into(),
        addresses: vec![vec![1; 32]; 2],
        missing_only: true,
    };
    let refused = world.ask(Call::Pages(request)).map(drop);
    assert_eq!(refused, Err(Refusal::Malformed("addresses".into())));
}

fn what_is_put_back_counts_as_what_is_appended<S: Store>(mut world: World<S>) {
    world.service = world.service.rates(Rates {
        kibibytes: Rate {
            burst: 10,
            per_second: 1,
        },
        ..Rates::UNLIMITED
    });
    let group = world.group();
    let put = |world: &mut World<S>, page: Vec<u8>| {
        let subject = pages_subject(&[PageAddress::of(&page)]);
        let proof = group.proof(Method::PutPages, 0, &subject);
        let request = PutPagesRequest {
            log: group.log.into(),
            branch: group.branch.into(),
            epoch: 0,
            pages: vec![page],
            fence_signature: proof.sign(&group.fences[0]).to_vec(),
        };
        world.ask(Call::PutPages(request)).map(drop)
    };
    assert_eq!(put(&mut world, vec![1; 6 << 10]), Ok(()));
    let refused = put(&mut world, vec![2; 6 << 10]);
    assert!(matches!(refused, Err(Refusal::Rate(_))), "{refused:?}");
    world.now += 10_000;
    assert_eq!(put(&mut world, vec![2; 6 << 10]), Ok(()));
}

fn members_put_back_what_is_missing<S: Store>(mut world: World<S>) {
    let group = world.group();
    let put = |world: &mut World<S>, group: &Group, epoch: u64, page: &[u8]| {
        let subject = pages_subject(&[PageAddress::of(page)]);
        let proof = group.proof(Method::PutPages, epoch, &subject);
        let request = PutPagesRequest {
            log: group.log.into(),
            branch: group.branch.into(),
            epoch,
            pages: vec![page.to_vec()],
            fence_signature: proof.sign(&group.fences[epoch as usize]).to_vec(),
        };
        world.ask(Call::PutPages(request)).map(|_| ())
    };
    let missing = ask(&mut world, &group, &[b"lost"], true);
    assert_eq!((missing.missing.len(), missing.pages.len()), (1, 0));
    let mut stranger = group.clone();
    stranger.fences = vec![world.key()];
    let refused = put(&mut world, &stranger, 0, b"lost");
    assert_eq!(refused, Err(Refusal::NotFound));
    put(&mut world, &group, 0, b"lost").unwrap();
    assert_eq!(fetch(&mut world, &group, &[b"lost"]).pages, [b"lost"]);
    let there = ask(&mut world, &group, &[b"lost"], true);
    assert!(there.missing.is_empty() && there.pages.is_empty());
    // It stays for a while, and can be put back again.
    world.now += 61 * DAY;
    world.service.sweep(world.now).unwrap();
    assert!(fetch(&mut world, &group, &[b"lost"]).pages.is_empty());
    // A key of an epoch that is over puts nothing.
    let mut later = group.clone();
    world.commit(&mut later, false);
    let refused = put(&mut world, &later, 0, b"lost");
    assert_eq!(refused, Err(Refusal::NotFound));
    assert!(put(&mut world, &later, 1, b"lost").is_ok());
    // So many, and so large.
    for pages in [
        vec![vec![1]; limits::PAGES_PER_CALL + 1],
        vec![vec![1; limits::PAGES_BYTES / 2]; 3],
    ] {
        let request = PutPagesRequest {
            log: later.log.into(),
            branch: later.branch.into(),
            epoch: 1,
            pages,
            fence_signature: Vec::new(),
        };
        let refused = world.ask(Call::PutPages(request));
        assert_eq!(refused.map(drop), Err(Refusal::TooLarge));
    }
}

/// Puts pages back in the epoch where the group stands.
fn put_back<S: Store>(world: &mut World<S>, group: &Group, page: &[u8]) {
    let subject = pages_subject(&[PageAddress::of(page)]);
    let proof = group.proof(Method::PutPages, 0, &subject);
    let request = PutPagesRequest {
        log: group.log.into(),
        branch: group.branch.into(),
        epoch: 0,
        pages: vec![page.to_vec()],
        fence_signature: proof.sign(&group.fences[0]).to_vec(),
    };
    world.ask(Call::PutPages(request)).unwrap();
}

fn what_is_put_back_stays_for_who_is_invited<S: Store>(mut world: World<S>) {
    let group = world.group();
    put_back(&mut world, &group, b"lost");
    let begin = world.now;
    // Somebody is added on each of these days, and looks whether pages are missing.
    for day in [0, 5, 21, 23, 29, 37, 45, 58] {
        world.now = begin + day * DAY;
        world.service.sweep(world.now).unwrap();
        let missing = ask(&mut world, &group, &[b"lost"], true).missing;
        if !missing.is_empty() {
            put_back(&mut world, &group, b"lost");
        }
        let missing = ask(&mut world, &group, &[b"lost"], true).missing;
        assert!(missing.is_empty(), "day {day}");
        // The Welcome is found on the last day, and the joiner comes a week after that.
        world.service.sweep(world.now + 37 * DAY).unwrap();
        assert_eq!(fetch(&mut world, &group, &[b"lost"]).pages, [b"lost"]);
    }
    // What a commit brought has no end, and is not put back.
    let (_, request) = with_pages(&mut world, &group, &[b"leaf"], &[]);
    world.append(request).unwrap();
    world.now += 300 * DAY;
    world.service.sweep(world.now).unwrap();
    assert!(ask(&mut world, &group, &[b"leaf"], true).missing.is_empty());
}

/// A store that counts the bytes of the pages that are read.
struct Counting {
    store: MemoryStore,
    read: Arc<AtomicUsize>,
}

/// What is seen of it: a view, or a transaction.
struct Counted<'a, V: ?Sized> {
    view: &'a mut V,
    read: &'a AtomicUsize,
}

impl View for Counted<'_, &dyn View> {
    fn get(&self, t: Table, p: Partition, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        count(self.read, t, self.view.get(t, p, key))
    }

    fn has(&self, t: Table, p: Partition, key: &[u8]) -> Result<bool, StoreError> {
        self.view.has(t, p, key)
    }

    fn scan(
        &self,
        t: Table,
        p: Partition,
        from: &[u8],
        through: &[u8],
        visit: &mut Visit<'_>,
    ) -> Result<(), StoreError> {
        self.view.scan(t, p, from, through, visit)
    }
}

impl View for Counted<'_, dyn Transaction + '_> {
    fn get(&self, t: Table, p: Partition, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        count(self.read, t, self.view.get(t, p, key))
    }

    fn has(&self, t: Table, p: Partition, key: &[u8]) -> Result<bool, StoreError> {
        self.view.has(t, p, key)
    }

    fn scan(
        &self,
        t: Table,
        p: Partition,
        from: &[u8],
        through: &[u8],
        visit: &mut Visit<'_>,
    ) -> Result<(), StoreError> {
        self.view.scan(t, p, from, through, visit)
    }
}

impl Transaction for Counted<'_, dyn Transaction + '_> {
    fn apply(&mut self, change: &Change) -> Result<bool, StoreError> {
        self.view.apply(change)
    }
}

fn count(
    read: &AtomicUsize,
    table: Table,
    value: Result<Option<Vec<u8>>, StoreError>,
) -> Result<Option<Vec<u8>>, StoreError> {
    if let (Table::Pages, Ok(Some(value))) = (table, &value) {
        read.fetch_add(value.len(), Ordering::Relaxed);
    }
    value
}

impl Store for Counting {
    fn read<T>(
        &self,
        work: impl FnOnce(&dyn View) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let read = &self.read;
        self.store.read(|mut view| {
            work(&Counted {
                view: &mut view,
                read,
            })
        })
    }

    fn write<T>(
        &self,
        work: impl FnOnce(&mut dyn Transaction) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let read = &self.read;
        self.store.write(|view| work(&mut Counted { view, read }))
    }

    fn sweep(&self, now: u64, limit: usize) -> Result<usize, StoreError> {
        self.store.sweep(now, limit)
    }
}

fn counting() -> (World<Counting>, Arc<AtomicUsize>) {
    let read = Arc::new(AtomicUsize::new(0));
    let store = Counting {
        store: MemoryStore::new(),
        read: read.clone(),
    };
    (World::new(store), read)
}

#[test]
fn what_is_missing_is_told_without_a_look_at_the_pages() {
    let (mut world, read) = counting();
    let group = world.group();
    let pages: Vec<Vec<u8>> = (0..8).map(|n| vec![n; 1 << 20]).collect();
    let pages: Vec<&[u8]> = pages.iter().map(|page| &page[..]).collect();
    let (_, request) = with_pages(&mut world, &group, &pages[..6], &[]);
    put_back(&mut world, &group, pages[6]);
    world.append(request).unwrap();
    read.store(0, Ordering::Relaxed);
    let missing = ask(&mut world, &group, &pages, true);
    assert_eq!(missing.missing, [Vec::from(PageAddress::of(pages[7]))]);
    assert_eq!((missing.looked_at, missing.pages.len()), (8, 0));
    let noted = read.load(Ordering::Relaxed);
    assert!(noted < 100, "{noted} bytes were read");
}

#[test]
fn replaced_pages_are_read_up_to_a_bound() {
    let (mut world, read) = counting();
    let group = world.group();
    let pages: Vec<Vec<u8>> = (0..20).map(|n| vec![n; limits::PAGE]).collect();
    for page in &pages {
        put_back(&mut world, &group, page);
    }
    let pages: Vec<&[u8]> = pages.iter().map(|page| &page[..]).collect();
    let (_, request) = with_pages(&mut world, &group, &[b"root"], &pages);
    read.store(0, Ordering::Relaxed);
    world.append(request.clone()).unwrap();
    let bytes = read.load(Ordering::Relaxed);
    let bound = 64 << 20;
    assert!(bytes > bound, "all that fits: {bytes}");
    assert!(
        bytes <= bound + limits::PAGE + 1024,
        "{bytes} bytes were read"
    );
    // Nothing is read for a commit that comes too late.
    read.store(0, Ordering::Relaxed);
    let (_, request) = with_pages(&mut world, &group, &[b"other root"], &pages);
    assert!(world.append(request).is_err());
    assert_eq!(read.load(Ordering::Relaxed), 0);
}
