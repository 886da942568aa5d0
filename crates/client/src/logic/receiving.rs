//! Messages and proposals, as they are read.

use folkmoot_credential::UserId;
use folkmoot_mls::error::Error as EngineError;
use folkmoot_mls::framing::Sender;
use folkmoot_mls::group::{Group, Processed};
use folkmoot_mls::message::MlsMessage;
use folkmoot_mls::proposal::Proposal;
use folkmoot_mls::tree_math::LeafIndex;
use folkmoot_protocol::ids::LogId;
use folkmoot_protocol::keys::hash;
use folkmoot_protocol::log::Append;
use folkmoot_protocol::plaintext::{MessageId, Plaintext, Position};

use super::chain::Place;
use super::committers::{hear_offer, is_offer, still_offered};
use super::contests::{NOT_OURS, Whose, whose};
use super::groups::{context, member};
use super::proposals::{concerns, is_taken};
use super::reading::{Fault, Reader, blame, group_message, restored};
use super::reports::is_report;
use super::rows::{self, AttemptRow, ConversationRow, Leaver, OutboxRow, Wish};
use super::{APPLICATION, Event, PROPOSAL, Step};
use crate::error::{BadService, Error};
use crate::history::{Contradiction, Message, Unreadable, What};
use crate::store::Table;

impl Step<'_> {
    /// Applies a message or a proposal.
    pub(super) fn message(
        &mut self,
        reader: &mut Reader,
        append: &Append,
        place: Place,
    ) -> Result<Result<(), Fault>, Error> {
        let log = reader.row.log;
        let key = rows::attempt_key(log, place.id);
        if let Some(attempt) = rows::get::<AttemptRow>(self.tx, Table::Attempts, &key)? {
            self.drop_attempt(log, place.id)?;
            let key = rows::outbox_key(log, attempt.intent);
            let row: Option<OutboxRow> = rows::get(self.tx, Table::Outbox, &key)?;
            if let Some(OutboxRow {
                intent,
                wish: Wish::Send(wish),
                ..
            }) = row.clone()
            {
                if is_offer(&wish) {
                    if let Some(held) = &reader.held {
                        let offer = self.own_committer(&reader.row, &held.group)?;
                        reader.row.offers.push(offer);
                        still_offered(&held.group, &mut reader.row.offers);
                    }
                    self.settle(log, intent, Ok(()))?;
                    return Ok(Ok(()));
                }
                let account = self.account()?;
                if is_report(&wish) {
                    if let Some(held) = &reader.held {
                        let (row, user) = (&mut reader.row, &account.user);
                        self.take_report_down(row, &held.group, &wish.content, user, place)?;
                    }
                    self.settle(log, intent, Ok(()))?;
                    return Ok(Ok(()));
                }
                let message = Message {
                    sender: account.user.clone(),
                    device: account.device.0.public(),
                    own: true,
                    id: wish.id,
                    media_type: wish.media_type,
                    content: wish.content,
                };
                self.is_new(log, &account.user, wish.id)?;
                self.write_history_at(&reader.row, place, 0, What::Message(message))?;
                self.settle(log, intent, Ok(()))?;
            } else if let (Some(row), Some(held)) = (row, &reader.held) {
                self.left(&mut reader.row, &held.group, row)?;
            }
            return Ok(Ok(()));
        }
        let Some(held) = &mut reader.held else {
            return Ok(Ok(()));
        };
        if let Some(epoch) = place.late {
            self.hold_past(log, held, epoch)?;
        }
        let past = place.late.and_then(|epoch| held.past.get_mut(&epoch));
        let mut ctx = context(place.time / 1000, self.rng);
        let processed = match (group_message(&append.message), past) {
            (Ok(MlsMessage::PrivateMessage(message)), Some(keys)) => {
                keys.decrypt(&message)
                    .map(|(decrypted, changes)| Processed::Application {
                        sender: decrypted.sender,
                        authenticated_data: decrypted.authenticated_data,
                        data: decrypted.data,
                        changes,
                    })
            }
            (Ok(message), _) => held.group.process(&mut held.keys, &message, &mut ctx),
            (Err(error), _) => Err(error),
        };
        match processed {
            Ok(Processed::Application {
                sender,
                data,
                changes,
                ..
            }) if append.content_type == APPLICATION => {
                let sender = member(&held.group, sender);
                self.apply(log, &changes)?;
                if let Ok(plaintext) = Plaintext::from_padded(&data) {
                    let (row, group) = (&mut reader.row, &held.group);
                    let by = sender.as_ref().map(|(user, _)| user);
                    if hear_offer(row, group, &plaintext, place.time)
                        || self.hear_report(row, group, &plaintext, by, place)?
                    {
                        return Ok(Ok(()));
                    }
                }
                self.said(&reader.row, place, sender, &data)?;
            }
            Ok(Processed::Proposal {
                sender,
                proposal,
                group,
                changes,
                ..
            }) if append.content_type == PROPOSAL => {
                let row = &mut reader.row;
                if row.cause == 0 && concerns(&group, &proposal) {
                    row.cause = place.time;
                }
                if matches!(&proposal, Proposal::Remove(remove)
                    if sender == Sender::Member(remove.removed))
                    && let Sender::Member(leaf) = sender
                {
                    wants_to_leave(&group, &mut row.leaving, leaf);
                }
                held.group = group;
                self.apply(log, &changes)?;
                if !is_taken(&proposal) {
                    let reason = "it proposes what nobody here commits".into();
                    let what = What::Unreadable(Unreadable { reason });
                    self.write_history_at(&reader.row, place, 0, what)?;
                }
            }
            // The DS compared the header with what is declared.
            Ok(_) => return Ok(Err(Fault::Service(BadService::Order(log)))),
            Err(EngineError::OwnMessage) => {
                let past = place.late.and_then(|epoch| held.past.get(&epoch));
                let keys = past.unwrap_or(&held.keys);
                if whose(keys, append) == Whose::Ours {
                    return Ok(Err(Fault::Stop(restored())));
                }
                let reason = NOT_OURS.into();
                let what = What::Unreadable(Unreadable { reason });
                self.write_history_at(&reader.row, place, 0, what)?;
            }
            Err(error) => {
                let reason = blame(error)?.into();
                self.write_history_at(
                    &reader.row,
                    place,
                    0,
                    What::Unreadable(Unreadable { reason }),
                )?;
            }
        }
        Ok(Ok(()))
    }

    /// Our own leave is in the log. That is what was asked for; the wish stays until it is done.
    fn left(
        &mut self,
        row: &mut ConversationRow,
        group: &Group,
        mut wish: OutboxRow,
    ) -> Result<(), Error> {
        let Wish::Leave(leave) = &mut wish.wish else {
            return Ok(());
        };
        leave.proposed = true;
        (wish.attempt, wish.receipt) = (None, None);
        self.put_outbox(&wish)?;
        wants_to_leave(group, &mut row.leaving, group.own_index());
        self.tell(Event::Done {
            intent: wish.intent,
        });
        Ok(())
    }

    /// Somebody said something.
    fn said(
        &mut self,
        row: &ConversationRow,
        place: Place,
        sender: Option<(UserId, folkmoot_protocol::keys::PublicKey)>,
        data: &[u8],
    ) -> Result<(), Error> {
        let (Ok(plaintext), Some((sender, device))) = (Plaintext::from_padded(data), sender) else {
            let reason = "its content is malformed".into();
            return self.write_history_at(row, place, 0, What::Unreadable(Unreadable { reason }));
        };
        if !self.is_new(row.log, &sender, plaintext.id)? {
            return Ok(());
        }
        let agrees = self.agrees(row, &plaintext.position)?;
        let message = Message {
            sender: sender.clone(),
            device,
            own: false,
            id: plaintext.id,
            media_type: plaintext.media_type.into(),
            content: plaintext.content,
        };
        self.write_history_at(row, place, 0, What::Message(message))?;
        if !agrees {
            let sequence = plaintext.position.sequence;
            let what = What::Contradiction(Contradiction {
                with: sender,
                sequence,
            });
            self.write_history_at(row, place, 1, what)?;
        }
        Ok(())
    }

    /// Whether the user has not sent this id before; remembers it.
    fn is_new(&mut self, log: LogId, user: &UserId, id: MessageId) -> Result<bool, Error> {
        let key = [log.0, hash("user", user)].concat();
        let key = [&key[..], &id.0].concat();
        let new = self.tx.get(Table::Seen, &key)?.is_none();
        self.tx.put(Table::Seen, &key, &[])?;
        Ok(new)
    }

    /// Whether the sender saw the same log as we did. Where we have no hash we cannot tell.
    fn agrees(&self, row: &ConversationRow, position: &Position) -> Result<bool, Error> {
        if position.sequence > row.sequence {
            return Ok(false);
        }
        let ours = self.chain_at(row, position.sequence)?;
        Ok(ours.is_none_or(|ours| ours == position.chain))
    }
}

/// Remembers that a member wants to leave.
fn wants_to_leave(group: &Group, leaving: &mut Vec<Leaver>, leaf: LeafIndex) {
    let Some(node) = group.member(leaf) else {
        return;
    };
    let signature_key = node.signature_key.to_vec().into();
    let leaver = Leaver {
        leaf,
        signature_key,
    };
    if !leaving.contains(&leaver) {
        leaving.push(leaver);
    }
}
