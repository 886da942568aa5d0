//! Running files of vectors and saying what became of them.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use rand_core::CryptoRng;
use serde_json::Value;

use crate::check::Failure;
use crate::kinds::{Kind, Outcome, Skip};

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
    /// How many cases were not tried.
    pub skipped: usize,
    /// Why.
    pub reasons: BTreeSet<Skip>,
}

impl Report {
    /// Runs one file.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn of_file(path: &Path, rng: &mut dyn CryptoRng) -> Result<Self, FileError> {
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
            skipped: 0,
            reasons: BTreeSet::new(),
        };
        for (place, case) in cases.into_iter().enumerate() {
            match kind.run(case, rng) {
                Outcome::Passed => report.passed += 1,
                Outcome::Failed(failure) => report.failures.push((place, failure)),
                Outcome::Skipped(reason) => {
                    report.skipped += 1;
                    report.reasons.insert(reason);
                }
            }
        }
        Ok(report)
    }
}

/// `P passed, F failed, S skipped (reason)`.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (passed, failed, skipped) = (self.passed, self.failures.len(), self.skipped);
        write!(f, "{passed} passed, {failed} failed, {skipped} skipped")?;
        let suites: Vec<_> = self
            .reasons
            .iter()
            .filter_map(|reason| match reason {
                Skip::CipherSuite(suite) => Some(suite.0.to_string()),
                Skip::NotActedOn(_) => None,
            })
            .collect();
        let mut reasons = Vec::new();
        if !suites.is_empty() {
            reasons.push(format!(
                "not implemented: cipher suites {}",
                suites.join(", ")
            ));
        }
        for reason in &self.reasons {
            if let Skip::NotActedOn(what) = reason {
                reasons.push(format!("not acted on yet: {what}"));
            }
        }
        if reasons.is_empty() {
            Ok(())
        } else {
            write!(f, " ({})", reasons.join("; "))
        }
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
