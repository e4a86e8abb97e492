//! What the gateway would fetch, from a folder instead: a file for each URL, called like the last
//! part of its path.

use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::pipeline::evidence::{Document, Errand, Fetching, Unfetched};

/// Saved certificates, keys and key sets.
#[derive(Clone, Debug)]
pub struct Folder(pub PathBuf);

impl Folder {
    fn read(&self, errand: &Errand) -> Result<Document, Unfetched> {
        let name = errand.target.path().rsplit('/').next().unwrap_or_default();
        if name.is_empty() || name.starts_with('.') {
            return Err(Unfetched::Offline);
        }
        let file = self.0.join(name);
        let missing = |error: std::io::Error| {
            Unfetched::Unreachable(format!("{} cannot be read: {error}", file.display()))
        };
        let most = u64::try_from(errand.bytes_max).unwrap_or(u64::MAX);
        let mut body = Vec::new();
        let opened = File::open(&file).map_err(missing)?;
        opened
            .take(most.saturating_add(1))
            .read_to_end(&mut body)
            .map_err(missing)?;
        if body.len() > errand.bytes_max {
            return Err(Unfetched::TooLarge(errand.bytes_max));
        }
        Ok(Document {
            body: Bytes::from(body),
            max_age: None,
        })
    }
}

impl Fetching for Folder {
    fn fetch(&self, errand: Errand) -> BoxFuture<'static, Result<Document, Unfetched>> {
        Box::pin(std::future::ready(self.read(&errand)))
    }
}
