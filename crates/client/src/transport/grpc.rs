//! Calls over gRPC and TLS 1.3.

use std::collections::HashMap;
use std::error::Error;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use folkmoot_protocol::call::{Answer, Call, Purpose};
use folkmoot_protocol::delivery::{ReadResponse, ReadResponses};
use folkmoot_protocol::well_known::{PATH, WellKnown};
use folkmoot_protocol::{Refusal, limits};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use prost::Message;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use super::{Parts, ServerUrl, ServiceAddress, Transport, TransportError, tls};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const CALL_TIMEOUT: Duration = Duration::from_secs(60);
/// A read is cut off after this many bytes of batches; the next one goes on from there.
const READ_BYTES: usize = 16 << 20;
const WELL_KNOWN_BYTES: usize = 64 << 10;

/// The real transport. Connections are made when first used, one for each service and purpose, so
/// that a service cannot link a mailbox, a log and a look-up by the connection they came on.
#[derive(Default)]
pub struct Grpc {
    channels: Mutex<HashMap<(ServiceAddress, Purpose), Channel>>,
}

impl Grpc {
    /// A transport without any connection yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads what a server publishes about itself.
    ///
    /// # Errors
    /// [`TransportError`]: nobody is there, somebody else is, or it is no such server.
    pub async fn well_known(&self, server: &ServerUrl) -> Result<WellKnown, TransportError> {
        let limit = tokio::time::timeout(CALL_TIMEOUT, fetch(server));
        let body = limit
            .await
            .unwrap_or_else(|_| Err(unreachable(&server.url, "timeout")))?;
        let document: WellKnown =
            serde_json::from_slice(&body).map_err(|_| TransportError::Protocol {
                url: server.url.clone(),
            })?;
        if document.version == 1 {
            Ok(document)
        } else {
            Err(TransportError::Protocol {
                url: server.url.clone(),
            })
        }
    }

    async fn channel(
        &self,
        to: &ServiceAddress,
        purpose: Purpose,
    ) -> Result<Channel, TransportError> {
        let key = (to.clone(), purpose);
        if let Some(channel) = self.lock().get(&key) {
            return Ok(channel.clone());
        }
        let server = ServerUrl {
            pin: to.pin,
            ..to.url.parse()?
        };
        // The scheme stays out of tonic's sight: TLS is ours, in the connector.
        let authority = server.url.trim_start_matches("https://");
        let endpoint = Endpoint::from_shared(format!("http://{authority}"))
            .map_err(|_| TransportError::Address(to.url.clone()))?
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(CALL_TIMEOUT)
            .http2_keep_alive_interval(Duration::from_secs(30));
        let connector = tower::service_fn(move |_| {
            let server = server.clone();
            async move { connect(&server, b"h2").await.map(TokioIo::new) }
        });
        let channel = endpoint
            .connect_with_connector(connector)
            .await
            .map_err(|error| connect_error(&to.url, &error))?;
        self.lock().insert(key, channel.clone());
        Ok(channel)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(ServiceAddress, Purpose), Channel>> {
        // A panic while the lock was held cannot leave the map half changed.
        self.channels
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Grpc {
    /// A client for a call, on its connection.
    async fn client(
        &self,
        to: &ServiceAddress,
        call: &Call,
    ) -> Result<tonic::client::Grpc<Channel>, TransportError> {
        let channel = self.channel(to, call.purpose()).await?;
        let mut client = tonic::client::Grpc::new(channel)
            .max_decoding_message_size(limits::REQUEST)
            .max_encoding_message_size(limits::REQUEST);
        client
            .ready()
            .await
            .map_err(|error| connect_error(&to.url, &error))?;
        Ok(client)
    }
}

impl Transport for Grpc {
    async fn call(&self, to: &ServiceAddress, call: Call) -> Result<Answer, TransportError> {
        let mut client = self.client(to, &call).await?;
        let path = call.path();
        let request = Request::new(call.encode());
        let uri = hyper::http::uri::PathAndQuery::from_static(path);
        let result = match call {
            Call::Read(_) => match client.server_streaming(request, uri, RawCodec).await {
                Ok(response) => gather(response.into_inner()).await,
                Err(status) => Err(status),
            },
            _ => client
                .unary(request, uri, RawCodec)
                .await
                .map(|r| r.into_inner().to_vec()),
        };
        let body = result.map_err(|status| refused(&to.url, &status))?;
        Answer::decode(path, &body).map_err(|_| TransportError::Protocol {
            url: to.url.clone(),
        })
    }

    async fn stream(
        &self,
        to: &ServiceAddress,
        call: Call,
    ) -> Result<Box<dyn Parts>, TransportError> {
        let mut client = self.client(to, &call).await?;
        let uri = hyper::http::uri::PathAndQuery::from_static(call.path());
        let request = Request::new(call.encode());
        let response = client.server_streaming(request, uri, RawCodec).await;
        let stream = response
            .map_err(|status| refused(&to.url, &status))?
            .into_inner();
        let url = to.url.clone();
        Ok(Box::new(Batches { url, stream }))
    }
}

/// A read's batches, each as an answer of its own.
struct Batches {
    url: String,
    stream: tonic::Streaming<Bytes>,
}

impl Parts for Batches {
    fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Answer, TransportError>>> {
        // A message that is not awaited to its end is not lost: the stream keeps it.
        let next = std::pin::pin!(self.stream.message()).poll(context);
        let batch = match ready!(next) {
            Ok(Some(batch)) => ReadResponse::decode(batch).ok(),
            Ok(None) => return Poll::Ready(None),
            Err(status) => return Poll::Ready(Some(Err(refused(&self.url, &status)))),
        };
        let answer = batch.map(|batch| {
            let batches = vec![batch];
            Answer::Read(ReadResponses { batches })
        });
        let url = &self.url;
        Poll::Ready(Some(
            answer.ok_or_else(|| TransportError::Protocol { url: url.clone() }),
        ))
    }
}

/// Gathers a read's batches, up to a bound.
async fn gather(mut stream: tonic::Streaming<Bytes>) -> Result<Vec<u8>, Status> {
    let mut batches = Vec::new();
    let mut bytes = 0;
    while let Some(batch) = stream.message().await? {
        bytes += batch.len();
        let batch = ReadResponse::decode(batch).map_err(|_| Status::internal("malformed batch"))?;
        batches.push(batch);
        if bytes > READ_BYTES {
            break;
        }
    }
    Ok(ReadResponses { batches }.encode_to_vec())
}

async fn fetch(server: &ServerUrl) -> Result<Bytes, TransportError> {
    let url = &server.url;
    let stream = connect(server, b"http/1.1")
        .await
        .map_err(|error| connect_error(url, &error))?;
    let broken = |error: hyper::Error| unreachable(url, &error.to_string());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    let request = hyper::Request::get(PATH)
        .header(hyper::header::HOST, url.trim_start_matches("https://"))
        .body(Empty::<Bytes>::new())
        .map_err(|_| TransportError::Address(url.clone()))?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(broken)?;
        if response.status() != hyper::StatusCode::OK {
            return Err(TransportError::Protocol { url: url.clone() });
        }
        let body = Limited::new(response.into_body(), WELL_KNOWN_BYTES)
            .collect()
            .await;
        body.map(|body| body.to_bytes())
            .map_err(|_| TransportError::Protocol { url: url.clone() })
    };
    // The connection must be driven while the exchange runs; it ends with it.
    tokio::pin!(exchange);
    tokio::select! {
        result = &mut exchange => result,
        ended = connection => match ended {
            Ok(()) => exchange.await,
            Err(error) => Err(broken(error)),
        },
    }
}

async fn connect(server: &ServerUrl, alpn: &[u8]) -> Result<TlsStream<TcpStream>, std::io::Error> {
    let invalid = || std::io::Error::from(std::io::ErrorKind::InvalidInput);
    let uri: hyper::Uri = server.url.parse().map_err(|_| invalid())?;
    let host = uri.host().ok_or_else(invalid)?.trim_matches(['[', ']']);
    let port = uri.port_u16().unwrap_or(443);
    let name = ServerName::try_from(host.to_owned()).map_err(|_| invalid())?;
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    let config = Arc::new(tls::client_config(server.pin, alpn));
    TlsConnector::from(config).connect(name, stream).await
}

/// Finds out whose fault a failed connection is.
fn connect_error(url: &str, error: &(dyn Error + 'static)) -> TransportError {
    let mut cause = Some(error);
    let mut reason = error.to_string();
    while let Some(error) = cause {
        reason = error.to_string();
        // An io::Error hands out what it wraps by get_ref, not by source.
        let wrapped = error
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref);
        let tls = wrapped
            .and_then(|inner| inner.downcast_ref::<rustls::Error>())
            .or_else(|| error.downcast_ref::<rustls::Error>());
        if let Some(rustls::Error::InvalidCertificate(_)) = tls {
            return TransportError::WrongCertificate {
                url: url.to_owned(),
            };
        }
        cause = error.source();
    }
    unreachable(url, &reason)
}

fn unreachable(url: &str, reason: &str) -> TransportError {
    TransportError::Unreachable {
        url: url.to_owned(),
        reason: reason.to_owned(),
    }
}

fn refused(url: &str, status: &Status) -> TransportError {
    if let Some(refusal) = Refusal::from_bytes(status.details()) {
        return TransportError::Refused(refusal);
    }
    match status.code() {
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown => {
            connect_error(url, status)
        }
        Code::ResourceExhausted => TransportError::Refused(Refusal::Busy(1000)),
        _ => TransportError::Protocol {
            url: url.to_owned(),
        },
    }
}

/// Hands protobuf bytes through: [`Call`] and [`Answer`] encode and decode themselves.
#[derive(Clone, Copy, Default)]
struct RawCodec;

impl Codec for RawCodec {
    type Encode = Vec<u8>;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for RawCodec {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        bytes::BufMut::put_slice(out, &item);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, input: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        use bytes::Buf;
        Ok(Some(input.copy_to_bytes(input.remaining())))
    }
}
