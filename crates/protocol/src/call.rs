//! Every call of both services: what is asked, what is answered, over which connection.
//!
//! The client's logic emits [`Call`]s and takes [`Answer`]s; the services' logic does the reverse.
//! gRPC carries them in production, encoded bytes alone in tests.

use prost::Message;

use crate::authentication::{
    DrawTokensRequest, DrawTokensResponse, IssuersRequest, IssuersResponse, LookUpRequest,
    LookUpResponse, RegisterRequest, RegisterResponse,
};
use crate::delivery::{
    AcknowledgeRequest, AcknowledgeResponse, AppendRequest, AppendStagedRequest, BlobPart,
    BlobParts, CandidatesRequest, CandidatesResponse, CloseDoorRequest, CloseDoorResponse,
    CollectRequest, CollectResponse, CountRequest, CountResponse, CreateBlobRequest,
    CreateBlobResponse, CreateDoorRequest, CreateMailboxRequest, CreateMailboxResponse,
    DeleteBlobRequest, DeleteBlobResponse, DiscardRequest, DiscardResponse, DropAllRequest,
    DropAllResponse, DropRequest, DropResponse, FindBlobRequest, FindBlobResponse, GetBlobRequest,
    NonceRequest, NonceResponse, OpenRequest, PagesRequest, PagesResponse, PickUpRequest,
    PickUpResponse, PutBlobRequest, PutBlobResponse, PutPagesRequest, PutPagesResponse,
    ReadRequest, ReadResponse, ReadResponses, Receipt, StageRequest, StageResponse, StockRequest,
    StockResponse, TakeRequest, TakeResponse, UploadRequest, UploadResponse,
};

/// What a connection is used for. Two purposes never share one, so that a service which watches
/// connections does not learn which mailbox, log and look-up belong to the same person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// One's own account at the AS.
    Account,
    /// Look-ups of others at the AS.
    Directory,
    /// Logs and pickups.
    Logs,
    /// One's own mailbox and shelf.
    Mailbox,
    /// Others' shelves and mailboxes: take and drop.
    Letters,
    /// The doors of one's groups, and those at which answers to one's knocks come in.
    Doors,
    /// Attachments.
    Blobs,
}

/// Bytes that are no call or no answer: whoever sent them is to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bytes are not the protobuf message that belongs to this call")]
pub struct Malformed;

macro_rules! calls {
    ($($(#[$meta:meta])* $name:ident = $path:literal, $purpose:ident, $request:ty => $response:ty;)*) => {
        /// What a client asks of a service.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Call {
            $($(#[$meta])* $name($request),)*
        }

        /// What a service answers to the [`Call`] of the same name.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Answer {
            $($(#[$meta])* $name($response),)*
        }

        impl Call {
            /// The gRPC paths of all calls.
            pub const PATHS: &[&str] = &[$($path,)*];

            /// The gRPC path.
            #[must_use]
            pub fn path(&self) -> &'static str {
                match self { $(Self::$name(_) => $path,)* }
            }

            /// The connection that it belongs on.
            #[must_use]
            pub fn purpose(&self) -> Purpose {
                match self { $(Self::$name(_) => Purpose::$purpose,)* }
            }

            /// The protobuf message.
            #[must_use]
            pub fn encode(&self) -> Vec<u8> {
                match self { $(Self::$name(request) => request.encode_to_vec(),)* }
            }

            /// Reads the message that belongs to `path`.
            ///
            /// # Errors
            /// [`Malformed`], also for an unknown path, and for more fields than a request may have.
            pub fn decode(path: &str, bytes: &[u8]) -> Result<Self, Malformed> {
                crate::codec::bounded(bytes).map_err(|_| Malformed)?;
                match path {
                    $($path => <$request>::decode(bytes).map(Self::$name).map_err(|_| Malformed),)*
                    _ => Err(Malformed),
                }
            }
        }

        impl Answer {
            /// The protobuf message.
            #[must_use]
            pub fn encode(&self) -> Vec<u8> {
                match self { $(Self::$name(response) => response.encode_to_vec(),)* }
            }

            /// Reads the answer to a call of `path`.
            ///
            /// # Errors
            /// [`Malformed`], also for an unknown path, and for more fields than an answer may have.
            pub fn decode(path: &str, bytes: &[u8]) -> Result<Self, Malformed> {
                crate::codec::bounded(bytes).map_err(|_| Malformed)?;
                if path == READ {
                    return decode_read(bytes).map(Self::Read);
                }
                match path {
                    $($path => <$response>::decode(bytes).map(Self::$name).map_err(|_| Malformed),)*
                    _ => Err(Malformed),
                }
            }
        }
    };
}

/// The only call whose answer has repeated fields inside repeated ones.
const READ: &str = "/folkmoot.delivery.v1.Logs/Read";

/// Reads one batch of a read's stream.
///
/// # Errors
/// [`Malformed`], also for more fields than an answer may have: the service is to blame.
pub fn decode_batch(bytes: &[u8]) -> Result<ReadResponse, Malformed> {
    crate::codec::bounded(bytes).map_err(|_| Malformed)?;
    ReadResponse::decode(bytes).map_err(|_| Malformed)
}

/// Reads one part of a blob's stream.
///
/// # Errors
/// [`Malformed`]: the service is to blame.
pub fn decode_part(bytes: &[u8]) -> Result<BlobPart, Malformed> {
    crate::codec::bounded(bytes).map_err(|_| Malformed)?;
    BlobPart::decode(bytes).map_err(|_| Malformed)
}

/// A whole read: each batch within its bounds before any is decoded to its end.
fn decode_read(bytes: &[u8]) -> Result<ReadResponses, Malformed> {
    let batches = RawBatches::decode(bytes).map_err(|_| Malformed)?.batches;
    let batches = batches.iter().map(|batch| decode_batch(batch));
    Ok(ReadResponses {
        batches: batches.collect::<Result<_, _>>()?,
    })
}

/// [`ReadResponses`], its batches not decoded.
#[derive(Clone, PartialEq, Message)]
struct RawBatches {
    #[prost(bytes = "vec", repeated, tag = "1")]
    batches: Vec<Vec<u8>>,
}

calls! {
    /// Opens a log.
    Open = "/folkmoot.delivery.v1.Logs/Open", Logs, OpenRequest => Receipt;
    /// Appends to a log.
    Append = "/folkmoot.delivery.v1.Logs/Append", Logs, AppendRequest => Receipt;
    /// Says which chunks a large append goes up in.
    Stage = "/folkmoot.delivery.v1.Logs/Stage", Logs, StageRequest => StageResponse;
    /// Uploads a chunk.
    Upload = "/folkmoot.delivery.v1.Logs/Upload", Logs, UploadRequest => UploadResponse;
    /// Appends what a stage holds.
    AppendStaged = "/folkmoot.delivery.v1.Logs/AppendStaged", Logs, AppendStagedRequest => Receipt;
    /// A nonce for reads.
    LogNonce = "/folkmoot.delivery.v1.Logs/Nonce", Logs, NonceRequest => NonceResponse;
    /// Reads logs; the answer gathers the stream.
    Read = "/folkmoot.delivery.v1.Logs/Read", Logs, ReadRequest => ReadResponses;
    /// The commits after a parent.
    Candidates = "/folkmoot.delivery.v1.Logs/Candidates", Logs, CandidatesRequest => CandidatesResponse;
    /// Picks a Welcome up.
    PickUp = "/folkmoot.delivery.v1.Logs/PickUp", Logs, PickUpRequest => PickUpResponse;
    /// Fetches tree pages.
    Pages = "/folkmoot.delivery.v1.Logs/Pages", Logs, PagesRequest => PagesResponse;
    /// Puts tree pages back.
    PutPages = "/folkmoot.delivery.v1.Logs/PutPages", Logs, PutPagesRequest => PutPagesResponse;
    /// Makes a mailbox.
    CreateMailbox = "/folkmoot.delivery.v1.Mailboxes/Create", Mailbox, CreateMailboxRequest => CreateMailboxResponse;
    /// A nonce for an owner's proofs at its mailbox.
    MailboxNonce = "/folkmoot.delivery.v1.Mailboxes/Nonce", Mailbox, NonceRequest => NonceResponse;
    /// Drops an envelope into somebody's mailbox.
    Drop = "/folkmoot.delivery.v1.Mailboxes/Drop", Letters, DropRequest => DropResponse;
    /// Drops envelopes into others' mailboxes.
    DropAll = "/folkmoot.delivery.v1.Mailboxes/DropAll", Letters, DropAllRequest => DropAllResponse;
    /// Reads one's mailbox.
    Collect = "/folkmoot.delivery.v1.Mailboxes/Collect", Mailbox, CollectRequest => CollectResponse;
    /// Empties one's mailbox.
    Acknowledge = "/folkmoot.delivery.v1.Mailboxes/Acknowledge", Mailbox, AcknowledgeRequest => AcknowledgeResponse;
    /// A nonce for an owner's proofs at a door.
    DoorNonce = "/folkmoot.delivery.v1.Doors/Nonce", Doors, NonceRequest => NonceResponse;
    /// Makes a door.
    CreateDoor = "/folkmoot.delivery.v1.Doors/Create", Doors, CreateDoorRequest => CreateMailboxResponse;
    /// Reads what came in at a door.
    CollectDoor = "/folkmoot.delivery.v1.Doors/Collect", Doors, CollectRequest => CollectResponse;
    /// Clears what came in at a door.
    AcknowledgeDoor = "/folkmoot.delivery.v1.Doors/Acknowledge", Doors, AcknowledgeRequest => AcknowledgeResponse;
    /// Closes a door.
    CloseDoor = "/folkmoot.delivery.v1.Doors/Close", Doors, CloseDoorRequest => CloseDoorResponse;
    /// A nonce for an owner's proofs at its shelf.
    ShelfNonce = "/folkmoot.delivery.v1.Shelves/Nonce", Mailbox, NonceRequest => NonceResponse;
    /// Adds KeyPackages to one's shelf.
    Stock = "/folkmoot.delivery.v1.Shelves/Stock", Mailbox, StockRequest => StockResponse;
    /// Takes KeyPackages off one's shelf.
    Discard = "/folkmoot.delivery.v1.Shelves/Discard", Mailbox, DiscardRequest => DiscardResponse;
    /// Counts one's KeyPackages.
    Count = "/folkmoot.delivery.v1.Shelves/Count", Mailbox, CountRequest => CountResponse;
    /// Takes a KeyPackage of each of others' mailboxes.
    Take = "/folkmoot.delivery.v1.Shelves/Take", Letters, TakeRequest => TakeResponse;
    /// Makes room for a blob.
    CreateBlob = "/folkmoot.delivery.v1.Blobs/Create", Blobs, CreateBlobRequest => CreateBlobResponse;
    /// How far a blob's upload has come.
    FindBlob = "/folkmoot.delivery.v1.Blobs/Find", Blobs, FindBlobRequest => FindBlobResponse;
    /// Appends a chunk to a blob.
    PutBlob = "/folkmoot.delivery.v1.Blobs/Put", Blobs, PutBlobRequest => PutBlobResponse;
    /// Reads a blob; the answer gathers the stream.
    GetBlob = "/folkmoot.delivery.v1.Blobs/Get", Blobs, GetBlobRequest => BlobParts;
    /// Deletes a blob.
    DeleteBlob = "/folkmoot.delivery.v1.Blobs/Delete", Blobs, DeleteBlobRequest => DeleteBlobResponse;
    /// Registers a user.
    Register = "/folkmoot.authentication.v1.Accounts/Register", Account, RegisterRequest => RegisterResponse;
    /// Draws a batch of tokens.
    DrawTokens = "/folkmoot.authentication.v1.Accounts/DrawTokens", Account, DrawTokensRequest => DrawTokensResponse;
    /// Asks which keys issue tokens.
    Issuers = "/folkmoot.authentication.v1.Directory/Issuers", Directory, IssuersRequest => IssuersResponse;
    /// Looks a user up.
    LookUp = "/folkmoot.authentication.v1.Directory/LookUp", Directory, LookUpRequest => LookUpResponse;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_takes_no_more_memory_than_its_fields_may() {
        use crate::delivery::{Entry, Envelope};
        use crate::limits;

        let batch = |entries| ReadResponse {
            entries: vec![Entry::default(); entries],
            ..ReadResponse::default()
        };
        let read = |batch| ReadResponses {
            batches: vec![ReadResponse::default(), batch],
        };
        let right = read(batch(1000));
        let answer = Answer::decode(READ, &right.encode_to_vec());
        assert_eq!(answer, Ok(Answer::Read(right)));
        let many = batch(limits::FIELDS + 1);
        assert_eq!(decode_batch(&many.encode_to_vec()), Err(Malformed));
        let many = read(many).encode_to_vec();
        assert_eq!(Answer::decode(READ, &many), Err(Malformed));
        let many = CollectResponse {
            envelopes: vec![Envelope::default(); limits::FIELDS + 1],
            more: true,
        };
        let path = "/folkmoot.delivery.v1.Mailboxes/Collect";
        assert_eq!(Answer::decode(path, &many.encode_to_vec()), Err(Malformed));
    }

    #[test]
    fn calls_and_answers_survive_their_bytes() {
        let call = Call::PickUp(PickUpRequest {
            log: vec![1; 32],
            address: vec![2; 32],
        });
        assert_eq!(Call::decode(call.path(), &call.encode()), Ok(call.clone()));
        let answer = Answer::LogNonce(NonceResponse { nonce: vec![3; 16] });
        let path = "/folkmoot.delivery.v1.Logs/Nonce";
        assert_eq!(Answer::decode(path, &answer.encode()), Ok(answer));
        assert_eq!(Call::decode("/nowhere", &[]), Err(Malformed));
        assert_eq!(Call::decode(call.path(), &[0xff]), Err(Malformed));
    }
}
