//! Where a signature stands and how it is written: places, list, prefix. Also tokens.

use std::borrow::Cow;
use std::fmt;

use serde_json::Value;

use crate::pipeline::expr::facts::Facts;
use crate::pipeline::expr::{Found, Place};
use crate::pipeline::verify::refusal::Refusal;

/// Most signatures of one request that are compared. Rotation needs two or three.
pub(super) const SIGNATURES_MAX: usize = 16;

/// Where to look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Spot {
    At(Place),
    /// `header*:PREFIX`: every header whose name begins so; lower case, with the spelling that
    /// people know.
    HeadersLike {
        prefix: String,
        written: String,
    },
    /// `json:/list/*/member`: the same member of every element of a list; `json:/list/*`: the
    /// element itself.
    Each {
        list: String,
        member: String,
    },
}

/// Most elements of a list that are looked at. Microsoft Graph sends at most 1,000.
const ELEMENTS_MAX: usize = 1_000;

/// `list`: `t=1,v1=abc,v1=def`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct List {
    pub(super) separator: String,
    /// `None`: every item is a signature.
    pub(super) named: Option<Named>,
}

/// Names of items.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) assign: String,
    pub(super) pick: String,
}

/// Where signatures stand and how they are written.
#[derive(Clone, Debug)]
pub(super) struct Signature {
    pub(super) spots: Vec<Spot>,
    pub(super) list: Option<List>,
    pub(super) prefix: String,
}

/// One signature as it was sent.
#[derive(Debug)]
pub(super) struct Sent<'a> {
    pub(super) place: String,
    pub(super) text: Cow<'a, [u8]>,
}

impl Signature {
    /// Of a proof that does not stand at a place.
    pub(super) fn nowhere() -> Self {
        Self {
            spots: Vec::new(),
            list: None,
            prefix: String::new(),
        }
    }

    /// Every signature of the request: at least one, without its prefix. Only items of the picked
    /// name count, so that nobody can choose a weaker version.
    pub(super) fn sent<'a>(&self, facts: &'a Facts<'_>) -> Result<Vec<Sent<'a>>, Refusal> {
        let mut sent = Vec::new();
        let mut flaw = None;
        for value in self.values(facts)? {
            let items = match &self.list {
                None => vec![value],
                Some(list) => {
                    let picked = list.picked(&value);
                    if let (true, Some(named)) = (picked.is_empty(), &list.named) {
                        let (place, pick) = (value.place, named.pick.clone());
                        flaw = Some(Refusal::NotListed { place, pick });
                    }
                    picked
                }
            };
            for item in items {
                match strip(item, &self.prefix) {
                    Ok(item) => sent.push(item),
                    Err(refusal) => flaw = Some(refusal),
                }
            }
            if sent.len() > SIGNATURES_MAX && !self.is_each() {
                return Err(Refusal::TooMany(SIGNATURES_MAX));
            }
        }
        match flaw {
            Some(flaw) if sent.is_empty() => Err(flaw),
            _ if sent.is_empty() => Err(Refusal::Absent(self.to_string())),
            _ => Ok(sent),
        }
    }

    /// What stands at every place, without its prefix: where all of it has to hold, nothing is
    /// passed over.
    pub(super) fn each_sent<'a>(&self, facts: &'a Facts<'_>) -> Result<Vec<Sent<'a>>, Refusal> {
        let values = self.values(facts)?;
        if values.len() > SIGNATURES_MAX {
            return Err(Refusal::TooMany(SIGNATURES_MAX));
        }
        let stripped = values.into_iter().map(|value| strip(value, &self.prefix));
        stripped.collect()
    }

    /// Whether everything that was presented counts, and not any of it.
    pub(super) fn is_each(&self) -> bool {
        let is_each = |spot: &Spot| matches!(spot, Spot::Each { .. });
        self.spots.iter().any(is_each)
    }

    /// The same places with signatures as they stand, for `diagnose`.
    pub(super) fn without_prefix(&self) -> Self {
        Self {
            prefix: String::new(),
            ..self.clone()
        }
    }

    /// The value of the list's item `key`, for a timestamp that stands beside the signature.
    pub(super) fn item(&self, facts: &Facts<'_>, key: &str) -> Result<Found<Vec<u8>>, Refusal> {
        let Some((list, named)) = self
            .list
            .as_ref()
            .and_then(|l| Some((l, l.named.as_ref()?)))
        else {
            return Ok(Found::Absent);
        };
        let values = self.values(facts)?;
        let items = values.iter().flat_map(|value| list.items(&value.text));
        let values = items.filter_map(|item| value_of(item, &named.assign, key));
        Ok(Found::of(values.map(<[u8]>::to_vec)))
    }

    /// What stands at the places, whole.
    fn values<'a>(&self, facts: &'a Facts<'_>) -> Result<Vec<Sent<'a>>, Refusal> {
        let mut values = Vec::new();
        for spot in &self.spots {
            match spot {
                Spot::At(place) => match facts.find(place)? {
                    Found::Absent => {}
                    Found::Once(text) => values.push(Sent {
                        place: place.to_string(),
                        text,
                    }),
                    Found::Twice => return Err(Refusal::Ambiguous(place.to_string())),
                },
                Spot::Each { list, member } => {
                    values.extend(each(facts.json()?, list, member)?);
                }
                Spot::HeadersLike { prefix, .. } => {
                    let headers = &facts.head.headers;
                    for name in headers
                        .keys()
                        .filter(|name| name.as_str().starts_with(prefix))
                    {
                        let place = format!("header {name}");
                        match Found::of(headers.get_all(name).iter()) {
                            Found::Absent => {}
                            Found::Once(value) => {
                                let text = Cow::Borrowed(value.as_bytes());
                                values.push(Sent { place, text });
                            }
                            Found::Twice => return Err(Refusal::Ambiguous(place)),
                        }
                    }
                }
            }
        }
        if values.is_empty() {
            Err(Refusal::Absent(self.to_string()))
        } else {
            Ok(values)
        }
    }
}

/// The member of every element: one that lacks it, or has it as something else than text, is a
/// refusal.
fn each<'a>(json: &'a Value, list: &str, member: &str) -> Result<Vec<Sent<'a>>, Refusal> {
    let place = || format!("body member {list}/*{member}");
    let elements = json.pointer(list).and_then(Value::as_array);
    let elements = elements.map(Vec::as_slice).unwrap_or_default();
    if elements.len() > ELEMENTS_MAX {
        return Err(Refusal::TooMany(ELEMENTS_MAX));
    }
    let mut values = Vec::new();
    for element in elements {
        let value = element.pointer(member).and_then(Value::as_str);
        let value = value.ok_or_else(|| Refusal::Absent(place()))?;
        values.push(Sent {
            place: place(),
            text: Cow::Borrowed(value.as_bytes()),
        });
    }
    Ok(values)
}

/// The places, for messages.
impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, spot) in self.spots.iter().enumerate() {
            if position > 0 {
                f.write_str(" or ")?;
            }
            match spot {
                Spot::At(place) => place.fmt(f)?,
                Spot::HeadersLike { written, .. } => write!(f, "header {written}*")?,
                Spot::Each { list, member } => write!(f, "body member {list}/*{member}")?,
            }
        }
        Ok(())
    }
}

impl List {
    fn picked<'a>(&self, value: &Sent<'a>) -> Vec<Sent<'a>> {
        let items = self.items(&value.text);
        let texts = items.filter_map(|item| match &self.named {
            None => Some(item),
            Some(named) => value_of(item, &named.assign, &named.pick),
        });
        texts
            .take(SIGNATURES_MAX + 1)
            .map(|text| Sent {
                place: value.place.clone(),
                text: Cow::Owned(text.to_vec()),
            })
            .collect()
    }

    fn items<'t>(&self, text: &'t [u8]) -> impl Iterator<Item = &'t [u8]> {
        split(text, self.separator.as_bytes())
            .map(<[u8]>::trim_ascii)
            .filter(|i| !i.is_empty())
    }
}

fn value_of<'t>(item: &'t [u8], assign: &str, key: &str) -> Option<&'t [u8]> {
    item.strip_prefix(key.as_bytes())?
        .strip_prefix(assign.as_bytes())
}

fn split<'t>(text: &'t [u8], separator: &[u8]) -> impl Iterator<Item = &'t [u8]> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest.take()?;
        let end = text
            .windows(separator.len().max(1))
            .position(|window| window == separator);
        let Some((item, tail)) = end.and_then(|end| text.split_at_checked(end)) else {
            return Some(text);
        };
        rest = tail.get(separator.len()..);
        Some(item)
    })
}

fn strip<'a>(sent: Sent<'a>, prefix: &str) -> Result<Sent<'a>, Refusal> {
    let Sent { place, text } = sent;
    let text = match text {
        Cow::Borrowed(text) => text.strip_prefix(prefix.as_bytes()).map(Cow::Borrowed),
        Cow::Owned(text) => text
            .strip_prefix(prefix.as_bytes())
            .map(|text| Cow::Owned(text.to_vec())),
    };
    match text {
        Some(text) => Ok(Sent { place, text }),
        None => Err(Refusal::Prefix {
            place,
            prefix: prefix.to_owned(),
        }),
    }
}
