//! What an event says about the mode that it comes from: test and live have secrets of their own.

use crate::pipeline::expr::facts::Facts;
use crate::pipeline::expr::{Found, Place};

/// Where providers write it: Stripe and GoCardless, Adyen, Mollie, Lemon Squeezy, Shopify.
const PLACES: [&str; 7] = [
    "json:/livemode",
    "json:/live",
    "json:/mode",
    "json:/environment",
    "json:/test_mode",
    "json:/meta/test_mode",
    "header:X-Shopify-Test",
];

/// Longest word for a mode.
const WORD_BYTES_MAX: usize = 16;

/// In words that follow "most likely the secret is another one".
pub(super) fn of(facts: &Facts<'_>) -> Option<String> {
    PLACES.into_iter().find_map(|text| {
        let place = Place::parse(text).ok()?;
        let Ok(Found::Once(word)) = facts.find(&place) else {
            return None;
        };
        let is_word = word.len() <= WORD_BYTES_MAX && word.iter().all(u8::is_ascii_alphanumeric);
        let word = std::str::from_utf8(&word).ok().filter(|_| is_word)?;
        Some(format!(
            "{place} says {word}: test and live mode have secrets of their own, is the configured \
             one of the right mode?"
        ))
    })
}
