//! Guards that a test can take away, to show that the simulation notices. Only with the feature
//! `sabotage`, which nothing that is shipped has; and also then everything is guarded unless a test
//! says otherwise.

#[cfg(feature = "sabotage")]
use folkmoot_mls::crypto::SignatureKeyPair;

#[cfg(feature = "sabotage")]
use crate::Error;
#[cfg(feature = "sabotage")]
use crate::logic::rows::{self, AccountRow};
#[cfg(feature = "sabotage")]
use crate::store::{Table, Transaction};

/// What a device signs MLS messages with, for a test in which it does not keep the rules.
///
/// # Errors
/// [`Error::NotRegistered`], or the store's.
#[cfg(feature = "sabotage")]
pub fn signer(tx: &dyn Transaction) -> Result<SignatureKeyPair, Error> {
    let account: Option<AccountRow> = rows::get(tx, Table::Account, rows::ACCOUNT)?;
    Ok(account.ok_or(Error::NotRegistered)?.signer())
}

/// Makes another device of the same user out of this one, for a test in which somebody has lost the
/// first: nothing else makes a second device yet.
///
/// # Errors
/// [`Error::NotRegistered`], or the store's.
#[cfg(feature = "sabotage")]
pub fn become_another_device(
    tx: &mut dyn Transaction,
    now: u64,
    rng: &mut dyn rand_core::CryptoRng,
) -> Result<(), Error> {
    use folkmoot_credential::{CERTIFICATE_SECONDS, DeviceCertificate, Validity};
    let account: Option<AccountRow> = rows::get(tx, Table::Account, rows::ACCOUNT)?;
    let mut account = account.ok_or(Error::NotRegistered)?;
    let device = folkmoot_protocol::keys::SigningKey::generate(rng);
    account.certificate = DeviceCertificate::issue(
        account.user.clone(),
        device.public(),
        Validity::starting(now / 1000, CERTIFICATE_SECONDS),
        &account.identity.0,
    );
    account.device = rows::Seed(device);
    tx.delete_prefix(Table::Packages, &[])?;
    rows::put(tx, Table::Account, rows::ACCOUNT, &account)?;
    Ok(())
}

/// What can be taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// A group in memory is used only if no other process has changed it since.
    HeldGroup,
    /// What a commit declares to the Delivery Service is what it does.
    Declared,
    /// The committers that the Delivery Service is told are those of the group.
    Committers,
    /// Only who is proven to have made a bad commit is removed for it.
    Proven,
    /// Nobody is removed for a commit that came too late.
    Untimely,
    /// Whoever made a bad commit is removed by the one in its place.
    Removes,
    /// Who alone cannot open a commit does not contest it.
    CutOff,
    /// One report of a commit that did not open is not enough.
    TwoReports,
    /// A message that says it is ours is ours only if we signed it.
    OwnMessages,
    /// The Delivery Service's list of commits after a parent is the one that it has signed.
    List,
}

#[cfg(feature = "sabotage")]
thread_local! {
    static WITHOUT: std::cell::Cell<Option<Guard>> = const { std::cell::Cell::new(None) };
}

/// Runs something without a guard, on this thread.
#[cfg(feature = "sabotage")]
pub fn without<T>(guard: Option<Guard>, work: impl FnOnce() -> T) -> T {
    /// Puts the guard back, also when the work panics.
    struct Back(Option<Guard>);
    impl Drop for Back {
        fn drop(&mut self) {
            WITHOUT.set(self.0);
        }
    }
    let _back = Back(WITHOUT.replace(guard));
    work()
}

/// Whether a guard is in place.
#[cfg(feature = "sabotage")]
pub(crate) fn stands(guard: Guard) -> bool {
    WITHOUT.get() != Some(guard)
}

/// Whether a guard is in place: always.
#[cfg(not(feature = "sabotage"))]
pub(crate) const fn stands(_: Guard) -> bool {
    true
}
