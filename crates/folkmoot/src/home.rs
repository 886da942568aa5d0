//! The folder with a device's state, and the key that opens it.

use std::fs;
use std::io::{IsTerminal, stdin};
use std::path::{Path, PathBuf};

use folkmoot_client::key::{StoreKey, Work};
use folkmoot_client::store::Sqlite;
use folkmoot_client::transport::Grpc;
use folkmoot_client::{Client, System, World};
use zeroize::Zeroizing;

use crate::error::CliError;
use crate::options::HomeOptions;

/// The client as commands use it.
pub type LocalClient = Client<Sqlite, Grpc, System>;

const STATE: &str = "state.sqlite";
const DERIVATION: &str = "state.key";
const PASSPHRASE: &str = "FOLKMOOT_PASSPHRASE";

/// Opens the state in the home folder, which must be there.
pub fn open(options: &HomeOptions) -> Result<LocalClient, CliError> {
    let home = folder(options)?;
    let state = home.join(STATE);
    if !state.exists() {
        return Err(CliError::NobodyHome(home));
    }
    let key = match &options.key_file {
        Some(file) => StoreKey::from_file(file)?,
        None if !home.join(DERIVATION).exists() => return Err(CliError::KeyFileNeeded(home)),
        None => from_passphrase(&home, false)?,
    };
    client(&state, &key)
}

/// Opens the state in the home folder, or makes both.
pub fn open_or_create(options: &HomeOptions) -> Result<LocalClient, CliError> {
    let home = folder(options)?;
    let state = home.join(STATE);
    if state.exists() {
        return open(options);
    }
    create_folder(&home).map_err(|error| CliError::Folder {
        folder: home.clone(),
        error,
    })?;
    let key = match &options.key_file {
        Some(file) => StoreKey::create_file(file, System::new().rng())?,
        None => from_passphrase(&home, true)?,
    };
    client(&state, &key)
}

fn client(state: &Path, key: &StoreKey) -> Result<LocalClient, CliError> {
    let store = Sqlite::open(state, key).map_err(folkmoot_client::Error::from)?;
    Ok(Client::new(store, Grpc::new(), System::new()))
}

fn folder(options: &HomeOptions) -> Result<PathBuf, CliError> {
    if let Some(home) = &options.home {
        return Ok(home.clone());
    }
    let user = std::env::home_dir().filter(|home| !home.as_os_str().is_empty());
    user.map(|home| home.join(".folkmoot"))
        .ok_or(CliError::NoHome)
}

fn create_folder(home: &Path) -> std::io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(home)
}

fn from_passphrase(home: &Path, new: bool) -> Result<StoreKey, CliError> {
    let passphrase = match std::env::var(PASSPHRASE) {
        Ok(passphrase) => Zeroizing::new(passphrase),
        Err(_) if !stdin().is_terminal() => return Err(CliError::NoPassphrase),
        Err(_) => ask(new)?,
    };
    let mut world = System::new();
    let derivation = home.join(DERIVATION);
    Ok(StoreKey::from_passphrase(
        &derivation,
        &passphrase,
        Work::DEFAULT,
        world.rng(),
    )?)
}

fn ask(new: bool) -> Result<Zeroizing<String>, CliError> {
    let prompt = |text: &str| {
        rpassword::prompt_password(text)
            .map(Zeroizing::new)
            .map_err(CliError::Terminal)
    };
    let passphrase = prompt("Passphrase: ")?;
    if new && prompt("The same again: ")? != passphrase {
        return Err(CliError::PassphrasesDiffer);
    }
    Ok(passphrase)
}
