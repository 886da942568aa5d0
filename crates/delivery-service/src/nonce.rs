//! Nonces without memory (RULES on proofs): a time and random bytes, with a MAC by a key that
//! lives as long as the process. After a restart clients fetch another.

use folkmoot_protocol::keys::hash;
use folkmoot_protocol::limits::NONCE_SECONDS;
use rand_core::CryptoRng;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Makes and checks nonces.
pub(crate) struct NonceKey(Zeroizing<[u8; 32]>);

const TIME: usize = 8;
const RANDOM: usize = 8;
const MAC: usize = 16;

impl NonceKey {
    pub(crate) fn generate(rng: &mut dyn CryptoRng) -> Self {
        let mut key = Zeroizing::new([0; 32]);
        rng.fill_bytes(key.as_mut());
        Self(key)
    }

    /// A nonce made at `now`, 32 bytes.
    pub(crate) fn make(&self, now: u64, rng: &mut dyn CryptoRng) -> Vec<u8> {
        let mut random = [0; RANDOM];
        rng.fill_bytes(&mut random);
        let mut nonce = Vec::with_capacity(TIME + RANDOM + MAC);
        nonce.extend_from_slice(&now.to_be_bytes());
        nonce.extend_from_slice(&random);
        nonce.extend_from_slice(&self.mac(now.to_be_bytes(), random));
        nonce
    }

    /// Whether a nonce was made by this key in the last 60 seconds.
    pub(crate) fn is_fresh(&self, nonce: &[u8], now: u64) -> bool {
        let Some((time, rest)) = nonce.split_first_chunk::<TIME>() else {
            return false;
        };
        let Some((random, mac)) = rest.split_first_chunk::<RANDOM>() else {
            return false;
        };
        let genuine: bool = self.mac(*time, *random).ct_eq(mac).into();
        let age = now.checked_sub(u64::from_be_bytes(*time));
        genuine && age.is_some_and(|age| age <= NONCE_SECONDS * 1000)
    }

    /// A hash over key and message is a MAC here, since all messages have the same length.
    fn mac(&self, time: [u8; TIME], random: [u8; RANDOM]) -> [u8; MAC] {
        let digest = hash("nonce", &(*self.0, (time, random)));
        let mut mac = [0; MAC];
        mac.copy_from_slice(&digest[..MAC]);
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::ChaCha20Rng;
    use rand_chacha::rand_core::SeedableRng;

    #[test]
    fn a_nonce_is_good_for_sixty_seconds_at_its_maker() {
        let mut rng = ChaCha20Rng::from_seed([1; 32]);
        let key = NonceKey::generate(&mut rng);
        let nonce = key.make(5_000, &mut rng);
        assert!(key.is_fresh(&nonce, 5_000));
        assert!(key.is_fresh(&nonce, 65_000));
        assert!(!key.is_fresh(&nonce, 65_001));
        assert!(!key.is_fresh(&nonce, 4_999));
        assert!(!NonceKey::generate(&mut rng).is_fresh(&nonce, 5_000));
        for position in 0..nonce.len() {
            let mut changed = nonce.clone();
            changed[position] ^= 1;
            assert!(!key.is_fresh(&changed, 5_000));
            assert!(!key.is_fresh(&nonce[..position], 5_000));
        }
        assert_ne!(nonce, key.make(5_000, &mut rng));
    }
}
