//! What must hold when everything is quiet.

use std::collections::{BTreeMap, BTreeSet};

use folkmoot_client::logic::Intent;
use folkmoot_client::store::{Store, StoreError, Table};
use folkmoot_client::views::{self, Conversation};
use folkmoot_client::{Error, HistoryEntry, Message, Standing, What};
use folkmoot_credential::UserId;
use folkmoot_mls::records::RecordKind;
use folkmoot_protocol::ids::LogId;

use super::network::World;
use super::observer::{APPLICATION, COMMIT, Log};
use super::{Rule, Violation, broken, name};
use crate::PersonId;

/// Checks everything.
pub(super) fn check(world: &mut World) -> Result<(), Violation> {
    let logs: Vec<LogId> = world.observer.logs.keys().copied().collect();
    let people = world.devices.len();
    let mut told = Vec::new();
    for log in logs {
        let seen: Vec<Option<Seen>> = (0..people).map(|who| see(world, who, log)).collect();
        let known = &world.observer.logs[&log];
        one_order(log, known)?;
        let story = Story::of(known, &seen)?;
        story.boundaries(known)?;
        story.agreement(&seen)?;
        story.delivery(known, &seen)?;
        told.push((log, story));
    }
    wishes(world, &told)?;
    leftovers(world)
}

/// A conversation as one person has it.
struct Seen {
    conversation: Conversation,
    members: BTreeSet<String>,
    history: Vec<HistoryEntry>,
}

fn see(world: &mut World, who: PersonId, log: LogId) -> Option<Seen> {
    let conversation = world
        .conversations(who)
        .into_iter()
        .find(|known| known.log == log)?;
    let store = &mut world.sim.people[who].store;
    let members = store.transaction(|tx| views::members(tx, log));
    let history = store.transaction(|tx| views::history(tx, log, None));
    Some(Seen {
        conversation,
        members: members.map_or_else(
            |_| BTreeSet::new(),
            |members| {
                let names = members.members.into_iter();
                names.map(|member| member.user.name.to_string()).collect()
            },
        ),
        history: history.ok()?,
    })
}

/// One commit after each parent, each entry once, on the chain that was signed.
fn one_order(log: LogId, known: &Log) -> Result<(), Violation> {
    let mut parents = BTreeSet::new();
    let mut ids = BTreeSet::new();
    let Some(mut chain) = known.heads.get(&0).copied() else {
        return broken(Rule::OneOrder, "the log has no beginning");
    };
    let mut time = 0;
    for (expected, (sequence, entry)) in (1..).zip(&known.entries) {
        if *sequence != expected {
            return broken(Rule::Durable, format!("entry {expected} is gone"));
        }
        if !ids.insert(entry.id) {
            return broken(Rule::OneOrder, format!("entry {sequence} was there before"));
        }
        if entry.append.content_type == COMMIT && !parents.insert(entry.append.parent) {
            let what = format!("entry {sequence} is a second commit after its parent");
            return broken(Rule::OneOrder, what);
        }
        if entry.time < time {
            return broken(
                Rule::OneOrder,
                format!("entry {sequence} runs back in time"),
            );
        }
        time = entry.time;
        chain = chain.next(log, *sequence, entry.time, entry.id);
        if known.heads.get(sequence).is_some_and(|head| *head != chain) {
            let what = format!("the head signed for {sequence} is not that of the log");
            return broken(Rule::Durable, what);
        }
    }
    let (last, shown) = (known.heads.keys().last(), known.entries.keys().last());
    if last.copied().unwrap_or(0) > shown.copied().unwrap_or(0) {
        let what = format!("a head is signed for {last:?}; the last entry is {shown:?}");
        return broken(Rule::Durable, what);
    }
    Ok(())
}

/// What happened in a conversation, out of what all who took part tell.
#[derive(Default)]
struct Story {
    commits: BTreeMap<u64, Done>,
    messages: BTreeMap<u64, Message>,
    /// By name: from which sequence on, until which.
    memberships: BTreeMap<String, Vec<(u64, Option<u64>)>>,
    /// Those who went when everybody wanted to leave, so that nobody was left to commit it.
    closed: BTreeSet<String>,
    /// Whether anybody left: commits carry that out beside what they are made for.
    left: bool,
}

/// What a commit did.
#[derive(Default, PartialEq, Debug)]
struct Done {
    by: String,
    added: BTreeSet<String>,
    removed: BTreeSet<String>,
}

impl Story {
    fn of(known: &Log, seen: &[Option<Seen>]) -> Result<Self, Violation> {
        let mut story = Self::default();
        let mut founder = None;
        for (who, seen) in seen.iter().enumerate() {
            let Some(seen) = seen else { continue };
            for entry in &seen.history {
                story.line(who, entry, &mut founder)?;
            }
        }
        let Some(founder) = founder else {
            return broken(Rule::Agreement, "nobody remembers the beginning");
        };
        story.memberships.insert(founder, vec![(0, None)]);
        for (sequence, entry) in &known.entries {
            if entry.append.content_type != COMMIT {
                continue;
            }
            let Some(done) = story.commits.get(sequence) else {
                return broken(Rule::Delivery, format!("nobody knows of commit {sequence}"));
            };
            for user in &done.removed {
                let last = story.memberships.get_mut(user).and_then(|of| of.last_mut());
                match last {
                    Some((_, until @ None)) => *until = Some(*sequence),
                    _ => return broken(Rule::Agreement, format!("{user} is removed twice")),
                }
            }
            for user in &done.added {
                let of = story.memberships.entry(user.clone()).or_default();
                if matches!(of.last(), Some((_, None))) {
                    return broken(Rule::Agreement, format!("{user} is added twice"));
                }
                of.push((*sequence, None));
            }
        }
        story.close(seen)?;
        story.never_joined(seen);
        Ok(story)
    }

    fn line(
        &mut self,
        who: PersonId,
        entry: &HistoryEntry,
        founder: &mut Option<String>,
    ) -> Result<(), Violation> {
        let sequence = entry.sequence;
        match &entry.what {
            What::Created(founded) => *founder = Some(founded.by.name.to_string()),
            What::Joined(change) | What::Added(change) => {
                self.commit(who, sequence, &change.by)?
                    .added
                    .insert(change.user.name.to_string());
            }
            What::Removed(change) => {
                self.commit(who, sequence, &change.by)?
                    .removed
                    .insert(change.user.name.to_string());
            }
            // Of their own leave people tell also if nobody was left to commit it.
            What::Left(left) if left.by.name.as_str() != name(who) => {
                let user = left.by.name.to_string();
                self.left = true;
                self.commits
                    .entry(sequence)
                    .or_default()
                    .removed
                    .insert(user);
            }
            What::Updated(update) => {
                self.commit(who, sequence, &update.by)?;
            }
            What::Message(message) => {
                let mut message = message.clone();
                message.own = false;
                let before = self.messages.insert(sequence, message.clone());
                if before.is_some_and(|before| before != message) {
                    let what = format!("{} reads another message at {sequence}", name(who));
                    return broken(Rule::Agreement, what);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Who has gone because all did.
    fn close(&mut self, seen: &[Option<Seen>]) -> Result<(), Violation> {
        let members = self.members();
        for (who, seen) in seen.iter().enumerate() {
            let Some(seen) = seen else { continue };
            let user = name(who);
            if seen.conversation.standing == Standing::Left && members.contains(user) {
                let last = self.memberships.get_mut(user).and_then(|of| of.last_mut());
                if let Some((_, until)) = last {
                    *until = Some(seen.conversation.sequence);
                }
                self.closed.insert(user.to_owned());
            }
        }
        if self.closed.is_empty() || self.members().is_empty() {
            Ok(())
        } else {
            let what = format!("{:?} went, {:?} stay", self.closed, self.members());
            broken(Rule::Agreement, what)
        }
    }

    /// Whoever was removed before it came to join has read nothing of that membership.
    fn never_joined(&mut self, seen: &[Option<Seen>]) {
        for (who, seen) in seen.iter().enumerate() {
            let Some(of) = self.memberships.get_mut(name(who)) else {
                continue;
            };
            let lines: Vec<_> = seen.iter().flat_map(|seen| &seen.history).collect();
            let joined = |at: u64| {
                lines.iter().any(|line| {
                    let is_join = matches!(line.what, What::Joined(_) | What::Created(_));
                    line.sequence == at && is_join
                })
            };
            of.retain(|(from, until)| until.is_none() || joined(*from));
        }
    }

    /// A commit that somebody tells of.
    fn commit(&mut self, who: PersonId, at: u64, by: &UserId) -> Result<&mut Done, Violation> {
        let done = self.commits.entry(at).or_default();
        let by = by.name.as_str();
        if !done.by.is_empty() && done.by != by {
            let what = format!("{} has another author of commit {at}", name(who));
            return broken(Rule::Agreement, what);
        }
        done.by = by.to_owned();
        Ok(done)
    }

    fn members(&self) -> BTreeSet<String> {
        let now = |of: &Vec<(u64, Option<u64>)>| matches!(of.last(), Some((_, None)));
        let members = self.memberships.iter().filter(|(_, of)| now(of));
        members.map(|(user, _)| user.clone()).collect()
    }

    /// Whether somebody may be given an entry, and the epoch from which on it can read.
    fn may_see(&self, user: &str, sequence: u64) -> Option<u64> {
        let of = self.memberships.get(user)?;
        let inside = |(from, until): &&(u64, Option<u64>)| {
            *from < sequence && until.is_none_or(|until| sequence <= until)
        };
        of.iter().find(inside).map(|(from, _)| *from)
    }

    /// Nobody was given anything from outside its membership.
    fn boundaries(&self, known: &Log) -> Result<(), Violation> {
        for (who, sequence) in &known.given {
            if self.may_see(name(*who), *sequence).is_none() {
                let what = format!("{} is given entry {sequence}", name(*who));
                return broken(Rule::Boundary, what);
            }
        }
        Ok(())
    }

    /// All who are members know it, and see the same.
    fn agreement(&self, seen: &[Option<Seen>]) -> Result<(), Violation> {
        let members = self.members();
        let mut first: Option<(PersonId, &Conversation)> = None;
        for (who, seen) in seen.iter().enumerate() {
            let is_member = members.contains(name(who));
            let Some(seen) = seen else {
                if is_member {
                    return broken(Rule::Agreement, format!("{} is a ghost", name(who)));
                }
                continue;
            };
            let conversation = &seen.conversation;
            let out = matches!(conversation.standing, Standing::Removed | Standing::Left);
            let fits = match is_member {
                true => conversation.standing == Standing::Member && !conversation.leaving,
                false => out,
            };
            if !fits {
                let what = format!("{} is {:?}", name(who), conversation.standing);
                return broken(Rule::Agreement, what);
            }
            if !is_member {
                continue;
            }
            if seen.members != members {
                let what = format!("{} has members {:?}", name(who), seen.members);
                return broken(Rule::Agreement, format!("{what}, not {members:?}"));
            }
            match first {
                None => first = Some((who, conversation)),
                Some((other, theirs)) => {
                    let state = |known: &Conversation| {
                        let authenticator = known.epoch_authenticator.clone();
                        (known.epoch, known.sequence, authenticator)
                    };
                    if state(theirs) != state(conversation) {
                        let what = format!("{} and {} differ", name(who), name(other));
                        return broken(Rule::Agreement, what);
                    }
                }
            }
        }
        Ok(())
    }

    /// Everyone reads what was said while it was a member: all of it, once, in order.
    fn delivery(&self, known: &Log, seen: &[Option<Seen>]) -> Result<(), Violation> {
        for (who, seen) in seen.iter().enumerate() {
            let read: Vec<u64> = seen
                .iter()
                .flat_map(|seen| &seen.history)
                .filter(|entry| matches!(entry.what, What::Message(_)))
                .map(|entry| entry.sequence)
                .collect();
            let mut said = Vec::new();
            for (sequence, entry) in &known.entries {
                if entry.append.content_type != APPLICATION {
                    continue;
                }
                let Some(from) = self.may_see(name(who), *sequence) else {
                    continue;
                };
                // What was written before somebody joined stays closed to it, also if it came late.
                let epoch = known.entries.get(&from).map_or(0, |e| e.append.epoch + 1);
                if entry.append.epoch >= epoch {
                    said.push(*sequence);
                }
            }
            if read != said {
                let what = format!("{} reads {read:?}; said was {said:?}", name(who));
                return broken(Rule::Delivery, what);
            }
        }
        let ids: BTreeSet<_> = self.messages.values().map(|message| message.id.0).collect();
        if ids.len() != self.messages.len() {
            return broken(Rule::Delivery, "a message is there twice");
        }
        Ok(())
    }
}

/// What was wished was done once, or given up; and nothing was done that nobody wished.
fn wishes(world: &World, told: &[(LogId, Story)]) -> Result<(), Violation> {
    let mut said: BTreeMap<(LogId, &str, &[u8]), u32> = BTreeMap::new();
    let mut acts: BTreeMap<(LogId, &str, Act), u32> = BTreeMap::new();
    for (log, story) in told {
        for message in story.messages.values() {
            let sender = message.sender.name.as_str();
            *said.entry((*log, sender, &message.content)).or_default() += 1;
        }
        for done in story.commits.values() {
            let act = match (done.added.is_empty(), done.removed.is_empty()) {
                (true, true) => Act::Update,
                (false, _) => Act::Add,
                (true, false) => Act::Remove,
            };
            *acts.entry((*log, &done.by, act)).or_default() += 1;
        }
    }
    let mut updates: BTreeMap<(LogId, &str), u32> = BTreeMap::new();
    for ((who, intent), wish) in &world.observer.wishes {
        let Some(outcome) = &wish.outcome else {
            let what = format!("{}'s {:?} is lost", name(*who), wish.intent);
            return broken(Rule::Wishes, what);
        };
        let reason = outcome.as_ref().err();
        let fair = matches!(
            reason,
            None | Some(
                Error::NoLongerMember(_)
                    | Error::AlreadyMember(_)
                    | Error::NotMember(_)
                    | Error::Left(_)
                    | Error::Leaving(_)
                    | Error::UnknownUser(_)
                    | Error::NoPackage(_)
            )
        );
        if !fair {
            let what = format!("{}'s {:?} is given up: {reason:?}", name(*who), wish.intent);
            return broken(Rule::Wishes, what);
        }
        let times = match &wish.intent {
            Intent::Send { log, content, .. } => {
                said.remove(&(*log, name(*who), content)).unwrap_or(0)
            }
            Intent::Update { log } => {
                *updates.entry((*log, name(*who))).or_default() += u32::from(outcome.is_ok());
                continue;
            }
            _ => continue,
        };
        if times != u32::from(outcome.is_ok()) {
            let what = format!("{}'s {intent:?} was done {times} times", name(*who));
            return broken(Rule::Wishes, format!("{what}, told {outcome:?}"));
        }
    }
    if let Some(((_, sender, content), _)) = said.first_key_value() {
        let content = String::from_utf8_lossy(content);
        return broken(Rule::Wishes, format!("{sender} did not say {content}"));
    }
    for (log, by) in updates.keys() {
        acts.entry((*log, by, Act::Update)).or_default();
    }
    for ((log, by, act), times) in &acts {
        let wished = updates.get(&(*log, by)).copied().unwrap_or(0);
        let left = told.iter().any(|(of, story)| of == log && story.left);
        let fits = *times == wished || (left && *times < wished);
        if *act == Act::Update && !fits {
            let what = format!("{by} renewed its keys {times} times, wished {wished}");
            return broken(Rule::Wishes, what);
        }
    }
    Ok(())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Act {
    Add,
    Remove,
    Update,
}

/// Nothing that was used is left.
fn leftovers(world: &mut World) -> Result<(), Violation> {
    for who in 0..world.devices.len() {
        let conversations = world.conversations(who);
        let active = conversations
            .iter()
            .filter(|known| known.standing == Standing::Member)
            .count();
        for (table, most) in [
            (Table::Outbox, 0),
            (Table::Attempts, 0),
            (Table::Targets, 0),
            (Table::Commits, 0),
            (Table::Chunks, 0),
            (Table::Evidence, 0),
            (Table::Fences, active),
        ] {
            let rows = world.sim.count(who, table);
            if rows > most {
                let what = format!("{} has {rows} rows of {}", name(who), table.name());
                return broken(Rule::Leftovers, what);
            }
        }
        // Of epochs that are over for long no message key is left.
        let epochs = world.sim.people[who]
            .store
            .transaction::<_, StoreError>(|tx| tx.scan(Table::Records, &[], None, usize::MAX))
            .unwrap_or_default()
            .into_iter()
            .filter(|(key, _)| key.get(LOG_ID) == Some(&(RecordKind::MessageKeys as u8)))
            .count();
        if epochs > active {
            let what = format!("{} has message keys of {epochs} epochs", name(who));
            return broken(Rule::Leftovers, what);
        }
    }
    Ok(())
}

/// How long a log's id is, in bytes: a record's key begins with it.
const LOG_ID: usize = 32;
