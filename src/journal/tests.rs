//! The journal against its promises.

#[path = "../../tests/gateway/support/chance.rs"]
mod chance;
#[path = "../../tests/gateway/support/figures.rs"]
mod figures;

mod bytes;
mod crash;
mod cursor;
mod damage;
mod disk;
mod groups;
mod interleavings;
mod model;
mod plain;
mod power;
mod room;
mod support;
