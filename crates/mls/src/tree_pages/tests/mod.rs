//! Members of groups whose pages are small, so that small trees have several tiers of them.

mod hostile;

use std::collections::{BTreeMap, BTreeSet};

use rand_core::Rng;

use super::page::{open, page_secret};
use super::{
    EXPORTER_LABEL, Layout, MAX_PAGE, PageAddress, PageError, PageId, PageUpdate, TreePages,
    TreePagesRoot, epoch_secret,
};
use crate::capabilities::Capabilities;
use crate::code_point::ProtocolVersion;
use crate::codec::Bytes;
use crate::component::NoComponents;
use crate::context::{BasicCredentials, Context, NoPsks, OneThread};
use crate::credential::{Credential, CredentialType};
use crate::crypto::aws_lc::PROVIDER;
use crate::crypto::{CipherSuite, CryptoError, CryptoProvider, Secret, SignatureKeyPair};
use crate::error::Error;
use crate::extension::{ExtensionType, Extensions};
use crate::group::{Group, GroupParameters, JoinByPages, JoinError, JoinedByPages, Processed};
use crate::group_info::GroupInfo;
use crate::key_package::{KeyPackage, KeyPackageBundle};
use crate::leaf_node::{LeafParameters, Lifetime};
use crate::message_keys::MessageKeys;
use crate::records::{Changes, MemoryRecords};
use crate::testing::StepRng;
use crate::tree_math::LeafIndex;
use crate::welcome::Welcome;

const SUITE: CipherSuite = CipherSuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_ED25519;

/// Two leaves on a page, two levels on an index page, from five leaves on.
const SMALL: Layout = Layout {
    leaf_level: 1,
    index_levels: 2,
    inline_depth: 2,
};

fn context(rng: &mut StepRng) -> Context<'_> {
    Context {
        provider: &PROVIDER,
        authentication_service: &BasicCredentials,
        psks: &NoPsks,
        components: &NoComponents,
        now: None,
        workers: &OneThread,
        rng,
    }
}

fn leaf(name: u32) -> LeafParameters {
    LeafParameters {
        credential: Credential::basic(format!("member {name}").into_bytes()),
        capabilities: Capabilities {
            versions: vec![ProtocolVersion::MLS10],
            cipher_suites: vec![SUITE],
            credentials: vec![CredentialType::BASIC],
            ..Capabilities::default()
        },
        extensions: Extensions::default(),
    }
}

/// A member that is played.
struct Player {
    signer: SignatureKeyPair,
    group: Group,
    keys: MessageKeys,
    pages: TreePages,
    records: MemoryRecords,
}

/// A group, some of whose members are played, and what stores its pages.
struct World {
    layout: Layout,
    rng: StepRng,
    names: u32,
    players: Vec<Player>,
    service: BTreeMap<PageAddress, Vec<u8>>,
    /// The leaf of who commits next, if it is to change.
    own_leaf: Option<LeafParameters>,
    /// Whether the pages fit.
    fits: bool,
}

impl World {
    fn new(layout: Layout, seed: u64) -> Self {
        let mut rng = StepRng(seed);
        let suite = PROVIDER.suite(SUITE).unwrap();
        let signer = suite.signature_key_pair(&mut rng);
        let parameters = GroupParameters {
            version: ProtocolVersion::MLS10,
            cipher_suite: SUITE,
            group_id: Bytes::from(*b"group"),
            extensions: Extensions::default(),
        };
        let created = Group::create(&mut context(&mut rng), parameters, &signer, leaf(0)).unwrap();
        let begun = TreePages::begin_with(layout, &created.group);
        assert!(begun.written.is_empty() && !begun.pages.is_paged());
        let mut records = MemoryRecords::default();
        records.apply(&created.changes);
        records.apply(&begun.changes);
        let player = Player {
            signer,
            group: created.group,
            keys: created.keys,
            pages: begun.pages,
            records,
        };
        Self {
            layout,
            rng,
            names: 1,
            players: vec![player],
            service: BTreeMap::new(),
            own_leaf: None,
            fits: true,
        }
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.rng.next_u64() % bound as u64) as usize
    }

    fn newcomer(&mut self) -> (SignatureKeyPair, KeyPackageBundle) {
        let suite = PROVIDER.suite(SUITE).unwrap();
        let signer = suite.signature_key_pair(&mut self.rng);
        let (name, extensions) = (leaf(self.names), Extensions::default());
        self.names += 1;
        let (not_before, not_after) = (0, u64::MAX);
        let lifetime = Lifetime {
            not_before,
            not_after,
        };
        let rng = &mut self.rng;
        let bundle = KeyPackage::create(suite, &signer, name, lifetime, extensions, rng).unwrap();
        (signer, bundle)
    }

    /// A player commits, the others follow, and who is played from now on joins.
    fn commit(
        &mut self,
        by: usize,
        removed: &[LeafIndex],
        added: usize,
        joining: usize,
        path: bool,
    ) {
        let newcomers: Vec<_> = (0..added).map(|_| self.newcomer()).collect();
        let author = &mut self.players[by];
        let mut commit = author.group.commit().tree_pages(&author.pages);
        for leaf in removed {
            commit = commit.remove(*leaf);
        }
        for (_, bundle) in &newcomers {
            commit = commit.add(bundle.key_package.clone());
        }
        if let Some(leaf) = self.own_leaf.take() {
            commit = commit.own_leaf(leaf);
        }
        if !path && removed.is_empty() && added > 0 {
            commit = commit.without_path();
        }
        let mut ctx = context(&mut self.rng);
        let pending = commit
            .build(&mut author.keys, &author.signer, &mut ctx)
            .unwrap();
        let update = pending.pages.unwrap();
        let author_index = author.group.own_index();

        let mut staying = Vec::new();
        for mut player in std::mem::take(&mut self.players) {
            if player.group.own_index() == author_index {
                player.records.apply(&pending.sent);
                player.records.apply(&pending.changes);
                player.pages = update.pages.clone();
                player.group = pending.group.clone();
                // Never used: there is no message of the new epoch but commits of one player each.
                player.keys = reload(&player, &pending.group);
                staying.push(player);
                continue;
            }
            let mut ctx = context(&mut self.rng);
            let message = &pending.message;
            match player
                .group
                .process(&mut player.keys, message, &mut ctx)
                .unwrap()
            {
                Processed::Commit {
                    group,
                    keys,
                    changes,
                    ..
                } => {
                    let own = player.pages.advance(&player.group, &group).unwrap();
                    assert_same(&own, &update);
                    player.records.apply(&changes);
                    player.records.apply(&own.changes);
                    (player.group, player.keys, player.pages) = (group, keys, own.pages);
                    staying.push(player);
                }
                Processed::Removed { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        self.players = staying;

        for page in &update.written {
            let suite = PROVIDER.suite(SUITE).unwrap();
            assert_eq!(page.address, PageAddress::of(suite, &page.bytes));
            assert!(
                self.service
                    .insert(page.address.clone(), page.bytes.clone())
                    .is_none()
            );
        }
        for address in &update.replaced {
            assert!(self.service.remove(address).is_some());
        }
        let tree = pending.group.tree();
        let is_paged = self.fits && self.layout.has_pages(tree.depth());
        assert_eq!(update.pages.is_paged(), is_paged);
        let addresses: BTreeSet<_> = update.pages.addresses().collect();
        assert_eq!(addresses, self.service.keys().collect());

        for (signer, bundle) in newcomers.into_iter().take(joining) {
            let welcome = pending.welcome.as_ref().unwrap();
            let player = self.join(signer, &bundle, welcome, &pending.group.tree_bytes());
            assert_eq!(player.pages, update.pages);
            self.players.push(player);
        }
    }

    /// Joins by the pages, if there are any; the same must come out with the whole tree.
    fn join(
        &mut self,
        signer: SignatureKeyPair,
        bundle: &KeyPackageBundle,
        welcome: &Welcome,
        tree: &[u8],
    ) -> Player {
        let mut ctx = context(&mut self.rng);
        let whole = Group::join(&mut ctx, welcome, bundle, Some(tree)).unwrap();
        let begun = match JoinByPages::begin(self.layout, &mut ctx, welcome, bundle, None) {
            Ok(begun) => Some(begun),
            Err(error) => {
                assert_eq!(error, JoinError::MissingTree.into());
                assert!(!self.fits || !self.layout.has_pages(whole.group.tree().depth()));
                None
            }
        };
        let mut records = MemoryRecords::default();
        let (joined, pages) = match begun {
            Some(begun) => {
                let joined = load(begun, &self.service, &mut self.rng).unwrap();
                (joined.joined, joined.pages)
            }
            None => {
                let begun = TreePages::begin_with(self.layout, &whole.group);
                records.apply(&begun.changes);
                (whole, begun.pages)
            }
        };
        records.apply(&joined.changes);
        Player {
            signer,
            group: joined.group,
            keys: joined.keys,
            pages,
            records,
        }
    }

    /// All players agree, and so does what they stored; one of them makes a page again.
    fn check(&mut self) {
        let first = &self.players[0];
        for player in &self.players {
            assert_eq!(
                player.group.epoch_authenticator(),
                first.group.epoch_authenticator()
            );
            assert_eq!(player.group.tree_bytes(), first.group.tree_bytes());
            assert_eq!(player.pages, first.pages);
            let loaded = TreePages::load_with(self.layout, &player.group, &player.records).unwrap();
            assert_eq!(loaded.as_ref(), Some(&player.pages));
            let loaded = Group::load(&PROVIDER, &player.records).unwrap();
            assert_eq!(loaded.tree_bytes(), player.group.tree_bytes());
        }
        let repairer = self.below(self.players.len());
        if !self.service.is_empty() {
            let lost = self.below(self.service.len());
            let (address, bytes) = self.service.iter().nth(lost).unwrap();
            let player = &self.players[repairer];
            let page = player.pages.page(&player.group, address).unwrap().unwrap();
            assert_eq!((&page.address, &page.bytes), (address, bytes));
        }
        let nowhere = PageAddress(Bytes::default());
        let player = &self.players[repairer];
        assert_eq!(player.pages.page(&player.group, &nowhere), Ok(None));
    }

    /// One random step.
    fn step(&mut self, largest: usize) {
        let by = self.below(self.players.len());
        let author = self.players[by].group.own_index();
        let members: Vec<_> = self.players[by]
            .group
            .members()
            .map(|(leaf, _)| leaf)
            .collect();
        let mut removed = BTreeSet::new();
        let kind = self.below(6);
        if kind < 2 && members.len() > 1 {
            for _ in 0..=self.below(3) {
                removed.insert(members[self.below(members.len())]);
            }
        } else if kind == 2 {
            // So that the tree shrinks.
            let kept = 1 + self.below(members.len());
            removed.extend(members[kept..].iter().copied());
        }
        removed.remove(&author);
        let removed: Vec<_> = removed.into_iter().collect();
        let mut added = 0;
        if kind != 2 && kind != 5 && members.len() < largest {
            added = self.below(if kind == 3 { 9 } else { 4 });
        }
        let joining = usize::from(self.players.len() < 5).min(added);
        let path = self.below(3) > 0;
        self.commit(by, &removed, added, joining, path);
        self.check();
    }
}

/// The author's message keys of the new epoch, from its records.
fn reload(player: &Player, group: &Group) -> MessageKeys {
    group
        .load_keys(&PROVIDER, group.epoch(), &player.records)
        .unwrap()
}

fn assert_same(one: &PageUpdate, other: &PageUpdate) {
    assert_eq!(one.pages, other.pages);
    assert_eq!(one.written, other.written);
    assert_eq!(one.replaced, other.replaced);
}

/// Fetches what is wanted, in an order that the generator picks, and joins.
fn load(
    mut begun: JoinByPages,
    service: &BTreeMap<PageAddress, Vec<u8>>,
    rng: &mut StepRng,
) -> Result<JoinedByPages, Error> {
    loop {
        let wanted: Vec<_> = begun.wanted().cloned().collect();
        if wanted.is_empty() {
            return begun.finish(&mut context(rng));
        }
        let next = &wanted[(rng.next_u64() % wanted.len() as u64) as usize];
        let bytes = service.get(next).expect("a page that is wanted is there");
        begun.arrived(&mut context(rng), next, bytes)?;
    }
}

#[test]
fn all_members_agree_on_every_page() {
    for seed in 0..24 {
        let mut world = World::new(SMALL, seed);
        for _ in 0..24 {
            world.step(40);
        }
    }
}

/// What an inviter says beside the pages counts as much as with the whole tree.
#[test]
fn an_inviter_who_lies() {
    let mut world = World::new(SMALL, 5);
    world.commit(0, &[], 8, 0, true);
    let (_, bundle) = world.newcomer();
    let player = &mut world.players[0];
    let commit = player.group.commit().tree_pages(&player.pages);
    let commit = commit.add(bundle.key_package.clone());
    let mut ctx = context(&mut world.rng);
    let pending = commit
        .build(&mut player.keys, &player.signer, &mut ctx)
        .unwrap();
    let update = pending.pages.unwrap();
    world.service.extend(
        update
            .written
            .into_iter()
            .map(|page| (page.address, page.bytes)),
    );
    let welcome = pending.welcome.unwrap();
    let mut lie = |lie: &dyn Fn(&mut GroupInfo)| {
        let mut ctx = context(&mut world.rng);
        let mut begun = JoinByPages::begin(SMALL, &mut ctx, &welcome, &bundle, None).unwrap();
        lie(begun.group_info_mut());
        load(begun, &world.service, &mut world.rng).map(drop)
    };
    assert_eq!(lie(&|_| {}), Ok(()));
    let forged = JoinError::Signature(CryptoError::InvalidSignature);
    assert_eq!(
        lie(&|info| info.signature = Bytes::from([1; 64])),
        Err(forged.clone().into())
    );
    // Extensions are signed too.
    assert_eq!(
        lie(&|info| info.extensions.set_data(ExtensionType(0xf0f0), vec![1])),
        Err(forged.into())
    );
    let nobody = LeafIndex(15);
    assert_eq!(
        lie(&|info| info.signer = nobody),
        Err(JoinError::NoSigner(nobody).into())
    );
}

/// What a newcomer finds who is told of another root page.
#[test]
fn an_inviter_who_lies_about_the_root_page() {
    let mut world = World::new(SMALL, 5);
    world.commit(0, &[], 8, 0, true);
    let old = world.players[0].pages.extension().unwrap();
    let of_depth = |tree_depth| TreePagesRoot {
        tree_depth,
        ..old.clone()
    };
    let version = TreePagesRoot {
        version: 2,
        ..old.clone()
    };
    let top = SMALL.top(old.tree_depth.into());
    let too_deep = |tree_depth| PageError::TooDeep { tree_depth };
    for (lie, error) in [
        (version, PageError::Root),
        (of_depth(2), PageError::Root),
        (of_depth(19), too_deep(19)),
        (of_depth(24), too_deep(24)),
        (of_depth(25), PageError::Root),
        // The page of the epoch before.
        (
            old.clone(),
            PageError::Decryption(top, CryptoError::DecryptionFailed),
        ),
    ] {
        let (_, bundle) = world.newcomer();
        let player = &mut world.players[0];
        let mut extensions = Extensions::default();
        extensions.set(&lie);
        let commit = player.group.commit().add(bundle.key_package.clone());
        let commit = commit
            .tree_in_welcome(false)
            .group_info_extensions(extensions);
        let mut ctx = context(&mut world.rng);
        let pending = commit
            .build(&mut player.keys, &player.signer, &mut ctx)
            .unwrap();
        let welcome = pending.welcome.unwrap();
        let refused = JoinByPages::begin(SMALL, &mut ctx, &welcome, &bundle, None)
            .and_then(|begun| load(begun, &world.service, &mut world.rng));
        assert_eq!(refused.map(drop), Err(error.into()), "{lie:?}");
    }
}

/// One member cannot end a group's pages for good: they are gone as long as its leaf is there.
#[test]
fn a_leaf_that_is_too_large() {
    let kind = ExtensionType(0xf0f0);
    let own = |world: &World, by: usize| {
        let group = &world.players[by].group;
        let leaf = group.tree().leaf(group.own_index()).unwrap();
        leaf.leaf_node().parameters()
    };
    let enlarged = |mut large: LeafParameters| {
        large.capabilities.extensions.push(kind);
        large.extensions.set_data(kind, vec![7; MAX_PAGE]);
        Some(large)
    };
    let mut world = World::new(SMALL, 8);
    world.commit(0, &[], 8, 2, true);
    world.check();
    assert!(!world.service.is_empty());
    let culprit = world.players[1].group.own_index();
    world.own_leaf = enlarged(own(&world, 1));
    world.fits = false;
    world.commit(1, &[], 0, 0, true);
    world.check();
    assert!(world.service.is_empty());
    // Others commit meanwhile, and somebody joins with the tree in one piece.
    world.commit(0, &[], 1, 1, true);
    world.check();
    world.commit(3, &[], 0, 0, true);
    world.check();
    assert!(world.service.is_empty());
    world.fits = true;
    world.commit(0, &[culprit], 0, 0, true);
    world.check();
    assert!(!world.service.is_empty());
    // By pages, as the world checks.
    world.commit(1, &[], 1, 1, true);
    world.check();
    // It goes on as the culprit takes its leaf back, too.
    let small = own(&world, 1);
    world.own_leaf = enlarged(small.clone());
    world.fits = false;
    world.commit(1, &[], 0, 0, true);
    world.check();
    assert!(world.service.is_empty());
    (world.own_leaf, world.fits) = (Some(small), true);
    world.commit(1, &[], 1, 1, true);
    world.check();
    assert!(!world.service.is_empty());
}

/// All that a member could open pages with.
fn secrets(player: &Player) -> Vec<Secret> {
    let suite = PROVIDER.suite(SUITE).unwrap();
    let pages = &player.pages;
    let below = pages
        .index
        .values()
        .flat_map(|below| below.iter().flatten());
    let entries = below.chain(pages.root.as_ref().map(|root| &root.entry));
    let mut secrets: Vec<_> = entries.map(|entry| entry.secret.clone()).collect();
    let epoch = epoch_secret(suite, player.group.exporter_secret());
    for (tier, position) in (0..4).flat_map(|tier| (0..16).map(move |position| (tier, position))) {
        secrets.push(page_secret(suite, &epoch, PageId { tier, position }));
    }
    secrets
}

fn opens(secrets: &[Secret], bytes: &[u8]) -> bool {
    let suite = PROVIDER.suite(SUITE).unwrap();
    let page = SMALL.top(3);
    let mut secrets = secrets.iter();
    secrets.any(|secret| open(suite, page, secret, bytes).is_ok())
}

#[test]
fn who_is_not_a_member_opens_nothing() {
    let mut world = World::new(SMALL, 9);
    world.commit(0, &[], 11, 2, true);
    world.commit(1, &[], 0, 0, true);
    let removed = &world.players[2];
    let leaf = removed.group.own_index();
    let (before, own) = (world.service.clone(), secrets(removed));
    assert!(before.values().all(|bytes| opens(&own, bytes)));
    world.commit(0, &[leaf], 0, 0, true);
    let written = world.service.iter();
    let written = written.filter(|(address, _)| !before.contains_key(address));
    let written: Vec<_> = written.map(|(_, bytes)| bytes).collect();
    assert!(written.len() >= 3);
    let members = secrets(&world.players[0]);
    for bytes in written {
        assert!(opens(&members, bytes) && !opens(&own, bytes));
    }

    let before = world.service.clone();
    world.commit(0, &[], 1, 1, true);
    let joiner = secrets(world.players.last().unwrap());
    let replaced = before.iter();
    let replaced = replaced.filter(|(address, _)| !world.service.contains_key(address));
    let replaced: Vec<_> = replaced.map(|(_, bytes)| bytes).collect();
    assert!(replaced.len() >= 3);
    for bytes in replaced {
        assert!(opens(&members, bytes) && !opens(&joiner, bytes));
    }
    assert!(world.service.values().all(|bytes| opens(&joiner, bytes)));
}

#[test]
fn no_exporter_gives_the_secret_of_the_pages() {
    let world = World::new(SMALL, 1);
    let group = &world.players[0].group;
    let secret = epoch_secret(group.suite(), group.exporter_secret());
    for context in [b"".as_slice(), b"pages"] {
        let exported = group.exporter(EXPORTER_LABEL, context, secret.len());
        assert!(exported.unwrap() != secret);
    }
}

#[test]
fn damaged_records_are_noticed() {
    let mut world = World::new(SMALL, 6);
    world.commit(0, &[], 11, 1, true);
    world.commit(1, &[], 0, 0, true);
    for player in &world.players {
        let load = |records: &MemoryRecords| TreePages::load_with(SMALL, &player.group, records);
        assert_eq!(load(&player.records), Ok(Some(player.pages.clone())));
        let mut whole = Changes::default();
        player.pages.record_all(&mut whole);
        // The head, the root page and those of its index pages that have members.
        assert!(whole.put.len() >= 4);
        for (key, value) in &whole.put {
            let mut records = player.records.clone();
            let mut lost = Changes::default();
            lost.delete(key.clone());
            records.apply(&lost);
            let is_head = key == &whole.put.last().unwrap().0;
            assert_eq!(load(&records) == Ok(None), is_head);
            assert_ne!(load(&records), Ok(Some(player.pages.clone())));
            for cut in 0..value.len() {
                let mut damaged = Changes::default();
                damaged.put(key.clone(), value[..cut].to_vec());
                records.apply(&damaged);
                assert!(load(&records).is_err());
            }
        }
    }
}
