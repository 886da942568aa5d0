//! What was done, by whom, and who followed it.

use std::collections::BTreeMap;
use std::fmt;

use super::departures::{self, Role};
use super::member::Peer;

macro_rules! operations {
    ($($(#[$meta:meta])* $name:ident($roles:ident) = $text:literal),* $(,)?) => {
        /// Something that members do.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Operation {
            $($(#[$meta])* $name,)*
        }

        impl Operation {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// What the table calls it.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }

            /// Who takes part in it.
            #[must_use]
            pub fn roles(self) -> &'static [Role] {
                match self { $(Self::$name => $roles),* }
            }
        }
    };
}

const BOTH: &[Role] = &[Role::Makes, Role::Follows];
const ALONE: &[Role] = &[Role::Makes];

operations! {
    /// Epoch 0 of a group.
    Create(ALONE) = "create a group",
    /// A Welcome that holds the tree.
    Welcome(BOTH) = "Welcome with the tree",
    /// A Welcome whose tree travels apart.
    WelcomeTreeApart(BOTH) = "Welcome, tree apart",
    /// An Add by value.
    AddByValue(BOTH) = "Add by value",
    /// An Add by reference.
    AddByReference(BOTH) = "Add by reference",
    /// A Remove by value.
    RemoveByValue(BOTH) = "Remove by value",
    /// A Remove by reference.
    RemoveByReference(BOTH) = "Remove by reference",
    /// A Remove of the proposer.
    Leave(BOTH) = "Remove of oneself",
    /// A SelfRemove.
    SelfRemove(BOTH) = "SelfRemove",
    /// An Update.
    Update(BOTH) = "Update",
    /// A commit by reference.
    CommitByReference(BOTH) = "commit by reference",
    /// A commit without proposals.
    EmptyCommit(BOTH) = "commit of nothing",
    /// A commit without a path.
    CommitWithoutPath(BOTH) = "commit without path",
    /// A commit that brings another signature key.
    NewSignatureKey(BOTH) = "new signature key",
    /// A handshake message in clear.
    PublicHandshake(BOTH) = "commit in clear",
    /// A handshake message that is encrypted.
    PrivateHandshake(BOTH) = "commit encrypted",
    /// A commit that lost the race.
    LostRace(ALONE) = "commit given up",
    /// An external PSK by value.
    ExternalPskByValue(BOTH) = "external PSK by value",
    /// An external PSK by reference.
    ExternalPskByReference(BOTH) = "external PSK by ref.",
    /// A resumption PSK by value.
    ResumptionPskByValue(BOTH) = "resumption PSK by value",
    /// A resumption PSK by reference.
    ResumptionPskByReference(BOTH) = "resumption PSK by ref.",
    /// New GroupContext extensions by value.
    ExtensionsByValue(BOTH) = "extensions by value",
    /// New GroupContext extensions by reference.
    ExtensionsByReference(BOTH) = "extensions by reference",
    /// A GroupInfo that somebody outside uses.
    GroupInfo(BOTH) = "GroupInfo",
    /// An external commit.
    ExternalJoin(BOTH) = "external join",
    /// An external commit whose author got the tree apart.
    ExternalJoinTreeApart(BOTH) = "external join, tree apart",
    /// An external commit with an external PSK.
    ExternalJoinWithPsk(BOTH) = "external join with PSK",
    /// An external commit that replaces the old leaf.
    Resync(BOTH) = "resync",
    /// An Add by an external sender.
    ExternalSenderAdd(BOTH) = "external sender's Add",
    /// A Remove by an external sender.
    ExternalSenderRemove(BOTH) = "external sender's Remove",
    /// Extensions by an external sender.
    ExternalSenderExtensions(BOTH) = "external sender's ext.",
    /// An Add by who wants to join.
    NewMemberProposal(BOTH) = "new member's Add",
    /// A ReInit by value.
    ReInitByValue(BOTH) = "ReInit by value",
    /// A ReInit by reference.
    ReInitByReference(BOTH) = "ReInit by reference",
    /// The group after a ReInit.
    ReInitGroup(BOTH) = "group after ReInit",
    /// A ReInit to another suite.
    ReInitSuite(BOTH) = "ReInit to another suite",
    /// A subgroup.
    Branch(BOTH) = "branch",
    /// An application message.
    Message(BOTH) = "message",
    /// Application messages in another order than they were sent in.
    MessageOutOfOrder(BOTH) = "message out of order",
    /// An application message that comes after its epoch.
    MessageOfPastEpoch(BOTH) = "message of a past epoch",
    /// A safe exporter's secret.
    SafeExport(ALONE) = "safe exporter",
    /// Going on from what was stored.
    Restart(ALONE) = "restart",
}

/// How often each peer had each role in each operation.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    counts: BTreeMap<(Operation, Role, Peer), u32>,
    suites: BTreeMap<(u16, Peer), u32>,
    steps: u32,
    largest: usize,
}

impl Coverage {
    /// Counts an operation.
    pub fn count(&mut self, operation: Operation, role: Role, peer: Peer) {
        *self.counts.entry((operation, role, peer)).or_default() += 1;
    }

    /// Counts a step after which members agreed.
    pub fn step(&mut self, suite: u16, members: impl Iterator<Item = Peer>) {
        let mut size = 0;
        for peer in members {
            *self.suites.entry((suite, peer)).or_default() += 1;
            size += 1;
        }
        self.steps += 1;
        self.largest = self.largest.max(size);
    }

    /// The number of steps.
    #[must_use]
    pub fn steps(&self) -> u32 {
        self.steps
    }

    /// The number of members of the largest group.
    #[must_use]
    pub fn largest(&self) -> usize {
        self.largest
    }

    /// Adds another run's counts.
    pub fn merge(&mut self, other: &Self) {
        for (key, count) in &other.counts {
            *self.counts.entry(*key).or_default() += count;
        }
        for (key, count) in &other.suites {
            *self.suites.entry(*key).or_default() += count;
        }
        self.steps += other.steps;
        self.largest = self.largest.max(other.largest);
    }

    /// What nobody of a peer did, though no departure says that it cannot; and the suites in which no
    /// one of a peer that has them was a member.
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        for operation in Operation::ALL {
            for role in operation.roles() {
                for peer in Peer::ALL {
                    let key = (*operation, *role, peer);
                    if !self.counts.contains_key(&key)
                        && !departures::lacks(peer, *operation, *role)
                    {
                        missing.push(format!("{peer} {role} {}", operation.name()));
                    }
                }
            }
        }
        for (suite, peers) in super::driver::suites() {
            for peer in peers {
                if !self.suites.contains_key(&(suite, peer)) {
                    missing.push(format!("{peer} in suite {suite:#06x}"));
                }
            }
        }
        missing
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} steps, the largest group with {} members. made / followed:\n",
            self.steps, self.largest
        )?;
        write!(f, "{:<26}", "")?;
        for peer in Peer::ALL {
            write!(f, "{peer:>16}")?;
        }
        writeln!(f)?;
        for operation in Operation::ALL {
            write!(f, "{:<26}", operation.name())?;
            for peer in Peer::ALL {
                let cell: Vec<String> = operation
                    .roles()
                    .iter()
                    .map(|role| match self.counts.get(&(*operation, *role, peer)) {
                        Some(count) => count.to_string(),
                        None if departures::lacks(peer, *operation, *role) => "-".to_string(),
                        None => "0".to_string(),
                    })
                    .collect();
                write!(f, "{:>16}", cell.join(" / "))?;
            }
            writeln!(f)?;
        }
        for (suite, peers) in super::driver::suites() {
            write!(f, "{:<26}", format!("member-steps, {suite:#06x}"))?;
            for peer in Peer::ALL {
                let cell = match self.suites.get(&(suite, peer)) {
                    Some(count) => count.to_string(),
                    None if !peers.contains(&peer) => "-".to_string(),
                    None => "0".to_string(),
                };
                write!(f, "{cell:>16}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
