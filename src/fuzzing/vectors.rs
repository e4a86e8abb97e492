//! The signed requests of `tests/vectors/`, as they come over the wire.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::{files, repository};

/// When most vectors were signed.
pub(crate) const SIGNED_AT: i64 = 1_760_000_000;

/// A signed request.
pub(crate) struct Vector {
    /// Of its file: the provider's name, with `_` for `-`.
    pub(crate) file: String,
    pub(crate) secret: String,
    /// What else its source says.
    pub(crate) config: BTreeMap<String, String>,
    /// HTTP/1.1, head and body.
    pub(crate) request: Vec<u8>,
}

/// All of them, handshakes too.
pub(crate) fn all() -> Vec<Vector> {
    let mut vectors = Vec::new();
    let mut paths = files(&repository("tests/vectors"), "json");
    // Stable: those of handshakes come after those of the providers.
    paths.sort_by_key(|path| path.ends_with("handshakes.json"));
    for path in paths {
        let text = std::fs::read_to_string(&path).expect("a file of vectors");
        let list: Vec<Value> = serde_json::from_str(&text).expect("a list of vectors");
        let file = path.file_stem().expect("a name").to_string_lossy();
        for json in &list {
            // Handshakes of all providers are in one file.
            let file = json
                .get("provider")
                .and_then(Value::as_str)
                .unwrap_or(&file);
            vectors.push(Vector {
                file: file.replace('-', "_"),
                secret: text_of(json, "secret"),
                config: config(json),
                request: request(json),
            });
        }
    }
    vectors
}

fn config(json: &Value) -> BTreeMap<String, String> {
    let config = json.get("config").and_then(Value::as_object);
    let config = config.into_iter().flatten();
    config
        .map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned()))
        .collect()
}

fn request(json: &Value) -> Vec<u8> {
    let url: http::Uri = text_of(json, "url").parse().expect("a URL");
    let target = url.path_and_query().map_or("/", |target| target.as_str());
    let host = url.host().unwrap_or_default();
    let mut head = format!(
        "{} {target} HTTP/1.1\r\nHost: {host}\r\n",
        text_of(json, "method")
    );
    let headers = json.get("headers").and_then(Value::as_object);
    for (name, value) in headers.into_iter().flatten() {
        let value = value.as_str().unwrap_or_default();
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let body = STANDARD
        .decode(text_of(json, "body_base64"))
        .expect("base64");
    head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
    [head.into_bytes(), body].concat()
}

fn text_of(json: &Value, key: &str) -> String {
    let text = json.get(key).and_then(Value::as_str);
    text.unwrap_or_default().to_owned()
}
