//! Who judges credentials (RFC 9420, section 5.3.1; RFC 9750, section 4): the Authentication Service
//! as the engine sees it.
//!
//! RFC 9750 asks three things of it. The first, to *issue* credentials, is not the engine's business.
//! The second, whether a credential is *valid*, and for the name under which the application knows
//! somebody, and the third, whether two are of the *same client*, are the methods of
//! [`AuthenticationService`]. Credentials of a kind that this crate does not know reach it like all
//! others; [`ByCredentialType`] puts the judges of several kinds together.

use rand_core::CryptoRng;

use crate::credential::{Credential, CredentialType};
use crate::extension::Extensions;
use crate::leaf_node::LeafNode;

/// Why a credential is not accepted. Its owner is to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialError {
    /// The service does not know this kind, or the group does not accept it.
    #[error("this kind of credential is not accepted")]
    UnsupportedType,
    /// The credential's content cannot be read.
    #[error("the credential is malformed")]
    Malformed,
    /// Nobody whom the group trusts vouches for it.
    #[error("the issuer of the credential is not trusted")]
    UntrustedIssuer,
    /// A signature in it does not verify, or it is for another key.
    #[error("the credential does not belong to this key")]
    NotAuthentic,
    /// It is not valid at this time.
    #[error("the credential is not valid at this time")]
    Expired,
    /// Its issuer did not make it for this use, or limits it by a rule that is not known.
    #[error("the credential is not for this use")]
    WrongUse,
    /// It says nothing of who its owner is, or not what was expected.
    #[error("the credential is for another name")]
    WrongName,
}

/// What somebody claims: that a key is its own.
#[derive(Clone, Copy, Debug)]
pub struct CredentialClaim<'a> {
    /// Who it says it is.
    pub credential: &'a Credential,
    /// The key that it signs with.
    pub signature_key: &'a [u8],
}

impl<'a> CredentialClaim<'a> {
    /// What a leaf node claims.
    #[must_use]
    pub fn of(leaf_node: &'a LeafNode) -> Self {
        Self {
            credential: &leaf_node.credential,
            signature_key: &leaf_node.signature_key,
        }
    }
}

/// The questions that MLS asks an Authentication Service (RFC 9420, section 5.3.1; RFC 9750). Answers
/// depend on the arguments only, never on the network: else members of a group disagree.
pub trait AuthenticationService: Send + Sync {
    /// Whether the credential is valid and belongs to the key, in a group with these extensions, at
    /// this time (seconds since 1970; not judged if `None`).
    ///
    /// # Errors
    /// [`CredentialError`].
    fn validate(
        &self,
        credential: &Credential,
        signature_key: &[u8],
        group: &Extensions,
        now: Option<u64>,
    ) -> Result<(), CredentialError>;

    /// Whether all of many are valid, which a join or a big commit asks. The answer must be what
    /// [`validate`](Self::validate) says of each, or members who ask in different ways disagree; a service
    /// whose credentials carry signatures verifies them here together, for which it gets randomness.
    ///
    /// # Errors
    /// The place of the first that is not valid, and why. A place that there is none at refuses all the
    /// same; whoever asked then blames the first.
    fn validate_all(
        &self,
        claims: &[CredentialClaim<'_>],
        group: &Extensions,
        now: Option<u64>,
        _rng: &mut dyn CryptoRng,
    ) -> Result<(), (usize, CredentialError)> {
        claims.iter().enumerate().try_for_each(|(place, claim)| {
            self.validate(claim.credential, claim.signature_key, group, now)
                .map_err(|error| (place, error))
        })
    }

    /// Whether a credential presents a name: `reference_identifier` is what the application knows
    /// somebody by. Whether the credential is valid is another question. Nothing is presented unless
    /// a service says so.
    fn presents(&self, credential: &Credential, reference_identifier: &[u8]) -> bool {
        let _ = (credential, reference_identifier);
        false
    }

    /// Whether both are of the same client. Both are valid. The engine asks where a group follows from
    /// another one. An Add is refused as one of a client that is a member (RFC 9420, section 12.2, which
    /// leaves to the application what the same client is) by equal signature keys alone: who wants no
    /// second leaf of a client that comes with another key has to see to that itself.
    fn is_same_client(&self, one: &Credential, other: &Credential) -> bool {
        one == other
    }

    /// Whether the new one may take the old one's place in a leaf. The engine asks only where they
    /// differ.
    fn is_successor(&self, old: &Credential, new: &Credential) -> bool;

    /// The longest time, in seconds, that a leaf from a KeyPackage may be valid for in all. RFC
    /// 9420, section 7.2, asks every application to set one; without it any is taken.
    fn longest_lifetime(&self) -> Option<u64> {
        None
    }

    /// Whether the credential is valid, as [`validate`](Self::validate), *and* for this name.
    ///
    /// # Errors
    /// [`CredentialError`]; [`CredentialError::WrongName`] if it is valid for others only.
    fn validate_for(
        &self,
        reference_identifier: &[u8],
        credential: &Credential,
        signature_key: &[u8],
        group: &Extensions,
        now: Option<u64>,
    ) -> Result<(), CredentialError> {
        self.validate(credential, signature_key, group, now)?;
        if self.presents(credential, reference_identifier) {
            Ok(())
        } else {
            Err(CredentialError::WrongName)
        }
    }
}

/// Takes every basic credential at its word. For tests, and for groups that compare keys out of
/// band.
#[derive(Clone, Copy, Debug, Default)]
pub struct BasicCredentials;

impl AuthenticationService for BasicCredentials {
    fn validate(
        &self,
        credential: &Credential,
        _signature_key: &[u8],
        _group: &Extensions,
        _now: Option<u64>,
    ) -> Result<(), CredentialError> {
        match credential {
            Credential::Basic { .. } => Ok(()),
            _ => Err(CredentialError::UnsupportedType),
        }
    }

    /// The identity, byte for byte.
    fn presents(&self, credential: &Credential, reference_identifier: &[u8]) -> bool {
        matches!(credential, Credential::Basic { identity } if **identity == *reference_identifier)
    }

    fn is_successor(&self, old: &Credential, new: &Credential) -> bool {
        old == new
    }
}

/// A judge for each kind of credential. A kind without one is refused, and no credential succeeds
/// one of another kind: who allows such a move writes a service that says which.
#[derive(Clone, Default)]
pub struct ByCredentialType<'a> {
    judges: Vec<(CredentialType, &'a dyn AuthenticationService)>,
}

impl<'a> ByCredentialType<'a> {
    /// The same with one judge more, in the place of an earlier one for this kind.
    #[must_use]
    pub fn with(
        mut self,
        credential_type: CredentialType,
        judge: &'a dyn AuthenticationService,
    ) -> Self {
        self.judges.retain(|(kind, _)| *kind != credential_type);
        self.judges.push((credential_type, judge));
        self
    }

    fn judge(&self, credential: &Credential) -> Option<&'a dyn AuthenticationService> {
        let wanted = credential.credential_type();
        self.judges
            .iter()
            .find(|(kind, _)| *kind == wanted)
            .map(|(_, judge)| *judge)
    }

    fn same_judge(
        &self,
        one: &Credential,
        other: &Credential,
    ) -> Option<&'a dyn AuthenticationService> {
        self.judge(one)
            .filter(|_| one.credential_type() == other.credential_type())
    }
}

impl std::fmt::Debug for ByCredentialType<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set()
            .entries(self.judges.iter().map(|(kind, _)| kind))
            .finish()
    }
}

impl AuthenticationService for ByCredentialType<'_> {
    fn validate(
        &self,
        credential: &Credential,
        signature_key: &[u8],
        group: &Extensions,
        now: Option<u64>,
    ) -> Result<(), CredentialError> {
        self.judge(credential)
            .ok_or(CredentialError::UnsupportedType)?
            .validate(credential, signature_key, group, now)
    }

    /// Each judge is asked for those of its own kind at once.
    fn validate_all(
        &self,
        claims: &[CredentialClaim<'_>],
        group: &Extensions,
        now: Option<u64>,
        rng: &mut dyn CryptoRng,
    ) -> Result<(), (usize, CredentialError)> {
        let unknown = claims
            .iter()
            .position(|claim| self.judge(claim.credential).is_none())
            .map(|place| (place, CredentialError::UnsupportedType));
        let refused = self.judges.iter().filter_map(|(kind, judge)| {
            let (places, own): (Vec<_>, Vec<_>) = claims
                .iter()
                .copied()
                .enumerate()
                .filter(|(_, claim)| claim.credential.credential_type() == *kind)
                .unzip();
            let first = places.first()?;
            let (place, error) = judge.validate_all(&own, group, now, rng).err()?;
            // One that names a place it was not asked about refuses all the same.
            Some((*places.get(place).unwrap_or(first), error))
        });
        let refused: Vec<_> = refused.chain(unknown).collect();
        let first = refused.into_iter().min_by_key(|(place, _)| *place);
        first.map_or(Ok(()), Err)
    }

    fn presents(&self, credential: &Credential, reference_identifier: &[u8]) -> bool {
        self.judge(credential)
            .is_some_and(|judge| judge.presents(credential, reference_identifier))
    }

    fn is_same_client(&self, one: &Credential, other: &Credential) -> bool {
        self.same_judge(one, other)
            .is_some_and(|judge| judge.is_same_client(one, other))
    }

    fn is_successor(&self, old: &Credential, new: &Credential) -> bool {
        self.same_judge(old, new)
            .is_some_and(|judge| judge.is_successor(old, new))
    }

    /// The shortest that any of the judges asks for.
    fn longest_lifetime(&self) -> Option<u64> {
        self.judges
            .iter()
            .filter_map(|(_, judge)| judge.longest_lifetime())
            .min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::OutOfRange;

    /// Credentials of a kind that the engine does not know, whose content is the key.
    struct KeyItself;

    const KIND: CredentialType = CredentialType(0xf123);

    fn custom(data: &[u8]) -> Credential {
        Credential::Custom {
            credential_type: KIND,
            data: data.into(),
        }
    }

    impl AuthenticationService for KeyItself {
        fn validate(
            &self,
            credential: &Credential,
            signature_key: &[u8],
            _: &Extensions,
            now: Option<u64>,
        ) -> Result<(), CredentialError> {
            match credential {
                Credential::Custom { .. } if now > Some(9) => Err(CredentialError::Expired),
                Credential::Custom { data, .. } if **data == *signature_key => Ok(()),
                _ => Err(CredentialError::NotAuthentic),
            }
        }

        fn is_successor(&self, _: &Credential, _: &Credential) -> bool {
            true
        }

        fn longest_lifetime(&self) -> Option<u64> {
            Some(10)
        }
    }

    #[test]
    fn each_kind_is_judged_by_its_own() {
        let judge = ByCredentialType::default()
            .with(CredentialType::BASIC, &BasicCredentials)
            .with(KIND, &KeyItself);
        let group = Extensions::default();
        let alice = Credential::basic(*b"alice");
        assert_eq!(judge.validate(&alice, b"k", &group, None), Ok(()));
        assert_eq!(judge.validate(&custom(b"k"), b"k", &group, Some(9)), Ok(()));
        for (credential, now, expected) in [
            (custom(b"k"), Some(10), CredentialError::Expired),
            (custom(b"l"), None, CredentialError::NotAuthentic),
            (
                Credential::X509 {
                    certificates: Vec::new(),
                },
                None,
                CredentialError::UnsupportedType,
            ),
        ] {
            let judged = judge.validate(&credential, b"k", &group, now);
            assert_eq!(judged, Err(expected));
        }
        assert!(judge.is_successor(&custom(b"k"), &custom(b"l")));
        assert!(!judge.is_same_client(&custom(b"k"), &custom(b"l")));
        assert!(judge.is_same_client(&alice, &alice));
        assert!(!judge.is_successor(&alice, &Credential::basic(*b"bob")));
        assert!(
            !judge.is_successor(&custom(b"k"), &alice),
            "the judge of the old kind does not speak for the new one"
        );
        assert_eq!(judge.longest_lifetime(), Some(10));
        let judge = judge.with(KIND, &BasicCredentials);
        let judged = judge.validate(&custom(b"k"), b"k", &group, None);
        assert_eq!(judged, Err(CredentialError::UnsupportedType));
    }

    #[test]
    fn a_judge_who_names_nobody_who_was_asked_about_refuses() {
        let judge = ByCredentialType::default()
            .with(CredentialType::BASIC, &BasicCredentials)
            .with(KIND, &OutOfRange);
        let (alice, other) = (Credential::basic(*b"alice"), custom(b"k"));
        let all = |credentials: &[&Credential]| {
            let claims = credentials.iter().map(|credential| CredentialClaim {
                credential,
                signature_key: b"k",
            });
            let claims: Vec<_> = claims.collect();
            let rng = &mut crate::testing::StepRng(1);
            judge.validate_all(&claims, &Extensions::default(), None, rng)
        };
        assert_eq!(all(&[&alice, &alice]), Ok(()), "it is not asked");
        let expired = CredentialError::Expired;
        assert_eq!(all(&[&alice, &other, &alice, &other]), Err((1, expired)));
        assert_eq!(all(&[&other]), Err((0, expired)));
    }

    #[test]
    fn many_of_several_kinds_are_judged_as_one_by_one() {
        let judge = ByCredentialType::default()
            .with(CredentialType::BASIC, &BasicCredentials)
            .with(KIND, &KeyItself);
        let group = Extensions::default();
        let certificates = Vec::new();
        let unknown = Credential::X509 { certificates };
        let good = [Credential::basic(*b"alice"), custom(b"k")];
        let bad = [custom(b"l"), unknown];
        let mut refused = 0;
        // Every way to fill five places with the four: two digits of base 2 for each.
        for mix in 0..1u32 << 10 {
            let kind = |place: u32| match mix >> (2 * place) & 3 {
                kind @ 0..2 => &good[kind as usize],
                kind => &bad[kind as usize - 2],
            };
            let claims: Vec<_> = (0..5)
                .map(|place| CredentialClaim {
                    credential: kind(place),
                    signature_key: b"k",
                })
                .collect();
            let singly = claims
                .iter()
                .map(|claim| judge.validate(claim.credential, claim.signature_key, &group, None));
            let first = singly
                .enumerate()
                .find_map(|(i, judged)| Some((i, judged.err()?)));
            let rng = &mut crate::testing::StepRng(1);
            let together = judge.validate_all(&claims, &group, None, rng);
            assert_eq!(together, first.map_or(Ok(()), Err), "{mix:b}");
            refused += u32::from(together.is_err());
        }
        assert_eq!(refused, (1 << 10) - (1 << 5));
    }

    #[test]
    fn a_valid_credential_may_be_for_another_name() {
        let group = Extensions::default();
        let alice = Credential::basic(*b"alice");
        let validate = |name: &[u8], credential: &Credential| {
            BasicCredentials.validate_for(name, credential, b"k", &group, None)
        };
        assert_eq!(validate(b"alice", &alice), Ok(()));
        assert_eq!(validate(b"alic", &alice), Err(CredentialError::WrongName));
        assert_eq!(
            validate(b"k", &custom(b"k")),
            Err(CredentialError::UnsupportedType)
        );
        let name = KeyItself.validate_for(b"k", &custom(b"k"), b"k", &group, None);
        assert_eq!(name, Err(CredentialError::WrongName), "it presents nothing");
    }
}
