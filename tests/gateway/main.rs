//! End-to-end tests: the real program, real TLS, a real RabbitMQ, and faults in between.
//!
//! One binary, so that support code is compiled once and one broker serves all tests that leave
//! it alone. Every test has its own gateway, directory, exchange and ports.

#[cfg(test)]
mod support;

#[cfg(test)]
mod batches;
#[cfg(test)]
mod broker_faults;
#[cfg(test)]
mod cli;
#[cfg(test)]
mod config;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod dependencies;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod fetched;
#[cfg(test)]
mod formats;
#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod guide;
#[cfg(test)]
mod handshakes;
#[cfg(test)]
mod operator;
#[cfg(test)]
mod path;
#[cfg(test)]
mod replay;
#[cfg(test)]
mod samples;
#[cfg(test)]
mod sdk;
#[cfg(test)]
mod senders;
#[cfg(test)]
mod shutdown;
#[cfg(test)]
mod slow_peers;
#[cfg(test)]
mod tidy;
#[cfg(test)]
mod timing;
#[cfg(test)]
mod tokens;
#[cfg(test)]
mod turned_away;
