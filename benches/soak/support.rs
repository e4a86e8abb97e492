//! The parts of the end-to-end tests that start gateways and a broker, stand between them, and
//! speak TLS.

#[path = "../../tests/gateway/support/balance.rs"]
pub(crate) mod balance;
#[path = "../../tests/gateway/support/broker.rs"]
pub(crate) mod broker;
#[path = "../../tests/gateway/support/chance.rs"]
pub(crate) mod chance;
#[path = "../../tests/gateway/support/eventually.rs"]
pub(crate) mod eventually;
#[path = "../../tests/gateway/support/figures.rs"]
pub(crate) mod figures;
#[path = "../../tests/gateway/support/gateway.rs"]
pub(crate) mod gateway;
#[path = "../../tests/gateway/support/proxy.rs"]
pub(crate) mod proxy;
#[path = "../../tests/gateway/support/secrets.rs"]
pub(crate) mod secrets;
#[path = "../../tests/gateway/support/sender.rs"]
pub(crate) mod sender;
#[path = "../../tests/gateway/support/webhook.rs"]
pub(crate) mod webhook;
