//! The key that the store is encrypted under: from a passphrase (Argon2id, RFC 9106), or from a file.

use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;

use argon2::{Algorithm, Argon2, Params, Version};
use folkmoot_mls::codec::{Decode, Encode};
use folkmoot_mls::tls_struct;
use rand_core::CryptoRng;
use zeroize::Zeroizing;

/// 32 bytes of full strength.
#[derive(Clone)]
pub struct StoreKey(Zeroizing<[u8; 32]>);

/// Why there is no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// A file cannot be read or written.
    #[error("cannot use {path}: {reason}")]
    Io {
        /// The file.
        path: String,
        /// What the system said.
        reason: String,
    },
    /// The file beside the store that says how the key is made is damaged.
    #[error(
        "{0} is damaged: without it the passphrase does not give the key; restore it from a copy"
    )]
    Damaged(String),
    /// Others may read the key file.
    #[error("{0} can be read by others: run `chmod 600` on it")]
    NotPrivate(String),
    /// The key file holds something else.
    #[error("{0} is no key file: it must hold 64 hexadecimal digits")]
    NoKey(String),
    /// The passphrase is empty.
    #[error("the passphrase is empty")]
    EmptyPassphrase,
}

/// How much work Argon2id does. More work makes guessing dearer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    /// KiB of memory.
    pub memory: u32,
    /// Passes over it.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl Work {
    /// The second recommendation of RFC 9106, section 4: 64 MiB, three passes, four lanes.
    pub const DEFAULT: Self = Self {
        memory: 64 << 10,
        passes: 3,
        lanes: 4,
    };

    /// What a file may ask for at most: a damaged one must not take all memory.
    const MOST: Self = Self {
        memory: 4 << 20,
        passes: 64,
        lanes: 64,
    };

    fn params(self) -> Option<Params> {
        let bounded = self.memory <= Self::MOST.memory
            && self.passes <= Self::MOST.passes
            && self.lanes <= Self::MOST.lanes;
        let params = Params::new(self.memory, self.passes, self.lanes, Some(32)).ok();
        params.filter(|_| bounded)
    }
}

const VERSION: u16 = 1;

/// What is read of a key file at most, in bytes: more than one has.
const MOST_KEY_FILE: u64 = 256;

tls_struct! {
    /// The file beside the store.
    struct Derivation {
        version: u16,
        memory: u32,
        passes: u32,
        lanes: u32,
        salt: [u8; 16],
    }
}

impl StoreKey {
    /// A key from its bytes.
    #[must_use]
    pub fn from_bytes(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The key of a passphrase. Salt and work are in the file `parameters`, which is made with a fresh
    /// salt and `work` if there is none.
    ///
    /// # Errors
    /// [`KeyError::EmptyPassphrase`], [`KeyError::Io`], [`KeyError::Damaged`]. A wrong passphrase shows
    /// only when the store is opened.
    pub fn from_passphrase(
        parameters: &Path,
        passphrase: &str,
        work: Work,
        rng: &mut dyn CryptoRng,
    ) -> Result<Self, KeyError> {
        if passphrase.is_empty() {
            return Err(KeyError::EmptyPassphrase);
        }
        let damaged = || KeyError::Damaged(parameters.display().to_string());
        let derivation = match fs::read(parameters) {
            Ok(bytes) => Derivation::from_bytes(&bytes).map_err(|_| damaged())?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut salt = [0; 16];
                rng.fill_bytes(&mut salt);
                let Work {
                    memory,
                    passes,
                    lanes,
                } = work;
                let version = VERSION;
                let made = Derivation {
                    version,
                    memory,
                    passes,
                    lanes,
                    salt,
                };
                write_private(parameters, &made.to_bytes())?;
                // Another process may have been first: what is in the file counts.
                let bytes = fs::read(parameters).map_err(|error| describe(parameters, &error))?;
                Derivation::from_bytes(&bytes).map_err(|_| damaged())?
            }
            Err(error) => return Err(describe(parameters, &error)),
        };
        let Derivation {
            version,
            memory,
            passes,
            lanes,
            salt,
        } = derivation;
        let params = Work {
            memory,
            passes,
            lanes,
        }
        .params()
        .filter(|_| version == VERSION);
        let argon2 = Argon2::new(
            Algorithm::Argon2id,
            Version::V0x13,
            params.ok_or_else(damaged)?,
        );
        let mut key = Zeroizing::new([0; 32]);
        argon2
            .hash_password_into(passphrase.as_bytes(), &salt, key.as_mut())
            .map_err(|_| damaged())?;
        Ok(Self(key))
    }

    /// The key in a file of 64 hexadecimal digits that only its owner may read.
    ///
    /// # Errors
    /// [`KeyError::Io`], [`KeyError::NotPrivate`], [`KeyError::NoKey`].
    pub fn from_file(path: &Path) -> Result<Self, KeyError> {
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let metadata = fs::metadata(path).map_err(|error| describe(path, &error))?;
            if metadata.permissions().mode() & 0o077 != 0 {
                return Err(KeyError::NotPrivate(path.display().to_string()));
            }
        }
        let mut text = Zeroizing::new(Vec::with_capacity(MOST_KEY_FILE as usize));
        fs::File::open(path)
            .and_then(|file| file.take(MOST_KEY_FILE).read_to_end(&mut text))
            .map_err(|error| describe(path, &error))?;
        let digits = text.trim_ascii();
        let no_key = || KeyError::NoKey(path.display().to_string());
        if digits.len() != 64 {
            return Err(no_key());
        }
        let mut key = Zeroizing::new([0; 32]);
        for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |at: usize| char::from(pair[at]).to_digit(16).ok_or_else(no_key);
            *byte = (digit(0)? * 16 + digit(1)?) as u8;
        }
        Ok(Self(key))
    }

    /// Makes a key file with a fresh key, unless there is a file already, and reads it.
    ///
    /// # Errors
    /// As [`StoreKey::from_file`].
    pub fn create_file(path: &Path, rng: &mut dyn CryptoRng) -> Result<Self, KeyError> {
        if !path.exists() {
            let mut key = Zeroizing::new([0; 32]);
            rng.fill_bytes(key.as_mut());
            let mut text = Zeroizing::new(String::with_capacity(65));
            for byte in key.iter() {
                for digit in [byte >> 4, byte & 15] {
                    text.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
                }
            }
            text.push('\n');
            write_private(path, text.as_bytes())?;
        }
        Self::from_file(path)
    }
}

impl std::fmt::Debug for StoreKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StoreKey(..)")
    }
}

fn describe(path: &Path, error: &io::Error) -> KeyError {
    KeyError::Io {
        path: path.display().to_string(),
        reason: error.to_string(),
    }
}

/// Writes a file whole and durably, unless there is one.
fn write_private(path: &Path, content: &[u8]) -> Result<(), KeyError> {
    let write = || -> io::Result<()> {
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}", std::process::id()));
        let temporary = folder.join(name);
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        // A link fails where a rename would replace the file of a process that was first.
        let linked = match fs::hard_link(&temporary, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        };
        fs::remove_file(&temporary)?;
        linked?;
        fs::File::open(folder)?.sync_all()
    };
    write().map_err(|error| describe(path, &error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    const LITTLE: Work = Work {
        memory: 64,
        passes: 1,
        lanes: 1,
    };

    #[test]
    fn a_passphrase_gives_the_same_key_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.key");
        let mut rng = ChaCha20Rng::from_seed([1; 32]);
        let mut key = |text: &str| StoreKey::from_passphrase(&path, text, LITTLE, &mut rng);
        let first = key("correct horse").unwrap();
        assert_eq!(key("correct horse").unwrap().bytes(), first.bytes());
        assert_ne!(key("another").unwrap().bytes(), first.bytes());
        assert_eq!(key("").unwrap_err(), KeyError::EmptyPassphrase);
    }

    #[test]
    fn damaged_parameters_are_told_and_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.key");
        let mut rng = ChaCha20Rng::from_seed([1; 32]);
        let greedy = Derivation {
            version: 1,
            memory: u32::MAX,
            passes: 1,
            lanes: 1,
            salt: [0; 16],
        };
        let newer = Derivation {
            version: 2,
            memory: 64,
            passes: 1,
            lanes: 1,
            salt: [0; 16],
        };
        for bytes in [greedy.to_bytes(), newer.to_bytes(), vec![1, 2, 3]] {
            fs::write(&path, bytes).unwrap();
            let error = StoreKey::from_passphrase(&path, "x", LITTLE, &mut rng).unwrap_err();
            assert_eq!(error, KeyError::Damaged(path.display().to_string()));
        }
    }

    #[test]
    fn a_key_file_is_made_once_and_kept_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let mut rng = ChaCha20Rng::from_seed([1; 32]);
        let key = StoreKey::create_file(&path, &mut rng).unwrap();
        assert_eq!(
            StoreKey::create_file(&path, &mut rng).unwrap().bytes(),
            key.bytes()
        );
        assert_eq!(StoreKey::from_file(&path).unwrap().bytes(), key.bytes());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        fs::write(&path, "abc").unwrap();
        assert!(matches!(
            StoreKey::from_file(&path),
            Err(KeyError::NoKey(_))
        ));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
            assert!(matches!(
                StoreKey::from_file(&path),
                Err(KeyError::NotPrivate(_))
            ));
        }
    }
}
