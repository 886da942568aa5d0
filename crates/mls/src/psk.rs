//! Pre-shared keys (RFC 9420, section 8.4).

use rand_core::CryptoRng;

use crate::codec::{Bytes, Encode};
use crate::component::ComponentID;
use crate::crypto::{Secret, Suite};

crate::tls_enum! {
    /// What a resumption PSK is used for.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum ResumptionPSKUsage: u8 {
        /// The application's own purpose.
        Application = 1,
        /// A group that takes the place of another.
        ReInit = 2,
        /// A group of some members of another.
        Branch = 3,
    }
}

crate::tls_struct! {
    /// Names a key that the application provides.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct ExternalPsk {
        /// The application's name for it.
        pub psk_id: Bytes,
    }
}

crate::tls_struct! {
    /// Names the `resumption_psk` of an epoch.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct ResumptionPsk {
        /// What for.
        pub usage: ResumptionPSKUsage,
        /// Of which group.
        pub psk_group_id: Bytes,
        /// Of which epoch.
        pub psk_epoch: u64,
    }
}

crate::tls_struct! {
    /// Names a key that a component of the application provides (draft-ietf-mls-extensions, section
    /// 4.5).
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct ApplicationPsk {
        /// Which component.
        pub component_id: ComponentID,
        /// The component's name for it.
        pub psk_id: Bytes,
    }
}

crate::tls_enum! {
    /// Where a PSK comes from.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub enum PskType: u8 {
        /// From the application.
        External(ExternalPsk) = 1,
        /// From an epoch of a group.
        Resumption(ResumptionPsk) = 2,
        /// From a component of the application.
        Application(ApplicationPsk) = 3,
    }
}

crate::tls_struct! {
    /// Names one use of one PSK.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct PreSharedKeyID {
        /// Which PSK.
        pub psktype: PskType,
        /// Fresh random bytes, as many as the suite's hash has.
        pub psk_nonce: Bytes,
    }
}

impl PreSharedKeyID {
    /// Names a use of a key that the application provides, with a fresh nonce. `suite` is that of the
    /// group that the key comes into.
    #[must_use]
    pub fn external(suite: &dyn Suite, psk_id: impl Into<Bytes>, rng: &mut dyn CryptoRng) -> Self {
        let psk_id = psk_id.into();
        Self::new(suite, PskType::External(ExternalPsk { psk_id }), rng)
    }

    /// Names a use of the `resumption_psk` of an epoch, with a fresh nonce. `suite` is that of the group
    /// that the key comes into.
    #[must_use]
    pub fn resumption(
        suite: &dyn Suite,
        usage: ResumptionPSKUsage,
        psk_group_id: impl Into<Bytes>,
        psk_epoch: u64,
        rng: &mut dyn CryptoRng,
    ) -> Self {
        let resumption = ResumptionPsk {
            usage,
            psk_group_id: psk_group_id.into(),
            psk_epoch,
        };
        Self::new(suite, PskType::Resumption(resumption), rng)
    }

    /// Names a use of a key that a component of the application provides, with a fresh nonce. `suite` is
    /// that of the group that the key comes into (draft-ietf-mls-extensions, section 4.5).
    #[must_use]
    pub fn application(
        suite: &dyn Suite,
        component_id: ComponentID,
        psk_id: impl Into<Bytes>,
        rng: &mut dyn CryptoRng,
    ) -> Self {
        let psk_id = psk_id.into();
        let application = ApplicationPsk {
            component_id,
            psk_id,
        };
        Self::new(suite, PskType::Application(application), rng)
    }

    fn new(suite: &dyn Suite, psktype: PskType, rng: &mut dyn CryptoRng) -> Self {
        let mut psk_nonce = vec![0; suite.hash_length()];
        rng.fill_bytes(&mut psk_nonce);
        Self {
            psktype,
            psk_nonce: psk_nonce.into(),
        }
    }
}

/// `psk_secret` of the key schedule; the all-zero one if there are no PSKs.
///
/// # Errors
/// [`TooManyPsks`], to the blame of who listed them.
pub fn psk_secret(
    suite: &dyn Suite,
    psks: &[(PreSharedKeyID, Secret)],
) -> Result<Secret, TooManyPsks> {
    let count = u16::try_from(psks.len()).map_err(|_| TooManyPsks)?;
    let zero = Secret::zero(suite.hash_length());
    let mut secret = zero.clone();
    for (index, (id, psk)) in (0..count).zip(psks) {
        let mut psk_label = id.to_bytes();
        index.encode(&mut psk_label);
        count.encode(&mut psk_label);
        let extracted = suite.extract(&zero, psk);
        let input =
            suite.expand_with_label(&extracted, "derived psk", &psk_label, suite.hash_length());
        secret = suite.extract(&input, &secret);
    }
    Ok(secret)
}

/// More than 65,535 PSKs, which their counter cannot hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more pre-shared keys than a commit can carry")]
pub struct TooManyPsks;
