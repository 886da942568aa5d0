//! Running files of vectors and saying what became of them.

use std::fmt;
use std::path::{Path, PathBuf};

use folkmoot_mls::crypto::CryptoProvider;
use rand_core::CryptoRng;
use serde_json::Value;

use crate::check::Failure;
use crate::kinds::Kind;

/// Why a file could not be run at all.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Io(#[from] std::io::Error),
    /// It is no JSON.
    #[error("is no JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// It is no list of cases of a kind that we know.
    #[error("holds no kind of vectors that is known here")]
    UnknownKind,
}

/// What became of one file's cases.
#[derive(Debug)]
pub struct Report {
    /// What the file holds.
    pub kind: &'static Kind,
    /// How many cases passed.
    pub passed: usize,
    /// The cases that failed, by their place in the file.
    pub failures: Vec<(usize, Failure)>,
}

impl Report {
    /// Runs one file with the suites of a provider.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn of_file(
        path: &Path,
        provider: &'static dyn CryptoProvider,
        rng: &mut dyn CryptoRng,
    ) -> Result<Self, FileError> {
        let cases: Value = serde_json::from_slice(&std::fs::read(path)?)?;
        let cases = match cases {
            Value::Array(cases) => cases,
            case => vec![case],
        };
        let first = cases.first().ok_or(FileError::UnknownKind)?;
        let kind = Kind::recognise(first).ok_or(FileError::UnknownKind)?;
        let mut report = Self {
            kind,
            passed: 0,
            failures: Vec::new(),
        };
        for (place, case) in cases.into_iter().enumerate() {
            match kind.run(case, provider, rng) {
                Ok(()) => report.passed += 1,
                Err(failure) => report.failures.push((place, failure)),
            }
        }
        Ok(report)
    }
}

/// `P passed, F failed, 0 skipped`: no case is left out.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (passed, failed) = (self.passed, self.failures.len());
        write!(f, "{passed} passed, {failed} failed, 0 skipped")
    }
}

/// The files under a path: the path itself, or the `.json` files in a folder and those below.
///
/// # Errors
/// As reading a folder.
pub fn files(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_path_buf()]);
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let entry = entry?.path();
        if entry.is_dir() {
            found.extend(files(&entry)?);
        } else if entry
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            found.push(entry);
        }
    }
    found.sort();
    Ok(found)
}
