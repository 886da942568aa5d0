//! The services: what they answer, hear, keep and say about people.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use folkmoot_authentication_service::{AuthenticationService, KeySchedule};
use folkmoot_client::transport::ServiceAddress;
use folkmoot_delivery_service::TrustedIssuer;
use folkmoot_protocol::Refusal;
use folkmoot_protocol::authentication::LookUpRequest;
use folkmoot_protocol::call::{Answer, Call, Purpose};
use folkmoot_protocol::delivery::ReadResponses;
use folkmoot_protocol::delivery::read_response::End;
use folkmoot_protocol::directory::DirectoryEntry;
use folkmoot_protocol::keys::PublicKey;
use folkmoot_protocol::rate::Rate;
use folkmoot_protocol::token::IssuerSecret;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use crate::{DOMAIN, Sim};

impl Sim {
    /// A service's answer; all that passes is bytes.
    ///
    /// # Errors
    /// The service's refusal.
    ///
    /// # Panics
    /// If the call is for another service than the one at its address.
    pub fn serve(&mut self, to: &ServiceAddress, call: &Call) -> Result<Answer, Refusal> {
        let (path, purpose) = (call.path(), call.purpose());
        let call = Call::decode(path, &call.encode()).expect("a call is readable");
        let (now, rng) = (self.now, &mut self.rng);
        let (key, answer) = match purpose {
            Purpose::Account | Purpose::Directory => (
                self.authentication.public_key(),
                self.authentication.answer(call, now, rng),
            ),
            _ => {
                self.heard
                    .iter_mut()
                    .for_each(|heard| heard.push(call.clone()));
                (
                    self.delivery.public_key(),
                    self.delivery.answer(call, now, rng),
                )
            }
        };
        assert_eq!(key, to.key, "{path} goes to the wrong service");
        match answer {
            Ok(mut answer) => {
                if self.short_reads {
                    cut_off(&mut answer);
                }
                Ok(Answer::decode(path, &answer.encode()).expect("an answer is readable"))
            }
            Err(refusal) => {
                Err(Refusal::from_bytes(&refusal.to_bytes()).expect("a refusal is readable"))
            }
        }
    }

    /// The Delivery Service, for what no client would ask.
    ///
    /// # Errors
    /// The service's refusal.
    pub fn ask_delivery(&mut self, call: Call) -> Result<Answer, Refusal> {
        self.delivery.answer(call, self.now, &mut self.rng)
    }

    /// Lets the Delivery Service delete all that is over.
    ///
    /// # Panics
    /// If its store is down.
    pub fn sweep(&mut self) {
        while self.delivery.sweep(self.now).expect("the store runs") > 0 {}
    }

    /// From now on the Authentication Service issues tokens, and the Delivery Service asks for them.
    /// All worlds share the issuer keys, since making one takes time.
    ///
    /// # Panics
    /// If a key cannot be made.
    pub fn issue_tokens(&mut self) {
        static KEYS: [OnceLock<IssuerSecret>; 2] = [const { OnceLock::new() }; 2];
        let made = AtomicUsize::new(0);
        let make = move |_: &mut dyn rand_core::CryptoRng| {
            let number = made.fetch_add(1, Ordering::Relaxed) % KEYS.len();
            let key = KEYS[number].get_or_init(|| {
                let mut rng = ChaCha20Rng::seed_from_u64(number as u64);
                IssuerSecret::generate(&mut rng).expect("a key")
            });
            Ok(key.clone())
        };
        let service = AuthenticationService::new(
            self.authentication_store.clone(),
            self.authentication_secret.clone(),
            DOMAIN.parse().expect("a valid domain"),
        );
        self.authentication = service.with_keys(KeySchedule::default(), Box::new(make));
        self.trust_issuers();
    }

    /// Tells the Delivery Service which issuer keys there are at this time.
    ///
    /// # Panics
    /// If the Authentication Service has none that can be used.
    pub fn trust_issuers(&mut self) {
        let list = self.authentication.issuers(self.now, &mut self.rng);
        let issuer = TrustedIssuer {
            name: DOMAIN.into(),
            keys: list.expect("keys").keys,
            rate: Rate::default(),
        };
        self.delivery
            .trust(&[issuer])
            .expect("keys that can be used");
    }

    /// Keeps what the Delivery Service hears from now on.
    pub fn listen(&mut self) {
        self.heard = Some(Vec::new());
    }

    /// What the Delivery Service heard since [`Sim::listen`].
    #[must_use]
    pub fn heard(&self) -> &[Call] {
        self.heard.as_deref().unwrap_or_default()
    }

    /// All that the Delivery Service keeps, keys and values.
    #[must_use]
    pub fn kept(&self) -> Vec<u8> {
        self.disk.to_bytes()
    }

    /// What the directory says about somebody.
    ///
    /// # Panics
    /// If it says nothing, or nothing true.
    pub fn look_up(&mut self, name: &str) -> DirectoryEntry {
        let request = LookUpRequest {
            name: name.to_owned(),
            ..LookUpRequest::default()
        };
        let (now, rng) = (self.now, &mut self.rng);
        let Ok(Answer::LookUp(answer)) =
            self.authentication.answer(Call::LookUp(request), now, rng)
        else {
            panic!("{name} is unknown");
        };
        let user = format!("{name}@{DOMAIN}").parse().expect("a valid name");
        let key = self.authentication.public_key();
        DirectoryEntry::read(&answer, &user, &key, now / 1000).expect("a true answer")
    }

    /// The Delivery Service's key.
    #[must_use]
    pub fn delivery_key(&self) -> PublicKey {
        self.delivery.public_key()
    }

    /// The Authentication Service's key.
    #[must_use]
    pub fn authentication_key(&self) -> PublicKey {
        self.authentication.public_key()
    }
}

/// Leaves a read with its first entry only, as if it had been cut off behind it.
pub(crate) fn cut_off(answer: &mut Answer) {
    let Answer::Read(ReadResponses { batches }) = answer else {
        return;
    };
    let longer = batches.len() > 1 || batches.iter().any(|batch| batch.entries.len() > 1);
    if let (true, Some(first)) = (longer, batches.first_mut()) {
        first.entries.truncate(1);
        first.head = None;
        first.set_end(End::Unspecified);
        batches.truncate(1);
    }
}
