//! Who our members are: basic credentials, as the peers have them, or our own.

use folkmoot_credential::keys::{PublicKey, SigningKey};
use folkmoot_credential::{
    AcceptedKeys, BINDING_SECONDS, Binding, CERTIFICATE_SECONDS, CREDENTIAL_TYPE,
    DeviceCertificate, DeviceCredential, EXTENSION_TYPES, Judge, UserId, Validity,
};
use folkmoot_mls::capabilities::Capabilities;
use folkmoot_mls::code_point::ProtocolVersion;
use folkmoot_mls::context::{AuthenticationService, BasicCredentials};
use folkmoot_mls::credential::{Credential, CredentialType};
use folkmoot_mls::extension::{ExtensionType, Extensions};
use folkmoot_mls::leaf_node::LeafParameters;

use super::ours::{SUITE, lifetime};
use crate::member::{CredentialKind, Failure};

/// A kind of credential.
pub trait Credentials {
    /// Which.
    const KIND: CredentialKind;

    /// Who judges them.
    const JUDGE: &'static dyn AuthenticationService;

    /// What the group's context holds for the judge.
    ///
    /// # Errors
    /// None that the credentials' own tests do not find first.
    fn group() -> Result<Extensions, Failure>;

    /// What the leaf of the member with this name and signature key holds.
    ///
    /// # Errors
    /// As [`group`](Self::group).
    fn leaf(name: &str, signature_key: &[u8]) -> Result<LeafParameters, Failure>;
}

/// Basic credentials.
#[derive(Clone, Copy, Debug)]
pub struct Basic;

impl Credentials for Basic {
    const KIND: CredentialKind = CredentialKind::Basic;
    const JUDGE: &'static dyn AuthenticationService = &BasicCredentials;

    fn group() -> Result<Extensions, Failure> {
        Ok(Extensions::default())
    }

    fn leaf(name: &str, _: &[u8]) -> Result<LeafParameters, Failure> {
        let credential = Credential::basic(name.as_bytes());
        Ok(leaf(credential, CredentialType::BASIC, &[]))
    }
}

/// Our own: an Authentication Service vouches for the user's key, and that for the leaf's.
#[derive(Clone, Copy, Debug)]
pub struct Own;

const DOMAIN: &str = "example.org";

/// The Authentication Service's key.
fn authentication_service() -> SigningKey {
    SigningKey::from_seed([1; 32].into())
}

fn at<E: std::fmt::Debug>(call: &'static str) -> impl Fn(E) -> Failure + Copy {
    Failure::at("credentials", call)
}

impl Credentials for Own {
    const KIND: CredentialKind = CredentialKind::Own;
    const JUDGE: &'static dyn AuthenticationService = &Judge;

    fn group() -> Result<Extensions, Failure> {
        let domain = DOMAIN.parse().map_err(at("name a domain"))?;
        let keys = AcceptedKeys::of(domain, authentication_service().public());
        Ok(Extensions::default().with(&keys))
    }

    fn leaf(name: &str, signature_key: &[u8]) -> Result<LeafParameters, Failure> {
        let user: UserId = format!("{}@{DOMAIN}", name.replace(' ', ""))
            .parse()
            .map_err(at("name a user"))?;
        // One for each name; nobody keeps it.
        let mut seed = [2; 32];
        for (byte, letter) in seed.iter_mut().zip(name.bytes()) {
            *byte = letter;
        }
        let identity = SigningKey::from_seed(seed.into());
        let key = PublicKey::read(signature_key).ok_or(());
        let key = key.map_err(at("read a signature key"))?;
        let now = lifetime().not_before;
        let certified = Validity::starting(now, CERTIFICATE_SECONDS);
        let certificate = DeviceCertificate::issue(user.clone(), key, certified, &identity);
        let bound = Validity::starting(now, BINDING_SECONDS);
        let binding = Binding::issue(user, identity.public(), bound, &authentication_service());
        let credential = DeviceCredential::new(binding, vec![certificate]).to_credential();
        Ok(leaf(credential, CREDENTIAL_TYPE, &EXTENSION_TYPES))
    }
}

/// The leaf of a client that knows what RFC 9420 demands, these extensions, and no more.
fn leaf(
    credential: Credential,
    credential_type: CredentialType,
    extensions: &[ExtensionType],
) -> LeafParameters {
    LeafParameters {
        credential,
        capabilities: Capabilities {
            versions: vec![ProtocolVersion::MLS10],
            cipher_suites: vec![SUITE],
            extensions: extensions.to_vec(),
            proposals: Vec::new(),
            credentials: vec![credential_type],
        },
        extensions: Extensions::default(),
    }
}
