//! A conversation's beginning: its group, and the entry that opens its log.

use folkmoot_credential::{AcceptedKeys, CREDENTIAL_TYPE, EXTENSION_TYPES, Policy, Title, Version};
use folkmoot_mls::code_point::ProtocolVersion;
use folkmoot_mls::codec::Encode;
use folkmoot_mls::extension::{Extensions, RequiredCapabilities};
use folkmoot_mls::group::{Group, GroupParameters};
use folkmoot_mls::tree_pages::TreePages;
use folkmoot_protocol::VERSION;
use folkmoot_protocol::call::Call;
use folkmoot_protocol::delivery::{OpenRequest, Receipt};
use folkmoot_protocol::ids::{ChainHash, LogId};
use folkmoot_protocol::log::{Open, SignedHead};
use folkmoot_protocol::proof::Method;

use super::groups::{Held, context, derive_fence};
use super::rows::{self, ConversationRow};
use super::session::{Asked, Task};
use super::shelf::{SUITE, leaf_parameters};
use super::{Ask, Event, Standing, Step, address};
use crate::error::{BadService, Error};
use crate::history::{Founded, What};
use crate::store::Table;

impl Step<'_> {
    pub(super) fn new_conversation(&mut self, title: &str, users: &[String]) -> Result<(), Error> {
        let account = self.account()?;
        let title = Title::new(title)
            .filter(|title| !title.as_str().is_empty())
            .ok_or(Error::InvalidTitle)?;
        let users = if users.is_empty() {
            Vec::new()
        } else {
            self.users(users)?
        };
        let rows: Vec<(_, ConversationRow)> = rows::scan(self.tx, Table::Conversations, &[])?;
        if rows.iter().any(|(_, row)| *row.title == *title.as_str()) {
            return Err(Error::TitleTaken(title.as_str().to_owned()));
        }
        let mut log = LogId([0; 32]);
        self.rng.fill_bytes(&mut log.0);
        let domain = account.user.domain.clone();
        let extensions = Extensions::default()
            .with(&RequiredCapabilities {
                extension_types: EXTENSION_TYPES.to_vec(),
                proposal_types: Vec::new(),
                credential_types: vec![CREDENTIAL_TYPE],
            })
            .with(&AcceptedKeys::of(domain, account.authentication.key))
            .with(&Policy::default())
            .with(&title);
        let parameters = GroupParameters {
            version: ProtocolVersion::MLS10,
            cipher_suite: SUITE,
            group_id: log.0.into(),
            extensions,
        };
        let leaf = leaf_parameters(&account)?;
        let mut ctx = context(self.now / 1000, self.rng);
        let created = Group::create(&mut ctx, parameters, &account.signer(), leaf)?;
        let (group, mut keys, mut changes) = (created.group, created.keys, created.changes);
        let (fence, exported) = derive_fence(&mut keys)?;
        changes.append(exported);
        let begun = TreePages::begin(&group);
        changes.append(begun.changes);
        self.apply(log, &changes)?;
        self.put_fence(log, 0, &fence)?;
        let open = Open {
            version: VERSION,
            log,
            fence_key: fence.public(),
        }
        .id();
        let intent = rows::next_intent(self.tx)?;
        let mut row = ConversationRow {
            version: Version,
            changes: 0,
            log,
            standing: Standing::Opening,
            stopped: None,
            title: title.as_str().into(),
            delivery: account.delivery.clone(),
            branch: open,
            tip: open,
            epoch: 0,
            epoch_authenticator: group.epoch_authenticator().as_slice().into(),
            sequence: 0,
            chain: ChainHash::START,
            time: 0,
            epoch_time: 0,
            pages_checked: 0,
            past: Vec::new(),
            promises: Vec::new(),
            head: None,
            intent,
            leaving: Vec::new(),
            cause: 0,
            contested: None,
            offers: Vec::new(),
            expelled: Vec::new(),
        };
        self.keep(
            &mut row,
            Held {
                changes: 0,
                group,
                keys,
                past: Default::default(),
                pages: begun.pages,
            },
        )?;
        self.session.own.insert(intent);
        self.tell(Event::Started { intent });
        self.wake.push(Task::Conversation(log));
        if !users.is_empty() {
            self.put_add(log, users)?;
        }
        Ok(())
    }

    pub(super) fn ask_open(&mut self, row: &ConversationRow) -> Result<Ask, Error> {
        let fence = self.fence(row, row.epoch)?;
        let open = Open {
            version: VERSION,
            log: row.log,
            fence_key: fence.public(),
        };
        let proof = self.fence_proof(row, row.epoch, Method::Open, open.id().0.into())?;
        let request = OpenRequest {
            open: open.to_bytes(),
            fence_signature: proof,
            payment: None,
        };
        let to = address(&row.delivery);
        Ok(Ask {
            to,
            call: Call::Open(request),
            asked: Asked::Open,
        })
    }

    pub(super) fn opened(&mut self, log: LogId, receipt: &Receipt) -> Result<(), Error> {
        let mut row = rows::conversation(self.tx, log)?;
        if row.standing != Standing::Opening {
            return Ok(());
        }
        let Ok(signed) = SignedHead::read(receipt, &row.delivery.key) else {
            return self.bad_service(log, BadService::Signature(log));
        };
        let head = signed.head.clone();
        let chain = ChainHash::START.next(log, 0, head.entry_time, row.branch);
        let fits = head.log == log && head.branch == row.branch;
        if !fits || (head.sequence, head.chain) != (0, chain) {
            return self.bad_service(log, BadService::Contradiction(log));
        }
        row.standing = Standing::Member;
        row.chain = chain;
        row.time = head.entry_time;
        row.epoch_time = head.entry_time;
        row.head = Some(signed.into());
        let held = self.hold(&row)?;
        let founded = Founded {
            by: self.account()?.user,
            title: row.title.clone(),
        };
        self.write_history(&row, 0, What::Created(founded))?;
        self.put_chain(&row)?;
        self.keep(&mut row, held)?;
        // An old copy of this home gets the same receipt again: only reading tells what came since.
        self.session.reading(log).at_head = false;
        self.tell(Event::Done { intent: row.intent });
        self.wake.push(Task::Follow(log));
        self.wake_invites(log)
    }
}
