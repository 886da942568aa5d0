//! Blobs: one suite for a folder and for a bucket of S3, through gRPC as clients use it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use folkmoot_delivery_service::blobs::{Objects, ObjectsError};
use folkmoot_delivery_service::grpc::{add_blobs_to, sweep_blobs, tidy_blobs};
use folkmoot_delivery_service::{DeliveryService, SqliteStore};
use folkmoot_protocol::blob::{ReadCapability, WriteCapability};
use folkmoot_protocol::delivery::blobs_client::BlobsClient;
use folkmoot_protocol::delivery::{
    BlobPart, CreateBlobRequest, DeleteBlobRequest, FindBlobRequest, FindBlobResponse,
    GetBlobRequest, Payment, PutBlobRequest,
};
use folkmoot_protocol::limits::{self, BLOB_CHUNK};
use folkmoot_protocol::rate::Rate;
use folkmoot_protocol::token::TokenPurpose;
use folkmoot_protocol::token::price::BYTES_PER_TOKEN;
use folkmoot_protocol::{PaymentFault, Refusal};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use tonic::service::Routes;
use tonic::{Code, Status};

#[cfg(feature = "s3")]
use crate::bucket::Bucket;
use crate::paying::{issuer, minted};
use crate::world::{DAY, Deadline, HOUR, service_key, sqlite};

const START: u64 = 1_700_000_000_000;

/// A place for bytes, which a test may open again, as after a restart.
trait Place {
    fn open(&self, most: u64) -> Objects;
    /// Names of all objects that are there.
    fn names(&self) -> Vec<String>;
}

struct Folder(tempfile::TempDir);

impl Place for Folder {
    fn open(&self, most: u64) -> Objects {
        let place = self.0.path().join("blobs");
        Objects::open(place.to_str().unwrap(), most).unwrap()
    }

    fn names(&self) -> Vec<String> {
        files(&self.0.path().join("blobs"))
    }
}

fn files(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        if path.is_dir() {
            names.extend(files(&path));
        } else {
            names.push(path.to_string_lossy().into_owned());
        }
    }
    names
}

#[cfg(feature = "s3")]
impl Place for Bucket {
    fn open(&self, most: u64) -> Objects {
        let store = object_store::aws::AmazonS3Builder::new()
            .with_endpoint(self.endpoint())
            .with_allow_http(true)
            .with_region("us-east-1")
            .with_bucket_name(Self::NAME)
            .with_access_key_id(Self::KEY)
            .with_secret_access_key(Self::SECRET)
            .build()
            .unwrap();
        Objects::over(Arc::new(store), most)
    }

    fn names(&self) -> Vec<String> {
        let names = files(&self.folder());
        // What the server notes for itself begins with a dot.
        let is_object = |name: &String| !name.rsplit('/').next().unwrap().starts_with('.');
        names.into_iter().filter(is_object).collect()
    }
}

macro_rules! on_every_place {
    ($($scenario:ident;)*) => {
        mod folder {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $scenario() {
                super::$scenario(&super::Folder(tempfile::tempdir().unwrap())).await;
            })*
        }
        #[cfg(feature = "s3")]
        mod s3 {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $scenario() {
                super::$scenario(&super::Bucket::start()).await;
            })*
        }
    };
}

on_every_place! {
    an_upload_goes_on_after_a_cut_at_every_chunk;
    a_crash_between_bytes_and_record_loses_nothing;
    any_range_is_read;
    a_wrong_capability_is_as_good_as_none;
    sizes_and_chunks_have_their_bounds;
    what_is_over_goes_with_its_bytes;
    whoever_writes_deletes;
    there_is_room_for_so_much;
    bytes_count_once;
    what_is_lost_or_cut_off_is_told;
    an_address_makes_so_many;
    a_blob_costs_tokens_by_its_size;
}

/// The clock: milliseconds after [`START`], one for each test's thread pool would be too many, so tests
/// that move it run under [`TIME`].
static PASSED: AtomicU64 = AtomicU64::new(0);
static TIME: tokio::sync::RwLock<()> = tokio::sync::RwLock::const_new(());

fn now() -> u64 {
    START + PASSED.load(Ordering::SeqCst)
}

/// A service, and a client of it.
struct World {
    service: Arc<DeliveryService<SqliteStore>>,
    objects: Objects,
    client: BlobsClient<Routes>,
    rng: ChaCha20Rng,
    database: Arc<tempfile::TempDir>,
}

impl World {
    fn new(place: &impl Place) -> Self {
        Self::at(place, Arc::new(tempfile::tempdir().unwrap()), u64::MAX)
    }

    fn at(place: &impl Place, database: Arc<tempfile::TempDir>, most: u64) -> Self {
        let mut rng = ChaCha20Rng::from_seed([7; 32]);
        let store = sqlite(&database.path().join("delivery.sqlite"));
        let service = Arc::new(DeliveryService::new(store, service_key(), &mut rng));
        let objects = place.open(most);
        let routes = Routes::default();
        let (served, rate) = (service.clone(), Rate::UNLIMITED);
        let routes = add_blobs_to(routes, served, objects.clone(), now, rate);
        Self {
            service,
            objects,
            client: BlobsClient::new(routes),
            rng,
            database,
        }
    }

    /// The same after a restart.
    fn restarted(self, place: &impl Place) -> Self {
        let database = self.database.clone();
        drop(self);
        Self::at(place, database, u64::MAX)
    }

    fn blob(&mut self, size: usize) -> Blob {
        let mut bytes = vec![0; size];
        self.rng.fill_bytes(&mut bytes);
        Blob {
            read: ReadCapability::generate(&mut self.rng),
            write: WriteCapability::generate(&mut self.rng),
            bytes,
        }
    }

    async fn create(&mut self, blob: &Blob, keep_seconds: u64) -> Result<u64, Status> {
        let request = CreateBlobRequest {
            blob: blob.read.blob().into(),
            write_hash: blob.write.hash().to_vec(),
            size: blob.bytes.len() as u64,
            keep_seconds,
            payment: None,
        };
        Ok(self.client.create(request).await?.into_inner().expires)
    }

    async fn put(&mut self, blob: &Blob, offset: u64) -> Result<u64, Status> {
        let put = self.client.put(blob.chunk(offset)).await?;
        Ok(put.into_inner().received)
    }

    async fn find(&mut self, blob: &Blob) -> Result<FindBlobResponse, Status> {
        let request = FindBlobRequest {
            blob: blob.read.blob().into(),
            write: blob.write.as_bytes().to_vec(),
        };
        Ok(self.client.find(request).await?.into_inner())
    }

    async fn upload(&mut self, blob: &Blob) {
        self.create(blob, 0).await.unwrap();
        let mut received = 0;
        while received < blob.bytes.len() as u64 {
            received = self.put(blob, received).await.unwrap();
        }
    }

    async fn get(&mut self, blob: &Blob, offset: u64, length: u64) -> Result<Vec<u8>, Status> {
        let request = GetBlobRequest {
            read: blob.read.as_bytes().to_vec(),
            offset,
            length,
        };
        let mut stream = self.client.get(request).await?.into_inner();
        let first: BlobPart = stream.message().await?.expect("a first part");
        assert_eq!(
            (first.size, first.bytes.len()),
            (blob.bytes.len() as u64, 0)
        );
        let mut bytes = Vec::new();
        while let Some(part) = stream.message().await? {
            assert!(part.bytes.len() as u64 <= limits::BLOB_PART);
            bytes.extend(part.bytes);
        }
        Ok(bytes)
    }

    async fn delete(&mut self, blob: &Blob) -> Result<(), Status> {
        let request = DeleteBlobRequest {
            blob: blob.read.blob().into(),
            write: blob.write.as_bytes().to_vec(),
        };
        self.client.delete(request).await.map(drop)
    }

    async fn sweep(&self) {
        self.service.sweep(now()).unwrap();
        sweep_blobs(&self.service, &self.objects, now)
            .await
            .unwrap();
    }
}

#[derive(Clone)]
struct Blob {
    read: ReadCapability,
    write: WriteCapability,
    bytes: Vec<u8>,
}

impl Blob {
    fn chunk(&self, offset: u64) -> PutBlobRequest {
        let end = (offset + BLOB_CHUNK).min(self.bytes.len() as u64);
        PutBlobRequest {
            blob: self.read.blob().into(),
            write: self.write.as_bytes().to_vec(),
            offset,
            chunk: self.bytes[offset as usize..end as usize].to_vec(),
        }
    }
}

fn refused<T: std::fmt::Debug>(answer: Result<T, Status>) -> Refusal {
    Refusal::from_bytes(answer.unwrap_err().details()).expect("a refusal")
}

const SIZE: usize = 3 * BLOB_CHUNK as usize + 777;

async fn an_upload_goes_on_after_a_cut_at_every_chunk(place: &impl Place) {
    let _time = TIME.read().await;
    let mut world = World::new(place);
    let blob = world.blob(SIZE);
    let expires = world.create(&blob, 0).await.unwrap();
    assert_eq!(expires, now() + limits::BLOB_DAYS * DAY);
    for cut in 0..4 {
        // Whoever comes back asks where to go on. It cannot be read yet.
        world = world.restarted(place);
        // To be asked for again, also for another time, moves nothing.
        assert_eq!(world.create(&blob, 3600).await.unwrap(), expires);
        let at = cut * BLOB_CHUNK;
        let found = world.find(&blob).await.unwrap();
        assert_eq!((found.received, found.size), (at, SIZE as u64));
        assert_eq!(refused(world.get(&blob, 0, 0).await), Refusal::NotFound);
        // Chunks that came before, and those that are not yet due, change nothing, whatever is in them.
        for other in (0..4).filter(|other| *other != cut) {
            let mut chunk = blob.chunk(other * BLOB_CHUNK);
            chunk.chunk.fill(7);
            let put = world.client.put(chunk).await.unwrap();
            assert_eq!(put.into_inner().received, at);
            assert_eq!(place.names().len() as u64, cut);
        }
        let next = (at + BLOB_CHUNK).min(SIZE as u64);
        assert_eq!(world.put(&blob, at).await.unwrap(), next);
    }
    assert_eq!(world.find(&blob).await.unwrap().received, SIZE as u64);
    assert_eq!(world.get(&blob, 0, 0).await.unwrap(), blob.bytes);
    world = world.restarted(place);
    assert_eq!(world.get(&blob, 0, 0).await.unwrap(), blob.bytes);
    assert_eq!(place.names().len(), 4);
}

async fn a_crash_between_bytes_and_record_loses_nothing(place: &impl Place) {
    let _time = TIME.read().await;
    let mut world = World::new(place);
    let blob = world.blob(SIZE);
    let day = world.create(&blob, 0).await.unwrap() / DAY;
    world.put(&blob, 0).await.unwrap();
    let first = place.names().remove(0);
    // Bytes of the next chunk, and half of those of the one after, that no record knows of; and such of a
    // blob that no record knows of either.
    let second = first.replace("/00000", "/00001");
    std::fs::write(&second, vec![9; BLOB_CHUNK as usize]).unwrap();
    std::fs::write(first.replace("/00000", "/00002"), vec![9; 1000]).unwrap();
    let stray = Path::new(&first)
        .parent()
        .unwrap()
        .with_file_name("ab".repeat(32));
    assert!(stray.to_str().unwrap().contains(&format!("{day:06}")));
    std::fs::create_dir(&stray).unwrap();
    std::fs::write(stray.join("00000"), vec![9; 1000]).unwrap();

    let mut world = world.restarted(place);
    tidy_blobs(&world.service, &world.objects, now)
        .await
        .unwrap();
    assert!(!stray.join("00000").exists());
    let found = world.find(&blob).await.unwrap();
    assert_eq!(found.received, BLOB_CHUNK);
    world.upload(&blob).await;
    assert_eq!(world.get(&blob, 0, 0).await.unwrap(), blob.bytes);
}

async fn any_range_is_read(place: &impl Place) {
    let _time = TIME.read().await;
    let mut world = World::new(place);
    let blob = world.blob(SIZE);
    world.upload(&blob).await;
    let (chunk, part, size) = (BLOB_CHUNK, limits::BLOB_PART, SIZE as u64);
    for (offset, length) in [
        (0, 1),
        (0, part),
        (part - 1, 2),
        (chunk - 1, 2),
        (chunk, chunk),
        (2 * chunk - 5, chunk + 10),
        (size - 1, 1),
        (size - 10, 1000),
        (size, 1),
        (5, 0),
        (7, u64::MAX),
    ] {
        let end = match length {
            0 => size,
            length => offset.saturating_add(length).min(size),
        };
        let expected = &blob.bytes[offset as usize..end as usize];
        let got = world.get(&blob, offset, length).await.unwrap();
        assert!(got == expected, "{offset} {length}");
    }
    let refused = refused(world.get(&blob, size + 1, 1).await);
    assert_eq!(refused, Refusal::Malformed("offset".into()));
}

async fn a_wrong_capability_is_as_good_as_none(place: &impl Place) {
    let _time = TIME.read().await;
    let mut world = World::new(place);
    let blob = world.blob(100);
    let unfinished = world.blob(SIZE);
    world.upload(&blob).await;
    world.create(&unfinished, 0).await.unwrap();
    let other = world.blob(100);
    // To know a blob's name, or to have the other capability, is not enough.
    let name = blob.read.blob();
    let wrong = [
        Blob {
            write: other.write.clone(),
            ..blob.clone()
        },
        Blob {
            write: WriteCapability::read(blob.read.as_bytes()).unwrap(),
            ..blob.clone()
        },
        Blob {
            write: WriteCapability::read(&blob.write.hash()).unwrap(),
            ..blob.clone()
        },
        other.clone(),
    ];
    for wrong in &wrong {
        assert_eq!(refused(world.find(wrong).await), Refusal::NotFound);
        assert_eq!(refused(world.put(wrong, 0).await), Refusal::NotFound);
        assert_eq!(refused(world.delete(wrong).await), Refusal::NotFound);
    }
    for read in [
        other.read.clone(),
        ReadCapability::read(&name.0).unwrap(),
        ReadCapability::read(blob.write.as_bytes()).unwrap(),
        unfinished.read.clone(),
    ] {
        let wrong = Blob {
            read,
            ..blob.clone()
        };
        assert_eq!(refused(world.get(&wrong, 0, 0).await), Refusal::NotFound);
    }
    let short = GetBlobRequest {
        read: vec![1; 31],
        ..GetBlobRequest::default()
    };
    assert_eq!(refused(world.client.get(short).await), Refusal::NotFound);
    // All is as it was.
    assert_eq!(world.get(&blob, 0, 0).await.unwrap(), blob.bytes);
    // And nobody takes the name of another's blob over.
    let thief = Blob {
        write: other.write,
        ..blob.clone()
    };
    assert_eq!(refused(world.create(&thief, 0).await), Refusal::Taken);
}

async fn sizes_and_chunks_have_their_bounds(place: &impl Place) {
    let _time = TIME.read().await;
    let mut world = World::new(place);
    let mut blob = world.blob(SIZE);
    let create = |size| CreateBlobRequest {
        blob: vec![3; 32],
        write_hash: vec![4; 32],
        size,
        ..CreateBlobRequest::default()
    };
    let malformed = |field: &str| Refusal::Malformed(field.into());
    for (request, expected) in [
        (create(0), malformed("size")),
        (create(limits::BLOB + 1), Refusal::TooLarge),
        (
            CreateBlobRequest {
                blob: vec![3; 31],
                ..create(5)
            },
            malformed("blob"),
        ),
        (
            CreateBlobRequest {
                write_hash: vec![4; 33],
                ..create(5)
            },
            malformed("write_hash"),
        ),
    ] {
        assert_eq!(refused(world.client.create(request).await), expected);
    }
    world.client.create(create(limits::BLOB)).await.unwrap();
    let longer = world.client.create(create(limits::BLOB - 1)).await;
    assert_eq!(refused(longer), Refusal::Taken);

    world.create(&blob, 0).await.unwrap();
    let whole = blob.chunk(0);
    let put = |offset, length: u64| PutBlobRequest {
        offset,
        chunk: vec![7; length as usize],
        ..whole.clone()
    };
    for (request, expected) in [
        (put(0, BLOB_CHUNK - 1), malformed("chunk")),
        (put(0, BLOB_CHUNK + 1), Refusal::TooLarge),
        (put(0, 0), malformed("chunk")),
        (put(1, BLOB_CHUNK), malformed("offset")),
        (put(4 * BLOB_CHUNK, BLOB_CHUNK), malformed("offset")),
        (put(u64::MAX - BLOB_CHUNK + 1, 5), malformed("offset")),
        (put(3 * BLOB_CHUNK, 778), malformed("chunk")),
    ] {
        let shown = (request.offset, request.chunk.len());
        assert_eq!(
            refused(world.client.put(request).await),
            expected,
            "{shown:?}"
        );
    }
    let status = world.client.put(put(0, 2 * BLOB_CHUNK)).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange);
    assert_eq!(place.names().len(), 0);
    // A time longer than any is cut.
    blob.read = ReadCapability::generate(&mut world.rng);
    let expires = world.create(&blob, u64::MAX).await.unwrap();
    assert_eq!(expires, now() + limits::BLOB_DAYS * DAY);
}

async fn what_is_over_goes_with_its_bytes(place: &impl Place) {
    let _time = TIME.write().await;
    let mut world = World::new(place);
    let [short, long, unfinished] = [100, 200, SIZE].map(|size| world.blob(size));
    let day = DAY / 1000;
    assert_eq!(
        world.create(&short, 2 * day).await.unwrap(),
        now() + 2 * DAY
    );
    world.put(&short, 0).await.unwrap();
    world.upload(&long).await;
    world.create(&unfinished, 0).await.unwrap();
    world.put(&unfinished, 0).await.unwrap();
    assert_eq!(world.objects.held(), 300 + BLOB_CHUNK);

    let start = PASSED.load(Ordering::SeqCst);
    let at = |passed| PASSED.store(start + passed, Ordering::SeqCst);
    at(limits::BLOB_UPLOAD_HOURS * HOUR - 1);
    world.find(&unfinished).await.unwrap();
    // An upload that takes too long is over before anything is swept.
    at(limits::BLOB_UPLOAD_HOURS * HOUR);
    assert_eq!(refused(world.find(&unfinished).await), Refusal::NotFound);
    assert_eq!(
        refused(world.put(&unfinished, BLOB_CHUNK).await),
        Refusal::NotFound
    );
    assert_eq!(place.names().len(), 3);
    tidy_blobs(&world.service, &world.objects, now)
        .await
        .unwrap();
    assert_eq!(place.names().len(), 2);
    assert_eq!(world.objects.held(), 300);
    at(2 * DAY - 1);
    assert_eq!(world.get(&short, 0, 0).await.unwrap(), short.bytes);
    at(2 * DAY);
    assert_eq!(refused(world.get(&short, 0, 0).await), Refusal::NotFound);
    world.sweep().await;
    // The bytes go when the day is over; another's do not.
    at(3 * DAY);
    world.sweep().await;
    assert_eq!(place.names().len(), 1);
    assert_eq!(world.get(&long, 0, 0).await.unwrap(), long.bytes);
    at(31 * DAY);
    world.sweep().await;
    assert_eq!(place.names().len(), 0);
    assert_eq!(world.objects.held(), 0);
    // What has gone leaves its name free.
    world.upload(&short).await;
    assert_eq!(world.get(&short, 0, 0).await.unwrap(), short.bytes);
}

async fn whoever_writes_deletes(place: &impl Place) {
    let _time = TIME.read().await;
    let mut world = World::new(place);
    let [blob, unfinished] = [SIZE, SIZE].map(|size| world.blob(size));
    world.upload(&blob).await;
    world.create(&unfinished, 0).await.unwrap();
    world.put(&unfinished, 0).await.unwrap();
    for gone in [&blob, &unfinished] {
        world.delete(gone).await.unwrap();
        world.delete(gone).await.unwrap();
        assert_eq!(refused(world.get(gone, 0, 0).await), Refusal::NotFound);
        assert_eq!(refused(world.find(gone).await), Refusal::NotFound);
        assert_eq!(
            refused(world.put(gone, BLOB_CHUNK).await),
            Refusal::NotFound
        );
    }
    let _deadline = Deadline::start();
    while world.objects.held() > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(place.names().len(), 0);
}

async fn there_is_room_for_so_much(place: &impl Place) {
    let _time = TIME.read().await;
    let most = 2 * BLOB_CHUNK;
    let mut world = World::at(place, Arc::new(tempfile::tempdir().unwrap()), most);
    let [first, second, third] = [1, 1, 2].map(|chunks| world.blob(chunks * BLOB_CHUNK as usize));
    for blob in [&first, &second, &third] {
        world.create(blob, 0).await.unwrap();
    }
    world.put(&first, 0).await.unwrap();
    world.put(&third, 0).await.unwrap();
    assert_eq!(refused(world.put(&second, 0).await), Refusal::NoRoom);
    assert_eq!(
        refused(world.put(&third, BLOB_CHUNK).await),
        Refusal::NoRoom
    );
    let more = world.blob(1);
    assert_eq!(refused(world.create(&more, 0).await), Refusal::NoRoom);
    // It is found again after a restart.
    let mut world = World::at(place, world.database.clone(), most);
    assert_eq!(world.objects.held(), 0);
    tidy_blobs(&world.service, &world.objects, now)
        .await
        .unwrap();
    assert_eq!(world.objects.held(), most);
    world.delete(&third).await.unwrap();
    let _deadline = Deadline::start();
    while world.objects.held() > BLOB_CHUNK {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    world.put(&second, 0).await.unwrap();
    assert_eq!(world.get(&second, 0, 0).await.unwrap(), second.bytes);
}

/// However often a chunk comes, or a blob is deleted, at the same moment: else whoever does so makes room
/// that there is not, or uses others' up.
async fn bytes_count_once(place: &impl Place) {
    const AT_ONCE: usize = 8;
    let _time = TIME.read().await;
    let _deadline = Deadline::start();
    let mut world = World::new(place);
    let (blob, other) = (world.blob(100), world.blob(SIZE));
    world.upload(&other).await;
    let held = SIZE as u64;
    world.create(&blob, 0).await.unwrap();
    let mut asked = tokio::task::JoinSet::new();
    for _ in 0..AT_ONCE {
        let (mut client, chunk) = (world.client.clone(), blob.chunk(0));
        asked.spawn(async move { client.put(chunk).await.unwrap().into_inner().received });
    }
    let received = asked.join_all().await;
    assert!(received.iter().all(|received| *received == 100));
    assert_eq!(world.objects.held(), held + 100);
    let mut asked = tokio::task::JoinSet::new();
    for _ in 0..AT_ONCE {
        let (mut client, blob) = (world.client.clone(), blob.clone());
        let request = DeleteBlobRequest {
            blob: blob.read.blob().into(),
            write: blob.write.as_bytes().to_vec(),
        };
        asked.spawn(async move { client.delete(request).await.unwrap() });
    }
    asked.join_all().await;
    while world.objects.held() > held {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    // Those who were not the first have nothing to do, sooner or later.
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    assert_eq!(world.objects.held(), held);
    assert_eq!(place.names().len(), 4);
    assert_eq!(world.get(&other, 0, 0).await.unwrap(), other.bytes);
}

async fn what_is_lost_or_cut_off_is_told(place: &impl Place) {
    let _time = TIME.read().await;
    let mut world = World::new(place);
    let blob = world.blob(1000);
    world.upload(&blob).await;
    let object = place.names().remove(0);
    std::fs::write(&object, &blob.bytes[..600]).unwrap();
    assert_eq!(refused(world.get(&blob, 0, 0).await), Refusal::Internal);
    assert_eq!(refused(world.get(&blob, 500, 200).await), Refusal::Internal);
    assert_eq!(world.get(&blob, 0, 600).await.unwrap(), blob.bytes[..600]);
    std::fs::remove_file(&object).unwrap();
    assert_eq!(refused(world.get(&blob, 0, 600).await), Refusal::Internal);
}

async fn an_address_makes_so_many(place: &impl Place) {
    let _time = TIME.read().await;
    let mut world = World::new(place);
    let rate = Rate {
        burst: 10,
        per_second: 1,
    };
    let (service, objects) = (world.service.clone(), world.objects.clone());
    let routes = add_blobs_to(Routes::default(), service, objects, now, rate);
    world.client = BlobsClient::new(routes);
    // One for each, and one more for each MiB.
    let [small, large] = [100, SIZE].map(|size| world.blob(size));
    for _ in 0..5 {
        world.create(&small, 0).await.unwrap();
    }
    world.create(&large, 0).await.unwrap();
    world.create(&small, 0).await.unwrap();
    assert_eq!(refused(world.create(&small, 0).await), Refusal::Rate(1000));
    // What is made is filled.
    world.put(&small, 0).await.unwrap();
    assert_eq!(world.get(&small, 0, 0).await.unwrap(), small.bytes);
}

async fn a_blob_costs_tokens_by_its_size(place: &impl Place) {
    let _time = TIME.read().await;
    let mut world = World::new(place);
    let issuers = [issuer("example.org", 0, now())];
    world.service.trust(&issuers).unwrap();
    let mut rng = ChaCha20Rng::from_seed([8; 32]);
    let here = service_key().public();
    let mut token = |purpose| minted(&mut rng, ("example.org", 0), &here, purpose);
    let [first, second, third] = [(); 3].map(|()| token(TokenPurpose::Blob));
    let other = token(TokenPurpose::OpenLog);
    let create = |blob: u8, size: u64, tokens: &[&Vec<u8>]| CreateBlobRequest {
        blob: vec![blob; 32],
        write_hash: vec![4; 32],
        size,
        keep_seconds: 0,
        payment: Some(Payment {
            tokens: tokens.iter().map(|token| token.to_vec()).collect(),
        }),
    };
    let fault = |fault| Some(Refusal::Payment(fault));
    let large = BYTES_PER_TOKEN + 1;
    for (request, refusal) in [
        (create(1, 100, &[]), fault(PaymentFault::Missing)),
        (create(1, 100, &[&other]), fault(PaymentFault::WrongPurpose)),
        // What has the wrong form costs nothing.
        (
            create(1, 0, &[&first]),
            Some(Refusal::Malformed("size".into())),
        ),
        (create(1, BYTES_PER_TOKEN, &[&first]), None),
        (create(1, BYTES_PER_TOKEN, &[&first]), None),
        // Another blob, or another size, is another request.
        (
            create(2, BYTES_PER_TOKEN, &[&first]),
            fault(PaymentFault::Spent),
        ),
        (create(1, 100, &[&first]), fault(PaymentFault::Spent)),
        (create(2, large, &[&second]), fault(PaymentFault::Missing)),
        (create(2, large, &[&second, &third]), None),
    ] {
        let shown = (request.blob[0], request.size);
        let answer = world.client.create(request).await;
        assert_eq!(
            answer.err().map(|status| refused::<()>(Err(status))),
            refusal,
            "{shown:?}"
        );
    }
}

/// The bytes are there before the record says so, and not without them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_could_not_be_written_is_not_acknowledged() {
    let _time = TIME.read().await;
    let place = Folder(tempfile::tempdir().unwrap());
    let mut world = World::new(&place);
    let blob = world.blob(100);
    let day = world.create(&blob, 0).await.unwrap() / DAY;
    // Where the folder of its day belongs, there is a file.
    let day = place.0.path().join(format!("blobs/{day:06}"));
    std::fs::write(&day, "in the way").unwrap();
    assert_eq!(refused(world.put(&blob, 0).await), Refusal::Internal);
    assert_eq!(world.find(&blob).await.unwrap().received, 0);
    assert_eq!(refused(world.get(&blob, 0, 0).await), Refusal::NotFound);
    assert_eq!(world.objects.held(), 0);
    std::fs::remove_file(&day).unwrap();
    world.put(&blob, 0).await.unwrap();
    assert_eq!(world.get(&blob, 0, 0).await.unwrap(), blob.bytes);
}

#[test]
fn a_place_that_cannot_be_used_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "no folder").unwrap();
    let opened = Objects::open(file.join("blobs").to_str().unwrap(), 0);
    assert!(matches!(opened, Err(ObjectsError::Failed(_))), "{opened:?}");
    let opened = Objects::open("s3://bucket/a//b", 0);
    assert!(
        matches!(opened, Err(ObjectsError::Address(_))),
        "{opened:?}"
    );
}
