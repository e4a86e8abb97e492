//! What is no mistake in `verify`, but weaker than it looks.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::problem::Problem;
use crate::config::raw::{RawScheme, RawVerify};
use crate::delivery::Coverage;
use crate::pipeline::verify::assertion::Assertion;
use crate::pipeline::verify::compile::coverage;
use crate::pipeline::verify::template::Template;

const RFC9421: &str = "rfc9421";

/// Where a source's events stand in its requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EventIn {
    /// In the body.
    Body,
    /// In the query: every one comes with a GET, of which something has to be signed anyway.
    Query,
}

/// Warnings about what an operator wrote, with paths relative to the source. What a preset says is
/// its provider's choice.
pub(crate) fn remarks(
    raw: &RawVerify,
    config: &BTreeMap<String, String>,
    event: EventIn,
) -> Vec<Problem> {
    let RawVerify::Schemes(tables) = raw else {
        return Vec::new();
    };
    let is_one = tables.len() == 1;
    let mut remarks = Vec::new();
    for (number, table) in tables.iter().enumerate() {
        let position = number.to_string();
        let several: &[&str] = &["verify", &position];
        let prefix = if is_one { &["verify"] } else { several };
        let mut found: Vec<Problem> = loose_border(table, config).into_iter().collect();
        if event == EventIn::Body {
            found.extend(without_body(table, config));
        }
        let others = tables.iter().take(number);
        let shares = tables.iter().filter(|table| is_of_secrets(table)).count() > 1;
        found.extend(anybodys_tokens(table));
        if shares && table.secrets.is_empty() && is_of_secrets(table) {
            found.push(shared_secrets());
        } else if let Some(other) = others.clone().position(|it| is_same_proof(it, table)) {
            found.push(same_proof(other));
        }
        remarks.extend(found.into_iter().map(|remark| remark.under(prefix)));
    }
    remarks
}

fn loose_border(table: &RawScheme, config: &BTreeMap<String, String>) -> Option<Problem> {
    // What does not compile has been reported.
    let template = Template::parse(table.signed.as_deref()?, config).ok()?;
    let (before, after) = template.loose_border()?;
    let what = format!(
        "nothing keeps {before} and {after} apart in what is signed: the signature still holds \
         when the end of one is passed off as the beginning of the other"
    );
    let help = "sign `{body}` alone, or write a separator after a header or query value: a value \
                that holds it is refused";
    Some(Problem::warning(&["signed"], what).help(help))
}

/// Whether the source's secrets say anything about this table.
fn is_of_secrets(table: &RawScheme) -> bool {
    table.needs_secrets()
}

/// A signature that holds for any body.
fn without_body(table: &RawScheme, config: &BTreeMap<String, String>) -> Option<Problem> {
    let what = "the signature does not cover the body, so whoever has seen one request can send \
                any event with it";
    if table.algorithm.as_deref() == Some(RFC9421) {
        let covered = &table.message.covered;
        let is_digest = |it: &String| it.trim_start_matches('"').starts_with("content-digest");
        if covered.is_empty() || covered.iter().any(is_digest) {
            return None;
        }
        let help = "add \"content-digest\", if the sender can make it";
        return Some(Problem::warning(&["covered"], what).help(help));
    }
    let template = template(table, config)?;
    let asserts = table.assert.iter();
    let asserts: Vec<Assertion> = asserts
        .filter_map(|text| Assertion::parse(text, config).ok())
        .collect();
    if coverage(Some(&template), &asserts) != Coverage::Token {
        return None;
    }
    let help = "put `{body}` into `signed` if the provider signs it";
    Some(Problem::warning(&["signed"], what).help(help))
}

/// What is signed, where that is written and makes sense.
fn template(table: &RawScheme, config: &BTreeMap<String, String>) -> Option<Template> {
    Template::parse(table.signed.as_deref()?, config).ok()
}

/// Whether who can make one of the proofs can make the other, too.
fn is_same_proof(one: &RawScheme, other: &RawScheme) -> bool {
    let labels = |table: &RawScheme| table.secrets.iter().cloned().collect::<BTreeSet<String>>();
    one == other || (!one.secrets.is_empty() && labels(one) == labels(other))
}

fn same_proof(other: usize) -> Problem {
    let what = format!(
        "this table and the one at {other} take the same secrets: who can make one proof can make \
         the other, so two of them are worth no more than one"
    );
    let help = "give each its own secrets, or take one of the tables out";
    Problem::warning(&[], what).help(help)
}

fn anybodys_tokens(table: &RawScheme) -> Option<Problem> {
    let token = &table.token;
    let is_bound = !token.claims.is_empty() || token.body_hash.is_some();
    if token.audience != ["any"] || token.jwks.is_none() || is_bound {
        return None;
    }
    let what = "whoever gets a token from this issuer, for whatever purpose, can send here";
    let help = "write the `audience` of tokens for you, or say who may send: \
                claims = { sub = \"...\" }";
    Some(Problem::warning(&["audience"], what).help(help))
}

fn shared_secrets() -> Problem {
    let what = "every secret of the source counts in each of its `verify` tables: who knows one, a \
                token that travels with every request for instance, can make all the proofs";
    let help = "label the secrets, and say in each table which of them count: secrets = [\"2026\"]";
    Problem::warning(&[], what).help(help)
}
