//! OpenMLS and mls-rs as members of the same group with ours, in one process.
//!
//! Every implementation stands behind the [`Member`](member::Member) trait, through which nothing but
//! encoded messages passes. A seeded [driver] picks who does what; after each step all members have to
//! agree with each other and with the [model], and to read each other's messages. [`coverage`] counts what
//! was done by whom, [`departures`] says what a peer cannot do or does unlike the RFC, and in which section.
//!
//! `cargo run --release -p folkmoot-interop --bin peers -- --seed N` repeats one seed, step by step.

pub mod coverage;
pub mod departures;
mod dice;
pub mod driver;
pub mod member;
mod mls_rs;
pub mod model;
mod openmls;
mod ours;
mod outsider;
mod scenario;
