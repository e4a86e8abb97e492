//! The connection to the broker is cut, half-closed and stalled at random bytes under load.
