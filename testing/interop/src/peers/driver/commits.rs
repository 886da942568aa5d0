//! Proposals and commits of members.

use super::{Done, Driver, Effect, Operation, Pending};
use crate::peers::dice::Dice;
use crate::peers::member::{Change, Event, Peer, Plan};

/// A proposal to make: what it does, what it says, and what it counts as.
pub(super) struct Proposed {
    pub(super) effect: Effect,
    pub(super) change: Change,
    pub(super) operation: Operation,
}

impl Driver<'_> {
    /// Somebody proposes something.
    pub(super) fn propose(&mut self) -> Done {
        let proposer = self.somebody();
        let peer = self.peer(&proposer);
        let touched = self.touched();
        let free: Vec<String> = self
            .others(&proposer)
            .into_iter()
            .filter(|name| !touched.contains(name))
            .collect();
        let untouched = !touched.contains(&proposer);
        // Somebody who stays has to be left to commit.
        let shrinks = self.clients.len() > self.removals() + 2;
        let proposed = match self.rng.below(12) {
            0 | 1 if self.may_add() => self.add(Operation::AddByReference)?,
            2 if shrinks => match self.rng.pick(&free) {
                Some(name) => self.remove(name, Operation::RemoveByReference),
                None => return Ok(()),
            },
            3 if shrinks && untouched => self.remove(proposer.clone(), Operation::Leave),
            4 if shrinks && untouched && self.may_self_remove(peer) => Proposed {
                effect: Effect::Remove(proposer.clone()),
                change: Change::SelfRemove,
                operation: Operation::SelfRemove,
            },
            5 => self.external_psk(Operation::ExternalPskByReference)?,
            6 if self.may_resume() && self.possible(Operation::ResumptionPskByReference, peer) => {
                self.resumption_psk(Operation::ResumptionPskByReference)
            }
            7 if self.may_extend() => self.extend(Operation::ExtensionsByReference),
            _ if untouched => Proposed {
                effect: Effect::Update(proposer.clone()),
                change: Change::Update,
                operation: Operation::Update,
            },
            _ => return Ok(()),
        };
        self.propose_as(&proposer, proposed)
    }

    /// A member proposes this, and everybody reads it.
    pub(super) fn propose_as(&mut self, proposer: &str, proposed: Proposed) -> Done {
        let Proposed {
            effect,
            change,
            operation,
        } = proposed;
        self.log.push(format!(
            "{proposer} proposes {effect:?} ({})",
            operation.name()
        ));
        let message = self.call(proposer, |member| member.propose(&change))?;
        self.made(operation, self.peer(proposer));
        for name in self.others(proposer) {
            self.read(&name, &message, "a proposal", &Event::Proposal)?;
        }
        self.pending.push(Pending { effect, operation });
        Ok(())
    }

    /// Somebody commits what waits, and more.
    pub(super) fn commit(&mut self) -> Done {
        let leaving: Vec<String> = self
            .pending
            .iter()
            .filter_map(|pending| match &pending.effect {
                Effect::Remove(name) => Some(name.clone()),
                _ => None,
            })
            .collect();
        let mut candidates = self.members();
        candidates.retain(|name| !leaving.contains(name));
        let Some(committer) = self.rng.pick(&candidates) else {
            return Ok(());
        };
        let by_value = self.by_value(&committer)?;
        let needs_no_path = |effect: &Effect| {
            matches!(
                effect,
                Effect::Add(_) | Effect::ExternalPsk | Effect::ResumptionPsk(_)
            )
        };
        let effects = self
            .pending
            .iter()
            .map(|pending| &pending.effect)
            .chain(by_value.iter().map(|proposed| &proposed.effect));
        let (all, none) = (effects.clone().all(needs_no_path), effects.count() == 0);
        let new_signature_key = self.rng.chance(6);
        let without_path = all && !none && !new_signature_key && self.rng.chance(2);
        let length = self.rng.below(20);
        let plan = Plan {
            changes: by_value.iter().map(|p| p.change.clone()).collect(),
            without_path,
            tree_apart: self.rng.chance(3),
            new_signature_key,
            authenticated_data: self.rng.bytes(length),
        };
        candidates.retain(|name| *name != committer);
        if self.rng.chance(5)
            && let Some(loser) = self.rng.pick(&candidates)
        {
            self.log.push(format!("{loser} commits too late"));
            self.call(&loser, |member| member.commit(&Plan::default()))?;
            self.call(&loser, |member| member.discard())?;
            self.made(Operation::LostRace, self.peer(&loser));
        }
        self.commit_as(&committer, by_value, &plan)
    }

    /// A member makes this commit, and everybody follows it.
    pub(super) fn commit_as(
        &mut self,
        committer: &str,
        by_value: Vec<Proposed>,
        plan: &Plan,
    ) -> Done {
        let pending = std::mem::take(&mut self.pending);
        // Its own Update is what a committer cannot commit (RFC 9420, section 12.2).
        let by_reference: Vec<Pending> = pending
            .into_iter()
            .filter(|p| !matches!(&p.effect, Effect::Update(name) if name == committer))
            .collect();
        let operations = self.operations(&by_reference, &by_value, plan);
        self.log.push(format!(
            "{committer} commits {:?} by reference, {:?} by value{}{}{}",
            by_reference.iter().map(|p| &p.effect).collect::<Vec<_>>(),
            by_value.iter().map(|p| &p.effect).collect::<Vec<_>>(),
            if plan.without_path {
                ", without path"
            } else {
                ""
            },
            if plan.tree_apart { ", tree apart" } else { "" },
            if plan.new_signature_key {
                ", new key"
            } else {
                ""
            },
        ));
        let committed = self.call(committer, |member| member.commit(plan))?;
        let peer = self.peer(committer);
        for operation in &operations {
            if !by_reference.iter().any(|p| p.operation == *operation) {
                self.made(*operation, peer);
            }
        }
        let mut effects: Vec<Effect> = by_reference.into_iter().map(|p| p.effect).collect();
        effects.extend(by_value.into_iter().map(|p| p.effect));
        let removed: Vec<&String> = effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::Remove(name) => Some(name),
                _ => None,
            })
            .collect();
        for name in self.others(committer) {
            let follower = self.peer(&name);
            if removed.contains(&&name) {
                self.read(&name, &committed.commit, "its removal", &Event::Removed)?;
                self.clients.remove(&name);
            } else {
                self.read(&name, &committed.commit, "a commit", &Event::Commit)?;
            }
            self.followed(&operations, follower);
        }
        self.call(committer, |member| member.merge())?;
        self.model.epoch += 1;
        let key = self.clients[committer].member.signature_key();
        self.model.members.insert(committer.to_string(), key);
        self.apply(
            committer,
            effects,
            committed.welcome.as_deref(),
            plan.tree_apart,
        )
    }

    /// What the commit did, to the model; and those who were added join.
    fn apply(
        &mut self,
        committer: &str,
        effects: Vec<Effect>,
        welcome: Option<&[u8]>,
        tree_apart: bool,
    ) -> Done {
        let tree = match tree_apart {
            true => Some(self.call(committer, |member| member.tree())?),
            false => None,
        };
        let mut waiting = std::mem::take(&mut self.waiting);
        for effect in effects {
            match effect {
                Effect::Remove(name) => {
                    self.model.members.remove(&name);
                }
                Effect::Extensions(extensions) => self.model.extensions = extensions,
                Effect::ReInit(_) => self.closed = true,
                Effect::Add(name) => {
                    let mut member = waiting.remove(&name).expect("who is added waits");
                    member
                        .join(welcome.unwrap_or_default(), tree.as_deref())
                        .map_err(|error| super::failed(&name, error))?;
                    let operation = match tree_apart {
                        true => Operation::WelcomeTreeApart,
                        false => Operation::Welcome,
                    };
                    self.followed(&[operation], member.peer());
                    self.enter(name, member);
                }
                Effect::Update(_) | Effect::ExternalPsk | Effect::ResumptionPsk(_) => {}
            }
        }
        Ok(())
    }

    /// All that a commit counts as.
    fn operations(
        &self,
        by_reference: &[Pending],
        by_value: &[Proposed],
        plan: &Plan,
    ) -> Vec<Operation> {
        let mut operations: Vec<Operation> = by_reference.iter().map(|p| p.operation).collect();
        operations.extend(by_value.iter().map(|p| p.operation));
        operations.push(match self.scenario.settings.public_handshakes {
            true => Operation::PublicHandshake,
            false => Operation::PrivateHandshake,
        });
        let adds = by_reference
            .iter()
            .map(|p| &p.effect)
            .chain(by_value.iter().map(|p| &p.effect))
            .any(|effect| matches!(effect, Effect::Add(_)));
        let welcome = match plan.tree_apart {
            true => Operation::WelcomeTreeApart,
            false => Operation::Welcome,
        };
        for (is_so, operation) in [
            (adds, welcome),
            (!by_reference.is_empty(), Operation::CommitByReference),
            (
                by_reference.is_empty() && by_value.is_empty(),
                Operation::EmptyCommit,
            ),
            (plan.without_path, Operation::CommitWithoutPath),
            (plan.new_signature_key, Operation::NewSignatureKey),
        ] {
            if is_so {
                operations.push(operation);
            }
        }
        operations.sort_unstable();
        operations.dedup();
        operations
    }

    /// Proposals for a commit, beside what waits.
    fn by_value(&mut self, committer: &str) -> Done<Vec<Proposed>> {
        let mut proposals = Vec::new();
        let touched = self.touched();
        let (size, members) = (self.scenario.size, self.clients.len());
        let may_mix_in = self.may_mix_in(self.peer(committer));
        if may_mix_in && self.may_resume() && self.rng.chance(8) {
            proposals.push(self.resumption_psk(Operation::ResumptionPskByValue));
        } else if members < size && self.may_add() && (members == 1 || !self.rng.chance(3)) {
            let most = if size > 20 { 8 } else { 3 };
            for _ in 0..=self.rng.below(most.min(size - members)) {
                proposals.push(self.add(Operation::AddByValue)?);
            }
        }
        let mut free = self.others(committer);
        free.retain(|name| !touched.contains(name));
        if members > 3 && self.rng.chance(if members < size { 5 } else { 2 }) {
            self.rng.shuffle(&mut free);
            free.truncate(1 + self.rng.below(2));
            for name in free {
                if self.clients.len() > self.removals() + 2 {
                    proposals.push(self.remove(name, Operation::RemoveByValue));
                }
            }
        }
        if may_mix_in && self.rng.chance(6) {
            proposals.push(self.external_psk(Operation::ExternalPskByValue)?);
        }
        if self.may_extend() && self.rng.chance(7) {
            proposals.push(self.extend(Operation::ExtensionsByValue));
        }
        Ok(proposals)
    }

    fn removals(&self) -> usize {
        let removals = self.pending.iter();
        removals
            .filter(|p| matches!(p.effect, Effect::Remove(_)))
            .count()
    }

    /// Who is added could not have this group's resumption PSK.
    pub(super) fn may_add(&self) -> bool {
        let mut pending = self.pending.iter();
        !pending.any(|p| matches!(p.effect, Effect::ResumptionPsk(_)))
    }

    /// OpenMLS cannot commit PSKs by value beside others by reference; see the departures.
    fn may_mix_in(&self, committer: Peer) -> bool {
        let mut pending = self.pending.iter();
        let psk = |p: &Pending| matches!(p.effect, Effect::ExternalPsk | Effect::ResumptionPsk(_));
        committer != Peer::OpenMls || !pending.any(psk)
    }

    fn may_resume(&self) -> bool {
        let mut pending = self.pending.iter();
        !pending.any(|p| matches!(p.effect, Effect::Add(_)))
    }

    pub(super) fn may_extend(&self) -> bool {
        let mut pending = self.pending.iter();
        !pending.any(|p| matches!(p.effect, Effect::Extensions(_)))
    }

    /// Those who join by an external commit have to be able to read a SelfRemove.
    fn may_self_remove(&self, peer: Peer) -> bool {
        self.scenario.settings.public_handshakes && self.possible(Operation::SelfRemove, peer)
    }

    pub(super) fn add(&mut self, operation: Operation) -> Done<Proposed> {
        let (name, mut member) = self.anybody_new()?;
        let key_package = member
            .key_package()
            .map_err(|error| super::failed(&name, error))?;
        self.waiting.insert(name.clone(), member);
        Ok(Proposed {
            effect: Effect::Add(name),
            change: Change::Add(key_package),
            operation,
        })
    }

    pub(super) fn remove(&self, name: String, operation: Operation) -> Proposed {
        Proposed {
            change: Change::Remove(self.leaf(&name)),
            effect: Effect::Remove(name),
            operation,
        }
    }

    fn external_psk(&mut self, operation: Operation) -> Done<Proposed> {
        Ok(Proposed {
            effect: Effect::ExternalPsk,
            change: Change::ExternalPsk(self.new_psk()?),
            operation,
        })
    }

    /// Of an epoch that everybody was in and still remembers.
    fn resumption_psk(&mut self, operation: Operation) -> Proposed {
        let joined = self.clients.values().map(|client| client.joined_at).max();
        let epoch = self.model.epoch;
        let oldest = joined.unwrap_or(epoch).max(epoch.saturating_sub(2));
        let choice: Vec<u64> = (oldest..=epoch).collect();
        let epoch = self.rng.pick(&choice).unwrap_or(epoch);
        Proposed {
            effect: Effect::ResumptionPsk(epoch),
            change: Change::ResumptionPsk(epoch),
            operation,
        }
    }

    pub(super) fn extend(&mut self, operation: Operation) -> Proposed {
        let extensions = self.some_extensions();
        Proposed {
            effect: Effect::Extensions(extensions.clone()),
            change: Change::Extensions(extensions),
            operation,
        }
    }
}
