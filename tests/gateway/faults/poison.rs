//! Events that no broker takes, among thousands that it does.
