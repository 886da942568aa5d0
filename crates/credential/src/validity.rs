//! From when to when a statement holds.

use folkmoot_mls::tls_struct;

use crate::IdentityError;

/// How long before it is made a statement begins to hold, since clocks differ: one hour.
pub const BACKDATE_SECONDS: u64 = 3600;

tls_struct! {
    /// A span of time, both ends included. Seconds since 1970.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Validity {
        /// The first second.
        pub not_before: u64,
        /// The last second.
        pub not_after: u64,
    }
}

impl Validity {
    /// `seconds` long from `now`, and [`BACKDATE_SECONDS`] before it.
    #[must_use]
    pub fn starting(now: u64, seconds: u64) -> Self {
        Self {
            not_before: now.saturating_sub(BACKDATE_SECONDS),
            not_after: now.saturating_add(seconds),
        }
    }

    /// Whether `now` lies inside.
    ///
    /// # Errors
    /// [`IdentityError::NotYetValid`] or [`IdentityError::Expired`].
    pub fn check(&self, now: u64) -> Result<(), IdentityError> {
        if now < self.not_before {
            Err(IdentityError::NotYetValid)
        } else if now > self.not_after {
            Err(IdentityError::Expired)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_are_included() {
        let validity = Validity {
            not_before: 10,
            not_after: 20,
        };
        for (now, expected) in [
            (9, Err(IdentityError::NotYetValid)),
            (10, Ok(())),
            (20, Ok(())),
            (21, Err(IdentityError::Expired)),
        ] {
            assert_eq!(validity.check(now), expected, "at {now}");
        }
    }

    #[test]
    fn a_new_statement_holds_at_once_and_for_clocks_that_are_behind() {
        let validity = Validity::starting(10_000, 50);
        assert_eq!(validity.check(10_000), Ok(()));
        assert_eq!(validity.check(10_000 - BACKDATE_SECONDS), Ok(()));
        assert_eq!(validity.check(10_051), Err(IdentityError::Expired));
        assert_eq!(Validity::starting(0, u64::MAX).not_after, u64::MAX);
    }
}
