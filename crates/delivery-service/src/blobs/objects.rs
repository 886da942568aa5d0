//! Where the bytes of blobs lie: a folder, or a bucket of S3. One object for each chunk, named by the day on
//! which the blob expires, the blob and the chunk's number, so that a repeated chunk takes the place of the
//! first.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use folkmoot_protocol::ids::BlobId;
use futures_util::stream::TryStreamExt;
use object_store::local::LocalFileSystem;
use object_store::path::Path as Name;
use object_store::prefix::PrefixStore;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};

/// Why bytes could not be written, read or deleted: the operator is to blame, or nobody. Carries no ids.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ObjectsError {
    /// What was to be read is not there.
    #[error("bytes of a blob are missing")]
    Missing,
    /// There is something else than what was written.
    #[error("bytes of a blob are damaged")]
    Damaged,
    /// The folder or the bucket cannot be used.
    #[error("{0}")]
    Failed(String),
    /// The address is neither a folder nor `s3://BUCKET/PREFIX`.
    #[error("'{0}' is no place for blobs: write a folder, or s3://BUCKET or s3://BUCKET/PREFIX")]
    Address(String),
}

impl From<object_store::Error> for ObjectsError {
    fn from(error: object_store::Error) -> Self {
        use object_store::Error;
        // What the crate says has names in it, and names are ids.
        let kind = match &error {
            Error::NotFound { .. } => return Self::Missing,
            Error::PermissionDenied { .. } => "permission denied",
            Error::Unauthenticated { .. } => "the credentials are not accepted",
            Error::NotSupported { .. } | Error::NotImplemented { .. } => "it is not supported",
            _ => "it failed",
        };
        let mut cause: Option<&dyn std::error::Error> = Some(&error);
        while let Some(error) = cause {
            if let Some(error) = error.downcast_ref::<std::io::Error>() {
                return Self::Failed(error.kind().to_string());
            }
            cause = error.source();
        }
        Self::Failed(kind.to_owned())
    }
}

/// All bytes of one blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bytes {
    pub(crate) blob: BlobId,
    /// Days since 1970 when it expires.
    pub(crate) day: u64,
}

/// A folder or a bucket. Shared by all that use it.
#[derive(Clone, Debug)]
pub struct Objects {
    store: Arc<dyn ObjectStore>,
    /// Bytes that are there, as far as this process knows.
    held: Arc<AtomicU64>,
    most: u64,
}

impl Objects {
    /// The place that an address names: a folder, or `s3://BUCKET/PREFIX` with credentials from the
    /// environment (`AWS_ACCESS_KEY_ID` and the like). At most `most` bytes are kept there.
    ///
    /// # Errors
    /// [`ObjectsError::Address`]; [`ObjectsError::Failed`]: the operator is to blame.
    pub fn open(address: &str, most: u64) -> Result<Self, ObjectsError> {
        match address.strip_prefix("s3://") {
            Some(bucket) => Self::bucket(address, bucket, most),
            None => Self::folder(Path::new(address), most),
        }
    }

    /// A folder; made, for its owner alone, if it is not there. What is written is synced.
    ///
    /// # Errors
    /// [`ObjectsError::Failed`].
    pub fn folder(folder: &Path, most: u64) -> Result<Self, ObjectsError> {
        let failed = |error: std::io::Error| ObjectsError::Failed(error.kind().to_string());
        let mut builder = std::fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.recursive(true).create(folder).map_err(failed)?;
        let store = LocalFileSystem::new_with_prefix(folder)?
            .with_fsync(true)
            .with_automatic_cleanup(true);
        Ok(Self::over(Arc::new(store), most))
    }

    #[cfg(feature = "s3")]
    fn bucket(address: &str, bucket: &str, most: u64) -> Result<Self, ObjectsError> {
        let (bucket, prefix) = bucket.split_once('/').unwrap_or((bucket, ""));
        let wrong = |_| ObjectsError::Address(address.to_owned());
        let prefix = Name::parse(prefix).map_err(wrong)?;
        let store = object_store::aws::AmazonS3Builder::from_env()
            .with_bucket_name(bucket)
            .build()?;
        Ok(Self::over(Arc::new(PrefixStore::new(store, prefix)), most))
    }

    #[cfg(not(feature = "s3"))]
    fn bucket(address: &str, _bucket: &str, _most: u64) -> Result<Self, ObjectsError> {
        Err(ObjectsError::Address(address.to_owned()))
    }

    /// Any store of objects whose writes are durable when they return.
    #[must_use]
    pub fn over(store: Arc<dyn ObjectStore>, most: u64) -> Self {
        Self {
            store,
            held: Arc::default(),
            most,
        }
    }

    /// Counts so many bytes more, if there is room for them.
    pub(crate) fn take_room(&self, bytes: u64) -> bool {
        let more = |held: u64| Some(held.saturating_add(bytes)).filter(|all| *all <= self.most);
        self.held
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .is_ok()
    }

    /// Whether so many bytes more may be kept.
    pub(crate) fn has_room(&self, bytes: u64) -> bool {
        self.held.load(Ordering::Relaxed).saturating_add(bytes) <= self.most
    }

    /// Bytes that are kept, as far as this process knows.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// Writes a chunk; it is durable then.
    pub(crate) async fn put(
        &self,
        bytes: Bytes,
        index: u64,
        chunk: bytes::Bytes,
    ) -> Result<(), ObjectsError> {
        let name = bytes.chunk(index);
        self.store.put(&name, chunk.into()).await?;
        Ok(())
    }

    /// Reads a part of a chunk.
    pub(crate) async fn get(
        &self,
        bytes: Bytes,
        index: u64,
        range: std::ops::Range<u64>,
    ) -> Result<bytes::Bytes, ObjectsError> {
        let length = range.end - range.start;
        let part = self.store.get_range(&bytes.chunk(index), range).await?;
        if part.len() as u64 == length {
            Ok(part)
        } else {
            Err(ObjectsError::Damaged)
        }
    }

    /// Deletes all bytes of a blob.
    pub(crate) async fn delete(&self, bytes: Bytes) -> Result<(), ObjectsError> {
        let mut chunks = self.store.list(Some(&bytes.name()));
        while let Some(chunk) = chunks.try_next().await? {
            self.remove(&chunk).await?;
            self.uncount(chunk.size);
        }
        Ok(())
    }

    /// The days on which blobs expire that have bytes here.
    pub(crate) async fn days(&self) -> Result<Vec<u64>, ObjectsError> {
        let listed = self.store.list_with_delimiter(None).await?;
        let days = listed.common_prefixes.iter();
        Ok(days.filter_map(|day| day.as_ref().parse().ok()).collect())
    }

    /// Goes through the blobs of a day and deletes the bytes of those that are not there, as `is_there`
    /// says. Returns how many bytes are left.
    pub(crate) async fn tidy<E: From<ObjectsError>, F>(
        &self,
        day: u64,
        is_there: impl Fn(BlobId) -> F,
    ) -> Result<u64, E>
    where
        F: Future<Output = Result<bool, E>>,
    {
        let mut left = 0;
        // Those of one blob lie together, mostly.
        let mut last: Option<(BlobId, bool)> = None;
        let failed = |error: object_store::Error| E::from(error.into());
        let mut chunks = self.store.list(Some(&day_name(day)));
        while let Some(chunk) = chunks.try_next().await.map_err(failed)? {
            let Some(blob) = blob_of(&chunk.location) else {
                // Not ours.
                continue;
            };
            let there = match last {
                Some((of, there)) if of == blob => there,
                _ => is_there(blob).await?,
            };
            last = Some((blob, there));
            if there {
                left += chunk.size;
            } else {
                self.remove(&chunk).await?;
                self.uncount(chunk.size);
            }
        }
        Ok(left)
    }

    /// So many bytes are there, counted anew.
    pub(crate) fn recount(&self, held: u64) {
        self.held.store(held, Ordering::Relaxed);
    }

    /// So many bytes are not there, or count twice.
    pub(crate) fn uncount(&self, bytes: u64) {
        let less = |held: u64| Some(held.saturating_sub(bytes));
        let _ = self
            .held
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    async fn remove(&self, chunk: &ObjectMeta) -> Result<(), ObjectsError> {
        let removed = self.store.delete(&chunk.location).await;
        match removed.map_err(ObjectsError::from) {
            // Another was faster.
            Err(ObjectsError::Missing) => Ok(()),
            done => done,
        }
    }
}

impl Bytes {
    fn name(self) -> Name {
        let blob = self.blob.0.iter();
        let blob: String = blob.map(|byte| format!("{byte:02x}")).collect();
        day_name(self.day).join(blob)
    }

    fn chunk(self, index: u64) -> Name {
        self.name().join(format!("{index:05}"))
    }
}

fn day_name(day: u64) -> Name {
    Name::from(format!("{day:06}"))
}

/// The blob that an object belongs to.
fn blob_of(name: &Name) -> Option<BlobId> {
    let parts: Vec<_> = name.parts().collect();
    let [_, blob, _] = parts.as_slice() else {
        return None;
    };
    let digits = blob.as_ref();
    if digits.len() != 64 || !digits.is_ascii() {
        return None;
    }
    let mut id = [0; 32];
    for (place, byte) in id.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[2 * place..2 * place + 2], 16).ok()?;
    }
    Some(BlobId(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_its_blob() {
        let blob = BlobId(std::array::from_fn(|place| place as u8 * 7));
        let bytes = Bytes { blob, day: 20_500 };
        assert!(bytes.chunk(12).as_ref().starts_with("020500/0007"));
        assert_eq!(blob_of(&bytes.chunk(12)), Some(blob));
        for name in ["00", "00/11/22", "x/y", "ab/zz"] {
            assert_eq!(blob_of(&Name::from(name)), None, "{name}");
        }
    }
}
