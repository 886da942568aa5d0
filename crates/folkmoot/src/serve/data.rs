//! The data folder: one server's at a time, its secrets readable by its owner alone.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use folkmoot_credential::Domain;
use folkmoot_credential::keys::SigningKey;
use zeroize::Zeroizing;

use super::ServeError;

/// An open data folder. It stays locked until this is dropped, or the process ends.
pub(super) struct Data {
    folder: PathBuf,
    _lock: File,
}

impl Data {
    /// Opens the folder; makes it, for its owner alone, if it is not there.
    pub(super) fn open(folder: &Path) -> Result<Self, ServeError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(|error| ServeError::file("make the folder", folder, &error))?;
        let path = folder.join("lock");
        let lock =
            private_file(&path, false).map_err(|error| ServeError::file("write", &path, &error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(ServeError::DataInUse(folder.to_owned())),
            Err(TryLockError::Error(error)) => {
                return Err(ServeError::file("lock", &path, &error));
            }
        }
        Ok(Self {
            folder: folder.to_owned(),
            _lock: lock,
        })
    }

    /// A file in the folder.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A file for a database, readable by its owner alone; made, empty, if it is not there. What
    /// SQLite puts beside it gets the same mode.
    pub(super) fn database(&self, name: &str) -> Result<PathBuf, ServeError> {
        let path = self.path(name);
        private_file(&path, false).map_err(|error| ServeError::file("write", &path, &error))?;
        Ok(path)
    }

    /// The domain that the folder belongs to. A new folder belongs to the one that is wanted.
    pub(super) fn domain(&self, wanted: Option<&Domain>) -> Result<Domain, ServeError> {
        let path = self.path("domain");
        let default = || "localhost".parse().expect("a host name");
        let stored = self.read_or_make("domain", || {
            Ok(wanted
                .cloned()
                .unwrap_or_else(default)
                .to_string()
                .into_bytes()
                .into())
        })?;
        let stored: Domain = std::str::from_utf8(&stored)
            .ok()
            .and_then(|text| text.trim_end().parse().ok())
            .ok_or(ServeError::Damaged(path))?;
        match wanted {
            Some(wanted) if *wanted != stored => Err(ServeError::OtherDomain {
                stored: stored.to_string(),
                wanted: wanted.to_string(),
            }),
            _ => Ok(stored),
        }
    }

    /// The signing key in a file; made if it is not there.
    pub(super) fn signing_key(&self, name: &str) -> Result<SigningKey, ServeError> {
        let seed = self.read_or_make(name, || {
            let mut seed = Zeroizing::new(vec![0; 32]);
            getrandom::fill(&mut seed).map_err(|error| ServeError::Runtime(error.into()))?;
            Ok(seed)
        })?;
        let seed: [u8; 32] = seed
            .as_slice()
            .try_into()
            .map_err(|_| ServeError::Damaged(self.path(name)))?;
        Ok(SigningKey::from_seed(seed.into()))
    }

    /// The content of a private file, which `make` gives if there is none.
    pub(super) fn read_or_make(
        &self,
        name: &str,
        make: impl FnOnce() -> Result<Zeroizing<Vec<u8>>, ServeError>,
    ) -> Result<Zeroizing<Vec<u8>>, ServeError> {
        let path = self.path(name);
        match read_private(&path)? {
            Some(content) => Ok(content),
            None => {
                let content = make()?;
                write_private(&path, &content)
                    .map_err(|error| ServeError::file("write", &path, &error))?;
                Ok(content)
            }
        }
    }
}

/// Writes a file that only its owner may read. It is whole or not there: a crash leaves no half of
/// it.
pub(super) fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".new");
    let unfinished = PathBuf::from(unfinished);
    let mut file = private_file(&unfinished, true)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&unfinished, path)?;
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// Opens a file for writing; a new one is readable by its owner alone.
fn private_file(path: &Path, truncate: bool) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .truncate(truncate)
        .write(true)
        .mode(0o600)
        .open(path)
}

/// The content of a file that only its owner may read; `None` if there is no such file.
pub(super) fn read_private(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, ServeError> {
    let failed = |error: &io::Error| ServeError::file("read", path, error);
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(&error)),
    };
    let mode = file
        .metadata()
        .map_err(|error| failed(&error))?
        .permissions()
        .mode();
    if mode & 0o077 != 0 {
        return Err(ServeError::Exposed(path.to_owned()));
    }
    let mut content = Zeroizing::new(Vec::new());
    io::Read::read_to_end(&mut &file, &mut content).map_err(|error| failed(&error))?;
    Ok(Some(content))
}
