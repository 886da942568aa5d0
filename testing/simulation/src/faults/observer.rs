//! Sees every durable step and every answer of a service, and remembers what must stay so.

use std::collections::{BTreeMap, BTreeSet};

use folkmoot_client::logic::{Event, Intent, IntentId};
use folkmoot_client::store::{Store, StoreError, Table, Transaction};
use folkmoot_client::{Error, What};
use folkmoot_mls::codec::Decode;
use folkmoot_mls::crypto::aws_lc::PROVIDER;
use folkmoot_mls::group::Group;
use folkmoot_mls::message::MlsMessage;
use folkmoot_mls::message_keys::MessageKeys;
use folkmoot_mls::records::{RecordKey, Records};
use folkmoot_protocol::Refusal;
use folkmoot_protocol::call::{Answer, Call};
use folkmoot_protocol::delivery::{Entry, Receipt};
use folkmoot_protocol::ids::{ChainHash, EntryId, LogId};
use folkmoot_protocol::log::{Append, Head};
use zeroize::Zeroizing;

use super::{Rule, Violation, broken, name};
use crate::{PersonId, Sim};

/// `ContentType` of RFC 9420, section 6.
pub(super) const APPLICATION: u8 = 1;
pub(super) const COMMIT: u8 = 3;

/// One key of a sender's ratchet: log, epoch, leaf, whether of the handshake ratchet, generation.
type KeyName = (LogId, u64, u32, bool, u32);

#[derive(Default)]
pub(super) struct Observer {
    pub logs: BTreeMap<LogId, Log>,
    pub wishes: BTreeMap<(PersonId, IntentId), Wish>,
    /// Wishes of the step under way that were not named yet.
    unnamed: Vec<Intent>,
    keys: BTreeMap<(LogId, u64), MessageKeys>,
    used: BTreeMap<KeyName, EntryId>,
}

/// A wish that a device has kept.
pub(super) struct Wish {
    pub intent: Intent,
    /// What came of it.
    pub outcome: Option<Result<(), Error>>,
}

/// A log, as the Delivery Service has shown and signed it.
#[derive(Default)]
pub(super) struct Log {
    pub entries: BTreeMap<u64, Shown>,
    pub heads: BTreeMap<u64, ChainHash>,
    /// Which entries whom was given.
    pub given: BTreeSet<(PersonId, u64)>,
}

/// An entry.
#[derive(Clone, PartialEq)]
pub(super) struct Shown {
    pub id: EntryId,
    pub time: u64,
    pub append: Append,
}

impl Observer {
    /// Somebody wishes something; the events that follow name it.
    pub(super) fn wished(&mut self, wish: Option<Intent>) {
        self.unnamed = match wish {
            // With whom a conversation begins is a wish of its own.
            Some(Intent::New { title, users }) if !users.is_empty() => {
                let log = LogId([0; 32]);
                let alone = Intent::New {
                    title,
                    users: Vec::new(),
                };
                vec![Intent::Add { log, users }, alone]
            }
            other => other.into_iter().collect(),
        };
    }

    /// A device tells its user something.
    pub(super) fn told(&mut self, who: PersonId, event: &Event) -> Result<(), Violation> {
        match event {
            Event::Started { intent } => {
                // What a device wishes by itself is followed too.
                let wish = self.unnamed.pop().unwrap_or(Intent::Sync);
                let wish = Wish {
                    intent: wish,
                    outcome: None,
                };
                if self.wishes.insert((who, *intent), wish).is_some() {
                    return broken(Rule::Wishes, format!("{} reuses {intent:?}", name(who)));
                }
            }
            Event::Done { intent } => return self.settled(who, *intent, Ok(())),
            Event::Failed { intent, error } => {
                return self.settled(who, *intent, Err(error.clone()));
            }
            Event::Stopped { reason, .. } => {
                return broken(Rule::Honest, format!("{} stops: {reason}", name(who)));
            }
            Event::Blocked {
                error: error @ Error::BadService(_),
            } => {
                return broken(Rule::Honest, format!("{} blames: {error}", name(who)));
            }
            Event::News { entry, .. } => {
                if let What::Unreadable(_) | What::Contradiction(_) = entry.what {
                    let (who, at) = (name(who), entry.sequence);
                    return broken(Rule::Honest, format!("{who} at {at}: {:?}", entry.what));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn settled(
        &mut self,
        who: PersonId,
        intent: IntentId,
        outcome: Result<(), Error>,
    ) -> Result<(), Violation> {
        // What a device does by itself nobody has wished.
        let Some(wish) = self.wishes.get_mut(&(who, intent)) else {
            return Ok(());
        };
        let leaves = matches!(wish.intent, Intent::Leave { .. });
        match wish.outcome.replace(outcome) {
            None => Ok(()),
            // A leave is told when it is proposed, and again when it is carried out.
            Some(Ok(())) if leaves => Ok(()),
            Some(_) => broken(
                Rule::Wishes,
                format!("{} is told twice of {intent:?}", name(who)),
            ),
        }
    }

    /// Whoever has joined has deleted the key that it joined with, unless that is its last resort.
    pub(super) fn check_packages(
        &self,
        who: PersonId,
        event: &Event,
        before: &BTreeSet<Vec<u8>>,
        sim: &mut Sim,
    ) -> Result<(), Violation> {
        let joined =
            matches!(event, Event::News { entry, .. } if matches!(entry.what, What::Joined(_)));
        if joined && before.len() > 1 && before.is_subset(&sim.package_keys(who)) {
            return broken(
                Rule::Leftovers,
                format!("{} keeps a used init key", name(who)),
            );
        }
        Ok(())
    }

    /// A device is about to ask something.
    pub(super) fn offered(
        &mut self,
        who: PersonId,
        call: &Call,
        sim: &mut Sim,
    ) -> Result<(), Violation> {
        let Call::Append(request) = call else {
            return Ok(());
        };
        let unreadable = |_| Violation {
            rule: Rule::Honest,
            what: format!("{} offers what is no entry", name(who)),
        };
        let append = Append::from_bytes(&request.append).map_err(unreadable)?;
        let Ok(MlsMessage::PrivateMessage(message)) = MlsMessage::from_bytes(&append.message)
        else {
            return broken(
                Rule::Honest,
                format!("{} offers no private message", name(who)),
            );
        };
        let (log, epoch) = (append.log, append.epoch);
        if let std::collections::btree_map::Entry::Vacant(vacant) = self.keys.entry((log, epoch)) {
            let loaded: Result<_, StoreError> = sim.people[who]
                .store
                .transaction(|tx| Ok(load_keys(tx, log, epoch)));
            match loaded {
                Ok(Some(keys)) => vacant.insert(keys),
                _ => {
                    return broken(
                        Rule::Honest,
                        format!("{} has no keys of epoch {epoch}", name(who)),
                    );
                }
            };
        }
        let Ok(sender) = self.keys[&(log, epoch)].sender(&message) else {
            return broken(
                Rule::Honest,
                format!("{} hides who it is from members", name(who)),
            );
        };
        let handshake = append.content_type != APPLICATION;
        let key = (
            log,
            epoch,
            sender.leaf_index.0,
            handshake,
            sender.generation,
        );
        let id = append.id();
        match self.used.insert(key, id) {
            Some(before) if before != id => broken(
                Rule::KeysOnce,
                format!(
                    "{} uses generation {} of epoch {epoch} twice",
                    name(who),
                    sender.generation
                ),
            ),
            _ => Ok(()),
        }
    }

    /// A service gives an answer.
    pub(super) fn answered(
        &mut self,
        who: PersonId,
        call: &Call,
        result: &Result<Answer, Refusal>,
    ) -> Result<(), Violation> {
        match (call, result) {
            (_, Ok(Answer::Open(receipt) | Answer::Append(receipt))) => self.receipt(receipt),
            (_, Ok(Answer::PickUp(answer))) => answer
                .receipt
                .iter()
                .try_for_each(|head| self.receipt(head)),
            (_, Ok(Answer::Read(answer))) => answer.batches.iter().try_for_each(|batch| {
                let Some(log) = LogId::read(&batch.log) else {
                    return broken(Rule::Honest, "a batch of no log");
                };
                batch
                    .entries
                    .iter()
                    .try_for_each(|entry| self.shown(who, log, entry))?;
                batch.head.iter().try_for_each(|head| self.receipt(head))
            }),
            (_, Err(Refusal::Conflict(_, signed))) => self.head(&signed.head),
            _ => Ok(()),
        }
    }

    fn receipt(&mut self, receipt: &Receipt) -> Result<(), Violation> {
        // Whose signature it is, devices check.
        let head: Result<Head, _> = Head::from_bytes(&receipt.head);
        match head {
            Ok(head) => self.head(&head),
            Err(_) => broken(Rule::Honest, "a receipt of nothing"),
        }
    }

    fn head(&mut self, head: &Head) -> Result<(), Violation> {
        let known = self.logs.entry(head.log).or_default();
        match known.heads.insert(head.sequence, head.chain) {
            Some(before) if before != head.chain => broken(
                Rule::Durable,
                format!("two heads are signed for entry {}", head.sequence),
            ),
            _ => Ok(()),
        }
    }

    fn shown(&mut self, who: PersonId, log: LogId, entry: &Entry) -> Result<(), Violation> {
        let Ok(append) = Append::from_bytes(&entry.content) else {
            return broken(Rule::Honest, "an entry that is none");
        };
        let shown = Shown {
            id: append.id(),
            time: entry.time,
            append,
        };
        let known = self.logs.entry(log).or_default();
        known.given.insert((who, entry.sequence));
        match known.entries.insert(entry.sequence, shown.clone()) {
            Some(before) if before != shown => broken(
                Rule::Durable,
                format!("entry {} is another than before", entry.sequence),
            ),
            _ => Ok(()),
        }
    }
}

/// The records of one group in a device's store.
struct StoredRecords<'a> {
    tx: &'a dyn Transaction,
    log: LogId,
}

impl Records for StoredRecords<'_> {
    fn get(&self, key: &RecordKey) -> Option<Zeroizing<Vec<u8>>> {
        let key = [self.log.as_ref(), key.as_slice()].concat();
        self.tx.get(Table::Records, &key).ok().flatten()
    }
}

fn load_keys(tx: &dyn Transaction, log: LogId, epoch: u64) -> Option<MessageKeys> {
    let records = StoredRecords { tx, log };
    let group = Group::load(&PROVIDER, &records).ok()?;
    group.load_keys(&PROVIDER, epoch, &records).ok()
}
