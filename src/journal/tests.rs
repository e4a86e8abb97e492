//! The journal against its promises.

mod bytes;
mod crash;
mod disk;
mod model;
mod plain;
mod room;
mod support;
