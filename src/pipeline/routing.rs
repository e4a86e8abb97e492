//! The routing key of a message: a template whose parts a sender chooses only within limits.
//!
//! The key must begin with a literal, so that a sender can never choose the whole key. A value's
//! `/` becomes `.`, because a topic exchange counts words between dots (`orders/create` is two
//! words); whatever else is not in `[A-Za-z0-9_.-]` becomes `_`.

/// AMQP 0-9-1 short strings hold at most this many bytes.
pub const KEY_BYTES_MAX: usize = 255;

/// What stands for an event without a type.
pub const UNTYPED: &str = "event";

/// A compiled template: `stripe.{type}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutingKey(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    Type,
    Source,
}

impl RoutingKey {
    /// Compiles a template. `{type}` and `{source}` are what it can ask for.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in words.
    pub fn parse(template: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = template;
        while let Some((literal, tail)) = rest.split_once('{') {
            let Some((name, after)) = tail.split_once('}') else {
                return Err("a `{` without its `}`".to_owned());
            };
            push_literal(&mut parts, literal)?;
            parts.push(match name {
                "type" => Part::Type,
                "source" => Part::Source,
                other => {
                    return Err(format!(
                        "`{{{other}}}` is not known; there are `{{type}}` and `{{source}}`"
                    ));
                }
            });
            rest = after;
        }
        push_literal(&mut parts, rest)?;
        match parts.first() {
            None => Err("it is empty".to_owned()),
            Some(Part::Type) => {
                Err("the sender would control the whole key: begin with a literal".to_owned())
            }
            Some(Part::Literal(_) | Part::Source) => Ok(Self(parts)),
        }
    }

    /// The key for one event.
    pub fn render(&self, source: &str, event_type: Option<&str>) -> String {
        let mut key = String::with_capacity(64);
        for part in &self.0 {
            match part {
                Part::Literal(text) => key.push_str(text),
                Part::Type => key.push_str(&words(event_type.unwrap_or(UNTYPED))),
                // Names of sources hold nothing else, by configuration.
                Part::Source => key.push_str(source),
            }
        }
        // Everything in it is ASCII, so any byte is a boundary.
        key.truncate(KEY_BYTES_MAX);
        key
    }
}

fn push_literal(parts: &mut Vec<Part>, literal: &str) -> Result<(), String> {
    if literal.is_empty() {
        return Ok(());
    }
    match literal.chars().find(|&c| !is_plain(c)) {
        Some(odd) => Err(format!(
            "{odd:?} cannot stand in a routing key: use letters, digits, `_`, `-` and `.`"
        )),
        None => {
            parts.push(Part::Literal(literal.to_owned()));
            Ok(())
        }
    }
}

/// A sender's value as words of a routing key. Also the name of an event type's schema file.
pub fn words(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    // A command like `/weather` has no empty word before it.
    for c in value.strip_prefix('/').unwrap_or(value).chars() {
        match c {
            '/' => out.push('.'),
            c if is_plain(c) => out.push(c),
            _ => out.push('_'),
        }
    }
    out
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(template: &str, event_type: Option<&str>, expected: &str) {
        let key = RoutingKey::parse(template)
            .unwrap()
            .render("shop", event_type);
        assert_eq!(key, expected);
    }

    #[test]
    fn values_are_confined() {
        check("shop.{type}", Some("orders/create"), "shop.orders.create");
        check("shop.{type}", Some("/weather"), "shop.weather");
        check("{source}.{type}", Some("a b#*\u{e9}"), "shop.a_b___");
        check("shop.{type}", None, "shop.event");
        check("fixed", Some("x"), "fixed");
        let long = "x".repeat(300);
        let key = RoutingKey::parse("a.{type}")
            .unwrap()
            .render("s", Some(&long));
        assert_eq!(key.len(), KEY_BYTES_MAX);
    }

    #[test]
    fn templates_that_give_the_key_away_or_make_no_sense_are_refused() {
        for (template, why) in [
            ("{type}", "control the whole key"),
            ("", "empty"),
            ("a.{typ}", "`{typ}` is not known"),
            ("a.{type", "without its"),
            ("a b", "cannot stand"),
            ("a.#", "cannot stand"),
        ] {
            let error = RoutingKey::parse(template).unwrap_err();
            assert!(error.contains(why), "{template}: {error}");
        }
    }
}
