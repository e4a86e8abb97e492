//! What is wrong with a body, in words that hold nothing of it but the names on the way.

use std::fmt;

use jsonschema::ValidationError;
use jsonschema::error::{TypeKind, ValidationErrorKind as Kind};
use serde_json::Value;

/// Most violations that are reported of one body.
pub const VIOLATIONS_MAX: usize = 20;

/// Longest pointer. What lies deeper is reported at the ancestor that still fits.
const POINTER_BYTES_MAX: usize = 512;

/// Longest quotation from a schema, or of a property's name, in characters.
const QUOTE_CHARS_MAX: usize = 120;

/// Most names of unknown properties that are given.
const NAMES_MAX: usize = 3;

/// One way in which a body is not what the schema asks for. Values are never in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// JSON Pointer (RFC 6901) to the place in the body; empty is the body itself.
    pub pointer: String,
    /// What is wrong there.
    pub detail: String,
}

impl Violation {
    /// The body is wrong, in too many ways to find out where.
    pub(super) fn unlocated() -> Self {
        let detail = "does not satisfy the schema, in too many ways to list".to_owned();
        Self {
            pointer: String::new(),
            detail,
        }
    }
}

/// Names in a pointer are the sender's, so control characters are shown as escapes.
impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = if self.pointer.is_empty() {
            "the body"
        } else {
            &self.pointer
        };
        write!(f, "{}: {}", place.escape_debug(), self.detail)
    }
}

/// The first violations, in the order of the schema.
pub(super) fn list<'a>(errors: impl Iterator<Item = ValidationError<'a>>) -> Vec<Violation> {
    let mut violations = Vec::new();
    for error in errors {
        push(&mut violations, &error);
        if violations.len() >= VIOLATIONS_MAX {
            break;
        }
    }
    violations
}

/// Where it is clear which alternative was meant, what is wrong with that one; else the error.
fn push(violations: &mut Vec<Violation>, error: &ValidationError<'_>) {
    if violations.len() >= VIOLATIONS_MAX {
        return;
    }
    if let Kind::AnyOf { context } | Kind::OneOfNotValid { context } = error.kind() {
        let mut meant = context.iter().filter(|branch| is_meant(branch, error));
        if let (Some(only), None) = (meant.next(), meant.next()) {
            for inner in only {
                push(violations, inner);
            }
            return;
        }
    }
    let pointer = short_pointer(error.instance_path().as_str()).to_owned();
    violations.push(Violation {
        pointer,
        detail: detail(error.kind()),
    });
}

/// An alternative for another type, or with another constant in one of its members, was not meant.
fn is_meant(branch: &[ValidationError<'_>], error: &ValidationError<'_>) -> bool {
    let here = error.instance_path().as_str();
    branch.iter().all(|inner| {
        let there = inner.instance_path().as_str();
        match inner.kind() {
            Kind::Type { .. } | Kind::FalseSchema => there != here,
            Kind::Constant { .. } | Kind::Enum { .. } => there
                .strip_prefix(here)
                .is_none_or(|below| below.matches('/').count() > 1),
            _ => true,
        }
    })
}

fn short_pointer(pointer: &str) -> &str {
    let mut short = pointer;
    while short.len() > POINTER_BYTES_MAX {
        short = short.rsplit_once('/').map_or("", |(parent, _)| parent);
    }
    short
}

/// Every text is ours. It quotes the schema, and at most some names of the body. The validator's
/// own texts are not used: some of them hold values, and some grow with the body.
fn detail(kind: &Kind) -> String {
    match kind {
        Kind::Required { property } => format!("{} is required", quote(property)),
        Kind::Type { kind } => format!("must be of type {}", types(kind)),
        Kind::Constant { expected_value } => format!("must be {}", quote(expected_value)),
        Kind::Enum { options } => format!("must be one of {}", quote(options)),
        Kind::Pattern { pattern } => format!("must match the pattern {}", short(pattern)),
        Kind::Format { format } => format!("must be in the format {}", short(format)),
        Kind::AdditionalProperties { unexpected } | Kind::UnevaluatedProperties { unexpected } => {
            format!("may not have the properties {}", names(unexpected))
        }
        Kind::AdditionalItems { .. } | Kind::UnevaluatedItems { .. } => {
            "has more items than the schema describes".to_owned()
        }
        Kind::Minimum { limit } => format!("must be at least {limit}"),
        Kind::Maximum { limit } => format!("must be at most {limit}"),
        Kind::ExclusiveMinimum { limit } => format!("must be more than {limit}"),
        Kind::ExclusiveMaximum { limit } => format!("must be less than {limit}"),
        Kind::MultipleOf { multiple_of } => format!("must be a multiple of {multiple_of}"),
        Kind::MinLength { limit } => format!("must have at least {limit} characters"),
        Kind::MaxLength { limit } => format!("must have at most {limit} characters"),
        Kind::MinItems { limit } => format!("must have at least {limit} items"),
        Kind::MaxItems { limit } => format!("must have at most {limit} items"),
        Kind::MinProperties { limit } => format!("must have at least {limit} properties"),
        Kind::MaxProperties { limit } => format!("must have at most {limit} properties"),
        Kind::UniqueItems => "must not have the same item twice".to_owned(),
        Kind::Contains => "must have items of the kind that the schema asks for".to_owned(),
        Kind::PropertyNames { error } => {
            format!("has a property whose name {}", detail(error.kind()))
        }
        Kind::AnyOf { context } => format!("must match one of {} alternatives", context.len()),
        Kind::OneOfNotValid { context } => {
            format!(
                "must match exactly one of {} alternatives, and matches none",
                context.len()
            )
        }
        Kind::OneOfMultipleValid { context } => {
            format!(
                "must match exactly one of {} alternatives, and matches several",
                context.len()
            )
        }
        Kind::Not { .. } => "must not be what the schema excludes".to_owned(),
        Kind::FalseSchema => "must not be there".to_owned(),
        Kind::ContentEncoding { content_encoding } => {
            format!("must be encoded as {}", short(content_encoding))
        }
        Kind::ContentMediaType { content_media_type } => {
            format!("must be {}", short(content_media_type))
        }
        Kind::FromUtf8 { .. } => "must be UTF-8".to_owned(),
        Kind::BacktrackLimitExceeded { .. }
        | Kind::RegexEngineFailure { .. }
        | Kind::Custom { .. }
        | Kind::Referencing(_) => "could not be checked".to_owned(),
    }
}

fn types(kind: &TypeKind) -> String {
    match kind {
        TypeKind::Single(one) => one.to_string(),
        TypeKind::Multiple(several) => {
            let words: Vec<_> = several.iter().map(|one| one.to_string()).collect();
            words.join(" or ")
        }
    }
}

fn names(unexpected: &[String]) -> String {
    let shown: Vec<_> = unexpected
        .iter()
        .take(NAMES_MAX)
        .map(|name| short(name))
        .collect();
    let shown = shown.join(", ");
    match unexpected.len().saturating_sub(NAMES_MAX) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// A value of the schema, as JSON.
fn quote(value: &Value) -> String {
    cut(&value.to_string())
}

/// A text in quotes.
fn short(text: &str) -> String {
    format!("{:?}", cut(text))
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(QUOTE_CHARS_MAX) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}
