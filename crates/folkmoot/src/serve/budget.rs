//! How much memory the requests under way, or the answers, may take together.
//!
//! A request is gathered before it is decoded, and the largest is tens of MiB, so a few hundred slow
//! senders could fill any machine. Bytes are counted as they arrive, until their request is
//! answered; a request that does not fit is told to come again. A body must keep a pace, too: whoever
//! sends it byte by byte holds its place only for a while.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Bytes;
use folkmoot_protocol::Refusal;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::Status;

use super::limits;

/// When to come again, in milliseconds.
const RETRY: u64 = 1000;

/// Memory for all requests, or all answers, together.
#[derive(Debug)]
pub(super) struct Budget {
    free: AtomicUsize,
}

/// What one request or answer has taken of its address's budget and of that of all. It is given back
/// when this is dropped.
#[derive(Debug)]
pub(super) struct Share {
    budgets: [Arc<Budget>; 2],
    taken: AtomicUsize,
}

impl Budget {
    /// So many bytes.
    pub(super) fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            free: AtomicUsize::new(bytes),
        })
    }

    /// So many bytes of it; `false`, and nothing is taken, if there are not as many.
    fn take(&self, bytes: usize) -> bool {
        let left = |free: usize| free.checked_sub(bytes);
        self.free
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, left)
            .is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.free.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// The budget of an address and that of all.
#[derive(Clone, Debug)]
pub(super) struct Budgets(pub(super) [Arc<Budget>; 2]);

impl Budgets {
    /// The share of a request or an answer, empty at first.
    pub(super) fn share(&self) -> Arc<Share> {
        Arc::new(Share {
            budgets: self.0.clone(),
            taken: AtomicUsize::new(0),
        })
    }
}

impl Share {
    /// Takes so many bytes; `false`, and nothing is taken, if there are not as many.
    pub(super) fn take(&self, bytes: usize) -> bool {
        let [own, all] = &self.budgets;
        if !own.take(bytes) {
            return false;
        }
        if !all.take(bytes) {
            own.give_back(bytes);
            return false;
        }
        self.taken.fetch_add(bytes, Ordering::Relaxed);
        true
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let taken = *self.taken.get_mut();
        self.budgets
            .iter()
            .for_each(|budget| budget.give_back(taken));
    }
}

/// A request's body, counted as it arrives.
pub(super) struct Counted {
    body: Incoming,
    most: u64,
    share: Arc<Share>,
    pace: Pace,
}

/// When the next bytes of a body are due.
struct Pace {
    began: Instant,
    received: u64,
    due: Pin<Box<Sleep>>,
}

impl Counted {
    /// A body of at most so many bytes.
    pub(super) fn new(body: Incoming, most: u64, share: Arc<Share>) -> Self {
        let began = Instant::now();
        let pace = Pace {
            began,
            received: 0,
            due: Box::pin(sleep_until(began + limits::BODY)),
        };
        Self {
            body,
            most,
            share,
            pace,
        }
    }
}

impl Pace {
    fn received(&mut self, bytes: usize) {
        self.received += bytes as u64;
        let earned = Duration::from_secs(self.received / limits::SLOWEST);
        self.due.as_mut().reset(self.began + limits::BODY + earned);
    }
}

impl Body for Counted {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if polled.is_pending() && self.pace.due.as_mut().poll(context).is_ready() {
            return Poll::Ready(Some(Err(Refusal::TooSlow.into())));
        }
        let frame = match ready!(polled) {
            None => return Poll::Ready(None),
            Some(Err(_)) => return Poll::Ready(Some(Err(Status::cancelled("cut off")))),
            Some(Ok(frame)) => frame,
        };
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        self.pace.received(bytes);
        if self.pace.received > self.most {
            return Poll::Ready(Some(Err(Refusal::TooLarge.into())));
        }
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
        let [own, all] = [Budget::new(8), Budget::new(10)];
        let budgets = Budgets([own.clone(), all.clone()]);
        let others = Budgets([Budget::new(8), all.clone()]);
        let (first, second, third) = (budgets.share(), budgets.share(), others.share());
        assert!(first.take(4) && first.take(3));
        // The address has no more, others have.
        assert!(!second.take(2));
        assert!(third.take(2));
        // All together have no more, so nothing is taken of the address's either.
        assert!(second.take(1) && !third.take(1));
        drop(first);
        assert!(third.take(6) && !second.take(2));
        drop(third);
        assert!(second.take(7));
        drop(second);
        let free = |budget: &Budget| budget.free.load(Ordering::Relaxed);
        assert_eq!((free(&own), free(&all)), (8, 10));
    }
}
