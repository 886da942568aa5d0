//! The Delivery Service from outside: scenarios with real fences, on every store.

mod appending;
mod arbitrary;
mod at_rest;
mod blobs;
mod bounds;
#[cfg(feature = "s3")]
mod bucket;
mod concurrency;
mod conformance;
mod contests;
mod doors;
mod durability;
mod following;
mod full;
mod letters;
mod model;
mod opening;
mod pages;
mod paying;
mod pickup;
mod reading;
mod retention;
mod shelves;
mod skin;
mod staging;
mod world;
