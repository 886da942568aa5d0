//! The Delivery Service from outside: scenarios with real fences, on every store.

mod appending;
mod arbitrary;
mod concurrency;
mod conformance;
mod durability;
mod following;
mod letters;
mod model;
mod opening;
mod pickup;
mod reading;
mod shelves;
mod skin;
mod world;
