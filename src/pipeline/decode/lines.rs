//! JSON lines: each line that is not empty is a document of its own.

use std::ops::Range;

use serde_json::Value;

use super::json::{self, DuplicateKeys, Fault};
use super::{Reject, rule};

/// Reads every line. Gives a list of the documents (`null` for each when nobody `keeps` them), and
/// where each stands in the text.
///
/// # Errors
///
/// [`Reject::Malformed`] and [`Reject::DuplicateKey`], which tell the line.
pub(super) fn read(
    text: &str,
    keeps: bool,
    duplicates: DuplicateKeys,
) -> Result<(Value, Vec<Range<usize>>), Reject> {
    let (mut documents, mut ranges) = (Vec::new(), Vec::new());
    let mut start = 0;
    for (number, line) in text.split('\n').enumerate() {
        let range = start..start + line.len();
        start = range.end + 1;
        if line.trim_matches([' ', '\t', '\r']).is_empty() {
            continue;
        }
        match json::read(line, keeps, duplicates) {
            Ok(document) => documents.push(document),
            Err(Fault::Syntax(error)) => {
                let (line, column) = (number + 1, error.column());
                let rule = rule(&error);
                let place = format!("line {line}, column {column}: {rule}");
                return Err(Reject::Malformed(place));
            }
            Err(Fault::Duplicate(pointer)) => {
                let index = ranges.len();
                return Err(Reject::DuplicateKey(format!("/{index}{pointer}")));
            }
        }
        ranges.push(range);
    }
    if ranges.is_empty() {
        return Err(Reject::Malformed(
            "it has no line but empty ones".to_owned(),
        ));
    }
    Ok((Value::Array(documents), ranges))
}
