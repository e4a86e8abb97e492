//! For tests: a pipeline of a configuration's sources, over a journal of its own.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::config::Config;
use crate::config::surroundings::Surroundings;
use crate::journal::{Journal, Options};
use crate::metrics::Metrics;
use crate::pipeline::Pipeline;
use crate::pipeline::dedupe::Dedupe;
use crate::pipeline::evidence::Nowhere;
use crate::pipeline::limit::InFlight;
use crate::pipeline::route::Routes;
use crate::pipeline::store::{Confirming, Store};

/// Reads a configuration that has no mistakes, in a directory.
#[track_caller]
pub(crate) fn config(directory: &Path, text: &str) -> Config {
    match load(directory, text, "") {
        Ok(config) => config,
        Err(problems) => panic!("{problems}"),
    }
}

/// Reads a configuration in a directory, with `secret` in every environment variable; what is
/// wrong with it otherwise.
pub(crate) fn load(directory: &Path, text: &str, secret: &str) -> Result<Config, String> {
    let file = directory.join("gateway.toml");
    std::fs::write(&file, text).unwrap();
    let secret = secret.to_owned();
    let variable = move |_: &str| Some(secret.clone().into());
    let surroundings = Surroundings::new(variable, None, Timestamp::UNIX_EPOCH);
    let loaded = Config::load_in(&file, &surroundings);
    loaded
        .map(|loaded| loaded.config)
        .map_err(|invalid| invalid.to_string())
}

/// The pipeline of its sources, with the journal in the same directory.
pub(crate) fn pipeline(directory: &Path, config: &Config) -> Pipeline {
    pipeline_with(directory, config, None).0
}

/// The same with somebody who confirms what waits for a broker; and the journal.
pub(crate) fn pipeline_with(
    directory: &Path,
    config: &Config,
    confirming: Option<Arc<dyn Confirming>>,
) -> (Pipeline, Journal) {
    let limits = &config.server.limits;
    let metrics = Metrics::new(config.sources.iter().map(|source| &source.name));
    let journal = Journal::open(Options {
        path: directory.join("journal"),
        bytes_max: 64 << 20,
        segment_bytes: 1 << 20,
        retain: Duration::from_hours(1),
        refuse_damage: true,
        reserve_bytes: 0,
        on_sync: None,
    })
    .unwrap();
    let pipeline = Pipeline {
        routes: Routes::new(&config.sources),
        in_flight: InFlight::new(limits.requests_in_flight_max, limits.bytes_in_flight_max),
        dedupe: Dedupe::new(100),
        fetching: Arc::new(Nowhere),
        store: Store::new(journal.clone(), confirming, Arc::clone(&metrics)),
        accept_timeout: limits.accept_timeout,
        metrics,
    };
    (pipeline, journal)
}
