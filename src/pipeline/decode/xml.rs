//! XML as JSON, for schemas and expressions.
//!
//! ```text
//! <order id="7"><item>a</item><item>b</item><note>x &lt; y</note></order>
//! {"order": {"@id": "7", "item": ["a", "b"], "note": "x < y"}}
//! ```
//!
//! The document is an object of its root element. An element without attributes and without
//! elements in it is its text. Another is an object: attributes under `@NAME`, elements under their
//! names as written, with prefix, as a list where a name repeats; text between them, if it is more
//! than white space, under `#text`. CDATA is text; comments and processing instructions are
//! nothing. Every value is a text, because XML knows no other.
//!
//! There is no document type declaration and there are no entities but the five of XML and
//! character references: no file is read, nothing is fetched, nothing expands.

use quick_xml::errors::{Error, IllFormedError};
use quick_xml::events::{BytesDecl, BytesStart, Event};
use quick_xml::{Reader, XmlVersion, escape};
use serde_json::{Map, Value};

use super::form::push;

/// Deepest nesting, that of JSON.
const DEPTH_MAX: usize = 128;

/// An element while it is read.
struct Element {
    name: String,
    members: Map<String, Value>,
    text: String,
}

/// Reads a text whole.
///
/// # Errors
///
/// Line, column and the rule that is broken, without anything of the text.
pub(super) fn read(text: &str) -> Result<Value, String> {
    let mut reader = Reader::from_str(text);
    let config = reader.config_mut();
    config.expand_empty_elements = true;
    config.check_comments = true;
    let mut tree = Tree::default();
    loop {
        let began = reader.buffer_position();
        let taken = match reader.read_event() {
            Ok(Event::Eof) => {
                return tree
                    .finish()
                    .map_err(|rule| at(text, reader.buffer_position(), rule));
            }
            Ok(event) => tree.take(&event).map_err(|rule| (began, rule)),
            Err(error) => Err((reader.error_position(), rule_of(&error))),
        };
        taken.map_err(|(offset, rule)| at(text, offset, rule))?;
    }
}

#[derive(Default)]
struct Tree {
    /// Whether anything has been read; a declaration may only come first.
    has_begun: bool,
    /// From the root inwards.
    open: Vec<Element>,
    root: Option<(String, Value)>,
}

impl Tree {
    fn take(&mut self, event: &Event<'_>) -> Result<(), &'static str> {
        match event {
            Event::Start(start) => self.begin(start)?,
            Event::End(_) => self.end(),
            Event::Text(text) => self.text(&text.xml10_content())?,
            Event::CData(text) if self.open.is_empty() => {
                return Err(if text.is_empty() { STRAY } else { OUTSIDE });
            }
            Event::CData(text) => self.text(&text.xml10_content())?,
            Event::GeneralRef(reference) => {
                let character = reference.resolve_char_ref().map_err(|_odd| CHARACTER)?;
                match character {
                    Some(character) => self.text(character.encode_utf8(&mut [0; 4]))?,
                    None => {
                        let known = escape::resolve_predefined_entity(reference);
                        self.text(known.ok_or(ENTITY)?)?;
                    }
                }
            }
            Event::Decl(declaration) => self.declare(declaration)?,
            Event::DocType(_) => return Err("a document type declaration is not taken"),
            // Empty elements come as a start and an end.
            Event::Comment(_) | Event::PI(_) | Event::Empty(_) | Event::Eof => {}
        }
        self.has_begun = true;
        Ok(())
    }

    fn begin(&mut self, start: &BytesStart<'_>) -> Result<(), &'static str> {
        if self.root.is_some() {
            return Err("there is a second root element");
        }
        if self.open.len() == DEPTH_MAX {
            return Err("it is nested too deeply");
        }
        let name = name(start.name().as_ref())?;
        let mut members = Map::new();
        for attribute in start.attributes() {
            let attribute = attribute.map_err(|_fault| "an attribute is malformed or repeated")?;
            let value = attribute.normalized_value(XmlVersion::Implicit1_0);
            let value = value.map_err(|_fault| ENTITY)?;
            // Section 3.1 of the specification: no `<` in a value.
            if attribute.value.contains('<') {
                return Err("an attribute is malformed or repeated");
            }
            check_characters(&value)?;
            let key = format!("@{}", self::name(attribute.key.as_ref())?);
            members.insert(key, Value::String(value.into_owned()));
        }
        self.open.push(Element {
            name,
            members,
            text: String::new(),
        });
        Ok(())
    }

    fn end(&mut self) {
        let Some(element) = self.open.pop() else {
            return;
        };
        let Element {
            name,
            mut members,
            text,
        } = element;
        let value = if members.is_empty() {
            Value::String(text)
        } else {
            if !text.trim_matches(is_space).is_empty() {
                members.insert("#text".to_owned(), Value::String(text));
            }
            Value::Object(members)
        };
        match self.open.last_mut() {
            Some(parent) => push(&mut parent.members, name, value),
            None => self.root = Some((name, value)),
        }
    }

    fn text(&mut self, text: &str) -> Result<(), &'static str> {
        check_characters(text)?;
        match self.open.last_mut() {
            Some(element) => element.text.push_str(text),
            None if text.chars().all(is_space) => {}
            None => return Err(OUTSIDE),
        }
        Ok(())
    }

    fn declare(&self, declaration: &BytesDecl<'_>) -> Result<(), &'static str> {
        if self.has_begun {
            return Err("the XML declaration does not come first");
        }
        let encoding = declaration.encoding().transpose();
        let encoding = encoding.map_err(|_fault| "its declaration is malformed")?;
        match encoding.as_deref() {
            Some(other)
                if !other.eq_ignore_ascii_case("utf-8")
                    && !other.eq_ignore_ascii_case("us-ascii") =>
            {
                Err("it declares an encoding that is not UTF-8")
            }
            _ => Ok(()),
        }
    }

    fn finish(self) -> Result<Value, &'static str> {
        match self.root {
            Some((name, value)) => Ok(Value::Object(Map::from_iter([(name, value)]))),
            None if self.open.is_empty() => Err("there is no element"),
            None => Err("it ends within an element"),
        }
    }
}

const STRAY: &str = "there is a CDATA section outside the root element";
const OUTSIDE: &str = "there is text outside the root element";
const ENTITY: &str = "it has an entity that XML does not define, or none that ends";
const CHARACTER: &str = "it has a character that XML does not allow";

fn rule_of(error: &Error) -> &'static str {
    match error {
        Error::Syntax(_) => "markup is malformed or has no end",
        Error::IllFormed(IllFormedError::MismatchedEndTag { .. }) => {
            "an end tag is not that of the open element"
        }
        Error::IllFormed(IllFormedError::UnmatchedEndTag(_)) => "an end tag has no start",
        Error::IllFormed(IllFormedError::MissingEndTag(_)) => "it ends within an element",
        Error::IllFormed(IllFormedError::UnclosedReference) | Error::Escape(_) => ENTITY,
        Error::InvalidAttr(_) => "an attribute is malformed or repeated",
        _ => "it is not well formed",
    }
}

/// `name` as it may be, by section 2.3 of the specification as far as ASCII goes.
fn name(name: &str) -> Result<String, &'static str> {
    let starts = |c: char| c.is_ascii_alphabetic() || c == '_' || c == ':' || !c.is_ascii();
    let goes_on = |c: char| starts(c) || c.is_ascii_digit() || c == '-' || c == '.';
    if name.starts_with(starts) && name.chars().all(goes_on) {
        Ok(name.to_owned())
    } else {
        Err("a name has a character that names do not have")
    }
}

/// Section 2.2 of the specification: no control characters but tab and line ends.
fn check_characters(text: &str) -> Result<(), &'static str> {
    let odd = |c: char| {
        (c < ' ' && !matches!(c, '\t' | '\n' | '\r')) || matches!(c, '\u{fffe}' | '\u{ffff}')
    };
    if text.contains(odd) {
        Err(CHARACTER)
    } else {
        Ok(())
    }
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

/// Line and column of a byte, and the rule.
fn at(text: &str, offset: u64, rule: &str) -> String {
    let offset = usize::try_from(offset)
        .unwrap_or(text.len())
        .min(text.len());
    let before = text.as_bytes().get(..offset).unwrap_or_default();
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let from = before.iter().rposition(|byte| *byte == b'\n');
    let column = offset - from.map_or(0, |newline| newline + 1) + 1;
    format!("line {line}, column {column}: {rule}")
}

#[cfg(test)]
mod tests;
