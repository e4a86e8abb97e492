//! `hookgate run`.

use std::fmt::Display;
use std::path::Path;

use super::{Done, Exit, Failure, block_on, load_all};
use crate::app::{App, Ended, StartError};
use crate::config::problem::Problem;
use crate::config::{Config, Loaded};
use crate::journal::OpenError;
use crate::shutdown::{Orders, Signals};
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
    let orders = Orders::default();
    // From now on: a large journal takes a while to open.
    let watching = tokio::spawn({
        let orders = orders.clone();
        async move { end_at_once(&signals.watch(orders).await) }
    });
    let done = run_until(config, orders).await;
    watching.abort();
    done
}

async fn run_until(config: Config, orders: Orders) -> Done {
    let sources = config.sources.len();
    let app = match App::build(config, &orders) {
        Ok(app) => app,
        Err(StartError::Journal(stopped @ OpenError::Stopped)) => {
            tracing::info!("{stopped}");
            return Ok(Exit::Success);
        }
        Err(error) => {
            let exit = match error {
                StartError::Journal(_) | StartError::Bind(_) | StartError::Admin(_) => {
                    Exit::CannotCreate
                }
                StartError::Broker(_) => Exit::BadConfig,
            };
            return Err(Failure::new(exit, error.to_string()));
        }
    };
    for address in app.edge_addrs() {
        tracing::info!(%address, sources, "taking webhooks");
    }
    if let Ok(address) = app.admin_addr() {
        tracing::info!(%address, "admin");
    }
    match app.run(orders.drain).await {
        Ok(()) => {
            tracing::info!("stopped; nothing that was acknowledged is lost");
            Ok(Exit::Success)
        }
        Err(hangs @ Ended::DiskHangs) => end_at_once(&hangs),
        Err(ended) => Err(Failure::new(Exit::Failure, ended.to_string())),
    }
}

/// Ends without taking anything down. The journal waits for its disk when it is dropped, and the
/// runtime for whoever reads from one: a disk that hangs is a reason for a second signal.
#[expect(clippy::exit, reason = "there is nothing left to do in good order")]
fn end_at_once(why: &dyn Display) -> ! {
    super::talk(&format!("hookgate: {why}"));
    std::process::exit(Exit::Failure.code().into())
}
