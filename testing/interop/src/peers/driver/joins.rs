//! From outside: external commits, external senders, new members' proposals.

use super::commits::Proposed;
use super::{Client, Done, Driver, Effect, Operation, Pending, failed};
use crate::peers::departures::{self, Role};
use crate::peers::dice::Dice;
use crate::peers::member::{Event, Member, Peer};

impl Driver<'_> {
    /// A new member joins by an external commit.
    pub(super) fn join_externally(&mut self) -> Done {
        let (name, member) = self.anybody_new()?;
        self.external_commit(name, member, None)
    }

    /// A member who lost its group joins again in place of its old leaf.
    pub(super) fn resync(&mut self) -> Done {
        let name = self.somebody();
        if !self.possible(Operation::Resync, self.peer(&name)) {
            return Ok(());
        }
        let leaf = self.leaf(&name);
        let client = self.clients.remove(&name).expect("a member's name");
        self.external_commit(name, client.member, Some(leaf))
    }

    fn external_commit(
        &mut self,
        name: String,
        mut member: Box<dyn Member>,
        resync: Option<u32>,
    ) -> Done {
        let peer = member.peer();
        let mut operations = match resync {
            Some(_) => vec![Operation::Resync],
            None => vec![Operation::ExternalJoin],
        };
        if !self.possible(operations[0], peer) {
            return Ok(());
        }
        let giver = self.somebody();
        let tree_apart = self.rng.chance(2);
        let psk = match self.rng.chance(3) && self.possible(Operation::ExternalJoinWithPsk, peer) {
            true => {
                let psk = self.new_psk()?;
                let (id, secret) = self.psks.last().expect("the new one");
                member.add_psk(id, secret).map_err(|e| failed(&name, e))?;
                operations.push(Operation::ExternalJoinWithPsk);
                Some(psk)
            }
            false => None,
        };
        self.log.push(format!(
            "{name} {} with {giver}'s GroupInfo{}{}",
            if resync.is_some() {
                "joins again"
            } else {
                "joins"
            },
            if tree_apart { ", tree apart" } else { "" },
            if psk.is_some() { ", with a PSK" } else { "" },
        ));
        let group_info = self.call(&giver, |member| member.group_info(!tree_apart))?;
        self.made(Operation::GroupInfo, self.peer(&giver));
        let tree = match tree_apart {
            true => {
                operations.push(Operation::ExternalJoinTreeApart);
                Some(self.call(&giver, |member| member.tree())?)
            }
            false => None,
        };
        let commit = member
            .join_external(&group_info, tree.as_deref(), resync, psk.as_deref())
            .map_err(|error| failed(&name, error))?;
        self.followed(&[Operation::GroupInfo], peer);
        for operation in &operations {
            self.made(*operation, peer);
        }
        for reader in self.members() {
            self.read(&reader, &commit, "an external commit", &Event::Commit)?;
            self.followed(&operations, self.peer(&reader));
        }
        self.pending.clear();
        self.waiting.clear();
        self.model.epoch += 1;
        self.enter(name, member);
        Ok(())
    }

    /// A member is in the group from this epoch on.
    pub(super) fn enter(&mut self, name: String, member: Box<dyn Member>) {
        let joined_at = self.model.epoch;
        self.model
            .members
            .insert(name.clone(), member.signature_key());
        self.clients.insert(name, Client { member, joined_at });
    }

    /// An external sender, or somebody who wants to join, proposes.
    pub(super) fn propose_from_outside(&mut self) -> Done {
        if self.rng.chance(3) && self.may_add() {
            return self.propose_to_join();
        }
        let senders = folkmoot_mls::extension::ExtensionType::EXTERNAL_SENDERS.0;
        let listed = self
            .model
            .extensions
            .iter()
            .any(|(kind, _)| *kind == senders);
        if !listed || self.outsiders.is_empty() {
            return Ok(());
        }
        let index = self.rng.below(self.outsiders.len());
        let peer = self.outsiders[index].peer();
        let touched = self.touched();
        let free: Vec<String> = self
            .members()
            .into_iter()
            .filter(|name| !touched.contains(name))
            .collect();
        let proposed = match self.rng.below(3) {
            0 if self.may_add() && self.possible(Operation::ExternalSenderAdd, peer) => {
                self.add(Operation::ExternalSenderAdd)?
            }
            1 if self.may_extend() && self.possible(Operation::ExternalSenderExtensions, peer) => {
                self.extend(Operation::ExternalSenderExtensions)
            }
            _ if free.len() > 3 && self.possible(Operation::ExternalSenderRemove, peer) => {
                match self.rng.pick(&free) {
                    Some(name) => self.remove(name, Operation::ExternalSenderRemove),
                    None => return Ok(()),
                }
            }
            _ => return Ok(()),
        };
        let Proposed {
            effect,
            change,
            operation,
        } = proposed;
        self.log
            .push(format!("{peer} proposes {effect:?} from outside"));
        let giver = self.somebody();
        let group_info = self.call(&giver, |member| member.group_info(false))?;
        let tree = self.call(&giver, |member| member.tree())?;
        let index_in_extension = u32::try_from(index).unwrap_or(u32::MAX);
        let message = self.outsiders[index]
            .propose(&group_info, &tree, index_in_extension, &change)
            .map_err(|error| failed("outside", error))?;
        self.deliver_from_outside(&message, effect, operation, peer)
    }

    fn propose_to_join(&mut self) -> Done {
        let (name, mut member) = self.anybody_new()?;
        let peer = member.peer();
        if !self.possible(Operation::NewMemberProposal, peer) {
            return Ok(());
        }
        self.log.push(format!("{name} proposes to join"));
        let giver = self.somebody();
        let group_info = self.call(&giver, |member| member.group_info(false))?;
        let tree = self.call(&giver, |member| member.tree())?;
        let message = member
            .propose_join(&group_info, &tree)
            .map_err(|error| failed(&name, error))?;
        self.waiting.insert(name.clone(), member);
        self.deliver_from_outside(
            &message,
            Effect::Add(name),
            Operation::NewMemberProposal,
            peer,
        )
    }

    fn deliver_from_outside(
        &mut self,
        message: &[u8],
        effect: Effect,
        operation: Operation,
        peer: Peer,
    ) -> Done {
        debug_assert!(!departures::lacks(peer, operation, Role::Makes));
        self.made(operation, peer);
        for name in self.members() {
            self.read(&name, message, "a proposal", &Event::Proposal)?;
        }
        self.pending.push(Pending { effect, operation });
        Ok(())
    }
}
