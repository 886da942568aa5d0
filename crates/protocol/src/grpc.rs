//! How the services' words travel over gRPC: the codec of the generated code, and refusals as statuses.

use std::marker::PhantomData;

use prost::Message;
use prost::bytes::Buf;
use tonic::codec::{Codec, DecodeBuf, Decoder};
use tonic::{Code, Status};
use tonic_prost::ProstEncoder;

use crate::Refusal;
use crate::codec::bounded;

/// What the generated clients and servers encode and decode with.
#[derive(Debug)]
pub struct BoundedCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for BoundedCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for BoundedCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = BoundedDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::default()
    }

    fn decoder(&mut self) -> Self::Decoder {
        BoundedDecoder(PhantomData)
    }
}

/// Decodes what has no more fields than it may.
#[derive(Debug)]
pub struct BoundedDecoder<U>(PhantomData<U>);

impl<U: Message + Default> Decoder for BoundedDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        let bytes = buffer.copy_to_bytes(buffer.remaining());
        bounded(&bytes)?;
        let message = U::decode(bytes).map_err(|_| Refusal::Malformed("message".into()))?;
        Ok(Some(message))
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        Self::with_details(
            code(&refusal),
            refusal.to_string(),
            refusal.to_bytes().into(),
        )
    }
}

fn code(refusal: &Refusal) -> Code {
    match refusal {
        Refusal::Malformed(_) | Refusal::HeaderMismatch | Refusal::NameInvalid => {
            Code::InvalidArgument
        }
        Refusal::TooLarge => Code::OutOfRange,
        Refusal::BadProof | Refusal::StaleNonce | Refusal::Payment(_) => Code::PermissionDenied,
        Refusal::NotFound | Refusal::UnknownUser => Code::NotFound,
        Refusal::Taken | Refusal::NameTaken => Code::AlreadyExists,
        Refusal::Gap | Refusal::ContestsClosed => Code::FailedPrecondition,
        Refusal::Conflict(..) => Code::Aborted,
        Refusal::TooSlow => Code::DeadlineExceeded,
        Refusal::MailboxFull
        | Refusal::LogFull
        | Refusal::NoRoom
        | Refusal::Rate(_)
        | Refusal::CommitInterval(_) => Code::ResourceExhausted,
        Refusal::Busy(_) => Code::Unavailable,
        Refusal::Internal => Code::Internal,
    }
}
