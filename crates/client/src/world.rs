//! Where time and randomness come from.

use std::future::Future;

use rand_core::CryptoRng;

/// A clock and a source of randomness.
pub trait World: Send {
    /// Milliseconds since 1970.
    fn now(&self) -> u64;

    /// Randomness fit for keys.
    fn rng(&mut self) -> &mut dyn CryptoRng;

    /// Waits for so many milliseconds.
    fn sleep(&self, milliseconds: u64) -> impl Future<Output = ()> + Send;
}

/// The operating system's clock and randomness.
#[cfg(feature = "transport")]
#[derive(Debug)]
pub struct System(rand_core::UnwrapErr<getrandom::SysRng>);

#[cfg(feature = "transport")]
impl System {
    /// The system.
    #[must_use]
    pub fn new() -> Self {
        Self(rand_core::UnwrapErr(getrandom::SysRng))
    }
}

#[cfg(feature = "transport")]
impl Default for System {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(feature = "transport")]
impl World for System {
    fn now(&self) -> u64 {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        // A clock before 1970 is as good as one at 1970.
        since.map_or(0, |since| {
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        })
    }

    fn rng(&mut self) -> &mut dyn CryptoRng {
        &mut self.0
    }

    async fn sleep(&self, milliseconds: u64) {
        tokio::time::sleep(std::time::Duration::from_millis(milliseconds)).await;
    }
}
