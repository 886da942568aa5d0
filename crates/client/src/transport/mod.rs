//! How the client's words reach the services.
//!
//! The logic knows only [`Call`]s, [`Answer`]s and [`ServiceAddress`]es. [`Grpc`] carries them over
//! gRPC and TLS 1.3, one connection for each purpose; a test carries them any way it likes.

#[cfg(feature = "transport")]
mod grpc;
#[cfg(feature = "transport")]
mod tls;

use std::future::Future;
use std::task::{Context, Poll};

use folkmoot_protocol::Refusal;
use folkmoot_protocol::call::{Answer, Call};
use folkmoot_protocol::keys::PublicKey;

#[cfg(feature = "transport")]
pub use grpc::Grpc;

/// Where a service is and how it is known.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServiceAddress {
    /// `https://host:port`.
    pub url: String,
    /// The key that the service signs its statements with.
    pub key: PublicKey,
    /// SHA-256 of the TLS certificate's public key (SubjectPublicKeyInfo); `None` where the web's
    /// roots vouch for the certificate.
    pub pin: Option<[u8; 32]>,
}

/// Carries calls to services.
pub trait Transport: Send + Sync {
    /// Asks once and waits for the answer.
    fn call(
        &self,
        to: &ServiceAddress,
        call: Call,
    ) -> impl Future<Output = Result<Answer, TransportError>> + Send;

    /// Asks for an answer that comes in parts, as they come about. A transport that carries none
    /// says so, as this one does.
    fn stream(
        &self,
        to: &ServiceAddress,
        _call: Call,
    ) -> impl Future<Output = Result<Box<dyn Parts>, TransportError>> + Send {
        let (url, reason) = (to.url.clone(), "no streams here".to_owned());
        std::future::ready(Err(TransportError::Unreachable { url, reason }))
    }
}

/// Shared by several clients of one process.
impl<T: Transport> Transport for std::sync::Arc<T> {
    async fn call(&self, to: &ServiceAddress, call: Call) -> Result<Answer, TransportError> {
        T::call(self, to, call).await
    }

    async fn stream(
        &self,
        to: &ServiceAddress,
        call: Call,
    ) -> Result<Box<dyn Parts>, TransportError> {
        T::stream(self, to, call).await
    }
}

/// The parts of an answer. Whoever drops this gives the call up.
pub trait Parts: Send {
    /// The next part; `None` after the last one.
    fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Answer, TransportError>>>;
}

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// The service said no, and why.
    #[error("{0}")]
    Refused(Refusal),
    /// Nobody answers there: the network or the operator is to blame. Worth trying again.
    #[error("cannot reach {url} ({reason}); is the server running, and the address right?")]
    Unreachable {
        /// Where.
        url: String,
        /// What the system said.
        reason: String,
    },
    /// Somebody answers who is not who should: do not go on.
    #[error(
        "the server at {url} does not hold the certificate that this address names; \
         ask its operator for the current address"
    )]
    WrongCertificate {
        /// Where.
        url: String,
    },
    /// What came back is no answer of this protocol: the service is to blame.
    #[error("the server at {url} does not speak this protocol")]
    Protocol {
        /// Where.
        url: String,
    },
    /// The address is not of the form `https://host:port` with an optional `#` and pin.
    #[error("'{0}' is not a server's address: write https://HOST:PORT, with #PIN where it has one")]
    Address(String),
}

/// An address as `serve` prints it and `register` takes it: `https://host:port#pin`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerUrl {
    /// `https://host:port`.
    pub url: String,
    /// SHA-256 of the certificate's public key.
    pub pin: Option<[u8; 32]>,
}

impl std::str::FromStr for ServerUrl {
    type Err = TransportError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let malformed = || TransportError::Address(text.to_owned());
        let (url, pin) = match text.split_once('#') {
            Some((url, pin)) => (url, Some(parse_pin(pin).ok_or_else(malformed)?)),
            None => (text, None),
        };
        let url = url.trim_end_matches('/');
        let authority = url.strip_prefix("https://").ok_or_else(malformed)?;
        let plain = !authority.is_empty()
            && authority
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte));
        if plain {
            Ok(Self {
                url: url.to_owned(),
                pin,
            })
        } else {
            Err(malformed())
        }
    }
}

impl std::fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.url)?;
        if let Some(pin) = &self.pin {
            f.write_str("#")?;
            pin.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        }
        Ok(())
    }
}

fn parse_pin(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    let mut pin = [0; 32];
    for (byte, digits) in pin.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let digit = |at: usize| char::from(digits[at]).to_digit(16);
        *byte = (digit(0)? * 16 + digit(1)?) as u8;
    }
    Some(pin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_it_is_printed() {
        let pin = "ab".repeat(32);
        for text in [
            format!("https://localhost:8443#{pin}"),
            "https://folkmoot.example".into(),
        ] {
            assert_eq!(text.parse::<ServerUrl>().unwrap().to_string(), text);
        }
        for text in [
            "localhost:1",
            "http://localhost:1",
            "https://",
            "https://h:1#12",
            "https://h/x",
        ] {
            assert!(
                matches!(text.parse::<ServerUrl>(), Err(TransportError::Address(_))),
                "{text}"
            );
        }
    }
}
