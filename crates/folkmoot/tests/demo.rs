//! The demo, as the README tells people to run it.

mod common;

use std::time::{Duration, Instant};

use common::{ended, folkmoot, output};

fn demo(arguments: &[&str]) -> String {
    let start = Instant::now();
    let output = output(folkmoot().arg("demo").args(arguments));
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{errors}");
    assert!(
        start.elapsed() < Duration::from_secs(60),
        "the demo takes too long"
    );
    text
}

#[test]
fn three_people_talk_and_one_is_removed() {
    let text = demo(&[]);
    for line in [
        "Under the tree, as always.",
        "Charlie reads nothing from before he joined",
        "Charlie must not read this.",
        "Every step held",
    ] {
        assert!(text.contains(line), "{line} is missing in:\n{text}");
    }
}

#[test]
fn with_never_more_than_one_client_alive() {
    assert!(demo(&["--one-at-a-time"]).contains("Every step held"));
}

#[test]
fn a_reader_who_goes_away_breaks_nothing() {
    let mut child = folkmoot()
        .arg("demo")
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = ended(child);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    assert_eq!(errors, "");
}
