//! The Delivery Service from outside: scenarios with real fences, on both stores.

mod appending;
mod opening;
mod reading;
mod skin;
mod world;
