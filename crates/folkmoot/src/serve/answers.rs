//! Answers on their way out. Whoever asks for much and takes it slowly, or never, holds memory only
//! for a while, and all of them together only so much.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Response};
use folkmoot_protocol::Refusal;
use hyper::body::{Body as _, Frame, SizeHint};
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;
use tonic::Status;

use super::budget::Budgets;
use super::limits;

/// Bytes that are handed over at a time. They are copied, so that what is left behind of a large
/// answer does not keep all of it.
const PIECE: usize = 64 << 10;

/// When to come again, in milliseconds.
const RETRY: u64 = 1000;

/// A frame; `None` for the end, which is otherwise a break.
type Piece = Option<Frame<Bytes>>;

/// Hands an answer out as fast as it is taken, if it is not small. Tells `stalled` if it is not taken:
/// what is under way then goes with the connection alone.
pub(super) fn paced(
    answer: Response<Body>,
    budget: &Budgets,
    stalled: &Arc<Notify>,
) -> Response<Body> {
    paced_within(answer, budget, stalled, limits::STALLED)
}

fn paced_within(
    answer: Response<Body>,
    budget: &Budgets,
    stalled: &Arc<Notify>,
    patience: Duration,
) -> Response<Body> {
    answer.map(|body| {
        let most = body.size_hint().upper();
        if most.is_some_and(|most| most <= PIECE as u64) {
            return body;
        }
        let (pieces, paced) = mpsc::channel(1);
        let (budget, stalled) = (budget.clone(), stalled.clone());
        tokio::spawn(async move {
            if hand_out(body, pieces, budget, patience).await.is_err() {
                stalled.notify_one();
            }
        });
        Body::new(Paced(paced))
    })
}

/// Nobody has taken the next piece in time.
struct Stalled;

async fn hand_out(
    mut body: Body,
    pieces: mpsc::Sender<Piece>,
    budget: Budgets,
    patience: Duration,
) -> Result<(), Stalled> {
    loop {
        let frame = tokio::select! {
            frame = poll_fn(|context| Pin::new(&mut body).poll_frame(context)) => frame,
            () = pieces.closed() => return Ok(()),
        };
        let mut data = match frame.map(|frame| frame.map(Frame::into_data)) {
            Some(Ok(Ok(data))) => data,
            Some(Ok(Err(trailers))) => {
                send(&pieces, Some(trailers), patience).await?;
                continue;
            }
            Some(Err(_)) => return Ok(()),
            None => return send(&pieces, None, patience).await,
        };
        let share = budget.share();
        if !share.take(data.len()) {
            if let Some(trailers) = refusal() {
                send(&pieces, Some(trailers), patience).await?;
                send(&pieces, None, patience).await?;
            }
            return Ok(());
        }
        while !data.is_empty() {
            let piece = data.split_to(data.len().min(PIECE));
            let piece = Frame::data(Bytes::copy_from_slice(&piece));
            send(&pieces, Some(piece), patience).await?;
            if pieces.is_closed() {
                return Ok(());
            }
        }
    }
}

/// Hands a piece over, unless nobody is there any more.
async fn send(
    pieces: &mpsc::Sender<Piece>,
    piece: Piece,
    patience: Duration,
) -> Result<(), Stalled> {
    let sent = timeout(patience, pieces.send(piece)).await;
    sent.map(drop).map_err(|_| Stalled)
}

/// The end of an answer for which there is no memory.
fn refusal() -> Option<Frame<Bytes>> {
    let mut trailers = HeaderMap::new();
    let status = Status::from(Refusal::Busy(RETRY));
    status.add_header(&mut trailers).ok()?;
    Some(Frame::trailers(trailers))
}

/// An answer that holds on to something until it is over.
pub(super) struct Holding<T> {
    pub(super) body: Body,
    pub(super) _held: T,
}

impl<T: Unpin> hyper::body::Body for Holding<T> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The pieces of an answer.
struct Paced(mpsc::Receiver<Piece>);

impl hyper::body::Body for Paced {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.0.poll_recv(context).map(|piece| match piece {
            Some(Some(frame)) => Some(Ok(frame)),
            Some(None) => None,
            None => Some(Err(io::ErrorKind::BrokenPipe.into())),
        })
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::budget::Budget;

    /// Memory for one address, which is all.
    fn memory(bytes: usize) -> Budgets {
        Budgets([Budget::new(bytes), Budget::new(bytes)])
    }

    /// An answer whose size is not known before it is sent.
    struct Large(Vec<Bytes>);

    impl hyper::body::Body for Large {
        type Data = Bytes;
        type Error = io::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
            Poll::Ready(self.0.pop().map(|data| Ok(Frame::data(data))))
        }
    }

    fn answer(parts: &[usize]) -> Response<Body> {
        let parts = parts.iter().map(|size| Bytes::from(vec![7; *size]));
        Response::new(Body::new(Large(parts.collect())))
    }

    async fn next(body: &mut Body) -> Option<Result<Frame<Bytes>, axum::Error>> {
        poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await
    }

    #[tokio::test]
    async fn an_answer_comes_whole() {
        let (budget, stalled) = (memory(1 << 20), Arc::default());
        let mut body = paced(answer(&[1 << 20, 5, 300_000]), &budget, &stalled).into_body();
        let mut size = 0;
        while let Some(frame) = next(&mut body).await {
            let data = frame.unwrap().into_data().unwrap();
            assert!(data.len() <= PIECE && data.iter().all(|byte| *byte == 7));
            size += data.len();
        }
        assert_eq!(size, (1 << 20) + 5 + 300_000);
        assert!(budget.share().take(1 << 20), "all is given back");
    }

    #[tokio::test]
    async fn what_is_not_taken_is_let_go() {
        let (budget, stalled) = (memory(1 << 20), Arc::default());
        let patience = Duration::from_millis(50);
        let paced = |answer| paced_within(answer, &budget, &stalled, patience);
        let mut slow = paced(answer(&[1 << 20])).into_body();
        assert!(next(&mut slow).await.unwrap().is_ok());
        // While the first is under way, there is no memory for a second.
        let mut second = paced(answer(&[1 << 20])).into_body();
        let refused = next(&mut second).await.unwrap().unwrap();
        let refused = Status::from_header_map(refused.trailers_ref().unwrap()).unwrap();
        let expected = Some(Refusal::Busy(RETRY));
        assert_eq!(Refusal::from_bytes(refused.details()), expected);
        // Whoever does not read on loses the rest, and its memory.
        while !budget.share().take(1 << 20) {
            tokio::time::sleep(patience).await;
        }
        // With the connection goes what was already on its way.
        stalled.notified().await;
        assert!(next(&mut slow).await.unwrap().is_ok());
        assert!(next(&mut slow).await.unwrap().is_err());
    }
}
