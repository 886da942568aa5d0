//! Who cannot be added is left out: the others are added all the same. Why is a line of the history. Who is
//! to be added alone is told as an error instead, and so is the last of all.

use folkmoot_credential::UserId;
use folkmoot_mls::codec::Decode;
use folkmoot_mls::extension::Extensions;
use folkmoot_mls::group::Group;
use folkmoot_mls::key_package::KeyPackage;
use folkmoot_mls::message::MlsMessage;
use folkmoot_protocol::ids::LogId;
use folkmoot_protocol::keys::PublicKey;

use super::groups::context;
use super::heads::LAST_PART;
use super::rows::{self, AddWish, OutboxRow, Target, TargetDevice};
use super::session::{Asked, Task};
use super::{IntentId, Step};
use crate::error::{BadPackage, Error};
use crate::history::{HistoryEntry, LeftOut, What};
use crate::store::Table;

/// Devices that cannot be added, and why.
pub(super) type Faults = Vec<(PublicKey, Error)>;

/// A target's log, intent and number.
pub(super) type TargetPlace = (LogId, IntentId, u32);

/// So many times in a row a service may put off those who are left: some 16 seconds.
pub(super) const PATIENCE: u32 = 6;

/// What a service of those who are to be added is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Their KeyPackages.
    Take,
    /// To keep invitations for them.
    Drop,
}

impl Part {
    fn is_due(self, device: &TargetDevice) -> bool {
        match self {
            Self::Take => device.package.is_empty(),
            Self::Drop => !device.dropped,
        }
    }
}

impl Step<'_> {
    /// Leaves a user out. Returns whether anybody is left: else the wish has failed.
    pub(super) fn leave_out(
        &mut self,
        (log, intent, number): TargetPlace,
        wish: &mut AddWish,
        mut target: Target,
        error: Error,
    ) -> Result<bool, Error> {
        if target.left_out {
            return Ok(true);
        }
        wish.left_out += 1;
        if wish.targets > 1 {
            self.tell_left_out(log, &target.user, None, &error)?;
        }
        if wish.left_out >= wish.targets {
            self.settle(log, intent, Err(error))?;
            return Ok(false);
        }
        target.left_out = true;
        target.devices.clear();
        self.put_target(log, intent, number, &target)?;
        Ok(true)
    }

    /// Stores a target, from which devices were taken that cannot be added: if none are left, the user is
    /// left out. Returns as [`Step::leave_out`].
    pub(super) fn without(
        &mut self,
        (log, intent, number): TargetPlace,
        wish: &mut AddWish,
        target: Target,
        faults: Faults,
    ) -> Result<bool, Error> {
        if target.devices.is_empty() && !target.left_out {
            // What is wrong says more than that nothing is there.
            let mut errors = faults.into_iter().map(|(_, error)| error);
            let error = errors.find(|error| !matches!(error, Error::NoPackage(_)));
            let error = error.unwrap_or_else(|| Error::NoPackage(target.user.clone()));
            return self.leave_out((log, intent, number), wish, target, error);
        }
        for (device, error) in faults {
            self.tell_left_out(log, &target.user, Some(device), &error)?;
        }
        self.put_target(log, intent, number, &target)?;
        Ok(true)
    }

    /// Writes a line of it where the conversation stands.
    fn tell_left_out(
        &mut self,
        log: LogId,
        user: &UserId,
        device: Option<PublicKey>,
        error: &Error,
    ) -> Result<(), Error> {
        let row = rows::conversation(self.tx, log)?;
        let here = (log, row.sequence);
        let last = self.tx.last(Table::History, log.as_ref())?;
        let last = last.map(|(_, line)| rows::decode::<HistoryEntry>(Table::History, &line));
        let mut last = last.transpose()?.filter(|last| last.sequence == here.1);
        if last.as_ref().is_some_and(|last| last.part == LAST_PART) {
            let prefix = folkmoot_mls::codec::Encode::to_bytes(&here);
            let lines = rows::scan::<HistoryEntry>(self.tx, Table::History, &prefix)?;
            last = lines.into_iter().rev().nth(1).map(|(_, line)| line);
        }
        let part = last.map_or(0, |last| last.part.saturating_add(1));
        let what = What::LeftOut(LeftOut {
            user: user.clone(),
            device,
            reason: error.to_string().into(),
        });
        self.write_history(&row, part.min(LAST_PART - 1), what)
    }

    /// Passes by those for whom there is nothing to be done.
    pub(super) fn pass_by(&mut self, row: &OutboxRow, wish: &mut AddWish) -> Result<(), Error> {
        let (log, intent, before) = (row.log, row.intent, wish.clone());
        while wish.looked_up < wish.targets && self.target(log, intent, wish.looked_up)?.left_out {
            wish.looked_up += 1;
        }
        let done = |step: &Self, number, part: Part| -> Result<bool, Error> {
            let target = step.target(log, intent, number)?;
            Ok(!target.devices.iter().any(|device| part.is_due(device)))
        };
        while wish.taken < wish.looked_up && done(self, wish.taken, Part::Take)? {
            wish.taken += 1;
        }
        while wish.invited < wish.taken && done(self, wish.invited, Part::Drop)? {
            wish.invited += 1;
        }
        let counted = |wish: &AddWish| (wish.looked_up, wish.taken, wish.invited);
        if counted(&before) != counted(wish) {
            self.put_wish(row, wish)?;
        }
        Ok(())
    }

    /// A service has answered nothing to what it was asked: it is asked once more, since another process
    /// may have heard the answer; then those are left out.
    pub(super) fn nothing_came(
        &mut self,
        log: LogId,
        intent: IntentId,
        asked: (u32, u32),
        part: Part,
        fault: Error,
    ) -> Result<(), Error> {
        let task = Task::Invite(log, intent);
        if self.session.fruitless.insert(task, 1).is_none() {
            return Ok(());
        }
        if !self.service_failed(log, intent, asked, part, &fault)? {
            self.block(task, fault);
        }
        Ok(())
    }

    /// A service does not do its part. If it does for others, or is not our own, those who were asked for
    /// are left out. Returns whether they are; else nothing can be done without it.
    pub(super) fn service_failed(
        &mut self,
        log: LogId,
        intent: IntentId,
        (from, count): (u32, u32),
        part: Part,
        error: &Error,
    ) -> Result<bool, Error> {
        let Some((row, mut wish)) = self.add_wish(log, intent)? else {
            return Ok(true);
        };
        let end = from.saturating_add(count).min(wish.targets);
        let mut service = None;
        for number in from..end {
            let target = self.target(log, intent, number)?;
            let mut due = target.devices.iter().filter(|device| part.is_due(device));
            service = service.or(due.next().map(|device| device.delivery.clone()));
        }
        let Some(service) = service else {
            return Ok(false);
        };
        let own = self.account()?.delivery.key == service.key;
        let is_over = |number: u32, device: &TargetDevice| {
            let asked = (from..end).contains(&number) || !own;
            asked && part.is_due(device) && device.delivery == service
        };
        let mut others = false;
        for number in 0..wish.targets {
            let target = self.target(log, intent, number)?;
            let mut devices = target.devices.iter();
            others |= devices.any(|it| !is_over(number, it) && (!own || !part.is_due(it)));
        }
        if !others {
            return Ok(false);
        }
        for number in 0..wish.targets {
            let mut target = self.target(log, intent, number)?;
            let over = target.devices.iter().filter(|it| is_over(number, it));
            let faults: Faults = over.map(|it| (it.device, error.clone())).collect();
            if !faults.is_empty() {
                target.devices.retain(|it| !is_over(number, it));
                if !self.without((log, intent, number), &mut wish, target, faults)? {
                    return Ok(true);
                }
            }
        }
        wish.taking = 0;
        self.session.fruitless.remove(&Task::Invite(log, intent));
        self.put_wish(&row, &wish)?;
        Ok(true)
    }

    /// A call to a service of those who are to be added has failed: for good, or just now.
    pub(super) fn invite_failed(
        &mut self,
        log: LogId,
        intent: IntentId,
        asked: &Asked,
        error: Error,
        for_good: bool,
    ) -> Result<(), Error> {
        let failed = match *asked {
            Asked::Take(from, count) => Some(((from, count), Part::Take)),
            Asked::Drop(from, count) => Some(((from, count), Part::Drop)),
            _ => None,
        };
        if let Some((asked, part)) = failed
            && self.service_failed(log, intent, asked, part, &error)?
        {
            self.wake.push(Task::Invite(log, intent));
            return Ok(());
        }
        if for_good {
            return self.settle(log, intent, Err(error));
        }
        self.block(Task::Invite(log, intent), error);
        Ok(())
    }

    /// Leaves out the devices whose packages the group does not take. Returns whether others are left;
    /// `None` if it takes all of them.
    pub(super) fn sort_out(
        &mut self,
        group: &Group,
        extensions: &Extensions,
        (row, wish): (&OutboxRow, &AddWish),
    ) -> Result<Option<bool>, Error> {
        let (log, intent) = (row.log, row.intent);
        let mut bad = Vec::new();
        for number in 0..wish.targets {
            let mut target = self.target(log, intent, number)?;
            let (mut ctx, user) = (context(self.now / 1000, self.rng), target.user.clone());
            let mut faults = Faults::new();
            target.devices.retain(|device| {
                let package = read_package(device);
                let checked = package
                    .as_ref()
                    .map(|it| group.check_addition(it, extensions, &mut ctx));
                if matches!(checked, Some(Ok(()))) {
                    return true;
                }
                let error = Error::BadPackage(user.clone(), BadPackage::Unfit);
                faults.push((device.device, error));
                false
            });
            if !faults.is_empty() {
                bad.push((number, target, faults));
            }
        }
        if bad.is_empty() {
            return Ok(None);
        }
        // The row keeps its count: who is left is enough.
        let mut wish = wish.clone();
        for (number, target, faults) in bad {
            if !self.without((log, intent, number), &mut wish, target, faults)? {
                return Ok(Some(false));
            }
        }
        Ok(Some(true))
    }
}

/// The device's package.
pub(super) fn read_package(device: &TargetDevice) -> Option<KeyPackage> {
    match MlsMessage::from_bytes(&device.package) {
        Ok(MlsMessage::KeyPackage(package)) => Some(*package),
        _ => None,
    }
}
