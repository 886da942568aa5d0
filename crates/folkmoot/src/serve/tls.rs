//! How the server shows who it is: TLS 1.3 with a certificate that the operator gives or, on
//! loopback, one of its own.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::NoServerSessionStorage;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::ServeError;
use super::data::Data;

/// The private key of the server's own certificate. The certificate is made anew at each start;
/// what clients pin is the key.
const OWN_KEY: &str = "tls.key.pem";

/// The server's certificate, ready for use.
pub(super) struct Identity {
    /// For connections that come in.
    pub(super) config: Arc<ServerConfig>,
    /// SHA-256 of the certificate's SubjectPublicKeyInfo.
    pub(super) pin: [u8; 32],
}

impl Identity {
    /// What the operator gives, both in PEM; the chain begins with the server's certificate.
    pub(super) fn read(certificates: &Path, key: &Path) -> Result<Self, ServeError> {
        let read = |path: &Path| {
            std::fs::read(path).map_err(|error| ServeError::file("read", path, &error))
        };
        let chain = CertificateDer::pem_slice_iter(&read(certificates)?)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| ServeError::pem(certificates, "certificate", error))?;
        let key_pem = Zeroizing::new(read(key)?);
        let key = PrivateKeyDer::from_pem_slice(&key_pem)
            .map_err(|error| ServeError::pem(key, "private key", error))?;
        let first = chain
            .first()
            .ok_or_else(|| ServeError::pem(certificates, "certificate", "there is none"))?;
        let pin =
            pin(first).map_err(|error| ServeError::pem(certificates, "certificate", error))?;
        Ok(Self {
            config: config(chain, key)?,
            pin,
        })
    }

    /// The server's own certificate, for loopback and the address `ip`.
    pub(super) fn own(data: &Data, ip: IpAddr) -> Result<Self, ServeError> {
        let unusable = |error: rcgen::Error| ServeError::Tls(error.to_string());
        let pem = data.read_or_make(OWN_KEY, || {
            let key = KeyPair::generate().map_err(unusable)?;
            Ok(key.serialize_pem().into_bytes().into())
        })?;
        let damaged = || ServeError::Damaged(data.path(OWN_KEY));
        let pem = std::str::from_utf8(&pem).map_err(|_| damaged())?;
        let key = KeyPair::from_pem(pem).map_err(|_| damaged())?;
        let names = ["localhost", "127.0.0.1", "::1", &ip.to_string()].map(str::to_owned);
        let certificate = CertificateParams::new(names)
            .and_then(|parameters| parameters.self_signed(&key))
            .map_err(unusable)?;
        let der = certificate.der().clone();
        let pin = pin(&der).map_err(|error| ServeError::Tls(error.to_string()))?;
        let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| damaged())?;
        Ok(Self {
            config: config(vec![der], key)?,
            pin,
        })
    }
}

/// TLS 1.3 and nothing older. No session is resumed: a ticket would link a client's connections.
fn config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<ServerConfig>, ServeError> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| ServeError::Tls(error.to_string()))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

fn pin(certificate: &CertificateDer<'_>) -> Result<[u8; 32], webpki::Error> {
    let certificate = webpki::EndEntityCert::try_from(certificate)?;
    Ok(Sha256::digest(certificate.subject_public_key_info()).into())
}
