//! What a group requires of its members (section 5).

use crate::group_harness::{COUNTER, Client, assert_agreement, deliver};
use crate::{FORMAT, client, clients, dictionary, leaf};
use folkmoot_mls::code_point::WireFormat;
use folkmoot_mls::component::{
    AppComponents, AppDataDictionary, ComponentID, LastResortKeyPackage, MediaType, MediaTypeList,
    RequiredWireFormats, SafeAadComponents, SupportedWireFormats,
};
use folkmoot_mls::error::Error;
use folkmoot_mls::extension::{ExtensionType, Extensions, RequiredCapabilities};
use folkmoot_mls::group::{KeyPackageError, ProposalError};
use folkmoot_mls::tree::{Capability, LeafNodeError};

const OTHER: ComponentID = ComponentID(0x8002);

fn components(ids: &[ComponentID]) -> AppComponents {
    AppComponents {
        component_ids: ids.to_vec(),
    }
}

fn safe_aad(ids: &[ComponentID]) -> SafeAadComponents {
    SafeAadComponents {
        component_ids: ids.to_vec(),
    }
}

/// Alice adds a client: whether she may.
fn add(clients: &mut [Client], mut newcomer: Client) -> Result<(), LeafNodeError> {
    let package = newcomer.key_package();
    match clients[0].commit(|commit| commit.add(package)) {
        Ok(_) => Ok(()),
        Err(Error::Proposal(ProposalError::KeyPackage(KeyPackageError::LeafNode(error)))) => {
            Err(error)
        }
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn who_joins_supports_what_the_group_requires() {
    let dictionary = dictionary();
    let required = AppDataDictionary::default()
        .with(&components(&[COUNTER]))
        .with(&safe_aad(&[COUNTER]));
    let formats = RequiredWireFormats {
        wire_formats: vec![FORMAT, WireFormat::PRIVATE_MESSAGE],
    };
    let mut alice = client("alice");
    let full = dictionary.clone().with(&safe_aad(&[OTHER, COUNTER]));
    alice.leaf = Some(leaf("alice", &full));
    alice.create(Extensions::default().with(&required).with(&formats));
    let mut group = vec![alice];

    let mut newcomer = client("bob");
    newcomer.leaf = Some(leaf("bob", &full));
    assert_eq!(add(&mut group, newcomer), Ok(()));
    for (dictionary, wire_formats, lacking) in [
        (
            full.clone().with(&components(&[OTHER])),
            vec![FORMAT],
            Capability::Component(COUNTER),
        ),
        (
            full.clone().with(&safe_aad(&[OTHER])),
            vec![FORMAT],
            Capability::SafeAad(COUNTER),
        ),
        (dictionary, vec![FORMAT], Capability::SafeAad(COUNTER)),
        (
            full,
            vec![WireFormat(0xf002)],
            Capability::WireFormat(FORMAT),
        ),
    ] {
        let mut newcomer = client("bob");
        let mut leaf = leaf("bob", &dictionary);
        leaf.extensions.set(&SupportedWireFormats { wire_formats });
        newcomer.leaf = Some(leaf);
        assert_eq!(
            add(&mut group, newcomer),
            Err(LeafNodeError::Lacks(lacking))
        );
    }
    let plain = Client::new("bob");
    let lacking = Capability::Extension(ExtensionType::APP_DATA_DICTIONARY);
    assert_eq!(add(&mut group, plain), Err(LeafNodeError::Lacks(lacking)));
}

#[test]
fn what_a_group_comes_to_require_every_member_supports() {
    let mut clients = clients(Extensions::default());
    let with = |dictionary: AppDataDictionary| Extensions::default().with(&dictionary);
    let formats = |format| {
        Extensions::default().with(&RequiredWireFormats {
            wire_formats: vec![format],
        })
    };
    let none = AppDataDictionary::default;
    for (extensions, lacking) in [
        (
            with(none().with(&components(&[COUNTER, OTHER]))),
            Capability::Component(OTHER),
        ),
        (
            with(none().with(&safe_aad(&[COUNTER]))),
            Capability::SafeAad(COUNTER),
        ),
        (
            formats(WireFormat(0xf002)),
            Capability::WireFormat(WireFormat(0xf002)),
        ),
    ] {
        let refused = clients[1].commit(|c| c.group_context_extensions(extensions));
        let error = ProposalError::MemberLacks(lacking);
        assert_eq!(refused.unwrap_err(), Error::Proposal(error));
    }
    // What nobody lists and everybody has may be required too.
    let extensions =
        formats(WireFormat::PUBLIC_MESSAGE).with(&none().with(&components(&[COUNTER])));
    let pending = clients[1].commit(|c| c.group_context_extensions(extensions));
    deliver(&mut clients, 1, pending.unwrap());
    assert_agreement(&clients);
    // And nobody may drop it.
    let mut poorer = leaf("bob", &AppDataDictionary::default());
    poorer.credential = clients[1].group().own_leaf().credential;
    let refused = clients[1].commit(|c| c.own_leaf(poorer)).unwrap_err();
    let lacks = LeafNodeError::Lacks(Capability::Component(COUNTER));
    assert_eq!(
        refused,
        Error::Commit(folkmoot_mls::group::CommitError::LeafNode(lacks))
    );
}

#[test]
fn what_cannot_be_read_is_refused() {
    let mut clients = clients(Extensions::default());
    let mut malformed = |extensions: Extensions| {
        let refused = clients[1].commit(|c| c.group_context_extensions(extensions));
        match refused {
            Err(Error::Proposal(ProposalError::MalformedExtension(kind))) => Some(kind),
            Ok(_) => None,
            Err(other) => panic!("{other:?}"),
        }
    };
    let dictionary = ExtensionType::APP_DATA_DICTIONARY;
    let raw = |kind, bytes: &[u8]| {
        let mut extensions = Extensions::default();
        extensions.set_data(kind, bytes);
        extensions
    };
    let sorted = b"\x06\x80\x01\x00\x80\x02\x00";
    assert_eq!(malformed(raw(dictionary, sorted)), None);
    let unsorted = b"\x06\x80\x02\x00\x80\x01\x00";
    assert_eq!(malformed(raw(dictionary, unsorted)), Some(dictionary));
    for component in [
        ComponentID::APP_COMPONENTS,
        ComponentID::SAFE_AAD,
        ComponentID::CONTENT_MEDIA_TYPES,
    ] {
        let data = AppDataDictionary::default().with_data(component, [7]);
        let extensions = Extensions::default().with(&data);
        assert_eq!(malformed(extensions), Some(dictionary), "{component}");
    }
    let required = ExtensionType::REQUIRED_WIRE_FORMATS;
    assert_eq!(malformed(raw(required, &[1, 0])), Some(required));

    for (kind, bytes) in [
        (dictionary, unsorted.as_slice()),
        (ExtensionType::SUPPORTED_WIRE_FORMATS, &[1, 0]),
    ] {
        let mut newcomer = client("newcomer");
        let mut leaf = leaf("newcomer", &AppDataDictionary::default());
        leaf.extensions.set_data(kind, bytes);
        newcomer.leaf = Some(leaf);
        // Members who need not know the type cannot tell.
        let package = newcomer.key_package();
        let pending = clients[0].commit(|commit| commit.add(package.clone()));
        let with_newcomer = pending.unwrap().group;
        assert_eq!(
            with_newcomer.member_count(),
            clients[0].group().member_count() + 1
        );
        // Where they have to, they refuse it.
        let required = RequiredCapabilities {
            extension_types: vec![kind],
            ..RequiredCapabilities::default()
        };
        let required = Extensions::default().with(&required);
        let refused = clients[0].commit(|commit| {
            let commit = commit.add(package);
            commit.group_context_extensions(required.clone())
        });
        let error = LeafNodeError::MalformedExtension(kind);
        let error = ProposalError::KeyPackage(KeyPackageError::LeafNode(error));
        assert_eq!(refused.unwrap_err(), Error::Proposal(error));
        // And who is in already counts as one who does not know it.
        let mut members = self::clients(Extensions::default());
        let package = newcomer.key_package();
        let pending = members[0].commit(|commit| commit.add(package)).unwrap();
        members.push(newcomer);
        deliver(&mut members, 0, pending);
        let refused = members[0].commit(|c| c.group_context_extensions(required));
        let lacks = ProposalError::MemberLacks(Capability::Extension(kind));
        assert_eq!(refused.unwrap_err(), Error::Proposal(lacks));
    }
}

#[test]
fn a_client_says_what_it_supports_and_others_stay_tolerant() {
    let mut newcomer = Client::new("bob");
    let mut seen = std::collections::BTreeSet::new();
    let mut dictionary = AppDataDictionary::default();
    for _ in 0..200 {
        let grease = ComponentID::grease(&mut newcomer.rng);
        assert!(
            grease.is_grease() && grease < ComponentID(0x8000),
            "{grease}"
        );
        seen.insert(grease);
        dictionary.set_data(grease, [1]);
    }
    assert_eq!(seen.len(), 8);
    let list: Vec<_> = seen
        .into_iter()
        .chain([ComponentID::APP_COMPONENTS, COUNTER])
        .collect();
    let dictionary = dictionary.with(&components(&list));
    newcomer.leaf = Some(newcomer.parameters().with_components(dictionary.clone()));
    let required =
        AppDataDictionary::default().with(&components(&[COUNTER, ComponentID::APP_COMPONENTS]));
    let mut alice = Client::new("alice");
    alice.leaf = Some(alice.parameters().with_components(dictionary));
    alice.create(Extensions::default().with(&required));
    let mut group = vec![alice, newcomer];
    let package = group[1].key_package();
    let pending = group[0].commit(|commit| commit.add(package)).unwrap();
    deliver(&mut group, 0, pending);
    // Who says nothing more than that it knows the extension supports what everybody has to.
    let plain = Client::new("plain").parameters();
    let plain = plain.with_components(AppDataDictionary::default());
    let listed: Option<AppComponents> = plain.extensions.component().unwrap();
    assert_eq!(
        listed,
        Some(components(&[
            ComponentID::APP_COMPONENTS,
            ComponentID::SAFE_AAD
        ]))
    );
    assert_eq!(
        plain.capabilities.extensions,
        [ExtensionType::APP_DATA_DICTIONARY]
    );
}

#[test]
fn media_types_are_found_in_leaves() {
    let list = MediaTypeList::new(MediaType::new("text/plain")).with(MediaType::new("image/png"));
    let mut alice = client("alice");
    alice.leaf = Some(leaf("alice", &dictionary().with(&list)));
    alice.create(Extensions::default().with(&AppDataDictionary::default().with(&list)));
    let own = alice.group().own_leaf();
    assert_eq!(list.lacking_in(&own), None);
    let more = list.clone().with(MediaType::new("text/html"));
    assert_eq!(more.lacking_in(&own), Some(&MediaType::new("text/html")));
    let bob = client("bob").key_package();
    assert_eq!(list.lacking_in(&bob.leaf_node), Some(list.first()));
    let required: Option<MediaTypeList> = alice.group().extensions().component().unwrap();
    assert_eq!(required, Some(list));
}

#[test]
fn a_key_package_of_last_resort_says_so_and_joins_twice() {
    let mark = AppDataDictionary::default().with(&LastResortKeyPackage::default());
    let mut clients = clients(Extensions::default());
    let mut newcomer = client("newcomer");
    newcomer.key_package_extensions = Extensions::default().with(&mark);
    let package = newcomer.key_package();
    assert!(package.is_last_resort());
    assert!(!client("bob").key_package().is_last_resort());
    // In a data field there is nothing.
    let filled = AppDataDictionary::default().with_data(ComponentID::LAST_RESORT_KEY_PACKAGE, [1]);
    let mut other = client("other");
    other.key_package_extensions = Extensions::default().with(&filled);
    assert!(!other.key_package().is_last_resort());

    let bundle = newcomer.bundle.clone();
    for _ in 0..2 {
        newcomer.bundle = bundle.clone();
        let package = package.clone();
        let pending = clients[0].commit(|commit| commit.add(package)).unwrap();
        newcomer.join(&pending.welcome.unwrap(), None).unwrap();
        assert_eq!(newcomer.group().member_count(), 4);
    }
}

#[test]
fn components_without_a_meaning_are_ignored() {
    let is_grease = |id: &ComponentID| (0..8).any(|n| id.0 == 0x0a0a | n << 12 | n << 4);
    let supported = dictionary().with(&safe_aad(&[COUNTER]));
    let mut clients = clients(Extensions::default());
    let mut newcomer = client("newcomer");
    let plain = leaf("newcomer", &supported);
    let greased = plain.clone().with_grease(&mut newcomer.rng);
    let of_leaf: AppDataDictionary = greased.extensions.get().unwrap().unwrap();
    assert!(of_leaf.iter().any(|(id, _)| is_grease(&id)));
    let listed = of_leaf.get::<AppComponents>().unwrap().unwrap();
    assert!(
        listed
            .component_ids
            .iter()
            .filter(|id| **id != ComponentID(0x3a3a))
            .any(is_grease)
    );
    let listed = of_leaf.get::<SafeAadComponents>().unwrap().unwrap();
    assert!(listed.component_ids.iter().any(is_grease));
    assert!(listed.component_ids.contains(&COUNTER));
    newcomer.leaf = Some(greased);

    let mark = AppDataDictionary::default().with(&LastResortKeyPackage::default());
    let extensions = Extensions::default().with(&mark);
    newcomer.key_package_extensions = extensions.clone().with_grease(&mut newcomer.rng);
    let package = newcomer.key_package();
    assert!(package.is_last_resort());
    let greased = extensions.with_grease(&mut newcomer.rng);
    for extensions in [&package.extensions, &greased] {
        let dictionary: AppDataDictionary = extensions.get().unwrap().unwrap();
        assert!(dictionary.iter().any(|(id, _)| is_grease(&id)));
        assert_eq!(
            dictionary.get::<AppComponents>(),
            Ok(None),
            "no list is made"
        );
    }
    clients.push(newcomer);
    let pending = clients[0]
        .commit(|commit| commit.add(package).group_info_extensions(greased))
        .unwrap();
    deliver(&mut clients, 0, pending);
    let pending = clients[3].commit(|commit| commit).unwrap();
    deliver(&mut clients, 3, pending);
    assert_agreement(&clients);
    // Where there is no dictionary, none is made.
    let none = Extensions::default().with_grease(&mut clients[0].rng);
    assert!(
        !none
            .types()
            .any(|kind| kind == ExtensionType::APP_DATA_DICTIONARY)
    );
}
