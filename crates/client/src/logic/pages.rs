//! Looking after a large group's tree pages: what the DS has lost is computed and put back.
//!
//! Every member can. Whoever has added somebody does, at most once a day, since those who were added will
//! fetch them.

use folkmoot_mls::codec::Bytes;
use folkmoot_mls::tree_pages;
use folkmoot_protocol::call::Call;
use folkmoot_protocol::delivery::{PagesRequest, PagesResponse, PutPagesRequest};
use folkmoot_protocol::ids::{LogId, PageAddress};
use folkmoot_protocol::limits;
use folkmoot_protocol::log::pages_subject;
use folkmoot_protocol::proof::Method;

use super::committing::declared;
use super::rows::{self, ConversationRow};
use super::session::Asked;
use super::{Ask, Standing, Step, address};
use crate::error::Error;
use crate::store::Table;

/// How long it is taken for granted that the pages are there, once the DS said so. The DS counts a page as
/// missing well before it goes.
const CHECK_MS: u64 = 24 * 3600 * 1000;

/// How far the pages of an epoch are looked through.
#[derive(Debug)]
pub(super) struct Repair {
    epoch: u64,
    /// Those still to be asked for.
    unknown: Vec<PageAddress>,
    /// Those that the DS lacks.
    missing: Vec<PageAddress>,
    /// How many of these are under way.
    putting: usize,
}

impl Step<'_> {
    pub(super) fn advance_repair(&mut self, log: LogId) -> Result<Option<Ask>, Error> {
        let row: Option<ConversationRow> = rows::get(self.tx, Table::Conversations, log.as_ref())?;
        let Some(mut row) = row.filter(|row| row.standing == Standing::Member) else {
            self.session.repairs.remove(&log);
            return Ok(None);
        };
        let known = self.session.repairs.remove(&log);
        let known = known.filter(|repair| repair.epoch == row.epoch);
        // What was there a day ago is there: each add costs what it changes, not a look at all pages.
        let checked = row.pages_checked;
        let is_recent = checked <= self.now && self.now < checked.saturating_add(CHECK_MS);
        if known.is_none() && is_recent {
            return Ok(None);
        }
        let held = self.hold(&row)?;
        let mut repair = known.unwrap_or_else(|| Repair {
            epoch: row.epoch,
            unknown: declared(held.pages.addresses()),
            missing: Vec::new(),
            putting: 0,
        });
        let ask = if !repair.unknown.is_empty() {
            let asked = repair.unknown.iter().rev().take(limits::PAGES_PER_CALL);
            let request = PagesRequest {
                log: log.into(),
                addresses: asked.map(|address| (*address).into()).collect(),
                missing_only: true,
            };
            Some((Call::Pages(request), Asked::Repair(false)))
        } else {
            let (mut pages, mut addresses, mut bytes) = (Vec::new(), Vec::new(), 0);
            for address in repair.missing.iter().rev().take(limits::PAGES_PER_CALL) {
                let wanted = tree_pages::PageAddress(Bytes::from(address.0));
                let page = held.pages.page(&held.group, &wanted);
                let page = page.map_err(folkmoot_mls::error::Error::from)?;
                let Some(page) = page else { break };
                bytes += page.bytes.len();
                if bytes > limits::PAGES_BYTES && !pages.is_empty() {
                    break;
                }
                addresses.push(*address);
                pages.push(page.bytes);
            }
            repair.putting = pages.len();
            let subject = pages_subject(&addresses).into();
            let proof = self.fence_proof(&row, row.epoch, Method::PutPages, subject)?;
            let request = PutPagesRequest {
                log: log.into(),
                branch: row.branch.into(),
                epoch: row.epoch,
                pages,
                fence_signature: proof,
            };
            (repair.putting > 0).then_some((Call::PutPages(request), Asked::Repair(true)))
        };
        let Some((call, asked)) = ask else {
            if repair.missing.is_empty() {
                // All of them are there.
                row.pages_checked = self.now;
            }
            self.keep(&mut row, held)?;
            return Ok(None);
        };
        self.session.held.insert(log, held);
        self.session.repairs.insert(log, repair);
        let to = address(&row.delivery);
        Ok(Some(Ask { to, call, asked }))
    }

    /// The DS says which of the pages it lacks.
    pub(super) fn pages_missing(
        &mut self,
        log: LogId,
        answer: &PagesResponse,
    ) -> Result<(), Error> {
        if let Some(repair) = self.session.repairs.get_mut(&log) {
            // All that were asked for, whatever it says, so that this comes to an end.
            let asked = repair.unknown.len().min(limits::PAGES_PER_CALL);
            let known = repair.unknown.split_off(repair.unknown.len() - asked);
            let missing: Vec<_> = answer
                .missing
                .iter()
                .filter_map(|address| PageAddress::read(address))
                .filter(|address| known.contains(address))
                .take(asked)
                .collect();
            repair.missing.extend(missing);
        }
        Ok(())
    }

    /// The DS has the pages that were put back.
    pub(super) fn pages_put(&mut self, log: LogId) {
        if let Some(repair) = self.session.repairs.get_mut(&log) {
            let left = repair.missing.len().saturating_sub(repair.putting);
            repair.missing.truncate(left);
        }
    }
}
