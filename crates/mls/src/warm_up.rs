//! Tree warm-up: who should commit next, so that commits become cheap at the least total cost.
//!
//! A fresh group's tree is blank above the leaves but for its creator's path. A commit encrypts to the
//! resolution of every node beside its path (RFC 9420, sections 4.1.1 and 7.5), so in such a tree to
//! nearly every member. Each commit fills its own path, and the next ones cost less.
//!
//! # The least total cost
//!
//! Call a node *stale* if its resolution has more than one node: it is blank above several members, or
//! has unmerged leaves. A filled tree has none (below the root, whose resolution nobody asks for). Let u
//! be a node with children a and b, of resolutions r(a) and r(b). What commits pay at u is r(b) if they
//! come from below a, and r(a) if from below b; and r(a) becomes 1 with the first commit below a, and
//! changes by nothing else. So whatever the order,
//!
//! - each stale node that has no stale one below needs a commit of its own below it, and no tree is
//!   filled with fewer commits: at least w(u) of them pass u;
//! - if both a and b need commits, the first to pass u pays min(r(a), r(b)) at least, and each later one 1.
//!
//! [`Plan`] reaches this bound at every node: at each it goes to the child with the larger
//! resolution as long as one is stale, so that the first commit pays the smaller one, and the second goes
//! to the other side and pays 1. What the order is within one child does not matter to the
//! other, so all nodes have the least at once, and the sum is the least there is. For n = 2^d blank leaves
//! it is n·d - n + 1 ciphertexts in n/2 commits, while from left to right it is more than n²/4.
//!
//! Where both children are fresh the bound leaves a choice. The plan then goes where the greatest part
//! of what an average commit still costs can be saved. So it is far from the last commit that
//! commits are cheap: each doubling of their number about halves what there is above the least.
//!
//! # Measured
//!
//! A group whose creator added all at once. *Warm* means that a commit by an average member encrypts to
//! at most twice as many as in a filled tree. "By chance": members commit in no order, each as likely as
//! the others (mean of ten runs). Ciphertexts are counted; bytes and time
//! are computed from them, for suite 1: 83 bytes each, and of the committers together 34 microseconds each. Each
//! member also receives all of the bytes, and hashes them twice.
//!
//! | Members | A commit at first, filled | | Warm after | Ciphertexts | Bytes | CPU | Filled after | Ciphertexts |
//! | --- | --- | --- | --- | --- | --- | --- | --- | --- |
//! | 1,000 | 663, 10.0 | planned | 51 commits | 2,967 | 0.25 MB | 0.10 s | 499 commits | 7,926 |
//! | | | by chance | 98 | 6,654 | 0.55 MB | 0.23 s | 3,312 | 40,255 |
//! | 10,000 | 6,282, 13.6 | planned | 398 | 43,842 | 3.6 MB | 1.5 s | 4,999 | 112,770 |
//! | | | by chance | 819 | 97,656 | 8.1 MB | 3.3 s | 46,967 | 744,426 |
//! | 50,000 | 31,549, 15.9 | planned | 1,624 | 273,151 | 22.7 MB | 9.3 s | 24,999 | 680,762 |
//! | | | by chance | 3,547 | 597,464 | 49.6 MB | 20.3 s | 261,880 | 4,807,942 |
//!
//! Real commits in a tree of 1,000, until it is warm: 51 planned ones have paths of 271 KB, 115 by chance
//! 681 KB. So a tenth of the commits that fill a tree, with two fifths of their ciphertexts, make it
//! warm. The rest comes by itself as members commit for other reasons.
//!
//! # Use
//!
//! All members have the same tree, so all find the same answer. An application asks [`next`] after each
//! commit, until the tree is warm ([`Plan::is_warm`]), and lets the member whom it names commit when
//! nothing else is to be committed. Whoever is not there is passed over ([`Plan::next_among`]).

use crate::tree::{Node, Tree};
use crate::tree_math::{LeafIndex, NodeIndex, depth_for};

/// A commit that a plan proposes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Who is to commit.
    pub leaf: LeafIndex,
    /// How many ciphertexts its path will have.
    pub ciphertexts: u32,
}

/// Who should commit next in this tree, if anybody. Takes time for the whole tree; a [`Plan`] takes that
/// once.
#[must_use]
pub fn next(tree: &Tree) -> Option<Step> {
    Plan::of(tree).next_among(&|_| true)
}

/// What the plan knows of a node.
#[derive(Clone, Copy, Debug, Default)]
struct Summary {
    /// Members below.
    members: u32,
    /// The size of its resolution.
    resolution: u32,
    /// Commits that are needed below.
    work: u32,
    /// The fewest nodes that the path of a member below has up to here.
    reach: u32,
    /// The most that one node below costs all members together, above what it costs when filled.
    excess: u64,
}

impl Summary {
    fn is_stale(self) -> bool {
        self.resolution > 1
    }
}

/// The commits that fill a tree at the least total cost, in order: as an iterator, of commits that are all
/// made. Takes time and memory (24 bytes a node) for the whole tree once, blank leaves too, then log n for
/// each commit. A tree that came by pages has 2^18 leaves at most, and one that came in one piece no more
/// than it has bytes.
#[derive(Clone, Debug)]
pub struct Plan {
    root: NodeIndex,
    /// By place in the array of nodes.
    nodes: Vec<Summary>,
    /// What one commit by each member would cost together.
    total: u64,
    /// The same in a filled tree.
    filled: u64,
}

impl Plan {
    /// From a group's tree.
    #[must_use]
    pub fn of(tree: &Tree) -> Self {
        Self::new(tree.depth(), &|place| match tree.node(place) {
            Some(Node::Leaf(_)) => Some(1),
            Some(Node::Parent(parent)) => Some(1 + parent.unmerged_leaves.len() as u32),
            None => None,
        })
    }

    /// From a group that its first member has just made of `members` (at least one).
    #[must_use]
    pub fn of_fresh_group(members: u32) -> Self {
        let depth = depth_for(LeafIndex(members.saturating_sub(1)));
        let mut plan = Self::new(depth, &|place| {
            place.leaf().filter(|leaf| leaf.0 < members).map(|_| 1)
        });
        plan.committed(LeafIndex(0));
        plan
    }

    /// `resolution` is that of a node which is not blank.
    fn new(depth: u32, resolution: &dyn Fn(NodeIndex) -> Option<u32>) -> Self {
        let mut plan = Self {
            root: NodeIndex::root(depth),
            nodes: vec![Summary::default(); (2 << depth) - 1],
            total: 0,
            filled: 0,
        };
        for level in 0..=depth {
            for across in 0..1 << (depth - level) {
                let place = NodeIndex((across << (level + 1)) | ((1 << level) - 1));
                let own = resolution(place);
                plan.nodes[place.0 as usize] = match (place.left(), place.right()) {
                    (Some(left), Some(right)) => plan.above(left, right, own),
                    _ => Summary {
                        members: own.unwrap_or(0),
                        resolution: own.unwrap_or(0),
                        ..Summary::default()
                    },
                };
                if let (Some(left), Some(right)) = (place.left(), place.right()) {
                    let (left, right) = (plan.at(left), plan.at(right));
                    plan.total += pay(left, right) + pay(right, left);
                    let both = left.members > 0 && right.members > 0;
                    plan.filled += u64::from(both) * u64::from(left.members + right.members);
                }
            }
        }
        // Beside whom nobody is, is on nobody's copath.
        while let (Some(left), Some(right)) = (plan.root.left(), plan.root.right()) {
            plan.root = match (plan.at(left).members, plan.at(right).members) {
                (0, _) => right,
                (_, 0) => left,
                _ => break,
            };
        }
        plan
    }

    fn at(&self, node: NodeIndex) -> Summary {
        self.nodes[node.0 as usize]
    }

    /// A parent's summary from those of its children, and its own resolution if it is not blank.
    fn above(&self, left: NodeIndex, right: NodeIndex, own: Option<u32>) -> Summary {
        let (left, right) = (self.at(left), self.at(right));
        let resolution = own.unwrap_or(left.resolution + right.resolution);
        let below = left.work + right.work;
        let work = if below == 0 && resolution > 1 {
            1
        } else {
            below
        };
        let reach = match (left.members, right.members) {
            (0, _) => right.reach,
            (_, 0) => left.reach,
            _ => 1 + left.reach.min(right.reach),
        };
        let excess = [
            left.excess,
            right.excess,
            pay(left, right).saturating_sub(left.members.into()),
            pay(right, left).saturating_sub(right.members.into()),
        ];
        Summary {
            members: left.members + right.members,
            resolution,
            work,
            reach,
            excess: excess.into_iter().max().unwrap_or(0),
        }
    }

    /// Commits that are left until the tree is filled.
    #[must_use]
    pub fn remaining(&self) -> u32 {
        // The root's own resolution costs nobody anything.
        let below = [self.root.left(), self.root.right()];
        let below = below.into_iter().flatten();
        below.map(|child| self.at(child).work).sum()
    }

    /// The ciphertexts of a commit by a member now; `None` if there is none at the leaf.
    #[must_use]
    pub fn cost(&self, leaf: LeafIndex) -> Option<u32> {
        let mut node = leaf.node().filter(|node| self.root.covers(*node))?;
        if self.at(node).members == 0 {
            return None;
        }
        let mut cost = 0;
        while node != self.root {
            cost += self.at(node.sibling()).resolution;
            node = node.parent();
        }
        Some(cost)
    }

    /// The ciphertexts of a commit by an average member now.
    #[must_use]
    pub fn mean_cost(&self) -> f64 {
        self.total as f64 / f64::from(self.at(self.root).members.max(1))
    }

    /// Whether a commit by an average member has at most twice the ciphertexts that it has in a filled
    /// tree, which is the logarithm of the number of members.
    #[must_use]
    pub fn is_warm(&self) -> bool {
        self.total <= 2 * self.filled
    }

    /// Who should commit next among those who can, if anybody: one who fills something. If all can, the
    /// whole plan has the least cost.
    #[must_use]
    pub fn next_among(&self, can_commit: &dyn Fn(LeafIndex) -> bool) -> Option<Step> {
        if self.remaining() == 0 {
            return None;
        }
        let leaf = self.find(self.root, can_commit)?;
        let ciphertexts = self.cost(leaf)?;
        Some(Step { leaf, ciphertexts })
    }

    /// Somebody who can commit at or below a node, the best first.
    fn find(&self, node: NodeIndex, can_commit: &dyn Fn(LeafIndex) -> bool) -> Option<LeafIndex> {
        let (Some(left), Some(right)) = (node.left(), node.right()) else {
            let leaf = node.leaf()?;
            return (self.at(node).members > 0 && can_commit(leaf)).then_some(leaf);
        };
        let (a, b) = (self.at(left), self.at(right));
        let left_first = if a.work == 0 && b.work == 0 {
            // Nothing is stale below: the shortest path.
            b.members == 0 || (a.members > 0 && a.reach <= b.reach)
        } else if a.work == 0 || b.work == 0 {
            b.work == 0
        } else if a.is_stale() || b.is_stale() {
            a.resolution >= b.resolution
        } else {
            a.excess >= b.excess
        };
        let mut order = [left, right];
        if !left_first {
            order.reverse();
        }
        let has_work = a.work + b.work > 0;
        let mut order = order.into_iter();
        order.find_map(|child| {
            let useful = if has_work {
                self.at(child).work > 0
            } else {
                self.at(child).members > 0
            };
            useful.then(|| self.find(child, can_commit)).flatten()
        })
    }

    /// Goes on to the tree after a commit with a path by a member, planned or not, that adds and
    /// removes nobody. Nothing changes if there is no member.
    pub fn committed(&mut self, leaf: LeafIndex) {
        let Some(mut node) = leaf.node().filter(|_| self.cost(leaf).is_some()) else {
            return;
        };
        while node != self.root {
            let (parent, sibling) = (node.parent(), node.sibling());
            let before = self.at(node).resolution;
            let beside = u64::from(self.at(sibling).members);
            // What those beside pay for this node from now on.
            self.total -= beside * u64::from(before - 1);
            self.nodes[node.0 as usize].resolution = 1;
            if let (Some(left), Some(right)) = (node.left(), node.right()) {
                self.nodes[node.0 as usize] = self.above(left, right, Some(1));
            }
            node = parent;
        }
        if let (Some(left), Some(right)) = (node.left(), node.right()) {
            self.nodes[node.0 as usize] = self.above(left, right, Some(1));
        }
    }
}

/// What the members below one child pay for the other, if each commits.
fn pay(payer: Summary, other: Summary) -> u64 {
    u64::from(payer.members) * u64::from(other.resolution)
}

impl Iterator for Plan {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        let step = self.next_among(&|_| true)?;
        self.committed(step.leaf);
        Some(step)
    }
}

#[cfg(all(test, feature = "aws-lc"))]
mod tests;
