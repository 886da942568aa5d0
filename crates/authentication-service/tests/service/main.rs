//! The Authentication Service, from outside.

mod answers;
mod people;
mod skin;
mod store;
