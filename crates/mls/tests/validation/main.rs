//! Every rule of RFC 9420 that a receiver has to check: a table, with a test for each row that breaks
//! this rule and no other and sees the exact error.
//!
//! Alice is the receiver. Mallory is a member who keeps to no rule ([`insider`]): what she sends is
//! right in all but the rule in question, down to signatures, MACs and tags, so that without the check
//! Alice would take it.
#![cfg(any(feature = "aws-lc", feature = "rust-crypto"))]

#[path = "../group_harness/mod.rs"]
mod group_harness;

/// The rows of one area, each with its test. What has no row here is reported as dead code.
macro_rules! rules {
    ($($section:literal $rule:literal => $test:ident;)*) => {
        pub const RULES: &[crate::Rule] = &[$(crate::Rule {
            section: $section,
            rule: $rule,
            test: concat!(module_path!(), "::rule::", stringify!($test)),
        }),*];

        mod rule {
            $(
                #[test]
                fn $test() {
                    super::$test();
                }
            )*
        }
    };
}

mod callers;
mod commits;
mod encoding;
mod external_commits;
mod insider;
mod joining;
mod key_packages;
mod leaf_nodes;
mod messages;
mod nodes;
mod outsiders;
mod proposals;
mod robustness;
mod successors;
mod trees;
mod welcome;

use std::collections::BTreeSet;

use folkmoot_mls::code_point::WireFormat;
use folkmoot_mls::codec::{Bytes, Decode, Encode};
use folkmoot_mls::context::{
    AuthenticationService, BasicCredentials, Context, CredentialError, NoPsks, PskStore,
};
use folkmoot_mls::credential::Credential;
use folkmoot_mls::error::Error;
use folkmoot_mls::extension::Extensions;
use folkmoot_mls::group::Processed;
use folkmoot_mls::key_package::{KEY_PACKAGE_TBS, KeyPackage};
use folkmoot_mls::message::MlsMessage;
use folkmoot_mls::tree_math::LeafIndex;
use group_harness::{Client, Received, SUITE, assert_agreement, context, group_of, suite};
use insider::{Insider, Plan, sign_leaf};

/// One row.
pub struct Rule {
    section: &'static str,
    rule: &'static str,
    test: &'static str,
}

const ALICE: usize = 0;
const MALLORY: usize = 1;
const CHARLIE: usize = 2;

#[test]
fn the_table() {
    let areas = [
        encoding::RULES,
        messages::RULES,
        key_packages::RULES,
        leaf_nodes::RULES,
        trees::RULES,
        proposals::RULES,
        commits::RULES,
        outsiders::RULES,
        external_commits::RULES,
        successors::RULES,
        joining::RULES,
        callers::RULES,
    ];
    let mut rules: Vec<_> = areas.into_iter().flatten().collect();
    let number = |section: &str| {
        let parts = section
            .split('.')
            .map(|part| part.parse::<u8>().expect("a number"));
        parts.collect::<Vec<_>>()
    };
    rules.sort_by_key(|rule| number(rule.section));
    let mut seen = BTreeSet::new();
    for Rule {
        section,
        rule,
        test,
    } in &rules
    {
        println!("{section:<10} {rule:<90} {test}");
        assert!(
            seen.insert((section, rule)),
            "{section} {rule} is there twice"
        );
    }
    println!("{} rules", rules.len());
}

/// Alice, Mallory and Charlie, in leaves 0, 1 and 2, and what Mallory knows.
fn group() -> (Vec<Client>, Insider) {
    let clients = group_of(&["alice", "mallory", "charlie"]);
    let mallory = Insider::of(&clients[MALLORY]);
    (clients, mallory)
}

/// Who judges, and what is known, where Alice receives.
#[derive(Clone, Copy)]
struct Around<'a> {
    service: &'a dyn AuthenticationService,
    psks: &'a dyn PskStore,
    now: Option<u64>,
}

impl Default for Around<'_> {
    fn default() -> Self {
        Self {
            service: &BasicCredentials,
            psks: &NoPsks,
            now: None,
        }
    }
}

impl<'a> Around<'a> {
    fn context<'b>(&self, client: &'b mut rand_chacha::ChaCha20Rng) -> Context<'b>
    where
        'a: 'b,
    {
        Context {
            authentication_service: self.service,
            psks: self.psks,
            ..context(self.now, client)
        }
    }
}

/// Reads a message as it travels. Nothing is kept.
fn process(
    client: &mut Client,
    message: &MlsMessage,
    around: Around<'_>,
) -> Result<Processed, Error> {
    let message = MlsMessage::from_bytes(&message.to_bytes())?;
    let member = client.member.as_mut().unwrap();
    let mut rng = client.rng.clone();
    let mut ctx = around.context(&mut rng);
    member.group.process(&mut member.keys, &message, &mut ctx)
}

/// Alice refuses a message, and goes on undisturbed.
fn refuses(clients: &mut [Client], message: &MlsMessage, error: impl Into<Error>) {
    refuses_around(clients, message, error, Around::default());
}

fn refuses_around(
    clients: &mut [Client],
    message: &MlsMessage,
    error: impl Into<Error>,
    around: Around<'_>,
) {
    let error = error.into();
    // The second time shows that no key was used up by the first.
    for _ in 0..2 {
        let refused = process(&mut clients[ALICE], message, around);
        assert_eq!(refused.map(drop), Err(error.clone()));
    }
    goes_on(clients);
}

/// Alice and Mallory still understand each other.
fn goes_on(clients: &mut [Client]) {
    let (word, _) = clients[MALLORY].send(b"still here");
    let received = clients[ALICE].receive(&word).unwrap();
    assert!(matches!(received, Received::Data(data) if data == b"still here"));
    let pending = clients[MALLORY].commit(|commit| commit).unwrap();
    clients[ALICE].receive(&pending.message).unwrap();
    clients[MALLORY].merge(pending);
    assert_agreement(&clients[..=MALLORY]);
}

/// Alice refuses a commit of Mallory's, encrypted or in clear, and goes on undisturbed.
fn refuses_commit(
    clients: &mut [Client],
    mallory: &Insider,
    plan: &Plan<'_>,
    error: impl Into<Error>,
) {
    refuses_commit_around(clients, mallory, plan, error, Around::default());
}

fn refuses_commit_around(
    clients: &mut [Client],
    mallory: &Insider,
    plan: &Plan<'_>,
    error: impl Into<Error>,
    around: Around<'_>,
) {
    let forged = mallory.commit(plan);
    let message = match plan.wire_format {
        WireFormat::PUBLIC_MESSAGE => forged.public(mallory),
        _ => forged.private(&mut clients[MALLORY]),
    };
    refuses_around(clients, &message, error, around);
}

/// A client that may be added, with its KeyPackage.
fn newcomer() -> (Client, KeyPackage) {
    newcomer_named("newcomer")
}

fn newcomer_named(name: &str) -> (Client, KeyPackage) {
    let mut client = Client::new(name);
    let key_package = client.key_package();
    (client, key_package)
}

/// Signs a KeyPackage again after a change, its leaf too.
fn resigned(client: &Client, mut key_package: KeyPackage) -> KeyPackage {
    let position = folkmoot_mls::leaf_node::LeafPosition {
        group_id: b"group",
        leaf_index: LeafIndex(3),
    };
    let leaf = key_package.leaf_node;
    key_package.leaf_node = sign_leaf(suite(SUITE), &client.signer, leaf, position);
    signed_outside(client, key_package)
}

/// Signs a KeyPackage again, but not its leaf.
fn signed_outside(client: &Client, mut key_package: KeyPackage) -> KeyPackage {
    let tbs = key_package.tbs();
    key_package.signature = suite(SUITE)
        .sign_with_label(&client.signer, KEY_PACKAGE_TBS, &tbs)
        .unwrap();
    key_package
}

/// A credential of a kind that this crate does not know.
fn custom(data: &[u8]) -> Credential {
    Credential::Custom {
        credential_type: CUSTOM,
        data: Bytes::from(data),
    }
}

const CUSTOM: folkmoot_mls::credential::CredentialType =
    folkmoot_mls::credential::CredentialType(0xf0f0);

/// Takes every credential, but a name of "forbidden", and every change of one, but to "stranger".
struct Lenient;

impl AuthenticationService for Lenient {
    fn validate(
        &self,
        credential: &Credential,
        _: &[u8],
        _: &Extensions,
        _: Option<u64>,
    ) -> Result<(), CredentialError> {
        if *credential == Credential::basic(*b"forbidden") {
            Err(CredentialError::NotAuthentic)
        } else {
            Ok(())
        }
    }

    fn is_successor(&self, _: &Credential, new: &Credential) -> bool {
        *new != Credential::basic(*b"stranger")
    }
}

const LENIENT: Around<'static> = Around {
    service: &Lenient,
    psks: &NoPsks,
    now: None,
};
