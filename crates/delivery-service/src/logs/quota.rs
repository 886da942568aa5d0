//! What a log may hold.
//!
//! Entries go when the time is over for which they are kept, each by itself, so nobody counts what is left.
//! What is kept of a branch is one time: until when it would empty, if each entry took its share of the
//! quota as a share of that time. So a log may take its whole quota at once, and then as much as goes in
//! the same time; it never holds more than twice the quota.

use folkmoot_protocol::limits;

use crate::retention::Retention;

/// Until when a branch counts as not empty once another entry is in it, microseconds since 1970. `None` if
/// it does not fit. Commits have an eighth more room than the rest, so that a group can remove whoever has
/// filled its log. `now` in milliseconds since 1970.
pub(super) fn fill(
    filled: u64,
    weight: u64,
    is_commit: bool,
    retention: Retention,
    now: u64,
) -> Option<u64> {
    let (now, kept) = (u128::from(now) * 1000, u128::from(retention.entries) * 1000);
    let by_number = kept / u128::from(limits::LOG_ENTRIES);
    let by_size = kept * u128::from(weight) / u128::from(limits::LOG_BYTES);
    let filled = u128::from(filled).max(now) + by_number.max(by_size);
    let most = if is_commit { kept + kept / 8 } else { kept };
    let fits = filled - now <= most;
    fits.then(|| u64::try_from(filled).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_000_000;

    /// How many entries of a weight fit, one after the other at the same time.
    fn fit(filled: &mut u64, weight: u64, is_commit: bool, now: u64) -> u64 {
        let retention = Retention::default();
        let mut count = 0;
        while let Some(more) = fill(*filled, weight, is_commit, retention, now) {
            *filled = more;
            count += 1;
        }
        count
    }

    #[test]
    fn a_log_that_is_full_takes_commits_and_nothing_else() {
        const HALF_A_MIB: u64 = 512 << 10;
        let most = limits::LOG_BYTES / HALF_A_MIB;
        let mut filled = 0;
        assert_eq!(fit(&mut filled, HALF_A_MIB, false, NOW), most);
        assert_eq!(fit(&mut filled, 100, false, NOW), 0);
        assert_eq!(fit(&mut filled, HALF_A_MIB, true, NOW), most / 8);
        assert_eq!(fit(&mut filled, 100, true, NOW), 0);
        // What goes makes room: a tenth of the time, a tenth of the room, less what is over.
        let later = NOW + Retention::default().entries / 4;
        let room = fit(&mut filled, HALF_A_MIB, false, later);
        assert!(room.abs_diff(most / 4 - most / 8) <= 1, "{room}");
        // And when all of it has gone, there is all of it again.
        let later = later + 2 * Retention::default().entries;
        assert_eq!(fit(&mut filled, HALF_A_MIB, false, later), most);
    }

    #[test]
    fn small_entries_are_counted_by_their_number() {
        let mut filled = 0;
        assert_eq!(fit(&mut filled, 100, false, NOW), limits::LOG_ENTRIES);
        // Whoever keeps to the pace in which they go is never refused.
        let each = Retention::default().entries / limits::LOG_ENTRIES + 1;
        for number in 1..1000 {
            let now = NOW + number * each;
            filled = fill(filled, 100, false, Retention::default(), now).expect("room");
        }
        assert_eq!(
            fill(filled, u64::MAX, true, Retention::default(), u64::MAX),
            None
        );
    }
}
