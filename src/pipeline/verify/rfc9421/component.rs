//! Component identifiers (RFC 9421, section 2): what of a request a signature covers.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderName;
use sfv::{BareItem, Dictionary, FieldType as _, Item, List, ListEntry, Parser};

use super::Address;
use super::digest::{self, CONTENT_DIGEST};
use super::fields::joined;
use crate::pipeline::expr::facts::Facts;
use crate::pipeline::expr::{Found, find_query};
use crate::pipeline::verify::refusal::Refusal;

/// Structured fields that are dictionaries, for `;sf`. The type of any other is not known here.
const DICTIONARIES: [&str; 7] = [
    CONTENT_DIGEST,
    "priority",
    "repr-digest",
    "signature",
    "signature-input",
    "want-content-digest",
    "want-repr-digest",
];

/// Structured fields that are lists, for `;sf`.
const LISTS: [&str; 3] = ["accept-ch", "cache-status", "proxy-status"];

/// One part of a request that is signed.
#[derive(Clone, Debug)]
pub(super) struct Component {
    what: What,
    /// As it stands in the signature's base: name and parameters as they came.
    written: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    Method,
    TargetUri,
    Authority,
    Scheme,
    RequestTarget,
    Path,
    Query,
    /// Its name, encoded.
    QueryParam(String),
    Field(HeaderName, How),
}

/// How a field's value is written.
#[derive(Clone, Debug, PartialEq, Eq)]
enum How {
    AsIs,
    /// `;sf`: serialized again.
    Structured,
    /// `;key`: one member of a dictionary.
    Member(String),
    /// `;bs`: each line in base64.
    Bytes,
}

/// A request as its components see it.
#[derive(Debug)]
pub(super) struct Request<'a> {
    pub(super) facts: &'a Facts<'a>,
    pub(super) address: &'a Address,
}

impl Component {
    /// As it stands in `Signature-Input`.
    ///
    /// # Errors
    ///
    /// What is not known or not taken, in words.
    pub(super) fn of(item: &Item) -> Result<Self, String> {
        let name = item.bare_item.as_string().map(|name| name.as_str());
        let name = name.ok_or("a component's name is a string")?;
        let written = item.serialize();
        let what = if name.starts_with('@') {
            derived(name, item)?
        } else {
            field(name, item)?
        };
        Ok(Self { what, written })
    }

    /// As an operator writes it: `@method`, `content-digest`, `"@query-param";name="id"`.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in words.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let quoted = if text.starts_with('"') {
            Cow::Borrowed(text)
        } else {
            Cow::Owned(format!("\"{text}\""))
        };
        let item = Parser::new(&*quoted).parse::<Item>();
        let item = item.map_err(|error| format!("`{text}` is no component: {error}"))?;
        Self::of(&item)
    }

    pub(super) fn written(&self) -> &str {
        &self.written
    }

    /// Whether it is the same part, in whatever order its parameters are.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.what == other.what
    }

    /// Whether who changes the body has to change it.
    pub(super) fn is_content_digest(&self) -> bool {
        match &self.what {
            What::Field(name, How::AsIs | How::Structured | How::Bytes) => name == CONTENT_DIGEST,
            What::Field(name, How::Member(key)) => name == CONTENT_DIGEST && digest::is_known(key),
            _ => false,
        }
    }

    /// Whether who changes the query has to change it.
    pub(super) fn is_whole_query(&self) -> bool {
        matches!(
            self.what,
            What::TargetUri | What::RequestTarget | What::Query
        )
    }

    /// Whether it holds any of the query.
    pub(super) fn is_of_query(&self) -> bool {
        self.is_whole_query() || matches!(self.what, What::QueryParam(_))
    }

    /// The field that it is of, if it is.
    pub(super) fn field(&self) -> Option<&HeaderName> {
        match &self.what {
            What::Field(name, _) => Some(name),
            _ => None,
        }
    }

    /// Its value in a request.
    pub(super) fn value(&self, request: &Request<'_>) -> Result<Vec<u8>, Refusal> {
        let Request { facts, address } = request;
        let query = || {
            let query = facts.head.query.as_deref();
            query.map_or_else(String::new, |query| format!("?{query}"))
        };
        let text = match &self.what {
            What::Method => facts.head.method.as_str().to_owned(),
            What::TargetUri => format!("{}{}", address.url, query()),
            What::Authority => address.authority.clone(),
            What::Scheme => address.scheme.clone(),
            What::RequestTarget => format!("{}{}", address.path, query()),
            What::Path => address.path.clone(),
            What::Query => format!("?{}", facts.head.query.as_deref().unwrap_or_default()),
            What::QueryParam(name) => self.query_param(name, facts)?,
            What::Field(name, how) => return self.field_value(name, how, facts),
        };
        Ok(text.into_bytes())
    }

    fn query_param(&self, name: &str, facts: &Facts<'_>) -> Result<String, Refusal> {
        let decoded = form_urlencoded::parse(name.as_bytes()).next();
        let decoded = decoded.map_or(Cow::Borrowed(""), |(name, _)| name);
        // Another spelling of the same name would be another text to be signed.
        if encoded(&decoded) != name {
            return Err(Refusal::Unsupported(self.written.clone()));
        }
        match find_query(facts.head, &decoded) {
            Found::Once(value) => Ok(encoded(&value)),
            Found::Absent => Err(Refusal::FieldAbsent(self.written.clone())),
            Found::Twice => Err(Refusal::Ambiguous(self.written.clone())),
        }
    }

    fn field_value(
        &self,
        name: &HeaderName,
        how: &How,
        facts: &Facts<'_>,
    ) -> Result<Vec<u8>, Refusal> {
        let headers = &facts.head.headers;
        if !headers.contains_key(name) {
            return Err(Refusal::FieldAbsent(format!("header {name}")));
        }
        let unreadable = || Refusal::Undecodable {
            place: format!("header {name}"),
            encoding: "a structured field",
        };
        let value = match how {
            How::AsIs => return Ok(joined(headers, name)),
            How::Bytes => {
                let lines = headers.get_all(name).iter();
                let lines = lines
                    .map(|line| format!(":{}:", STANDARD.encode(line.as_bytes().trim_ascii())));
                lines.collect::<Vec<String>>().join(", ")
            }
            How::Structured => {
                let value = joined(headers, name);
                let parser = Parser::new(&value);
                if DICTIONARIES.contains(&name.as_str()) {
                    let dictionary = parser.parse::<Dictionary>().ok();
                    dictionary.map(|it| it.serialize().unwrap_or_default())
                } else {
                    let list = parser.parse::<List>().ok();
                    list.map(|it| it.serialize().unwrap_or_default())
                }
                .ok_or_else(unreadable)?
            }
            How::Member(key) => {
                let dictionary: Option<Dictionary> =
                    Parser::new(&joined(headers, name)).parse().ok();
                let dictionary = dictionary.ok_or_else(unreadable)?;
                match dictionary.get(key.as_str()) {
                    None => return Err(Refusal::FieldAbsent(self.written.clone())),
                    Some(ListEntry::Item(item)) => item.serialize(),
                    Some(list @ ListEntry::InnerList(_)) => {
                        vec![list.clone()].serialize().unwrap_or_default()
                    }
                }
            }
        };
        Ok(value.into_bytes())
    }
}

fn derived(name: &str, item: &Item) -> Result<What, String> {
    if name == "@query-param" {
        let parameter = item.params.get("name").and_then(BareItem::as_string);
        return match parameter {
            Some(name) if item.params.len() == 1 => Ok(What::QueryParam(name.as_str().to_owned())),
            _ => Err("`@query-param` has one parameter, `name`, and no other".to_owned()),
        };
    }
    let what = match name {
        "@method" => What::Method,
        "@target-uri" => What::TargetUri,
        "@authority" => What::Authority,
        "@scheme" => What::Scheme,
        "@request-target" => What::RequestTarget,
        "@path" => What::Path,
        "@query" => What::Query,
        _ => {
            return Err(format!(
                "`{name}` is no part of a request that is known here"
            ));
        }
    };
    match item.params.keys().next() {
        None => Ok(what),
        Some(parameter) => Err(format!("`{name}` cannot have the parameter `{parameter}`")),
    }
}

fn field(name: &str, item: &Item) -> Result<What, String> {
    let header = HeaderName::from_lowercase(name.as_bytes())
        .map_err(|_invalid| format!("`{name}` is no header's name in lower case"))?;
    let mut how = How::AsIs;
    for (parameter, value) in &item.params {
        how = match (parameter.as_str(), value, &how) {
            ("key", BareItem::String(key), How::AsIs | How::Structured) => {
                How::Member(key.as_str().to_owned())
            }
            ("sf", BareItem::Boolean(true), How::AsIs) => How::Structured,
            ("sf", BareItem::Boolean(true), How::Member(_)) => how,
            ("bs", BareItem::Boolean(true), How::AsIs) => How::Bytes,
            ("tr" | "req", ..) => {
                return Err(format!(
                    "`{name}` with `{parameter}` is not part of a request here"
                ));
            }
            _ => return Err(format!("`{name}` cannot have `{parameter}` like that")),
        };
    }
    let is_known = DICTIONARIES.contains(&name) || LISTS.contains(&name);
    if how == How::Structured && !is_known {
        return Err(format!(
            "which kind of structured field `{name}` is, is not known here"
        ));
    }
    Ok(What::Field(header, how))
}

/// Percent-encoded as in a form, but with `%20` for a blank (RFC 9421, section 2.2.8).
fn encoded(text: &str) -> String {
    let encoded: String = form_urlencoded::byte_serialize(text.as_bytes()).collect();
    encoded.replace('+', "%20")
}
