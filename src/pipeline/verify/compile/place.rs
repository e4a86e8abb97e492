//! Where the proof stands: `signature`, `list`, `prefix`.

use crate::config::raw::{RawList, RawScheme};
use crate::pipeline::expr::{Header, Place};
use crate::pipeline::verify::compile::{Asked, Compiler};
use crate::pipeline::verify::signature::{List, Named, Signature, Spot};
use crate::pipeline::verify::sns;
use crate::pipeline::verify::template::Template;
use crate::pipeline::verify::words::config_value;

/// Where `basic` looks when the configuration does not say.
const BASIC_DEFAULT: &str = "header:Authorization";

impl Compiler<'_> {
    pub(super) fn signature(&mut self, raw: &RawScheme, asked: Option<Asked>) -> Option<Signature> {
        let mut spots = Vec::new();
        for text in &raw.signature {
            let spot = match text.strip_prefix("json:").filter(|it| it.contains("/*")) {
                Some(pointer) if matches!(asked, Some(Asked::Token | Asked::Jwt)) => each(pointer),
                _ => spot(text),
            };
            spots.extend(self.take("signature", spot));
        }
        let is_each = |spot: &Spot| matches!(spot, Spot::Each { .. });
        let is_plain = spots.len() == 1 && raw.list.is_none() && raw.prefix.is_none();
        if spots.iter().any(is_each) && !is_plain {
            self.wrong(
                "signature",
                "every element of a list has to be right, so nothing else can stand beside it",
                "name one place, without `list` and `prefix`",
            );
        }
        if raw.signature.is_empty() {
            if asked == Some(Asked::Basic) {
                spots.extend(self.take("signature", spot(BASIC_DEFAULT)));
            } else if asked == Some(Asked::Sns) {
                spots.extend(self.take("signature", spot(sns::SIGNATURE)));
            } else {
                self.wrong(
                    "signature",
                    "`signature` is missing: nobody knows where the proof stands",
                    "for example `signature = \"header:X-Signature\"`",
                );
            }
        }
        let list = match &raw.list {
            None => None,
            Some(raw) => Some(self.list(raw)?),
        };
        let prefix = raw.prefix.clone().unwrap_or_default();
        (!spots.is_empty()).then_some(Signature {
            spots,
            list,
            prefix,
        })
    }

    /// What is signed is there before its signature, so the signature is no part of it.
    pub(super) fn ensure_can_hold(&mut self, signature: &Signature, template: &Template) {
        let places = signature.spots.iter().filter_map(|spot| match spot {
            Spot::At(place) => Some(place),
            Spot::HeadersLike { .. } | Spot::Each { .. } => None,
        });
        for place in places.filter(|place| template.covers(place)) {
            let what = format!(
                "the signature stands at `{place}`, which is itself part of what is signed: it \
                 could never hold"
            );
            let help = match place {
                Place::Query(_) => {
                    "`{url}` has the whole query in it: name what of it the sender signs, such as \
                     \"{query:id}.{body}\""
                }
                _ => "name what the sender signs, such as \"{json:/id}\"",
            };
            self.wrong("signed", what, help);
        }
    }

    fn list(&mut self, raw: &RawList) -> Option<List> {
        let example = "for example `list = { separator = \",\", assign = \"=\", pick = \"v1\" }`";
        let Some(separator) = raw
            .separator
            .clone()
            .filter(|separator| !separator.is_empty())
        else {
            self.wrong("list", "`separator` is missing", example);
            return None;
        };
        let named = match (&raw.assign, &raw.pick) {
            (None, None) => None,
            (Some(assign), Some(pick)) if !assign.is_empty() && !pick.is_empty() => {
                let pick = match pick.strip_prefix("config:") {
                    None => pick.clone(),
                    Some(name) => {
                        let value = config_value(self.context.config, name);
                        self.take("list", value)?.to_owned()
                    }
                };
                Some(Named {
                    assign: assign.clone(),
                    pick,
                })
            }
            _ => {
                self.wrong(
                    "list",
                    "`assign` and `pick` go together, and are not empty",
                    example,
                );
                return None;
            }
        };
        Some(List { separator, named })
    }
}

fn spot(text: &str) -> Result<Spot, String> {
    if let Some(written) = text.strip_prefix("header*:") {
        let header = Header::parse(written)?;
        let prefix = header.name.as_str().to_owned();
        return Ok(Spot::HeadersLike {
            prefix,
            written: header.written,
        });
    }
    Place::parse(text).map(Spot::At)
}

/// `/value/*/clientState`.
fn each(pointer: &str) -> Result<Spot, String> {
    match pointer.split_once("/*") {
        Some((list, member))
            if !member.contains('*') && (member.is_empty() || member.starts_with('/')) =>
        {
            Ok(Spot::Each {
                list: list.to_owned(),
                member: member.to_owned(),
            })
        }
        _ => Err(format!(
            "`{pointer}`: one `*` stands for every element of one list"
        )),
    }
}
