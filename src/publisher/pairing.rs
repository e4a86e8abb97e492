//! Which confirm proves which event. Pure.
//!
//! The broker returns an unroutable message and then acknowledges it. lapin 4.12 keeps the
//! returned messages of a channel in one queue and hands the oldest to whichever confirm it
//! completes next, and completes the confirms of a "multiple" acknowledgement in the order of a
//! hash map. So an acknowledgement may come with another event's return, and an unroutable event
//! may come out as a plain acknowledgement. It is told apart by the message's own id:
//!
//! - A plain acknowledgement means that lapin's queue was empty, so the event's own return, if
//!   there was one, went to a confirm that was completed earlier. Once all confirms that are
//!   complete have been collected, that return is known.
//! - An acknowledgement with another event's return proves nothing: the own return may come later.

use std::collections::HashSet;

use uuid::Uuid;

use super::broker::Receipt;

/// Ids of returned messages whose own confirm has not been judged yet, of one channel.
#[derive(Debug, Default)]
pub(super) struct Pairing {
    returned: HashSet<Uuid>,
}

/// What a confirm says about its event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The broker has it.
    Safe,
    /// The broker refused it.
    Nacked,
    /// No queue took it.
    Returned,
    /// It cannot be told: publish it again.
    Unknown,
}

impl Pairing {
    /// Judges confirms. `round` must hold every confirm of the channel that is complete by now;
    /// the verdicts are in the same order.
    pub(super) fn judge(&mut self, round: &[(Uuid, Receipt)]) -> Vec<Verdict> {
        for (_, receipt) in round {
            if let Receipt::Ack(Some(returned)) | Receipt::Nack(Some(returned)) = receipt {
                self.returned.extend(returned.id);
            }
        }
        let verdict = |(id, receipt): &(Uuid, Receipt)| {
            let came_back = self.returned.remove(id);
            match receipt {
                Receipt::Nack(_) => Verdict::Nacked,
                Receipt::Ack(_) if came_back => Verdict::Returned,
                Receipt::Ack(None) => Verdict::Safe,
                Receipt::Ack(Some(_)) => Verdict::Unknown,
            }
        };
        round.iter().map(verdict).collect()
    }
}
