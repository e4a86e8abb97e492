//! Many second gateways on one journal, each of them refused, and the first one serves on.

use crate::support::balance::balance;
use crate::support::figures::{Row, count};
use crate::support::gateway::{Setup, cli, said};
use crate::support::load::{self, Load};
use crate::support::storage::event_ids;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_second_is_refused_and_the_first_unharmed() {
    let starts = count(100, 1_000);
    let first = Setup::new().plain().sources(&load::sources()).start().await;
    let journal = first.directory().join("journal");
    let second = Setup::new().prepare();
    let line = format!("path = \"{}\"", journal.display());
    second.edit(|text| text.replace("path = \"journal\"", &line));
    let config = second.config();
    let load = Load::start(&first.sender(), 0);
    load.more(1).await;
    for _ in 0..starts {
        let output = cli(&["run", "-c", config.to_str().expect("path")], &[]).await;
        let said = said(&output);
        assert_eq!(output.status.code(), Some(73), "{said}");
        let expected = format!("{} is in use by another process", journal.display());
        assert!(said.contains(&expected), "{said}");
    }
    load.more(1).await;
    let ledger = load.stop().await;
    ledger.assert_none_refused();
    assert_eq!(ledger.unanswered, 0);
    balance(&first).await;
    let there = event_ids(&journal).await;
    for (source, numbers) in &ledger.acknowledged {
        for n in numbers {
            assert!(
                there.contains(&format!("{source}-{n}")),
                "{source}-{n} is lost"
            );
        }
    }
    Row::new("J13")
        .saw("second starts", starts)
        .saw("exit code", 73)
        .saw("events of the first meanwhile", ledger.len())
        .saw("of them refused or lost", 0)
        .write();
}
