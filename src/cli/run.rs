//! `hookgate run`.

use std::path::Path;
use std::pin::pin;

use tokio_util::sync::CancellationToken;

use super::{Done, Exit, Failure, block_on, load_all};
use crate::app::{App, StartError};
use crate::config::problem::Problem;
use crate::config::{Config, Loaded};
use crate::shutdown::{Aborted, Signals};
use crate::telemetry;

pub(super) fn run(path: &Path) -> Done {
    telemetry::init();
    let Loaded {
        config, warnings, ..
    } = load_all(path)?;
    for warning in warnings {
        let Problem {
            path, what, help, ..
        } = warning.problem;
        tracing::warn!(key = path.join("."), help, "{what}");
    }
    block_on(serve(config))
}

async fn serve(config: Config) -> Done {
    let signals = Signals::install()
        .map_err(|error| Failure::new(Exit::Failure, format!("listening for signals: {error}")))?;
    let sources = config.sources.len();
    let app = App::build(config).map_err(|error| {
        let exit = match error {
            StartError::Journal(_) | StartError::Bind(_) | StartError::Admin(_) => {
                Exit::CannotCreate
            }
            StartError::Broker(_) => Exit::BadConfig,
        };
        Failure::new(exit, error.to_string())
    })?;
    for address in app.edge_addrs() {
        tracing::info!(%address, sources, "taking webhooks");
    }
    if let Ok(address) = app.admin_addr() {
        tracing::info!(%address, "admin");
    }

    let drain = CancellationToken::new();
    let mut running = pin!(app.run(drain.clone()));
    tokio::select! {
        ended = &mut running => match ended {
            Ok(()) => {
                tracing::info!("stopped; nothing that was acknowledged is lost");
                Ok(Exit::Success)
            }
            Err(part) => Err(Failure::new(Exit::Failure, part.to_string())),
        },
        aborted = signals.watch(drain) => end_at_once(aborted),
    }
}

/// Ends without taking anything down. The journal waits for its disk when it is dropped, and the
/// runtime for whoever reads from one: a disk that hangs is a reason for a second signal.
#[expect(clippy::exit, reason = "there is nothing left to do in good order")]
fn end_at_once(aborted: Aborted) -> Done {
    super::talk(&format!("hookgate: {aborted}"));
    std::process::exit(Exit::Failure.code().into())
}
