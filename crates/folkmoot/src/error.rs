//! Why a command failed, in one line that says what to do.

use std::io;
use std::path::PathBuf;

use folkmoot_client::key::KeyError;
use folkmoot_client::transport::TransportError;

use crate::demo::error::DemoError;
use crate::serve::ServeError;

#[derive(Debug, thiserror::Error)]
pub enum CliError {
    #[error(transparent)]
    Client(#[from] folkmoot_client::Error),
    #[error(transparent)]
    Transport(#[from] TransportError),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Serve(#[from] ServeError),
    #[error(transparent)]
    Demo(#[from] DemoError),
    #[error("nobody is registered in {}: run `folkmoot register NAME --server URL`", .0.display())]
    NobodyHome(PathBuf),
    #[error("{} was made with a key file: give it with --key-file", .0.display())]
    KeyFileNeeded(PathBuf),
    #[error("this user has no home folder: give one with --home")]
    NoHome,
    #[error("cannot make the folder {}: {error}", .folder.display())]
    Folder { folder: PathBuf, error: io::Error },
    #[error(
        "there is no terminal to ask for a passphrase: \
         set FOLKMOOT_PASSPHRASE or give --key-file"
    )]
    NoPassphrase,
    #[error("the two passphrases differ: nothing was made")]
    PassphrasesDiffer,
    #[error("the terminal cannot be used: {0}")]
    Terminal(io::Error),
    #[error("cannot read {name}: {error}")]
    Input { name: String, error: io::Error },
    #[error("{name} is larger than {limit} bytes: it cannot be one message")]
    InputTooLong { name: String, limit: u64 },
    #[error("{name} holds no MLS message: {error}")]
    NoMessage {
        name: String,
        error: folkmoot_mls::codec::DecodeError,
    },
    #[error("the system cannot run this program: {0}")]
    Runtime(io::Error),
    #[error("cannot print: {0}")]
    Output(io::Error),
}
