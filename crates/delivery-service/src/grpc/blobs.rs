//! Blobs over gRPC: the records decide, the bytes go to and come from their folder or bucket.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use folkmoot_protocol::Refusal;
use folkmoot_protocol::delivery::blobs_server::{Blobs, BlobsServer};
use folkmoot_protocol::delivery::{
    BlobPart, CreateBlobRequest, CreateBlobResponse, DeleteBlobRequest, DeleteBlobResponse,
    FindBlobRequest, FindBlobResponse, GetBlobRequest, PutBlobRequest, PutBlobResponse,
};
use folkmoot_protocol::limits;
use folkmoot_protocol::rate::Rate;
use futures_util::stream::{self, Stream, StreamExt, try_unfold};
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use super::Skin;
use crate::blobs::{Getting, Objects, ObjectsError, Place};
use crate::service::DeliveryService;
use crate::store::{Store, StoreError};

/// The largest request about a blob: a chunk.
const REQUEST: usize = limits::BLOB_CHUNK as usize + 1024;

/// Milliseconds of a day.
const DAY: u64 = 24 * 60 * 60 * 1000;

/// Bytes that one unit of a rate makes room for.
const BYTES_PER_UNIT: u64 = 1 << 20;

/// Adds the service of blobs to `routes`, as [`add_to`](super::add_to) adds the others.
#[must_use]
pub fn add_blobs_to<S: Store>(
    routes: Routes,
    service: Arc<DeliveryService<S>>,
    objects: Objects,
    clock: fn() -> u64,
    rate: Rate,
) -> Routes {
    let skin = Skin::new(service, clock, rate);
    let blobs = BlobsServer::new(BlobSkin { skin, objects }).max_decoding_message_size(REQUEST);
    #[cfg(feature = "tap")]
    let blobs = folkmoot_protocol::tap::Tap::of("delivery").on(blobs);
    routes.add_service(blobs)
}

/// Deletes the bytes of blobs whose day is over. To be called from time to time; what is over counts as
/// gone before.
///
/// # Errors
/// `Internal`.
pub async fn sweep_blobs<S: Store>(
    service: &Arc<DeliveryService<S>>,
    objects: &Objects,
    clock: fn() -> u64,
) -> Result<(), Refusal> {
    let today = clock() / DAY;
    for day in days(service, objects).await? {
        if day < today {
            tidy(service, objects, clock, day).await?;
        }
    }
    Ok(())
}

/// Deletes all bytes that belong to no blob: those of uploads that were given up, those that a crash has
/// left behind. Counts what is there. To be called when the service starts, and once a day.
///
/// # Errors
/// `Internal`.
pub async fn tidy_blobs<S: Store>(
    service: &Arc<DeliveryService<S>>,
    objects: &Objects,
    clock: fn() -> u64,
) -> Result<(), Refusal> {
    let mut held = 0;
    for day in days(service, objects).await? {
        held += tidy(service, objects, clock, day).await?;
    }
    objects.recount(held);
    Ok(())
}

async fn days<S: Store>(
    service: &DeliveryService<S>,
    objects: &Objects,
) -> Result<Vec<u64>, Refusal> {
    objects.days().await.map_err(|error| failed(service, error))
}

async fn tidy<S: Store>(
    service: &Arc<DeliveryService<S>>,
    objects: &Objects,
    clock: fn() -> u64,
    day: u64,
) -> Result<u64, Refusal> {
    let is_there = |blob| async move {
        let there = move |service: &DeliveryService<S>, now| service.has_blob(blob, now);
        let there = blocking(service, clock, there).await;
        there.and_then(|there| there).map_err(Trouble::Refusal)
    };
    objects
        .tidy(day, is_there)
        .await
        .map_err(|trouble| match trouble {
            Trouble::Refusal(refusal) => refusal,
            Trouble::Objects(error) => failed(service, error),
        })
}

enum Trouble {
    Refusal(Refusal),
    Objects(ObjectsError),
}

impl From<ObjectsError> for Trouble {
    fn from(error: ObjectsError) -> Self {
        Self::Objects(error)
    }
}

/// Tells the operator what happened, and nobody else.
fn failed<S: Store>(service: &DeliveryService<S>, error: ObjectsError) -> Refusal {
    service.failed(&StoreError::Blobs(error.to_string()))
}

async fn blocking<S: Store, T: Send + 'static>(
    service: &Arc<DeliveryService<S>>,
    clock: fn() -> u64,
    work: impl FnOnce(&DeliveryService<S>, u64) -> T + Send + 'static,
) -> Result<T, Refusal> {
    let service = service.clone();
    let work = tokio::task::spawn_blocking(move || work(&service, clock()));
    work.await.map_err(|_| Refusal::Internal)
}

struct BlobSkin<S> {
    skin: Skin<S>,
    objects: Objects,
}

impl<S> Clone for BlobSkin<S> {
    fn clone(&self) -> Self {
        Self {
            skin: self.skin.clone(),
            objects: self.objects.clone(),
        }
    }
}

impl<S: Store> BlobSkin<S> {
    fn failed(&self, error: ObjectsError) -> Refusal {
        failed(&self.skin.service, error)
    }

    async fn append(self, mut request: PutBlobRequest) -> Result<u64, Refusal> {
        let chunk = Bytes::from(std::mem::take(&mut request.chunk));
        let length = chunk.len() as u64;
        let asked = (request.clone(), chunk.clone());
        let place = self.skin.blocking(move |service, now| {
            let (request, chunk) = asked;
            service.place_chunk(&request, &chunk, now)
        });
        let (bytes, index) = match place.await?? {
            Place::Next(bytes, index) => (bytes, index),
            Place::Elsewhere(received) => return Ok(received),
        };
        if !self.objects.take_room(length) {
            return Err(Refusal::NoRoom);
        }
        if let Err(error) = self.objects.put(bytes, index, chunk).await {
            self.objects.uncount(length);
            return Err(self.failed(error));
        }
        let grown = self
            .skin
            .blocking(move |service, now| service.chunk_is_there(&request, length, now))
            .await?;
        match &grown {
            Ok((_, true)) => {}
            // It has gone while its bytes were on their way: they go too.
            Err(Refusal::NotFound) => drop(self.objects.delete(bytes).await),
            // It is there only once, however often it comes.
            _ => self.objects.uncount(length),
        }
        grown.map(|(received, _)| received)
    }

    /// The parts of a download, each read when the one before has been taken.
    fn parts(self, getting: Getting) -> PartStream {
        let first = BlobPart {
            size: getting.size,
            expires: getting.expires,
            bytes: Vec::new(),
        };
        let rest = try_unfold((self, getting), |(skin, mut getting)| async {
            let Some((index, range)) = getting.next_piece() else {
                return Ok(None);
            };
            let read = skin.objects.get(getting.bytes, index, range).await;
            let bytes = match read {
                Ok(bytes) => bytes,
                // Deleted in the meantime, or lost: the operator is told.
                Err(error) => return Err(Status::from(skin.failed(error))),
            };
            let part = BlobPart {
                bytes: bytes.into(),
                ..BlobPart::default()
            };
            Ok(Some((part, (skin, getting))))
        });
        Box::pin(stream::once(async { Ok(first) }).chain(rest))
    }

    async fn begin(self, request: GetBlobRequest) -> Result<PartStream, Status> {
        let begun = self
            .skin
            .blocking(move |service, now| service.begin_get(&request, now));
        let getting = begun.await??;
        Ok(self.parts(getting))
    }
}

/// The parts of a download.
type PartStream = Pin<Box<dyn Stream<Item = Result<BlobPart, Status>> + Send>>;

#[tonic::async_trait]
impl<S: Store> Blobs for BlobSkin<S> {
    async fn create(
        &self,
        request: Request<CreateBlobRequest>,
    ) -> Result<Response<CreateBlobResponse>, Status> {
        let size = request.get_ref().size.min(limits::BLOB);
        let units = 1 + size / BYTES_PER_UNIT;
        self.skin.pay(&request, units as usize)?;
        if !self.objects.has_room(size) {
            return Err(Refusal::NoRoom.into());
        }
        let request = request.into_inner();
        let made = self
            .skin
            .blocking(move |service, now| service.create_blob(&request, now));
        Ok(Response::new(made.await??))
    }

    async fn find(
        &self,
        request: Request<FindBlobRequest>,
    ) -> Result<Response<FindBlobResponse>, Status> {
        let request = request.into_inner();
        let found = self
            .skin
            .blocking(move |service, now| service.find_blob(&request, now));
        Ok(Response::new(found.await??))
    }

    async fn put(
        &self,
        request: Request<PutBlobRequest>,
    ) -> Result<Response<PutBlobResponse>, Status> {
        // What was begun is ended, even if nobody waits for it any more.
        let append = tokio::spawn(self.clone().append(request.into_inner()));
        let received = append.await.map_err(|_| Refusal::Internal)??;
        Ok(Response::new(PutBlobResponse { received }))
    }

    type GetStream = PartStream;

    async fn get(&self, request: Request<GetBlobRequest>) -> Result<Response<PartStream>, Status> {
        let parts = self.clone().begin(request.into_inner()).await?;
        Ok(Response::new(parts))
    }

    async fn delete(
        &self,
        request: Request<DeleteBlobRequest>,
    ) -> Result<Response<DeleteBlobResponse>, Status> {
        let request = request.into_inner();
        let deleted = self
            .skin
            .blocking(move |service, now| service.delete_blob(&request, now));
        let Some(bytes) = deleted.await?? else {
            return Ok(Response::new(DeleteBlobResponse {}));
        };
        // If this fails, or the service ends before, the next day's look through all of them does it.
        let skin = self.clone();
        tokio::spawn(async move {
            let cleared = skin.objects.delete(bytes).await;
            cleared.map_err(|error| skin.failed(error))
        });
        Ok(Response::new(DeleteBlobResponse {}))
    }
}
