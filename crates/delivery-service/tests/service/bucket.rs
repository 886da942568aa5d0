//! A server of S3 in the process of the test, on a thread of its own.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;

use hyper_util::rt::{TokioExecutor, TokioIo};

/// A bucket whose objects are files in a folder.
pub struct Bucket {
    folder: tempfile::TempDir,
    address: SocketAddr,
}

impl Bucket {
    pub const NAME: &str = "attachments";
    pub const KEY: &str = "an-access-key";
    pub const SECRET: &str = "a-secret-key";

    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join(Self::NAME)).unwrap();
        let files = s3s_fs::FileSystem::new(folder.path()).unwrap();
        let mut builder = s3s::service::S3ServiceBuilder::new(files);
        builder.set_auth(s3s::auth::SimpleAuth::from_single(Self::KEY, Self::SECRET));
        let service = builder.build();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let serve = async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                let service = service.clone();
                tokio::spawn(async move {
                    let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                    let _ = server.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        std::thread::spawn(move || runtime.unwrap().block_on(serve));
        Self { folder, address }
    }

    /// `http://127.0.0.1:PORT`
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where the objects are.
    pub fn folder(&self) -> PathBuf {
        self.folder.path().join(Self::NAME)
    }
}
