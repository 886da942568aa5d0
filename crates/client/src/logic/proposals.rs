//! What members have proposed, and leaving (RFC 9420, sections 12.1.3 and 12.4).
//!
//! Whoever wants to leave proposes the Remove of its own leaf and sends nothing more. Everybody who reads
//! a proposal commits it before the next message of their own, or when it is their turn. A leave that a
//! commit passed over is not forgotten: the next commit carries it out by value.
//!
//! Whoever others propose to remove cannot commit that: it holds its messages back until they have, or
//! until the epoch is over without it. What else was proposed in that epoch it leaves to them for as long as
//! anybody's turn takes, then commits it: somebody who proposes to remove all the others silences nobody.
//!
//! Proposals by reference that are taken in are Removes and Updates. An Add needs an invitation, which
//! only its author could have sent; rules of the group change by value only. Those are passed over, as is
//! whatever the engine finds invalid: nobody can make our commit invalid by proposing something.

use std::collections::BTreeSet;

use folkmoot_credential::Committers;
use folkmoot_mls::code_point::WireFormat;
use folkmoot_mls::codec::Encode;
use folkmoot_mls::framing::Sender;
use folkmoot_mls::group::Group;
use folkmoot_mls::proposal::{Proposal, ProposalRef};
use folkmoot_mls::tree_math::LeafIndex;
use folkmoot_protocol::VERSION;
use folkmoot_protocol::ids::LogId;
use folkmoot_protocol::keys::hash;
use folkmoot_protocol::log::Append;

use super::groups::context;
use super::offering::Parts;
use super::outbox::Built;
use super::rows::{self, ConversationRow, LeaveWish, Leaver, OutboxRow, Wish};
use super::{Output, PROPOSAL, Pause, Standing, Step};
use crate::error::Error;
use crate::history::{Update, What};
use crate::store::Table;

/// How long each rank waits for the one before it, and the longest that anybody waits.
pub(super) const TURN_MS: u64 = 2_000;
pub(super) const LAST_TURN_MS: u64 = 60_000;

/// What our next commit has to take in.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Due {
    /// Proposals of this epoch.
    pub references: Vec<ProposalRef>,
    /// Leaves that a commit passed over.
    pub leaves: Vec<LeafIndex>,
}

impl Due {
    /// Who is no member any more after a commit that takes this in, and removes others by value.
    pub(super) fn removed(&self, group: &Group, others: &[LeafIndex]) -> BTreeSet<LeafIndex> {
        let pending = group.pending_proposals().into_iter();
        let named = pending.filter(|(reference, _)| self.references.contains(*reference));
        let removed = named.filter_map(|(_, pending)| match &pending.proposal {
            Proposal::Remove(remove) => Some(remove.removed),
            _ => None,
        });
        let by_value = self.leaves.iter().chain(others).copied();
        removed.chain(by_value).collect()
    }
}

/// What our next commit has to take in.
pub(super) fn due(group: &Group, row: &ConversationRow) -> Due {
    let own = group.own_index();
    let mut due = Due::default();
    let mut removed = vec![own];
    for (reference, pending) in group.pending_proposals() {
        if !is_taken(&pending.proposal) {
            continue;
        }
        if let Proposal::Remove(remove) = &pending.proposal {
            if remove.removed == own {
                continue;
            }
            removed.push(remove.removed);
        }
        due.references.push(reference.clone());
    }
    // Those who want to go, and those who have to.
    let going = row.leaving.iter().chain(&row.expelled);
    let leaves: BTreeSet<LeafIndex> = going
        .filter(|leaver| is_at(group, leaver) && !removed.contains(&leaver.leaf))
        .map(|leaver| leaver.leaf)
        .collect();
    due.leaves = leaves.into_iter().collect();
    due
}

/// Whether members take in what somebody proposed, or pass it over. Any member may propose any removal.
pub(super) fn is_taken(proposal: &Proposal) -> bool {
    matches!(proposal, Proposal::Remove(_) | Proposal::Update(_))
}

/// Whether the others are to remove a leaf, as somebody else than its owner proposed in this epoch.
pub(super) fn is_to_be_removed(group: &Group, leaf: LeafIndex) -> bool {
    let removes = |proposal: &Proposal| {
        is_taken(proposal) && matches!(proposal, Proposal::Remove(remove) if remove.removed == leaf)
    };
    let mut pending = group.pending_proposals().into_iter();
    let leaver = Sender::Member(leaf);
    pending.any(|(_, pending)| pending.sender != leaver && removes(&pending.proposal))
}

/// Whether a proposal of somebody's makes a commit of ours due. Our own removal is for others.
pub(super) fn concerns(group: &Group, proposal: &Proposal) -> bool {
    !matches!(proposal, Proposal::Remove(remove) if remove.removed == group.own_index())
}

/// Whether the leaf is still theirs.
pub(super) fn is_at(group: &Group, leaver: &Leaver) -> bool {
    group
        .member(leaver.leaf)
        .is_some_and(|node| *node.signature_key == *leaver.signature_key)
}

/// Those who have not left by now.
pub(super) fn still_leaving(group: &Group, leaving: &mut Vec<Leaver>) {
    leaving.retain(|leaver| is_at(group, leaver));
}

/// Whether we want to leave, and everybody else does too: nobody is left to commit it.
pub(super) fn all_leave(group: &Group, row: &ConversationRow) -> bool {
    let own = group.own_index();
    group
        .members()
        .all(|(leaf, _)| leaf == own || row.leaving.iter().any(|leaver| leaver.leaf == leaf))
}

/// Our place in the order in which members act on the same cause: by the hash of group, epoch and leaf,
/// among those who stay, and may commit.
pub(super) fn rank(group: &Group, row: &ConversationRow) -> u64 {
    let committers: Committers = group.extensions().get().ok().flatten().unwrap_or_default();
    let named: BTreeSet<u32> = committers.committers.iter().map(|one| one.leaf).collect();
    rank_among(group, row, |leaf| {
        named.is_empty() || named.contains(&leaf.0)
    })
}

/// The same among some of them.
pub(super) fn rank_among(
    group: &Group,
    row: &ConversationRow,
    is_one: impl Fn(LeafIndex) -> bool,
) -> u64 {
    let authors = row.contested.as_ref().map(|contested| &contested.authors);
    let bad = |leaf: LeafIndex| {
        authors.is_some_and(|authors| authors.iter().any(|author| author.leaf == leaf))
    };
    let place = |leaf: LeafIndex| hash("rank", &(row.log, (group.epoch(), leaf)));
    let own = place(group.own_index());
    let going = |leaf: LeafIndex| {
        let mut going = row.leaving.iter().chain(&row.expelled);
        going.any(|leaver| leaver.leaf == leaf)
    };
    let goes = |leaf: LeafIndex| going(leaf) || is_to_be_removed(group, leaf);
    let is_before =
        |leaf: LeafIndex| place(leaf) < own && !goes(leaf) && !bad(leaf) && is_one(leaf);
    let before = group.members().filter(|(leaf, _)| is_before(*leaf));
    before.count() as u64
}

impl Step<'_> {
    pub(super) fn want_leave(&mut self, log: LogId) -> Result<(), Error> {
        self.account()?;
        self.check_usable(log)?;
        let wish = Wish::Leave(LeaveWish { proposed: false });
        self.wish(log, wish).map(drop)
    }

    /// Whether we asked to leave, and why nothing else can be done any more.
    pub(super) fn check_staying(&self, row: &ConversationRow) -> Result<(), Error> {
        let outbox = self.outbox(row.log)?;
        let leaves = outbox.iter().any(|row| matches!(row.wish, Wish::Leave(_)));
        if leaves {
            Err(Error::Leaving(row.title.0.clone()))
        } else {
            Ok(())
        }
    }

    /// Proposes our own removal.
    pub(super) fn build_leave(
        &mut self,
        mut row: ConversationRow,
        next: &OutboxRow,
    ) -> Result<Built, Error> {
        let account = self.account()?;
        let mut held = self.hold(&row)?;
        if all_leave(&held.group, &row) {
            drop(held);
            self.close(row)?;
            return Ok(Built::Closed);
        }
        let own = held.group.own_index();
        let mut ctx = context(self.now / 1000, self.rng);
        let proposed = held.group.propose(
            &mut held.keys,
            &account.signer(),
            Proposal::remove(own),
            &[],
            WireFormat::PRIVATE_MESSAGE,
            &mut ctx,
        )?;
        self.apply(row.log, &proposed.changes)?;
        // Should the proposal not get into the log of this epoch, the group forgets it with the epoch;
        // and until then we commit nothing.
        held.group = proposed.group;
        let append = Append {
            version: VERSION,
            log: row.log,
            branch: row.branch,
            parent: row.tip,
            epoch: row.epoch,
            content_type: PROPOSAL,
            commit: None,
            message: proposed.message.to_bytes().into(),
        };
        let entry = self.offer(&row, next.intent, &append, Parts::default())?;
        self.keep(&mut row, held)?;
        Ok(Built::Attempt(entry))
    }

    /// Ends a conversation that nobody is left in who could confirm it.
    fn close(&mut self, mut row: ConversationRow) -> Result<(), Error> {
        row.standing = Standing::Left;
        let by = self.account()?.user;
        let last = self.tx.last(Table::History, row.log.as_ref())?;
        let last: Option<crate::history::HistoryEntry> = last
            .map(|(_, value)| rows::decode(Table::History, &value))
            .transpose()?;
        let part = last
            .filter(|last| last.sequence == row.sequence)
            .map_or(0, |last| last.part.saturating_add(1));
        self.write_history(&row, part, What::Left(Update { by }))?;
        self.put_conversation(&mut row)?;
        self.over(&row)
    }

    /// Our leave is in the log. What is left to us is to read; and if the others leave too, to go.
    pub(super) fn advance_leaver(&mut self, row: ConversationRow) -> Result<(), Error> {
        let held = self.hold(&row)?;
        let all = all_leave(&held.group, &row);
        self.session.held.insert(row.log, held);
        if all { self.close(row) } else { Ok(()) }
    }

    /// Whether messages have to wait for others to commit our removal.
    pub(super) fn holds_messages(&mut self, row: &ConversationRow) -> Result<bool, Error> {
        let held = self.hold(row)?;
        // What is proposed comes before the next message; who may not commit it waits.
        let waits = row.cause != 0 && due(&held.group, row) != Due::default();
        let waits = waits && !self.may_commit(row, &held.group)?;
        let holds = waits || is_to_be_removed(&held.group, held.group.own_index());
        self.session.held.insert(row.log, held);
        Ok(holds)
    }

    /// Makes a wish of what others have proposed: at once if a message of ours waits for it, else if
    /// it is our turn. Otherwise says when that is. Returns whether there is such a wish now.
    pub(super) fn want_proposals(
        &mut self,
        row: &ConversationRow,
        at_once: bool,
    ) -> Result<bool, Error> {
        if row.cause == 0 {
            return Ok(false);
        }
        let held = self.hold(row)?;
        let may = self.may_commit(row, &held.group)?;
        self.session.held.insert(row.log, held);
        if !may {
            return Ok(false);
        }
        if !at_once {
            let held = self.hold(row)?;
            let wait = match is_to_be_removed(&held.group, held.group.own_index()) {
                // The others can commit all of it.
                true => LAST_TURN_MS,
                false => rank(&held.group, row).saturating_mul(TURN_MS),
            };
            let wait = wait.min(LAST_TURN_MS);
            self.session.held.insert(row.log, held);
            // A clock of ours that runs late makes nobody wait for longer than the last turn.
            let until = row.cause.saturating_add(wait);
            let until = until.min(self.now.saturating_add(LAST_TURN_MS));
            let known = self.session.turns.get(&row.log).copied();
            let until = known.map_or(until, |known| known.min(until));
            if self.now < until {
                self.session.turns.insert(row.log, until);
                let pause = Pause::Turn;
                self.outputs.push(Output::Wait { until, pause });
                return Ok(false);
            }
        }
        self.session.turns.remove(&row.log);
        self.want(row.log, Wish::Proposals)?;
        Ok(true)
    }

    /// Nothing of this epoch has to be committed any more, or it cannot be.
    pub(super) fn nothing_due(&mut self, log: LogId) -> Result<(), Error> {
        let mut row = rows::conversation(self.tx, log)?;
        row.cause = 0;
        let held = self.hold(&row)?;
        self.keep(&mut row, held)
    }
}

#[cfg(test)]
mod tests {
    use folkmoot_credential::{DeliveryAddress, Policy, Version};
    use folkmoot_mls::capabilities::Capabilities;
    use folkmoot_mls::code_point::ProtocolVersion;
    use folkmoot_mls::component::NoComponents;
    use folkmoot_mls::context::{BasicCredentials, Context, NoPsks, OneThread};
    use folkmoot_mls::credential::{Credential, CredentialType};
    use folkmoot_mls::crypto::PROVIDER;
    use folkmoot_mls::crypto::SignatureKeyPair;
    use folkmoot_mls::extension::Extensions;
    use folkmoot_mls::group::{GroupParameters, IncludeProposals, Processed};
    use folkmoot_mls::key_package::{KeyPackage, KeyPackageBundle};
    use folkmoot_mls::leaf_node::{LeafParameters, Lifetime};
    use folkmoot_mls::message_keys::MessageKeys;
    use folkmoot_protocol::ids::{ChainHash, EntryId};
    use folkmoot_protocol::keys::PublicKey;
    use folkmoot_protocol::sealed::suite;
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    use super::super::IntentId;
    use super::super::shelf::SUITE;
    use super::*;

    struct Member {
        group: Group,
        keys: MessageKeys,
        signer: SignatureKeyPair,
    }

    fn world(rng: &mut ChaCha20Rng) -> Context<'_> {
        Context {
            provider: &PROVIDER,
            authentication_service: &BasicCredentials,
            psks: &NoPsks,
            components: &NoComponents,
            now: Some(1000),
            workers: &OneThread,
            rng,
        }
    }

    fn leaf(name: &str) -> LeafParameters {
        LeafParameters {
            credential: Credential::basic(name.as_bytes()),
            capabilities: Capabilities {
                versions: vec![ProtocolVersion::MLS10],
                cipher_suites: vec![SUITE],
                credentials: vec![CredentialType::BASIC],
                extensions: folkmoot_credential::EXTENSION_TYPES.to_vec(),
                ..Capabilities::default()
            },
            extensions: Extensions::default(),
        }
    }

    fn offer(name: &str, rng: &mut ChaCha20Rng) -> (SignatureKeyPair, KeyPackageBundle) {
        let signer = suite().signature_key_pair(rng);
        let lifetime = Lifetime {
            not_before: 0,
            not_after: 100_000,
        };
        let bundle = KeyPackage::create(
            suite(),
            &signer,
            leaf(name),
            lifetime,
            Extensions::default(),
            rng,
        );
        (signer, bundle.unwrap())
    }

    fn three(rng: &mut ChaCha20Rng) -> Vec<Member> {
        let signer = suite().signature_key_pair(rng);
        let offers = ["bob", "charlie"].map(|name| offer(name, rng));
        let parameters = GroupParameters {
            version: ProtocolVersion::MLS10,
            cipher_suite: SUITE,
            group_id: [1; 32].into(),
            extensions: Extensions::default().with(&Policy::default()),
        };
        let mut ctx = world(rng);
        let mut created = Group::create(&mut ctx, parameters, &signer, leaf("alice")).unwrap();
        let mut commit = created.group.commit();
        for (_, offer) in &offers {
            commit = commit.add(offer.key_package.clone());
        }
        let commit = commit.tree_in_welcome(true);
        let pending = commit.build(&mut created.keys, &signer, &mut ctx).unwrap();
        let welcome = pending.welcome.unwrap();
        let (group, keys) = (pending.group, pending.keys);
        let mut members = vec![Member {
            group,
            keys,
            signer,
        }];
        for (signer, offer) in offers {
            let joined = Group::join(&mut ctx, &welcome, &offer, None).unwrap();
            let (group, keys) = (joined.group, joined.keys);
            members.push(Member {
                group,
                keys,
                signer,
            });
        }
        members
    }

    /// A member proposes something, and everybody hears of it.
    fn propose(members: &mut [Member], who: usize, what: Proposal, rng: &mut ChaCha20Rng) {
        let mut ctx = world(rng);
        let Member {
            group,
            keys,
            signer,
        } = &mut members[who];
        let wire_format = WireFormat::PRIVATE_MESSAGE;
        let proposed = group
            .propose(keys, signer, what, &[], wire_format, &mut ctx)
            .unwrap();
        *group = proposed.group;
        hear(members, who, &proposed.message, rng);
    }

    fn hear(
        members: &mut [Member],
        from: usize,
        message: &folkmoot_mls::message::MlsMessage,
        rng: &mut ChaCha20Rng,
    ) {
        let mut ctx = world(rng);
        for (at, member) in members.iter_mut().enumerate() {
            if at != from {
                let heard = member.group.process(&mut member.keys, message, &mut ctx);
                match heard.unwrap() {
                    Processed::Proposal { group, .. } => member.group = group,
                    Processed::Commit { group, keys, .. } => {
                        (member.group, member.keys) = (group, keys);
                    }
                    _ => {}
                }
            }
        }
    }

    fn row(leaving: Vec<Leaver>) -> ConversationRow {
        ConversationRow {
            version: Version,
            changes: 0,
            log: LogId([1; 32]),
            standing: Standing::Member,
            stopped: None,
            title: "moot".into(),
            delivery: DeliveryAddress {
                url: Default::default(),
                key: PublicKey([0; 32]),
                pin: Default::default(),
            },
            branch: EntryId([0; 32]),
            tip: EntryId([0; 32]),
            epoch: 1,
            epoch_authenticator: Default::default(),
            sequence: 1,
            chain: ChainHash::START,
            time: 0,
            epoch_time: 0,
            pages_checked: 0,
            past: Vec::new(),
            promises: Vec::new(),
            head: None,
            intent: IntentId(1),
            leaving,
            cause: 0,
            contested: None,
            offers: Vec::new(),
            expelled: Vec::new(),
        }
    }

    #[test]
    fn nobody_can_make_our_commit_invalid_by_proposing() {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let mut members = three(&mut rng);
        let (_, dora) = offer("dora", &mut rng);
        // Charlie proposes rules that nobody could follow, somebody who was not invited, our removal,
        // and his own, as does Bob, who leaves too.
        let harmful = [
            Proposal::group_context_extensions(Extensions::default()),
            Proposal::add(dora.key_package),
            Proposal::remove(LeafIndex(0)),
            Proposal::remove(LeafIndex(2)),
        ];
        for proposal in harmful {
            propose(&mut members, 2, proposal, &mut rng);
        }
        for leaf in [2, 1] {
            propose(&mut members, 1, Proposal::remove(LeafIndex(leaf)), &mut rng);
        }
        let alice = &mut members[0];
        assert_eq!(alice.group.pending_proposals().len(), 6);
        let due = due(&alice.group, &row(Vec::new()));
        let commit = alice.group.commit();
        let commit = commit.include_proposals(IncludeProposals::AllOf(due.references));
        let mut ctx = world(&mut rng);
        let pending = commit
            .build(&mut alice.keys, &alice.signer, &mut ctx)
            .unwrap();
        let removed: Vec<_> = pending
            .effects
            .removed
            .iter()
            .map(|(leaf, _)| leaf.0)
            .collect();
        assert_eq!(removed, [2, 1], "the leaves, once each");
        assert!(pending.effects.added.is_empty());
        assert!(
            pending
                .group
                .extensions()
                .get::<Policy>()
                .unwrap()
                .is_some()
        );
    }

    #[test]
    fn a_leave_that_was_passed_over_is_due_by_value_unless_the_leaf_is_anothers() {
        let mut rng = ChaCha20Rng::seed_from_u64(2);
        let members = three(&mut rng);
        let group = &members[0].group;
        let key = |leaf| {
            group
                .member(LeafIndex(leaf))
                .unwrap()
                .signature_key
                .to_vec()
        };
        let leaver = |leaf, key: Vec<u8>| Leaver {
            leaf: LeafIndex(leaf),
            signature_key: key.into(),
        };
        let leaving = vec![leaver(1, key(1)), leaver(2, key(1)), leaver(9, key(2))];
        let due = due(group, &row(leaving));
        assert_eq!(due.leaves, [LeafIndex(1)]);
        assert!(due.references.is_empty());
    }

    #[test]
    fn ranks_are_an_order_of_all_who_stay_and_differ_by_epoch() {
        let mut rng = ChaCha20Rng::seed_from_u64(3);
        let mut members = three(&mut rng);
        let mut orders = std::collections::BTreeSet::new();
        for _ in 0..6 {
            let row = row(Vec::new());
            let ranks: Vec<_> = members
                .iter()
                .map(|member| rank(&member.group, &row))
                .collect();
            let mut sorted = ranks.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 1, 2]);
            orders.insert(ranks);
            let alice = &mut members[0];
            let mut ctx = world(&mut rng);
            let commit = alice.group.commit();
            let pending = commit
                .build(&mut alice.keys, &alice.signer, &mut ctx)
                .unwrap();
            (alice.group, alice.keys) = (pending.group, pending.keys);
            hear(&mut members, 0, &pending.message, &mut rng);
        }
        assert!(orders.len() > 1);
        // Who leaves takes no turn.
        let first = members
            .iter()
            .position(|member| rank(&member.group, &row(Vec::new())) == 0);
        let first = first.unwrap();
        let node = members[first].group.own_leaf();
        let leaving = vec![Leaver {
            leaf: members[first].group.own_index(),
            signature_key: node.signature_key.to_vec().into(),
        }];
        let row = row(leaving);
        let others = (0..3).filter(|at| *at != first);
        let mut ranks: Vec<_> = others.map(|at| rank(&members[at].group, &row)).collect();
        ranks.sort_unstable();
        assert_eq!(ranks, [0, 1]);
    }
}
