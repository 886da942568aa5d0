//! Scenarios of draft-ietf-mls-extensions, and the exact error where a rule is broken.
#![cfg(any(feature = "aws-lc", feature = "rust-crypto"))]

#[path = "../group_harness/mod.rs"]
mod group_harness;

mod negotiation;
mod proposals;
mod safe_aad;
mod safe_interface;
mod self_remove;

use folkmoot_mls::component::{
    AppComponents, AppDataDictionary, ComponentID, SupportedWireFormats,
};
use folkmoot_mls::extension::{ExtensionType, Extensions};
use folkmoot_mls::leaf_node::LeafParameters;
use folkmoot_mls::proposal::ProposalType;
use group_harness::{COUNTER, Client};

/// What the clients of these tests support.
fn dictionary() -> AppDataDictionary {
    AppDataDictionary::default().with(&AppComponents {
        component_ids: vec![ComponentID::SAFE_AAD, ComponentID(0x3a3a), COUNTER],
    })
}

/// A leaf that supports all of the draft, with what the dictionary says.
fn leaf(name: &str, dictionary: &AppDataDictionary) -> LeafParameters {
    let mut leaf = Client::new(name).parameters();
    leaf.capabilities.extensions = vec![
        ExtensionType::APP_DATA_DICTIONARY,
        ExtensionType::SUPPORTED_WIRE_FORMATS,
        ExtensionType::REQUIRED_WIRE_FORMATS,
    ];
    leaf.capabilities.proposals = vec![ProposalType(8), ProposalType(9), ProposalType(10)];
    leaf.extensions = Extensions::default()
        .with(dictionary)
        .with(&SupportedWireFormats {
            wire_formats: vec![FORMAT],
        });
    leaf
}

/// A wire format of the application's own.
const FORMAT: folkmoot_mls::code_point::WireFormat = folkmoot_mls::code_point::WireFormat(0xf001);

fn client(name: &str) -> Client {
    let mut client = Client::new(name);
    client.leaf = Some(leaf(name, &dictionary()));
    client
}

/// Alice, Bob and Charlie, in leaves 0, 1 and 2, in a group with these extensions.
fn clients(extensions: Extensions) -> Vec<Client> {
    let mut clients = Vec::from(["alice", "bob", "charlie"].map(client));
    clients[0].create(extensions);
    let packages = [1, 2].map(|index: usize| clients[index].key_package());
    let pending = clients[0].commit(|c| packages.into_iter().fold(c, |c, p| c.add(p)));
    group_harness::deliver(&mut clients, 0, pending.unwrap());
    clients
}
