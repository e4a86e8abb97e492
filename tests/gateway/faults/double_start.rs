//! Two gateways never share a journal.
