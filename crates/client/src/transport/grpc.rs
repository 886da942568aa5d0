//! Calls over gRPC and TLS 1.3.

use std::collections::HashMap;
use std::error::Error;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use folkmoot_protocol::call::{Answer, Call, Purpose, decode_batch, decode_part};
use folkmoot_protocol::delivery::{BlobPart, BlobParts, Entry, ReadResponse, ReadResponses};
use folkmoot_protocol::well_known::{PATH, WellKnown};
use folkmoot_protocol::{Refusal, limits};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
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
/// A read is cut off after batches that take this many bytes; the next one goes on from there.
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
            .max_decoding_message_size(limits::ANSWER)
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
            Call::GetBlob(_) => match client.server_streaming(request, uri, RawCodec).await {
                Ok(response) => gather_blob(response.into_inner()).await,
                Err(status) => Err(status),
            },
            // The endpoint's timeout ends with the headers: the answer itself has to come too.
            _ => within(CALL_TIMEOUT, client.unary(request, uri, RawCodec))
                .await
                .and_then(|answer| {
                    Answer::decode(path, &answer.into_inner()).map_err(|_| malformed())
                }),
        };
        result.map_err(|status| refused(&to.url, &status))
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
            Ok(Some(batch)) => decode_batch(&batch).ok(),
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

/// Waits so long for one thing from a service.
async fn within<T>(
    limit: Duration,
    what: impl Future<Output = Result<T, Status>>,
) -> Result<T, Status> {
    tokio::time::timeout(limit, what)
        .await
        .unwrap_or_else(|_| Err(Status::deadline_exceeded("timeout")))
}

fn malformed() -> Status {
    Status::internal("malformed answer")
}

/// A read's batches, up to a bound on the memory that they take.
#[derive(Default)]
struct Gathered {
    batches: Vec<ReadResponse>,
    taken: usize,
}

impl Gathered {
    /// Keeps a batch. Returns whether there is room for another one.
    fn push(&mut self, bytes: &[u8]) -> Result<bool, Status> {
        let batch = decode_batch(bytes).map_err(|_| malformed())?;
        // A batch of nothing takes memory too.
        let entries = batch.entries.len() * size_of::<Entry>();
        self.taken += bytes.len() + size_of::<ReadResponse>() + entries;
        self.batches.push(batch);
        Ok(self.taken <= READ_BYTES)
    }
}

/// Gathers a read's batches. Each has to come in time.
async fn gather(mut stream: tonic::Streaming<Bytes>) -> Result<Answer, Status> {
    let mut gathered = Gathered::default();
    while let Some(bytes) = within(CALL_TIMEOUT, stream.message()).await? {
        if !gathered.push(&bytes)? {
            break;
        }
    }
    let batches = gathered.batches;
    Ok(Answer::Read(ReadResponses { batches }))
}

/// Gathers a download's parts, up to the same bound: whoever wants more asks for it.
async fn gather_blob(mut stream: tonic::Streaming<Bytes>) -> Result<Answer, Status> {
    let (mut parts, mut taken) = (Vec::new(), 0);
    while let Some(bytes) = within(CALL_TIMEOUT, stream.message()).await? {
        taken += bytes.len() + size_of::<BlobPart>();
        parts.push(decode_part(&bytes).map_err(|_| malformed())?);
        if taken > READ_BYTES {
            break;
        }
    }
    Ok(Answer::GetBlob(BlobParts { parts }))
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

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[test]
    fn a_read_of_nothing_without_end_is_cut_off() {
        let mut gathered = Gathered::default();
        let most = READ_BYTES / size_of::<ReadResponse>() + 1;
        let full = (0..=most).find(|_| !gathered.push(&[]).unwrap());
        assert!(full.is_some());
        // An empty entry takes two bytes on the wire.
        let many = [0x12, 0].repeat(limits::FIELDS + 1);
        assert!(Gathered::default().push(&many).is_err());
    }

    #[tokio::test]
    async fn an_answer_that_never_comes_is_not_waited_for() {
        let waited = within(Duration::ZERO, std::future::pending::<Result<(), _>>()).await;
        let error = refused("https://h", &waited.unwrap_err());
        assert!(matches!(error, TransportError::Unreachable { .. }));
    }

    #[tokio::test]
    async fn what_speaks_no_tls_is_told() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut hello = [0; 16];
            stream.read_exact(&mut hello).await.unwrap();
            stream.write_all(b"HTTP/1.1 400 Bad\r\n\r\n").await.unwrap();
        });
        let error = Grpc::new().well_known(&url.parse().unwrap()).await;
        assert!(matches!(error, Err(TransportError::Unreachable { .. })));
    }
}
