//! Groups that follow others: by ReInit (RFC 9420, section 11.2), or as a branch (11.3).

use super::commits::Proposed;
use super::{Done, Driver, Effect, Operation, suites};
use crate::peers::dice::Dice;
use crate::peers::member::{Change, NextGroup, Peer, Plan};

impl Driver<'_> {
    /// The group is closed, and all its members meet in the next.
    pub(super) fn reinitialise(&mut self) -> Done {
        let committer = self.somebody();
        let peer = self.peer(&committer);
        let all = |operation| {
            let members = self.members();
            members
                .iter()
                .all(|name| self.possible(operation, self.peer(name)))
        };
        if !all(Operation::ReInitGroup) || !self.possible(Operation::ReInitByValue, peer) {
            return Ok(());
        }
        // See the departures for what mls-rs makes of blank leaves and of other hash lengths.
        let with_mls_rs = self.scenario.peers.contains(&Peer::MlsRs);
        let widest = self.members().iter().map(|name| self.leaf(name)).max();
        let blanks = widest.map_or(0, |leaf| leaf as usize + 1) > self.clients.len();
        if with_mls_rs && blanks {
            return Ok(());
        }
        let suite = self.scenario.settings.suite;
        let choice: Vec<u16> = suites()
            .into_iter()
            .filter(|(_, peers)| self.scenario.peers.iter().all(|peer| peers.contains(peer)))
            .map(|(suite, _)| suite)
            .filter(|next| !with_mls_rs || hash_length(*next) == hash_length(suite))
            .collect();
        let next_suite = match all(Operation::ReInitSuite) && self.rng.chance(2) {
            true => self.rng.pick(&choice).unwrap_or(suite),
            false => suite,
        };
        let mut extensions = self.some_extensions();
        if next_suite != suite {
            let senders = folkmoot_mls::extension::ExtensionType::EXTERNAL_SENDERS.0;
            extensions.retain(|(kind, _)| *kind != senders);
        }
        let next = NextGroup {
            group_id: self.rng.bytes(16),
            suite: next_suite,
            extensions,
        };
        let proposed = |operation| Proposed {
            effect: Effect::ReInit(next.clone()),
            change: Change::ReInit(next.clone()),
            operation,
        };
        if self.rng.chance(2) {
            let proposer = self.somebody();
            self.propose_as(&proposer, proposed(Operation::ReInitByReference))?;
            self.commit_as(&committer, Vec::new(), &Plan::default())?;
        } else {
            let by_value = proposed(Operation::ReInitByValue);
            let plan = Plan {
                changes: vec![by_value.change.clone()],
                without_path: self.rng.chance(2),
                ..Plan::default()
            };
            self.commit_as(&committer, vec![by_value], &plan)?;
        }
        self.check()?;
        let members = self.members();
        self.go_on(&next, false, members, Operation::ReInitGroup)?;
        if next_suite != suite {
            for name in self.members() {
                self.made(Operation::ReInitSuite, self.peer(&name));
                self.followed(&[Operation::ReInitSuite], self.peer(&name));
            }
            self.scenario.settings.suite = next_suite;
            self.make_outsiders()?;
        }
        Ok(())
    }

    /// Some members go on in a group of their own, and the rest is left behind.
    pub(super) fn branch(&mut self) -> Done {
        let mut members = self.members();
        members.retain(|name| self.possible_for(Operation::Branch, name));
        if members.len() < 2 {
            return Ok(());
        }
        self.rng.shuffle(&mut members);
        members.truncate(2 + self.rng.below(members.len() - 1));
        let next = NextGroup {
            group_id: self.rng.bytes(16),
            suite: self.scenario.settings.suite,
            extensions: self.model.extensions.clone(),
        };
        self.clients.retain(|name, _| members.contains(name));
        self.go_on(&next, true, members, Operation::Branch)
    }

    fn possible_for(&self, operation: Operation, name: &str) -> bool {
        use crate::peers::departures::{Role, lacks};
        let peer = self.peer(name);
        !lacks(peer, operation, Role::Makes) && !lacks(peer, operation, Role::Follows)
    }

    fn go_on(
        &mut self,
        next: &NextGroup,
        branch: bool,
        members: Vec<String>,
        operation: Operation,
    ) -> Done {
        let creator = self.rng.pick(&members).unwrap_or_default();
        self.log.push(format!(
            "{creator} starts the next group ({}, suite {:#06x}) of {members:?}",
            operation.name(),
            next.suite
        ));
        let others = self.others(&creator);
        let mut key_packages = Vec::new();
        for name in &others {
            let key_package = self.call(name, |m| m.successor_key_package(next, branch))?;
            key_packages.push(key_package);
        }
        let welcome = self.call(&creator, |member| {
            member.start_successor(next, branch, &key_packages)
        })?;
        self.made(operation, self.peer(&creator));
        for name in &others {
            self.call(name, |member| member.join_successor(branch, &welcome))?;
            self.followed(&[operation], self.peer(name));
        }
        self.pending.clear();
        self.waiting.clear();
        self.late.clear();
        self.closed = false;
        self.model.epoch = 1;
        self.model.extensions = next.extensions.clone();
        self.model.members = self
            .clients
            .iter_mut()
            .map(|(name, client)| {
                client.joined_at = 1;
                (name.clone(), client.member.signature_key())
            })
            .collect();
        Ok(())
    }
}

/// `KDF.Nh` of a suite.
fn hash_length(suite: u16) -> usize {
    match suite {
        4..=6 => 64,
        7 | 0x004e => 48,
        _ => 32,
    }
}
