//! The Authentication Service, from outside.

mod answers;
mod issuing;
mod people;
mod skin;
mod store;
mod transparency;
