//! A record of what a service receives, after TLS and HTTP/2, for tests that look in it for what the
//! service must not learn. Only with the feature `tap`, which nothing that ships turns on.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use hyper::body::{Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{Bytes, Service, http::Request};
use tonic::server::NamedService;

/// The environment variable that names the folder for records. Without it nothing is recorded.
pub const FOLDER: &str = "FOLKMOOT_TAP";

/// One service's record: the file `NAME.PROCESS` in the folder. For each request it has the method,
/// the path, the connection (by its other end) and the headers in lines, then the body, each after its
/// length in four bytes.
#[derive(Clone, Debug)]
pub struct Tap(Option<Arc<Mutex<File>>>);

impl Tap {
    /// The record of the service of this name.
    ///
    /// # Panics
    /// If the folder is named and the file cannot be opened: the test would find nothing.
    #[must_use]
    pub fn of(name: &str) -> Self {
        Self(std::env::var_os(FOLDER).map(|folder| {
            let file = Path::new(&folder).join(format!("{name}.{}", std::process::id()));
            let file = OpenOptions::new().create(true).append(true).open(file);
            Arc::new(Mutex::new(file.expect("the record can be written")))
        }))
    }

    /// The server, with all that it receives recorded.
    pub fn on<S>(&self, server: S) -> Tapped<S> {
        let tap = self.clone();
        Tapped { server, tap }
    }

    fn write(&self, head: &[u8], body: &[u8]) {
        let Some(file) = &self.0 else { return };
        let mut record = Vec::with_capacity(8 + head.len() + body.len());
        for part in [head, body] {
            let length = u32::try_from(part.len()).expect("requests are bounded");
            record.extend_from_slice(&length.to_be_bytes());
            record.extend_from_slice(part);
        }
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(&record).expect("the record can be written");
    }
}

/// A server whose requests are recorded.
#[derive(Clone, Debug)]
pub struct Tapped<S> {
    server: S,
    tap: Tap,
}

impl<S: NamedService> NamedService for Tapped<S> {
    const NAME: &'static str = S::NAME;
}

impl<S: Service<Request<Body>>> Service<Request<Body>> for Tapped<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.server.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> S::Future {
        let connection = request.extensions().get::<SocketAddr>();
        let connection = connection.map_or("-".to_owned(), SocketAddr::to_string);
        let line = format!("{} {} {connection}\n", request.method(), request.uri());
        let mut head = line.into_bytes();
        for (name, value) in request.headers() {
            let line = [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\n"];
            head.extend_from_slice(&line.concat());
        }
        let tap = self.tap.clone();
        self.server.call(request.map(|body| {
            Body::new(Recorded {
                body,
                tap,
                head,
                received: Vec::new(),
            })
        }))
    }
}

/// A request's body; what came of it is written when nobody waits for more.
struct Recorded {
    body: Body,
    tap: Tap,
    head: Vec<u8>,
    received: Vec<u8>,
}

impl hyper::body::Body for Recorded {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            if let Some(data) = frame.data_ref() {
                self.received.extend_from_slice(data);
            }
            if let Some(trailers) = frame.trailers_ref() {
                self.received
                    .extend_from_slice(format!("{trailers:?}").as_bytes());
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        self.tap.write(&self.head, &self.received);
    }
}
