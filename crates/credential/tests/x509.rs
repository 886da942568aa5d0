//! X.509 credentials: each rule with a chain that breaks just that one.
#![cfg(feature = "aws-lc")]

use folkmoot_credential::x509::{KeyUsage, MAX_CERTIFICATES, X509Credentials, x509_credential};
use folkmoot_mls::capabilities::Capabilities;
use folkmoot_mls::code_point::ProtocolVersion;
use folkmoot_mls::component::NoComponents;
use folkmoot_mls::context::{
    AuthenticationService, BasicCredentials, ByCredentialType, Context, CredentialError, NoPsks,
    OneThread,
};
use folkmoot_mls::credential::{Credential, CredentialType};
use folkmoot_mls::crypto::{CipherSuite, CryptoProvider, SignatureKeyPair, aws_lc::PROVIDER};
use folkmoot_mls::error::Error;
use folkmoot_mls::extension::Extensions;
use folkmoot_mls::group::{Group, GroupParameters, KeyPackageError, ProposalError};
use folkmoot_mls::key_package::{KeyPackage, KeyPackageBundle};
use folkmoot_mls::leaf_node::{LeafParameters, Lifetime};
use folkmoot_mls::tree::LeafNodeError;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    NameConstraints, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ECDSA_P521_SHA512,
    PKCS_ED25519, SanType, SignatureAlgorithm, date_time_ymd,
};

/// The first seconds of these years.
const YEAR_2025: u64 = 1_735_689_600;
const YEAR_2026: u64 = 1_767_225_600;
const YEAR_2027: u64 = 1_798_761_600;
const NOW: Option<u64> = Some(YEAR_2026 + 1_000_000);

struct Authority {
    der: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

fn named(name: &str) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = DistinguishedName::new();
    let common_name = DnType::CommonName;
    parameters.distinguished_name.push(common_name, name);
    parameters.not_before = date_time_ymd(2025, 1, 1);
    parameters.not_after = date_time_ymd(2030, 1, 1);
    parameters
}

fn authority_parameters(name: &str) -> CertificateParams {
    let mut parameters = named(name);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    parameters
}

impl Authority {
    fn root(name: &str) -> Self {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let parameters = authority_parameters(name);
        let der = parameters.self_signed(&key).unwrap().der().to_vec();
        let issuer = Issuer::new(parameters, key);
        Self { der, issuer }
    }

    fn below(&self, parameters: CertificateParams) -> Self {
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let der = self.issue(&parameters, &key);
        let issuer = Issuer::new(parameters, key);
        Self { der, issuer }
    }

    fn issue(&self, parameters: &CertificateParams, key: &KeyPair) -> Vec<u8> {
        let certificate = parameters.signed_by(key, &self.issuer).unwrap();
        certificate.der().to_vec()
    }
}

/// Alice's phone, in 2026.
fn alice() -> CertificateParams {
    let mut parameters = named("Alice's phone");
    parameters.not_before = date_time_ymd(2026, 1, 1);
    parameters.not_after = date_time_ymd(2027, 1, 1);
    parameters.subject_alt_names = vec![
        SanType::Rfc822Name("Alice@Example.org".try_into().unwrap()),
        SanType::DnsName("phone.alice.example.org".try_into().unwrap()),
        SanType::URI("im:alice@example.org".try_into().unwrap()),
    ];
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    parameters
}

/// A root, an intermediate below it, and a judge who trusts the root.
struct World {
    root: Authority,
    middle: Authority,
    key: KeyPair,
    judge: X509Credentials,
}

impl World {
    fn new() -> Self {
        let root = Authority::root("root");
        let middle = root.below(authority_parameters("middle"));
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let judge = X509Credentials::new([&*root.der]).unwrap();
        Self {
            root,
            middle,
            key,
            judge,
        }
    }

    /// The chain of an end entity below the intermediate.
    fn credential(&self, parameters: &CertificateParams) -> Credential {
        let der = self.middle.issue(parameters, &self.key);
        x509_credential([&*der, &*self.middle.der])
    }

    fn judged(&self, credential: &Credential, now: Option<u64>) -> Result<(), CredentialError> {
        let key = self.key.public_key_raw();
        self.judge
            .validate(credential, key, &Extensions::default(), now)
    }
}

#[test]
fn a_chain_is_valid_for_each_kind_of_key() {
    let mut world = World::new();
    let kinds: [(&SignatureAlgorithm, usize); 4] = [
        (&PKCS_ED25519, 32),
        (&PKCS_ECDSA_P256_SHA256, 65),
        (&PKCS_ECDSA_P384_SHA384, 97),
        (&PKCS_ECDSA_P521_SHA512, 133),
    ];
    for (kind, length) in kinds {
        world.key = KeyPair::generate_for(kind).unwrap();
        assert_eq!(world.key.public_key_raw().len(), length);
        let credential = world.credential(&alice());
        assert_eq!(world.judged(&credential, NOW), Ok(()), "{kind:?}");
        assert_eq!(world.judged(&credential, None), Ok(()), "{kind:?}");
    }
}

#[test]
fn each_part_of_the_time_counts() {
    let world = World::new();
    let credential = world.credential(&alice());
    for (now, expected) in [
        (YEAR_2026 - 1, Err(CredentialError::Expired)),
        (YEAR_2026, Ok(())),
        (YEAR_2027, Ok(())),
        (YEAR_2027 + 1, Err(CredentialError::Expired)),
    ] {
        assert_eq!(world.judged(&credential, Some(now)), expected, "at {now}");
    }
    // The same for the authority between.
    let mut short = authority_parameters("short");
    short.not_before = date_time_ymd(2026, 2, 1);
    short.not_after = date_time_ymd(2026, 3, 1);
    let short = world.root.below(short);
    let end_entity = short.issue(&alice(), &world.key);
    let credential = x509_credential([&*end_entity, &*short.der]);
    let month = 31 * 86_400;
    for (now, expected) in [
        (Some(YEAR_2026 + month - 1), Err(CredentialError::Expired)),
        (Some(YEAR_2026 + month), Ok(())),
        (Some(YEAR_2026 + 2 * month), Err(CredentialError::Expired)),
        (None, Ok(())),
    ] {
        assert_eq!(world.judged(&credential, now), expected, "at {now:?}");
    }
    // There was no time at all when both were valid.
    let mut over = authority_parameters("over");
    over.not_after = date_time_ymd(2025, 12, 31);
    let over = world.root.below(over);
    let end_entity = over.issue(&alice(), &world.key);
    let credential = x509_credential([&*end_entity, &*over.der]);
    for now in [None, NOW, Some(YEAR_2025)] {
        assert_eq!(
            world.judged(&credential, now),
            Err(CredentialError::Expired)
        );
    }
}

#[test]
fn only_chains_to_a_trust_anchor_count() {
    let world = World::new();
    // The same names, another root.
    let other = World::new();
    let credential = other.credential(&alice());
    let key = other.key.public_key_raw();
    let none = Extensions::default();
    assert!(other.judge.validate(&credential, key, &none, NOW).is_ok());
    assert_eq!(
        world.judge.validate(&credential, key, &none, NOW),
        Err(CredentialError::NotAuthentic),
        "the root's name is right, its key is not"
    );
    let stranger = X509Credentials::new([&*Authority::root("stranger").der]).unwrap();
    for now in [None, NOW] {
        assert_eq!(
            stranger.validate(&credential, key, &none, now),
            Err(CredentialError::UntrustedIssuer)
        );
    }
    let nobody = X509Credentials::new([]).unwrap();
    assert_eq!(
        nobody.validate(&credential, key, &none, NOW),
        Err(CredentialError::UntrustedIssuer)
    );
    // An end entity does not issue.
    let false_authority = world.middle.below(alice());
    let end_entity = false_authority.issue(&named("mallory"), &world.key);
    let credential = x509_credential([&*end_entity, &*false_authority.der, &*world.middle.der]);
    assert_eq!(
        world.judged(&credential, NOW),
        Err(CredentialError::WrongUse)
    );
    assert_eq!(
        X509Credentials::new([b"no certificate".as_slice()]).err(),
        Some(CredentialError::Malformed)
    );
}

#[test]
fn the_key_is_that_of_the_leaf() {
    let world = World::new();
    let credential = world.credential(&alice());
    let none = Extensions::default();
    let judge = |key: &[u8]| world.judge.validate(&credential, key, &none, NOW);
    let key = world.key.public_key_raw();
    assert_eq!(judge(key), Ok(()));
    let other = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    for wrong in [other.public_key_raw(), &key[..31], &[]] {
        assert_eq!(judge(wrong), Err(CredentialError::NotAuthentic));
    }
}

#[test]
fn what_is_missing_may_be_known_and_order_matters_for_the_first_only() {
    let world = World::new();
    let lowest = world.middle.below(authority_parameters("lowest"));
    let end_entity = lowest.issue(&alice(), &world.key);
    let (middle, root) = (&*world.middle.der, &*world.root.der);
    let lowest = &*lowest.der;
    let whole = x509_credential([&*end_entity, lowest, middle]);
    assert_eq!(world.judged(&whole, NOW), Ok(()));
    let with_root = x509_credential([&*end_entity, lowest, middle, root]);
    assert_eq!(world.judged(&with_root, NOW), Ok(()));
    let turned = x509_credential([&*end_entity, middle, lowest]);
    assert_eq!(world.judged(&turned, NOW), Ok(()), "any order of the rest");
    let first = x509_credential([lowest, &*end_entity, middle]);
    assert_eq!(
        world.judged(&first, NOW),
        Err(CredentialError::NotAuthentic),
        "the end entity stands first"
    );
    let missing = x509_credential([&*end_entity, lowest]);
    for now in [None, NOW] {
        assert_eq!(
            world.judged(&missing, now),
            Err(CredentialError::UntrustedIssuer)
        );
    }
    let knowing = World {
        judge: world.judge.clone().knowing([middle]),
        ..world
    };
    for now in [None, NOW] {
        assert_eq!(knowing.judged(&missing, now), Ok(()));
    }
}

#[test]
fn a_certificate_is_for_its_use() {
    let world = World::new();
    let wrong = Err(CredentialError::WrongUse);
    let judged = |change: &dyn Fn(&mut CertificateParams)| {
        let mut parameters = alice();
        change(&mut parameters);
        world.judged(&world.credential(&parameters), NOW)
    };
    let extension = |critical: bool| {
        let mut extension = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
        extension.set_criticality(critical);
        extension
    };
    assert_eq!(
        judged(&|p| p.custom_extensions = vec![extension(false)]),
        Ok(())
    );
    assert_eq!(
        judged(&|p| p.custom_extensions = vec![extension(true)]),
        wrong
    );
    assert_eq!(judged(&|p| p.extended_key_usages.clear()), Ok(()));
    let server = ExtendedKeyUsagePurpose::ServerAuth;
    assert_eq!(
        judged(&|p| p.extended_key_usages = vec![server.clone()]),
        wrong
    );
    assert_eq!(judged(&|p| p.key_usages.clear()), Ok(()));
    assert_eq!(
        judged(&|p| p.key_usages = vec![KeyUsagePurpose::KeyAgreement]),
        wrong
    );
    assert_eq!(
        judged(&|p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
        wrong
    );
    // Another purpose, which the application asks for.
    let server_auth = World {
        judge: world.judge.clone().key_usage(KeyUsage::server_auth()),
        key: KeyPair::generate_for(&PKCS_ED25519).unwrap(),
        root: Authority::root("unused"),
        middle: world.root.below(authority_parameters("another")),
    };
    let credential = server_auth.credential(&alice());
    assert_eq!(server_auth.judged(&credential, NOW), wrong);
    // An authority for one domain speaks for no other.
    let mut limited = authority_parameters("limited");
    limited.name_constraints = Some(NameConstraints {
        permitted_subtrees: vec![GeneralSubtree::DnsName("example.com".to_owned())],
        excluded_subtrees: Vec::new(),
    });
    let limited = world.root.below(limited);
    let end_entity = limited.issue(&alice(), &world.key);
    let credential = x509_credential([&*end_entity, &*limited.der]);
    assert_eq!(world.judged(&credential, NOW), wrong);
}

#[test]
fn what_is_no_chain_is_refused_within_bounds() {
    let world = World::new();
    let end_entity = world.middle.issue(&alice(), &world.key);
    let malformed = Err(CredentialError::Malformed);
    let mut longer = end_entity.clone();
    longer.push(0);
    let cut = &end_entity[..end_entity.len() - 1];
    let many = vec![&*end_entity; MAX_CERTIFICATES + 1];
    let large = vec![0; 40_000];
    for chain in [
        vec![],
        vec![&*longer],
        vec![cut],
        many,
        vec![&*end_entity, &*large],
    ] {
        assert_eq!(world.judged(&x509_credential(chain), NOW), malformed);
    }
    assert_eq!(
        world.judged(&Credential::basic(end_entity), NOW),
        Err(CredentialError::UnsupportedType)
    );
    let mut nobody = named("");
    nobody.distinguished_name = DistinguishedName::new();
    assert_eq!(
        world.judged(&world.credential(&nobody), NOW),
        Err(CredentialError::WrongName)
    );
}

#[test]
fn names_and_clients_are_told_apart() {
    let mut world = World::new();
    let credential = world.credential(&alice());
    for (name, expected) in [
        ("Alice@example.ORG", true),
        ("alice@example.org", false),
        ("phone.ALICE.example.org", true),
        ("alice.example.org", false),
        ("im:alice@example.org", true),
        ("Alice's phone", false),
        ("", false),
    ] {
        let name = name.as_bytes();
        assert_eq!(world.judge.presents(&credential, name), expected);
        let (key, none) = (world.key.public_key_raw(), Extensions::default());
        assert_eq!(
            world.judge.validate_for(name, &credential, key, &none, NOW),
            expected.then_some(()).ok_or(CredentialError::WrongName)
        );
    }
    // Renewed, with a new key, by another authority of the same root.
    world.key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    world.middle = world.root.below(authority_parameters("another"));
    let mut renewed = alice();
    renewed.not_after = date_time_ymd(2028, 1, 1);
    let renewed = world.credential(&renewed);
    assert!(world.judge.is_successor(&credential, &renewed));
    assert!(world.judge.is_same_client(&credential, &renewed));
    let mut laptop = alice();
    let common_name = DnType::CommonName;
    laptop
        .distinguished_name
        .push(common_name, "Alice's laptop");
    let mut elsewhere = alice();
    elsewhere.subject_alt_names.pop();
    for other in [laptop, elsewhere] {
        let other = world.credential(&other);
        assert_eq!(world.judged(&other, NOW), Ok(()));
        assert!(!world.judge.is_successor(&credential, &other));
    }
    let basic = Credential::basic(*b"x");
    assert!(
        !world.judge.is_same_client(&basic, &basic),
        "no certificate"
    );
}

#[test]
fn a_client_belongs_to_the_trust_anchor_that_its_chain_leads_to() {
    let ours = World::new();
    let theirs = World::new();
    let third = Authority::root("third");
    // The anchors have the same name, or another one.
    let judge = X509Credentials::new([&*ours.root.der, &*theirs.root.der, &*third.der]).unwrap();
    let credential = ours.credential(&alice());
    let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let none = Extensions::default();
    for (root, expected) in [(&ours.root, true), (&theirs.root, false), (&third, false)] {
        let middle = root.below(authority_parameters("middle"));
        let end_entity = middle.issue(&alice(), &key);
        let other = x509_credential([&*end_entity, &*middle.der]);
        assert_eq!(
            judge.validate(&other, key.public_key_raw(), &none, NOW),
            Ok(())
        );
        assert_eq!(judge.is_same_client(&credential, &other), expected);
        assert_eq!(judge.is_same_client(&other, &credential), expected);
        assert_eq!(judge.is_successor(&credential, &other), expected);
        // Expired meanwhile, one is still who one was; without a trust anchor one is nobody.
        let mut expired = alice();
        expired.not_after = date_time_ymd(2026, 1, 2);
        let end_entity = middle.issue(&expired, &key);
        let expired = x509_credential([&*end_entity, &*middle.der]);
        assert_eq!(judge.is_successor(&expired, &credential), expected);
        let incomplete = x509_credential([&*end_entity]);
        assert!(!judge.is_same_client(&incomplete, &incomplete));
    }
}

#[test]
fn without_a_time_the_first_refusal_that_is_not_about_time_stands() {
    let world = World::new();
    let mut short = authority_parameters("short");
    short.not_after = date_time_ymd(2026, 3, 1);
    let (short, impostor) = (world.root.below(short.clone()), world.root.below(short));
    // A certificate that came later offers a second moment, when `short` had expired.
    let mut later = authority_parameters("later");
    later.not_before = date_time_ymd(2026, 6, 1);
    let later = world.root.below(later);
    let end_entity = impostor.issue(&alice(), &world.key);
    let credential = x509_credential([&*end_entity, &*short.der, &*later.der]);
    assert_eq!(
        world.judged(&credential, None),
        Err(CredentialError::NotAuthentic)
    );
}

/// The PKCS #8 form of an Ed25519 seed (RFC 8410, section 7).
fn certified_key(pair: &SignatureKeyPair) -> KeyPair {
    let mut der = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20".to_vec();
    der.extend_from_slice(pair.private_key().as_slice());
    KeyPair::try_from(der).unwrap()
}

#[test]
fn a_group_of_certified_and_plain_members() {
    let world = World::new();
    let judge = ByCredentialType::default()
        .with(CredentialType::X509, &world.judge)
        .with(CredentialType::BASIC, &BasicCredentials);
    let mut rng = ChaCha20Rng::from_seed([5; 32]);
    let cipher_suite = CipherSuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_ED25519;
    let suite = PROVIDER.suite(cipher_suite).unwrap();
    let leaf = |credential: Credential| LeafParameters {
        credential,
        capabilities: Capabilities {
            versions: vec![ProtocolVersion::MLS10],
            cipher_suites: vec![cipher_suite],
            credentials: vec![CredentialType::BASIC, CredentialType::X509],
            ..Capabilities::default()
        },
        extensions: Extensions::default(),
    };
    let certified = |pair: &SignatureKeyPair| {
        let der = world.middle.issue(&alice(), &certified_key(pair));
        x509_credential([&*der, &*world.middle.der])
    };
    let [alice, bob, carol] = [(); 3].map(|()| suite.signature_key_pair(&mut rng));
    let mut offer = |pair: &SignatureKeyPair, credential| -> KeyPackageBundle {
        let lifetime = Lifetime {
            not_before: 0,
            not_after: u64::MAX,
        };
        let none = Extensions::default();
        KeyPackage::create(suite, pair, leaf(credential), lifetime, none, &mut rng).unwrap()
    };
    let plain = offer(&bob, Credential::basic(*b"bob"));
    let good = offer(&carol, certified(&carol));
    let stolen = offer(&carol, certified(&bob));

    let mut ctx = Context {
        provider: &PROVIDER,
        authentication_service: &judge,
        psks: &NoPsks,
        components: &NoComponents,
        now: NOW,
        workers: &OneThread,
        rng: &mut rng,
    };
    let parameters = GroupParameters {
        version: ProtocolVersion::MLS10,
        cipher_suite,
        group_id: b"group".as_slice().into(),
        extensions: Extensions::default(),
    };
    let mut created = Group::create(&mut ctx, parameters, &alice, leaf(certified(&alice))).unwrap();
    let commit = created.group.commit().add(stolen.key_package.clone());
    let refused = commit
        .build(&mut created.keys, &alice, &mut ctx)
        .unwrap_err();
    let error = LeafNodeError::Credential(CredentialError::NotAuthentic);
    let error = ProposalError::KeyPackage(KeyPackageError::LeafNode(error));
    assert_eq!(refused, Error::Proposal(error));
    let commit = created.group.commit().add(plain.key_package.clone());
    let commit = commit.add(good.key_package.clone());
    let pending = commit.build(&mut created.keys, &alice, &mut ctx).unwrap();
    let joined = Group::join(&mut ctx, &pending.welcome.unwrap(), &good, None).unwrap();
    assert_eq!(joined.group.member_count(), 3);
    // Who trusts nobody does not join.
    let only_basic = BasicCredentials;
    ctx.authentication_service = &only_basic;
    let commit = created.group.commit().add(good.key_package.clone());
    let refused = commit
        .build(&mut created.keys, &alice, &mut ctx)
        .unwrap_err();
    let error = LeafNodeError::Credential(CredentialError::UnsupportedType);
    let error = ProposalError::KeyPackage(KeyPackageError::LeafNode(error));
    assert_eq!(refused, Error::Proposal(error));
}
