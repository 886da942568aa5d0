//! What is known of a blob, and what follows from a request.

use folkmoot_protocol::Refusal;
use folkmoot_protocol::blob::{ReadCapability, WriteCapability};
use folkmoot_protocol::delivery::{CreateBlobRequest, FindBlobResponse, GetBlobRequest};
use folkmoot_protocol::ids::BlobId;
use folkmoot_protocol::limits;
use subtle::ConstantTimeEq;

use super::Bytes;
use crate::decision::{Decision, Denial, Request};
use crate::fields::{self, ensure, malformed};
use crate::store::{Change, RECORD_VERSION, StoreError, View, get, record};

const HOUR: u64 = 60 * 60 * 1000;

record! {
    /// A blob.
    BlobRecord in Blobs {
        /// Of the capability to write.
        write_hash: [u8; 32],
        size: u64,
        /// Bytes that are there.
        received: u64,
        /// Milliseconds since 1970 from which on it counts as gone.
        expires: u64,
        /// The same while it is not complete.
        upload_until: u64,
        deleted: bool,
    }
}

impl BlobRecord {
    fn is_complete(&self) -> bool {
        self.received == self.size
    }

    /// When it is over, as things stand.
    fn over(&self) -> u64 {
        if self.is_complete() {
            self.expires
        } else {
            self.upload_until.min(self.expires)
        }
    }

    /// Where its bytes are.
    fn bytes(&self, blob: BlobId) -> Bytes {
        let day = self.expires / (24 * HOUR);
        Bytes { blob, day }
    }

    fn is_there(&self, now: u64) -> bool {
        !self.deleted && now < self.over()
    }

    /// The change that puts it in the place of what was there.
    fn replaces(&self, blob: BlobId, before: Option<&Self>, now: u64) -> Change {
        let mut change = Change::of(blob);
        change.require(&[], before);
        let over = if self.deleted { now } else { self.over() };
        change.put_until(&[], self, Some(over));
        change
    }
}

/// A request for room.
pub(crate) struct Create {
    blob: BlobId,
    record: BlobRecord,
}

impl Create {
    /// # Errors
    /// `Malformed`; `TooLarge`.
    pub(crate) fn read(request: &CreateBlobRequest, now: u64) -> Result<Self, Refusal> {
        let blob = fields::blob(&request.blob)?;
        let write_hash = request.write_hash.as_slice().try_into();
        ensure(request.size > 0, "size")?;
        if request.size > limits::BLOB {
            return Err(Refusal::TooLarge);
        }
        let longest = limits::BLOB_DAYS * 24 * HOUR;
        let keep = match request.keep_seconds {
            0 => longest,
            seconds => seconds.saturating_mul(1000).min(longest),
        };
        Ok(Self {
            blob,
            record: BlobRecord {
                version: RECORD_VERSION,
                write_hash: write_hash.map_err(|_| malformed("write_hash"))?,
                size: request.size,
                received: 0,
                expires: now.saturating_add(keep),
                upload_until: now.saturating_add(limits::BLOB_UPLOAD_HOURS * HOUR),
                deleted: false,
            },
        })
    }
}

impl Request for Create {
    type View = Option<BlobRecord>;
    /// When it expires.
    type Outcome = u64;

    fn load(&self, records: &dyn View) -> Result<Self::View, StoreError> {
        get(records, self.blob, &[])
    }

    /// The same again changes nothing, not even the time; what is there and differs is `Taken`.
    fn decide(&self, view: Self::View, now: u64) -> Result<Decision<u64>, Denial> {
        if let Some(record) = view {
            let same =
                (record.write_hash, record.size) == (self.record.write_hash, self.record.size);
            return if same && record.is_there(now) {
                Ok(Decision::unchanged(record.expires))
            } else {
                Err(Refusal::Taken.into())
            };
        }
        Ok(Decision {
            change: Some(self.record.replaces(self.blob, None, now)),
            outcome: self.record.expires,
        })
    }
}

/// A blob, and the claim to be allowed to write it.
pub(crate) struct Claim {
    blob: BlobId,
    write_hash: [u8; 32],
}

impl Claim {
    /// # Errors
    /// `Malformed`. A capability of the wrong length is `NotFound`, as any other that is wrong.
    pub(crate) fn read(blob: &[u8], write: &[u8]) -> Result<Self, Refusal> {
        let blob = fields::blob(blob)?;
        let write = WriteCapability::read(write).ok_or(Refusal::NotFound)?;
        let write_hash = write.hash();
        Ok(Self { blob, write_hash })
    }

    /// How far the upload has come; `None` for no blob, for one that is over and for a wrong capability.
    pub(crate) fn prove(&self, records: &dyn View, now: u64) -> Result<Option<Found>, StoreError> {
        let record = get(records, self.blob, &[])?;
        let found = self.proven(record).filter(|record| record.is_there(now));
        let blob = self.blob;
        Ok(found.map(|record| Found { blob, record }))
    }

    fn proven(&self, record: Option<BlobRecord>) -> Option<BlobRecord> {
        record.filter(|record| record.write_hash.ct_eq(&self.write_hash).into())
    }
}

/// A blob that somebody may write.
pub(crate) struct Found {
    blob: BlobId,
    record: BlobRecord,
}

impl Found {
    /// What is told of it.
    pub(crate) fn told(&self) -> FindBlobResponse {
        FindBlobResponse {
            received: self.record.received,
            size: self.record.size,
            expires: self.record.expires,
        }
    }
}

/// What is to be done with a chunk.
#[derive(Debug, PartialEq)]
pub(crate) enum Place {
    /// It is the next one: it goes to this object.
    Next(Bytes, u64),
    /// It is there already, or others come first: the upload goes on here.
    Elsewhere(u64),
}

/// Where a chunk belongs.
///
/// # Errors
/// `TooLarge`; `Malformed` for an offset that no chunk has, or a length that the chunk there has not.
pub(crate) fn place(found: &Found, offset: u64, chunk: &[u8]) -> Result<Place, Refusal> {
    let record = &found.record;
    let length = chunk.len() as u64;
    if length > limits::BLOB_CHUNK {
        return Err(Refusal::TooLarge);
    }
    ensure(
        offset.is_multiple_of(limits::BLOB_CHUNK) && offset < record.size,
        "offset",
    )?;
    let due = (record.size - offset).min(limits::BLOB_CHUNK);
    ensure(length == due, "chunk")?;
    Ok(if offset == record.received {
        Place::Next(record.bytes(found.blob), offset / limits::BLOB_CHUNK)
    } else {
        Place::Elsewhere(record.received)
    })
}

/// A chunk's bytes are there.
pub(crate) struct Grow {
    pub(crate) claim: Claim,
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

impl Request for Grow {
    type View = Option<BlobRecord>;
    /// Bytes that are there now, and whether this chunk has made them more: it may have come twice.
    type Outcome = (u64, bool);

    fn load(&self, records: &dyn View) -> Result<Self::View, StoreError> {
        get(records, self.claim.blob, &[])
    }

    fn decide(&self, view: Self::View, now: u64) -> Result<Decision<(u64, bool)>, Denial> {
        let record = self.claim.proven(view);
        let record = record.filter(|record| record.is_there(now));
        let record = record.ok_or(Refusal::NotFound)?;
        if record.received != self.offset {
            return Ok(Decision::unchanged((record.received, false)));
        }
        let received = self.offset.saturating_add(self.length).min(record.size);
        let grown = BlobRecord {
            received,
            ..record.clone()
        };
        Ok(Decision {
            change: Some(grown.replaces(self.claim.blob, Some(&record), now)),
            outcome: (received, true),
        })
    }
}

/// A blob, and which part of it is asked for.
pub(crate) struct Get {
    blob: BlobId,
    offset: u64,
    length: u64,
}

/// A download, as it goes on.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Getting {
    pub(crate) bytes: Bytes,
    pub(crate) size: u64,
    pub(crate) expires: u64,
    /// The next byte.
    pub(crate) at: u64,
    /// The one after the last.
    pub(crate) end: u64,
}

impl Get {
    /// # Errors
    /// A capability of the wrong length is `NotFound`, as any other that is wrong.
    pub(crate) fn read(request: &GetBlobRequest) -> Result<Self, Refusal> {
        let read = ReadCapability::read(&request.read).ok_or(Refusal::NotFound)?;
        Ok(Self {
            blob: read.blob(),
            offset: request.offset,
            length: request.length,
        })
    }

    /// The blob, if it is there and complete.
    pub(crate) fn find(
        &self,
        records: &dyn View,
        now: u64,
    ) -> Result<Option<BlobRecord>, StoreError> {
        let record: Option<BlobRecord> = get(records, self.blob, &[])?;
        Ok(record.filter(|record| record.is_complete() && record.is_there(now)))
    }

    /// # Errors
    /// `NotFound`; `Malformed` for an offset behind the end.
    pub(crate) fn begin(&self, found: Option<&BlobRecord>) -> Result<Getting, Refusal> {
        let record = found.ok_or(Refusal::NotFound)?;
        ensure(self.offset <= record.size, "offset")?;
        let end = match self.length {
            0 => record.size,
            length => self.offset.saturating_add(length).min(record.size),
        };
        Ok(Getting {
            bytes: record.bytes(self.blob),
            size: record.size,
            expires: record.expires,
            at: self.offset,
            end,
        })
    }
}

impl Getting {
    /// The next piece to be read: the object's index, and from where to where in it. `None` at the end.
    pub(crate) fn next_piece(&mut self) -> Option<(u64, std::ops::Range<u64>)> {
        if self.at >= self.end {
            return None;
        }
        let index = self.at / limits::BLOB_CHUNK;
        let start = self.at % limits::BLOB_CHUNK;
        let length = (self.end - self.at)
            .min(limits::BLOB_CHUNK - start)
            .min(limits::BLOB_PART);
        self.at += length;
        Some((index, start..start + length))
    }
}

/// Whoever may write it wants it gone.
pub(crate) struct Delete {
    pub(crate) claim: Claim,
}

impl Request for Delete {
    type View = Option<BlobRecord>;
    /// The bytes that are to follow; none if somebody sees to it already.
    type Outcome = Option<Bytes>;

    fn load(&self, records: &dyn View) -> Result<Self::View, StoreError> {
        get(records, self.claim.blob, &[])
    }

    fn decide(&self, view: Self::View, now: u64) -> Result<Decision<Option<Bytes>>, Denial> {
        let record = self.claim.proven(view).ok_or(Refusal::NotFound)?;
        let bytes = record.bytes(self.claim.blob);
        if record.deleted {
            return Ok(Decision::unchanged(None));
        }
        let gone = BlobRecord {
            deleted: true,
            ..record.clone()
        };
        Ok(Decision {
            change: Some(gone.replaces(self.claim.blob, Some(&record), now)),
            outcome: Some(bytes),
        })
    }
}

/// Whether a blob is there, complete or not.
pub(crate) fn is_there(records: &dyn View, blob: BlobId, now: u64) -> Result<bool, StoreError> {
    let record: Option<BlobRecord> = get(records, blob, &[])?;
    Ok(record.is_some_and(|record| record.is_there(now)))
}
