//! New certificates while serving: the files are looked at every few seconds, and at once on
//! SIGHUP. All of them are taken, or none.
//!
//! The look is at what the system says of them, at the end of all links. That notices every way of
//! replacing them: in place, by renaming, by a symbolic link above them, on file systems that tell
//! nobody. They are read when it says something new, until all can be read and are the same twice.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::clock::Now;
use crate::config::{Certificate, Clients, Files, Fingerprint, Snapshot, Stamps, Tls, Unusable};
use crate::edge::tls::{Identity, TlsError};
use crate::metrics::Metrics;

/// Between two looks. A change counts when two looks saw the same, so new files are in use after
/// twice this at most, and one that is being written is left alone meanwhile.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Puts new files in the place of old ones.
#[derive(Debug)]
pub(crate) struct Reloader {
    files: Files,
    stamps: Stamps,
    /// Of what is in use, or was found to be of no use.
    judged: Fingerprint,
    /// Of what was read last.
    last: Fingerprint,
    identity: Identity,
    metrics: Arc<Metrics>,
    now: watch::Receiver<()>,
}

/// Why new files were not taken.
#[derive(Debug, thiserror::Error)]
enum ReloadError {
    #[error(transparent)]
    Unusable(#[from] Unusable),
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl Reloader {
    /// `now` asks for a look at once. `None`: there are no files.
    pub(crate) fn new(
        tls: &Tls,
        identity: Identity,
        metrics: Arc<Metrics>,
        now: watch::Receiver<()>,
    ) -> Option<Self> {
        (!tls.files.is_empty()).then(|| Self {
            files: tls.files.clone(),
            stamps: Stamps::default(),
            judged: tls.fingerprint,
            last: tls.fingerprint,
            identity,
            metrics,
            now,
        })
    }

    /// Looks until `stop`.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut ticks = interval(LOOK_EVERY);
        // A look may take long, on a network's file system say.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_asked = tokio::select! {
                () = stop.cancelled() => return,
                Ok(()) = self.now.changed() => true,
                _ = ticks.tick() => false,
            };
            let looked = tokio::select! {
                // The edge waits for this task when it ends, and must not wait for a disk.
                () = stop.cancelled() => return,
                looked = self.look(is_asked) => looked,
            };
            if let Some(snapshot) = looked {
                self.consider(&snapshot, is_asked);
            }
        }
    }

    fn consider(&mut self, snapshot: &Snapshot, is_asked: bool) {
        let seen = snapshot.fingerprint();
        let is_settled = seen == self.last;
        self.last = seen;
        if !is_settled || !snapshot.is_whole() {
            // The system need not say anything new of files that were being written, or that could
            // not be read for want of a descriptor, say.
            self.stamps.read_again();
        }
        if is_asked || (is_settled && seen != self.judged) {
            self.reload(snapshot);
        }
    }

    /// Reads the files, if they changed or somebody asked, where waiting for a disk delays nobody.
    async fn look(&mut self, is_asked: bool) -> Option<Snapshot> {
        let (files, mut stamps) = (self.files.clone(), std::mem::take(&mut self.stamps));
        let looking = tokio::task::spawn_blocking(move || {
            let asks = stamps.ask_for_reading(&files);
            (stamps, (asks || is_asked).then(|| files.read()))
        });
        // Looking does not panic; and if it did, the old certificates would still be good.
        let (stamps, snapshot) = looking.await.ok()?;
        self.stamps = stamps;
        snapshot
    }

    /// Says once what came of it: what cannot be used is not judged again until it changes, or
    /// somebody asks. Then what did not change is judged again, too: an authority may be in force
    /// by now. But it is nothing new.
    fn reload(&mut self, snapshot: &Snapshot) {
        let before = std::mem::replace(&mut self.judged, snapshot.fingerprint());
        let is_new = self.judged != before;
        match self.take(snapshot) {
            Ok(()) if !is_new => {
                tracing::info!("the certificates are the same as before");
            }
            Ok(()) => {
                self.metrics.edge.certificate_reloads_ok.increment(1);
                tracing::info!("new certificates are in use from the next handshake on");
            }
            Err(error) => {
                self.metrics.edge.certificate_reloads_failed.increment(1);
                tracing::error!(
                    %error,
                    "new certificates cannot be used; the old ones stay in use"
                );
            }
        }
    }

    fn take(&self, snapshot: &Snapshot) -> Result<(), ReloadError> {
        let material = snapshot.take(Now::read().wall)?;
        self.identity
            .replace(&material.certificates, material.clients.as_ref())?;
        show_ends(
            &self.metrics,
            &material.certificates,
            material.clients.as_ref(),
        );
        Ok(())
    }
}

/// Sets the gauges of when certificates, authorities and revocation lists end.
pub(crate) fn show_ends(
    metrics: &Metrics,
    certificates: &[Certificate],
    clients: Option<&Clients>,
) {
    let ours = certificates.iter().map(|it| (&it.path, it.not_after));
    let theirs = clients.iter().flat_map(|clients| &clients.ends);
    for (path, end) in ours.chain(theirs.map(|(path, end)| (path, *end))) {
        metrics.certificate_ends(&path.display().to_string(), end);
    }
}

#[cfg(test)]
mod tests;
