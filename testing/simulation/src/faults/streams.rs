//! Reads that follow, in a world where things go wrong. What a stream carries comes in order; it breaks
//! at any point, and with it whatever is under way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use folkmoot_client::logic::{CallId, Input};
use folkmoot_client::transport::TransportError;
use folkmoot_delivery_service::{Progress, Reading};
use folkmoot_protocol::call::{Answer, Call};
use folkmoot_protocol::delivery::{ReadRequest, ReadResponses};

use super::Violation;
use super::network::{DELIVERY, Letter, Packet, Process, World};
use super::people::SPAN;

/// A read that follows.
pub(super) struct Stream {
    of: Process,
    id: CallId,
    reading: Reading,
    woken: Arc<AtomicBool>,
    /// When it is to be asked again though nobody woke it.
    until: u64,
    /// When what it carried last arrives.
    last: u64,
}

impl World {
    /// A read that follows reaches the Delivery Service.
    pub(super) fn begin_stream(&mut self, letter: Letter) {
        let Letter { of, id, call, .. } = letter;
        let Ok(Call::Read(request)) = Call::decode(call.path(), &call.encode()) else {
            return;
        };
        self.open.remove(&(of, id));
        let woken = Arc::new(AtomicBool::new(true));
        let bell = woken.clone();
        let wake = move || bell.store(true, Ordering::Relaxed);
        let now = self.sim.now;
        match self.sim.delivery.begin_read(request, now, wake) {
            Ok(reading) => {
                self.say(|| format!("{of} follows"));
                self.streams.push(Stream {
                    of,
                    id,
                    reading,
                    woken,
                    until: 0,
                    last: now,
                });
            }
            Err(refusal) => {
                let (delay, result) = (self.delay(), Err(refusal));
                self.later(delay, Packet::Answer { of, id, result });
            }
        }
    }

    /// Carries on whatever there is to be carried on all streams.
    pub(super) fn pump(&mut self) -> Result<(), Violation> {
        let mut at = 0;
        while at < self.streams.len() {
            let stream = &self.streams[at];
            let awake = stream.woken.swap(false, Ordering::Relaxed);
            let sleeps = !awake && stream.until > self.sim.now;
            if sleeps || self.carry_on(at)? {
                at += 1;
            } else {
                self.streams.swap_remove(at);
            }
        }
        Ok(())
    }

    /// What is new on a stream. Returns whether the stream goes on.
    fn carry_on(&mut self, at: usize) -> Result<bool, Violation> {
        loop {
            let now = self.sim.now;
            let stream = &mut self.streams[at];
            let (of, id) = (stream.of, stream.id);
            let progress = self.sim.delivery.next_batch(&mut stream.reading, now);
            let breaks = self.is_cut_off(of.who, DELIVERY) || self.one_in(30);
            let delay = self.delay();
            let stream = &mut self.streams[at];
            stream.last = stream.last.max(now + delay);
            let delay = stream.last - now;
            let call = Call::Read(ReadRequest::default());
            match progress {
                Ok(Progress::Batch(batch)) => {
                    let batches = vec![batch];
                    let answer = Answer::Read(ReadResponses { batches });
                    let Ok(answer) = Answer::decode(call.path(), &answer.encode()) else {
                        return super::broken(super::Rule::Honest, "a part cannot be read");
                    };
                    let result = Ok(answer.clone());
                    self.observer.answered(of.who, &call, &result)?;
                    if breaks {
                        self.later(delay, Packet::Broken { of, id });
                        return Ok(false);
                    }
                    self.counts.followed += 1;
                    self.later(delay, Packet::Part { of, id, answer });
                }
                Ok(Progress::CaughtUp { until }) => {
                    self.streams[at].until = until;
                    // A stream that nobody writes to for long shows nothing new any more.
                    if !self.healed && now < crate::BEGINNING + 3 * SPAN {
                        self.later(until.saturating_sub(now), Packet::Pump);
                    }
                    return Ok(true);
                }
                Ok(Progress::Over) => {
                    let result = Ok(Answer::Read(ReadResponses::default()));
                    self.later(delay, Packet::Answer { of, id, result });
                    return Ok(false);
                }
                Err(_) => {
                    self.later(delay, Packet::Broken { of, id });
                    return Ok(false);
                }
            }
        }
    }

    /// All streams of the Delivery Service break.
    pub(super) fn break_streams(&mut self) {
        for stream in std::mem::take(&mut self.streams) {
            let (of, id) = (stream.of, stream.id);
            let delay = stream.last.saturating_sub(self.sim.now) + 10;
            self.later(delay, Packet::Broken { of, id });
        }
    }

    /// Nobody listens to some streams any more.
    pub(super) fn drop_streams(&mut self, gone: impl Fn(Process, CallId) -> bool) {
        self.streams.retain(|stream| !gone(stream.of, stream.id));
    }

    /// A device learns that its stream is broken.
    pub(super) fn stream_broken(&mut self, of: Process, id: CallId) -> Result<(), Violation> {
        let (url, reason) = (crate::URL.to_owned(), "cut".to_owned());
        let error = TransportError::Unreachable { url, reason };
        self.step(of, Input::Unanswered { id, error })
    }
}
