//! Faults, attacks and hostile peers, with the counts that the promises name.
//!
//! Each test writes the row of `deploy/reliability.md` that it shows, see `support::figures`.
//! `RELEASE=1` runs them with the counts for a release.

mod alarm;
mod canaries;
mod cluster;
mod cuts;
mod descriptors;
mod disk;
mod double_start;
mod fake_broker;
mod injection;
mod json;
mod kills;
mod lines;
mod outage;
mod poison;
mod proofs;
mod proxied;
mod reach;
mod repeats;
mod smuggling;
mod soak;
mod tls;
