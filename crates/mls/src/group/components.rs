//! Proposals for components of the application (draft-ietf-mls-extensions, sections 4.7 and 4.8): what
//! they do to the group's extensions, and whether they may.

use std::collections::BTreeMap;

use super::error::ProposalError;
use crate::component::{AppDataDictionary, ComponentID, ComponentInput, ComponentLogic, built_in};
use crate::extension::{ExtensionContent, ExtensionType, Extensions, RequiredCapabilities};
use crate::framing::Sender;
use crate::proposal::{AppDataUpdateOperation, Proposal, ProposalType};

/// What the AppDataUpdates of a commit do to one component.
enum Change<'a> {
    Update(Vec<ComponentInput<'a>>),
    Remove(ComponentInput<'a>),
}

/// Hears the components about the proposals of a commit, and applies what they say to `extensions`:
/// those of the group, with a GroupContextExtensions of this commit in force. AppEphemerals come
/// before AppDataUpdates. Says whether anything changed.
pub(super) fn apply<'a>(
    extensions: &mut Extensions,
    committer: Sender,
    proposals: impl Iterator<Item = (Sender, &'a Proposal)> + Clone,
    logic: &dyn ComponentLogic,
) -> Result<bool, ProposalError> {
    for (sender, proposal) in proposals.clone() {
        if let Proposal::AppEphemeral(ephemeral) = proposal {
            let id = ephemeral.component_id;
            let input = ComponentInput {
                sender,
                committer,
                data: &ephemeral.data,
            };
            check_known_ephemeral(id, logic)?;
            if built_in::is_ephemeral(id) {
                let checked = built_in::check_ephemeral(input.data);
                checked.map_err(|_| ProposalError::MalformedComponentData(id))?;
            }
            if logic.knows(id) {
                logic
                    .ephemeral(id, input)
                    .map_err(|_| ProposalError::ComponentRefuses(id))?;
            }
        }
    }
    let changes = changes(committer, proposals)?;
    if changes.is_empty() {
        return Ok(false);
    }
    let dictionary = extensions.get::<AppDataDictionary>();
    let dictionary = dictionary.map_err(|_| malformed())?;
    let mut dictionary = dictionary.unwrap_or_default();
    for (id, change) in changes {
        check_known(id, logic)?;
        let refuses = |_| ProposalError::ComponentRefuses(id);
        match change {
            Change::Remove(by) => {
                if dictionary.remove(id).is_none() {
                    return Err(ProposalError::NoComponentData(id));
                }
                if logic.knows(id) {
                    logic.remove(id, by).map_err(refuses)?;
                }
            }
            Change::Update(updates) if !logic.knows(id) => {
                let data = built_in::replaced(id, &updates);
                let data = data.map_err(|_| ProposalError::MalformedComponentData(id))?;
                dictionary.set_data(id, data);
            }
            Change::Update(updates) => {
                let data = dictionary.data(id).map(|data| &**data);
                let data = logic.update(id, data, &updates).map_err(refuses)?;
                dictionary.set_data(id, data);
            }
        }
    }
    extensions.set(&dictionary);
    Ok(true)
}

/// The AppDataUpdates by component: updates in the order of the commit, or one removal.
fn changes<'a>(
    committer: Sender,
    proposals: impl Iterator<Item = (Sender, &'a Proposal)>,
) -> Result<BTreeMap<ComponentID, Change<'a>>, ProposalError> {
    let mut changes: BTreeMap<ComponentID, Change<'_>> = BTreeMap::new();
    for (sender, proposal) in proposals {
        let Proposal::AppDataUpdate(change) = proposal else {
            continue;
        };
        let id = change.component_id;
        let data: &[u8] = match &change.op {
            AppDataUpdateOperation::Update(update) => update,
            AppDataUpdateOperation::Remove => &[],
        };
        let input = ComponentInput {
            sender,
            committer,
            data,
        };
        match (&change.op, changes.get_mut(&id)) {
            (AppDataUpdateOperation::Update(_), Some(Change::Update(updates))) => {
                updates.push(input);
            }
            (AppDataUpdateOperation::Update(_), None) => {
                changes.insert(id, Change::Update(vec![input]));
            }
            (AppDataUpdateOperation::Remove, None) => {
                changes.insert(id, Change::Remove(input));
            }
            (_, Some(_)) => return Err(ProposalError::ComponentConflict(id)),
        }
    }
    Ok(changes)
}

/// Refuses a GroupContextExtensions that touches the dictionary of a group whose members all know
/// AppDataUpdate.
pub(super) fn check_replaced(before: &Extensions, new: &Extensions) -> Result<(), ProposalError> {
    let required: Option<RequiredCapabilities> = before.get().ok().flatten();
    let kept = required.is_some_and(|required| {
        let types = required.proposal_types;
        types.contains(&ProposalType::APP_DATA_UPDATE)
    });
    let kind = ExtensionType::APP_DATA_DICTIONARY;
    if kept && before.data(kind) != new.data(kind) {
        Err(ProposalError::DictionaryReplaced)
    } else {
        Ok(())
    }
}

/// Refuses an AppDataUpdate of a component that neither the application nor this crate knows.
pub(super) fn check_known(
    component_id: ComponentID,
    logic: &dyn ComponentLogic,
) -> Result<(), ProposalError> {
    if built_in::is_replaced(component_id) || logic.knows(component_id) {
        Ok(())
    } else {
        Err(ProposalError::UnknownComponent(component_id))
    }
}

/// Refuses an AppEphemeral of a component that neither the application nor this crate knows.
pub(super) fn check_known_ephemeral(
    component_id: ComponentID,
    logic: &dyn ComponentLogic,
) -> Result<(), ProposalError> {
    if built_in::is_ephemeral(component_id) || logic.knows(component_id) {
        Ok(())
    } else {
        Err(ProposalError::UnknownComponent(component_id))
    }
}

fn malformed() -> ProposalError {
    ProposalError::MalformedExtension(AppDataDictionary::EXTENSION_TYPE)
}
