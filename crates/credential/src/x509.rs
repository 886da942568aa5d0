//! X.509 credentials (RFC 9420, section 5.3): chains of certificates, for organisations with a PKI.
//!
//! [`X509Credentials`] judges them by trust anchors that the application gives. All members of a
//! group have to use the same ones, else they disagree about who may be in it. Chains are verified by
//! `webpki` (RFC 5280: signatures, validity, basic and name constraints, critical extensions, extended
//! key usage); on top come what MLS asks for: the end entity's key is the leaf's, may sign, and
//! belongs to somebody with a name. Revocation is not judged, since members who look up a list at
//! different times would disagree: who revokes a certificate removes its owner from the groups.
//!
//! The *presented identifiers* are the email addresses, DNS names and URIs of the subjectAltName. Each
//! trust anchor may vouch for any name that its own name constraints permit.
//!
//! The *client* is the subject and the subjectAltName under one trust anchor. A renewed certificate keeps
//! both names, so an organisation gives each device a name of its own; the intermediates may be others.
//! Under another trust anchor it is another client: no organisation takes over another's members. So
//! an organisation that replaces its trust anchor adds its clients anew.
//!
//! The algorithms are those of `aws-lc-rs`. Without the feature `aws-lc` this module does not exist: a
//! judge who lacks algorithms would refuse what other members accept.

use std::time::Duration;

use folkmoot_mls::context::{AuthenticationService, CredentialError};
use folkmoot_mls::credential::{Certificate, Credential};
use folkmoot_mls::extension::Extensions;
use rustls_pki_types::{CertificateDer, Der, TrustAnchor, UnixTime};
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_NIST_EC_P521, OID_SIG_ED448,
    OID_SIG_ED25519, OID_X509_EXT_SUBJECT_ALT_NAME,
};
use x509_parser::prelude::FromDer;
use x509_parser::x509::SubjectPublicKeyInfo;

pub use webpki::KeyUsage;

/// The most certificates that a credential may have.
pub const MAX_CERTIFICATES: usize = 8;

/// The most bytes that all certificates of a credential may have together.
pub const MAX_CERTIFICATE_BYTES: usize = 32 * 1024;

/// Judges X.509 credentials.
#[derive(Clone, Debug)]
pub struct X509Credentials {
    trust_anchors: Vec<TrustAnchor<'static>>,
    known: Vec<CertificateDer<'static>>,
    key_usage: KeyUsage,
    longest_lifetime: Option<u64>,
}

impl X509Credentials {
    /// A judge who trusts these certificates, given in DER. Of them only name, key and name
    /// constraints count.
    ///
    /// # Errors
    /// [`CredentialError::Malformed`] if one cannot be read: the caller's.
    pub fn new<'a>(
        trust_anchors: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Self, CredentialError> {
        let trust_anchors = trust_anchors
            .into_iter()
            .map(|der| {
                webpki::anchor_from_trusted_cert(&CertificateDer::from(der))
                    .map(|anchor| anchor.to_owned())
                    .map_err(|_| CredentialError::Malformed)
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            trust_anchors,
            known: Vec::new(),
            key_usage: KeyUsage::client_auth(),
            longest_lifetime: None,
        })
    }

    /// Certificates, in DER, that all members know, so that chains may omit them. They are no trust
    /// anchors.
    #[must_use]
    pub fn knowing<'a>(mut self, certificates: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let certificates = certificates.into_iter();
        self.known
            .extend(certificates.map(|der| CertificateDer::from(der).into_owned()));
        self
    }

    /// What an end entity's certificate must be for. Unless told otherwise: client authentication,
    /// where the certificate names purposes at all.
    #[must_use]
    pub fn key_usage(mut self, key_usage: KeyUsage) -> Self {
        self.key_usage = key_usage;
        self
    }

    /// The longest lifetime of a leaf from a KeyPackage, in seconds.
    #[must_use]
    pub fn longest_lifetime(mut self, seconds: u64) -> Self {
        self.longest_lifetime = Some(seconds);
        self
    }

    /// The trust anchor that a chain leads to at some time.
    fn verify_chain(&self, chain: &[&[u8]], now: Option<u64>) -> Result<Anchor, CredentialError> {
        let (end_entity, rest) = chain.split_first().ok_or(CredentialError::Malformed)?;
        let end_entity_der = CertificateDer::from(*end_entity);
        let end_entity = EndEntityCert::try_from(&end_entity_der).map_err(error_of)?;
        let intermediates: Vec<_> = rest
            .iter()
            .map(|der| CertificateDer::from(*der))
            .chain(self.known.iter().map(|known| known.as_ref().into()))
            .collect();
        let verify = |seconds| {
            let time = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
            end_entity
                .verify_for_usage(
                    ALL_VERIFICATION_ALGS,
                    &self.trust_anchors,
                    &intermediates,
                    time,
                    self.key_usage,
                    None,
                    None,
                )
                .map(|path| Anchor::from(path.anchor()))
                .map_err(error_of)
        };
        if let Some(now) = now {
            return verify(now);
        }
        // Without a time: whether there was one at which all of the chain was valid. If so, it was
        // when the last certificate of the path became valid.
        let (from, until) = validity(&end_entity_der)?;
        let mut moments: Vec<u64> = intermediates
            .iter()
            .filter_map(|der| Some(validity(der).ok()?.0))
            .filter(|moment| (from..=until).contains(moment))
            .chain([from])
            .collect();
        moments.sort_unstable();
        moments.dedup();
        for moment in moments {
            // What does not fail by its time fails at any: each try may cost many signatures.
            match verify(moment) {
                Err(CredentialError::Expired) => {}
                verdict => return verdict,
            }
        }
        Err(CredentialError::Expired)
    }
}

/// Name and key of a trust anchor.
#[derive(PartialEq)]
struct Anchor {
    subject: Der<'static>,
    subject_public_key_info: Der<'static>,
}

impl From<&TrustAnchor<'_>> for Anchor {
    fn from(anchor: &TrustAnchor<'_>) -> Self {
        let anchor = anchor.to_owned();
        Self {
            subject: anchor.subject,
            subject_public_key_info: anchor.subject_public_key_info,
        }
    }
}

impl AuthenticationService for X509Credentials {
    fn validate(
        &self,
        credential: &Credential,
        signature_key: &[u8],
        _group: &Extensions,
        now: Option<u64>,
    ) -> Result<(), CredentialError> {
        let chain = chain(credential)?;
        let end_entity = end_entity(&chain)?;
        if mls_key(end_entity.public_key()) != Some(signature_key) {
            return Err(CredentialError::NotAuthentic);
        }
        let key_usage = end_entity
            .key_usage()
            .map_err(|_| CredentialError::Malformed)?;
        if key_usage.is_some_and(|usage| !usage.value.digital_signature()) {
            return Err(CredentialError::WrongUse);
        }
        if end_entity.subject().iter().next().is_none() && names(&end_entity).is_empty() {
            return Err(CredentialError::WrongName);
        }
        self.verify_chain(&chain, now).map(drop)
    }

    /// An email address, a DNS name or a URI, as text. The domain of an address and a DNS name are
    /// compared without regard to case; there are no wildcards. A subject's common name is no name
    /// (RFC 9525, section 2).
    fn presents(&self, credential: &Credential, reference_identifier: &[u8]) -> bool {
        let Ok(wanted) = std::str::from_utf8(reference_identifier) else {
            return false;
        };
        chain(credential).is_ok_and(|chain| {
            end_entity(&chain)
                .is_ok_and(|end_entity| names(&end_entity).iter().any(|name| is_name(name, wanted)))
        })
    }

    /// The same subject and the same subjectAltName, byte for byte, under the same trust anchor.
    fn is_same_client(&self, one: &Credential, other: &Credential) -> bool {
        // Validity at the time is `validate`'s; here it is enough that there was one.
        let anchor = |credential| self.verify_chain(&chain(credential)?, None);
        let same = |one: Result<_, _>, other| one.is_ok() && one == other;
        same(names_of(one), names_of(other))
            && matches!((anchor(one), anchor(other)), (Ok(one), Ok(other)) if one == other)
    }

    /// The same client: its key and its certificates may be new.
    fn is_successor(&self, old: &Credential, new: &Credential) -> bool {
        self.is_same_client(old, new)
    }

    fn longest_lifetime(&self) -> Option<u64> {
        self.longest_lifetime
    }
}

/// A credential of a chain, the end entity's certificate first, each in DER.
#[must_use]
pub fn x509_credential<'a>(chain: impl IntoIterator<Item = &'a [u8]>) -> Credential {
    let certificates = chain
        .into_iter()
        .map(|der| Certificate {
            cert_data: der.into(),
        })
        .collect();
    Credential::X509 { certificates }
}

/// The certificates of a credential, if there are not too many.
fn chain(credential: &Credential) -> Result<Vec<&[u8]>, CredentialError> {
    let Credential::X509 { certificates } = credential else {
        return Err(CredentialError::UnsupportedType);
    };
    let bytes: usize = certificates.iter().map(|one| one.cert_data.len()).sum();
    if (1..=MAX_CERTIFICATES).contains(&certificates.len()) && bytes <= MAX_CERTIFICATE_BYTES {
        Ok(certificates.iter().map(|one| &*one.cert_data).collect())
    } else {
        Err(CredentialError::Malformed)
    }
}

fn end_entity<'a>(chain: &[&'a [u8]]) -> Result<X509Certificate<'a>, CredentialError> {
    let first = chain.first().ok_or(CredentialError::Malformed)?;
    parse(first)
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, CredentialError> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(CredentialError::Malformed),
    }
}

/// The first and the last second of a certificate, since 1970.
fn validity(der: &[u8]) -> Result<(u64, u64), CredentialError> {
    let certificate = parse(der)?;
    let validity = certificate.validity();
    let seconds = |time: x509_parser::time::ASN1Time| u64::try_from(time.timestamp()).unwrap_or(0);
    Ok((seconds(validity.not_before), seconds(validity.not_after)))
}

/// The subject's key as MLS writes it (RFC 9420, section 5.1.1), if it is of a kind that MLS uses.
fn mls_key<'a>(info: &SubjectPublicKeyInfo<'a>) -> Option<&'a [u8]> {
    let (algorithm, parameters) = (&info.algorithm.algorithm, &info.algorithm.parameters);
    let key: &'a [u8] = match &info.subject_public_key.data {
        std::borrow::Cow::Borrowed(data) => data,
        std::borrow::Cow::Owned(_) => return None,
    };
    let length = if *algorithm == OID_SIG_ED25519 && parameters.is_none() {
        32
    } else if *algorithm == OID_SIG_ED448 && parameters.is_none() {
        57
    } else if *algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY && key.first() == Some(&4) {
        let curve = parameters.as_ref()?.as_oid().ok()?;
        [
            (OID_EC_P256, 65),
            (OID_NIST_EC_P384, 97),
            (OID_NIST_EC_P521, 133),
        ]
        .into_iter()
        .find_map(|(known, length)| (known == curve).then_some(length))?
    } else {
        return None;
    };
    (info.subject_public_key.unused_bits == 0 && key.len() == length).then_some(key)
}

/// The names in a subjectAltName. One that cannot be read has none.
fn names<'a>(certificate: &'a X509Certificate<'_>) -> Vec<&'a GeneralName<'a>> {
    match certificate.subject_alternative_name() {
        Ok(Some(names)) => names.value.general_names.iter().collect(),
        Ok(None) | Err(_) => Vec::new(),
    }
}

fn is_name(name: &GeneralName<'_>, wanted: &str) -> bool {
    match name {
        GeneralName::URI(uri) => *uri == wanted,
        GeneralName::DNSName(name) => name.eq_ignore_ascii_case(wanted),
        GeneralName::RFC822Name(address) => {
            let parts = address.rsplit_once('@').zip(wanted.rsplit_once('@'));
            parts.is_some_and(|((name, domain), (wanted_name, wanted_domain))| {
                name == wanted_name && domain.eq_ignore_ascii_case(wanted_domain)
            })
        }
        _ => false,
    }
}

/// How its organisation calls the owner of a credential: subject and subjectAltName, in DER.
fn names_of(credential: &Credential) -> Result<(Vec<u8>, Option<Vec<u8>>), CredentialError> {
    let chain = chain(credential)?;
    let end_entity = end_entity(&chain)?;
    let names = end_entity
        .get_extension_unique(&OID_X509_EXT_SUBJECT_ALT_NAME)
        .map_err(|_| CredentialError::Malformed)?
        .map(|extension| extension.value.to_vec());
    Ok((end_entity.subject().as_raw().to_vec(), names))
}

/// As the engine names it.
fn error_of(error: webpki::Error) -> CredentialError {
    use webpki::Error;
    match error {
        Error::CertExpired { .. } | Error::CertNotValidYet { .. } | Error::InvalidCertValidity => {
            CredentialError::Expired
        }
        Error::UnknownIssuer | Error::CertDistrusted => CredentialError::UntrustedIssuer,
        Error::UnsupportedCriticalExtension
        | Error::RequiredEkuNotFoundContext(_)
        | Error::EmptyEkuExtension
        | Error::CaUsedAsEndEntity
        | Error::EndEntityUsedAsCa
        | Error::PathLenConstraintViolated
        | Error::NameConstraintViolation => CredentialError::WrongUse,
        Error::BadDer
        | Error::BadDerTime
        | Error::ExtensionValueInvalid
        | Error::MalformedExtensions
        | Error::MalformedNameConstraint
        | Error::MalformedDnsIdentifier
        | Error::InvalidSerialNumber
        | Error::InvalidNetworkMaskConstraint
        | Error::TrailingData(_)
        | Error::UnsupportedCertVersion => CredentialError::Malformed,
        Error::MaximumPathBuildCallsExceeded
        | Error::MaximumPathDepthExceeded
        | Error::MaximumSignatureChecksExceeded
        | Error::MaximumNameConstraintComparisonsExceeded => CredentialError::UntrustedIssuer,
        _ => CredentialError::NotAuthentic,
    }
}
