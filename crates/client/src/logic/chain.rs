//! What the DS shows is checked whole before any of it is applied: each entry follows the one before it,
//! the chain over them leads to the head that the DS signs, and it is the chain that it has signed before.

use folkmoot_mls::codec::{Bytes, Decode};
use folkmoot_protocol::VERSION;
use folkmoot_protocol::delivery::read_response::End;
use folkmoot_protocol::delivery::{Entry, ReadResponses};
use folkmoot_protocol::ids::{ChainHash, EntryId};
use folkmoot_protocol::log::{Append, SignedHead};

use super::Step;
use super::rows::{self, ConversationRow};
use crate::error::{BadService, Error};
use crate::store::Table;

/// Where an entry stands.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub sequence: u64,
    /// The log's hash up to and including it.
    pub chain: ChainHash,
    /// Milliseconds since 1970.
    pub time: u64,
    pub id: EntryId,
}

/// A read whose entries are on the chain.
pub(super) struct Verified<'a> {
    pub entries: Vec<(&'a Entry, Append, Place)>,
    pub end: End,
}

impl Step<'_> {
    /// Checks what was read after the row's place. Where the DS contradicts its own signatures, the entry
    /// is kept as evidence.
    pub(super) fn verify<'a>(
        &mut self,
        row: &ConversationRow,
        answer: &'a ReadResponses,
    ) -> Result<Result<Verified<'a>, BadService>, Error> {
        let log = row.log;
        let batches = || answer.batches.iter().filter(|batch| batch.log == log.0);
        let Some(last) = batches().next_back() else {
            return Ok(Err(BadService::Answer));
        };
        let (mut sequence, mut chain, mut time) = (row.sequence, row.chain, row.time);
        let mut entries = Vec::new();
        for entry in batches().flat_map(|batch| &batch.entries) {
            let Ok(append) = Append::from_bytes(&entry.content) else {
                return Ok(Err(BadService::Answer));
            };
            let follows = entry.sequence == sequence.saturating_add(1) && entry.time >= time;
            let is_its = append.version == VERSION && append.log == log;
            if !follows || !is_its || append.branch != row.branch {
                return Ok(Err(BadService::Order(log)));
            }
            let id = append.id();
            (sequence, time) = (entry.sequence, entry.time);
            chain = chain.next(log, sequence, time, id);
            let mut promises = row
                .promises
                .iter()
                .filter(|promise| promise.sequence == sequence);
            if promises.any(|promise| promise.chain != chain) {
                self.put_evidence(row, entry)?;
                return Ok(Err(BadService::Contradiction(log)));
            }
            entries.push((
                entry,
                append,
                Place {
                    sequence,
                    chain,
                    time,
                    id,
                },
            ));
        }
        let end = last.end();
        if matches!(end, End::Head | End::Cut) {
            let head = last.head.as_ref();
            let head = head.and_then(|head| SignedHead::read(head, &row.delivery.key).ok());
            let Some(head) = head
                .map(|signed| signed.head)
                .filter(|head| head.log == log)
            else {
                return Ok(Err(BadService::Signature(log)));
            };
            if (head.branch, head.sequence, head.chain) != (row.branch, sequence, chain) {
                return Ok(Err(BadService::Contradiction(log)));
            }
        }
        Ok(Ok(Verified { entries, end }))
    }

    /// Keeps an entry that nobody should have written, or shown.
    pub(super) fn put_evidence(
        &mut self,
        row: &ConversationRow,
        entry: &Entry,
    ) -> Result<(), Error> {
        let key = rows::chain_key(row.log, entry.sequence);
        let content = Bytes::from(entry.content.as_slice());
        let evidence = (
            entry.time,
            (content, Bytes::from(entry.fence_signature.as_slice())),
        );
        rows::put(self.tx, Table::Evidence, &key, &evidence)?;
        Ok(())
    }
}
