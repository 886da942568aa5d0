//! People who register.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use folkmoot_authentication_service::AuthenticationService;
use folkmoot_authentication_service::store::Store;
use folkmoot_credential::keys::SigningKey;
use folkmoot_credential::{
    CERTIFICATE_SECONDS, DeliveryAddress, DeviceCertificate, DeviceRecord, MailboxKey,
    Registration, ShelfKey, UserId, Validity, Version,
};
use folkmoot_protocol::Refusal;
use folkmoot_protocol::authentication::{LookUpRequest, LookUpResponse, RegisterRequest};
use folkmoot_protocol::call::{Answer, Call};
use folkmoot_protocol::directory::register_request;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;

/// Seconds since 1970.
pub const NOW: u64 = 1_800_000_000;

/// Ends the tests if it is not dropped within a minute: nobody can tell a thread to stop that waits for
/// another, and what waits for ever fails nothing.
pub struct Deadline {
    _in_time: Sender<()>,
}

impl Deadline {
    /// The minute begins.
    pub fn start() -> Self {
        let (in_time, wait) = channel();
        let test = std::thread::current().name().unwrap_or("").to_owned();
        std::thread::spawn(move || {
            if wait.recv_timeout(Duration::from_secs(60)) == Err(RecvTimeoutError::Timeout) {
                eprintln!("{test} waits and waits");
                std::process::exit(101);
            }
        });
        Self { _in_time: in_time }
    }
}

pub fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed([seed; 32].into())
}

/// The AS of example.org, whose key is number 1.
pub fn service<S: Store>(store: S) -> AuthenticationService<S> {
    let domain = "example.org".parse().unwrap();
    AuthenticationService::new(store, key(1), domain).on_failure(|error| panic!("{error}"))
}

/// Asks as a client would: through the bytes of the call, at a time in seconds.
pub fn ask<S: Store>(
    service: &AuthenticationService<S>,
    call: &Call,
    now: u64,
) -> Result<Answer, Refusal> {
    let call = Call::decode(call.path(), &call.encode()).unwrap();
    let mut rng = ChaCha20Rng::seed_from_u64(now);
    service.answer(call, now * 1000, &mut rng)
}

pub fn register<S: Store>(
    service: &AuthenticationService<S>,
    request: RegisterRequest,
    now: u64,
) -> Result<Vec<u8>, Refusal> {
    match ask(service, &Call::Register(request), now)? {
        Answer::Register(response) => Ok(response.binding),
        other => panic!("{other:?}"),
    }
}

pub fn look_up<S: Store>(
    service: &AuthenticationService<S>,
    name: &str,
) -> Result<LookUpResponse, Refusal> {
    let request = LookUpRequest {
        name: name.into(),
        ..LookUpRequest::default()
    };
    match ask(service, &Call::LookUp(request), NOW)? {
        Answer::LookUp(response) => Ok(response),
        other => panic!("{other:?}"),
    }
}

/// A user with one device.
#[derive(Clone)]
pub struct Person {
    pub user: UserId,
    pub identity: SigningKey,
    pub device: SigningKey,
    pub issued: u64,
    pub mailbox: [u8; 32],
}

impl Person {
    pub fn new(user: &str, seed: u8) -> Self {
        Self {
            user: user.parse().unwrap(),
            identity: key(seed),
            device: key(seed + 1),
            issued: NOW,
            mailbox: [seed; 32],
        }
    }

    pub fn registration(&self) -> Registration {
        let certificate = DeviceCertificate::issue(
            self.user.clone(),
            self.device.public(),
            Validity::starting(self.issued, CERTIFICATE_SECONDS),
            &self.identity,
        );
        let device = DeviceRecord {
            version: Version,
            user: self.user.clone(),
            certificate,
            issued: self.issued,
            delivery: DeliveryAddress {
                url: b"https://localhost:8443".to_vec().into(),
                key: key(2).public(),
                pin: [3; 32].into(),
            },
            mailbox: self.mailbox,
            mailbox_key: MailboxKey {
                version: 1,
                key: [5; 32],
            },
            shelf_key: ShelfKey {
                version: 1,
                key: [6; 32],
            },
        };
        Registration {
            version: Version,
            domain: self.user.domain.clone(),
            authentication_service: key(1).public(),
            name: self.user.name.clone(),
            identity_key: self.identity.public(),
            device_signature: device.sign(&self.device),
            device,
        }
    }

    pub fn request(&self) -> RegisterRequest {
        register_request(&self.registration(), &self.identity, &self.device)
    }
}
