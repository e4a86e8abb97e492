//! What the end-to-end tests are made of.

pub(crate) mod balance;
pub(crate) mod broker;
pub(crate) mod chance;
pub(crate) mod eventually;
pub(crate) mod figures;
pub(crate) mod gateway;
pub(crate) mod load;
pub(crate) mod proxy;
pub(crate) mod sender;
pub(crate) mod webhook;

mod selftest;
