//! CPU time and memory of this process.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The CPU time that all threads of this process have used, in user and kernel together.
#[must_use]
pub fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

/// The CPU milliseconds that `work` takes, and what it gives.
pub fn timed<T>(work: impl FnOnce() -> T) -> (f64, T) {
    let before = cpu_time();
    let value = std::hint::black_box(work());
    ((cpu_time() - before).as_secs_f64() * 1e3, value)
}

/// The bytes of this process that are in memory and are not files, as its code is (`RssAnon` of
/// `/proc/self/status`), where the system says so.
#[must_use]
pub fn resident_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("RssAnon:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1024)
}

/// The middle one, or the mean of the two in the middle. `None` of nothing.
#[must_use]
pub fn median(samples: &[f64]) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        length if length % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), Some(2.5));
    }

    #[test]
    fn work_takes_time_and_memory() {
        let before = resident_memory();
        let (milliseconds, block) = timed(|| vec![1_u8; 32 << 20]);
        assert!(milliseconds > 0.0);
        if let (Some(before), Some(after)) = (before, resident_memory()) {
            assert!(after > before + (16 << 20));
        }
        drop(block);
    }
}
