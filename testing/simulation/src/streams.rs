//! Reads that follow: what the Delivery Service shows as it comes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use folkmoot_client::logic::{CallId, Input};
use folkmoot_client::transport::TransportError;
use folkmoot_delivery_service::{Progress, Reading};
use folkmoot_protocol::call::{Answer, Call};
use folkmoot_protocol::delivery::{ReadRequest, ReadResponses};

use crate::{PersonId, Sim, URL};

/// A read that follows.
pub(crate) struct Stream {
    pub who: PersonId,
    pub id: CallId,
    reading: Reading,
    pub woken: Arc<AtomicBool>,
    /// When it is to be asked again though nobody woke it.
    pub until: u64,
}

impl Sim {
    /// Breaks all streams, as a network does.
    pub fn cut_streams(&mut self) {
        for Stream { who, id, .. } in std::mem::take(&mut self.streams) {
            let (url, reason) = (URL.to_owned(), "cut".to_owned());
            let error = TransportError::Unreachable { url, reason };
            self.input(who, Input::Unanswered { id, error }).unwrap();
        }
    }

    /// How many streams are open.
    #[must_use]
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    /// A read that follows reaches the service.
    pub(crate) fn begin_stream(&mut self, who: PersonId, id: CallId, call: Call) {
        let Ok(Call::Read(request)) = Call::decode(call.path(), &call.encode()) else {
            panic!("a call is readable")
        };
        let woken = Arc::new(AtomicBool::new(true));
        let bell = woken.clone();
        let wake = move || bell.store(true, Ordering::Relaxed);
        match self.delivery.begin_read(request, self.now, wake) {
            Ok(reading) => self.streams.push(Stream {
                who,
                id,
                reading,
                woken,
                until: 0,
            }),
            Err(refusal) => {
                let result = Err(refusal);
                self.input(who, Input::Answer { id, result }).unwrap();
            }
        }
    }

    /// What comes next of a stream.
    pub(crate) fn stream_on(&mut self, at: usize) {
        let stream = &mut self.streams[at];
        let (who, id) = (stream.who, stream.id);
        stream.woken.store(false, Ordering::Relaxed);
        let progress = self.delivery.next_batch(&mut stream.reading, self.now);
        let batches = match progress {
            Ok(Progress::CaughtUp { until }) => {
                stream.until = until;
                return;
            }
            Ok(Progress::Batch(batch)) => {
                stream.until = 0;
                vec![batch]
            }
            Ok(Progress::Over) | Err(_) => Vec::new(),
        };
        let over = batches.is_empty();
        let call = Call::Read(ReadRequest::default());
        let mut result = Ok(Answer::Read(ReadResponses { batches }));
        if let (Some(twist), false) = (&mut self.twist, over) {
            twist(who, &call, &mut result);
        }
        let answer = result.map(|answer| {
            Answer::decode(call.path(), &answer.encode()).expect("an answer is readable")
        });
        let input = match answer {
            Ok(answer) if !over => Input::Part { id, answer },
            result => {
                self.streams.remove(at);
                Input::Answer { id, result }
            }
        };
        self.input(who, input).unwrap();
    }
}
