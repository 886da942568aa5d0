//! That the plan is the best one, and by how much.

use std::collections::BTreeSet;
use std::time::Instant;

use rand_core::Rng;

use super::{Plan, Step, next};
use crate::capabilities::Capabilities;
use crate::codec::{Bytes, Encode};
use crate::context::OneThread;
use crate::credential::{Credential, CredentialType};
use crate::crypto::aws_lc::PROVIDER;
use crate::crypto::{CipherSuite, CryptoProvider, SignatureKeyPair, Suite};
use crate::extension::Extensions;
use crate::leaf_node::{LeafNode, LeafNodeSource, LeafParameters};
use crate::testing::StepRng;
use crate::tree::{Leaf, Tree};
use crate::tree_math::{LeafIndex, NodeIndex};

/// A tree as far as resolutions go.
#[derive(Debug)]
struct Shape {
    depth: u32,
    members: BTreeSet<u32>,
    /// Resolutions of nodes that are not blank, by place.
    set: Vec<Option<u32>>,
}

impl Shape {
    /// Any members, blanks and unmerged leaves.
    fn random(depth: u32, rng: &mut StepRng) -> Self {
        let sparse = 1 + rng.next_u32() % 4;
        let mut members: BTreeSet<_> = (0..1 << depth)
            .filter(|_| rng.next_u32() % 4 < sparse)
            .collect();
        members.insert(rng.next_u32() % (1 << depth));
        let blank = rng.next_u32() % 4;
        let mut set = vec![None; (2 << depth) - 1];
        for (place, set) in set.iter_mut().enumerate() {
            let node = NodeIndex(place as u32);
            let below = |node: NodeIndex| members.range(node.leaves()).count() as u32;
            *set = match (node.left(), node.right()) {
                (Some(left), Some(right)) => {
                    let can_be_set = below(left) > 0 && below(right) > 0;
                    let unmerged = (rng.next_u32() % 3).min(below(node));
                    (can_be_set && rng.next_u32() % 4 >= blank).then_some(1 + unmerged)
                }
                _ => (below(node) > 0).then_some(1),
            };
        }
        Self {
            depth,
            members,
            set,
        }
    }

    fn plan(&self) -> Plan {
        Plan::new(self.depth, &|node| self.set[node.0 as usize])
    }

    /// The resolution of a node after commits by some leaves.
    fn resolution(&self, node: NodeIndex, committed: u64) -> u32 {
        let mut below = self.members.range(node.leaves());
        if below.clone().any(|leaf| committed >> leaf & 1 == 1) {
            return 1;
        }
        match (self.set[node.0 as usize], node.left(), node.right()) {
            (Some(size), _, _) => size,
            (None, Some(left), Some(right)) => {
                self.resolution(left, committed) + self.resolution(right, committed)
            }
            _ => u32::from(below.next().is_some()),
        }
    }

    fn copath(&self, leaf: u32) -> impl Iterator<Item = NodeIndex> {
        let node = NodeIndex(leaf << 1);
        let above = node.direct_path(self.depth);
        std::iter::once(node)
            .chain(above)
            .take(self.depth as usize)
            .map(NodeIndex::sibling)
    }

    fn cost(&self, leaf: u32, committed: u64) -> u32 {
        let copath = self.copath(leaf);
        copath.map(|node| self.resolution(node, committed)).sum()
    }

    fn is_filled(&self, committed: u64) -> bool {
        let mut members = self.members.iter();
        members.all(|leaf| {
            let mut copath = self.copath(*leaf);
            copath.all(|node| self.resolution(node, committed) <= 1)
        })
    }

    /// The least ciphertexts, and the fewest commits, of all orders of all sets of members.
    fn best(&self) -> (u32, u32) {
        let mut least = vec![u32::MAX; 1 << (1 << self.depth)];
        least[0] = 0;
        let (mut cost, mut commits) = (u32::MAX, u32::MAX);
        for committed in 0..least.len() as u64 {
            let so_far = least[committed as usize];
            if so_far == u32::MAX {
                continue;
            }
            if self.is_filled(committed) {
                cost = cost.min(so_far);
                commits = commits.min(committed.count_ones());
                continue;
            }
            for leaf in self
                .members
                .iter()
                .filter(|leaf| committed >> *leaf & 1 == 0)
            {
                let then = (committed | 1 << leaf) as usize;
                least[then] = least[then].min(so_far + self.cost(*leaf, committed));
            }
        }
        (cost, commits)
    }
}

fn total(plan: Plan) -> (u64, usize) {
    let steps: Vec<_> = plan.collect();
    let sum = steps.iter().map(|step| u64::from(step.ciphertexts)).sum();
    (sum, steps.len())
}

#[test]
fn no_order_of_any_members_is_better() {
    let mut rng = StepRng(1);
    for round in 0..600 {
        let shape = Shape::random(round % 4, &mut rng);
        let (cost, commits) = shape.best();
        assert_eq!(
            total(shape.plan()),
            (cost.into(), commits as usize),
            "{shape:?}"
        );
        let mut plan = shape.plan();
        assert_eq!(plan.remaining(), commits);
        let mut committed = 0;
        loop {
            for leaf in 0..1 << shape.depth {
                let is_member = shape.members.contains(&leaf);
                let cost = is_member.then(|| shape.cost(leaf, committed));
                assert_eq!(plan.cost(LeafIndex(leaf)), cost);
            }
            let sum: u32 = shape
                .members
                .iter()
                .map(|leaf| shape.cost(*leaf, committed))
                .sum();
            assert_eq!(plan.total, u64::from(sum));
            // Somebody who is not planned commits now and then.
            if rng.next_u32() < u32::MAX / 4 {
                let leaf = rng.next_u32() % (1 << shape.depth);
                plan.committed(LeafIndex(leaf));
                if shape.members.contains(&leaf) {
                    committed |= 1 << leaf;
                }
            } else if let Some(Step { leaf, ciphertexts }) = plan.next() {
                assert_eq!(ciphertexts, shape.cost(leaf.0, committed));
                committed |= 1 << leaf.0;
            } else {
                assert!(shape.is_filled(committed));
                assert_eq!(plan.total, plan.filled);
                break;
            }
        }
    }
}

#[test]
fn a_tree_of_blanks_costs_what_the_bound_says() {
    for depth in 2..12 {
        let n = 1_u64 << depth;
        let plan = Plan::new(depth, &|node| node.leaf().map(|_| 1));
        let bound = n * u64::from(depth) - n + 1;
        assert_eq!(total(plan), (bound, n as usize / 2));
    }
}

/// Always the commit that saves most for all later ones, for each ciphertext that it costs.
#[test]
fn greed_is_not_better() {
    let mut rng = StepRng(2);
    for _ in 0..20 {
        let shape = Shape::random(6, &mut rng);
        let (mut plan, mut cost) = (shape.plan(), 0);
        while plan.remaining() > 0 {
            let saved = |leaf: &LeafIndex| {
                let mut then = plan.clone();
                then.committed(*leaf);
                let cost = plan.cost(*leaf).unwrap_or(0).max(1);
                (plan.total - then.total) * 1_000_000 / u64::from(cost)
            };
            let members = shape.members.iter().map(|leaf| LeafIndex(*leaf));
            let best = members.max_by_key(saved).unwrap();
            cost += u64::from(plan.cost(best).unwrap());
            plan.committed(best);
        }
        assert!(total(shape.plan()).0 <= cost);
    }
}

#[test]
fn who_is_away_is_passed_over() {
    let mut plan = Plan::of_fresh_group(1_000);
    let here = |leaf: LeafIndex| leaf.0.is_multiple_of(3);
    let mut steps = 0;
    while let Some(step) = plan.next_among(&here) {
        assert!(here(step.leaf));
        plan.committed(step.leaf);
        steps += 1;
    }
    // One of three is in two pairs of three.
    assert!((330..=334).contains(&steps), "{steps}");
    assert!(plan.remaining() > 0);
    assert_eq!(plan.next_among(&|_| false), None);
    assert!(plan.is_warm());
}

fn leaf(name: u32) -> LeafParameters {
    LeafParameters {
        credential: Credential::basic(format!("member {name}").into_bytes()),
        capabilities: Capabilities {
            credentials: vec![CredentialType::BASIC],
            ..Capabilities::default()
        },
        extensions: Extensions::default(),
    }
}

/// A tree of members and of one path by the first.
fn fresh_tree(suite: &dyn Suite, members: u32, rng: &mut StepRng) -> (Tree, Vec<SignatureKeyPair>) {
    let signers: Vec<_> = (0..members)
        .map(|_| suite.signature_key_pair(rng))
        .collect();
    let mut leaves = (0..members).zip(&signers).map(|(name, signer)| {
        let key = suite.kem_key_pair(rng).public_key().clone();
        let source = LeafNodeSource::Commit(Bytes::default());
        Leaf::from(&LeafNode::sign(suite, signer, leaf(name), key, source, None).unwrap())
    });
    let mut tree = Tree::of_creator(leaves.next().unwrap());
    let others: Vec<_> = leaves.collect();
    tree.apply(&[], &[], &others).unwrap();
    tree.renew_path(suite, LeafIndex(0), leaf(0), &signers[0], b"group", rng)
        .unwrap();
    (tree, signers)
}

#[test]
fn real_commits_cost_what_the_plan_says() {
    let suite = PROVIDER
        .suite(CipherSuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_ED25519)
        .unwrap();
    let rng = &mut StepRng(3);
    let members = 1_000;
    let (fresh, signers) = fresh_tree(suite, members, rng);
    let mut measured = Vec::new();
    for planned in [true, false] {
        let mut tree = fresh.clone();
        let mut plan = Plan::of(&tree);
        assert_eq!(plan.total, Plan::of_fresh_group(members).total);
        let (mut commits, mut bytes) = (0, 0);
        let start = Instant::now();
        while !plan.is_warm() {
            let by = match planned {
                true => plan.next_among(&|_| true).unwrap().leaf,
                false => LeafIndex(rng.next_u32() % members),
            };
            if planned && commits % 16 == 0 {
                assert_eq!(next(&tree), plan.next_among(&|_| true));
            }
            let expected = plan.cost(by).unwrap();
            let signer = &signers[by.0 as usize];
            let path = tree
                .renew_path(suite, by, leaf(by.0), signer, b"group", rng)
                .unwrap();
            let path = path
                .encrypt(suite, &tree, b"context", &BTreeSet::new(), &OneThread, rng)
                .unwrap();
            let found: usize = path
                .nodes
                .iter()
                .map(|node| node.encrypted_path_secret.len())
                .sum();
            assert_eq!(found as u32, expected);
            bytes += path.to_bytes().len();
            commits += 1;
            plan.committed(by);
        }
        println!(
            "planned {planned}: {commits} commits, {bytes} bytes, {:?}",
            start.elapsed()
        );
        measured.push(bytes);
    }
    assert!(5 * measured[0] < 4 * measured[1], "{measured:?}");
}

/// Ciphertexts and commits until a tree is warm, and until it is filled.
fn count(mut plan: Plan, mut pick: impl FnMut(&Plan) -> LeafIndex) -> [u64; 4] {
    let (mut cost, mut commits, mut warm) = (0, 0, None);
    while plan.remaining() > 0 {
        if plan.is_warm() {
            warm.get_or_insert((commits, cost));
        }
        let leaf = pick(&plan);
        cost += u64::from(plan.cost(leaf).unwrap());
        commits += 1;
        plan.committed(leaf);
    }
    let warm = warm.unwrap_or((commits, cost));
    [warm.0, warm.1, commits, cost]
}

#[test]
fn the_plan_against_chance() {
    for members in [1_000, 10_000, 50_000] {
        let fresh = Plan::of_fresh_group(members);
        let planned = count(fresh.clone(), |plan| {
            plan.next_among(&|_| true).unwrap().leaf
        });
        let rounds = 10;
        let mut chance = [0; 4];
        for seed in 0..rounds {
            let mut rng = StepRng(seed);
            let counted = count(fresh.clone(), |_| LeafIndex(rng.next_u32() % members));
            chance
                .iter_mut()
                .zip(counted)
                .for_each(|(sum, new)| *sum += new);
        }
        let chance = chance.map(|sum| sum / rounds);
        println!(
            "{members}: mean {:.0}, filled {:.1}; planned {planned:?}, by chance {chance:?}",
            fresh.mean_cost(),
            fresh.filled as f64 / f64::from(members),
        );
        let [commits, cost, all_commits, all_cost] = planned;
        assert!(100 * cost < 75 * chance[1], "{planned:?} {chance:?}");
        assert!(commits < chance[0]);
        assert!(2 * all_cost < chance[3] && 4 * all_commits < chance[2]);
    }
}

/// The same until the tree is warm, which the bound says nothing of.
#[test]
fn greed_is_not_faster() {
    let fresh = Plan::of_fresh_group(1_000);
    let planned = count(fresh.clone(), |plan| {
        plan.next_among(&|_| true).unwrap().leaf
    });
    let mut plan = fresh;
    let (mut commits, mut cost) = (0, 0);
    while !plan.is_warm() {
        let saved = |leaf: &LeafIndex| {
            let mut node = leaf.node().unwrap();
            let mut saved = 0;
            while node != plan.root {
                let beside = plan.at(node.sibling()).members;
                saved += u64::from(beside) * u64::from(plan.at(node).resolution - 1);
                node = node.parent();
            }
            saved
        };
        let best = (0..1_000).map(LeafIndex).max_by_key(saved).unwrap();
        cost += u64::from(plan.cost(best).unwrap());
        commits += 1;
        plan.committed(best);
    }
    assert!(planned[0] <= commits && planned[1] <= cost, "{planned:?}");
}
