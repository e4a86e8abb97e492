//! What a connection has been doing, and when it has done too little: the deadlines that hyper
//! does not keep.
//!
//! hyper bounds the time of a head, but not of an idle HTTP/2 connection, of one that never sends
//! its preface, of a reader that never reads, nor of a peer that sends frames for ever without a
//! request among them. So everything that happens on a connection is noted here, and the
//! connection asks how long it may go on. There is no I/O and no clock here: moments come in as
//! values.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::config::Limits;

/// Longest life of a connection, so that after a deploy or a change of DNS every sender moves
/// within minutes. Each connection lives up to [`AGE_JITTER`] shorter, by lot.
pub const AGE_MAX: Duration = Duration::from_secs(600);
/// Spread of the ends of connections that began together.
pub const AGE_JITTER: Duration = Duration::from_secs(60);
/// Most requests on a connection, so that one that is busy moves as well.
pub const REQUESTS_MAX: u64 = 10_000;
/// A peer that takes no byte of an answer for so long will not take the rest either.
pub const WRITE_STALL_MAX: Duration = Duration::from_secs(10);
/// Bytes that may come without a request being completed, besides the bodies that are read: heads,
/// framing, and what HTTP/2 has buffered before anybody asked for it (its window is 1 MiB).
pub const OVERHEAD_BYTES_MAX: u64 = 2 * 1024 * 1024;
/// Framing that a body byte may cost. A chunk of one byte costs five more.
pub const OVERHEAD_PER_BODY_BYTE: u64 = 8;
/// HTTP/2 frames that may come without a request being completed, besides those of bodies. A
/// hundred heads, and a window update or two for each answer, are far below it; h2 itself answers
/// pings, settings and priorities for ever.
pub const FRAMES_MAX: u64 = 1_000;
/// The HTTP/2 preface and the header of the frame that must follow it (RFC 9113, section 3.4).
const PREFACE_BYTES: u64 = 24 + 9;

/// What is spoken on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// One request after the other.
    Http1,
    /// Many at once.
    Http2,
}

/// How long a connection may do what.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// To the end of a head, or of the HTTP/2 preface.
    pub header: Duration,
    /// Without a request.
    pub idle: Duration,
    /// With requests of which none begins or ends.
    pub request: Duration,
    /// From the beginning to a graceful end; over HTTP/1, to the answer that is the last.
    pub age: Duration,
    /// From a graceful end to a hard one.
    pub closing: Duration,
}

/// Why a connection must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// After the requests that it carries.
    Gracefully(&'static str),
    /// At once.
    Now(&'static str),
}

/// A connection's record.
#[derive(Debug)]
pub struct Activity {
    protocol: Protocol,
    patience: Patience,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    born: Instant,
    bytes: u64,
    /// When the head that is now coming began; `None` between requests and inside of one.
    head: Option<Instant>,
    /// Which one it is, over HTTP/2.
    head_number: u64,
    in_flight: usize,
    /// Requests that were begun.
    begun: u64,
    /// Whether an answer is being made or is on its way out. What HTTP/1 writes without it is
    /// hyper's own refusal of a head.
    answering: bool,
    /// The status of such a refusal, which was not sent.
    refusal: Option<u16>,
    /// When a request last began or ended.
    progress: Instant,
    /// Bytes since a request was last completed.
    unpaid: u64,
    /// Body bytes of them that somebody read.
    body: u64,
    /// HTTP/2 frames when a request was last completed, and now; those of bodies do not count.
    frames_paid: u64,
    frames: u64,
    /// Whether something that was sent was not read: the rest of a body.
    unread: bool,
    /// Since when the peer has taken nothing.
    write_blocked: Option<Instant>,
    /// Since when the connection has been ending gracefully.
    closing: Option<Instant>,
}

impl Patience {
    /// From the configured timeouts; `lot` between 0 and 1 decides about the age.
    pub fn new(limits: &Limits, lot: f64) -> Self {
        let request = limits.body_timeout + limits.accept_timeout + WRITE_STALL_MAX;
        Self {
            header: limits.header_timeout,
            idle: limits.idle_timeout,
            request,
            age: AGE_MAX - AGE_JITTER.mul_f64(lot.clamp(0.0, 1.0)),
            closing: limits.header_timeout + request,
        }
    }
}

impl Activity {
    /// A connection on which nothing has happened since `now`.
    pub fn new(protocol: Protocol, patience: Patience, now: Instant) -> Self {
        let state = State {
            born: now,
            bytes: 0,
            // The first head is due from the beginning, and so is the preface.
            head: Some(now),
            head_number: 0,
            in_flight: 0,
            begun: 0,
            answering: false,
            refusal: None,
            progress: now,
            unpaid: 0,
            body: 0,
            frames_paid: 0,
            frames: 0,
            unread: false,
            write_blocked: None,
            closing: None,
        };
        Self {
            protocol,
            patience,
            state: Mutex::new(state),
        }
    }

    /// What is spoken.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Bytes came.
    ///
    /// # Errors
    ///
    /// Too many of them, without a request.
    pub fn read(&self, bytes: usize, now: Instant) -> Result<(), Flood> {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let mut state = self.lock();
        state.bytes = state.bytes.saturating_add(bytes);
        state.unpaid = state.unpaid.saturating_add(bytes);
        match self.protocol {
            Protocol::Http1 if state.in_flight == 0 => {
                state.head.get_or_insert(now);
            }
            Protocol::Http1 | Protocol::Http2 => {}
        }
        let room = OVERHEAD_BYTES_MAX + state.body.saturating_mul(OVERHEAD_PER_BODY_BYTE);
        if state.unpaid > room {
            return Err(Flood);
        }
        Ok(())
    }

    /// What of HTTP/2 has come so far: so many frames, and the number of the head that is
    /// on its way.
    ///
    /// # Errors
    ///
    /// Too many of them, without a request.
    pub fn framed(&self, frames: u64, owed_head: Option<u64>, now: Instant) -> Result<(), Flood> {
        let mut state = self.lock();
        match owed_head {
            Some(number) if state.head.is_some() && state.head_number == number => {}
            Some(number) => (state.head, state.head_number) = (Some(now), number),
            None if state.bytes >= PREFACE_BYTES => state.head = None,
            None => {}
        }
        state.frames = frames;
        if frames.saturating_sub(state.frames_paid) > FRAMES_MAX {
            return Err(Flood);
        }
        Ok(())
    }

    /// Somebody read bytes of a body.
    pub fn body_read(&self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let mut state = self.lock();
        state.body = state.body.saturating_add(bytes);
    }

    /// A head is whole.
    pub fn begin(&self, now: Instant) {
        let mut state = self.lock();
        state.in_flight += 1;
        state.begun += 1;
        state.answering = true;
        if self.protocol == Protocol::Http1 {
            state.head = None;
        }
        state.progress = now;
    }

    /// A request was answered, or given up. `whole` says whether all of its body was read.
    pub fn end(&self, now: Instant, whole: bool) {
        let mut state = self.lock();
        state.unread |= !whole;
        state.in_flight = state.in_flight.saturating_sub(1);
        state.progress = now;
        state.unpaid = 0;
        state.body = 0;
        state.frames_paid = state.frames;
    }

    /// Whether a body was left unread.
    pub fn left_unread(&self) -> bool {
        self.lock().unread
    }

    /// Everything that was written is on its way.
    pub fn flushed(&self) {
        let mut state = self.lock();
        if state.in_flight == 0 {
            state.answering = false;
        }
    }

    /// Whether what is written now is no answer to a request.
    pub fn unasked(&self) -> bool {
        self.protocol == Protocol::Http1 && !self.lock().answering
    }

    /// hyper refused a head with this status, and it was not sent.
    pub fn refused(&self, status: u16) {
        self.lock().refusal = Some(status);
    }

    /// The status of a refusal that was not sent.
    pub fn refusal(&self) -> Option<u16> {
        self.lock().refusal
    }

    /// The peer does not take what is written to it.
    pub fn write_blocked(&self, now: Instant) {
        self.lock().write_blocked.get_or_insert(now);
    }

    /// The peer took something.
    pub fn write_moved(&self) {
        self.lock().write_blocked = None;
    }

    /// A graceful end was begun.
    pub fn closing(&self, now: Instant) {
        self.lock().closing.get_or_insert(now);
    }

    /// Whether the answer to an HTTP/1 request must say that it is the connection's last, since
    /// that is old or has had its requests.
    ///
    /// To end between two requests instead would lose one that is already on its way. HTTP/2 has
    /// GOAWAY for it (RFC 9113, section 6.8), and is ended by [`Self::check`].
    pub fn is_last_answer(&self, now: Instant) -> bool {
        self.protocol == Protocol::Http1 && self.has_lived(&self.lock(), now)
    }

    fn has_lived(&self, state: &State, now: Instant) -> bool {
        state.begun >= REQUESTS_MAX || now >= state.born + self.patience.age
    }

    /// Until when the connection may go on without asking again.
    ///
    /// # Errors
    ///
    /// It must end now, and why.
    pub fn check(&self, now: Instant) -> Result<Instant, Ending> {
        let state = self.lock();
        let patience = &self.patience;
        let mut until = match state.closing {
            Some(since) => due(since + patience.closing, now, Ending::Now("does not close"))?,
            None if self.protocol == Protocol::Http1 => now + patience.idle,
            None if self.has_lived(&state, now) => {
                return Err(Ending::Gracefully("has lived"));
            }
            None => state.born + patience.age,
        };
        if let Some(since) = state.write_blocked {
            let stalled = Ending::Now("does not read");
            until = until.min(due(since + WRITE_STALL_MAX, now, stalled)?);
        }
        if let Some(began) = state.head {
            let slow = Ending::Now("head too slow");
            until = until.min(due(began + patience.header, now, slow)?);
        }
        if state.in_flight > 0 {
            let stuck = Ending::Now("does not get on");
            until = until.min(due(state.progress + patience.request, now, stuck)?);
            // Requests end without asking here. Looking again within `idle` is early enough for
            // the idle time that begins then.
            until = until.min(now + patience.idle);
        } else if state.head.is_none() && state.closing.is_none() {
            let idle = Ending::Gracefully("idle");
            until = until.min(due(state.progress + patience.idle, now, idle)?);
        }
        Ok(until)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under this lock can panic half way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// More bytes or frames than any request needs, and none was completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too much without a request")]
pub struct Flood;

fn due(deadline: Instant, now: Instant, ending: Ending) -> Result<Instant, Ending> {
    if deadline <= now {
        Err(ending)
    } else {
        Ok(deadline)
    }
}

#[cfg(test)]
mod tests;
