use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::metrics::SecretUse;
use crate::pipeline::testing;

const SHOP: &str = "[server]\ntls = \"off\"\n[sources.shop]\nprovider = \"github\"\n\
                    secrets = [{ value = \"a\", label = \"old\" }, { value = \"b\", label = \"new\" }]\n";

/// A process that begins: what it recalls, and its metrics.
fn begin(folder: &TempDir) -> (LastUsed, Arc<Metrics>) {
    let config = testing::config(folder.path(), SHOP);
    let metrics = Metrics::new(config.sources.iter().map(|source| &source.name));
    for label in ["old", "new"] {
        metrics.secret_known("shop", label);
    }
    let kept = LastUsed::recall(folder.path(), &config.sources, &metrics);
    (kept, metrics)
}

fn known(metrics: &Metrics) -> Vec<(String, u64, Option<Timestamp>)> {
    let uses = metrics.secret_uses("shop").into_iter();
    let shown = |it: SecretUse| (it.label, it.uses, it.last_used);
    uses.map(shown).collect()
}

fn nothing() -> Vec<(String, u64, Option<Timestamp>)> {
    ["new", "old"]
        .map(|label| (label.to_owned(), 0, None))
        .to_vec()
}

#[test]
fn a_restart_keeps_when_and_counts_anew() {
    let folder = tempfile::tempdir().unwrap();
    let (mut kept, metrics) = begin(&folder);
    assert_eq!(known(&metrics), nothing());
    kept.keep();
    assert!(
        !folder.path().join(FILE).try_exists().unwrap(),
        "nothing is new"
    );
    let at = Timestamp::from_second(1_760_000_000).unwrap();
    metrics.secret_used("shop", "old", at);
    metrics.secret_used("shop", "no secret any more", at);
    kept.keep();

    let (mut kept, metrics) = begin(&folder);
    let mut expected = nothing();
    expected[1].2 = Some(at);
    assert_eq!(known(&metrics), expected);
    let page = metrics.render();
    let gauge =
        "hookgate_secret_last_used_timestamp_seconds{source=\"shop\",secret=\"old\"} 1760000000";
    assert!(page.contains(gauge), "{page}");
    let later = at + Duration::from_secs(5);
    metrics.secret_used("shop", "old", later);
    kept.keep();
    expected[1] = ("old".to_owned(), 0, Some(later));
    assert_eq!(known(&begin(&folder).1), expected);
}

#[test]
fn what_cannot_be_read_or_is_yet_to_come_is_not_known() {
    let folder = tempfile::tempdir().unwrap();
    for text in [
        "",
        "[]",
        r#"{"shop": 1}"#,
        r#"{"shop": {"old": "yesterday"}}"#,
        r#"{"shop": {"old": "2999-01-01T00:00:00Z"}}"#,
    ] {
        fs::write(folder.path().join(FILE), text).unwrap();
        assert_eq!(known(&begin(&folder).1), nothing(), "{text}");
    }
}

#[tokio::test]
async fn it_is_kept_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let (kept, metrics) = begin(&folder);
    let stop = CancellationToken::new();
    let running = tokio::spawn(kept.run(stop.clone()));
    metrics.secret_used(
        "shop",
        "new",
        Timestamp::UNIX_EPOCH + Duration::from_secs(1),
    );
    stop.cancel();
    running.await.unwrap();
    assert!(known(&begin(&folder).1)[0].2.is_some());
}
