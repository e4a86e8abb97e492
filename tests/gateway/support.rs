//! What the end-to-end tests are made of.

pub(crate) mod arrivals;
pub(crate) mod balance;
pub(crate) mod broker;
pub(crate) mod capture;
pub(crate) mod chance;
pub(crate) mod cluster;
pub(crate) mod elsewhere;
pub(crate) mod eventually;
pub(crate) mod fake_broker;
pub(crate) mod figures;
pub(crate) mod frames;
pub(crate) mod gateway;
pub(crate) mod load;
pub(crate) mod namespace;
pub(crate) mod process;
pub(crate) mod proxy;
pub(crate) mod publishing;
pub(crate) mod sdk;
pub(crate) mod secrets;
pub(crate) mod sender;
pub(crate) mod steady;
pub(crate) mod storage;
pub(crate) mod usage;
pub(crate) mod webhook;

mod selftest;
