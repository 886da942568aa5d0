//! The fence key of an epoch: every member derives it, so the DS sees that *some* member writes or
//! reads, never which. It authorises; it authenticates nobody and protects no secret.

use folkmoot_mls::component::ComponentID;
use folkmoot_mls::crypto::{Secret, Suite};
use zeroize::Zeroizing;

use crate::keys::SigningKey;

/// The component whose safe exporter secret gives the fence key (draft-ietf-mls-extensions, from the
/// range for private use).
pub const COMPONENT: ComponentID = ComponentID(0xf044);

const LABEL: &str = "fence key";

/// The fence key of the epoch whose safe exporter gave `exported` for [`COMPONENT`]. `suite` is the
/// group's.
#[must_use]
pub fn fence_key(suite: &dyn Suite, exported: &Secret) -> SigningKey {
    let derived = suite.expand_with_label(exported, LABEL, &[], 32);
    let mut seed = Zeroizing::new([0; 32]);
    seed.copy_from_slice(&derived);
    SigningKey::from_seed(seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_derive_the_same_key() {
        let suite = crate::sealed::suite();
        let key = |byte: u8| fence_key(suite, &Secret::from(vec![byte; 32])).public();
        assert_eq!(key(1), key(1));
        assert_ne!(key(1), key(2));
    }
}
