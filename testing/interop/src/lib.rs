//! Official test vectors, and peers in the same process.
//!
//! A file of vectors is a list of cases of one [kind](kinds), which is recognised by the fields of its
//! first case. `cargo run --release -p folkmoot-interop --bin vectors -- FILE_OR_FOLDER...` runs files
//! by hand; the tests of this crate run the official ones.
//!
//! OpenMLS and mls-rs are members of the same groups as we are, in one process ([`peers`]).
//!
//! Other implementations are driven over gRPC, by the working group's interop service ([`proto`]). Our
//! engine answers it ([`server`], `--bin mls-client`), and scripts in the working group's format are run
//! against any clients that do ([`runner`], `--bin mls-runner`).

pub mod check;
pub mod kinds;
pub mod peers;
#[allow(
    missing_docs,
    clippy::all,
    reason = "generated; the .proto file is the documentation"
)]
pub mod proto {
    tonic::include_proto!("mls_client");
}
pub mod report;
pub mod runner;
pub mod server;
