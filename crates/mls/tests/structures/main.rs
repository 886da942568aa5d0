//! Laws of every structure's encoding: decoding gives back what was encoded; bytes that decode are the
//! encoding of what they decode to; no bytes make a panic.

mod strategies;

use folkmoot_mls::codec::{Decode, Encode};
use folkmoot_mls::inspect::inspect;
use folkmoot_mls::message::{MessageHeader, MlsMessage};
use proptest::prelude::*;
use strategies as s;

/// A small change to some bytes.
#[derive(Clone, Debug)]
enum Mutation {
    Flip(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Insert(prop::sample::Index, Vec<u8>),
    Remove(prop::sample::Index, usize),
}

impl Mutation {
    fn apply(&self, bytes: &mut Vec<u8>) {
        let place = |index: &prop::sample::Index| index.index(bytes.len() + 1);
        match self {
            Self::Flip(index, bits) => {
                let place = place(index);
                if let Some(byte) = bytes.get_mut(place) {
                    *byte ^= bits;
                }
            }
            Self::Cut(index) => bytes.truncate(place(index)),
            Self::Insert(index, new) => {
                let place = place(index);
                bytes.splice(place..place, new.iter().copied());
            }
            Self::Remove(index, count) => {
                let start = place(index);
                let end = (start + count).min(bytes.len());
                bytes.drain(start..end);
            }
        }
    }
}

fn mutations() -> impl Strategy<Value = Vec<Mutation>> {
    let index = any::<prop::sample::Index>;
    let mutation = prop_oneof![
        4 => (index(), 1..=u8::MAX).prop_map(|(place, bits)| Mutation::Flip(place, bits)),
        1 => index().prop_map(Mutation::Cut),
        1 => (index(), prop::collection::vec(any::<u8>(), 1..5))
            .prop_map(|(place, new)| Mutation::Insert(place, new)),
        1 => (index(), 1..5_usize).prop_map(|(place, count)| Mutation::Remove(place, count)),
    ];
    prop::collection::vec(mutation, 1..4)
}

/// Bytes that decode are the one encoding of what they decode to.
fn decodes_to_one_value<T: Decode + Encode>(bytes: &[u8]) -> Result<(), TestCaseError> {
    if let Ok(value) = T::from_bytes(bytes) {
        prop_assert_eq!(value.to_bytes(), bytes);
    }
    Ok(())
}

fn laws<T: Decode + Encode + PartialEq + std::fmt::Debug>(
    value: &T,
    mutations: &[Mutation],
    noise: &[u8],
) -> Result<(), TestCaseError> {
    let mut bytes = value.to_bytes();
    let decoded = T::from_bytes(&bytes);
    prop_assert_eq!(decoded.as_ref(), Ok(value));
    let longer = [&bytes[..], &[0]].concat();
    prop_assert!(T::from_bytes(&longer).is_err());
    for mutation in mutations {
        mutation.apply(&mut bytes);
        decodes_to_one_value::<T>(&bytes)?;
    }
    decodes_to_one_value::<T>(noise)
}

fn noise() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..200)
}

macro_rules! structures {
    ($($test:ident),* $(,)?) => {
        proptest! {
            #![proptest_config(ProptestConfig::with_cases(200))]
            $(
                #[test]
                fn $test(value in s::$test(), mutations in mutations(), noise in noise()) {
                    laws(&value, &mutations, &noise)?;
                }
            )*
        }
    };
}

structures! {
    add,
    app_ack,
    app_data_dictionary,
    application_framing,
    authenticated_content,
    capabilities,
    changes,
    commit,
    content,
    credential,
    extensions,
    external_senders,
    framed_content,
    group_context,
    group_info,
    group_secrets,
    hpke_ciphertext,
    key_package,
    key_package_bundle,
    leaf_node,
    leaf_node_source,
    media_type_list,
    mls_message,
    node,
    pre_shared_key_id,
    private_message,
    proposal,
    proposal_or_ref,
    public_message,
    ratchet_tree,
    required_capabilities,
    safe_aad,
    sender,
    sender_data,
    update_path,
    welcome,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whoever carries messages and whoever reads them agree on what is one.
    #[test]
    fn a_header_is_read_exactly_from_messages_to_a_group(
        message in s::mls_message(),
        mutations in mutations(),
    ) {
        let mut bytes = message.to_bytes();
        for round in 0..=mutations.len() {
            let decoded = MlsMessage::from_bytes(&bytes);
            let expected = match &decoded {
                Ok(MlsMessage::PublicMessage(message)) => {
                    let content = &message.content;
                    Some((content.group_id.to_vec(), content.epoch, content.content.content_type()))
                }
                Ok(MlsMessage::PrivateMessage(message)) => {
                    Some((message.group_id.to_vec(), message.epoch, message.content_type))
                }
                _ => None,
            };
            let header = MessageHeader::read(&bytes)
                .ok()
                .map(|header| (header.group_id.to_vec(), header.epoch, header.content_type));
            prop_assert_eq!(header, expected);
            let inspected = inspect(&bytes);
            prop_assert_eq!(inspected.is_ok(), decoded.is_ok());
            if let Ok(shown) = inspected {
                prop_assert!(shown.to_string().starts_with("MLSMessage:\n"));
            }
            if let Some(mutation) = mutations.get(round) {
                mutation.apply(&mut bytes);
            }
        }
    }
}
