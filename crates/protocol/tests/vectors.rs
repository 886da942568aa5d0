//! The test vectors of `docs/delivery-protocol.md`: made here from fixed inputs, and compared with what
//! is published. A change of any byte, there or in the code, fails.
//!
//! `FOLKMOOT_WRITE_VECTORS=1` writes the file anew.

use std::path::PathBuf;

use folkmoot_mls::codec::Encode;
use folkmoot_mls::crypto::Secret;
use folkmoot_protocol::VERSION;
use folkmoot_protocol::door::{self, Door, DoorKeys, Knock, Link};
use folkmoot_protocol::fence::fence_key;
use folkmoot_protocol::ids::{ChainHash, LogId, MailboxId, PackageId, PickupAddress};
use folkmoot_protocol::invitation::Invitation;
use folkmoot_protocol::keys::{SigningKey, hash};
use folkmoot_protocol::log::{
    Append, CommitDeclaration, Head, Open, Pickup, SignedHead, part_hash,
};
use folkmoot_protocol::plaintext::{MessageId, Plaintext, Position};
use folkmoot_protocol::proof::{FenceProof, MailboxProof, Method};
use folkmoot_protocol::sealed::{
    self, open_own_part, open_package, open_shared_part, seal_own_part, seal_package,
    seal_shared_part, suite,
};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use serde_json::{Value, json};

fn file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/vectors/delivery.json")
}

fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn unhex(value: &Value) -> Vec<u8> {
    let digits = value.as_str().unwrap().as_bytes();
    let digit = |at: u8| char::from(at).to_digit(16).unwrap() as u8;
    digits
        .chunks_exact(2)
        .map(|pair| digit(pair[0]) * 16 + digit(pair[1]))
        .collect()
}

/// 32 bytes that count up from a first one.
fn bytes(first: u8) -> [u8; 32] {
    std::array::from_fn(|at| first.wrapping_add(at as u8))
}

fn key(first: u8) -> SigningKey {
    SigningKey::from_seed(bytes(first).into())
}

const LOG: LogId = LogId([0x11; 32]);
const TIME: u64 = 1_800_000_000_000;

fn service() -> SigningKey {
    key(0xd0)
}

fn open() -> Open {
    Open {
        version: VERSION,
        log: LOG,
        fence_key: key(0xf0).public(),
    }
}

fn message() -> Append {
    Append {
        version: VERSION,
        log: LOG,
        branch: open().id(),
        parent: open().id(),
        epoch: 0,
        content_type: 1,
        commit: None,
        message: b"an MLSMessage".as_slice().into(),
    }
}

fn commit() -> Append {
    Append {
        content_type: 3,
        commit: Some(CommitDeclaration {
            next_fence_key: key(0xf1).public(),
            cut: true,
            last_seen: 1,
            commit_interval: Some(1),
            contest: false,
            committers: None,
            shared_part: Some(part_hash(b"shared")),
            pickups: vec![Pickup {
                address: PickupAddress(bytes(0xa0)),
                own_part: part_hash(b"own"),
            }],
            pages: Vec::new(),
        }),
        ..message()
    }
}

/// What one statement encodes to, what it is called, and who signs it.
fn statements() -> Value {
    let (open, message, commit) = (open(), message(), commit());
    let chain0 = ChainHash::START.next(LOG, 0, TIME, open.id());
    let chain1 = chain0.next(LOG, 1, TIME + 5, message.id());
    let proof = |epoch, method, subject: &[u8], fence: &SigningKey| {
        let proof = FenceProof {
            version: VERSION,
            delivery_service: service().public(),
            log: LOG,
            branch: open.id(),
            epoch,
            method,
            subject: subject.into(),
        };
        json!({
            "encoding": hex(proof.to_bytes()),
            "signed by": hex(**fence.seed()),
            "signature": hex(proof.sign(fence)),
        })
    };
    let head = Head {
        version: VERSION,
        log: LOG,
        branch: open.id(),
        sequence: 1,
        chain: chain1,
        entry_time: TIME + 5,
        issued: TIME + 9,
    };
    let signed = SignedHead::sign(head.clone(), &service());
    let owner = key(0x40);
    let mailbox = MailboxProof {
        version: VERSION,
        delivery_service: service().public(),
        mailbox: MailboxId::of(&owner.public()),
        method: Method::Collect,
        nonce: [7; 32].into(),
        content: 3u64.to_bytes().into(),
    };
    json!({
        "hash": {
            "label": "example",
            "statement": hex(5u16.to_bytes()),
            "hash": hex(hash("example", &5u16)),
        },
        "signature": {
            "seed": hex(bytes(0x20)),
            "public key": hex(key(0x20).public().0),
            "label": "example",
            "statement": hex(5u16.to_bytes()),
            "signature": hex(key(0x20).sign("example", &5u16)),
        },
        "fence key": {
            "exported": hex(bytes(0x30)),
            "seed": hex(**fence_key(suite(), &Secret::from(bytes(0x30).to_vec())).seed()),
        },
        "open": {
            "encoding": hex(open.to_bytes()),
            "id": hex(open.id().0),
            "proof": proof(0, Method::Open, &open.id().0, &key(0xf0)),
        },
        "message": {
            "encoding": hex(message.to_bytes()),
            "id": hex(message.id().0),
            "proof": proof(0, Method::Append, &message.id().0, &key(0xf0)),
        },
        "commit": {
            "encoding": hex(commit.to_bytes()),
            "id": hex(commit.id().0),
            "proof": proof(0, Method::Append, &commit.id().0, &key(0xf0)),
        },
        "read": { "proof": proof(1, Method::Read, &[7; 32], &key(0xf1)) },
        "part hash": { "part": hex(b"shared"), "hash": hex(part_hash(b"shared")) },
        "chain": [
            { "sequence": 0, "time": TIME, "entry": hex(open.id().0), "chain": hex(chain0.0) },
            {
                "sequence": 1,
                "time": TIME + 5,
                "entry": hex(message.id().0),
                "chain": hex(chain1.0),
            },
        ],
        "head": {
            "encoding": hex(head.to_bytes()),
            "signed by": hex(**service().seed()),
            "signature": hex(&signed.signature),
        },
        "mailbox": {
            "owner key": hex(owner.public().0),
            "id": hex(MailboxId::of(&owner.public()).0),
            "proof": {
                "encoding": hex(mailbox.to_bytes()),
                "signed by": hex(**owner.seed()),
                "signature": hex(mailbox.sign(&owner)),
            },
        },
    })
}

/// What is sealed under a symmetric key.
fn sealed_parts() -> Value {
    let mut rng = ChaCha20Rng::from_seed([1; 32]);
    let package = seal_package(2, &bytes(0x50), b"an MLSMessage with a KeyPackage");
    assert_eq!(
        open_package(2, &bytes(0x50), &package).unwrap(),
        b"an MLSMessage with a KeyPackage"
    );
    let shared = seal_shared_part(&bytes(0x51), b"a SharedPart", &mut rng);
    let own = seal_own_part(&bytes(0x52), b"an OwnPart", &mut rng);
    assert_eq!(
        open_shared_part(&bytes(0x51), &shared).unwrap().as_slice(),
        b"a SharedPart"
    );
    assert_eq!(
        open_own_part(&bytes(0x52), &own).unwrap().as_slice(),
        b"an OwnPart"
    );
    json!({
        "package": {
            "shelf key": hex(bytes(0x50)),
            "key version": 2,
            "content": hex(b"an MLSMessage with a KeyPackage"),
            "sealed": hex(&package),
            "id": hex(PackageId::of(&package).0),
        },
        "shared part": {
            "key": hex(bytes(0x51)),
            "content": hex(b"a SharedPart"),
            "sealed": hex(&shared),
        },
        "own part": {
            "key": hex(bytes(0x52)),
            "content": hex(b"an OwnPart"),
            "sealed": hex(&own),
        },
    })
}

fn plaintext() -> Value {
    let message = Plaintext {
        id: MessageId([9; 16]),
        media_type: "text/plain;charset=utf-8".into(),
        position: Position {
            sequence: 1,
            chain: ChainHash(bytes(0x60)),
        },
        content: "Hello, Bob".as_bytes().into(),
    };
    json!({
        "id": hex(message.id.0),
        "media type": message.media_type,
        "sequence": 1,
        "chain": hex(message.position.chain.0),
        "content": hex(&message.content),
        "padded": hex(&*message.to_padded()),
    })
}

fn invitation() -> Invitation {
    Invitation {
        version: VERSION,
        log: LOG,
        delivery_url: b"https://localhost:8443".as_slice().into(),
        delivery_key: service().public(),
        delivery_pin: bytes(0x70).into(),
        address: PickupAddress(bytes(0xa0)),
        shared_key: bytes(0x51),
        own_key: bytes(0x52),
        inviter: b"alice@localhost".as_slice().into(),
    }
}

fn answer_door() -> Door {
    DoorKeys::derive(&bytes(0x81)).door().unwrap()
}

fn knock() -> Knock {
    Knock {
        version: VERSION,
        door: DoorKeys::derive(&bytes(0x80)).mailbox(),
        key_package: b"an MLSMessage with a KeyPackage".as_slice().into(),
        only_device: true,
        answer: answer_door(),
    }
}

fn doors() -> Value {
    let keys = DoorKeys::derive(&bytes(0x80));
    let link = Link {
        version: VERSION,
        delivery_url: b"https://localhost:8443".as_slice().into(),
        delivery_key: service().public(),
        delivery_pin: bytes(0x70).into(),
        door: keys.door().unwrap(),
    };
    assert_eq!(link.to_string().parse(), Ok(link.clone()));
    json!({
        "exported": hex(bytes(0x30)),
        "seed of exported": hex(*door::door_seed(suite(), &Secret::from(bytes(0x30).to_vec()))),
        "seed": hex(bytes(0x80)),
        "owner seed": hex(**keys.owner.seed()),
        "private key": hex(&keys.key.private_key()[..]),
        "public key": hex(keys.key.public_key().as_ref()),
        "ticket": hex(*keys.ticket),
        "ticket hash": hex(door::ticket_hash(&keys.ticket)),
        "mailbox": hex(keys.mailbox().0),
        "link": hex(link.to_bytes()),
        "text": link.to_string(),
        "knock": hex(knock().to_bytes()),
    })
}

/// What is sealed by HPKE is another each time: published once, and opened here.
fn envelopes() -> Value {
    let mut rng = ChaCha20Rng::from_seed([2; 32]);
    let key_pair = suite().kem_derive_key_pair(&bytes(0x71));
    let public = sealed::mailbox_public_key(key_pair.public_key()).unwrap();
    let door = DoorKeys::derive(&bytes(0x80)).door().unwrap();
    let sealed = knock().seal(&key(0x90), &door, &mut rng).unwrap();
    json!({
        "invitation": {
            "private key": hex(&key_pair.private_key()[..]),
            "public key": hex(public),
            "key version": 3,
            "content": hex(invitation().to_bytes()),
            "envelope": hex(invitation().seal(3, &public, &mut rng).unwrap()),
        },
        "knock": {
            "door seed": hex(bytes(0x80)),
            "device": hex(key(0x90).public().0),
            "envelope": hex(sealed),
        },
    })
}

fn open_invitation(envelope: &[u8]) -> bool {
    let key_pair = suite().kem_derive_key_pair(&bytes(0x71));
    Invitation::open(3, &key_pair, envelope).is_ok_and(|opened| opened == invitation())
}

fn open_knock(envelope: &[u8]) -> bool {
    let keys = DoorKeys::derive(&bytes(0x80));
    Knock::open(&keys, envelope).is_ok_and(|(opened, signature)| {
        opened == knock() && opened.verify(&key(0x90).public(), &signature).is_ok()
    })
}

fn made() -> Value {
    json!({
        "version": 1,
        "statements": statements(),
        "sealed": sealed_parts(),
        "plaintext": plaintext(),
        "door": doors(),
    })
}

fn published() -> Value {
    serde_json::from_slice(&std::fs::read(file()).unwrap()).unwrap()
}

#[test]
fn what_is_published_is_what_the_code_makes() {
    let mut made = made();
    if std::env::var_os("FOLKMOOT_WRITE_VECTORS").is_some() {
        made["envelopes"] = envelopes();
        let text = serde_json::to_string_pretty(&made).unwrap() + "\n";
        std::fs::write(file(), text).unwrap();
        return;
    }
    let mut published = published();
    let sealed = published["envelopes"].take();
    published.as_object_mut().unwrap().remove("envelopes");
    assert_eq!(published, made, "the published vectors are not the code's");
    assert!(open_invitation(&unhex(&sealed["invitation"]["envelope"])));
    assert!(open_knock(&unhex(&sealed["knock"]["envelope"])));
    // All but the envelopes themselves follows from fixed inputs.
    let mut ours = envelopes();
    for name in ["invitation", "knock"] {
        ours[name]["envelope"] = sealed[name]["envelope"].clone();
    }
    assert_eq!(sealed, ours);
}

#[test]
fn an_envelope_with_any_other_byte_does_not_open() {
    if std::env::var_os("FOLKMOOT_WRITE_VECTORS").is_some() {
        return;
    }
    let published = published();
    for name in ["invitation", "knock"] {
        let opens = match name {
            "knock" => open_knock,
            _ => open_invitation,
        };
        let envelope = unhex(&published["envelopes"][name]["envelope"]);
        // Of the ciphertext one byte in so many: each is under the same tag.
        for at in (0..80).chain((80..envelope.len()).step_by(97)) {
            let mut changed = envelope.clone();
            changed[at] ^= 0x80;
            assert!(!opens(&changed), "{name}, byte {at}");
        }
    }
}
