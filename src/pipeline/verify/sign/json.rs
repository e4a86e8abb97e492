//! JSON that gets another value somewhere, and is otherwise left as it is written: order of keys,
//! white space, digits.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::pipeline::expr::unescaped;

/// Longest list that is made for a pointer such as `/items/0/id`.
const INDEX_MAX: usize = 16;

/// The text `json` with the text `value` at `pointer` (RFC 6901). Objects and lists on the way are
/// made where there is nothing. `None` when something else is in the way, or this is no JSON.
pub(crate) fn put(json: &str, pointer: &str, value: &str) -> Option<String> {
    let names: Vec<String> = pointer.split('/').skip(1).map(unescaped).collect();
    put_at(json, &names, value)
}

fn put_at(json: &str, names: &[String], value: &str) -> Option<String> {
    let Some((name, rest)) = names.split_first() else {
        return Some(value.to_owned());
    };
    let made = || put_at("null", rest, value);
    let index = name
        .parse()
        .ok()
        .filter(|&index: &usize| index <= INDEX_MAX);
    let nothings = |count: usize| "null,".repeat(count);
    let key = Value::from(name.as_str());
    match json.trim_ascii_start().as_bytes().first()? {
        b'{' => {
            let members = members(json)?;
            match members.iter().rfind(|(key, _)| key == name) {
                Some((_, old)) => replaced(json, old, &put_at(old.get(), rest, value)?),
                None => {
                    let last = members.last().map(|(_, last)| *last);
                    appended(json, last, &format!("{key}:{}", made()?))
                }
            }
        }
        b'[' => {
            let items: Vec<&RawValue> = serde_json::from_str(json).ok()?;
            let index = index?;
            match items.get(index) {
                Some(old) => replaced(json, old, &put_at(old.get(), rest, value)?),
                None => {
                    let nothings = nothings(index - items.len());
                    let item = format!("{nothings}{}", made()?);
                    appended(json, items.last().copied(), &item)
                }
            }
        }
        b'n' => Some(match index {
            Some(index) => format!("[{}{}]", nothings(index), made()?),
            None => format!("{{{key}:{}}}", made()?),
        }),
        _ => None,
    }
}

/// The members of an object, in their order and as they are written.
pub(crate) fn members(json: &str) -> Option<Vec<(String, &RawValue)>> {
    let members: Members<'_> = serde_json::from_str(json).ok()?;
    Some(members.0)
}

/// `json` with other text for a part of it.
fn replaced(json: &str, part: &RawValue, text: &str) -> Option<String> {
    let (from, to) = range(json, part)?;
    Some(format!("{}{text}{}", json.get(..from)?, json.get(to..)?))
}

/// An object or a list with one more behind its last, if it has one.
fn appended(json: &str, last: Option<&RawValue>, text: &str) -> Option<String> {
    let (at, comma) = match last {
        Some(last) => (range(json, last)?.1, ","),
        None => (json.find(['{', '['])? + 1, ""),
    };
    Some(format!(
        "{}{comma}{text}{}",
        json.get(..at)?,
        json.get(at..)?
    ))
}

/// Where a part of a text begins and ends in it.
fn range(json: &str, part: &RawValue) -> Option<(usize, usize)> {
    let part = part.get();
    let from = part.as_ptr().addr().checked_sub(json.as_ptr().addr())?;
    Some((from, from + part.len()))
}

struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

#[cfg(test)]
mod tests {
    use super::put;

    #[test]
    fn a_value_is_put_where_it_belongs_and_the_rest_stays_as_it_is_written() {
        for (json, pointer, wanted) in [
            (
                "{\"b\": 1.50 , \"a\":2}\n",
                "/a",
                "{\"b\": 1.50 , \"a\":7}\n",
            ),
            ("{\"b\":1, \"a\":2 }", "/c", "{\"b\":1, \"a\":2,\"c\":7 }"),
            (" { }", "/a/0/b", " {\"a\":[{\"b\":7}] }"),
            (" [ ]", "/1", " [null,7 ]"),
            (
                "{\"b\":{\"z\":1},\"a\":[{\"y\":0}]}",
                "/a/0/x",
                "{\"b\":{\"z\":1},\"a\":[{\"y\":0,\"x\":7}]}",
            ),
            ("{\"a\":1,\"a\":2}", "/a", "{\"a\":1,\"a\":7}"),
            ("{\"a/b\":1}", "/a~1b", "{\"a/b\":7}"),
            ("1", "", "7"),
        ] {
            assert_eq!(put(json, pointer, "7").as_deref(), Some(wanted), "{json}");
        }
        for (json, pointer) in [
            ("1", "/a"),
            ("[]", "/a"),
            ("[]", "/17"),
            ("{\"a\":", "/a"),
            ("", "/a"),
        ] {
            assert_eq!(put(json, pointer, "7"), None, "{json}");
        }
    }
}
