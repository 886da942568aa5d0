//! The services' wire itself, without the client: connections as their peers may make them, and logs
//! written by whoever holds their fence key.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use folkmoot_client::transport::{Grpc, ServerUrl};
use folkmoot_mls::codec::{Encode, encode_bytes};
use folkmoot_protocol::delivery::logs_client::LogsClient;
use folkmoot_protocol::delivery::{
    AppendRequest, LogRead, NonceRequest, OpenRequest, ReadRequest, ReadResponse,
};
use folkmoot_protocol::ids::{EntryId, LogId};
use folkmoot_protocol::keys::{PublicKey, SigningKey};
use folkmoot_protocol::limits;
use folkmoot_protocol::log::{Append, Head, Open, SignedHead};
use folkmoot_protocol::proof::{FenceProof, Method};
use folkmoot_protocol::{Refusal, VERSION};
use hyper_util::rt::TokioIo;
use rand_core::Rng;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};

use super::Server;

/// Runs what waits for sockets; not for ever.
pub fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let longest = Duration::from_secs(super::scale(300, 3600) as u64);
    let in_time = async { tokio::time::timeout(longest, future).await };
    runtime.unwrap().block_on(in_time).expect("an end in time")
}

/// The Delivery Service's key, as the server publishes it.
pub async fn delivery_key(server: &Server) -> PublicKey {
    let url: ServerUrl = server.url.parse().unwrap();
    let document = Grpc::new().well_known(&url).await.unwrap();
    document.delivery.unwrap().key
}

/// Another address of loopback than [`HONEST`]: a server that is told to bound loopback takes them for two.
pub const VANDAL: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// The usual address of loopback.
pub const HONEST: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// A connection without TLS from an address.
pub async fn tcp(from: Ipv4Addr, listen: &str) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((from, 0)))?;
    let stream = socket.connect(listen.parse().unwrap()).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A connection that speaks what `protocol` names, `h2` or `http/1.1`.
pub async fn tls(
    from: Ipv4Addr,
    listen: &str,
    protocol: &str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    let stream = tcp(from, listen).await?;
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
}

/// A connection for gRPC. With a window the peer is told to have no more than that under way.
pub async fn channel(from: Ipv4Addr, listen: &str, window: Option<u32>) -> Channel {
    try_channel(from, listen, window).await.unwrap()
}

/// The same, which the server may not let in.
pub async fn try_channel(
    from: Ipv4Addr,
    listen: &str,
    window: Option<u32>,
) -> Result<Channel, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(format!("http://{listen}"))
        .unwrap()
        .initial_stream_window_size(window)
        .initial_connection_window_size(window);
    let listen = listen.to_owned();
    let connector = tower::service_fn(move |_| {
        let listen = listen.clone();
        async move { tls(from, &listen, "h2").await.map(TokioIo::new) }
    });
    endpoint.connect_with_connector(connector).await
}

/// A client of logs on a connection of its own.
pub async fn logs(listen: &str, window: Option<u32>) -> LogsClient<Channel> {
    logs_on(channel(HONEST, listen, window).await)
}

/// A client of logs on a connection.
pub fn logs_on(channel: Channel) -> LogsClient<Channel> {
    LogsClient::new(channel)
        .max_decoding_message_size(limits::ANSWER)
        .max_encoding_message_size(limits::ANSWER)
}

/// What a status says.
pub fn refusal(status: &Status) -> Refusal {
    Refusal::from_bytes(status.details()).unwrap_or_else(|| panic!("no refusal: {status:?}"))
}

/// A log, and the key of its first epoch.
#[derive(Clone)]
pub struct Log {
    service: PublicKey,
    fence: SigningKey,
    pub id: LogId,
    branch: EntryId,
    written: u64,
}

impl Log {
    /// Opens a fresh log.
    pub async fn open(logs: &mut LogsClient<Channel>, service: PublicKey) -> Result<Self, Status> {
        let mut rng = rand::rng();
        let fence = SigningKey::generate(&mut rng);
        let mut id = LogId([0; 32]);
        rng.fill_bytes(&mut id.0);
        let open = Open {
            version: VERSION,
            log: id,
            fence_key: fence.public(),
        };
        let log = Self {
            service,
            fence,
            id,
            branch: open.id(),
            written: 0,
        };
        let request = OpenRequest {
            open: open.to_bytes(),
            fence_signature: log.proof(Method::Open, &open.id().0).to_vec(),
            payment: None,
        };
        logs.open(request).await?;
        Ok(log)
    }

    /// An append of a message of so many bytes, different from all before it.
    pub fn message(&mut self, size: usize) -> AppendRequest {
        let message = self.mls_message(size);
        self.append_of(message)
    }

    /// What the service takes for a message of MLS, different from all before it.
    pub fn mls_message(&mut self, size: usize) -> Vec<u8> {
        self.written += 1;
        let mut message = vec![0, 1, 0, 2];
        encode_bytes(&self.id.0, &mut message);
        0u64.encode(&mut message);
        message.push(1);
        encode_bytes(&[], &mut message);
        encode_bytes(&self.written.to_be_bytes(), &mut message);
        encode_bytes(&vec![7; size], &mut message);
        message
    }

    /// An append of these bytes.
    pub fn append_of(&self, message: Vec<u8>) -> AppendRequest {
        let append = Append {
            version: VERSION,
            log: self.id,
            branch: self.branch,
            parent: self.branch,
            epoch: 0,
            content_type: 1,
            commit: None,
            message: message.into(),
        };
        AppendRequest {
            append: append.to_bytes(),
            fence_signature: self.proof(Method::Append, &append.id().0).to_vec(),
            ..AppendRequest::default()
        }
    }

    /// Appends a message and returns the head after it.
    pub async fn append(
        &mut self,
        logs: &mut LogsClient<Channel>,
        size: usize,
    ) -> Result<Head, Status> {
        let receipt = logs.append(self.message(size)).await?.into_inner();
        Ok(SignedHead::read(&receipt, &self.service).unwrap().head)
    }

    pub fn read(&self, after: u64, nonce: &[u8]) -> LogRead {
        LogRead {
            log: self.id.into(),
            branch: self.branch.into(),
            epoch: 0,
            nonce: nonce.to_vec(),
            proof: self.proof(Method::Read, nonce).to_vec(),
            after,
        }
    }

    /// The last head that a batch shows.
    pub fn head(&self, batch: &ReadResponse) -> Head {
        let receipt = batch.head.as_ref().expect("a head");
        SignedHead::read(receipt, &self.service).unwrap().head
    }

    fn proof(&self, method: Method, subject: &[u8]) -> [u8; 64] {
        FenceProof {
            version: VERSION,
            delivery_service: self.service,
            log: self.id,
            branch: self.branch,
            epoch: 0,
            method,
            subject: subject.into(),
        }
        .sign(&self.fence)
    }
}

/// Appends so many messages of so many bytes, `at_once` of them under way.
pub async fn fill(log: &mut Log, logs: &LogsClient<Channel>, count: u64, size: usize) {
    const AT_ONCE: usize = 32;
    let mut under_way = tokio::task::JoinSet::new();
    for _ in 0..count {
        if under_way.len() == AT_ONCE {
            under_way.join_next().await.unwrap().unwrap();
        }
        let (request, mut logs) = (log.message(size), logs.clone());
        under_way.spawn(async move {
            logs.append(request).await.unwrap();
        });
    }
    while let Some(done) = under_way.join_next().await {
        done.unwrap();
    }
}

/// Begins to read logs, each from a cursor.
pub async fn read(
    logs: &mut LogsClient<Channel>,
    what: &[(&Log, u64)],
    follow: bool,
) -> Streaming<ReadResponse> {
    let nonce = logs.nonce(NonceRequest {}).await.unwrap();
    let nonce = nonce.into_inner().nonce;
    let one = |(log, after): &(&Log, u64)| log.read(*after, &nonce);
    let logs_read = what.iter().map(one).collect();
    let request = ReadRequest {
        logs: logs_read,
        follow,
    };
    logs.read(request).await.unwrap().into_inner()
}

/// The next batch, which must come soon.
pub async fn batch(stream: &mut Streaming<ReadResponse>) -> ReadResponse {
    let soon = tokio::time::timeout(Duration::from_secs(20), stream.message());
    soon.await
        .expect("a batch in time")
        .unwrap()
        .expect("no end")
}

/// Takes any certificate: the server is one that the test has started.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let provider = aws_lc_rs::default_provider();
        provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
