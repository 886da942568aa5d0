//! What the runner says about files, and how it exits.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A file of vectors in a folder of its own, deleted at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        drop(std::fs::remove_dir_all(&folder));
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn vectors(paths: &[&Path]) -> (Option<i32>, String) {
    let Output { status, stdout, .. } = Command::new(env!("CARGO_BIN_EXE_vectors"))
        .args(paths)
        .output()
        .unwrap();
    (status.code(), String::from_utf8(stdout).unwrap())
}

const GOOD: &str = r#"[{"vlbytes_header":"05","length":5},{"vlbytes_header":"4100","length":256}]"#;
const BAD: &str = r#"[{"vlbytes_header":"05","length":5},{"vlbytes_header":"4100","length":255}]"#;

#[test]
fn a_file_that_passes() {
    let folder = Folder::new("passes");
    let file = folder.file("some.json", GOOD);
    let expected = format!("{}: 2 passed, 0 failed, 0 skipped\n", file.display());
    assert_eq!(vectors(&[&file]), (Some(0), expected));
}

#[test]
fn a_folder_is_searched_and_one_failure_is_enough() {
    let folder = Folder::new("fails");
    let good = folder.file("a.json", GOOD);
    let bad = folder.file("deeper/b.json", BAD);
    folder.file("no-vectors.txt", "text");
    let (code, output) = vectors(&[&folder.0]);
    assert_eq!(code, Some(1));
    let expected = format!(
        "{}: 2 passed, 0 failed, 0 skipped\n{}: 1 passed, 1 failed, 0 skipped\n",
        good.display(),
        bad.display()
    );
    assert_eq!(output, expected);
}

#[test]
fn a_malformed_case_fails() {
    let folder = Folder::new("malformed");
    let file = folder.file("some.json", r#"[{"vlbytes_header":"no hex","length":5}]"#);
    let expected = format!("{}: 0 passed, 1 failed, 0 skipped\n", file.display());
    assert_eq!(vectors(&[&file]), (Some(1), expected));
    let file = folder.file("cut.json", "[{");
    assert_eq!(vectors(&[&file]).0, Some(1));
    assert_eq!(vectors(&[&folder.0.join("missing.json")]).0, Some(1));
}

#[test]
fn nothing_run_is_no_success() {
    let folder = Folder::new("nothing");
    let (code, output) = vectors(&[&folder.0]);
    assert_eq!((code, output.as_str()), (Some(1), ""));
    let unknown = folder.file("unknown.json", r#"[{"something":"else"}]"#);
    let (code, output) = vectors(&[&unknown]);
    assert_eq!(code, Some(1));
    assert!(
        output.contains(": 0 passed, 0 failed, 1 skipped (holds no kind"),
        "{output}"
    );
    assert_eq!(vectors(&[]).0, Some(2));
}

#[test]
fn every_suite_is_run_and_one_that_is_not_known_fails() {
    let folder = Folder::new("suites");
    let case = |suite: u16, length: usize| {
        let zero = "00".repeat(length);
        format!(r#"{{"cipher_suite":{suite},"psks":[],"psk_secret":"{zero}"}}"#)
    };
    let known = [
        case(1, 32),
        case(4, 64),
        case(5, 64),
        case(6, 64),
        case(7, 48),
    ];
    let file = folder.file("psk.json", &format!("[{}]", known.join(",")));
    let expected = format!("{}: 5 passed, 0 failed, 0 skipped\n", file.display());
    assert_eq!(vectors(&[&file]), (Some(0), expected));
    let unknown = [case(1, 32), case(0xf0f0, 32)].join(",");
    let file = folder.file("unknown.json", &format!("[{unknown}]"));
    let expected = format!("{}: 1 passed, 1 failed, 0 skipped\n", file.display());
    assert_eq!(vectors(&[&file]), (Some(1), expected));
}
