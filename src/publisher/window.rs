//! Events between the journal and their proof, and the contiguous prefix that has its proof.
//! Pure.
//!
//! Events are settled in any order; the cursor moves only over the settled prefix, so that a
//! restart repeats what is not proved and nothing before it.

use std::collections::VecDeque;

use crate::journal::Position;

/// What was taken from the journal from the first unsettled event on.
#[derive(Debug)]
pub(super) struct Window {
    /// By position, ascending. The first one is not settled. Positions may have gaps: a damaged
    /// segment that was set aside leaves one.
    slots: VecDeque<Slot>,
    /// One past the last event taken.
    end: Position,
    unsettled: usize,
    events_max: usize,
    bytes: usize,
    bytes_max: usize,
}

/// Most events behind one that is not settled. An event may have to wait for a while before it is
/// moved out of the way, and the others are not to wait with it. But all of them are published
/// again if the process ends before it is settled.
pub(super) const SLOTS_MAX: usize = 64 * 1024;

#[derive(Debug)]
struct Slot {
    position: Position,
    /// `None` once it is settled.
    bytes: Option<usize>,
}

impl Window {
    /// Begins at a cursor. Holds at most so many unsettled events, and so many bytes of them; one
    /// always fits, unless there are [`SLOTS_MAX`] events with the settled ones.
    pub(super) fn new(cursor: Position, events_max: usize, bytes_max: usize) -> Self {
        Self {
            slots: VecDeque::new(),
            end: cursor,
            unsettled: 0,
            events_max,
            bytes: 0,
            bytes_max,
        }
    }

    /// Whether another event may be taken.
    pub(super) fn has_room(&self) -> bool {
        self.unsettled == 0
            || (self.unsettled < self.events_max
                && self.slots.len() < SLOTS_MAX.max(self.events_max)
                && self.bytes < self.bytes_max)
    }

    /// Whether every event that was taken is settled.
    pub(super) fn is_empty(&self) -> bool {
        self.unsettled == 0
    }

    /// Takes the next event. False, and nothing changes, if it is one that was taken before.
    #[must_use]
    pub(super) fn take(&mut self, position: Position, bytes: usize) -> bool {
        if position < self.end {
            return false;
        }
        self.slots.push_back(Slot {
            position,
            bytes: Some(bytes),
        });
        self.unsettled += 1;
        self.bytes += bytes;
        self.end = Position(position.0.saturating_add(1));
        true
    }

    /// An event has its proof, or was set aside. Saying so twice does no harm.
    pub(super) fn settle(&mut self, position: Position) {
        let found = self
            .slots
            .binary_search_by_key(&position, |slot| slot.position);
        let slot = found.ok().and_then(|index| self.slots.get_mut(index));
        if let Some(bytes) = slot.and_then(|slot| slot.bytes.take()) {
            self.unsettled -= 1;
            self.bytes -= bytes;
        }
        while self.slots.front().is_some_and(|slot| slot.bytes.is_none()) {
            self.slots.pop_front();
        }
    }

    /// Events behind the first unsettled one that are settled.
    pub(super) fn settled(&self) -> usize {
        self.slots.len() - self.unsettled
    }

    /// Everything before this is settled.
    pub(super) fn cursor(&self) -> Position {
        self.slots.front().map_or(self.end, |slot| slot.position)
    }
}
