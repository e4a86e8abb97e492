//! The files of `allow_ips`, while serving: looked at every few seconds, and read at once on
//! SIGHUP, as certificates are. What cannot be used leaves a source with the networks of before.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::config::{RangesError, Stamp};
use crate::source::Source;

/// Between two looks. A change counts when two looks saw the same, so that a file which is being
/// written is left alone meanwhile.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Puts what files name now in the place of what they named before.
#[derive(Debug)]
pub(super) struct Reloader {
    watched: Vec<Watched>,
    now: watch::Receiver<()>,
}

#[derive(Debug)]
struct Watched {
    source: Arc<Source>,
    /// Of what is in use, or was found to be of no use. `None`: what is there could not be read.
    judged: Option<Stamp>,
    last: Stamp,
}

impl Reloader {
    /// For those sources that name files. `now` asks for all of them to be read.
    pub(super) fn new(sources: &[Arc<Source>], now: watch::Receiver<()>) -> Self {
        let sources = sources.iter().filter(|source| source.ranges.has_files());
        let watched = sources.map(|source| Watched {
            source: Arc::clone(source),
            judged: Some(source.ranges.stamp().clone()),
            last: source.ranges.stamp().clone(),
        });
        Self {
            watched: watched.collect(),
            now,
        }
    }

    /// Looks until `stop`.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut ticks = interval(LOOK_EVERY);
        // A look may take long, on a network's file system say.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.watched.is_empty() {
            let is_asked = tokio::select! {
                () = stop.cancelled() => return,
                Ok(()) = self.now.changed() => true,
                _ = ticks.tick() => false,
            };
            let mut watched = self.watched;
            let looking = tokio::task::spawn_blocking(move || {
                watched.iter_mut().for_each(|one| one.look(is_asked));
                watched
            });
            // Looking does not panic; and if it did, the old networks would still be good.
            self.watched = looking.await.unwrap_or_default();
        }
    }
}

impl Watched {
    fn look(&mut self, is_asked: bool) {
        let seen = self.source.ranges.look();
        let is_settled = seen == self.last;
        self.last.clone_from(&seen);
        let is_judged = self.judged.as_ref() == Some(&seen);
        if !is_asked && (!is_settled || is_judged) {
            return;
        }
        let source = &*self.source.name;
        let read = self.source.ranges.read();
        // What is wrong stays so until it changes. What cannot be read may be good at the next
        // look, and nothing need have changed: for want of a descriptor, say.
        let is_unread = matches!(read, Err(RangesError::Unread(_)));
        let judged = (!is_unread).then_some(seen);
        let before = std::mem::replace(&mut self.judged, judged);
        match read {
            Ok(networks) => {
                self.source.allow_ips.replace(networks);
                tracing::info!(source, "the files of allow_ips were read again");
            }
            // Said once.
            Err(_) if is_unread && before.is_none() && !is_asked => {}
            Err(error) => tracing::error!(
                source,
                %error,
                "the files of allow_ips cannot be used; the networks of before stay in use"
            ),
        }
    }
}

#[cfg(test)]
mod tests;
