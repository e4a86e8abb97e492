//! `Signature-Input` and `Signature` (RFC 9421, section 4): dictionaries of the same labels.

use http::{HeaderMap, HeaderName};
use jiff::Timestamp;
use sfv::{BareItem, Dictionary, FieldType as _, InnerList, ListEntry, Parser};

use super::component::Component;
use crate::pipeline::verify::refusal::Refusal;
use crate::pipeline::verify::signature::SIGNATURES_MAX;

/// What says what is signed.
pub(super) const SIGNATURE_INPUT: HeaderName = HeaderName::from_static("signature-input");

/// What holds the signatures.
pub(super) const SIGNATURE: HeaderName = HeaderName::from_static("signature");

/// Most components of all signatures together. Each is a look at the request, and may read a whole
/// field.
const COMPONENTS_MAX: usize = 64;

/// One signature with what it says of itself.
#[derive(Debug)]
pub(super) struct Signed {
    pub(super) components: Vec<Component>,
    pub(super) parameters: Parameters,
    /// Components and parameters as they stand in the signature's base.
    pub(super) written: String,
    pub(super) signature: Vec<u8>,
}

/// Its parameters (RFC 9421, section 2.3). Others are signed like these and say nothing here.
#[derive(Debug, Default)]
pub(super) struct Parameters {
    pub(super) created: Option<Timestamp>,
    pub(super) expires: Option<Timestamp>,
    pub(super) keyid: Option<String>,
    pub(super) alg: Option<String>,
    pub(super) tag: Option<String>,
}

/// The signatures of a request; with `label`, only that one. At least one.
pub(super) fn signatures(headers: &HeaderMap, label: Option<&str>) -> Result<Vec<Signed>, Refusal> {
    let inputs = dictionary(headers, &SIGNATURE_INPUT)?;
    let signatures = dictionary(headers, &SIGNATURE)?;
    if inputs.len() > SIGNATURES_MAX {
        return Err(Refusal::TooMany(SIGNATURES_MAX));
    }
    let covered = inputs.iter().map(|(_, input)| match input {
        ListEntry::InnerList(list) => list.items.len(),
        ListEntry::Item(_) => 0,
    });
    if covered.sum::<usize>() > COMPONENTS_MAX {
        return Err(Refusal::TooMany(COMPONENTS_MAX));
    }
    let mut found = Vec::new();
    let mut flaw = None;
    for (name, input) in &inputs {
        if label.is_some_and(|label| label != name.as_str()) {
            continue;
        }
        let signature = match signatures.get(name.as_str()) {
            Some(ListEntry::Item(item)) => item.bare_item.as_byte_sequence(),
            Some(ListEntry::InnerList(_)) | None => None,
        };
        match (input, signature) {
            (ListEntry::InnerList(list), Some(signature)) => match signed(list, signature) {
                Ok(signed) => found.push(signed),
                Err(refusal) => flaw = flaw.or(Some(refusal)),
            },
            (ListEntry::InnerList(_), None) => {
                flaw = flaw.or_else(|| Some(Refusal::Absent(format!("signature `{name}`"))));
            }
            (ListEntry::Item(_), _) => flaw = flaw.or_else(|| Some(unreadable(&SIGNATURE_INPUT))),
        }
    }
    match (found.is_empty(), flaw) {
        (false, _) => Ok(found),
        (true, Some(flaw)) => Err(flaw),
        (true, None) => Err(Refusal::Absent(match label {
            Some(label) => format!("signature `{label}`"),
            None => "header Signature-Input".to_owned(),
        })),
    }
}

pub(super) fn signed(list: &InnerList, signature: &[u8]) -> Result<Signed, Refusal> {
    let mut components: Vec<Component> = Vec::new();
    for item in &list.items {
        let component = Component::of(item).map_err(Refusal::Unsupported)?;
        if components.iter().any(|other| other.is_same(&component)) {
            return Err(Refusal::Ambiguous(component.written().to_owned()));
        }
        components.push(component);
    }
    Ok(Signed {
        components,
        parameters: parameters(list)?,
        written: written(list),
        signature: signature.to_vec(),
    })
}

fn parameters(list: &InnerList) -> Result<Parameters, Refusal> {
    let mut parameters = Parameters::default();
    for (name, value) in &list.params {
        let time = || {
            let seconds = value.as_integer().map(i64::from);
            let time = seconds.and_then(|seconds| Timestamp::from_second(seconds).ok());
            time.map(Some).ok_or_else(|| unreadable(&SIGNATURE_INPUT))
        };
        let text = || {
            let text = value.as_string().map(|text| text.as_str().to_owned());
            text.map(Some).ok_or_else(|| unreadable(&SIGNATURE_INPUT))
        };
        match name.as_str() {
            "created" => parameters.created = time()?,
            "expires" => parameters.expires = time()?,
            "keyid" => parameters.keyid = text()?,
            "alg" => parameters.alg = text()?,
            "tag" => parameters.tag = text()?,
            _ => {}
        }
    }
    Ok(parameters)
}

/// An inner list as it stands in a field.
pub(super) fn written(list: &InnerList) -> String {
    vec![ListEntry::InnerList(list.clone())]
        .serialize()
        .unwrap_or_default()
}

/// All lines of a field, as one value (RFC 9110, section 5.3).
pub(super) fn joined(headers: &HeaderMap, name: &HeaderName) -> Vec<u8> {
    let lines = headers.get_all(name).iter();
    let lines: Vec<&[u8]> = lines.map(|line| line.as_bytes().trim_ascii()).collect();
    lines.join(&b", "[..])
}

fn dictionary(headers: &HeaderMap, name: &HeaderName) -> Result<Dictionary, Refusal> {
    if !headers.contains_key(name) {
        return Err(Refusal::Absent(format!("header {}", titled(name))));
    }
    Parser::new(&joined(headers, name))
        .parse()
        .map_err(|_error| unreadable(name))
}

fn unreadable(name: &HeaderName) -> Refusal {
    Refusal::Undecodable {
        place: format!("header {}", titled(name)),
        encoding: "a structured field",
    }
}

fn titled(name: &HeaderName) -> &'static str {
    if *name == SIGNATURE_INPUT {
        "Signature-Input"
    } else {
        "Signature"
    }
}

/// A bare item of a text, for what is signed here. `None`: not all of it is printable ASCII.
pub(super) fn text(text: &str) -> Option<BareItem> {
    sfv::String::from_string(text.to_owned())
        .ok()
        .map(BareItem::String)
}
