//! Connections: accepted, shaken hands with, served, and let go.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tonic::Status;
use tower::ServiceExt;

use super::limits::{self, Addresses, Counted};

/// After accepting has failed, mostly for want of file descriptors.
const BREATH: Duration = Duration::from_millis(50);

/// Serves `router` until `stop` ends; then gives requests under way a little time.
pub(super) async fn serve(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    router: Router,
    stop: impl Future<Output = ()>,
) {
    let acceptor = TlsAcceptor::from(tls);
    let places = Arc::new(Semaphore::new(limits::CONNECTIONS));
    let addresses = Arc::new(Addresses::default());
    let graceful = GracefulShutdown::new();
    tokio::pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &places) => accepted,
            () = &mut stop => break,
        };
        let Ok((stream, peer, place)) = accepted else {
            sleep(BREATH).await;
            continue;
        };
        if let Some(counted) = addresses.count(peer.ip()) {
            let visit = Visit {
                peer,
                _counted: counted,
                _place: place,
            };
            let (acceptor, router) = (acceptor.clone(), router.clone());
            tokio::spawn(attend(stream, acceptor, router, visit, graceful.watcher()));
        }
    }
    drop(listener);
    // Whoever is not done by then is cut off: what was acknowledged is durable.
    let _ = timeout(limits::GRACE, graceful.shutdown()).await;
}

/// Waits for a place, then for a connection.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let place = places
        .clone()
        .acquire_owned()
        .await
        .map_err(io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, peer, place))
}

/// A connection's place among all, and among its address's.
struct Visit {
    peer: SocketAddr,
    _counted: Counted,
    _place: OwnedSemaphorePermit,
}

/// One connection, from handshake to end. What goes wrong here is the peer's affair.
async fn attend(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    router: Router,
    visit: Visit,
    watcher: Watcher,
) {
    let Ok(Ok(stream)) = timeout(limits::HANDSHAKE, acceptor.accept(stream)).await else {
        return;
    };
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let stream = TokioIo::new(stream);
    let service = service_fn(move |request| answer(request, router.clone(), visit.peer));
    // An error ends the connection, and that is all there is to do about it.
    if is_http2 {
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(limits::KEEP_ALIVE)
            .keep_alive_timeout(limits::KEEP_ALIVE)
            .max_concurrent_streams(limits::STREAMS)
            .max_header_list_size(limits::HEADER_BYTES)
            .initial_stream_window_size(limits::STREAM_WINDOW)
            .initial_connection_window_size(limits::CONNECTION_WINDOW)
            .serve_connection(stream, service);
        let _ = watcher.watch(connection).await;
    } else {
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits::HEADER)
            .keep_alive(false)
            .max_buf_size(limits::HEADER_BYTES as usize)
            .serve_connection(stream, service);
        let _ = watcher.watch(connection).await;
    }
}

/// One request. The services count some calls by the address that they come from.
async fn answer(
    mut request: Request<Incoming>,
    router: Router,
    peer: SocketAddr,
) -> Result<Response<Body>, Infallible> {
    request.extensions_mut().insert(peer);
    match timeout(limits::REQUEST, router.oneshot(request)).await {
        Ok(response) => response,
        Err(_) => Ok(Status::deadline_exceeded("the request took too long").into_http()),
    }
}
