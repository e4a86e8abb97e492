//! Two gateways never share a journal.

use crate::support::balance::balance;
use crate::support::gateway::{Setup, cli, said};
use crate::support::webhook::Webhook;

#[tokio::test]
async fn a_second_gateway_on_the_same_journal_is_refused() {
    let first = Setup::new().start().await;
    let second = Setup::new().prepare();
    let journal = first.directory().join("journal");
    let line = format!("path = \"{}\"", journal.display());
    second.edit(|text| text.replace("path = \"journal\"", &line));
    let config = second.config();
    let output = cli(&["run", "-c", config.to_str().expect("path")], &[]).await;
    let said = said(&output);
    assert_eq!(output.status.code(), Some(73), "{said}");
    assert!(said.contains("in use"), "{said}");
    let webhook = Webhook::github("/github", "push", "still", br#"{"a":1}"#);
    assert_eq!(first.send(&webhook).await.status, 202);
    balance(&first).await;
}
