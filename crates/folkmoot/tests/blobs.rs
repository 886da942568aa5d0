//! Attachments' bytes at a real server that is killed, with `kill -9`, while they come: what was
//! acknowledged is there when it is back, and the upload goes on from there.

#[path = "../../delivery-service/tests/service/bucket.rs"]
mod bucket;
mod common;

use std::time::{Duration, Instant};

use bucket::Bucket;
use common::wire::{delivery_key, run};
use common::{Server, folkmoot, scale};
use folkmoot_client::blobs::{Blob, delete, download, upload};
use folkmoot_client::transport::{Grpc, ServerUrl, ServiceAddress, Transport, TransportError};
use folkmoot_protocol::Refusal;
use folkmoot_protocol::call::{Answer, Call};
use folkmoot_protocol::delivery::FindBlobRequest;
use rand_core::Rng;

/// A server that takes no payment.
fn start(data: &std::path::Path) -> Server {
    Server::started_with(folkmoot(), data, "127.0.0.1:0", &["--no-tokens"])
}

async fn address(server: &Server) -> ServiceAddress {
    let url: ServerUrl = server.url.parse().unwrap();
    ServiceAddress {
        key: delivery_key(server).await,
        url: url.url,
        pin: url.pin,
    }
}

async fn received(transport: &Grpc, to: &ServiceAddress, blob: &Blob) -> u64 {
    let find = Call::FindBlob(FindBlobRequest {
        blob: blob.read.blob().into(),
        write: blob.write.as_bytes().to_vec(),
    });
    match transport.call(to, find).await {
        Ok(Answer::FindBlob(found)) => found.received,
        Err(TransportError::Refused(Refusal::NotFound)) => 0,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_upload_survives_kills() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("server");
    let elsewhere = folder.path().join("attachments");
    let place = ["--no-tokens", "--blobs", elsewhere.to_str().unwrap()];
    let start = |listen: &str| Server::started_with(folkmoot(), &data, listen, &place);
    let mut rng = rand::rng();
    let mut bytes = vec![0; scale(6, 40) * (1 << 20) + 12_345];
    rng.fill_bytes(&mut bytes);
    let blob = Blob::generate(&mut rng);
    run(async {
        let mut server = start("127.0.0.1:0");
        let listen = server.listen();
        let to = address(&server).await;
        let (mut kills, mut before) = (0, 0);
        loop {
            let transport = Grpc::new();
            let moment = Duration::from_millis(20 + u64::from(rng.next_u32() % 120));
            let done = tokio::select! {
                done = upload(&transport, &to, &blob, &bytes, 0, None) => Some(done),
                () = tokio::time::sleep(moment) => None,
            };
            if let Some(done) = done {
                done.unwrap();
                break;
            }
            server.kill();
            kills += 1;
            server = start(&listen);
            let after = received(&Grpc::new(), &to, &blob).await;
            assert!(after >= before, "{after} after {before}");
            before = after;
        }
        println!("{kills} kills");
        let transport = Grpc::new();
        let all = download(&transport, &to, &blob.read, 0..u64::MAX)
            .await
            .unwrap();
        assert!(all == bytes, "{} of {} bytes", all.len(), bytes.len());
        let some = download(&transport, &to, &blob.read, 1_048_570..1_048_590).await;
        assert_eq!(some.unwrap(), bytes[1_048_570..1_048_590]);
        let none = download(&transport, &to, &blob.read, 5..5).await.unwrap();
        assert!(none.is_empty());
        assert!(!data.join("blobs").exists());

        delete(&transport, &to, &blob).await.unwrap();
        delete(&transport, &to, &blob).await.unwrap();
        let gone = download(&transport, &to, &blob.read, 0..1).await;
        assert_eq!(gone, Err(TransportError::Refused(Refusal::NotFound)));
    });
}

#[test]
fn attachments_in_a_bucket_outlive_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("server");
    let bucket = Bucket::start();
    let start = |listen: &str| {
        let mut serve = folkmoot();
        serve.env("AWS_ENDPOINT", bucket.endpoint());
        serve.env("AWS_ALLOW_HTTP", "true");
        serve.env("AWS_REGION", "us-east-1");
        serve.env("AWS_ACCESS_KEY_ID", Bucket::KEY);
        serve.env("AWS_SECRET_ACCESS_KEY", Bucket::SECRET);
        let place = format!("s3://{}/of/a/server", Bucket::NAME);
        Server::started_with(serve, &data, listen, &["--no-tokens", "--blobs", &place])
    };
    let mut rng = rand::rng();
    let mut bytes = vec![0; (2 << 20) + 12_345];
    rng.fill_bytes(&mut bytes);
    let (blob, gone) = (Blob::generate(&mut rng), Blob::generate(&mut rng));
    let chunks = || {
        let days = std::fs::read_dir(bucket.folder().join("of/a/server")).unwrap();
        let blobs = days.flat_map(|day| std::fs::read_dir(day.unwrap().path()).unwrap());
        let chunks = blobs.flat_map(|blob| std::fs::read_dir(blob.unwrap().path()).unwrap());
        // What the server of S3 notes for itself begins with a dot.
        let names = chunks.map(|chunk| chunk.unwrap().file_name());
        names
            .filter(|name| !name.as_encoded_bytes().starts_with(b"."))
            .count()
    };
    run(async {
        let server = start("127.0.0.1:0");
        let (listen, to) = (server.listen(), address(&server).await);
        let transport = Grpc::new();
        for blob in [&blob, &gone] {
            let uploaded = upload(&transport, &to, blob, &bytes, 0, None).await;
            uploaded.unwrap();
        }
        assert_eq!(chunks(), 6);
        let all = download(&transport, &to, &blob.read, 0..u64::MAX).await;
        assert!(all.unwrap() == bytes);
        server.stop();

        let server = start(&listen);
        let transport = Grpc::new();
        let all = download(&transport, &to, &blob.read, 0..u64::MAX).await;
        assert!(all.unwrap() == bytes);
        let some = download(&transport, &to, &blob.read, 1_048_570..1_048_590).await;
        assert_eq!(some.unwrap(), bytes[1_048_570..1_048_590]);
        delete(&transport, &to, &gone).await.unwrap();
        let begun = Instant::now();
        while chunks() > 3 {
            assert!(begun.elapsed() < Duration::from_secs(60), "they stay");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let all = download(&transport, &to, &blob.read, 0..u64::MAX).await;
        assert!(all.unwrap() == bytes);
        assert!(!data.join("blobs").exists());
        server.stop();
    });
}

#[test]
fn a_large_blob_passes_in_bounded_memory() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(&folder.path().join("server"));
    let mut rng = rand::rng();
    let bytes = vec![7; scale(64, 256) << 20];
    run(async {
        let to = address(&server).await;
        let transport = Grpc::new();
        let blob = Blob::generate(&mut rng);
        let before = server.memory("VmRSS");
        upload(&transport, &to, &blob, &bytes, 3600, None)
            .await
            .unwrap();
        let all = download(&transport, &to, &blob.read, 0..u64::MAX)
            .await
            .unwrap();
        assert!(all == bytes);
        let grown = server.memory("VmHWM").saturating_sub(before);
        println!(
            "{} MiB up and down, {grown} KiB more at the peak",
            bytes.len() >> 20
        );
        assert!(grown < 32 << 10, "{grown} KiB");
        assert!(folder.path().join("server/blobs").exists());
    });
}

#[test]
fn a_place_that_is_none_is_told_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "no folder").unwrap();
    let mut serve = folkmoot();
    serve.args(["serve", "--listen", "127.0.0.1:0", "--data"]);
    serve.arg(folder.path().join("server"));
    serve.arg("--blobs").arg(file.join("blobs"));
    let line = common::one_line(&common::output(&mut serve));
    assert!(line.contains("--blobs"), "{line}");
}
