//! What the AS signs: heads, and promises.

use akd_core::ecvrf::VRFPublicKey;
use folkmoot_mls::codec::{Bytes, Decode};
use folkmoot_mls::tls_struct;

use super::{LogError, LogLabel, MAX_EPOCH};
use crate::keys::{PublicKey, SigningKey};
use crate::{Domain, Version};

const HEAD_LABEL: &str = "log head";
const PROMISE_LABEL: &str = "log promise";

/// The largest head or promise that is read, in bytes.
const MAX_STATEMENT: usize = 1024;

tls_struct! {
    /// The whole log at one epoch, in one hash.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct LogHead {
        /// 1.
        pub version: Version,
        /// Whose log.
        pub domain: Domain,
        /// The AS that signs.
        pub authentication_service: PublicKey,
        /// Says where in the tree a label is. It never changes.
        pub vrf_key: [u8; 32],
        /// Counts from 1.
        pub epoch: u64,
        /// Of the tree.
        pub root: [u8; 32],
        /// The root of the epoch before.
        pub previous: [u8; 32],
        /// Milliseconds since 1970. What was promised for before is in it.
        pub time: u64,
    }
}

tls_struct! {
    /// A head and its signature. Two for the same epoch with different roots are proof that the AS
    /// shows different logs to different people.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct SignedHead {
        /// What is signed.
        pub head: LogHead,
        /// By [`LogHead::authentication_service`].
        pub signature: [u8; 64],
    }
}

impl SignedHead {
    /// Signs: the AS's part.
    #[must_use]
    pub fn sign(head: LogHead, key: &SigningKey) -> Self {
        let signature = key.sign(HEAD_LABEL, &head);
        Self { head, signature }
    }

    /// Reads a head of `domain`, signed by `authentication_service`.
    ///
    /// # Errors
    /// [`LogError::TooLarge`], [`LogError::Malformed`], [`LogError::BadHead`].
    pub fn read(
        bytes: &[u8],
        domain: &Domain,
        authentication_service: &PublicKey,
    ) -> Result<Self, LogError> {
        if bytes.len() > MAX_STATEMENT {
            return Err(LogError::TooLarge);
        }
        let signed = Self::from_bytes(bytes)?;
        let head = &signed.head;
        let is_theirs =
            head.domain == *domain && head.authentication_service == *authentication_service;
        // A VRF key of small order would let the AS have a label in several places.
        let is_sound = (1..=MAX_EPOCH).contains(&head.epoch)
            && VRFPublicKey::try_from(head.vrf_key.as_slice()).is_ok();
        let is_signed = || {
            let key = authentication_service;
            key.verify(HEAD_LABEL, head, &signed.signature).is_ok()
        };
        if is_theirs && is_sound && is_signed() {
            Ok(signed)
        } else {
            Err(LogError::BadHead)
        }
    }
}

tls_struct! {
    /// What the AS has said and not yet written down in the log.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Promise {
        /// 1.
        pub version: Version,
        /// Whose log.
        pub domain: Domain,
        /// The AS that promises.
        pub authentication_service: PublicKey,
        /// The [`LogLabel`].
        pub label: Bytes,
        /// What every head from then on has there, or has had.
        pub value: [u8; 32],
        /// Milliseconds since 1970.
        pub due: u64,
    }
}

tls_struct! {
    /// A promise and its signature. A head of a later time whose log never had the value is proof
    /// that the promise was broken.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct SignedPromise {
        /// What is promised.
        pub promise: Promise,
        /// By [`Promise::authentication_service`].
        pub signature: [u8; 64],
    }
}

impl SignedPromise {
    /// Signs: the AS's part.
    #[must_use]
    pub fn sign(promise: Promise, key: &SigningKey) -> Self {
        let signature = key.sign(PROMISE_LABEL, &promise);
        Self { promise, signature }
    }

    /// Reads a promise of `authentication_service` that the log of `domain` will have `value` at
    /// `label`, and that is not due more than `patience` after `now`, in milliseconds.
    ///
    /// # Errors
    /// [`LogError::TooLarge`], [`LogError::Malformed`], [`LogError::WrongValue`],
    /// [`LogError::BadPromise`].
    pub fn read(
        bytes: &[u8],
        domain: &Domain,
        authentication_service: &PublicKey,
        label: &LogLabel,
        value: &[u8; 32],
        now: u64,
        patience: u64,
    ) -> Result<Self, LogError> {
        if bytes.len() > MAX_STATEMENT {
            return Err(LogError::TooLarge);
        }
        let signed = Self::from_bytes(bytes)?;
        let promise = &signed.promise;
        let is_theirs =
            promise.domain == *domain && promise.authentication_service == *authentication_service;
        let key = authentication_service;
        if !is_theirs
            || promise.due > now.saturating_add(patience)
            || key
                .verify(PROMISE_LABEL, promise, &signed.signature)
                .is_err()
        {
            return Err(LogError::BadPromise);
        }
        if promise.label.as_slice() != label.to_bytes() || promise.value != *value {
            return Err(LogError::WrongValue);
        }
        Ok(signed)
    }
}
