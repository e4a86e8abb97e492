//! Reads a preset for tests, key by key; the configuration reader has the places and the words.

use std::collections::BTreeMap;
use std::time::Duration;

use toml::{Table, Value};

use crate::config::raw::{
    RawAbout, RawHandshake, RawList, RawReply, RawScheme, RawSource, RawVerify,
};

pub(crate) fn read(text: &str) -> RawSource {
    let mut source = RawSource::default();
    for (key, value) in text.parse::<Table>().unwrap() {
        match key.as_str() {
            "methods" => source.methods = Some(strings(&value)),
            "format" => source.format = Some(string(&value)),
            "event_id" => source.event_id = Some(strings(&value)),
            "event_type" => source.event_type = Some(strings(&value)),
            "max_body" => {
                let mebibytes = string(&value)
                    .strip_suffix("MiB")
                    .unwrap()
                    .parse::<u64>()
                    .unwrap();
                source.max_body = Some(mebibytes << 20);
            }
            "reply" => source.reply = Some(reply(&value)),
            "about" => source.about = Some(about(&value)),
            "verify" => source.verify = Some(RawVerify::Schemes(vec![scheme(&value)])),
            "handshake" => {
                source.handshakes = value.as_array().unwrap().iter().map(handshake).collect();
            }
            other => panic!("unknown key {other}"),
        }
    }
    source
}

fn scheme(value: &Value) -> RawScheme {
    let mut scheme = RawScheme::default();
    for (key, value) in value.as_table().unwrap() {
        match key.as_str() {
            "algorithm" => scheme.algorithm = Some(string(value)),
            "signature" => scheme.signature = strings(value),
            "prefix" => scheme.prefix = Some(string(value)),
            "list" => scheme.list = Some(list(value)),
            "encoding" => scheme.encoding = Some(string(value)),
            "key" => scheme.key = Some(string(value)),
            "signed" => scheme.signed = Some(string(value)),
            "timestamp" => scheme.timestamp = Some(string(value)),
            "timestamp_unit" => scheme.timestamp_unit = Some(string(value)),
            "tolerance" => scheme.tolerance = Some(duration(&string(value))),
            "assert" => scheme.assert = strings(value),
            other => panic!("unknown key {other}"),
        }
    }
    scheme
}

fn list(value: &Value) -> RawList {
    let word = |key| value.get(key).map(string);
    RawList {
        separator: word("separator"),
        assign: word("assign"),
        pick: word("pick"),
    }
}

fn handshake(value: &Value) -> RawHandshake {
    let mut handshake = RawHandshake::default();
    for (key, value) in value.as_table().unwrap() {
        match key.as_str() {
            "method" => handshake.method = Some(string(value)),
            "match" => {
                let pairs = value.as_table().unwrap().iter();
                handshake.equals = pairs
                    .map(|(key, value)| (key.clone(), string(value)))
                    .collect::<BTreeMap<_, _>>();
            }
            "has" => handshake.has = strings(value),
            "verify" => handshake.verify = Some(value.as_bool().unwrap()),
            "reply" => handshake.reply = reply(value),
            other => panic!("unknown key {other}"),
        }
    }
    handshake
}

fn reply(value: &Value) -> RawReply {
    RawReply {
        status: value
            .get("status")
            .map(|s| u16::try_from(s.as_integer().unwrap()).unwrap()),
        content_type: value.get("content_type").map(string),
        body: value.get("body").map(string),
    }
}

fn about(value: &Value) -> RawAbout {
    RawAbout {
        title: string(&value["title"]),
        docs: string(&value["docs"]),
        setup: strings(&value["setup"]),
    }
}

fn string(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn strings(value: &Value) -> Vec<String> {
    match value {
        Value::Array(items) => items.iter().map(string).collect(),
        one => vec![string(one)],
    }
}

fn duration(text: &str) -> Duration {
    let (count, unit) = text.split_at(text.len() - 1);
    let count: u64 = count.parse().unwrap();
    Duration::from_secs(if unit == "m" { count * 60 } else { count })
}
