//! The only reader of system time.
//!
//! Everything below takes a [`Now`] as a value, so that a test, `hookgate explain --at` and the
//! running gateway decide by the same rules.

use jiff::Timestamp;
use tokio::time::Instant;

/// One moment, read when a head is whole (the monotonic one again when its body is): the wall clock for what people and signatures see, the
/// monotonic clock for limits and windows.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Wall clock, UTC.
    pub wall: Timestamp,
    /// Monotonic clock; never goes back.
    pub mono: Instant,
}

impl Now {
    /// Reads both clocks.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that reads the time"
    )]
    pub fn read() -> Self {
        Self {
            wall: Timestamp::now(),
            mono: Instant::now(),
        }
    }

    /// The same moment with another wall clock, for `explain --at`.
    pub fn at(wall: Timestamp) -> Self {
        Self {
            wall,
            mono: Instant::now(),
        }
    }
}
