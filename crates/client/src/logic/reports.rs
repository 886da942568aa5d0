//! Members for whom alone a commit did not open, although all that is shared was in order. Such a member cannot
//! prove it, and does not contest. It knocks at the group's own door, if there is one, and is added again; then
//! it says which commit it was. What one says may be a broken device or a lie; when two people say it of one
//! commit, whoever made that commit is removed by the next one, which is due by rank.

use folkmoot_credential::{UserId, Version};
use folkmoot_mls::codec::Decode;
use folkmoot_mls::group::Group;
use folkmoot_mls::tls_struct;
use folkmoot_mls::tree_math::LeafIndex;
use folkmoot_protocol::VERSION;
use folkmoot_protocol::door::{DoorKeys, Link};
use folkmoot_protocol::ids::{EntryId, LogId};
use folkmoot_protocol::plaintext::Plaintext;

use super::Step;
use super::chain::Place;
use super::contests::leaver;
use super::groups::member;
use super::proposals::is_at;
use super::rows::{self, ConversationRow, DoorStage, FollowedRow, SendWish, followed_key};
use crate::error::Error;
use crate::history::{Unopened, What};
use crate::sabotage::{Guard, stands};
use crate::store::Table;

/// The media type of a report. Nobody is shown it as a message.
const REPORT: &str = "application/vnd.folkmoot.unopened";

/// So many people have to say it.
const ENOUGH: usize = 2;

/// For so many epochs it is remembered who made which commit.
const REMEMBERED: u64 = 1000;

tls_struct! {
    /// What somebody says who was cut off.
    struct Report {
        version: Version,
        /// The epoch that the commit made.
        epoch: u64,
        commit: EntryId,
    }
}

/// Whether a message is no message to people.
pub(super) fn is_report(wish: &SendWish) -> bool {
    wish.media_type.0 == REPORT
}

impl Step<'_> {
    /// A commit of somebody else's was followed: it is remembered whose it was.
    pub(super) fn remember_author(
        &mut self,
        row: &ConversationRow,
        before: &Group,
        author: LeafIndex,
    ) -> Result<(), Error> {
        if let Some(author) = leaver(before, author) {
            let followed = FollowedRow {
                version: Version,
                commit: row.tip,
                author,
                unopened: Vec::new(),
            };
            let key = followed_key(row.log, row.epoch);
            rows::put(self.tx, Table::Followed, &key, &followed)?;
        }
        if let Some(old) = row.epoch.checked_sub(REMEMBERED) {
            self.tx
                .delete(Table::Followed, &followed_key(row.log, old))?;
        }
        Ok(())
    }

    /// Takes a report down, if it is one: then nobody is shown a message.
    pub(super) fn hear_report(
        &mut self,
        row: &mut ConversationRow,
        group: &Group,
        plaintext: &Plaintext,
        by: Option<&UserId>,
        place: Place,
    ) -> Result<bool, Error> {
        if plaintext.media_type != REPORT {
            return Ok(false);
        }
        if let Some(by) = by {
            self.take_report_down(row, group, &plaintext.content, by, place)?;
        }
        Ok(true)
    }

    /// Takes down what somebody reports, and shows it.
    pub(super) fn take_report_down(
        &mut self,
        row: &mut ConversationRow,
        group: &Group,
        content: &[u8],
        by: &UserId,
        place: Place,
    ) -> Result<(), Error> {
        let Ok(report) = Report::from_bytes(content) else {
            return Ok(());
        };
        let key = followed_key(row.log, report.epoch);
        let followed: Option<FollowedRow> = rows::get(self.tx, Table::Followed, &key)?;
        let followed = followed
            .filter(|followed| followed.commit == report.commit && is_at(group, &followed.author));
        let mut author = None;
        if let Some(mut followed) = followed {
            author = member(group, followed.author.leaf).map(|(user, _)| user);
            let is_new = author.as_ref() != Some(by) && !followed.unopened.contains(by);
            if is_new && followed.unopened.len() < ENOUGH {
                followed.unopened.push(by.clone());
                rows::put(self.tx, Table::Followed, &key, &followed)?;
            }
            let enough = followed.unopened.len() >= ENOUGH || !stands(Guard::TwoReports);
            if enough && !row.expelled.contains(&followed.author) {
                row.expelled.push(followed.author);
                if row.cause == 0 {
                    row.cause = place.time;
                }
            }
        }
        let what = What::Unopened(Unopened {
            user: by.clone(),
            by: author,
        });
        self.write_history_at(row, place, 0, what)
    }

    /// We are in the conversation again: the others hear which commit it was.
    pub(super) fn report(
        &mut self,
        log: LogId,
        (epoch, commit): (u64, EntryId),
    ) -> Result<(), Error> {
        let report = Report {
            version: Version,
            epoch,
            commit,
        };
        Ok(self.want_said(log, REPORT, &report)?)
    }

    /// Asks at the group's own door to be added again. Where there is none, our user has to ask somebody.
    pub(super) fn knock_to_be_added_again(&mut self, row: &ConversationRow) -> Result<(), Error> {
        let Some((_, open)) = self.current_door(row.log)? else {
            return Ok(());
        };
        let door = DoorKeys::derive(&open.seed.0).door();
        if let (DoorStage::Open, Some(door)) = (open.stage, door) {
            let link = Link {
                version: VERSION,
                delivery_url: open.delivery.url,
                delivery_key: open.delivery.key,
                delivery_pin: open.delivery.pin,
                door,
            };
            self.knock_at(link, false)?;
        }
        Ok(())
    }
}
