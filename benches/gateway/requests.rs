//! What is sent: webhooks of GitHub, signed before the load begins. Only the delivery id, which the
//! signature does not cover, is written in while sending, so that no event is a copy of another.

use std::ops::Range;
use std::path::Path;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::header::HeaderName;
use http::request::Parts;
use http::{HeaderValue, Request as HttpRequest};
use http_body_util::Full;

use crate::order;
use crate::support::gateway::{Setup, source};
use crate::support::webhook::Webhook;

/// Different orders. Each is sent many times, under a new id.
const ORDERS: usize = 1024;
/// Where the id goes, and how long it is.
const NO_ID: &str = "00000000-0000-4000-8000-000000000000";
const ID: HeaderName = HeaderName::from_static("x-github-delivery");
/// GitHub's own examples of 7 to 12 KiB, by the beginning of their names, which is the type.
const EXAMPLES: [&str; 2] = ["issues--", "push--"];

/// Webhooks to go round, and the schema that they satisfy.
#[derive(Debug)]
pub(crate) struct Requests {
    all: Vec<Request>,
    /// As a source says it, and the files that it means.
    schema: &'static str,
    files: Vec<(String, Vec<u8>)>,
    /// How many sources they are for.
    sources: usize,
}

/// One webhook, in the forms that it is sent in.
#[derive(Debug)]
pub(crate) struct Request {
    event: String,
    http1: Vec<u8>,
    id: Range<usize>,
    http2: Parts,
    body: Bytes,
}

impl Requests {
    /// Orders of 1 KiB, for so many sources in turn.
    pub(crate) fn orders(sources: usize) -> Result<Self> {
        let make = |number| {
            let body = order::order(number, order::KIB);
            Request::new(&path(number % sources), order::EVENT_TYPE, &body)
        };
        let all: Result<_> = (0..sources.max(ORDERS)).map(make).collect();
        Ok(Self {
            all: all?,
            schema: "order.json",
            files: vec![("order.json".to_owned(), order::SCHEMA.into())],
            sources,
        })
    }

    /// GitHub's own examples.
    pub(crate) fn examples() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut all = Vec::new();
        for (name, body) in read_folder(&root.join("tests/payloads/github/valid"))? {
            if let Some(kind) = EXAMPLES.iter().find(|kind| name.starts_with(**kind)) {
                let event = kind.trim_end_matches('-');
                all.push(Request::new(&path(0), event, &body)?);
            }
        }
        let files = read_folder(&root.join("schemas/github"))?;
        let in_folder = |(name, content)| (format!("github/{name}"), content);
        Ok(Self {
            all,
            schema: "github",
            files: files.into_iter().map(in_folder).collect(),
            sources: 1,
        })
    }

    /// All of them, over and over, from the n-th of so many places on.
    pub(crate) fn round(&self, n: usize, places: usize) -> impl Iterator<Item = &Request> {
        let first = n * self.all.len() / places;
        self.all.iter().cycle().skip(first)
    }

    /// The bodies alone.
    pub(crate) fn bodies(&self) -> impl Iterator<Item = &Bytes> + Clone {
        self.all.iter().map(|request| &request.body)
    }

    /// A gateway that takes them.
    pub(crate) fn setup(&self, ack: &str) -> Setup {
        let lines = format!("schema = \"{}\"\nack = \"{ack}\"\n", self.schema);
        let sources: String = (0..self.sources)
            .map(|n| source(&name(n), "github", &lines))
            .collect();
        let files = self.files.iter();
        files.fold(Setup::new().sources(&sources), |setup, (name, content)| {
            setup.file(name, content)
        })
    }

    /// Webhooks that must be turned away, and how: a forged one, and one that violates the schema.
    pub(crate) fn wrong(&self) -> Result<[(Webhook, u16); 2]> {
        let Request { event, body, .. } = self.all.first().context("no requests")?;
        let forged = Webhook::github(&path(0), event, "forged", body)
            .with("X-Hub-Signature-256", &format!("sha256={}", "0".repeat(64)));
        let shapeless = Webhook::github(&path(0), event, "shapeless", b"{}");
        Ok([(forged, 401), (shapeless, 422)])
    }
}

impl Request {
    fn new(path: &str, event: &str, body: &[u8]) -> Result<Self> {
        let webhook = Webhook::github(path, event, NO_ID, body);
        let http1 = webhook.http1();
        let start = String::from_utf8_lossy(&http1)
            .find(NO_ID)
            .context("no id in the head")?;
        let mut request = HttpRequest::post(format!("https://localhost{path}"));
        for (name, value) in &webhook.headers {
            request = request.header(name, value);
        }
        let (http2, ()) = request.body(())?.into_parts();
        Ok(Self {
            event: event.to_owned(),
            http1,
            id: start..start + NO_ID.len(),
            http2,
            body: Bytes::copy_from_slice(body),
        })
    }

    /// Under an id, as the bytes of HTTP/1.1, into a buffer.
    pub(crate) fn http1(&self, id: &str, bytes: &mut Vec<u8>) {
        bytes.clone_from(&self.http1);
        bytes[self.id.clone()].copy_from_slice(id.as_bytes());
    }

    /// Under an id, for a client that speaks HTTP/2.
    pub(crate) fn http2(&self, id: &str) -> Result<HttpRequest<Full<Bytes>>> {
        let mut head = self.http2.clone();
        head.headers.insert(ID, HeaderValue::from_str(id)?);
        Ok(HttpRequest::from_parts(head, Full::new(self.body.clone())))
    }
}

/// The n-th source.
fn name(n: usize) -> String {
    match n {
        0 => "github".to_owned(),
        n => format!("github-{n}"),
    }
}

/// Where it takes its webhooks: where its name says.
fn path(n: usize) -> String {
    format!("/{}", name(n))
}

/// The files of a folder with their names, in order.
fn read_folder(folder: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        files.push((name, std::fs::read(entry.path())?));
    }
    files.sort();
    Ok(files)
}
