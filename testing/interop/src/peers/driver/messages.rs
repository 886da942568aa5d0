//! Application messages: in order, out of order, and after their epoch.

use super::{Done, Driver, DriverError, Operation};
use crate::peers::dice::Dice;
use crate::peers::member::{Event, Peer};

/// How many epochs a message may come late.
const LATE: u64 = 2;

/// A message on its way.
pub(super) struct Late {
    message: Vec<u8>,
    event: Event,
    sender: String,
    signature_key: Vec<u8>,
    epoch: u64,
}

impl Driver<'_> {
    /// One member of each implementation sends, everybody reads.
    pub(super) fn exchange_messages(&mut self) -> Done {
        for peer in Peer::ALL {
            let names: Vec<String> = self
                .members()
                .into_iter()
                .filter(|name| self.peer(name) == peer)
                .collect();
            let Some(sender) = self.rng.pick(&names) else {
                continue;
            };
            let Late { message, event, .. } = self.send(&sender)?;
            for name in self.others(&sender) {
                self.read(&name, &message, "application data", &event)?;
                self.followed(&[Operation::Message], self.peer(&name));
            }
        }
        Ok(())
    }

    fn send(&mut self, sender: &str) -> Done<Late> {
        let (length, more) = (self.rng.below(200), self.rng.below(20));
        let (data, authenticated_data) = (self.rng.bytes(length), self.rng.bytes(more));
        let message = self.call(sender, |member| member.encrypt(&data, &authenticated_data))?;
        self.made(Operation::Message, self.peer(sender));
        Ok(Late {
            message,
            event: Event::Application {
                sender: self.leaf(sender),
                data,
                authenticated_data,
            },
            sender: sender.to_string(),
            signature_key: self.model.members[sender].clone(),
            epoch: self.model.epoch,
        })
    }

    /// Several messages of one sender, which each member gets in another order.
    pub(super) fn send_out_of_order(&mut self) -> Done {
        let sender = self.somebody();
        self.log
            .push(format!("{sender} sends four messages, read in any order"));
        let mut messages = Vec::new();
        for _ in 0..4 {
            messages.push(self.send(&sender)?);
        }
        self.made(Operation::MessageOutOfOrder, self.peer(&sender));
        for name in self.others(&sender) {
            self.rng.shuffle(&mut messages);
            for late in &messages {
                self.read(&name, &late.message, "application data", &late.event)?;
            }
            self.followed(&[Operation::MessageOutOfOrder], self.peer(&name));
        }
        Ok(())
    }

    /// A message that members get in a later epoch.
    pub(super) fn send_late(&mut self) -> Done {
        let sender = self.somebody();
        self.log.push(format!("{sender} sends what will be late"));
        let late = self.send(&sender)?;
        self.late.push(late);
        Ok(())
    }

    /// Delivers what is late, to those who were members then. What is too late is dropped.
    pub(super) fn deliver_late(&mut self) -> Done {
        let epoch = self.model.epoch;
        let (due, still): (Vec<_>, Vec<_>) = std::mem::take(&mut self.late)
            .into_iter()
            .partition(|late| late.epoch < epoch);
        self.late = still;
        for late in due {
            if late.epoch + LATE < epoch || self.closed {
                continue;
            }
            self.log.push(format!(
                "{}'s message of epoch {} arrives",
                late.sender, late.epoch
            ));
            let same_key = self.model.members.get(&late.sender) == Some(&late.signature_key);
            let readers: Vec<String> = self
                .clients
                .iter()
                .filter(|(name, client)| **name != late.sender && client.joined_at <= late.epoch)
                // mls-rs refuses it otherwise; see the departures.
                .filter(|(_, client)| same_key || client.member.peer() != Peer::MlsRs)
                .map(|(name, _)| name.clone())
                .collect();
            for name in readers {
                self.read(&name, &late.message, "application data", &late.event)?;
                self.followed(&[Operation::MessageOfPastEpoch], self.peer(&name));
            }
            if let Some(client) = self.clients.get(&late.sender) {
                self.made(Operation::MessageOfPastEpoch, client.member.peer());
            }
        }
        Ok(())
    }

    /// The same component's secret by everybody who can.
    pub(super) fn export_safely(&mut self) -> Done {
        let component = 0x8000 | u16::try_from(self.rng.below(0x7f00)).unwrap_or(0);
        let mut first: Option<(String, Vec<u8>)> = None;
        for name in self.members() {
            let peer = self.peer(&name);
            if !self.possible(Operation::SafeExport, peer) {
                continue;
            }
            let secret = self.call(&name, |member| member.safe_export(component))?;
            self.made(Operation::SafeExport, peer);
            let (other, others) = first.get_or_insert((name.clone(), secret.clone()));
            if *others != secret {
                return Err(DriverError::SafeExport {
                    name,
                    other: other.clone(),
                    component,
                });
            }
        }
        self.log
            .push(format!("component {component:#06x} is exported"));
        Ok(())
    }
}
