//! Guards that a test can take away, to show that the simulation notices. Only with the feature
//! `sabotage`, which nothing that is shipped has; and also then everything is guarded unless a test
//! says otherwise.

/// What can be taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// A commit has to follow the tip.
    CompareAndSet,
    /// A known entry gets its first receipt.
    RepeatedAppend,
    /// A key reads up to a cut.
    Cut,
    /// A committer offers one commit after each parent.
    OneCandidate,
    /// A commit is signed by a committer, where they are named.
    Committers,
    /// A contest is of a form: a cut that adds nobody.
    ContestForm,
    /// A contest, and the commit after it, is paid for.
    ContestPaid,
    /// A contest is taken only as long as its epoch can be read.
    ContestsClosed,
    /// So many contests may stand behind a parent, and come so fast.
    ContestsBounded,
    /// An append is signed by the fence key of its epoch.
    Fence,
    /// Of requests that share a transaction a later one sees what the earlier ones did.
    OneAfterAnother,
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
