//! KeyPackages and the leaves in them (RFC 9420, sections 5.3.1, 7.2, 7.3, 10 and 10.1), as they come
//! in Adds.

use folkmoot_mls::code_point::ProtocolVersion;
use folkmoot_mls::codec::Bytes;
use folkmoot_mls::context::{AuthenticationService, BasicCredentials, CredentialError};
use folkmoot_mls::credential::{Credential, CredentialType};
use folkmoot_mls::crypto::{CipherSuite, CryptoError};
use folkmoot_mls::error::Error;
use folkmoot_mls::extension::{ExtensionType, Extensions, RequiredCapabilities};
use folkmoot_mls::group::{Group, JoinError, KeyPackageError, ProposalError};
use folkmoot_mls::key_package::KeyPackage;
use folkmoot_mls::leaf_node::{LeafNodeSource, Lifetime};
use folkmoot_mls::proposal::{Proposal, ProposalType};
use folkmoot_mls::tree::{Capability, LeafNodeError, TreeError};

use crate::group_harness::{Client, SUITE};
use crate::insider::{Insider, unknown_extension};
use crate::{
    ALICE, Around, CUSTOM, LENIENT, MALLORY, custom, goes_on, group, newcomer,
    refuses_commit_around, resigned, signed_outside,
};

rules! {
    "10.1" "the version is the group's" => version;
    "10.1" "the cipher suite is the group's" => cipher_suite;
    "10.1" "the signature is valid" => signature;
    "10.1" "the init key is not the encryption key" => init_key_reused;
    "10" "the init key is one of the suite" => init_key;
    "10" "the encryption key is one of the suite" => encryption_key;
    "10" "the signature key is one of the suite" => signature_key;
    "13.4" "unknown extensions of a KeyPackage are passed over" => unknown_extensions;
    "7.2" "unknown values in capabilities are passed over" => unknown_capabilities;
    "7.2" "the total lifetime is not too long" => longest_lifetime;
    "7.3" "KeyPackage: the credential is valid" => credential;
    "7.3" "KeyPackage: the leaf's signature is valid" => leaf_signature;
    "7.3" "KeyPackage: the leaf's source is a KeyPackage" => source;
    "7.3" "KeyPackage: the lifetime includes the time" => lifetime;
    "7.3" "KeyPackage: the extensions are in the leaf's capabilities" => extensions_listed;
    "7.3" "KeyPackage: the credential's type is in the leaf's capabilities" => credential_listed;
    "7.3" "KeyPackage: the group's version is supported" => supports_version;
    "7.3" "KeyPackage: the group's cipher suite is supported" => supports_cipher_suite;
    "11.1" "KeyPackage: required extensions are supported" => required_extensions;
    "11.1" "KeyPackage: required proposals are supported" => required_proposals;
    "11.1" "KeyPackage: required credentials are supported" => required_credentials;
    "13.4" "KeyPackage: the group's extensions are supported" => group_extensions;
    "7.3" "KeyPackage: all members support the credential's type" => credential_of_all;
    "7.3" "KeyPackage: the credential types in use are supported" => credentials_in_use;
}

/// Alice refuses a commit that adds this KeyPackage, and the builder does not make it.
fn refused_in(
    clients: &mut [Client],
    mallory: &Insider,
    package: KeyPackage,
    error: ProposalError,
    around: Around<'_>,
) {
    let own = {
        let client = &mut clients[MALLORY];
        let member = client.member.as_mut().unwrap();
        let commit = member.group.commit().add(package.clone());
        let ctx = &mut around.context(&mut client.rng);
        commit.build(&mut member.keys, &client.signer, ctx)
    };
    assert_eq!(own.unwrap_err(), Error::Proposal(error.clone()));
    let group = clients[ALICE].group().clone();
    let ctx = &mut around.context(&mut clients[ALICE].rng);
    let checked = group.check_key_package(&package, ctx);
    if matches!(error, ProposalError::KeyPackage(_)) {
        assert_eq!(checked, Err(Error::Proposal(error.clone())));
    }
    let plan = mallory.plan(vec![Proposal::add(package)]);
    refuses_commit_around(clients, mallory, &plan, error, around);
}

fn refused_around(package: KeyPackage, error: impl Into<KeyPackageError>, around: Around<'_>) {
    let (mut clients, mallory) = group();
    let error = ProposalError::KeyPackage(error.into());
    refused_in(&mut clients, &mallory, package, error, around);
}

fn refused(package: KeyPackage, error: impl Into<KeyPackageError>) {
    refused_around(package, error, Around::default());
}

/// A KeyPackage with a change, signed again.
fn changed(change: impl FnOnce(&mut KeyPackage)) -> KeyPackage {
    let (client, mut package) = newcomer();
    change(&mut package);
    resigned(&client, package)
}

fn taken(package: KeyPackage) {
    let (mut clients, mallory) = group();
    let plan = mallory.plan(vec![Proposal::add(package)]);
    let message = mallory.commit(&plan).private(&mut clients[MALLORY]);
    crate::process(&mut clients[ALICE], &message, Around::default()).unwrap();
    goes_on(&mut clients);
}

#[test]
fn what_is_unchanged_is_taken() {
    taken(changed(|_| {}));
}

fn version() {
    let package = changed(|package| package.version = ProtocolVersion(2));
    refused(package, KeyPackageError::Version);
}

fn cipher_suite() {
    let package = changed(|package| package.cipher_suite = CipherSuite(3));
    refused(package, KeyPackageError::CipherSuite);
}

fn signature() {
    let (_, mut package) = newcomer();
    package.signature = Bytes::from([0; 64]);
    let error = KeyPackageError::Signature(CryptoError::InvalidSignature);
    refused(package, error.clone());
    // Signed by somebody else.
    let (_, package) = newcomer();
    refused(signed_outside(&Client::new("other"), package), error);
}

fn init_key_reused() {
    let package = changed(|package| {
        package.init_key = package.leaf_node.encryption_key.clone();
    });
    refused(package, KeyPackageError::InitKeyReused);
}

fn init_key() {
    for key in [&[0; 31][..], &[0; 32]] {
        let package = changed(|package| package.init_key = Bytes::from(key).into());
        refused(
            package,
            KeyPackageError::InitKey(CryptoError::InvalidPublicKey),
        );
    }
}

fn encryption_key() {
    for key in [&[0; 31][..], &[0; 32]] {
        let package = changed(|package| {
            package.leaf_node.encryption_key = Bytes::from(key).into();
        });
        let error = LeafNodeError::EncryptionKey(CryptoError::InvalidPublicKey);
        refused(package, error);
    }
}

fn signature_key() {
    let package = changed(|package| {
        package.leaf_node.signature_key = Bytes::from([7; 31]).into();
    });
    refused(
        package,
        LeafNodeError::Signature(CryptoError::InvalidPublicKey),
    );
}

fn unknown_extensions() {
    taken(changed(|package| package.extensions = unknown_extension()));
}

fn unknown_capabilities() {
    taken(changed(|package| {
        let capabilities = &mut package.leaf_node.capabilities;
        capabilities.versions.push(ProtocolVersion(0xfafa));
        capabilities.cipher_suites.push(CipherSuite(0x0a0a));
        capabilities.extensions.push(ExtensionType(0x1a1a));
        capabilities.proposals.push(ProposalType(0x2a2a));
        capabilities.credentials.push(CredentialType(0x3a3a));
    }));
}

/// Takes every basic credential, but no lifetime above a hundred seconds.
struct HundredSeconds;

impl AuthenticationService for HundredSeconds {
    fn validate(
        &self,
        credential: &Credential,
        signature_key: &[u8],
        group: &Extensions,
        now: Option<u64>,
    ) -> Result<(), CredentialError> {
        BasicCredentials.validate(credential, signature_key, group, now)
    }

    fn is_successor(&self, old: &Credential, new: &Credential) -> bool {
        BasicCredentials.is_successor(old, new)
    }

    fn longest_lifetime(&self) -> Option<u64> {
        Some(100)
    }
}

fn lasting(not_before: u64, not_after: u64) -> (Client, KeyPackage) {
    let mut client = Client::new("newcomer");
    let lifetime = Lifetime {
        not_before,
        not_after,
    };
    let package = client.key_package_with(client.parameters(), lifetime);
    (client, package)
}

fn longest_lifetime() {
    let hundred_seconds = Around {
        service: &HundredSeconds,
        ..Around::default()
    };
    let too_long = LeafNodeError::LifetimeTooLong { seconds: 101 };
    refused_around(lasting(50, 151).1, too_long, hundred_seconds);
    let (mut clients, _) = group();
    let alice = clients[ALICE].group().clone();
    let ctx = &mut hundred_seconds.context(&mut clients[ALICE].rng);
    assert_eq!(alice.check_key_package(&lasting(50, 150).1, ctx), Ok(()));
    // Nor does one join a group that took it.
    let (newcomer, package) = newcomer();
    let pending = clients[ALICE].commit(|commit| commit.add(package)).unwrap();
    let welcome = pending.welcome.unwrap();
    let bundle = newcomer.bundle.clone().unwrap();
    let ctx = &mut hundred_seconds.context(&mut clients[ALICE].rng);
    let refused = Group::join(ctx, &welcome, &bundle, None).unwrap_err();
    assert!(matches!(
        refused,
        Error::Join(JoinError::Tree(TreeError::Leaf {
            error: LeafNodeError::LifetimeTooLong { .. },
            ..
        }))
    ));
}

fn credential() {
    let package = changed(|package| {
        package.leaf_node.credential = Credential::basic(*b"forbidden");
    });
    let error = LeafNodeError::Credential(CredentialError::NotAuthentic);
    refused_around(package, error, LENIENT);
}

fn leaf_signature() {
    let (client, mut package) = newcomer();
    package.leaf_node.signature = Bytes::from([0; 64]);
    let package = signed_outside(&client, package);
    refused(
        package,
        LeafNodeError::Signature(CryptoError::InvalidSignature),
    );
}

fn source() {
    for source in [
        LeafNodeSource::Update,
        LeafNodeSource::Commit(Bytes::default()),
    ] {
        let package = changed(|package| package.leaf_node.leaf_node_source = source);
        refused(package, LeafNodeError::Source);
    }
}

fn lifetime() {
    let at = |now| Around {
        now: Some(now),
        ..Around::default()
    };
    for now in [99, 201] {
        let (_, package) = lasting(100, 200);
        refused_around(package, LeafNodeError::Lifetime { now }, at(now));
    }
    for now in [100, 200] {
        let (mut clients, mallory) = group();
        let plan = mallory.plan(vec![Proposal::add(lasting(100, 200).1)]);
        let message = mallory.commit(&plan).private(&mut clients[MALLORY]);
        crate::process(&mut clients[ALICE], &message, at(now)).unwrap();
    }
}

fn extensions_listed() {
    let package = changed(|package| package.leaf_node.extensions = unknown_extension());
    refused(
        package,
        LeafNodeError::UnlistedExtension(ExtensionType(0xf00d)),
    );
}

fn credential_listed() {
    let package = changed(|package| {
        package.leaf_node.capabilities.credentials = vec![CUSTOM];
    });
    refused(
        package,
        LeafNodeError::UnlistedCredential(CredentialType::BASIC),
    );
}

fn supports_version() {
    let package = changed(|package| {
        package.leaf_node.capabilities.versions = vec![ProtocolVersion(2)];
    });
    let mls10 = Capability::Version(ProtocolVersion::MLS10);
    refused(package, LeafNodeError::Lacks(mls10));
}

fn supports_cipher_suite() {
    let package = changed(|package| {
        package.leaf_node.capabilities.cipher_suites = vec![CipherSuite(3)];
    });
    refused(
        package,
        LeafNodeError::Lacks(Capability::CipherSuite(SUITE)),
    );
}

/// The members support all of this, and the group has these extensions.
pub fn group_with(extensions: Extensions) -> (Vec<Client>, Insider) {
    let mut clients: Vec<_> = ["alice", "mallory", "charlie"].map(Client::new).into();
    let all = |client: &Client| {
        let mut parameters = client.parameters();
        let capabilities = &mut parameters.capabilities;
        capabilities.extensions.push(ExtensionType(0xf00d));
        capabilities.proposals.push(ProposalType(0xf00e));
        capabilities.credentials.push(CUSTOM);
        parameters
    };
    let parameters = all(&clients[0]);
    clients[0].create_with(extensions, parameters);
    for index in 1..3 {
        let (parameters, always) = (
            all(&clients[index]),
            Lifetime {
                not_before: 0,
                not_after: u64::MAX,
            },
        );
        let package = clients[index].key_package_with(parameters, always);
        let pending = clients[0].commit(|commit| commit.add(package)).unwrap();
        crate::group_harness::deliver(&mut clients, 0, pending);
    }
    let mallory = Insider::of(&clients[MALLORY]);
    (clients, mallory)
}

fn lacks(extensions: Extensions, lacking: Capability) {
    let (mut clients, mallory) = group_with(extensions.clone());
    let error = ProposalError::KeyPackage(LeafNodeError::Lacks(lacking).into());
    let (_, package) = newcomer();
    refused_in(
        &mut clients,
        &mallory,
        package,
        error.clone(),
        Around::default(),
    );
    // The same for extensions that come with the Add, whichever is first (section 12.3).
    let (mut clients, mallory) = group_with(Extensions::default());
    let (_, package) = newcomer();
    let mut proposals = vec![
        Proposal::group_context_extensions(extensions),
        Proposal::add(package),
    ];
    let plan = mallory.plan(proposals.clone());
    refuses_commit_around(
        &mut clients,
        &mallory,
        &plan,
        error.clone(),
        Around::default(),
    );
    proposals.reverse();
    let mallory = Insider::of(&clients[MALLORY]);
    let plan = mallory.plan(proposals);
    refuses_commit_around(&mut clients, &mallory, &plan, error, Around::default());
}

fn required(required: RequiredCapabilities, lacking: Capability) {
    lacks(Extensions::default().with(&required), lacking);
}

fn required_extensions() {
    let kind = ExtensionType(0xf00d);
    let asked = RequiredCapabilities {
        extension_types: vec![kind],
        ..RequiredCapabilities::default()
    };
    required(asked, Capability::Extension(kind));
}

fn required_proposals() {
    let kind = ProposalType(0xf00e);
    let asked = RequiredCapabilities {
        proposal_types: vec![kind],
        ..RequiredCapabilities::default()
    };
    required(asked, Capability::Proposal(kind));
}

fn required_credentials() {
    let asked = RequiredCapabilities {
        credential_types: vec![CUSTOM],
        ..RequiredCapabilities::default()
    };
    required(asked, Capability::Credential(CUSTOM));
}

fn group_extensions() {
    let kind = Capability::Extension(ExtensionType(0xf00d));
    lacks(unknown_extension(), kind);
}

fn credential_of_all() {
    let package = changed(|package| {
        package.leaf_node.credential = custom(b"newcomer");
        package.leaf_node.capabilities.credentials.push(CUSTOM);
    });
    let (mut clients, mallory) = group();
    let error = ProposalError::UnsupportedCredential(CUSTOM);
    refused_in(&mut clients, &mallory, package, error, LENIENT);
}

/// All members support custom credentials, but have basic ones.
fn credentials_in_use() {
    let (mut clients, mallory) = group_with(Extensions::default());
    let package = changed(|package| {
        package.leaf_node.credential = custom(b"newcomer");
        package.leaf_node.capabilities.credentials = vec![CUSTOM];
    });
    let error = ProposalError::UnsupportedCredential(CredentialType::BASIC);
    refused_in(&mut clients, &mallory, package, error, LENIENT);
}
