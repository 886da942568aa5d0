//! How much memory the requests under way, or the answers, may take together.
//!
//! A request is gathered before it is decoded, and the largest is tens of MiB, so a few hundred slow
//! senders could fill any machine. Bytes are counted as they arrive, until their request is
//! answered; a request that does not fit is told to come again.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use axum::body::Bytes;
use folkmoot_protocol::Refusal;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tonic::Status;

/// When to come again, in milliseconds.
const RETRY: u64 = 1000;

/// Memory for all requests, or all answers, together.
#[derive(Debug)]
pub(super) struct Budget {
    free: AtomicUsize,
}

/// What one request or answer has taken. It is given back when this is dropped.
#[derive(Debug)]
pub(super) struct Share {
    budget: Arc<Budget>,
    taken: AtomicUsize,
}

impl Budget {
    /// So many bytes.
    pub(super) fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            free: AtomicUsize::new(bytes),
        })
    }

    /// The share of a request or an answer, empty at first.
    pub(super) fn share(self: &Arc<Self>) -> Arc<Share> {
        Arc::new(Share {
            budget: self.clone(),
            taken: AtomicUsize::new(0),
        })
    }
}

impl Share {
    /// Takes so many bytes; `false`, and nothing is taken, if there are not as many.
    pub(super) fn take(&self, bytes: usize) -> bool {
        let left = |free: usize| free.checked_sub(bytes);
        let free = &self.budget.free;
        let fits = free
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, left)
            .is_ok();
        if fits {
            self.taken.fetch_add(bytes, Ordering::Relaxed);
        }
        fits
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let taken = *self.taken.get_mut();
        self.budget.free.fetch_add(taken, Ordering::Relaxed);
    }
}

/// A request's body, counted as it arrives.
pub(super) struct Counted {
    pub(super) body: Incoming,
    pub(super) share: Arc<Share>,
}

impl Body for Counted {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
            None => return Poll::Ready(None),
            Some(Err(_)) => return Poll::Ready(Some(Err(Status::cancelled("cut off")))),
            Some(Ok(frame)) => frame,
        };
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        Poll::Ready(Some(if self.share.take(bytes) {
            Ok(frame)
        } else {
            Err(Refusal::Busy(RETRY).into())
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_given_back() {
        let budget = Budget::new(10);
        let (first, second) = (budget.share(), budget.share());
        assert!(first.take(4) && first.take(3));
        assert!(!second.take(4));
        assert!(second.take(3));
        drop(first);
        assert!(second.take(7));
        assert!(!second.take(1));
        drop(second);
        assert_eq!(budget.free.load(Ordering::Relaxed), 10);
    }
}
