//! How much of the body a proof covers.

use crate::delivery::Coverage;
use crate::pipeline::expr::Place;
use crate::pipeline::verify::assertion::Assertion;
use crate::pipeline::verify::template::{Part, Template};

/// How much of the body the proof covers. A checksum that is no cryptographic hash covers nothing
/// by itself, so it counts like a field.
pub(in crate::pipeline::verify) fn coverage(
    template: Option<&Template>,
    asserts: &[Assertion],
) -> Coverage {
    let Some(template) = template else {
        return Coverage::Token;
    };
    let is_body = |part: &Part| matches!(part, Part::Body | Part::BodySha256Hex);
    let is_field = |part: &Part| {
        matches!(
            part,
            Part::BodyCrc32
                | Part::FormSorted
                | Part::Sns
                | Part::Value {
                    place: Place::Form(_) | Place::Json(_),
                    ..
                }
        )
    };
    if template.any(is_body)
        || asserts
            .iter()
            .any(|assert| assert.extends_to_body(template))
    {
        Coverage::Full
    } else if template.any(is_field) {
        Coverage::Fields
    } else {
        Coverage::Token
    }
}
