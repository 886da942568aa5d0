//! From an invitation to a conversation.

use folkmoot_credential::{AcceptedKeys, DeliveryAddress, Title, UserId, Version};
use folkmoot_mls::codec::Bytes;
use folkmoot_mls::error::Error as EngineError;
use folkmoot_mls::group::{Group, JoinByPages, JoinError, Joined, JoinedByPages};
use folkmoot_mls::tree_pages::{self, PageError, TreePages};
use folkmoot_mls::welcome::Welcome;
use folkmoot_protocol::Refusal;
use folkmoot_protocol::call::Call;
use folkmoot_protocol::delivery::{PagesRequest, PagesResponse, PickUpRequest, PickUpResponse};
use folkmoot_protocol::ids::{EntryId, PickupAddress};
use folkmoot_protocol::limits;
use folkmoot_protocol::log::{Head, SignedHead};
use folkmoot_protocol::sealed::suite;

use super::committing::declared;
use super::groups::{Held, context, derive_fence, member};
use super::merging::check_rules;
use super::offering::GROUP_TABLES;
use super::rows::{self, ConversationRow, DoorStage, InvitationRow, PackageRow};
use super::session::{Asked, Task};
use super::{Ask, Event, IntentId, Standing, Step};
use crate::error::{BadService, Error};
use crate::history::{Change, Epoch, What};
use crate::store::Table;

/// How long a joiner waits, from its first poll: seven days.
const PATIENCE_MS: u64 = 7 * 24 * 3600 * 1000;

/// The first pause between polls, and the longest.
const FIRST_PAUSE_MS: u64 = 500;
const LONGEST_PAUSE_MS: u64 = 3600 * 1000;

/// A join that waits for pages of the tree. A process that ends begins it anew.
#[derive(Debug)]
pub(super) struct Joining {
    pages: JoinByPages,
    entered: Entered,
    /// Of the KeyPackage that it uses.
    reference: Bytes,
    last_resort: bool,
}

/// The entry after which a joiner reads.
#[derive(Debug)]
struct Entered {
    head: Head,
    commit: EntryId,
}

/// What an invitation has led to.
enum Join {
    /// Pages of the tree are still to come.
    Waits,
    /// There is nothing more to do.
    Over,
}

/// Where the log is that an invitation is for.
fn delivery(row: &InvitationRow) -> DeliveryAddress {
    DeliveryAddress {
        url: row.invitation.delivery_url.clone(),
        key: row.invitation.delivery_key,
        pin: row.invitation.delivery_pin.clone(),
    }
}

impl Step<'_> {
    fn invitation(&self, address: PickupAddress) -> Result<Option<InvitationRow>, Error> {
        Ok(rows::get(self.tx, Table::Invitations, address.as_ref())?)
    }

    /// The conversation that it invites to, if we have been there.
    fn known_log(&self, row: &InvitationRow) -> Result<Option<ConversationRow>, Error> {
        let log = row.invitation.log;
        Ok(rows::get(self.tx, Table::Conversations, log.as_ref())?)
    }

    pub(super) fn advance_join(&mut self, address: PickupAddress) -> Result<Option<Ask>, Error> {
        let Some(mut row) = self.invitation(address)? else {
            return Ok(None);
        };
        if let Some(joining) = self.session.joining.get(&address) {
            return Ok(Some(self.ask_pages(&row, joining)));
        }
        if row.ends == 0 {
            row.ends = self.now.saturating_add(PATIENCE_MS);
            rows::put(self.tx, Table::Invitations, address.as_ref(), &row)?;
        }
        if self.now >= row.ends {
            self.tx.delete(Table::Invitations, address.as_ref())?;
            return Ok(None);
        }
        // Whoever adds a member again has removed it before: that is to be read first.
        if self.known_log(&row)?.is_some_and(|known| is_in(&known)) || self.now < row.next {
            return Ok(None);
        }
        let request = PickUpRequest {
            log: row.invitation.log.into(),
            address: row.invitation.address.into(),
        };
        let elsewhere = self.is_elsewhere(address)?;
        // Anybody can invite to anywhere: places where nobody answers cost one wait at a time.
        if elsewhere && self.session.asks_elsewhere() {
            return Ok(None);
        }
        let to = super::address(&delivery(&row));
        Ok(Some(Ask {
            to,
            call: Call::PickUp(request),
            asked: Asked::PickUp { elsewhere },
        }))
    }

    pub(super) fn pick_up_refused(
        &mut self,
        address: PickupAddress,
        refusal: Refusal,
    ) -> Result<(), Error> {
        if refusal == Refusal::NotFound || self.is_elsewhere(address)? {
            return self.join_later(address);
        }
        self.block(Task::Join(address), refusal.into());
        Ok(())
    }

    /// Whether an invitation is to a log at another service than our own.
    fn is_elsewhere(&self, address: PickupAddress) -> Result<bool, Error> {
        let row = self.invitation(address)?;
        let own = self.account()?.delivery;
        Ok(row.is_some_and(|row| {
            let invitation = &row.invitation;
            let at = (&invitation.delivery_url, &invitation.delivery_key);
            at != (&own.url, &own.key) || invitation.delivery_pin != own.pin
        }))
    }

    /// The commit has not come yet, or what came is of no use: ask again, later each time. An
    /// invitation is no more than a claim, so that nothing that comes of it stops anything else.
    pub(super) fn join_later(&mut self, address: PickupAddress) -> Result<(), Error> {
        if let Some(mut row) = self.invitation(address)? {
            row.delay = row
                .delay
                .saturating_mul(2)
                .clamp(FIRST_PAUSE_MS, LONGEST_PAUSE_MS);
            row.next = self.now.saturating_add(row.delay);
            rows::put(self.tx, Table::Invitations, address.as_ref(), &row)?;
        }
        Ok(())
    }

    pub(super) fn picked_up(
        &mut self,
        address: PickupAddress,
        answer: &PickUpResponse,
    ) -> Result<(), Error> {
        let Some(row) = self.invitation(address)? else {
            return Ok(());
        };
        let invitation = &row.invitation;
        let receipt = answer.receipt.as_ref();
        let head = receipt.and_then(|head| SignedHead::read(head, &invitation.delivery_key).ok());
        let head = head
            .map(|signed| signed.head)
            .filter(|head| head.log == invitation.log);
        let (Some(head), Some(commit)) = (head, EntryId::read(&answer.commit)) else {
            if self.is_elsewhere(address)? {
                return self.join_later(address);
            }
            let fault = BadService::Signature(invitation.log);
            self.block(Task::Join(address), Error::BadService(fault));
            return Ok(());
        };
        let known = self.known_log(&row)?;
        // Another invitation was faster. Before this one's turn comes our removal is read.
        if let Some(known) = known
            && is_in(&known)
            && known.sequence < head.sequence
        {
            return Ok(());
        }
        // The inviter left something else there, or the DS gives something else: which is not known.
        let parts = (&answer.shared_part, &answer.own_part);
        let Ok(welcome) = invitation.open_welcome(parts.0, parts.1) else {
            return self.join_later(address);
        };
        let entry = Entered { head, commit };
        let joined = self.join(&row, &welcome, entry, &answer.root_page)?;
        self.invitation_used(&row, joined)
    }

    /// What an invitation has led to: nothing, as far as pages of the tree are still to come.
    fn invitation_used(
        &mut self,
        row: &InvitationRow,
        joined: Result<Join, String>,
    ) -> Result<(), Error> {
        let invitation = &row.invitation;
        match joined {
            Ok(Join::Waits) => return Ok(()),
            Ok(Join::Over) => {}
            // Nothing good will come of this invitation.
            Err(reason) => self.tell(Event::Uninvited {
                inviter: String::from_utf8_lossy(&invitation.inviter).into_owned(),
                reason,
            }),
        }
        self.session.joining.remove(&invitation.address);
        self.tx
            .delete(Table::Invitations, invitation.address.as_ref())?;
        Ok(())
    }

    /// Asks for the pages of the tree that are still missing.
    fn ask_pages(&self, row: &InvitationRow, joining: &Joining) -> Ask {
        let wanted = declared(joining.pages.wanted().take(limits::PAGES_PER_CALL));
        let request = PagesRequest {
            log: row.invitation.log.into(),
            addresses: wanted.into_iter().map(Into::into).collect(),
            missing_only: false,
        };
        Ask {
            to: super::address(&delivery(row)),
            call: Call::Pages(request),
            asked: Asked::Pages,
        }
    }

    /// Pages of the tree have come: each is checked on the spot.
    pub(super) fn pages_arrived(
        &mut self,
        address: PickupAddress,
        answer: &PagesResponse,
    ) -> Result<(), Error> {
        let Some(mut joining) = self.session.joining.remove(&address) else {
            return Ok(());
        };
        let Some(row) = self.invitation(address)? else {
            return Ok(());
        };
        let mut ctx = context(joining.entered.head.entry_time / 1000, self.rng);
        let mut progress = false;
        for page in &answer.pages {
            let at = tree_pages::PageAddress::of(suite(), page);
            match joining.pages.arrived(&mut ctx, &at, page) {
                Ok(()) => progress = true,
                // Of no use, and no harm.
                Err(EngineError::TreePages(
                    PageError::NotWanted(_)
                    | PageError::Repeated(_)
                    | PageError::WrongBytes(_)
                    | PageError::TooLarge { .. },
                )) => {}
                Err(error) => {
                    self.use_up(&joining.reference, joining.last_resort)?;
                    return self.invitation_used(&row, Err(error.to_string()));
                }
            }
        }
        if !progress {
            // Perhaps some member puts them back.
            return self.join_later(address);
        }
        if joining.pages.wanted().next().is_some() {
            self.session.joining.insert(address, joining);
            return Ok(());
        }
        let Joining {
            pages,
            entered,
            reference,
            last_resort,
        } = joining;
        // Another invitation was faster. Before this one's turn comes our removal is read.
        if let Some(known) = self.known_log(&row)?
            && is_in(&known)
            && known.sequence < entered.head.sequence
        {
            return Ok(());
        }
        self.use_up(&reference, last_resort)?;
        let joined = match pages.finish(&mut context(entered.head.entry_time / 1000, self.rng)) {
            Ok(JoinedByPages { joined, pages }) => {
                self.enter_group(&row, joined, pages, entered)?
            }
            Err(error) => Err(error.to_string()),
        };
        self.invitation_used(&row, joined)
    }

    /// The KeyPackage was used, whatever becomes of it.
    fn use_up(&mut self, reference: &Bytes, last_resort: bool) -> Result<(), Error> {
        if !last_resort {
            self.tx.delete(Table::Packages, reference)?;
            self.knock_answered(reference)?;
            self.session.count = true;
            self.wake.push(Task::Mailbox);
        }
        Ok(())
    }

    fn join(
        &mut self,
        row: &InvitationRow,
        welcome: &Welcome,
        entered: Entered,
        root_page: &[u8],
    ) -> Result<Result<Join, String>, Error> {
        let invitation = &row.invitation;
        let reference = welcome.secrets.first().map(|part| part.new_member.clone());
        let reference: Bytes = reference.unwrap_or_default().as_slice().into();
        let package: Option<PackageRow> = rows::get(self.tx, Table::Packages, &reference)?;
        let Some(package) = package else {
            return Ok(Err(
                "it uses a key package that is not ours, or was used".into()
            ));
        };
        let last_resort = package.last_resort;
        let mut ctx = context(entered.head.entry_time / 1000, self.rng);
        match Group::join_by_pages(&mut ctx, welcome, &package.bundle, None) {
            Ok(pages) => {
                // What the inviter signed is what the DS says that the commit declared.
                let root = pages.wanted().next().map(|root| root.0.to_vec());
                if root.as_deref() != Some(root_page) {
                    self.use_up(&reference, last_resort)?;
                    return Ok(Err("its tree is elsewhere than the commit declares".into()));
                }
                let joining = Joining {
                    pages,
                    entered,
                    reference,
                    last_resort,
                };
                self.session.joining.insert(invitation.address, joining);
                return Ok(Ok(Join::Waits));
            }
            // The Welcome holds the tree.
            Err(EngineError::Join(JoinError::MissingTree)) => {}
            Err(error @ (EngineError::DamagedRecord(_) | EngineError::RecordVersion(_))) => {
                return Err(error.into());
            }
            Err(error) => {
                self.use_up(&reference, last_resort)?;
                return Ok(Err(error.to_string()));
            }
        }
        let joined = Group::join(&mut ctx, welcome, &package.bundle, None);
        self.use_up(&reference, last_resort)?;
        match joined {
            Ok(mut joined) => {
                let begun = TreePages::begin(&joined.group);
                joined.changes.append(begun.changes);
                self.enter_group(row, joined, begun.pages, entered)
            }
            Err(error @ (EngineError::DamagedRecord(_) | EngineError::RecordVersion(_))) => {
                Err(error.into())
            }
            Err(error) => Ok(Err(error.to_string())),
        }
    }

    /// The group is there: whether it is what the invitation says, and one for us.
    fn enter_group(
        &mut self,
        row: &InvitationRow,
        joined: Joined,
        pages: TreePages,
        entered: Entered,
    ) -> Result<Result<Join, String>, Error> {
        let invitation = &row.invitation;
        let account = self.account()?;
        let Entered { head, commit } = entered;
        let before = self.known_log(row)?;
        // A log does not move: whoever was a member could else continue it elsewhere, under its name.
        if before
            .as_ref()
            .is_some_and(|before| before.delivery.key != invitation.delivery_key)
        {
            return Ok(Err("it is for a known log, at another service".into()));
        }
        // We have read on already from a later invitation, or were there when this one was made.
        if before
            .as_ref()
            .is_some_and(|before| head.sequence <= before.sequence)
        {
            return Ok(Ok(Join::Over));
        }
        // What to tell the others, if it is from a commit that we could not open that we come back.
        let unopened = before.as_ref().and_then(|before| {
            let commit = before.contested.as_ref()?.unopened?;
            Some((before.epoch.saturating_add(1), commit))
        });
        let (group, mut keys, mut changes) = (joined.group, joined.keys, joined.changes);
        let inviter = member(&group, joined.group_info.signer).map(|(user, _)| user);
        let Some(by) = inviter.filter(|user| user.to_field() == invitation.inviter) else {
            return Ok(Err("whoever signed the Welcome is not who invited".into()));
        };
        if group.group_id() != invitation.log.as_ref() {
            return Ok(Err("the Welcome is for another group".into()));
        }
        if let Err(reason) = check_rules(group.extensions()) {
            return Ok(Err(reason));
        }
        let accepted: AcceptedKeys = group.extensions().get().ok().flatten().unwrap_or_default();
        if !accepted.contains(&account.user.domain, &account.authentication.key) {
            return Ok(Err(
                "the group does not trust our authentication service".into()
            ));
        }
        let (fence, exported) = derive_fence(&mut keys)?;
        changes.append(exported);
        let stored = DeliveryAddress {
            url: invitation.delivery_url.clone(),
            key: invitation.delivery_key,
            pin: invitation.delivery_pin.clone(),
        };
        self.forget_doors(invitation.log)?;
        let delivery = stored.clone();
        let share = joined.group_info.extensions.get().ok().flatten();
        let share = share.unwrap_or_default();
        let door = self.shared_door(&group, &mut keys, &share)?;
        if let Some((seed, exported)) = door {
            changes.append(exported);
            self.put_door(Some(invitation.log), delivery, seed, DoorStage::Open, None)?;
        }
        let title: Option<Title> = group.extensions().get().ok().flatten();
        let log = invitation.log;
        let mut conversation = ConversationRow {
            version: Version,
            changes: before.map_or(0, |before| before.changes),
            log,
            standing: Standing::Member,
            stopped: None,
            title: title
                .map_or_else(|| log.to_string(), |title| title.as_str().to_owned())
                .into(),
            delivery: stored,
            branch: head.branch,
            tip: commit,
            epoch: group.epoch(),
            epoch_authenticator: group.epoch_authenticator().as_slice().into(),
            sequence: head.sequence,
            chain: head.chain,
            time: head.entry_time,
            epoch_time: head.entry_time,
            pages_checked: 0,
            past: Vec::new(),
            promises: Vec::new(),
            head: None,
            intent: IntentId::default(),
            leaving: Vec::new(),
            cause: 0,
            contested: None,
            offers: Vec::new(),
            expelled: Vec::new(),
        };
        // Of an earlier membership nothing secret is left; its history and seen ids stay.
        for table in GROUP_TABLES {
            self.tx.delete_prefix(table, log.as_ref())?;
        }
        self.tx.delete_prefix(Table::Barred, log.as_ref())?;
        self.bar_hashes(log, &share.barred)?;
        self.apply(log, &changes)?;
        self.put_fence(log, conversation.epoch, &fence)?;
        self.put_chain(&conversation)?;
        self.joined(&conversation, by, account.user)?;
        self.keep(
            &mut conversation,
            Held {
                changes: 0,
                group,
                keys,
                past: Default::default(),
                pages,
            },
        )?;
        if let Some(unopened) = unopened {
            self.report(log, unopened)?;
        }
        self.session.reading(log).wanted = true;
        self.session.reading(log).at_head = false;
        self.wake.push(Task::Conversation(log));
        Ok(Ok(Join::Over))
    }

    fn joined(&mut self, row: &ConversationRow, by: UserId, user: UserId) -> Result<(), Error> {
        self.write_history(row, 0, What::Joined(Change { by, user }))?;
        let epoch = Epoch {
            number: row.epoch,
            authenticator: row.epoch_authenticator.clone(),
        };
        self.write_history(row, 1, What::Epoch(epoch))
    }
}

/// Whether we are in a conversation, and can go on in it.
fn is_in(row: &ConversationRow) -> bool {
    row.standing == Standing::Opening || row.goes_on()
}
