//! Saved requests, signature headers and bodies, through the verifier of each built-in provider:
//! what `hookgate explain` does is the whole decision without what has a memory.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use jiff::Timestamp;

use super::{Input, scratch, vectors};
use crate::clock::Now;
use crate::config::Config;
use crate::config::surroundings::Surroundings;
use crate::explain::explain;
use crate::sample::{self, Recipe};
use crate::source::Source;
use crate::telemetry::harmless;

/// A request as it stands.
const AS_IS: u8 = 0;
/// The input is a payload, and is signed as the provider would.
const SIGNED: u8 = 1;

fn now() -> Now {
    Now::at(Timestamp::from_second(vectors::SIGNED_AT).expect("a time"))
}

/// One source for each provider, with the secret that its vectors are signed with.
pub(super) fn sources() -> &'static [Arc<Source>] {
    static SOURCES: OnceLock<Vec<Arc<Source>>> = OnceLock::new();
    SOURCES.get_or_init(|| {
        let vectors = vectors::all();
        // Each preset has vectors; what is not in them is made up.
        let own = |provider: &str| {
            let file = provider.replace('-', "_");
            let own = vectors.iter().find(|vector| vector.file == file)?;
            Some((own.secret.clone(), own.config.clone()))
        };
        let mut text = String::from(
            "[server]\nlisten = [\"127.0.0.1:0\"]\ntls = \"off\"\n\
             public_url = \"https://hooks.example.com\"\n",
        );
        for provider in crate::providers::names() {
            let (secret, mut config) = own(&provider).expect("vectors of each provider");
            let preset = crate::providers::text(&provider).unwrap_or_default();
            let asks = |name: &&str| preset.contains(&format!("config:{name}"));
            let names = ["key_url", "service_id", "topics", "verify_token"];
            for name in names.into_iter().filter(asks) {
                config.insert(name.to_owned(), "t1".to_owned());
            }
            let value = toml::Value::String(secret);
            let config = config.into_iter();
            let config: Vec<String> = config
                .map(|(key, value)| format!("{key} = {}", toml::Value::String(value)))
                .collect();
            let config = format!("{{ {} }}", config.join(", "));
            text.push_str(&format!(
                "[sources.{}]\nprovider = \"{provider}\"\nsecrets = [{{ value = {value} }}]\n\
                 path = \"/in/{provider}\"\nconfig = {config}\n",
                provider.replace('_', "-"),
            ));
        }
        let folder = scratch("verify");
        let path = folder.join("gateway.toml");
        std::fs::write(&path, text).expect("a configuration");
        let surroundings = Surroundings::new(|_| None, None, now().wall);
        let loaded = Config::load_in(&path, &surroundings);
        std::fs::remove_dir_all(&folder).expect("no more scratch folder");
        let loaded = loaded.unwrap_or_else(|invalid| unusable(&invalid.to_string()));
        loaded.config.sources
    })
}

#[expect(clippy::panic, reason = "the provider files changed, and this did not")]
fn unusable(why: &str) -> ! {
    panic!("{why}")
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (number, source) in (0_u8..).zip(sources()) {
        let provider = source.provider.as_deref().unwrap_or_default();
        let file = provider.replace('-', "_");
        for vector in vectors::all().iter().filter(|vector| vector.file == file) {
            seeds.push([&[number, AS_IS], vector.request.as_slice()].concat());
            let body = vector
                .request
                .windows(4)
                .position(|four| four == b"\r\n\r\n");
            let body = body.and_then(|at| vector.request.get(at + 4..));
            seeds.push([&[number, SIGNED], body.unwrap_or_default()].concat());
        }
    }
    seeds
}

pub(super) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let source = input.choose(sources());
    let mode = input.byte();
    let saved = match mode {
        AS_IS => Some(input.rest().to_vec()),
        _ => signed(source, input.rest(), mode != SIGNED),
    };
    let Some(saved) = saved else {
        return;
    };
    let explanation = explain(source, &saved, now());
    let line = explanation.to_json("file");
    assert!(!line.contains('\n'), "one line: {line:?}");
    assert!(serde_json::from_str::<serde_json::Value>(&line).is_ok());
    assert!((100..=599).contains(&explanation.status));
    drop(harmless(&explanation.whole()));
}

/// A payload as the provider would send it; `None` for a proof that a secret cannot make.
fn signed(source: &Source, payload: &[u8], spoiled: bool) -> Option<Vec<u8>> {
    let recipe = Recipe {
        payload: Some(Bytes::copy_from_slice(payload)),
        at: now().wall,
        spoiled,
        ..Recipe::default()
    };
    let sample = sample::make(source, &recipe).ok()?;
    let mut saved = format!("{} {} HTTP/1.1\r\n", sample.method, sample.target).into_bytes();
    for (name, value) in &sample.headers {
        saved.extend_from_slice(name.as_str().as_bytes());
        saved.extend_from_slice(b": ");
        saved.extend_from_slice(value.as_bytes());
        saved.extend_from_slice(b"\r\n");
    }
    saved.extend_from_slice(b"\r\n");
    saved.extend_from_slice(&sample.body);
    Some(saved)
}
