//! Path to source: an exact match on the bytes of the path, so that nothing has to be decoded.

use std::collections::HashMap;
use std::sync::Arc;

use crate::pipeline::arrival::Head;
use crate::pipeline::handshake::Handshake;
use crate::reject::Reject;
use crate::source::Source;

/// Every source by its path, and by those of its handshakes that have their own. The cost of a look-up does not grow with their number.
#[derive(Debug)]
pub struct Routes(HashMap<String, Arc<Source>>);

impl Routes {
    /// Configuration has made sure that no two sources share a path.
    pub fn new(sources: &[Arc<Source>]) -> Self {
        let routes = sources.iter().flat_map(|source| {
            let own = source.handshakes.iter().filter_map(Handshake::path);
            let paths = std::iter::once(source.path.as_str()).chain(own);
            paths.map(|path| (path.to_owned(), Arc::clone(source)))
        });
        Self(routes.collect())
    }

    /// The source that a request is for.
    ///
    /// # Errors
    ///
    /// [`Reject::NoSuchPath`].
    pub fn find(&self, head: &Head) -> Result<&Arc<Source>, Reject> {
        self.0.get(&head.path).ok_or(Reject::NoSuchPath)
    }
}
