//! The client behind the service, asked for what it cannot do: it says why, and goes on.

use folkmoot_interop::proto;
use folkmoot_interop::server::{Client, ClientError};
use folkmoot_mls::code_point::WireFormat;
use folkmoot_mls::crypto::{CipherSuite, PROVIDER};
use folkmoot_mls::error::Error;
use folkmoot_mls::group::{JoinError, ProposalError};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use tonic::{Code, Status};

fn client() -> Client {
    let mut client = Client::new(&PROVIDER, ChaCha20Rng::seed_from_u64(0));
    client.at(1_000_000);
    client
}

fn group(client: &mut Client, identity: &str) -> u32 {
    let request = proto::CreateGroupRequest {
        group_id: b"moot".to_vec(),
        cipher_suite: 1,
        encrypt_handshake: true,
        identity: identity.into(),
    };
    client.create_group(&request).unwrap().state_id
}

fn key_package(client: &mut Client, identity: &str) -> proto::CreateKeyPackageResponse {
    let request = proto::CreateKeyPackageRequest {
        cipher_suite: 1,
        identity: identity.into(),
    };
    client.create_key_package(&request).unwrap()
}

fn add(key_package: &[u8]) -> proto::ProposalDescription {
    proto::ProposalDescription {
        proposal_type: b"add".to_vec(),
        key_package: key_package.to_vec(),
        ..Default::default()
    }
}

/// Adds somebody, and gives the commit and the new member's transaction.
fn added(client: &mut Client, state_id: u32) -> (proto::CommitResponse, u32) {
    let offer = key_package(client, "ana");
    let request = proto::CommitRequest {
        state_id,
        by_value: vec![add(&offer.key_package)],
        ..Default::default()
    };
    (client.commit(&request).unwrap(), offer.transaction_id)
}

#[test]
fn ids_stand_for_one_thing() {
    let client = &mut client();
    let moot = group(client, "moot");
    let offer = key_package(client, "ana").transaction_id;
    let state_auth = |client: &mut Client, state_id| {
        let request = proto::StateAuthRequest { state_id };
        client.state_auth(&request).map(drop)
    };
    assert_eq!(state_auth(client, moot), Ok(()));
    let wrong = ClientError::WrongKind {
        id: offer,
        expected: "state",
    };
    assert_eq!(state_auth(client, offer), Err(wrong));
    assert_eq!(state_auth(client, 99), Err(ClientError::UnknownId(99)));

    let free = proto::FreeRequest { state_id: moot };
    client.free(&free).unwrap();
    assert_eq!(client.free(&free), Err(ClientError::UnknownId(moot)));
    assert_eq!(state_auth(client, moot), Err(ClientError::UnknownId(moot)));
}

/// Whoever never frees anything does not fill the memory.
#[test]
fn the_oldest_make_room() {
    let client = &mut client();
    let signer = |client: &mut Client| {
        let request = proto::CreateExternalSignerRequest {
            cipher_suite: 1,
            identity: b"reeve".to_vec(),
        };
        client.create_external_signer(&request).unwrap().signer_id
    };
    let moot = group(client, "moot");
    let state_auth = proto::StateAuthRequest { state_id: moot };
    for _ in 1..16_384 {
        signer(client);
    }
    assert!(client.state_auth(&state_auth).is_ok());
    signer(client);
    let gone = client.state_auth(&state_auth);
    assert_eq!(gone, Err(ClientError::UnknownId(moot)));
}

#[test]
fn what_makes_no_sense_is_refused_with_the_reason() {
    let client = &mut client();
    let moot = group(client, "moot");

    let mut request = proto::CreateKeyPackageRequest {
        cipher_suite: 65_537,
        identity: b"ana".to_vec(),
    };
    let field = "cipher_suite";
    let value = 65_537;
    let too_large = Err(ClientError::NumberTooLarge { field, value });
    assert_eq!(client.create_key_package(&request), too_large);
    request.cipher_suite = 0x0a0a;
    let unknown = Error::UnsupportedCipherSuite(CipherSuite(0x0a0a));
    assert_eq!(client.create_key_package(&request), Err(unknown.into()));

    let remove = proto::RemoveProposalRequest {
        state_id: moot,
        removed_id: b"nobody".to_vec(),
    };
    let nobody = Err(ClientError::UnknownMember("nobody".to_owned()));
    assert_eq!(client.remove_proposal(&remove), nobody);

    let pending = proto::HandlePendingCommitRequest { state_id: moot };
    let none = Err(ClientError::NoPendingCommit);
    assert_eq!(client.handle_pending_commit(&pending), none);

    // A key package where a Welcome should be.
    let offer = key_package(client, "ana");
    let join = proto::JoinGroupRequest {
        transaction_id: offer.transaction_id,
        welcome: offer.key_package.clone(),
        ..Default::default()
    };
    let wrong = Err(ClientError::WrongMessage {
        field: "welcome",
        wire_format: WireFormat::KEY_PACKAGE,
    });
    assert_eq!(client.join_group(&join), wrong);

    let described = proto::ProposalDescription {
        proposal_type: b"invent".to_vec(),
        ..Default::default()
    };
    let commit = proto::CommitRequest {
        state_id: moot,
        by_value: vec![described],
        ..Default::default()
    };
    let unknown = Err(ClientError::ProposalType("invent".to_owned()));
    assert_eq!(client.commit(&commit), unknown);

    let twice = vec![proto::Extension::default(), proto::Extension::default()];
    let extensions = proto::GroupContextExtensionsProposalRequest {
        state_id: moot,
        extensions: twice,
    };
    let repeated = Err(ClientError::RepeatedExtension);
    assert_eq!(
        client.group_context_extensions_proposal(&extensions),
        repeated
    );

    let psk = proto::ExternalPskProposalRequest {
        state_id: moot,
        psk_id: b"unheard of".to_vec(),
    };
    let proposal = client.external_psk_proposal(&psk).unwrap().proposal;
    let commit = proto::CommitRequest {
        state_id: moot,
        by_reference: vec![proposal],
        ..Default::default()
    };
    let unknown = Error::Proposal(ProposalError::UnknownPsk);
    assert_eq!(client.commit(&commit), Err(unknown.into()));
}

#[test]
fn a_call_that_fails_can_be_repeated() {
    let client = &mut client();
    let moot = group(client, "moot");
    let (commit, transaction_id) = added(client, moot);
    let stranger = key_package(client, "ben").transaction_id;
    let mut join = proto::JoinGroupRequest {
        transaction_id: stranger,
        welcome: commit.welcome,
        ..Default::default()
    };
    let not_ours = Error::Join(JoinError::NotForUs);
    assert_eq!(client.join_group(&join), Err(not_ours.clone().into()));
    assert_eq!(client.join_group(&join), Err(not_ours.into()));
    join.transaction_id = transaction_id;
    assert!(client.join_group(&join).is_ok());
    // The key package is used up.
    let gone = Err(ClientError::UnknownId(transaction_id));
    assert_eq!(client.join_group(&join), gone);
}

#[test]
fn statuses_say_who_is_to_blame() {
    let code = |error: ClientError| Status::from(error).code();
    assert_eq!(code(ClientError::UnknownId(1)), Code::NotFound);
    assert_eq!(code(ClientError::NoIds), Code::ResourceExhausted);
    assert_eq!(code(ClientError::NoPendingCommit), Code::FailedPrecondition);
    assert_eq!(code(ClientError::NotACommit), Code::InvalidArgument);
    let status = Status::from(ClientError::UnknownMember("ana".to_owned()));
    assert!(status.message().contains("ana"));
}

/// Messages with a few bytes changed, and no messages at all, in every call that takes some.
#[test]
fn damaged_messages_make_no_panic() {
    let client = &mut client();
    let moot = group(client, "moot");
    let (commit, transaction_id) = added(client, moot);
    let offer = key_package(client, "ben").key_package;
    let info = proto::GroupInfoRequest {
        state_id: moot,
        external_tree: true,
    };
    let info = client.group_info(&info).unwrap();
    let signer = proto::CreateExternalSignerRequest {
        cipher_suite: 1,
        identity: b"reeve".to_vec(),
    };
    let signer = client.create_external_signer(&signer).unwrap();
    let rng = &mut ChaCha20Rng::seed_from_u64(1);
    let mut refused = 0;
    for round in 0..400 {
        let mut damage = |bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            for _ in 0..=rng.next_u32() % 3 {
                let place = rng.next_u32() as usize % bytes.len().max(1);
                match (rng.next_u32() % 3, bytes.get_mut(place)) {
                    (0, Some(byte)) => *byte = rng.next_u32() as u8,
                    (1, Some(byte)) => *byte ^= 1 << (rng.next_u32() % 8),
                    _ => bytes.truncate(place),
                }
            }
            bytes
        };
        let failed = match round % 8 {
            0 => {
                let request = proto::JoinGroupRequest {
                    transaction_id,
                    welcome: damage(&commit.welcome),
                    ..Default::default()
                };
                client.join_group(&request).is_err()
            }
            1 => {
                let request = proto::HandleCommitRequest {
                    state_id: moot,
                    proposal: vec![],
                    commit: damage(&commit.commit),
                };
                client.handle_commit(&request).is_err()
            }
            2 => {
                let request = proto::HandleCommitRequest {
                    state_id: moot,
                    proposal: vec![damage(&commit.commit)],
                    commit: vec![],
                };
                client.handle_commit(&request).is_err()
            }
            3 => {
                let request = proto::AddProposalRequest {
                    state_id: moot,
                    key_package: damage(&offer),
                };
                client.add_proposal(&request).is_err()
            }
            4 => {
                let request = proto::ExternalJoinRequest {
                    group_info: damage(&info.group_info),
                    ratchet_tree: info.ratchet_tree.clone(),
                    identity: b"moot".to_vec(),
                    remove_prior: true,
                    ..Default::default()
                };
                client.external_join(&request).is_err()
            }
            5 => {
                let request = proto::ExternalJoinRequest {
                    group_info: info.group_info.clone(),
                    ratchet_tree: damage(&info.ratchet_tree),
                    identity: b"moot".to_vec(),
                    remove_prior: true,
                    ..Default::default()
                };
                client.external_join(&request).is_err()
            }
            6 => {
                let request = proto::UnprotectRequest {
                    state_id: moot,
                    ciphertext: damage(&commit.commit),
                };
                client.unprotect(&request).is_err()
            }
            _ => {
                let request = proto::AddExternalSignerRequest {
                    state_id: moot,
                    external_sender: damage(&signer.external_sender),
                };
                // Who the sender is cannot be wrong, only unreadable.
                let _ = client.add_external_signer(&request);
                true
            }
        };
        refused += u32::from(failed);
    }
    // Of 400, those that happened to put the old bytes back pass.
    assert!(refused > 380, "{refused} refused");
    // All still works.
    let pending = proto::HandlePendingCommitRequest { state_id: moot };
    assert!(client.handle_pending_commit(&pending).is_ok());
}
