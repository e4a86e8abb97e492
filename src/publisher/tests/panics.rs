//! A part of the publisher that panics is not left out: it is the end of the whole, which the
//! process does not survive.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::super::broker::{Broker, Failure};
use super::super::urls::Node;
use super::super::{Parked, Parts, Sidings, assemble, run};
use super::script::ScriptConnection;
use super::{config, delivery, whole};
use crate::metrics::Metrics;

const PATIENCE: Duration = Duration::from_secs(20);

struct Fragile;

impl Broker for Fragile {
    type Connection = ScriptConnection;

    async fn connect(&self, _node: &Node) -> Result<ScriptConnection, Failure> {
        panic!("as meant")
    }
}

#[tokio::test]
async fn a_link_that_panics_is_the_end_of_the_publisher() {
    let dir = tempfile::tempdir().unwrap();
    let journal = whole::open(&dir, "journal");
    let sidings = Sidings {
        set_aside: whole::open(&dir, "journal/set-aside"),
        parked: Parked::open(whole::options(&dir, "journal/parked"), &mut |_, _| {
            ControlFlow::Continue(())
        })
        .unwrap(),
    };
    whole::append(&journal, delivery(1).encode()).await;
    let parts = assemble(
        &config(),
        &Arc::new(Fragile),
        journal,
        sidings,
        Metrics::new([]),
    );
    let Parts { links, feeds, .. } = parts.unwrap();
    let task = tokio::spawn(run(links, feeds, CancellationToken::new()));
    let ended = timeout(PATIENCE, task).await.unwrap();
    assert!(ended.unwrap_err().is_panic());
}
