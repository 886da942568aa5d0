//! The operations that are counted.

use folkmoot_mls::code_point::ProtocolVersion;
use folkmoot_mls::codec::{Bytes, Encode};
use folkmoot_mls::component::NoComponents;
use folkmoot_mls::context::{BasicCredentials, Context, NoPsks, OneThread};
use folkmoot_mls::credential::Credential;
use folkmoot_mls::crypto::{CryptoProvider, SignatureKeyPair, Suite};
use folkmoot_mls::extension::Extensions;
use folkmoot_mls::group::{
    CommitBuilder, FilledGroup, Group, GroupParameters, PendingCommit, Processed,
};
use folkmoot_mls::key_package::{KeyPackage, KeyPackageBundle};
use folkmoot_mls::leaf_node::{LeafParameters, Lifetime};
use folkmoot_mls::message::MlsMessage;
use folkmoot_mls::message_keys::MessageKeys;
use folkmoot_mls::records::{Changes, RecordKind};
use folkmoot_mls::tree_math::LeafIndex;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use crate::counting::{Counting, Counts, counted};
use crate::group_harness::{SUITE, capabilities};

/// What one operation costs.
pub struct Costs {
    pub counts: Counts,
    /// Bytes of records to put and to delete, keys included.
    pub stored: u64,
}

impl Costs {
    fn new(mut counts: Counts, changes: &[&Changes]) -> Self {
        let is_chunk = |key: &[u8]| key[0] == RecordKind::TreeChunk as u8;
        let put = changes.iter().flat_map(|changes| &changes.put);
        counts.chunks = put.filter(|(key, _)| is_chunk(key.as_slice())).count() as u64;
        let stored = changes
            .iter()
            .map(|changes| changes.to_bytes().len() as u64);
        Self {
            counts,
            stored: stored.sum(),
        }
    }
}

/// All operations in groups of `n`, in the order of the table.
pub fn costs(n: u32) -> Vec<(&'static str, Costs)> {
    let mut rng = ChaCha20Rng::seed_from_u64(u64::from(n));
    let mut costs = in_a_young_group(n, &mut rng);
    costs.extend(in_a_filled_group(n, &mut rng));
    costs
}

fn in_a_young_group(n: u32, rng: &mut ChaCha20Rng) -> Vec<(&'static str, Costs)> {
    let signer = suite().signature_key_pair(rng);
    let created = Group::create(&mut context(rng), parameters(), &signer, leaf()).unwrap();
    let mut creator = Member {
        group: created.group,
        keys: created.keys,
        signer,
    };
    let offers: Vec<_> = (1..n).map(|_| offer(rng)).collect();
    let packages = offers.iter().map(|(bundle, _)| bundle.key_package.clone());
    let add_all = |commit| packages.fold(commit, CommitBuilder::add);
    let (pending, create) = creator.commit(add_all, rng);
    let welcome = pending.welcome.clone().unwrap();
    creator.merge(pending);
    let (bundle, signer) = offers.last().unwrap();
    let (joined, counts) =
        counted(|| Group::join(&mut context(rng), &welcome, bundle, None).unwrap());
    let join = Costs::new(counts, &[&joined.changes]);
    let mut joiner = Member {
        group: joined.group,
        keys: joined.keys,
        signer: signer.clone(),
    };
    let (pending, commit) = creator.commit(|commit| commit, rng);
    let process = joiner.process(&pending.message, rng);
    vec![
        ("create", create),
        ("join", join),
        ("commit, blank tree", commit),
        ("process, blank tree", process),
    ]
}

fn in_a_filled_group(n: u32, rng: &mut ChaCha20Rng) -> Vec<(&'static str, Costs)> {
    let group = filled(n, rng);
    let [mut own, mut near, mut far] = [0, 1, n - 1].map(|leaf| Member::of(&group, leaf));
    let mut costs = Vec::new();

    let (pending, cost) = own.commit(|commit| commit, rng);
    costs.push(("commit, filled tree", cost));
    let cost = far.process(&pending.message, rng);
    costs.push(("process, filled tree, far", cost));
    let cost = near.process(&pending.message, rng);
    costs.push(("process, filled tree, near", cost));
    own.merge(pending);

    for names in [
        ["encrypt, first", "decrypt, first"],
        ["encrypt, next", "decrypt, next"],
    ] {
        let (message, cost) = own.encrypt(rng);
        costs.push((names[0], cost));
        costs.push((names[1], far.process(&message, rng)));
    }

    let (pending, cost) = own.commit(|commit| commit.remove(LeafIndex(n / 2)), rng);
    costs.push(("remove one: commit", cost));
    costs.push(("remove one: process", far.process(&pending.message, rng)));
    own.merge(pending);

    let (bundle, _) = offer(rng);
    let add = |commit: CommitBuilder| commit.add(bundle.key_package).tree_in_welcome(false);
    let (pending, cost) = own.commit(add, rng);
    costs.push(("add one: commit", cost));
    costs.push(("add one: process", far.process(&pending.message, rng)));

    let mut own = Member::of(&group, 0);
    let (bundle, _) = offer(rng);
    let package = bundle.key_package.clone();
    let (pending, cost) = own.commit(|commit| commit.add(package), rng);
    costs.push(("grow: commit", cost));
    let welcome = pending.welcome.unwrap();
    let (joined, counts) =
        counted(|| Group::join(&mut context(rng), &welcome, &bundle, None).unwrap());
    costs.push(("join, filled tree", Costs::new(counts, &[&joined.changes])));
    costs
}

/// A group of `n` in which every member has committed.
pub fn filled(n: u32, rng: &mut ChaCha20Rng) -> FilledGroup {
    FilledGroup::new(suite(), parameters(), n, &mut |_, _| leaf(), rng)
}

/// One member.
pub struct Member {
    pub group: Group,
    pub keys: MessageKeys,
    pub signer: SignatureKeyPair,
}

impl Member {
    pub fn of(filled: &FilledGroup, leaf: u32) -> Self {
        let (group, keys, signer) = filled.member(LeafIndex(leaf));
        Self {
            group,
            keys,
            signer,
        }
    }

    pub fn commit(
        &mut self,
        change: impl FnOnce(CommitBuilder) -> CommitBuilder,
        rng: &mut ChaCha20Rng,
    ) -> (PendingCommit, Costs) {
        let (pending, counts) = counted(|| {
            change(self.group.commit())
                .build(&mut self.keys, &self.signer, &mut context(rng))
                .unwrap()
        });
        let costs = Costs::new(counts, &[&pending.sent, &pending.changes]);
        (pending, costs)
    }

    pub fn merge(&mut self, pending: PendingCommit) {
        (self.group, self.keys) = (pending.group, pending.keys);
    }

    pub fn process(&mut self, message: &MlsMessage, rng: &mut ChaCha20Rng) -> Costs {
        let (processed, counts) = counted(|| {
            self.group
                .process(&mut self.keys, message, &mut context(rng))
                .unwrap()
        });
        match processed {
            Processed::Commit {
                group,
                keys,
                changes,
                ..
            } => {
                (self.group, self.keys) = (group, keys);
                Costs::new(counts, &[&changes])
            }
            Processed::Application { changes, .. } => Costs::new(counts, &[&changes]),
            other => panic!("{other:?}"),
        }
    }

    fn encrypt(&mut self, rng: &mut ChaCha20Rng) -> (MlsMessage, Costs) {
        let ((message, changes), counts) = counted(|| {
            self.keys
                .encrypt(&self.signer, b"", &[7; 100], 0, rng)
                .unwrap()
        });
        let costs = Costs::new(counts, &[&changes]);
        (MlsMessage::PrivateMessage(message), costs)
    }
}

fn suite() -> &'static dyn Suite {
    Counting.suite(SUITE).unwrap()
}

fn context(rng: &mut ChaCha20Rng) -> Context<'_> {
    Context {
        provider: &Counting,
        authentication_service: &BasicCredentials,
        psks: &NoPsks,
        components: &NoComponents,
        now: None,
        workers: &OneThread,
        rng,
    }
}

fn parameters() -> GroupParameters {
    GroupParameters {
        version: ProtocolVersion::MLS10,
        cipher_suite: SUITE,
        group_id: Bytes::from([7; 32]),
        extensions: Extensions::default(),
    }
}

fn leaf() -> LeafParameters {
    LeafParameters {
        credential: Credential::basic(*b"somebody"),
        capabilities: capabilities(),
        extensions: Extensions::default(),
    }
}

/// What somebody offers to be added, with its signature key.
fn offer(rng: &mut ChaCha20Rng) -> (KeyPackageBundle, SignatureKeyPair) {
    let signer = suite().signature_key_pair(rng);
    let lifetime = Lifetime {
        not_before: 0,
        not_after: 1,
    };
    let extensions = Extensions::default();
    let bundle = KeyPackage::create(suite(), &signer, leaf(), lifetime, extensions, rng);
    (bundle.unwrap(), signer)
}
