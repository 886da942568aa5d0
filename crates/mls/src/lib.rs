//! The Messaging Layer Security protocol (RFC 9420): no sockets, no files, no clock, no async.
//!
//! MLS gives a group of any size a fresh key whenever it changes. The members' keys are the leaves of
//! a binary tree; whoever changes the group renews the keys on its own way to the root, so a change
//! costs the logarithm of the size. The changes are ordered by a service that learns nothing from
//! them. Each begins an *epoch*, in which members send messages.
//!
//! # The idea of this crate
//!
//! **State is a value.** A [`Group`](group::Group) is one member's view of a group in one epoch. No
//! call changes it: an operation gives the next group, and dropping that is how a lost race or a
//! failed send is undone. What must not be undone lives apart: [`MessageKeys`](message_keys::MessageKeys)
//! are an epoch's keys that are used up by sending and receiving.
//!
//! **Storage is the caller's.** Each result carries [`Changes`](records::Changes), small records to put
//! and to delete, which the caller applies in its own transaction. After a restart
//! [`Group::load`](group::Group::load) reads them back.
//!
//! **The world is an argument.** Cryptography, the judge of credentials, the time and randomness come
//! with each call, in a [`Context`](context::Context).
//!
//! # A first group
//!
//! ```
//! use folkmoot_mls::capabilities::Capabilities;
//! use folkmoot_mls::code_point::ProtocolVersion;
//! use folkmoot_mls::component::NoComponents;
//! use folkmoot_mls::context::{BasicCredentials, Context, NoPsks, OneThread};
//! use folkmoot_mls::credential::{Credential, CredentialType};
//! use folkmoot_mls::crypto::{CipherSuite, CryptoProvider, PROVIDER};
//! use folkmoot_mls::extension::Extensions;
//! use folkmoot_mls::group::{Group, GroupParameters, Processed};
//! use folkmoot_mls::key_package::KeyPackage;
//! use folkmoot_mls::leaf_node::{LeafParameters, Lifetime};
//! use folkmoot_mls::message::MlsMessage;
//! use rand_chacha::ChaCha20Rng;
//! use rand_core::SeedableRng;
//!
//! # fn main() -> Result<(), folkmoot_mls::error::Error> {
//! let cipher_suite = CipherSuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_ED25519;
//! let suite = PROVIDER.suite(cipher_suite).expect("suite 1 is always there");
//! // An application takes a generator that the system has seeded.
//! let mut rng = ChaCha20Rng::from_seed([7; 32]);
//!
//! // Who somebody is and what its client can do, the same for all here but for the name.
//! let leaf = |name: &str| LeafParameters {
//!     credential: Credential::basic(name.as_bytes()),
//!     capabilities: Capabilities {
//!         versions: vec![ProtocolVersion::MLS10],
//!         cipher_suites: vec![cipher_suite],
//!         credentials: vec![CredentialType::BASIC],
//!         ..Capabilities::default()
//!     },
//!     extensions: Extensions::default(),
//! };
//! let alice = suite.signature_key_pair(&mut rng);
//! let bob = suite.signature_key_pair(&mut rng);
//!
//! // Bob publishes an offer to be added, and keeps the private keys behind it.
//! let lifetime = Lifetime { not_before: 0, not_after: 90 * 86_400 };
//! let offer =
//!     KeyPackage::create(suite, &bob, leaf("bob"), lifetime, Extensions::default(), &mut rng)?;
//!
//! let mut ctx = Context {
//!     provider: &PROVIDER,
//!     authentication_service: &BasicCredentials,
//!     psks: &NoPsks,
//!     components: &NoComponents,
//!     now: Some(86_400),
//!     workers: &OneThread,
//!     rng: &mut rng,
//! };
//!
//! // Alice starts a group and adds him. What she made is merged once the service has ordered it.
//! let group_id = (*b"the id of this group").into();
//! let version = ProtocolVersion::MLS10;
//! let extensions = Extensions::default();
//! let parameters = GroupParameters { version, cipher_suite, group_id, extensions };
//! let mut created = Group::create(&mut ctx, parameters, &alice, leaf("alice"))?;
//! let commit = created.group.commit().add(offer.key_package.clone());
//! let pending = commit.build(&mut created.keys, &alice, &mut ctx)?;
//! let (group, mut keys) = (pending.group, pending.keys);
//!
//! // Bob joins by the Welcome, which holds the tree.
//! let welcome = pending.welcome.expect("somebody was added");
//! let mut joined = Group::join(&mut ctx, &welcome, &offer, None)?;
//! assert_eq!(joined.group.epoch(), 1);
//! assert_eq!(joined.group.epoch_authenticator(), group.epoch_authenticator());
//!
//! // Alice says something, padded by 100 bytes.
//! let (message, _changes) = keys.encrypt(&alice, b"", b"hello", 100, ctx.rng)?;
//! let message = MlsMessage::PrivateMessage(message);
//! let Processed::Application { sender, data, .. } =
//!     joined.group.process(&mut joined.keys, &message, &mut ctx)?
//! else {
//!     panic!("application data")
//! };
//! assert_eq!(sender, group.own_index());
//! assert_eq!(*data, *b"hello");
//! # Ok(())
//! # }
//! ```
//!
//! # The rest of the house
//!
//! | Module | Section of RFC 9420 |
//! | --- | --- |
//! | [`codec`] | 2.1: how everything is written |
//! | [`crypto`] | 5.1, 5.2: cipher suites, labels, HPKE; providers behind a trait |
//! | [`credential`], [`leaf_node`], [`key_package`] | 5.3, 7.2, 10: who a client is |
//! | [`framing`], [`message`] | 6: how content is signed and travels |
//! | [`tree`], [`tree_math`], [`node`] | 4, 7: the ratchet tree and TreeKEM |
//! | [`tree_pages`] | the tree of a large group, apart from its Welcomes |
//! | [`key_schedule`], [`psk`], [`transcript`] | 8: from one epoch's secrets to the next one's |
//! | [`secret_tree`], [`ratchet`], [`message_keys`] | 9: a key for each message |
//! | [`proposal`], [`mod@commit`], [`welcome`], [`group`] | 11, 12: how groups change |
//! | [`negotiation`] | 10, 11: the best version and suite that all support |
//! | [`extension`], [`capabilities`], [`code_point`] | 7.2, 13, 17: what may come later |
//! | [`component`], [`safe_exporter`] | draft-ietf-mls-extensions: components of an application |
//! | [`evidence`] | that a member sent a message, for somebody outside of the group |
//! | [`inspect`] | any message, field by field |
//! | [`workers`] | threads, where the caller has some |
//!
//! A delivery service needs one call: [`MessageHeader::read`](message::MessageHeader::read).
//!
//! # Errors
//!
//! An [`Error`](error::Error) says who is to blame: the sender of a message, the committer, our own
//! caller, our own storage, or nobody. A call that fails has changed nothing. No input makes a panic,
//! and memory is taken only for bytes that are there.

mod authentication_service;
pub mod capabilities;
pub mod code_point;
pub mod codec;
pub mod commit;
pub mod component;
pub mod context;
pub mod credential;
pub mod crypto;
pub mod error;
pub mod evidence;
pub mod extension;
pub mod framing;
pub mod group;
pub mod group_context;
pub mod group_info;
pub mod inspect;
pub mod key_package;
pub mod key_schedule;
pub mod leaf_node;
pub mod message;
pub mod message_keys;
pub mod negotiation;
pub mod node;
pub mod proposal;
pub mod psk;
pub mod ratchet;
pub mod records;
pub mod safe_exporter;
pub mod secret_tree;
#[cfg(test)]
mod testing;
pub mod transcript;
pub mod tree;
pub mod tree_math;
pub mod tree_pages;
pub mod warm_up;
pub mod welcome;
pub mod workers;
