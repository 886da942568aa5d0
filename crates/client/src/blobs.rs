//! Bytes of blobs, put and got over any [`Transport`]. What they are encrypted under is not known here: the
//! service sees these very bytes.

use std::ops::Range;

use folkmoot_protocol::Refusal;
use folkmoot_protocol::blob::{ReadCapability, WriteCapability};
use folkmoot_protocol::call::{Answer, Call};
use folkmoot_protocol::delivery::{
    CreateBlobRequest, DeleteBlobRequest, FindBlobRequest, GetBlobRequest, Payment, PutBlobRequest,
};
use folkmoot_protocol::limits;
use rand_core::CryptoRng;

use crate::transport::{ServiceAddress, Transport, TransportError};

/// Both capabilities of a blob, which its uploader draws.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// For those who are to read it.
    pub read: ReadCapability,
    /// For the uploader alone.
    pub write: WriteCapability,
}

impl Blob {
    /// A new one. Nothing is at the service yet.
    #[must_use]
    pub fn generate(rng: &mut dyn CryptoRng) -> Self {
        Self {
            read: ReadCapability::generate(rng),
            write: WriteCapability::generate(rng),
        }
    }
}

/// Uploads bytes, at most 256 MiB and not none, to be kept for so many seconds (0: as long as the service
/// keeps any). Begun before, it goes on where it stopped. Returns when the blob expires, in milliseconds
/// since 1970. The payment is for its first call ([`Priced`](folkmoot_protocol::token::price::Priced)); the
/// same one serves again.
///
/// # Errors
/// [`TransportError`]. Once the network is back the same call goes on.
pub async fn upload<T: Transport>(
    transport: &T,
    to: &ServiceAddress,
    blob: &Blob,
    bytes: &[u8],
    keep_seconds: u64,
    payment: Option<Payment>,
) -> Result<u64, TransportError> {
    let id = blob.read.blob();
    let create = Call::CreateBlob(CreateBlobRequest {
        blob: id.into(),
        write_hash: blob.write.hash().to_vec(),
        size: bytes.len() as u64,
        keep_seconds,
        payment,
    });
    let Answer::CreateBlob(created) = transport.call(to, create).await? else {
        return Err(protocol(to));
    };
    let write = blob.write.as_bytes().to_vec();
    let find = Call::FindBlob(FindBlobRequest {
        blob: id.into(),
        write: write.clone(),
    });
    let Answer::FindBlob(found) = transport.call(to, find).await? else {
        return Err(protocol(to));
    };
    let mut received = found.received;
    while received < bytes.len() as u64 {
        let end = received
            .saturating_add(limits::BLOB_CHUNK)
            .min(bytes.len() as u64);
        let chunk = &bytes[received as usize..end as usize];
        let put = Call::PutBlob(PutBlobRequest {
            blob: id.into(),
            write: write.clone(),
            offset: received,
            chunk: chunk.to_vec(),
        });
        let Answer::PutBlob(answer) = transport.call(to, put).await? else {
            return Err(protocol(to));
        };
        if answer.received <= received {
            return Err(protocol(to));
        }
        received = answer.received;
    }
    Ok(created.expires)
}

/// Downloads a range of a blob; what is behind its end is left out.
///
/// # Errors
/// [`TransportError`]: `NotFound` for a blob that is not there, not complete, or reached by another
/// capability.
pub async fn download<T: Transport>(
    transport: &T,
    to: &ServiceAddress,
    read: &ReadCapability,
    range: Range<u64>,
) -> Result<Vec<u8>, TransportError> {
    let mut bytes = Vec::new();
    let mut at = range.start;
    loop {
        let length = range.end.saturating_sub(at);
        let get = Call::GetBlob(GetBlobRequest {
            read: read.as_bytes().to_vec(),
            offset: at,
            // None is asked for by one, for 0 means all.
            length: length.max(1),
        });
        let Answer::GetBlob(answer) = transport.call(to, get).await? else {
            return Err(protocol(to));
        };
        let Some((first, parts)) = answer.parts.split_first() else {
            return Err(protocol(to));
        };
        if length == 0 {
            return Ok(bytes);
        }
        let before = at;
        for part in parts {
            bytes.extend_from_slice(&part.bytes);
            at += part.bytes.len() as u64;
        }
        if at > range.end {
            return Err(protocol(to));
        }
        if at == range.end || at >= first.size {
            return Ok(bytes);
        }
        // It was cut off by its size, or by the service.
        if at == before {
            return Err(protocol(to));
        }
    }
}

/// Deletes a blob. One that is gone already is as good.
///
/// # Errors
/// [`TransportError`].
pub async fn delete<T: Transport>(
    transport: &T,
    to: &ServiceAddress,
    blob: &Blob,
) -> Result<(), TransportError> {
    let delete = Call::DeleteBlob(DeleteBlobRequest {
        blob: blob.read.blob().into(),
        write: blob.write.as_bytes().to_vec(),
    });
    match transport.call(to, delete).await {
        Ok(Answer::DeleteBlob(_)) | Err(TransportError::Refused(Refusal::NotFound)) => Ok(()),
        Ok(_) => Err(protocol(to)),
        Err(error) => Err(error),
    }
}

/// The service has answered something else than what was asked.
fn protocol(to: &ServiceAddress) -> TransportError {
    let url = to.url.clone();
    TransportError::Protocol { url }
}
