//! The broker is away for long: memory stays, the journal grows, all is delivered afterwards.
