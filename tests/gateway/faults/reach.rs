//! A schema or a request never makes the gateway call an address.
