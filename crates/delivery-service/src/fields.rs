//! From the fields of a request to typed values. What has the wrong form is named in the refusal.

use folkmoot_mls::codec::Decode;
use folkmoot_protocol::ids::{EntryId, LogId, MailboxId, PageAddress, PickupAddress, StageId};
use folkmoot_protocol::keys::PublicKey;
use folkmoot_protocol::{Refusal, VERSION};

/// The refusal of a request whose field is not of the right form.
pub(crate) fn malformed(field: &str) -> Refusal {
    Refusal::Malformed(field.to_owned())
}

/// Refuses unless something holds for a field.
pub(crate) fn ensure(holds: bool, field: &str) -> Result<(), Refusal> {
    if holds { Ok(()) } else { Err(malformed(field)) }
}

/// Refuses what is larger than its limit.
pub(crate) fn bound(size: usize, limit: usize) -> Result<(), Refusal> {
    if size <= limit {
        Ok(())
    } else {
        Err(Refusal::TooLarge)
    }
}

/// A TLS-encoded statement that begins with this protocol's version.
pub(crate) fn statement<T: Decode>(bytes: &[u8], field: &str) -> Result<T, Refusal> {
    ensure(bytes.starts_with(&VERSION.to_be_bytes()), field)?;
    T::from_bytes(bytes).map_err(|_| malformed(field))
}

macro_rules! read {
    ($($name:ident: $type:ty;)*) => {$(
        pub(crate) fn $name(bytes: &[u8]) -> Result<$type, Refusal> {
            <$type>::read(bytes).ok_or_else(|| malformed(stringify!($name)))
        }
    )*};
}

read! {
    log: LogId;
    branch: EntryId;
    address: PickupAddress;
    mailbox: MailboxId;
    stage: StageId;
    page_address: PageAddress;
    owner_key: PublicKey;
}
