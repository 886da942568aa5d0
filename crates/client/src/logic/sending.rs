//! Messages, from the outbox to an entry that can be offered.

use folkmoot_mls::codec::Encode;
use folkmoot_mls::error::Error as EngineError;
use folkmoot_mls::message::MlsMessage;
use folkmoot_protocol::VERSION;
use folkmoot_protocol::log::Append;
use folkmoot_protocol::plaintext::{Plaintext, Position};

use super::offering::Parts;
use super::outbox::Built;
use super::rows::{ConversationRow, SendWish};
use super::{APPLICATION, IntentId, Step};
use crate::error::Error;

impl Step<'_> {
    /// Encrypts a message under the current epoch. The key that it uses up, and the entry, are stored
    /// together: no key is used twice, whatever happens. A message encrypted again keeps its id, so
    /// that readers drop a second one.
    pub(super) fn build_message(
        &mut self,
        mut row: ConversationRow,
        intent: IntentId,
        wish: &SendWish,
    ) -> Result<Built, Error> {
        let account = self.account()?;
        let mut held = self.hold(&row)?;
        let plaintext = Plaintext {
            id: wish.id,
            media_type: wish.media_type.0.clone(),
            position: Position {
                sequence: row.sequence,
                chain: row.chain,
            },
            content: wish.content.clone(),
        };
        let padded = plaintext.to_padded();
        let encrypted = held
            .keys
            .encrypt(&account.signer(), &[], &padded, 0, self.rng);
        let (message, changes) = match encrypted {
            Ok(encrypted) => encrypted,
            Err(error @ EngineError::RatchetExhausted) => {
                self.keep(&mut row, held)?;
                return Ok(Built::Failed(error.into()));
            }
            Err(error) => return Err(error.into()),
        };
        self.apply(row.log, &changes)?;
        let append = Append {
            version: VERSION,
            log: row.log,
            branch: row.branch,
            parent: row.tip,
            epoch: row.epoch,
            content_type: APPLICATION,
            commit: None,
            message: MlsMessage::PrivateMessage(message).to_bytes().into(),
        };
        let entry = self.offer(&row, intent, &append, Parts::default())?;
        self.keep(&mut row, held)?;
        Ok(Built::Attempt(entry))
    }
}
