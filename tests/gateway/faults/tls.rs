//! What the TLS side takes and refuses; certificates of clients; new certificates under load.
