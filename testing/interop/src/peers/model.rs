//! What the group has to be: computed from what the driver had done, not from what members say.

use std::collections::BTreeMap;

use super::member::{RawExtension, View};

/// The group as the driver knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Model {
    /// The epoch.
    pub epoch: u64,
    /// Members' names and signature keys.
    pub members: BTreeMap<String, Vec<u8>>,
    /// The GroupContext's extensions.
    pub extensions: Vec<RawExtension>,
}

/// Where a member's view is not what it has to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Disagreement {
    /// The epoch.
    #[error("the epoch is {found}, not {expected}")]
    Epoch {
        /// What the model says.
        expected: u64,
        /// What the member says.
        found: u64,
    },
    /// The members.
    #[error("the members are {found:?}, not {expected:?}")]
    Members {
        /// What the model says.
        expected: Vec<String>,
        /// What the member says.
        found: Vec<String>,
    },
    /// Somebody's signature key.
    #[error("the signature keys are not those of the members")]
    SignatureKeys,
    /// The extensions.
    #[error("the extensions are {found:?}, not {expected:?}")]
    Extensions {
        /// What the model says.
        expected: Vec<RawExtension>,
        /// What the member says.
        found: Vec<RawExtension>,
    },
    /// Two members.
    #[error("{field} differs from {other}'s")]
    Between {
        /// The other member.
        other: String,
        /// What differs.
        field: &'static str,
    },
}

impl Model {
    /// Compares a member's view with the model.
    ///
    /// # Errors
    /// The first [`Disagreement`].
    pub fn check(&self, view: &View) -> Result<(), Disagreement> {
        if view.epoch != self.epoch {
            return Err(Disagreement::Epoch {
                expected: self.epoch,
                found: view.epoch,
            });
        }
        let found: BTreeMap<String, Vec<u8>> = view
            .members
            .iter()
            .map(|(_, name, key)| (String::from_utf8_lossy(name).into_owned(), key.clone()))
            .collect();
        if !found.keys().eq(self.members.keys()) || view.members.len() != self.members.len() {
            return Err(Disagreement::Members {
                expected: self.members.keys().cloned().collect(),
                found: found.into_keys().collect(),
            });
        }
        if found != self.members {
            return Err(Disagreement::SignatureKeys);
        }
        if view.extensions != self.extensions {
            return Err(Disagreement::Extensions {
                expected: self.extensions.clone(),
                found: view.extensions.clone(),
            });
        }
        Ok(())
    }
}

/// Compares two members' views.
///
/// # Errors
/// [`Disagreement::Between`], with the first field that differs.
pub fn check_same(view: &View, other: &str, others: &View) -> Result<(), Disagreement> {
    let fields = [
        ("the GroupContext", view.context == others.context),
        ("the list of members", view.members == others.members),
        (
            "the epoch authenticator",
            view.epoch_authenticator == others.epoch_authenticator,
        ),
        ("an exported secret", view.exported == others.exported),
    ];
    match fields.iter().find(|(_, same)| !same) {
        Some((field, _)) => Err(Disagreement::Between {
            other: other.to_string(),
            field,
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model_and_view() -> (Model, View) {
        let model = Model {
            epoch: 7,
            members: BTreeMap::from([("ann".into(), vec![1]), ("bob".into(), vec![2])]),
            extensions: vec![(9, vec![3])],
        };
        let view = View {
            context: vec![4],
            epoch: 7,
            extensions: vec![(9, vec![3])],
            members: vec![(0, b"ann".to_vec(), vec![1]), (2, b"bob".to_vec(), vec![2])],
            epoch_authenticator: vec![5],
            exported: vec![6],
        };
        (model, view)
    }

    #[test]
    fn every_field_counts() {
        let (model, view) = model_and_view();
        assert_eq!(model.check(&view), Ok(()));
        let mut wrong = view.clone();
        wrong.epoch = 8;
        assert!(matches!(
            model.check(&wrong),
            Err(Disagreement::Epoch { .. })
        ));
        let mut wrong = view.clone();
        wrong.members.pop();
        assert!(matches!(
            model.check(&wrong),
            Err(Disagreement::Members { .. })
        ));
        let mut wrong = view.clone();
        wrong.members[1].2 = vec![3];
        assert_eq!(model.check(&wrong), Err(Disagreement::SignatureKeys));
        let mut wrong = view.clone();
        wrong.extensions.clear();
        assert!(matches!(
            model.check(&wrong),
            Err(Disagreement::Extensions { .. })
        ));
    }

    #[test]
    fn two_views_are_compared_field_by_field() {
        let (_, view) = model_and_view();
        assert_eq!(check_same(&view, "bob", &view), Ok(()));
        let changes: [fn(&mut View); 4] = [
            |view| view.context.push(0),
            |view| view.members[0].0 = 1,
            |view| view.epoch_authenticator.push(0),
            |view| view.exported.push(0),
        ];
        for change in changes {
            let mut other = view.clone();
            change(&mut other);
            assert!(check_same(&view, "bob", &other).is_err());
        }
    }
}
