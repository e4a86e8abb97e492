//! `hookgate send SOURCE`.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::output::{lines, table};
use super::{
    ConfigArg, Done, Exit, Failure, block_on, find_source, load_for, recall_enrolled, talk,
};
use crate::client::{Answer, Client, Identity, Trust};
use crate::clock::Now;
use crate::config::Server;
use crate::sample::{Recipe, Sample, make};
use crate::secret::Secret;
use crate::source::Source;

/// How far in the past `--stale` signs: beyond any provider's tolerance.
const STALE: Duration = Duration::from_hours(24);
/// Answers beyond this many are shown as a count per status.
const ROWS_MAX: u64 = 20;
/// How often a long run says how far it is.
const PROGRESS_EVERY: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "they are flags of a command line"
)]
pub(super) struct SendArgs {
    /// The source to send to, in the name of its provider
    source: String,
    #[command(flatten)]
    config: ConfigArg,
    /// What to send, as it is [default: an example of the provider's, with a new id each time]
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The event's type, as the provider names it
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    /// The payload's `Content-Type`; that of the source's format when not said
    #[arg(long, value_name = "TYPE", value_parser = header_value)]
    content_type: Option<HeaderValue>,
    /// One more header, or another value for one; the proof is made after it. May repeat
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = header)]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// The query, as it stands in a URL: `a=1&b=2`
    #[arg(long, value_name = "QUERY", value_parser = query)]
    query: Option<String>,
    /// How many events
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    count: u64,
    /// Events per second [default: as fast as one connection takes them]
    #[arg(long, value_name = "R", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: Option<u32>,
    /// The sender's private key in PEM, for a source that only has the public one
    #[arg(long, value_name = "FILE")]
    signing_key: Option<PathBuf>,
    /// The certificate to show, in PEM, with those between it and its authority
    #[arg(long, value_name = "FILE", requires = "client_key")]
    client_certificate: Option<PathBuf>,
    /// The private key of that certificate, in PEM
    #[arg(long, value_name = "FILE", requires = "client_certificate")]
    client_key: Option<PathBuf>,
    /// Send a wrong signature
    #[arg(long)]
    bad_signature: bool,
    /// Sign with a time that is a day ago
    #[arg(long)]
    stale: bool,
    /// Where to send [default: the first listen address]
    #[arg(long, value_name = "URL")]
    url: Option<Uri>,
    /// The host name to ask for, by SNI and in `Host`; says nothing of where to connect
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// Believe any certificate, as is done of loopback addresses anyway
    #[arg(long)]
    insecure: bool,
    /// One JSON object per answer
    #[arg(long)]
    json: bool,
    /// Print the signed request, in the form that `explain` reads, and send nothing
    #[arg(long, conflicts_with_all = ["json", "count", "rate"])]
    print: bool,
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text
        .split_once(':')
        .ok_or("write a name, a colon and a value")?;
    let name = HeaderName::try_from(name.trim());
    let name = name.map_err(|_odd| "that is not the name of a header".to_owned())?;
    Ok((name, header_value(value.trim())?))
}

fn header_value(text: &str) -> Result<HeaderValue, String> {
    let value = HeaderValue::try_from(text);
    value.map_err(|_odd| "no header can have this value".to_owned())
}

fn query(text: &str) -> Result<String, String> {
    let text = text.strip_prefix('?').unwrap_or(text);
    let is_query = Uri::try_from(format!("/?{text}")).is_ok_and(|uri| uri.query() == Some(text));
    let wanted = "write it as it stands in a URL: a=1&b=2%20and%203";
    is_query.then(|| text.to_owned()).ok_or(wanted.to_owned())
}

pub(super) fn run(args: &SendArgs, out: &mut dyn Write) -> Done {
    let config = load_for(&args.config.config, &args.source)?.config;
    recall_enrolled(&config);
    let source = find_source(&config, &args.source)?;
    let given = Files {
        payload: args.file.as_deref().map(read).transpose()?.map(Bytes::from),
        signing_key: args
            .signing_key
            .as_deref()
            .map(read)
            .transpose()?
            .map(Secret::new),
        identity: identity(args)?,
    };
    let url = args
        .url
        .clone()
        .map_or_else(|| own_url(&config.server), Ok)?;
    if !matches!(url.scheme_str(), Some("http" | "https")) {
        let message = format!("--url {url}: it must begin with http:// or https://");
        return Err(Failure::new(Exit::Usage, message));
    }
    if url.path_and_query().is_some_and(|path| path != "/") {
        let message = format!(
            "--url {url}: events of `{}` go to its own path {}, so name the host only",
            source.name, source.path
        );
        return Err(Failure::new(Exit::Usage, message));
    }
    if args.print {
        return print(source, &given, args, host(args, &config.server, &url), out);
    }
    let trust = if args.insecure || is_loopback(&url) {
        Trust::Anyone
    } else {
        Trust::System
    };
    block_on(send_all(source, &given, &url, trust, args, out))
}

/// The one request, as it would be sent.
fn print(
    source: &Source,
    given: &Files,
    args: &SendArgs,
    host: Option<HeaderValue>,
    out: &mut dyn Write,
) -> Done {
    let sample = sample(source, given, args)?;
    sample.written.iter().for_each(|what| tell_of(what));
    let mut inbound = sample.inbound();
    if let Some(host) = host {
        inbound.head.headers.insert(header::HOST, host);
    }
    out.write_all(&inbound.written())?;
    Ok(Exit::Success)
}

/// The host that the provider would ask for.
fn host(args: &SendArgs, server: &Server, url: &Uri) -> Option<HeaderValue> {
    let public: Option<Uri> = server
        .public_url
        .as_deref()
        .and_then(|url| url.parse().ok());
    let public = public.filter(|_| args.url.is_none());
    let url = public.as_ref().unwrap_or(url);
    let name = args
        .host
        .as_deref()
        .or(url.authority().map(Authority::as_str));
    HeaderValue::try_from(name?).ok()
}

/// What was read from files.
struct Files {
    payload: Option<Bytes>,
    signing_key: Option<Secret>,
    identity: Option<Identity>,
}

fn identity(args: &SendArgs) -> Result<Option<Identity>, Failure> {
    let (Some(chain), Some(key)) = (&args.client_certificate, &args.client_key) else {
        return Ok(None);
    };
    let identity = Identity::from_pem(&read(chain)?, &read(key)?);
    let identity = identity.map_err(|what| Failure::new(Exit::Usage, what))?;
    Ok(Some(identity))
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(file).map_err(|error| {
        let what = format!("reading {}: {error}", file.display());
        Failure::new(Exit::Failure, what)
    })
}

async fn send_all(
    source: &Source,
    given: &Files,
    url: &Uri,
    trust: Trust,
    args: &SendArgs,
    out: &mut dyn Write,
) -> Done {
    let unavailable = |error: crate::client::ClientError| {
        let hint = "is the gateway running with this configuration?";
        Failure::new(Exit::Unavailable, format!("{error}; {hint}"))
    };
    let identity = given.identity.as_ref();
    let connect = || Client::connect_as(url, args.host.as_deref(), trust, identity);
    let mut client = connect().await.map_err(unavailable)?;
    let period = args.rate.map(|rate| Duration::from_secs(1) / rate);
    let mut pace = period.map(|period| {
        let mut pace = interval(period);
        pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
        pace
    });
    let mut report = Report::new(args);
    for number in 1..=args.count {
        if let Some(pace) = &mut pace {
            pace.tick().await;
        }
        let sample = sample(source, given, args)?;
        if number == 1 {
            sample.written.iter().for_each(|what| tell_of(what));
        }
        let begun = Instant::now();
        let sent = client.send(
            sample.method.clone(),
            &sample.target,
            sample.headers.clone(),
            sample.body.clone(),
        );
        let answer = match sent.await {
            Ok(answer) => answer,
            // The gateway may close a connection that has grown old; one new one is fair.
            Err(_ended) => {
                client = connect().await.map_err(unavailable)?;
                client
                    .send(sample.method, &sample.target, sample.headers, sample.body)
                    .await
                    .map_err(unavailable)?
            }
        };
        report.add(number, &answer, begun.elapsed(), out)?;
    }
    report.finish(out)
}

/// That something in a given payload is not as it was.
fn tell_of(what: &str) {
    talk(&format!("written into the payload: {what}"));
}

fn sample(source: &Source, given: &Files, args: &SendArgs) -> Result<Sample, Failure> {
    let mut at = Now::read().wall;
    if args.stale {
        at -= STALE;
    }
    let spoiled = args.bad_signature;
    let mut headers = HeaderMap::new();
    headers.extend(
        args.content_type
            .clone()
            .map(|it| (header::CONTENT_TYPE, it)),
    );
    for (name, value) in &args.headers {
        headers.append(name, value.clone());
    }
    let recipe = Recipe {
        payload: given.payload.clone(),
        event_type: args.event_type.clone(),
        at,
        spoiled,
        signing_key: given.signing_key.clone(),
        headers,
        query: args.query.clone(),
    };
    let fail = |what: &str| {
        let what = format!("a webhook for {}: {what}", source.name);
        Failure::new(Exit::Failure, what)
    };
    let sample = make(source, &recipe).map_err(|what| fail(&what))?;
    let counts = || {
        source
            .verifier()
            .verify(sample.inbound(), Now::read())
            .is_ok()
    };
    if args.stale && counts() {
        let what = "--stale makes no difference: nothing that proves its sender says when";
        return Err(fail(what));
    }
    Ok(sample)
}

/// What came back, as it is shown.
struct Report {
    json: bool,
    every_row: bool,
    rows: comfy_table::Table,
    statuses: BTreeMap<u16, u64>,
    count: u64,
    begun: Instant,
    last_progress: Instant,
}

impl Report {
    fn new(args: &SendArgs) -> Self {
        let now = Instant::now();
        Self {
            json: args.json,
            every_row: args.count <= ROWS_MAX,
            rows: table(&["#", "status", "answer", "ms"]),
            statuses: BTreeMap::new(),
            count: args.count,
            begun: now,
            last_progress: now,
        }
    }

    fn add(
        &mut self,
        number: u64,
        answer: &Answer,
        took: Duration,
        out: &mut dyn Write,
    ) -> Result<(), Failure> {
        let status = answer.status.as_u16();
        *self.statuses.entry(status).or_default() += 1;
        let body = String::from_utf8_lossy(&answer.body).trim().to_owned();
        let ms = took.as_secs_f64() * 1000.0;
        let has = |name: &str| answer.headers.contains_key(name);
        let (duplicate, quarantined) = (has("hookgate-duplicate"), has("hookgate-quarantined"));
        if self.json {
            let answer = serde_json::from_str::<Value>(&body).unwrap_or(Value::String(body));
            writeln!(
                out,
                "{}",
                json!({
                    "number": number, "status": status, "ms": ms, "answer": answer,
                    "duplicate": duplicate, "quarantined": quarantined,
                })
            )?;
        } else if self.every_row {
            let mut said = said(&body);
            for (is_so, word) in [(duplicate, "(duplicate)"), (quarantined, "(quarantined)")] {
                if is_so {
                    said = format!("{said} {word}").trim_start().to_owned();
                }
            }
            self.rows.add_row([
                number.to_string(),
                status.to_string(),
                said,
                format!("{ms:.1}"),
            ]);
        } else if self.last_progress.elapsed() > PROGRESS_EVERY {
            self.last_progress = Instant::now();
            talk(&format!("{number} of {}", self.count));
        }
        Ok(())
    }

    fn finish(self, out: &mut dyn Write) -> Done {
        if !self.json && self.every_row {
            write!(out, "{}", lines(&self.rows))?;
        } else if !self.json {
            let mut rows = table(&["status", "answers"]);
            for (status, count) in &self.statuses {
                rows.add_row([status.to_string(), count.to_string()]);
            }
            write!(out, "{}", lines(&rows))?;
            talk(&format!(
                "{} in {:.1} s",
                self.count,
                self.begun.elapsed().as_secs_f64()
            ));
        }
        let all_taken = self
            .statuses
            .keys()
            .all(|status| (200..300).contains(status));
        Ok(if all_taken {
            Exit::Success
        } else {
            Exit::Failure
        })
    }
}

/// What an answer says in few words: the event's id, or the problem.
fn said(body: &str) -> String {
    let answer: Option<Value> = serde_json::from_str(body).ok();
    let field = |name: &str| {
        answer
            .as_ref()
            .and_then(|answer| answer.get(name))
            .and_then(Value::as_str)
    };
    match (field("id"), field("code"), field("detail")) {
        (Some(id), _, _) => id.to_owned(),
        (None, Some(code), Some(detail)) => format!("{code}: {detail}"),
        _ => body.to_owned(),
    }
}

fn own_url(server: &Server) -> Result<Uri, Failure> {
    let fail = |what: &str| Failure::new(Exit::Usage, format!("{what}: say where with --url"));
    let listen = server
        .listen
        .first()
        .ok_or_else(|| fail("server.listen is empty"))?;
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::from([127, 0, 0, 1]),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]),
        ip => ip,
    };
    let scheme = if server.tls.is_some() {
        "https"
    } else {
        "http"
    };
    format!("{scheme}://{}/", SocketAddr::new(ip, listen.port()))
        .parse()
        .map_err(|_odd| fail("server.listen makes no URL"))
}

fn is_loopback(url: &Uri) -> bool {
    let host = url.host().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
