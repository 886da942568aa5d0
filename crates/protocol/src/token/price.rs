//! What a call costs. Client and DS compute it alike, each from the request itself: a token is
//! spent by recording the hash of the request that it pays for, so that the same request can be
//! repeated, and no other is paid for by it.

use folkmoot_mls::codec::{Bytes, Decode, Encode};
use folkmoot_mls::tls_struct;

use super::TokenPurpose;
use crate::VERSION;
use crate::call::Call;
use crate::delivery::{
    AppendRequest, AppendStagedRequest, CreateBlobRequest, CreateMailboxRequest, OpenRequest,
    Payment, TakeRequest,
};
use crate::keys::hash;
use crate::log::Append;

/// Mailboxes that one token takes packages from.
pub const MAILBOXES_PER_TOKEN: usize = 64;

/// Bytes of a blob that one token makes room for.
pub const BYTES_PER_TOKEN: u64 = 64 << 20;

/// The most tokens that one call costs: those of the largest take.
pub const MOST_TOKENS: usize = crate::limits::MAILBOXES_PER_TAKE.div_ceil(MAILBOXES_PER_TOKEN);

/// What a request costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Price {
    /// What its tokens have to be for.
    pub purpose: TokenPurpose,
    /// How many.
    pub tokens: usize,
    /// The hash of what is paid for: all that makes this request another than the next, and nothing
    /// that changes when it is repeated.
    pub request: [u8; 32],
}

tls_struct! {
    struct PaidRequest {
        version: u16,
        purpose: TokenPurpose,
        subject: Bytes,
    }
}

impl Price {
    /// The price of what `subject` describes.
    #[must_use]
    pub fn of(purpose: TokenPurpose, tokens: usize, subject: &[u8]) -> Self {
        let request = PaidRequest {
            version: VERSION,
            purpose,
            subject: subject.into(),
        };
        Self {
            purpose,
            tokens,
            request: hash("paid request", &request),
        }
    }
}

/// A request that is paid for.
pub trait Priced {
    /// What it costs.
    fn price(&self) -> Price;

    /// What is given for it.
    fn payment(&mut self) -> &mut Option<Payment>;
}

impl Priced for OpenRequest {
    fn price(&self) -> Price {
        Price::of(TokenPurpose::OpenLog, 1, &self.open)
    }

    fn payment(&mut self) -> &mut Option<Payment> {
        &mut self.payment
    }
}

impl Priced for CreateMailboxRequest {
    fn price(&self) -> Price {
        Price::of(TokenPurpose::CreateMailbox, 1, &self.owner_key)
    }

    fn payment(&mut self) -> &mut Option<Payment> {
        &mut self.payment
    }
}

impl Priced for TakeRequest {
    fn price(&self) -> Price {
        let lane = self.lane.unwrap_or_default();
        let mailboxes = self.mailboxes.iter();
        let mailboxes: Vec<Bytes> = mailboxes.map(|id| id.as_slice().into()).collect();
        let id = Bytes::from(self.request_id.as_slice());
        let subject = (id, ((lane.version, lane.cipher_suite), mailboxes));
        let tokens = self.mailboxes.len().div_ceil(MAILBOXES_PER_TOKEN).max(1);
        Price::of(TokenPurpose::TakePackages, tokens, &subject.to_bytes())
    }

    fn payment(&mut self) -> &mut Option<Payment> {
        &mut self.payment
    }
}

/// Of appends only contests are paid for, and the commits that follow one.
impl Priced for AppendRequest {
    fn price(&self) -> Price {
        Price::of(TokenPurpose::Contest, 1, &self.append)
    }

    fn payment(&mut self) -> &mut Option<Payment> {
        &mut self.payment
    }
}

/// What is staged is named by its hash. Whether it costs anything only its contents say: who offers it
/// knows, and gives a payment then.
impl Priced for AppendStagedRequest {
    fn price(&self) -> Price {
        let [log, stage] = [&self.log, &self.stage].map(|id| Bytes::from(id.as_slice()));
        Price::of(TokenPurpose::Contest, 1, &(log, stage).to_bytes())
    }

    fn payment(&mut self) -> &mut Option<Payment> {
        &mut self.payment
    }
}

impl Priced for CreateBlobRequest {
    fn price(&self) -> Price {
        let [blob, write] = [&self.blob, &self.write_hash].map(|id| Bytes::from(id.as_slice()));
        let tokens = usize::try_from(self.size.div_ceil(BYTES_PER_TOKEN)).unwrap_or(MOST_TOKENS);
        let subject = ((blob, write), self.size);
        let tokens = tokens.clamp(1, MOST_TOKENS);
        Price::of(TokenPurpose::Blob, tokens, &subject.to_bytes())
    }

    fn payment(&mut self) -> &mut Option<Payment> {
        &mut self.payment
    }
}

/// Whether an append is one that is paid for ([`Append::is_paid`]).
#[must_use]
pub fn is_paid(request: &AppendRequest) -> bool {
    Append::from_bytes(&request.append).is_ok_and(|append| append.is_paid())
}

impl Call {
    /// The request inside, if it is one that is paid for.
    #[must_use]
    pub fn priced(&mut self) -> Option<&mut dyn Priced> {
        match self {
            Self::Open(request) => Some(request),
            Self::CreateMailbox(request) => Some(request),
            Self::Take(request) => Some(request),
            Self::Append(request) if is_paid(request) => Some(request),
            Self::AppendStaged(request) if request.payment.is_some() => Some(request),
            Self::CreateBlob(request) => Some(request),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeat_has_the_same_price_and_another_request_another() {
        let create = CreateMailboxRequest {
            owner_key: vec![1; 32],
            nonce: vec![2; 32],
            ..Default::default()
        };
        let mut again = create.clone();
        again.nonce = vec![3; 32];
        again.payment = Some(Payment::default());
        assert_eq!(again.price(), create.price());
        again.owner_key[0] = 2;
        assert_ne!(again.price().request, create.price().request);

        let take = TakeRequest {
            request_id: vec![1; 32],
            mailboxes: vec![vec![2; 32]],
            ..Default::default()
        };
        let mut other = take.clone();
        other.request_id[0] = 2;
        assert_ne!(other.price().request, take.price().request);
        let mut other = take.clone();
        other.mailboxes.push(vec![3; 32]);
        assert_ne!(other.price().request, take.price().request);
        // Where a mailbox ends is part of it.
        other.mailboxes = vec![vec![2; 31], vec![2]];
        assert_ne!(other.price().request, take.price().request);
    }

    #[test]
    fn a_blob_is_paid_for_by_its_size() {
        let create = |size| CreateBlobRequest {
            blob: vec![1; 32],
            write_hash: vec![2; 32],
            size,
            ..Default::default()
        };
        let sizes = [0, 1, BYTES_PER_TOKEN, BYTES_PER_TOKEN + 1, u64::MAX];
        let tokens = sizes.map(|size| create(size).price().tokens);
        assert_eq!(tokens, [1, 1, 1, 2, MOST_TOKENS]);
        assert!(create(crate::limits::BLOB).price().tokens <= MOST_TOKENS);
        let price = create(5).price();
        assert_ne!(create(6).price().request, price.request);
        let mut other = create(5);
        other.write_hash[0] = 3;
        assert_ne!(other.price().request, price.request);
        // For how long it is to be kept costs nothing.
        let mut longer = create(5);
        longer.keep_seconds = 7;
        assert_eq!(longer.price(), price);
    }

    #[test]
    fn one_token_takes_from_64_mailboxes() {
        let tokens = |mailboxes| {
            let take = TakeRequest {
                mailboxes: vec![vec![1; 32]; mailboxes],
                ..Default::default()
            };
            take.price().tokens
        };
        assert_eq!([0, 1, 64, 65, 128, 1000].map(tokens), [1, 1, 1, 2, 2, 16]);
        assert_eq!(MOST_TOKENS, 16);
    }
}
