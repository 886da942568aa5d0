//! No receipt leaves the server before what it is given for is on the disk. A killed process keeps what
//! the system has taken over from it, so this is seen only from the system's calls.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Person, Server};

/// Smaller than any receipt, larger than what HTTP/2 and TLS say by themselves, in bytes.
const SMALLEST_ANSWER: u64 = 200;

/// What of a server's calls matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Happened {
    /// Something was written to a write-ahead log.
    Written(String),
    /// A write-ahead log is on the disk.
    Synced(String),
    /// So many bytes go to somebody.
    Sent(u64),
}

/// Reads a trace made by `strace -f -y -s 0`.
fn read_trace(trace: &str) -> Vec<Happened> {
    let mut happened = Vec::new();
    // Calls that began on one line and end on another, by thread.
    let mut begun: BTreeMap<&str, (usize, Happened)> = BTreeMap::new();
    for line in trace.lines() {
        let Some((thread, rest)) = line.split_once(' ') else {
            continue;
        };
        let result = rest.rsplit_once(" = ").and_then(|(_, end)| {
            let number = end.split_whitespace().next()?;
            number.parse::<u64>().ok()
        });
        let rest = rest.trim_start();
        if rest.starts_with("<... ") {
            match begun.remove(thread) {
                // What is sent is visible from the beginning of the call on.
                Some((at, Happened::Sent(_))) => {
                    happened[at] = Happened::Sent(result.unwrap_or(0));
                }
                Some((_, synced)) if result == Some(0) => happened.push(synced),
                _ => {}
            }
            continue;
        }
        let Some((call, arguments)) = rest.split_once('(') else {
            continue;
        };
        let path = arguments
            .split_once('<')
            .and_then(|(_, path)| path.split_once('>'))
            .map_or("", |(path, _)| path);
        let is_log = path.ends_with("-wal");
        let unfinished = rest.ends_with("<unfinished ...>");
        match call {
            "pwrite64" if is_log => happened.push(Happened::Written(path.to_owned())),
            "fsync" | "fdatasync" if is_log => {
                let synced = Happened::Synced(path.to_owned());
                if unfinished {
                    begun.insert(thread, (0, synced));
                } else if result == Some(0) {
                    happened.push(synced);
                }
            }
            "write" | "writev" | "sendto" | "sendmsg" if path.starts_with("socket:") => {
                if unfinished {
                    begun.insert(thread, (happened.len(), Happened::Sent(0)));
                }
                happened.push(Happened::Sent(result.unwrap_or(0)));
            }
            _ => {}
        }
    }
    happened
}

/// How often a log was synced, if nothing was answered while a log was not.
fn synced(happened: &[Happened]) -> Result<usize, String> {
    let (mut unsynced, mut syncs) = (BTreeSet::new(), 0);
    for (at, what) in happened.iter().enumerate() {
        match what {
            Happened::Written(path) => {
                unsynced.insert(path);
            }
            Happened::Synced(path) => syncs += usize::from(unsynced.remove(path)),
            Happened::Sent(bytes) if *bytes >= SMALLEST_ANSWER && !unsynced.is_empty() => {
                return Err(format!(
                    "{bytes} bytes are sent at {at}, before {unsynced:?} is synced"
                ));
            }
            Happened::Sent(_) => {}
        }
    }
    Ok(syncs)
}

#[test]
fn an_answer_before_the_sync_is_noticed() {
    let write = "7  pwrite64(9</d/x-wal>, \"\"..., 4096, 32) = 4096\n";
    let sync = "7  fdatasync(9</d/x-wal>) = 0\n";
    let send = "8  writev(12<socket:[5]>, [{iov_base=\"\"..., iov_len=400}], 1) = 400\n";
    let ping = "8  write(12<socket:[5]>, \"\"..., 39) = 39\n";
    let trace = |lines: &[&str]| synced(&read_trace(&lines.concat()));
    assert_eq!(trace(&[write, ping, sync, send, write, sync]), Ok(2));
    assert!(trace(&[write, send, sync]).is_err());
    assert!(trace(&[write, sync, write, send]).is_err());
    let begin = "7  fdatasync(9</d/x-wal> <unfinished ...>\n";
    let end = "7  <... fdatasync resumed>) = 0\n";
    assert!(trace(&[write, begin, send, end]).is_err());
    assert_eq!(trace(&[write, begin, ping, end, send]), Ok(1));
    let failed = "7  fdatasync(9</d/x-wal>) = -1 EIO (Input/output error)\n";
    assert!(trace(&[write, failed, send]).is_err());
}

/// Whether processes can be traced here.
fn can_trace() -> bool {
    let tried = Command::new("strace")
        .args(["-D", "-f", "-o", "/dev/null", "true"])
        .stderr(Stdio::null())
        .status();
    tried.is_ok_and(|status| status.success())
}

fn traced(trace: &Path) -> Command {
    let mut command = Command::new("strace");
    // The tracer is not the parent: whoever kills the server kills it, not the tracer.
    command.args(["-D", "-f", "-y", "-s", "0", "-e"]);
    command.arg("trace=pwrite64,fsync,fdatasync,write,writev,sendto,sendmsg");
    command
        .arg("-o")
        .arg(trace)
        .arg(env!("CARGO_BIN_EXE_folkmoot"));
    command
}

#[test]
fn no_receipt_leaves_before_what_it_is_given_for_is_on_the_disk() {
    const MESSAGES: usize = 10;
    if !can_trace() {
        eprintln!("SKIPPED: there is no strace, or it may not trace; nothing was shown");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace");
    let data = folder.path().join("data");
    let server = Server::started_by(traced(&trace), &data, "127.0.0.1:0");
    let alice = Person::registered(folder.path(), "alice", &server);
    alice.ok(&["new", "moot"]);
    for number in 0..MESSAGES {
        alice.ok(&["send", "moot", &format!("message {number}")]);
    }
    drop(server);
    // The tracer writes its last line when the server has ended.
    let begun = Instant::now();
    let happened = loop {
        let text = std::fs::read_to_string(&trace).unwrap();
        if text.trim_end().ends_with("+++ killed by SIGKILL +++") {
            break read_trace(&text);
        }
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "no end of the trace"
        );
        std::thread::sleep(Duration::from_millis(50));
    };
    let answers = happened
        .iter()
        .filter(|what| matches!(what, Happened::Sent(bytes) if *bytes >= SMALLEST_ANSWER));
    assert!(answers.count() > MESSAGES);
    let syncs = synced(&happened).unwrap();
    assert!(syncs > MESSAGES, "{syncs} syncs");
}
