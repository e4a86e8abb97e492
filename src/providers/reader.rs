//! Reads a preset for tests, as the configuration does.

use crate::config::raw::RawSource;

pub(crate) fn read(text: &str) -> RawSource {
    crate::config::parse_provider(text).unwrap()
}
