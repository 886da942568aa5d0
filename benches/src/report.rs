//! `RESULTS.md`.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;
use std::time::Duration;

use crate::cell::{Contestant, Row};
use crate::floor::Counts;
use crate::member::CredentialKind;
use crate::reach;
use crate::run::{Measured, Missing, Plan};

/// The whole text.
#[must_use]
pub fn report(plan: &Plan, measured: &Measured, took: Duration) -> String {
    let mut text = String::from("# What groups cost\n\n");
    text.push_str(&introduction(plan, took));
    text.push_str("![cost against size](cost.svg)\n\n");
    text.push_str(&reach::table(measured));
    for &row in Row::ALL {
        if plan.tasks.iter().any(|task| task.rows().contains(&row)) {
            text.push_str(&section(plan, measured, row));
        }
    }
    text.push_str(&floor(plan, measured));
    text
}

fn introduction(plan: &Plan, took: Duration) -> String {
    let limit = plan.limit.as_secs();
    let mut text = format!(
        "Written by `cargo bench -p folkmoot-benches` in {} minutes. Suite \
         MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519, basic credentials, handshake messages encrypted, one \
         thread. CPU time of the process in milliseconds, medians; contestants took turns. Each cell ran in a \
         process of its own, from bytes to bytes. A peer's cell had {limit} seconds on the clock, with what had \
         to be made first",
        took.as_secs() / 60,
    );
    if let Some(short) = plan.short_limit {
        let _ = write!(
            text,
            "; {} (marked *) where it was not expected to end by then",
            short.as_secs()
        );
    }
    text.push_str(
        ". Groups to join are made by our engine, so that all work on the same tree. The floor is explained at \
         the end.\n\n",
    );
    for (what, value) in machine() {
        let _ = writeln!(text, "- {what}: {value}");
    }
    text.push('\n');
    text
}

fn machine() -> Vec<(&'static str, String)> {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or_else(
            || std::env::consts::ARCH.to_string(),
            |(_, model)| model.to_string(),
        );
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory: u64 = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|line| line.split_whitespace().next()?.parse().ok())
        .unwrap_or(0);
    let rustc = Command::new("rustc").arg("--version").output();
    let rustc = rustc.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_string());
    vec![
        (
            "machine",
            format!("{model}, {cores} cores, {} GiB", memory >> 20),
        ),
        ("compiler", rustc.unwrap_or_else(|_| "unknown".to_string())),
        ("peers", versions()),
    ]
}

/// The peers' versions, as Cargo has locked them.
fn versions() -> String {
    const LOCK: &str = include_str!("../../Cargo.lock");
    let version = |name: &str| {
        let entry = format!("name = \"{name}\"\nversion = \"");
        let found = LOCK
            .split_once(&entry)
            .and_then(|(_, rest)| rest.split_once('"'));
        format!("{name} {}", found.map_or("unknown", |(version, _)| version))
    };
    [
        "openmls",
        "openmls_libcrux_crypto",
        "openmls_rust_crypto",
        "mls-rs",
        "mls-rs-crypto-awslc",
        "aws-lc-rs",
        "ed25519-zebra",
        "rusqlite",
    ]
    .map(version)
    .join(", ")
}

fn section(plan: &Plan, measured: &Measured, row: Row) -> String {
    let mut text = format!("## {}\n\n|", row.title());
    for size in &plan.sizes {
        let _ = write!(text, " | {}", thousands(f64::from(*size)));
    }
    text.push_str(" |\n| ---");
    text.push_str(&" | ---:".repeat(plan.sizes.len()));
    text.push_str(" |\n");
    let mut line = |name: &str, cells: Vec<String>| {
        if cells.iter().any(|cell| !cell.is_empty() && cell != "-") {
            let _ = writeln!(text, "| {name} | {} |", cells.join(" | "));
        }
    };
    for &contestant in &plan.contestants {
        let cells = plan.sizes.iter();
        let cells = cells.map(|size| cell(measured, row, *size, contestant));
        line(contestant.title(), cells.collect());
    }
    let sizes = || plan.sizes.iter().copied();
    let number = |value: Option<f64>| value.map(|value| show(row, value)).unwrap_or_default();
    let floor = |credential| move |size| measured.floor(row, size, credential);
    let ours = |size| measured.value(row, size, Contestant::Ours);
    let own = |size| measured.value(row, size, Contestant::OwnCredential);
    let basic_floor = floor(CredentialKind::Basic);
    let own_floor = floor(CredentialKind::Own);
    let peer = |size| measured.best_peer(row, size);
    line(
        "floor",
        sizes().map(|size| number(basic_floor(size))).collect(),
    );
    let ratios = |above: &dyn Fn(u32) -> Option<f64>, below: &dyn Fn(u32) -> Option<f64>| {
        let ratio = |size| match (above(size), below(size)) {
            (Some(above), Some(below)) if below > 0.0 => format!("{:.3}", above / below),
            _ => String::new(),
        };
        sizes().map(ratio).collect::<Vec<_>>()
    };
    line("**Folkmoot / best peer**", ratios(&ours, &peer));
    line("**Folkmoot / floor**", ratios(&ours, &basic_floor));
    line("**own credential / its floor**", ratios(&own, &own_floor));
    text.push('\n');
    text
}

fn cell(measured: &Measured, row: Row, members: u32, contestant: Contestant) -> String {
    if let Some(value) = measured.value(row, members, contestant) {
        return show(row, value);
    }
    match measured.outcome(row, members, contestant) {
        // The other provider is quicker.
        None if contestant.is_documented_peer() => "-".to_string(),
        None => String::new(),
        Some(outcome) => match &outcome.missing {
            Some(Missing::TimeLimit { limit, short }) => {
                let mark = if *short { "*" } else { "" };
                format!("over {} s{mark}", limit.as_secs())
            }
            Some(Missing::Failed(error)) => format!("failed: {}", error.replace('|', "/")),
            None => String::new(),
        },
    }
}

fn show(row: Row, value: f64) -> String {
    if row.is_bytes() {
        return thousands(value);
    }
    match value {
        value if value >= 1000.0 => thousands(value),
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value if value >= 1.0 => format!("{value:.2}"),
        value if value >= 0.1 => format!("{value:.3}"),
        value if value >= 0.001 => format!("{value:.4}"),
        value => format!("{value:.7}"),
    }
}

/// A whole number with commas.
fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn floor(plan: &Plan, measured: &Measured) -> String {
    let p = &measured.primitives;
    let mut text = String::from(
        "## The floor\n\nPrimitives at their best cost in this run, in CPU microseconds (the quicker of AWS-LC \
         and RustCrypto; batches by ed25519-zebra):\n\n| primitive | cost |\n| --- | ---: |\n",
    );
    for (name, cost) in [
        ("X25519 key pair", p.key_pair),
        ("X25519 agreement", p.agree),
        ("Ed25519 signature", p.sign),
        ("Ed25519 verification, alone", p.verify),
        (
            "Ed25519 verification, each of 1,024 together by as many keys",
            p.verify_batched,
        ),
        (
            "Ed25519 verification, a further one by a key of the batch",
            p.verify_same_key,
        ),
        ("HPKE seal, the info hashed before", p.seal),
        ("HPKE open, the info hashed before", p.open),
        ("SHA-256, a block of 64 bytes", p.sha256_block),
        ("SHA-512, a KiB (within Ed25519)", p.sha512_kib),
        ("AES-128-GCM, 64 bytes, new key", p.aead),
        ("AES-128-GCM, a further KiB", p.aead_kib),
        ("HMAC-SHA-256, a step of HKDF", p.hmac),
    ] {
        let _ = writeln!(text, "| {name} | {cost:.3} |");
    }
    let size = plan.sizes.iter().copied().max().unwrap_or(2);
    let _ = write!(
        text,
        "\nHow often an operation needs each, in a group of {}:\n\n| | key pairs | signatures | verified alone \
         | verified together | by the same keys | seals | opens | SHA-256 blocks | SHA-512 KiB | AEADs | AEAD KiB | HKDF steps \
         |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
        thousands(f64::from(size)),
    );
    let lengths = measured.lengths.iter();
    let credentials = lengths.flatten().zip(["", ", own credential"]);
    let counted = |(lengths, credential)| {
        Row::ALL.iter().filter_map(move |row| {
            let counts = Counts::of(*row, size, lengths)?;
            Some((row.title(), credential, counts))
        })
    };
    for (row, credential, c) in credentials.flat_map(counted) {
        let counts = [
            c.key_pairs,
            c.signs,
            c.verifications,
            c.batched,
            c.same_key,
            c.seals,
            c.opens,
            c.sha256_blocks,
            c.sha512_kib,
            c.aeads,
            c.aead_kib,
            c.hmacs,
        ];
        let counts = counts.map(thousands).join(" | ");
        let _ = writeln!(text, "| {row}{credential} | {counts} |");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!(thousands(0.0), "0");
        assert_eq!(thousands(1234567.0), "1,234,567");
        assert_eq!(show(Row::Encrypt, 0.0123), "0.0123");
        assert_eq!(show(Row::CreateInside, 17_700.2), "17,700");
    }

    #[test]
    fn the_peers_are_in_the_lock_file() {
        assert!(!versions().contains("unknown"), "{}", versions());
    }
}
