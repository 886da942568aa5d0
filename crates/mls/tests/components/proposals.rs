//! AppDataUpdate and AppEphemeral (sections 4.7 and 4.8).

use crate::group_harness::{COUNTER, Client, Received, broadcast, context, deliver};
use crate::{client, clients};
use folkmoot_mls::code_point::WireFormat;
use folkmoot_mls::codec::{Bytes, Encode};
use folkmoot_mls::component::{
    AppAck, AppComponents, AppDataDictionary, ComponentID, ComponentInput, ComponentLogic,
    MediaType, MediaTypeList, NoComponents, Refused, SafeAadComponents,
};
use folkmoot_mls::context::Context;
use folkmoot_mls::error::{Error, InvalidMessage};
use folkmoot_mls::extension::{
    ExtensionType, Extensions, ExternalSender, ExternalSenders, RequiredCapabilities,
};
use folkmoot_mls::framing::Sender;
use folkmoot_mls::group::{
    Destination, IncludeProposals, ProposalError, propose_as_external_sender,
};
use folkmoot_mls::proposal::{Proposal, ProposalType};
use folkmoot_mls::tree::{Capability, LeafNodeError};
use folkmoot_mls::tree_math::LeafIndex;

const FORMAT: WireFormat = WireFormat::PRIVATE_MESSAGE;
const UNKNOWN: ComponentID = ComponentID(0x9000);

fn add(step: u8) -> Proposal {
    Proposal::app_data_update(COUNTER, [step])
}

fn clear() -> Proposal {
    Proposal::app_data_removal(COUNTER)
}

fn say(data: &[u8]) -> Proposal {
    Proposal::app_ephemeral(COUNTER, data)
}

/// What the component has in the group.
fn count(client: &Client) -> Option<u8> {
    let dictionary: Option<AppDataDictionary> = client.group().extensions().get().unwrap();
    dictionary?.data(COUNTER).map(|data| data[0])
}

/// A commit of these by value.
fn commit_by(client: &mut Client, proposals: Vec<Proposal>) -> Result<(), ProposalError> {
    let add = |commit, proposals: Vec<_>| {
        proposals
            .into_iter()
            .fold(commit, folkmoot_mls::group::CommitBuilder::proposal)
    };
    match client.commit(|commit| add(commit, proposals)) {
        Ok(_) => Ok(()),
        Err(Error::Proposal(error)) => Err(error),
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn a_component_counts_what_members_propose() {
    let mut clients = clients(Extensions::default());
    // By reference and by value, in this order.
    let proposed = clients[1].propose(add(3), FORMAT).unwrap();
    broadcast(&mut clients, 1, &proposed.message);
    let pending = clients[0].commit(|commit| commit.app_data_update(COUNTER, [4]).without_path());
    let pending = pending.unwrap();
    assert_eq!(pending.effects.path, None, "no path is needed");
    assert_eq!(pending.effects.proposals.len(), 2);
    deliver(&mut clients, 0, pending);
    assert!(clients.iter().all(|client| count(client) == Some(7)));
    let last = clients[0].group().extensions().types().last();
    assert_eq!(last, Some(ExtensionType::APP_DATA_DICTIONARY));

    // Other extensions may change in the same commit.
    let mut extensions = clients[2].group().extensions().clone();
    extensions.set(&RequiredCapabilities {
        proposal_types: vec![ProposalType::APP_DATA_UPDATE],
        ..RequiredCapabilities::default()
    });
    let pending = clients[2].commit(|commit| {
        commit
            .app_data_update(COUNTER, [1])
            .group_context_extensions(extensions)
    });
    deliver(&mut clients, 2, pending.unwrap());
    assert!(clients.iter().all(|client| count(client) == Some(8)));

    // Who is added finds the data.
    clients.push(client("dora"));
    let package = clients[3].key_package();
    let pending = clients[1].commit(|commit| commit.add(package)).unwrap();
    deliver(&mut clients, 1, pending);
    assert_eq!(count(&clients[3]), Some(8));

    let pending = clients[3]
        .commit(|commit| commit.proposal(clear()))
        .unwrap();
    deliver(&mut clients, 3, pending);
    assert!(clients.iter().all(|client| count(client).is_none()));
    clients[2].restart();
    let pending = clients[2]
        .commit(|commit| commit.app_data_update(COUNTER, [9]))
        .unwrap();
    deliver(&mut clients, 2, pending);
    assert!(clients.iter().all(|client| count(client) == Some(9)));
}

#[test]
fn a_list_of_updates_is_refused_for_its_reason() {
    let mut clients = clients(Extensions::default());
    let pending = clients[0]
        .commit(|commit| commit.app_data_update(COUNTER, [250]))
        .unwrap();
    deliver(&mut clients, 0, pending);
    let alice = &mut clients[0];
    let conflict = Err(ProposalError::ComponentConflict(COUNTER));
    for (proposals, expected) in [
        (vec![add(2), add(3)], Ok(())),
        (vec![clear()], Ok(())),
        (
            vec![add(3), add(3)],
            Err(ProposalError::ComponentRefuses(COUNTER)),
        ),
        (vec![clear(), clear()], conflict.clone()),
        (vec![clear(), add(1)], conflict.clone()),
        (vec![add(1), clear()], conflict),
        (
            vec![Proposal::app_data_update(UNKNOWN, [])],
            Err(ProposalError::UnknownComponent(UNKNOWN)),
        ),
        (
            vec![Proposal::app_data_removal(UNKNOWN)],
            Err(ProposalError::UnknownComponent(UNKNOWN)),
        ),
        (vec![say(b"x"), say(b"y")], Ok(())),
        (
            vec![say(b"")],
            Err(ProposalError::ComponentRefuses(COUNTER)),
        ),
        (
            vec![Proposal::app_ephemeral(UNKNOWN, [])],
            Err(ProposalError::UnknownComponent(UNKNOWN)),
        ),
    ] {
        assert_eq!(
            commit_by(alice, proposals.clone()),
            expected,
            "{proposals:?}"
        );
    }
    // What a component says of the group counts for everybody: nobody supports this one.
    struct Required;
    impl folkmoot_mls::component::ComponentLogic for Required {
        fn knows(&self, _: ComponentID) -> bool {
            true
        }
        fn update(
            &self,
            _: ComponentID,
            _: Option<&[u8]>,
            updates: &[folkmoot_mls::component::ComponentInput<'_>],
        ) -> Result<Bytes, folkmoot_mls::component::Refused> {
            Ok(updates[0].data.into())
        }
        fn ephemeral(
            &self,
            _: ComponentID,
            _: folkmoot_mls::component::ComponentInput<'_>,
        ) -> Result<(), folkmoot_mls::component::Refused> {
            Ok(())
        }
    }
    let member = alice.member.as_mut().unwrap();
    for (update, expected) in [
        (
            b"\x02\x90\x00".as_slice(),
            ProposalError::MemberLacks(Capability::Component(UNKNOWN)),
        ),
        (
            b"\x02\x90",
            ProposalError::MalformedExtension(ExtensionType::APP_DATA_DICTIONARY),
        ),
    ] {
        let mut ctx = Context {
            components: &Required,
            ..context(None, &mut alice.rng)
        };
        let id = ComponentID::APP_COMPONENTS;
        let commit = member.group.commit().app_data_update(id, update);
        let refused = commit.build(&mut member.keys, &alice.signer, &mut ctx);
        assert_eq!(refused.unwrap_err(), Error::Proposal(expected));
    }
    // And who is added with the same commit has to support what it requires.
    let mut newcomer = client("newcomer");
    newcomer.leaf = Some(crate::leaf("newcomer", &AppDataDictionary::default()));
    let package = newcomer.key_package();
    let mut ctx = Context {
        components: &Required,
        ..context(None, &mut alice.rng)
    };
    let required = AppComponents {
        component_ids: vec![COUNTER],
    };
    let commit = member.group.commit().add(package);
    let update = folkmoot_mls::codec::Encode::to_bytes(&required);
    let commit = commit.app_data_update(ComponentID::APP_COMPONENTS, update);
    let refused = commit.build(&mut member.keys, &alice.signer, &mut ctx);
    let lacks = LeafNodeError::Lacks(Capability::Component(COUNTER));
    assert_eq!(
        refused.unwrap_err(),
        Error::Proposal(ProposalError::KeyPackage(lacks.into()))
    );
}

/// Knows one component and takes nothing for it.
struct Refusing(ComponentID);

impl ComponentLogic for Refusing {
    fn knows(&self, component_id: ComponentID) -> bool {
        component_id == self.0
    }
    fn update(
        &self,
        _: ComponentID,
        _: Option<&[u8]>,
        _: &[ComponentInput<'_>],
    ) -> Result<Bytes, Refused> {
        Err(Refused)
    }
    fn remove(&self, _: ComponentID, _: ComponentInput<'_>) -> Result<(), Refused> {
        Err(Refused)
    }
    fn ephemeral(&self, _: ComponentID, _: ComponentInput<'_>) -> Result<(), Refused> {
        Err(Refused)
    }
}

#[test]
fn the_drafts_own_components_are_replaced() {
    let mut clients = clients(Extensions::default());
    let required = AppComponents {
        component_ids: vec![COUNTER],
    };
    let media = MediaTypeList::new(MediaType::new("text/plain"));
    let dictionary = AppDataDictionary::default()
        .with(&required)
        .with(&SafeAadComponents::default())
        .with(&media);
    let values = || dictionary.iter().map(|(id, data)| (id, data.clone()));
    for (number, (id, data)) in values().enumerate() {
        let proposer = number % 3;
        let before = AppComponents::default();
        let pending = if id == ComponentID::APP_COMPONENTS {
            // The last one counts.
            clients[0].commit(|commit| {
                let commit = commit.app_data_update(id, before.to_bytes());
                commit.app_data_update(id, data)
            })
        } else {
            let update = Proposal::app_data_update(id, data);
            let proposed = clients[proposer].propose(update, FORMAT).unwrap();
            broadcast(&mut clients, proposer, &proposed.message);
            clients[0].commit(|commit| commit)
        };
        let pending = pending.unwrap();
        assert!(!pending.effects.proposals.is_empty());
        deliver(&mut clients, 0, pending);
    }
    for client in &clients {
        assert_eq!(
            client.group().extensions().get(),
            Ok(Some(dictionary.clone()))
        );
    }
    // From now on authenticated data is shared.
    let unframed = clients[0].commit(|commit| commit.authenticated_data(*b"anything"));
    assert!(unframed.is_err());

    let alice = &mut clients[0];
    let lacks = AppComponents {
        component_ids: vec![UNKNOWN],
    };
    let ack = AppAck::of([(LeafIndex(1), 0)]).to_bytes();
    let malformed = |id| Err(ProposalError::MalformedComponentData(id));
    for (id, _) in values() {
        let update = |data: &[u8]| Proposal::app_data_update(id, data);
        assert_eq!(commit_by(alice, vec![update(b"\x02\x90")]), malformed(id));
        let good = dictionary.data(id).unwrap();
        let list = vec![update(b"\x02\x90"), update(good)];
        assert_eq!(commit_by(alice, list), malformed(id), "even if replaced");
        let removal = Proposal::app_data_removal(id);
        assert_eq!(commit_by(alice, vec![removal]), Ok(()));
        let unknown = Err(ProposalError::UnknownComponent(id));
        let ephemeral = Proposal::app_ephemeral(id, good.clone());
        assert_eq!(commit_by(alice, vec![ephemeral.clone()]), unknown);
        let proposed = alice.propose(ephemeral, FORMAT).map(drop);
        assert_eq!(proposed, unknown.map_err(Error::Proposal));
    }
    let id = ComponentID::APP_ACK;
    for (proposal, expected) in [
        (Proposal::app_ephemeral(id, ack.clone()), Ok(())),
        (Proposal::app_ephemeral(id, [1, 0]), malformed(id)),
        (
            Proposal::app_data_update(id, ack),
            Err(ProposalError::UnknownComponent(id)),
        ),
        (
            Proposal::app_data_update(ComponentID::APP_COMPONENTS, lacks.to_bytes()),
            Err(ProposalError::MemberLacks(Capability::Component(UNKNOWN))),
        ),
    ] {
        assert_eq!(commit_by(alice, vec![proposal]), expected);
    }

    // Where the application knows one of them, it decides.
    let member = alice.member.as_mut().unwrap();
    let ack = Proposal::app_ephemeral(id, AppAck::default().to_bytes());
    let all = values().flat_map(|(id, data)| {
        let update = Proposal::app_data_update(id, data);
        [(id, update), (id, Proposal::app_data_removal(id))]
    });
    for (id, proposal) in all.chain([(id, ack)]) {
        let mut ctx = Context {
            components: &Refusing(id),
            ..context(None, &mut alice.rng)
        };
        let commit = member.group.commit().proposal(proposal);
        let refused = commit.build(&mut member.keys, &alice.signer, &mut ctx);
        let error = ProposalError::ComponentRefuses(id);
        assert_eq!(refused.unwrap_err(), Error::Proposal(error));
    }
}

#[test]
fn a_removal_of_nothing_is_refused() {
    let mut clients = clients(Extensions::default());
    let nothing = Err(ProposalError::NoComponentData(COUNTER));
    assert_eq!(commit_by(&mut clients[0], vec![clear()]), nothing);
    // Neither is it taken in from others: the rest is committed without it.
    let proposed = clients[1].propose(clear(), FORMAT).unwrap();
    broadcast(&mut clients, 1, &proposed.message);
    let pending = clients[0].commit(|commit| commit).unwrap();
    assert_eq!(pending.effects.proposals.len(), 0);
    let only = IncludeProposals::Only(vec![proposed.reference]);
    let refused = clients[0].commit(|commit| commit.include_proposals(only));
    let error = ProposalError::NoComponentData(COUNTER);
    assert_eq!(refused.unwrap_err(), Error::Proposal(error));
}

#[test]
fn of_pending_updates_those_that_fit_are_taken_in() {
    let mut clients = clients(Extensions::default());
    let pending = clients[0]
        .commit(|commit| commit.app_data_update(COUNTER, [1]))
        .unwrap();
    deliver(&mut clients, 0, pending);
    for (proposer, proposal) in [(1, add(1)), (2, clear()), (2, say(b"x")), (1, add(250))] {
        let proposed = clients[proposer].propose(proposal, FORMAT).unwrap();
        broadcast(&mut clients, proposer, &proposed.message);
    }
    let pending = clients[0].commit(|commit| commit).unwrap();
    let members = [1, 2].map(|leaf| Sender::Member(LeafIndex(leaf)));
    let committed: Vec<_> = pending.effects.proposals.clone();
    assert_eq!(
        committed,
        [
            (members[0], add(1)),
            (members[1], say(b"x")),
            (members[0], add(250))
        ]
    );
    deliver(&mut clients, 0, pending);
    assert!(clients.iter().all(|client| count(client) == Some(252)));
}

#[test]
fn members_who_judge_otherwise_do_not_follow() {
    let mut clients = clients(Extensions::default());
    let pending = clients[0]
        .commit(|commit| commit.app_data_update(COUNTER, [1]))
        .unwrap();
    let Client {
        member,
        signer,
        rng,
        ..
    } = &mut clients[1];
    let bob = member.as_mut().unwrap();
    let mut ctx = Context {
        components: &NoComponents,
        ..context(None, rng)
    };
    let refused = bob.group.process(&mut bob.keys, &pending.message, &mut ctx);
    let error = ProposalError::UnknownComponent(COUNTER);
    assert_eq!(refused.unwrap_err(), Error::Proposal(error.clone()));
    let refused = bob
        .group
        .propose(&mut bob.keys, signer, add(1), b"", FORMAT, &mut ctx);
    assert_eq!(refused.unwrap_err(), Error::Proposal(error));
}

#[test]
fn a_kind_that_somebody_does_not_support_is_refused() {
    let mut clients = clients(Extensions::default());
    let mut plain = client("plain");
    let mut leaf = plain.parameters();
    leaf.capabilities.proposals = vec![ProposalType::APP_EPHEMERAL];
    plain.leaf = Some(leaf);
    let package = plain.key_package();
    // Who is only just added does not process the commit.
    let pending = clients[0]
        .commit(|commit| commit.add(package).app_data_update(COUNTER, [1]))
        .unwrap();
    clients.push(plain);
    deliver(&mut clients, 0, pending);
    let unsupported = ProposalError::UnsupportedProposal(ProposalType::APP_DATA_UPDATE);
    assert_eq!(
        commit_by(&mut clients[0], vec![add(1)]),
        Err(unsupported.clone())
    );
    assert_eq!(commit_by(&mut clients[0], vec![say(b"x")]), Ok(()));
    let refused = clients[1].propose(add(1), FORMAT).unwrap_err();
    assert_eq!(refused, Error::Proposal(unsupported));
    // Nor does who is removed by it.
    let leave = Proposal::remove(LeafIndex(3));
    assert_eq!(commit_by(&mut clients[0], vec![add(1), leave]), Ok(()));
}

#[test]
fn the_dictionary_is_not_replaced_where_all_know_how_to_update_it() {
    let dictionary = AppDataDictionary::default().with_data(COUNTER, [1]);
    let mut clients = clients(Extensions::default().with(&dictionary));
    let changed = AppDataDictionary::default().with_data(COUNTER, [2]);
    let mut replace = |extensions: Extensions| {
        let change = Proposal::group_context_extensions(extensions);
        commit_by(&mut clients[0], vec![change])
    };
    assert_eq!(replace(Extensions::default().with(&changed)), Ok(()));
    let required = Extensions::default().with(&RequiredCapabilities {
        proposal_types: vec![ProposalType::APP_DATA_UPDATE],
        ..RequiredCapabilities::default()
    });
    let group = required.clone().with(&dictionary);
    let pending = clients[0].commit(|commit| commit.group_context_extensions(group.clone()));
    deliver(&mut clients, 0, pending.unwrap());
    let replaced = Err(ProposalError::DictionaryReplaced);
    for (extensions, expected) in [
        (required.clone(), replaced.clone()),
        (required.clone().with(&changed), replaced.clone()),
        (Extensions::default(), replaced),
        (Extensions::default().with(&dictionary), Ok(())),
        (group, Ok(())),
    ] {
        let change = Proposal::group_context_extensions(extensions);
        assert_eq!(commit_by(&mut clients[0], vec![change.clone()]), expected);
        let proposed = clients[0].propose(change, FORMAT).map(drop);
        assert_eq!(proposed, expected.map_err(Error::Proposal));
    }
}

#[test]
fn the_dictionary_is_updated_while_other_extensions_are_replaced() {
    let dictionary = AppDataDictionary::default().with_data(COUNTER, [1]);
    let required = RequiredCapabilities {
        proposal_types: vec![ProposalType::APP_DATA_UPDATE],
        ..RequiredCapabilities::default()
    };
    let group = Extensions::default().with(&required).with(&dictionary);
    let mut clients = clients(group);
    let more = RequiredCapabilities {
        extension_types: vec![ExtensionType::APP_DATA_DICTIONARY],
        ..required.clone()
    };
    let change = |client: &Client, required: &RequiredCapabilities| {
        let group = client.group().extensions().clone();
        Proposal::group_context_extensions(group.with(required))
    };

    // By value, whichever is listed first.
    let list = [change(&clients[0], &more), add(1)];
    let add_all = |commit, list: [Proposal; 2]| {
        list.into_iter()
            .fold(commit, folkmoot_mls::group::CommitBuilder::proposal)
    };
    let pending = clients[0].commit(|commit| add_all(commit, list)).unwrap();
    deliver(&mut clients, 0, pending);
    let list = [add(1), change(&clients[1], &required)];
    let pending = clients[1].commit(|commit| add_all(commit, list)).unwrap();
    deliver(&mut clients, 1, pending);
    assert!(clients.iter().all(|client| count(client) == Some(3)));

    // By reference: all that waits is taken in.
    let proposals = [(1, change(&clients[1], &more)), (2, add(5))];
    for (proposer, proposal) in proposals {
        let proposed = clients[proposer].propose(proposal, FORMAT).unwrap();
        broadcast(&mut clients, proposer, &proposed.message);
    }
    let pending = clients[0].commit(|commit| commit).unwrap();
    assert_eq!(pending.effects.proposals.len(), 2);
    deliver(&mut clients, 0, pending);
    for client in &clients {
        assert_eq!(count(client), Some(8));
        assert_eq!(client.group().extensions().get(), Ok(Some(more.clone())));
    }

    // The dictionary is left alone as it is before the commit, not as it is after.
    let after = AppDataDictionary::default().with_data(COUNTER, [9]);
    let group = clients[0].group().extensions().clone().with(&after);
    let list = [Proposal::group_context_extensions(group), add(1)];
    let refused = commit_by(&mut clients[0], list.into());
    assert_eq!(refused, Err(ProposalError::DictionaryReplaced));
}

#[test]
fn an_external_sender_may_update_where_the_application_lets_it() {
    let outside = Client::new("outside");
    let senders = ExternalSenders {
        external_senders: vec![ExternalSender {
            signature_key: outside.signer.public_key().clone(),
            credential: outside.parameters().credential,
        }],
    };
    let mut clients = clients(Extensions::default().with(&senders));
    let to = Destination::from(clients[0].group().group_context());
    let mut rng = outside.rng.clone();
    let ctx = context(None, &mut rng);
    let propose = |proposal| {
        let signer = &outside.signer;
        propose_as_external_sender(&ctx, &to, 0, signer, proposal, b"")
    };
    for proposal in [add(5), say(b"x")] {
        let message = propose(proposal).unwrap();
        for client in &mut clients {
            assert!(matches!(client.receive(&message), Ok(Received::Proposal)));
        }
    }
    let refused = propose(Proposal::SelfRemove).unwrap_err();
    let error = InvalidMessage::SenderProposal(ProposalType::SELF_REMOVE);
    assert_eq!(refused, Error::InvalidMessage(error));
    // The component takes steps from anybody, and words from members only.
    let pending = clients[0].commit(|commit| commit).unwrap();
    assert_eq!(pending.effects.proposals, [(Sender::External(0), add(5))]);
    deliver(&mut clients, 0, pending);
    assert!(clients.iter().all(|client| count(client) == Some(5)));
}
