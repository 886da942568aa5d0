//! Who does the work that can be split: one call may check or encrypt for thousands of members, each
//! apart from the others.
//!
//! The engine starts no threads. A caller who has some says so in [`Context`](crate::context::Context):
//! [`OneThread`] has none, `Threads` (feature `rayon`) lends a pool, and anything else implements
//! [`Workers`]. Results do not depend on who works: jobs are cut and given their randomness beforehand.

use std::sync::OnceLock;

use chacha20::ChaCha20Rng;
use rand_core::{CryptoRng, SeedableRng};
use zeroize::Zeroizing;

/// Runs jobs that do not depend on each other.
pub trait Workers: Send + Sync {
    /// Calls `job` with each number below `count`, on whatever threads and in whatever order, and returns
    /// when all calls have.
    fn run(&self, count: usize, job: &(dyn Fn(usize) + Sync));
}

/// Does everything itself, one after the other.
#[derive(Clone, Copy, Debug, Default)]
pub struct OneThread;

impl Workers for OneThread {
    fn run(&self, count: usize, job: &(dyn Fn(usize) + Sync)) {
        (0..count).for_each(job);
    }
}

/// The threads of a pool of rayon's.
#[cfg(feature = "rayon")]
#[derive(Clone, Copy, Debug)]
pub struct Threads<'a>(pub &'a rayon::ThreadPool);

#[cfg(feature = "rayon")]
impl Workers for Threads<'_> {
    fn run(&self, count: usize, job: &(dyn Fn(usize) + Sync)) {
        use rayon::iter::{IndexedParallelIterator, IntoParallelIterator, ParallelIterator};
        self.0
            .install(|| (0..count).into_par_iter().with_max_len(1).for_each(job));
    }
}

/// What `job` makes of each chunk of `items`, in order. It gets the place of the chunk's first item and
/// randomness of its own, drawn from `rng` beforehand.
pub(crate) fn by_chunks<T: Sync, R: Send + Sync>(
    workers: &dyn Workers,
    items: &[T],
    size: usize,
    rng: &mut dyn CryptoRng,
    job: impl Fn(usize, &[T], &mut dyn CryptoRng) -> R + Sync,
) -> Vec<R> {
    // In one place from which they do not move, to be wiped there.
    let mut seeds = Zeroizing::new(vec![[0; 32]; items.len().div_ceil(size)]);
    seeds.iter_mut().for_each(|seed| rng.fill_bytes(seed));
    let jobs: Vec<_> = items
        .chunks(size)
        .zip(seeds.iter())
        .map(|(chunk, seed)| (chunk, seed, OnceLock::new()))
        .collect();
    let do_job = |number: usize| {
        let (chunk, seed, result) = &jobs[number];
        // Once, should anybody call it twice.
        result.get_or_init(|| job(number * size, chunk, &mut ChaCha20Rng::from_seed(**seed)));
    };
    workers.run(jobs.len(), &do_job);
    // What somebody's workers left is done here.
    (0..jobs.len()).for_each(do_job);
    jobs.into_iter()
        .filter_map(|(_, _, result)| result.into_inner())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::StepRng;

    /// Does every job twice, from behind, but the first.
    struct Odd;

    impl Workers for Odd {
        fn run(&self, count: usize, job: &(dyn Fn(usize) + Sync)) {
            std::thread::scope(|scope| {
                for number in (1..count).rev() {
                    scope.spawn(move || job(number));
                    job(number);
                }
            });
        }
    }

    fn results(workers: &dyn Workers, items: &[u32]) -> Vec<(usize, Vec<u32>, u64)> {
        by_chunks(workers, items, 3, &mut StepRng(1), |start, chunk, rng| {
            (start, chunk.to_vec(), rng.next_u64())
        })
    }

    #[test]
    fn results_do_not_depend_on_who_works() {
        let items: Vec<u32> = (0..20).collect();
        let one = results(&OneThread, &items);
        assert_eq!(one.len(), 7);
        assert_eq!(one[6].0, 18);
        assert_eq!(one[6].1, [18, 19]);
        assert_ne!(one[0].2, one[1].2, "randomness of its own");
        assert_eq!(results(&Odd, &items), one);
        assert_eq!(results(&OneThread, &[]), []);
        #[cfg(feature = "rayon")]
        {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build();
            assert_eq!(results(&Threads(&pool.unwrap()), &items), one);
        }
    }
}
