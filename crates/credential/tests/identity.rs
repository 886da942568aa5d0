//! Who is believed to be whom, and what decoders do with any bytes.

use folkmoot_credential::keys::{PublicKey, SigningKey};
use folkmoot_credential::{
    AcceptedKeys, BINDING_SECONDS, Binding, CERTIFICATE_SECONDS, CREDENTIAL_TYPE, DeliveryAddress,
    DeviceCertificate, DeviceCredential, DeviceRecord, IdentityError, Judge, MAX_CHAIN, MailboxKey,
    Policy, Registration, ShelfKey, Title, UserId, Validity, Version,
};
use folkmoot_mls::codec::{Decode, DecodeError, Encode};
use folkmoot_mls::context::{AuthenticationService, CredentialClaim, CredentialError};
use folkmoot_mls::credential::Credential;
use folkmoot_mls::extension::Extensions;
use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

const NOW: u64 = 1_800_000_000;

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed([seed; 32].into())
}

fn user(text: &str) -> UserId {
    text.parse().unwrap()
}

/// A user of the domain whose AS has key 1.
struct Person {
    user: UserId,
    identity: SigningKey,
    device: SigningKey,
}

impl Person {
    fn new(name: &str, seed: u8) -> Self {
        Self {
            user: user(name),
            identity: key(seed),
            device: key(seed + 1),
        }
    }

    fn binding(&self) -> Binding {
        let validity = Validity::starting(NOW, BINDING_SECONDS);
        Binding::issue(self.user.clone(), self.identity.public(), validity, &key(1))
    }

    fn certificate(&self) -> DeviceCertificate {
        let validity = Validity::starting(NOW, CERTIFICATE_SECONDS);
        DeviceCertificate::issue(
            self.user.clone(),
            self.device.public(),
            validity,
            &self.identity,
        )
    }

    fn credential(&self) -> DeviceCredential {
        DeviceCredential::new(self.binding(), vec![self.certificate()])
    }

    fn record(&self) -> DeviceRecord {
        DeviceRecord {
            version: Version,
            user: self.user.clone(),
            certificate: self.certificate(),
            issued: NOW,
            delivery: DeliveryAddress {
                url: b"https://localhost:8443".to_vec().into(),
                key: key(2).public(),
                pin: [3; 32].into(),
            },
            mailbox: [4; 32],
            mailbox_key: MailboxKey {
                version: 1,
                key: [5; 32],
            },
            shelf_key: ShelfKey {
                version: 1,
                key: [6; 32],
            },
        }
    }

    fn registration(&self) -> Registration {
        let device = self.record();
        Registration {
            version: Version,
            domain: self.user.domain.clone(),
            authentication_service: key(1).public(),
            name: self.user.name.clone(),
            identity_key: self.identity.public(),
            device_signature: device.sign(&self.device),
            device,
        }
    }
}

fn group() -> Extensions {
    let keys = AcceptedKeys::of("example.org".parse().unwrap(), key(1).public());
    Extensions::default().with(&keys)
}

fn judge(
    credential: &DeviceCredential,
    leaf: &SigningKey,
    now: Option<u64>,
) -> Result<(), CredentialError> {
    Judge.validate(&credential.to_credential(), &leaf.public().0, &group(), now)
}

#[test]
fn a_typical_credential_is_under_300_bytes() {
    let alice = Person::new("alice.liddell@example.org", 10);
    assert!(alice.credential().to_credential().to_bytes().len() < 300);
}

#[test]
fn a_group_believes_a_device_that_its_user_and_an_accepted_service_vouch_for() {
    let alice = Person::new("alice@example.org", 10);
    assert_eq!(judge(&alice.credential(), &alice.device, Some(NOW)), Ok(()));
    assert_eq!(judge(&alice.credential(), &alice.device, None), Ok(()));
}

/// Judges credentials for these leaf keys together, and sees that each judged alone is judged alike.
fn judge_all(
    group: &Extensions,
    claimed: &[(Credential, PublicKey)],
) -> Result<(), (usize, CredentialError)> {
    let claims: Vec<_> = claimed
        .iter()
        .map(|(credential, key)| CredentialClaim {
            credential,
            signature_key: &key.0,
        })
        .collect();
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let together = Judge.validate_all(&claims, group, Some(NOW), &mut rng);
    let alone = claimed
        .iter()
        .enumerate()
        .try_for_each(|(place, (credential, key))| {
            Judge
                .validate(credential, &key.0, group, Some(NOW))
                .map_err(|error| (place, error))
        });
    assert_eq!(together, alone);
    together
}

#[test]
fn many_are_judged_together_as_each_is_alone() {
    let people: Vec<_> = (0..20)
        .map(|number| Person::new(&format!("p{number}@example.org"), 10 + 2 * number))
        .collect();
    let claim = |person: &Person| (person.credential().to_credential(), person.device.public());
    let good: Vec<_> = people.iter().map(claim).collect();
    let changed = |place: usize, change: &dyn Fn(&mut DeviceCredential)| {
        let mut credential = people[place].credential();
        change(&mut credential);
        let mut all = good.clone();
        all[place].0 = credential.to_credential();
        all
    };
    // The domain's one key, or another one beside it, before and after.
    for other in [None, Some(key(0).public()), Some(key(200).public())] {
        let mut keys = AcceptedKeys::of("example.org".parse().unwrap(), key(1).public());
        if let Some(other) = other {
            keys.insert("example.org".parse().unwrap(), other);
        }
        let group = Extensions::default().with(&keys);
        assert_eq!(judge_all(&group, &good), Ok(()));
        assert_eq!(judge_all(&group, &[]), Ok(()));
        let bad = changed(7, &|credential| credential.binding_signature[3] ^= 1);
        let refused = Err((7, CredentialError::UntrustedIssuer));
        assert_eq!(judge_all(&group, &bad), refused);
        let bad = changed(19, &|credential| credential.chain[0].signature[40] ^= 1);
        let refused = Err((19, CredentialError::NotAuthentic));
        assert_eq!(judge_all(&group, &bad), refused);
        let bad = changed(0, &|credential| {
            credential.binding_validity.not_after = NOW - 1;
        });
        assert_eq!(judge_all(&group, &bad), Err((0, CredentialError::Expired)));
        let mut bad = good.clone();
        bad[5].1 = key(9).public();
        bad[11].0 = Credential::basic(*b"p11");
        let refused = Err((5, CredentialError::NotAuthentic));
        assert_eq!(judge_all(&group, &bad), refused);
        bad.remove(5);
        let refused = Err((10, CredentialError::UnsupportedType));
        assert_eq!(judge_all(&group, &bad), refused);
    }
    let bad = changed(4, &|credential| credential.binding_key[7] ^= 1);
    let refused = Err((4, CredentialError::UntrustedIssuer));
    assert_eq!(judge_all(&group(), &bad), refused);
    let nobody = judge_all(&Extensions::default(), &good);
    assert_eq!(nobody, Err((0, CredentialError::UntrustedIssuer)));
}

#[test]
fn a_service_is_believed_for_its_own_domain_only() {
    let mallory = Person::new("mallory@elsewhere.net", 10);
    assert_eq!(
        judge(&mallory.credential(), &mallory.device, Some(NOW)),
        Err(CredentialError::UntrustedIssuer)
    );
    let both = group();
    let mut keys: AcceptedKeys = both.get().unwrap().unwrap();
    keys.insert("elsewhere.net".parse().unwrap(), key(1).public());
    let answer = Judge.validate(
        &mallory.credential().to_credential(),
        &mallory.device.public().0,
        &both.with(&keys),
        Some(NOW),
    );
    assert_eq!(answer, Ok(()));
}

#[test]
fn a_group_with_more_keys_than_anybody_compares_believes_nobody() {
    let alice = Person::new("alice@example.org", 10);
    let mut keys = AcceptedKeys::of("example.org".parse().unwrap(), key(1).public());
    let mut answer = |more: u16| {
        for number in 0..more {
            let mut other = [7; 32];
            other[..2].copy_from_slice(&(keys.keys.len() as u16 + number).to_be_bytes());
            let domain = "elsewhere.net".parse().unwrap();
            keys.keys.push(folkmoot_credential::AcceptedKey {
                domain,
                key: PublicKey(other),
            });
        }
        let credential = alice.credential().to_credential();
        let group = Extensions::default().with(&keys);
        Judge.validate(&credential, &alice.device.public().0, &group, None)
    };
    assert_eq!(answer(AcceptedKeys::MAX as u16 - 1), Ok(()));
    assert_eq!(answer(1), Err(CredentialError::UntrustedIssuer));
}

#[test]
fn a_group_without_accepted_keys_believes_nobody() {
    let alice = Person::new("alice@example.org", 10);
    let answer = Judge.validate(
        &alice.credential().to_credential(),
        &alice.device.public().0,
        &Extensions::default(),
        None,
    );
    assert_eq!(answer, Err(CredentialError::UntrustedIssuer));
}

#[test]
fn the_service_alone_cannot_add_a_device_and_a_device_cannot_take_a_name() {
    let alice = Person::new("alice@example.org", 10);
    let validity = Validity::starting(NOW, CERTIFICATE_SECONDS);

    let forged = DeviceCertificate::issue(alice.user.clone(), key(20).public(), validity, &key(1));
    let credential = DeviceCredential::new(alice.binding(), vec![forged]);
    assert_eq!(
        judge(&credential, &key(20), Some(NOW)),
        Err(CredentialError::NotAuthentic)
    );

    let mallory = Person::new("mallory@example.org", 30);
    let mut credential = mallory.credential();
    credential.user = alice.user.clone();
    assert_eq!(
        judge(&credential, &mallory.device, Some(NOW)),
        Err(CredentialError::UntrustedIssuer)
    );

    // A certificate that the same identity key made under another name is none here.
    let mut renamed = Person::new("alice@example.org", 30);
    renamed.identity = mallory.identity.clone();
    let credential = DeviceCredential::new(renamed.binding(), vec![mallory.certificate()]);
    assert_eq!(
        judge(&credential, &mallory.device, Some(NOW)),
        Err(CredentialError::NotAuthentic)
    );
}

#[test]
fn the_leaf_s_key_is_the_last_of_the_chain() {
    let alice = Person::new("alice@example.org", 10);
    let validity = Validity::starting(NOW, CERTIFICATE_SECONDS);
    let (leaf, other) = (key(20), key(21));
    let next = DeviceCertificate::issue(alice.user.clone(), leaf.public(), validity, &alice.device);
    let credential = DeviceCredential::new(alice.binding(), vec![alice.certificate(), next]);
    assert_eq!(judge(&credential, &leaf, Some(NOW)), Ok(()));
    for wrong in [&alice.device, &alice.identity, &other] {
        assert_eq!(
            judge(&credential, wrong, Some(NOW)),
            Err(CredentialError::NotAuthentic)
        );
    }
    for length in [0, MAX_CHAIN + 1] {
        let chain = vec![alice.certificate(); length];
        let credential = DeviceCredential::new(alice.binding(), chain).to_credential();
        assert_eq!(
            DeviceCredential::read(&credential),
            Err(IdentityError::BadChain)
        );
    }
}

#[test]
fn times_are_judged_where_there_is_one() {
    let alice = Person::new("alice@example.org", 10);
    let expired = NOW + BINDING_SECONDS + 1;
    let credential = alice.credential();
    for now in [0, expired, expired + CERTIFICATE_SECONDS, u64::MAX] {
        assert_eq!(
            judge(&credential, &alice.device, Some(now)),
            Err(CredentialError::Expired)
        );
    }
    let short = DeviceCertificate::issue(
        alice.user.clone(),
        alice.device.public(),
        Validity::starting(NOW, 10),
        &alice.identity,
    );
    let credential = DeviceCredential::new(alice.binding(), vec![short]);
    assert_eq!(
        judge(&credential, &alice.device, Some(NOW + 11)),
        Err(CredentialError::Expired)
    );
    assert_eq!(judge(&credential, &alice.device, None), Ok(()));
}

#[test]
fn a_successor_is_the_same_device_with_newer_papers() {
    let alice = Person::new("alice@example.org", 10);
    let old = alice.credential().to_credential();
    let validity = Validity::starting(NOW + 1000, BINDING_SECONDS);
    let renewed = Binding::issue(
        alice.user.clone(),
        alice.identity.public(),
        validity,
        &key(1),
    );
    let leaf = DeviceCertificate::issue(
        alice.user.clone(),
        key(20).public(),
        validity,
        &alice.device,
    );
    let new = DeviceCredential::new(renewed, vec![alice.certificate(), leaf]).to_credential();
    assert!(Judge.is_successor(&old, &new));

    let mut second_device = Person::new("alice@example.org", 10);
    second_device.device = key(30);
    let bob = Person::new("bob@example.org", 10);
    for other in [&second_device, &bob] {
        assert!(!Judge.is_successor(&old, &other.credential().to_credential()));
    }
    assert!(second_device.credential().is_same_user(&alice.credential()));
    assert!(!Judge.is_successor(&Credential::basic([1]), &Credential::basic([1])));
}

#[test]
fn other_kinds_are_refused() {
    let answer = Judge.validate(&Credential::basic([1]), &[], &group(), None);
    assert_eq!(answer, Err(CredentialError::UnsupportedType));
    let long = Credential::Custom {
        credential_type: CREDENTIAL_TYPE,
        data: vec![0; 1 << 20].into(),
    };
    assert_eq!(
        DeviceCredential::read(&long),
        Err(IdentityError::Malformed(DecodeError::InvalidValue(
            "credential"
        )))
    );
}

#[test]
fn a_registration_proves_both_keys() {
    let alice = Person::new("alice@example.org", 10);
    let registration = alice.registration();
    let (identity, device) = registration.sign(&alice.identity, &alice.device);
    assert_eq!(registration.verify(&identity, &device, NOW), Ok(()));
    for (identity, device) in [(device, identity), (identity, identity), (device, device)] {
        assert_eq!(
            registration.verify(&identity, &device, NOW),
            Err(IdentityError::BadRegistration)
        );
    }

    // Somebody else's device record is none of mine.
    let mallory = Person::new("mallory@example.org", 30);
    let stolen = Registration {
        name: mallory.user.name.clone(),
        identity_key: mallory.identity.public(),
        ..registration
    };
    let (identity, device) = stolen.sign(&mallory.identity, &mallory.device);
    assert_eq!(
        stolen.verify(&identity, &device, NOW),
        Err(IdentityError::BadRegistration)
    );
    let (identity, device) = stolen.sign(&mallory.identity, &alice.device);
    assert_eq!(
        stolen.verify(&identity, &device, NOW),
        Err(IdentityError::WrongUser)
    );
}

#[test]
fn a_directory_entry_is_the_device_s_own_word() {
    let alice = Person::new("alice@example.org", 10);
    let identity = alice.identity.public();
    let record = alice.record();
    let signature = record.sign(&alice.device);
    assert_eq!(
        record.verify(&alice.user, &identity, &signature, NOW),
        Ok(())
    );
    let mut moved = record.clone();
    moved.mailbox = [9; 32];
    assert_eq!(
        moved.verify(&alice.user, &identity, &signature, NOW),
        Err(IdentityError::BadRecord)
    );
    assert_eq!(
        record.verify(&user("bob@example.org"), &identity, &signature, NOW),
        Err(IdentityError::WrongUser)
    );
    assert_eq!(
        record.verify(&alice.user, &key(9).public(), &signature, NOW),
        Err(IdentityError::BadCertificate)
    );
    let mut odd = record;
    odd.delivery.pin = [1; 31].into();
    let signature = odd.sign(&alice.device);
    assert_eq!(
        odd.verify(&alice.user, &identity, &signature, NOW),
        Err(IdentityError::BadRecord)
    );
}

#[test]
fn the_engine_s_key_pair_is_the_same_key() {
    use folkmoot_mls::crypto::{CipherSuite, CryptoProvider, PROVIDER};

    let suite = PROVIDER
        .suite(CipherSuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_ED25519)
        .unwrap();
    let pair = key(7).signature_key_pair();
    assert_eq!(**pair.public_key(), key(7).public().0);
    assert_eq!(
        suite.signature_public_key(pair.private_key()),
        Ok(pair.public_key().clone())
    );
    let signature = suite.sign(&pair, b"data").unwrap();
    assert_eq!(suite.verify(pair.public_key(), b"data", &signature), Ok(()));
}

// ---- laws

fn array<const N: usize>() -> impl Strategy<Value = [u8; N]> {
    proptest::collection::vec(any::<u8>(), N).prop_map(|bytes| bytes.try_into().unwrap())
}

fn public_key() -> impl Strategy<Value = PublicKey> {
    array().prop_map(PublicKey)
}

fn user_id() -> impl Strategy<Value = UserId> {
    "[a-z0-9._-]{1,32}@[a-z0-9]{1,63}(\\.[a-z]([a-z0-9-]{0,20}[a-z])?){0,3}"
        .prop_map(|text| text.parse().unwrap())
}

fn validity() -> impl Strategy<Value = Validity> {
    any::<(u64, u64)>().prop_map(|(not_before, not_after)| Validity {
        not_before,
        not_after,
    })
}

fn certificate() -> impl Strategy<Value = DeviceCertificate> {
    (public_key(), validity(), array()).prop_map(|(signature_key, validity, signature)| {
        DeviceCertificate {
            version: Version,
            signature_key,
            validity,
            signature,
        }
    })
}

fn credential() -> impl Strategy<Value = DeviceCredential> {
    let chain = proptest::collection::vec(certificate(), 1..=MAX_CHAIN);
    let signed = (public_key(), array(), array());
    (user_id(), signed, validity(), chain).prop_map(
        |(user, (identity_key, binding_key, binding_signature), binding_validity, chain)| {
            DeviceCredential {
                version: Version,
                user,
                identity_key,
                binding_key,
                binding_validity,
                binding_signature,
                chain,
            }
        },
    )
}

fn registration() -> impl Strategy<Value = Registration> {
    let keys = (public_key(), public_key(), public_key());
    let sealing = (any::<(u16, u16, u64)>(), array(), array());
    let bytes = (
        proptest::collection::vec(any::<u8>(), 0..99),
        array(),
        array(),
    );
    (user_id(), certificate(), keys, sealing, bytes).prop_map(
        |(user, certificate, keys, (numbers, mailbox_key, shelf_key), bytes)| {
            let (url, mailbox, device_signature) = bytes;
            Registration {
                version: Version,
                domain: user.domain.clone(),
                authentication_service: keys.0,
                name: user.name.clone(),
                identity_key: keys.1,
                device: DeviceRecord {
                    version: Version,
                    user,
                    certificate,
                    issued: numbers.2,
                    delivery: DeliveryAddress {
                        url: url.into(),
                        key: keys.2,
                        pin: [1; 32].into(),
                    },
                    mailbox,
                    mailbox_key: MailboxKey {
                        version: numbers.0,
                        key: mailbox_key,
                    },
                    shelf_key: ShelfKey {
                        version: numbers.1,
                        key: shelf_key,
                    },
                },
                device_signature,
            }
        },
    )
}

/// Bytes that are read are the only bytes that are written for what was read.
fn canonical<T: Encode + Decode>(bytes: &[u8]) {
    if let Ok(value) = T::from_bytes(bytes) {
        assert_eq!(value.to_bytes(), bytes);
    }
}

fn canonical_all(bytes: &[u8]) {
    canonical::<UserId>(bytes);
    canonical::<Binding>(bytes);
    canonical::<DeviceCertificate>(bytes);
    canonical::<DeviceCredential>(bytes);
    canonical::<DeviceRecord>(bytes);
    canonical::<Registration>(bytes);
    canonical::<AcceptedKeys>(bytes);
    canonical::<Policy>(bytes);
    canonical::<Title>(bytes);
}

proptest! {
    #[test]
    fn credentials_survive_their_bytes(credential in credential()) {
        prop_assert_eq!(DeviceCredential::from_bytes(&credential.to_bytes()), Ok(credential.clone()));
        prop_assert_eq!(DeviceCredential::read(&credential.to_credential()), Ok(credential));
    }

    #[test]
    fn registrations_survive_their_bytes(registration in registration()) {
        prop_assert_eq!(Registration::from_bytes(&registration.to_bytes()), Ok(registration));
    }

    #[test]
    fn accepted_keys_and_titles_survive_their_bytes(
        users in proptest::collection::vec((user_id(), public_key()), 0..5),
        text in "[^\\pC]{0,60}",
    ) {
        let mut keys = AcceptedKeys::default();
        for (user, key) in users {
            keys.insert(user.domain, key);
        }
        let title = Title::new(&text).unwrap();
        let extensions = Extensions::default().with(&keys).with(&title).with(&Policy::default());
        let extensions = Extensions::from_bytes(&extensions.to_bytes()).unwrap();
        prop_assert_eq!(extensions.get(), Ok(Some(keys)));
        prop_assert_eq!(extensions.get(), Ok(Some(title)));
        prop_assert_eq!(extensions.get(), Ok(Some(Policy::default())));
    }

    #[test]
    fn a_changed_byte_is_noticed(at in any::<prop::sample::Index>(), change in 1u8..) {
        let alice = Person::new("alice@example.org", 10);
        let mut bytes = alice.credential().to_bytes();
        let at = at.index(bytes.len());
        bytes[at] ^= change;
        let changed = Credential::Custom {
            credential_type: CREDENTIAL_TYPE,
            data: bytes.into(),
        };
        let answer = Judge.validate(&changed, &alice.device.public().0, &group(), None);
        prop_assert!(answer.is_err());
    }

    #[test]
    fn any_bytes_are_read_or_refused(
        noise in proptest::collection::vec(any::<u8>(), 0..400),
        registration in registration(),
        at in any::<prop::sample::Index>(),
        change in 1u8..,
    ) {
        canonical_all(&noise);
        let mut bytes = registration.to_bytes();
        let at = at.index(bytes.len());
        bytes[at] ^= change;
        canonical_all(&bytes);
        canonical_all(&bytes[..at]);
    }
}
