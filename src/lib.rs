//! hookgate: an inbound webhook gateway. This page is the map of the code.
//!
//! # The way of a webhook
//!
//! ```text
//! socket -> edge        accept, PROXY header, TLS, HTTP/1.1 or HTTP/2 by ALPN, request gate
//!        -> pipeline    route -> address, per-peer limit -> body -> handshake -> verify
//!                       -> source limit -> decode -> split -> schema -> dedupe
//!                       what a proof needs from elsewhere is fetched just before it
//!        -> journal     append, one sync for all that wait      (ack = "broker": the publisher)
//!        -> edge/reply  2xx
//! journal -> publisher  pipelined publishes with confirms -> RabbitMQ
//!         -> cursor     moves over the confirmed prefix; old segments go
//! ```
//!
//! The modules below are declared in that order: read them from top to bottom and you follow a
//! webhook from socket to broker. `pipeline.rs` tells the whole decision on one screen.
//!
//! # What is never there
//!
//! The design is held by absences; `tests/gateway/tidy.rs` makes sure of them.
//!
//! - The pipeline and what is below it import no hyper, no lapin, no sockets.
//! - The journal knows neither webhooks nor sources nor brokers: it stores bytes at positions.
//! - The edge and the publisher do not know each other. They meet at the journal or, for
//!   `ack = "broker"`, at the small trait in `pipeline/store.rs`.
//! - Nothing but `clock.rs` reads the time; nothing but `journal/disk.rs` opens a file of the
//!   journal, and nothing but `enrolled.rs` one of secrets that came in handshakes; nothing but `edge/reply.rs` writes the status of an answer to a webhook.
//! - There is no unbounded channel, no body read without a cap, no task without an owner.
//!
//! # What holds it together
//!
//! Progress is a change of type: `Arrival`, `Inbound`, `Verified`, `Document`, `Delivery`, and what
//! must not be skipped is the only constructor of what comes next. What the user wrote
//! (`config/raw.rs`) and what the program needs ([`config::Config`], [`source::Source`]) are two
//! types, and the second cannot be wrong. [`reject::Reject`] answers for status, label and log
//! level of every way to be turned away. Built-in providers are data (`providers/NAME.toml`), in
//! the words that a user has for a source of their own.

pub mod cli;

pub mod config;
pub mod providers;
pub mod secret;
pub mod source;

pub mod app;
pub mod shutdown;

pub mod edge;
pub mod pipeline;
pub mod reject;
pub mod delivery;
pub mod journal;
pub mod enrolled;
pub mod last_used;
pub mod publisher;
pub mod fetch;
pub mod authorities;

pub mod admin;
pub mod watch;
pub mod metrics;
pub mod telemetry;
pub mod clock;

pub mod explain;
pub mod sample;
pub mod client;

#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
