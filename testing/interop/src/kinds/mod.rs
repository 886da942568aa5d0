//! The kinds of official vectors, one module each. A case is deserialized and then verified by the
//! implementation of its suite.

pub mod tree_operations;
pub mod tree_validation;
pub mod treekem;
