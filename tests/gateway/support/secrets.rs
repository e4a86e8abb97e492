//! What no gateway of any test may say: every secret of the tests is a canary.

use super::gateway::private_key;
use super::webhook::{ERP_SECRET, GITHUB_SECRET, SHOPIFY_SECRET, SLACK_SECRET, STRIPE_SECRET};

/// The user and the password that every broker of the tests has, as a URL has them.
const BROKER_PASSWORD: &str = "guest:guest";

/// Fails if a text that others can read holds a secret of the tests' own.
#[track_caller]
pub(crate) fn assert_absent(text: &str, place: &str) {
    let shared = [
        GITHUB_SECRET,
        STRIPE_SECRET,
        SHOPIFY_SECRET,
        SLACK_SECRET,
        ERP_SECRET,
        BROKER_PASSWORD,
    ];
    // Without the lines that say that it is a key, and a short last one.
    let key = private_key()
        .lines()
        .filter(|line| !line.contains("---") && line.len() > 16);
    for secret in shared.into_iter().chain(key) {
        if let Some((before, _)) = text.split_once(secret) {
            let line = before.lines().count().max(1);
            panic!("{place} holds {secret:?} in line {line}");
        }
    }
}
