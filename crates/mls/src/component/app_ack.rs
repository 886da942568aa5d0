//! Acknowledging application messages inside the transcript (draft-ietf-mls-extensions, section 6.1),
//! so that a delivery service that withholds some is found out.

use std::collections::BTreeSet;

use super::{ComponentContent, ComponentID};
use crate::tree_math::LeafIndex;

crate::tls_struct! {
    /// Messages of one sender whose generations follow each other, both ends included.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct MessageRange {
        /// Who sent them.
        pub sender: LeafIndex,
        /// The first.
        pub first_generation: u32,
        /// The last.
        pub last_generation: u32,
    }
}

crate::tls_struct! {
    /// What a member received in this epoch: the content of an
    /// [`AppEphemeral`](crate::proposal) proposal for [`ComponentID::APP_ACK`].
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct AppAck {
        /// The messages.
        pub received_ranges: Vec<MessageRange>,
    }
}

impl AppAck {
    /// Of messages that were received, each given by its sender and its generation, in any order.
    #[must_use]
    pub fn of(received: impl IntoIterator<Item = (LeafIndex, u32)>) -> Self {
        let received: BTreeSet<_> = received.into_iter().collect();
        let mut received_ranges: Vec<MessageRange> = Vec::new();
        for (sender, generation) in received {
            match received_ranges.last_mut() {
                Some(last)
                    if last.sender == sender
                        && last.last_generation.checked_add(1) == Some(generation) =>
                {
                    last.last_generation = generation;
                }
                _ => received_ranges.push(MessageRange {
                    sender,
                    first_generation: generation,
                    last_generation: generation,
                }),
            }
        }
        Self { received_ranges }
    }

    /// Whether a message is among them.
    #[must_use]
    pub fn contains(&self, sender: LeafIndex, generation: u32) -> bool {
        self.received_ranges.iter().any(|range| {
            range.sender == sender
                && (range.first_generation..=range.last_generation).contains(&generation)
        })
    }
}

impl ComponentContent for AppAck {
    const COMPONENT_ID: ComponentID = ComponentID::APP_ACK;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_as_long_as_they_can_be() {
        let (alice, bob) = (LeafIndex(0), LeafIndex(3));
        let ack = AppAck::of([
            (bob, 4),
            (alice, 1),
            (bob, 2),
            (alice, 0),
            (bob, 3),
            (bob, 3),
            (bob, u32::MAX),
            (alice, 2),
        ]);
        let ranges: Vec<_> = ack
            .received_ranges
            .iter()
            .map(|range| (range.sender, range.first_generation, range.last_generation))
            .collect();
        assert_eq!(
            ranges,
            [(alice, 0, 2), (bob, 2, 4), (bob, u32::MAX, u32::MAX)]
        );
        assert!(ack.contains(bob, 3));
        assert!(!ack.contains(bob, 5));
        assert!(!ack.contains(alice, 3));
        assert!(!ack.contains(LeafIndex(1), 1));
    }
}
