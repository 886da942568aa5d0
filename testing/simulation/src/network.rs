//! The network: carries calls and answers, in order or not, late or never.

use std::sync::atomic::Ordering;

use folkmoot_client::logic::{CallId, Input};
use folkmoot_client::transport::{ServiceAddress, TransportError};
use folkmoot_protocol::call::Call;
use folkmoot_protocol::delivery::ReadRequest;
use rand_core::Rng;

use crate::streams::Stream;
use crate::{PersonId, Sim};

/// How long a call takes, in milliseconds.
const LATENCY: u64 = 10;

/// How long people wait for what comes by waiting, in milliseconds: the last rank's turn.
const PATIENCE: u64 = 62_000;

/// More calls than any scenario needs: a run that goes beyond goes round in circles.
const MOST_CALLS: usize = 20_000;

/// A call under way.
pub(crate) struct Flight {
    pub who: PersonId,
    pub id: CallId,
    pub to: ServiceAddress,
    pub call: Call,
}

impl Sim {
    /// Carries calls until none is under way and nobody waits for a time that comes soon.
    ///
    /// # Panics
    /// If it never ends.
    pub fn settle(&mut self) {
        let end = self.now + PATIENCE;
        loop {
            while self.deliver() {}
            match self.waits.pop_first() {
                Some((until, who)) if until <= end => {
                    self.now = self.now.max(until);
                    self.input(who, Input::Tick).unwrap();
                }
                _ => return,
            }
        }
    }

    /// Carries calls until the next one is an append, or none is under way.
    ///
    /// # Panics
    /// As [`Sim::deliver`].
    pub fn deliver_until_append(&mut self) {
        let is_append = |flight: &Flight| matches!(flight.call, Call::Append(_));
        while !self.flights.front().is_some_and(is_append) && self.deliver() {}
    }

    /// Carries one call. Returns whether there was one.
    ///
    /// # Panics
    /// If a step fails, or if it never ends.
    pub fn deliver(&mut self) -> bool {
        let awake =
            |stream: &Stream| stream.until <= self.now || stream.woken.load(Ordering::Relaxed);
        let stream = self.streams.iter().position(awake);
        if self.flights.is_empty() && stream.is_none() {
            return false;
        }
        self.calls += 1;
        assert!(self.calls < MOST_CALLS, "the run goes round in circles");
        if let Some(stream) = stream
            && (self.flights.is_empty() || self.rng.next_u32().is_multiple_of(2))
        {
            self.stream_on(stream);
            return true;
        }
        let at = if self.disorder {
            self.rng.next_u32() as usize % self.flights.len()
        } else {
            0
        };
        let Some(Flight {
            who,
            id,
            to,
            mut call,
        }) = self.flights.remove(at)
        else {
            return false;
        };
        self.now += LATENCY;
        if let Some(meddle) = &mut self.meddle {
            meddle(who, &mut call);
        }
        if let Call::Read(ReadRequest { follow: true, .. }) = call {
            self.begin_stream(who, id, call);
            return true;
        }
        let mut result = self.serve(&to, &call);
        if let Some(twist) = &mut self.twist {
            twist(who, &call, &mut result);
        }
        let lost = self.lose > 0 && self.rng.next_u32().is_multiple_of(self.lose);
        let input = if lost {
            let (url, reason) = (to.url, "lost".to_owned());
            Input::Unanswered {
                id,
                error: TransportError::Unreachable { url, reason },
            }
        } else {
            Input::Answer { id, result }
        };
        let step = self.input(who, input);
        assert!(self.tolerant || step.is_ok(), "{step:?}");
        if lost {
            let step = self.input(who, Input::Resume);
            assert!(self.tolerant || step.is_ok(), "{step:?}");
        }
        true
    }

    /// Carries so many calls.
    pub fn carry(&mut self, calls: usize) {
        for _ in 0..calls {
            self.deliver();
        }
    }

    /// Keeps a person's calls back.
    pub fn hold(&mut self, who: PersonId) {
        let flights = std::mem::take(&mut self.flights);
        let (held, rest): (Vec<_>, Vec<_>) =
            flights.into_iter().partition(|flight| flight.who == who);
        self.held.extend(held);
        self.flights = rest.into();
    }

    /// Lets the calls that were kept back go on.
    pub fn release(&mut self) {
        self.flights.extend(self.held.drain(..));
    }

    /// Lets the calls that were kept back reach the services; nobody hears the answers.
    pub fn release_unanswered(&mut self) {
        for flight in std::mem::take(&mut self.held) {
            let _ = self.serve(&flight.to, &flight.call);
        }
    }
}

impl Sim {
    /// Takes a person's next call off the way.
    pub fn next_call(&mut self, who: PersonId) -> Option<Call> {
        let at = self.flights.iter().position(|flight| flight.who == who)?;
        self.flights.remove(at).map(|flight| flight.call)
    }
}
