//! The keys of the Delivery Service's database: where they come from, and how a new one takes over.
//!
//! Keys are lines of 64 hexadecimal digits; the first encrypts, all decrypt. They are read when the
//! server starts and whenever it gets SIGUSR1. After that everything that another key has encrypted
//! is encrypted anew, a little at a time, while the service goes on.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use folkmoot_delivery_service::AtRestKeys;
use tokio::signal::unix::{Signal, SignalKind, signal};
use zeroize::Zeroizing;

use super::data::{self, Data};
use super::{DeliveryService, ServeError};

/// Beside the database, unless the operator keeps keys elsewhere.
const FILE: &str = "delivery.at-rest.key";
/// Between two steps of encrypting anew: others come in between.
const PAUSE: Duration = Duration::from_millis(5);
/// After a step that failed.
const RETRY: Duration = Duration::from_secs(60);

/// Where the keys of the Delivery Service's database come from.
#[derive(Debug, clap::Args)]
#[group(multiple = false)]
pub struct AtRest {
    /// The file with the keys of the Delivery Service's database: lines of 64 hexadecimal digits,
    /// the one that encrypts first. Made with a new database [default: delivery.at-rest.key in the
    /// data folder].
    #[arg(long, value_name = "FILE")]
    at_rest_key_file: Option<PathBuf>,
    /// The environment variable with the keys.
    #[arg(long, value_name = "NAME")]
    at_rest_key_env: Option<String>,
    /// The command that prints the keys; a shell runs it.
    #[arg(long, value_name = "COMMAND")]
    at_rest_key_command: Option<String>,
}

/// The same, in an open data folder.
#[derive(Clone)]
pub(super) enum Source {
    File(PathBuf),
    Env(String),
    Command(String),
}

impl AtRest {
    pub(super) fn source(&self, data: &Data) -> Source {
        if let Some(name) = &self.at_rest_key_env {
            Source::Env(name.clone())
        } else if let Some(command) = &self.at_rest_key_command {
            Source::Command(command.clone())
        } else {
            let own = || data.path(FILE);
            Source::File(self.at_rest_key_file.clone().unwrap_or_else(own))
        }
    }
}

impl Source {
    /// The file with the keys, if there is none yet.
    pub(super) fn missing_file(&self) -> Option<&Path> {
        match self {
            Self::File(path) if !path.exists() => Some(path),
            _ => None,
        }
    }

    /// Reads the keys. A file is made for a database that is new, and only for one.
    pub(super) fn open(&self, is_new: bool) -> Result<AtRestKeys, ServeError> {
        if let Self::File(path) = self
            && is_new
            && data::read_private(path)?.is_none()
        {
            let keys = AtRestKeys::generate(&mut rand::rng());
            data::write_private(path, keys.to_text().as_bytes())
                .map_err(|error| ServeError::file("write", path, &error))?;
            return Ok(keys);
        }
        self.read()
    }

    fn read(&self) -> Result<AtRestKeys, ServeError> {
        let text = match self {
            Self::File(path) => {
                data::read_private(path)?.ok_or_else(|| ServeError::KeysMissing(self.to_string()))
            }
            Self::Env(name) => std::env::var(name)
                .map(|text| Zeroizing::new(text.into_bytes()))
                .map_err(|_| ServeError::KeysMissing(self.to_string())),
            Self::Command(command) => printed(command),
        }?;
        std::str::from_utf8(&text)
            .ok()
            .and_then(|text| AtRestKeys::read(text).ok())
            .ok_or_else(|| ServeError::KeysMalformed(self.to_string()))
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => write!(f, "the file {}", path.display()),
            Self::Env(name) => write!(f, "the environment variable {name}"),
            Self::Command(_) => write!(f, "the command for the keys"),
        }
    }
}

fn printed(command: &str) -> Result<Zeroizing<Vec<u8>>, ServeError> {
    let output = Command::new("sh")
        .args(["-c", command])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(ServeError::Runtime)?;
    let text = Zeroizing::new(output.stdout);
    if output.status.success() {
        Ok(text)
    } else {
        Err(ServeError::KeysCommand(output.status))
    }
}

/// Encrypts anew what another key has encrypted, now and after each SIGUSR1. Never ends. The signal
/// is heard from this call on.
pub(super) fn renew(
    service: Arc<DeliveryService>,
    source: Source,
) -> impl Future<Output = ()> + Send {
    let again = signal(SignalKind::user_defined1());
    async move {
        if let Ok(again) = again {
            renew_at(service, source, again).await;
        }
    }
}

async fn renew_at(service: Arc<DeliveryService>, source: Source, mut again: Signal) {
    let mut asked = false;
    loop {
        let mut looked = 0;
        loop {
            let step = {
                let service = service.clone();
                tokio::task::spawn_blocking(move || service.reencrypt()).await
            };
            match step {
                Ok(Ok(0)) => break,
                Ok(Ok(more)) => {
                    looked += more;
                    tokio::time::sleep(PAUSE).await;
                }
                // It has reported that itself.
                _ => tokio::time::sleep(RETRY).await,
            }
        }
        if asked || looked > 0 {
            eprintln!("all of the delivery service's database is encrypted under its first key");
        }
        if again.recv().await.is_none() {
            return;
        }
        let (service, source) = (service.clone(), source.clone());
        let reread = move || {
            let keys = source.read().map_err(|error| error.to_string())?;
            service.rekey(&keys).map_err(|error| error.to_string())?;
            let ids: Vec<_> = keys.ids().map(|id| id.to_string()).collect();
            Ok::<_, String>(ids.join(", "))
        };
        let outcome = tokio::task::spawn_blocking(reread).await;
        asked = matches!(outcome, Ok(Ok(_)));
        match outcome {
            Ok(Ok(ids)) => eprintln!("keys of the delivery service's database: {ids}"),
            Ok(Err(why)) => eprintln!("the keys stay as they were: {why}"),
            Err(_) => {}
        }
    }
}
