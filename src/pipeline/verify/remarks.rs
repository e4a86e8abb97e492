//! What is no mistake in `verify`, but weaker than it looks.

use std::collections::BTreeMap;

use crate::config::problem::Problem;
use crate::config::raw::{RawScheme, RawVerify};
use crate::pipeline::verify::template::Template;

/// Warnings about what an operator wrote, with paths relative to the source. What a preset says is
/// its provider's choice.
pub(crate) fn remarks(raw: &RawVerify, config: &BTreeMap<String, String>) -> Vec<Problem> {
    let RawVerify::Schemes(tables) = raw else {
        return Vec::new();
    };
    let is_one = tables.len() == 1;
    let mut remarks = Vec::new();
    for (position, table) in tables.iter().enumerate() {
        let position = position.to_string();
        let several: &[&str] = &["verify", &position];
        let prefix = if is_one { &["verify"] } else { several };
        let mut found: Vec<Problem> = loose_border(table, config).into_iter().collect();
        if !is_one && table.secrets.is_empty() {
            found.push(shared_secrets());
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

fn shared_secrets() -> Problem {
    let what = "every secret of the source counts in each of its `verify` tables: who knows one, a \
                token that travels with every request for instance, can make all the proofs";
    let help = "label the secrets, and say in each table which of them count: secrets = [\"2026\"]";
    Problem::warning(&[], what).help(help)
}
