//! Authenticated data that components share (section 4.9), and their pre-shared keys (4.5).

use crate::clients;
use crate::group_harness::{COUNTER, Client, broadcast, context, deliver, suite};
use folkmoot_mls::code_point::WireFormat;
use folkmoot_mls::codec::{DecodeError, Encode};
use folkmoot_mls::component::{AppDataDictionary, SafeAAD, SafeAadComponents};
use folkmoot_mls::context::{Context, PskStore};
use folkmoot_mls::crypto::Secret;
use folkmoot_mls::error::{Error, InvalidMessage};
use folkmoot_mls::extension::{Extensions, ExternalSender, ExternalSenders};
use folkmoot_mls::framing::{AuthenticatedContent, Content, FramedContent, Sender};
use folkmoot_mls::group::{Destination, Processed, propose_as_external_sender, propose_join};
use folkmoot_mls::message::MlsMessage;
use folkmoot_mls::proposal::Proposal;
use folkmoot_mls::psk::{PreSharedKeyID, PskType};
use folkmoot_mls::tree_math::LeafIndex;

fn extensions() -> Extensions {
    let dictionary = AppDataDictionary::default().with(&SafeAadComponents::default());
    Extensions::default().with(&dictionary)
}

/// Application data with this in clear, made by hand.
fn forge(client: &mut Client, authenticated_data: &[u8]) -> MlsMessage {
    let group = client.group();
    let content = FramedContent {
        group_id: group.group_id().into(),
        epoch: group.epoch(),
        sender: Sender::Member(group.own_index()),
        authenticated_data: authenticated_data.into(),
        content: Content::Application(b"word".as_slice().into()),
    };
    let format = WireFormat::PRIVATE_MESSAGE;
    let (suite, context) = (suite(client.suite), group.group_context());
    let content = AuthenticatedContent::sign(suite, &client.signer, format, content, context);
    let keys = &mut client.member.as_mut().unwrap().keys;
    let message = keys
        .protect(&content.unwrap(), 0, &mut client.rng)
        .unwrap()
        .0;
    MlsMessage::PrivateMessage(message)
}

fn refused(error: DecodeError) -> Error {
    Error::InvalidMessage(InvalidMessage::SafeAad(error))
}

#[test]
fn all_authenticated_data_of_such_a_group_is_shared() {
    let mut clients = clients(extensions());
    // Nothing to say is said by an empty list, in every kind of message.
    let (word, _) = clients[0].send(b"word");
    let mut rng = clients[1].rng.clone();
    let bob = clients[1].member.as_mut().unwrap();
    let read = bob
        .group
        .process(&mut bob.keys, &word, &mut context(None, &mut rng));
    let Ok(Processed::Application {
        authenticated_data, ..
    }) = read
    else {
        panic!("{read:?}")
    };
    assert_eq!(*authenticated_data, [0]);
    let proposed = clients[2].propose(Proposal::remove(LeafIndex(1)), WireFormat::PUBLIC_MESSAGE);
    let proposed = proposed.unwrap();
    broadcast(&mut clients, 2, &proposed.message);
    let aad = SafeAAD::default().with(COUNTER, *b"counted").to_bytes();
    let pending = clients[0]
        .commit(|commit| commit.authenticated_data(aad.clone()))
        .unwrap();
    deliver(&mut clients, 0, pending);

    // Anything else is refused, by who sends and by who receives.
    let unframed = b"anything".as_slice();
    let mut rng = clients[0].rng.clone();
    let Client { member, signer, .. } = &mut clients[0];
    let alice = member.as_mut().unwrap();
    let sent = alice.keys.encrypt(signer, unframed, b"word", 0, &mut rng);
    assert_eq!(sent.unwrap_err(), refused(DecodeError::Truncated));
    let made = clients[0].commit(|commit| commit.authenticated_data(*b"\0\0"));
    assert_eq!(made.unwrap_err(), refused(DecodeError::TrailingBytes));
    let unsorted = b"\x06\x80\x02\x00\x80\x01\x00".as_slice();
    for (data, error) in [
        (unframed, DecodeError::Truncated),
        (b"", DecodeError::Truncated),
        (unsorted, DecodeError::InvalidValue("aad_items")),
    ] {
        let forged = forge(&mut clients[0], data);
        assert_eq!(clients[2].receive(&forged).unwrap_err(), refused(error));
    }
    let forged = forge(&mut clients[0], &aad);
    clients[2].receive(&forged).unwrap();
    // It stays so after a restart.
    clients[2].restart();
    let forged = forge(&mut clients[0], b"x");
    assert!(clients[2].receive(&forged).is_err());
}

#[test]
fn those_outside_share_it_too() {
    let mut outside = Client::new("outside");
    let senders = ExternalSenders {
        external_senders: vec![ExternalSender {
            signature_key: outside.signer.public_key().clone(),
            credential: outside.parameters().credential,
        }],
    };
    let mut clients = clients(extensions().with(&senders));
    let to = Destination::from(clients[0].group().group_context());
    let package = crate::client("newcomer").key_package();
    let signer = outside.signer.clone();
    let ctx = context(None, &mut outside.rng);
    let remove = || Proposal::remove(LeafIndex(1));
    let aad = SafeAAD::default().with(COUNTER, *b"counted").to_bytes();
    for data in [b"".as_slice(), &aad] {
        let message = propose_as_external_sender(&ctx, &to, 0, &signer, remove(), data).unwrap();
        clients[0].receive(&message).unwrap();
    }
    let made = propose_as_external_sender(&ctx, &to, 0, &signer, remove(), b"anything");
    assert_eq!(made.unwrap_err(), refused(DecodeError::Truncated));
    let newcomer = crate::client("newcomer").signer;
    let message = propose_join(&ctx, &to, &newcomer, package.clone(), b"").unwrap();
    clients[0].receive(&message).unwrap();
    let made = propose_join(&ctx, &to, &newcomer, package, b"anything");
    assert_eq!(made.unwrap_err(), refused(DecodeError::Truncated));
}

#[test]
fn elsewhere_it_is_the_applications_own() {
    let mut clients = clients(Extensions::default());
    let forged = forge(&mut clients[0], b"anything");
    clients[1].receive(&forged).unwrap();
}

/// The pre-shared key of a component.
struct OfComponent;

impl PskStore for OfComponent {
    fn psk(&self, id: &PreSharedKeyID) -> Option<Secret> {
        match &id.psktype {
            PskType::Application(psk) if psk.component_id == COUNTER => {
                Some(Secret::from(psk.psk_id.to_vec()))
            }
            _ => None,
        }
    }
}

#[test]
fn a_component_brings_a_pre_shared_key_in() {
    let mut clients = clients(Extensions::default());
    let mut rng = clients[0].rng.clone();
    let suite = suite(clients[0].suite);
    let id = PreSharedKeyID::application(suite, COUNTER, *b"file", &mut rng);
    let encoded = b"\x03\x80\x01\x04file";
    assert_eq!(id.to_bytes()[..encoded.len()], *encoded);
    assert_eq!(id.psk_nonce.len(), 32);
    let again = PreSharedKeyID::application(suite, COUNTER, *b"file", &mut rng);
    assert_ne!(id.psk_nonce, again.psk_nonce);
    let mut ctx = Context {
        psks: &OfComponent,
        ..context(None, &mut rng)
    };
    let Client { member, signer, .. } = &mut clients[0];
    let alice = member.as_mut().unwrap();
    let commit = alice.group.commit().psk(id);
    let pending = commit.build(&mut alice.keys, signer, &mut ctx).unwrap();
    assert!(
        clients[1].receive(&pending.message).is_err(),
        "without the key"
    );
    let bob = clients[1].member.as_mut().unwrap();
    let read = bob.group.process(&mut bob.keys, &pending.message, &mut ctx);
    let Ok(Processed::Commit { group, .. }) = read else {
        panic!("{read:?}")
    };
    assert_eq!(
        group.epoch_authenticator(),
        pending.group.epoch_authenticator()
    );
}
