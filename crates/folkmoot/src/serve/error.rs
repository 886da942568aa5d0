//! Why the server does not start: one line each, which says what to do.

use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Why the server does not start. The operator is to blame, or the machine.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// Something else listens there.
    #[error("another program already listens on {0}: stop it, or choose an address with --listen")]
    AddressInUse(SocketAddr),
    /// The system does not let us listen there.
    #[error("cannot listen on {address}: {reason}; choose an address with --listen")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        reason: String,
    },
    /// Outside of loopback there must be a certificate.
    #[error(
        "{0} can be reached from outside: give a certificate with --tls-cert and --tls-key, or \
         listen on 127.0.0.1"
    )]
    NeedsCertificate(SocketAddr),
    /// A file cannot be read or written.
    #[error("cannot {action} {}: {reason}", .path.display())]
    File {
        /// Read or write.
        action: &'static str,
        /// Which.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// The file is no domain's document with issuer keys.
    #[error(
        "{} is not a domain's /.well-known/folkmoot with keys that issue tokens: fetch it again",
        .0.display()
    )]
    Issuer(PathBuf),
    /// Attachments cannot be kept there.
    #[error("attachments cannot be kept at {0}: {1}; choose another place with --blobs")]
    Blobs(String, folkmoot_delivery_service::blobs::ObjectsError),
    /// Another process has the folder.
    #[error("another server runs on the data folder {}", .0.display())]
    DataInUse(PathBuf),
    /// A secret lies open.
    #[error("{} can be read by others: make it private with chmod 600", .0.display())]
    Exposed(PathBuf),
    /// A file is not what this program writes there.
    #[error("{} is damaged: restore it from a backup", .0.display())]
    Damaged(PathBuf),
    /// The folder was made for another domain.
    #[error(
        "the data folder is that of domain {stored}, not {wanted}: leave --domain out, or use another folder"
    )]
    OtherDomain {
        /// The folder's.
        stored: String,
        /// What was asked for.
        wanted: String,
    },
    /// A PEM file holds no certificate, or no key, that can be used.
    #[error("{} holds no usable {what} in PEM: {reason}", .path.display())]
    Pem {
        /// Which file.
        path: PathBuf,
        /// Certificate or private key.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// Certificate and private key do not belong together, or are of no kind that TLS 1.3 uses.
    #[error("the certificate and the private key cannot be used together: {0}")]
    Tls(String),
    /// A database cannot be opened.
    #[error("cannot open {}: {reason}", .path.display())]
    Database {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A database is there, and no keys for it.
    #[error("{0} is not there: without the keys the delivery service's database cannot be opened")]
    KeysMissing(String),
    /// What should be keys are none.
    #[error("{0} holds no keys: they are lines of 64 hexadecimal digits each")]
    KeysMalformed(String),
    /// The command for the keys failed.
    #[error("the command for the keys of the delivery service's database failed: {0}")]
    KeysCommand(std::process::ExitStatus),
    /// The system gives no threads, signals or randomness.
    #[error("the system does not let the server run: {0}")]
    Runtime(#[source] io::Error),
}

impl ServeError {
    pub(super) fn listen(address: SocketAddr, error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::AddrInUse {
            return Self::AddressInUse(address);
        }
        let reason = error.to_string();
        Self::Listen { address, reason }
    }

    pub(super) fn file(action: &'static str, path: &Path, error: &io::Error) -> Self {
        Self::File {
            action,
            path: path.to_owned(),
            reason: error.to_string(),
        }
    }

    pub(super) fn pem(path: &Path, what: &'static str, reason: impl Display) -> Self {
        Self::Pem {
            path: path.to_owned(),
            what,
            reason: reason.to_string(),
        }
    }

    pub(super) fn database(path: &Path, reason: impl Display) -> Self {
        Self::Database {
            path: path.to_owned(),
            reason: reason.to_string(),
        }
    }
}
