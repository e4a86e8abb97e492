//! The parts of the end-to-end tests that start a gateway and a broker, and speak TLS.

#[path = "../../tests/gateway/support/broker.rs"]
pub(crate) mod broker;
#[path = "../../tests/gateway/support/eventually.rs"]
pub(crate) mod eventually;
#[path = "../../tests/gateway/support/gateway.rs"]
pub(crate) mod gateway;
#[path = "../../tests/gateway/support/secrets.rs"]
pub(crate) mod secrets;
#[path = "../../tests/gateway/support/sender.rs"]
pub(crate) mod sender;
#[path = "../../tests/gateway/support/webhook.rs"]
pub(crate) mod webhook;
