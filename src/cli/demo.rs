//! `hookgate demo`: the main job, shown in a minute.
//!
//! A real gateway on loopback with a self-signed certificate, real payloads signed as their
//! providers sign, and what became of each. The journal is the only store, unless `AMQP_URL` names
//! a broker; then the events are read back from a queue there.

mod consumer;
mod setting;

use std::io::Write;

use bytes::Bytes;
use http::{HeaderValue, Uri, header};
use serde_json::Value;

use super::output::{lines, table};
use super::{Done, Exit, Failure, block_on, find_source, load, talk};
use crate::app::App;
use crate::client::{Answer, Client, Trust};
use crate::clock::Now;
use crate::config::Config;
use crate::sample::{Recipe, Sample, make};
use crate::shutdown::Orders;
use crate::telemetry;
use crate::watch::Watch;
use setting::Setting;

/// How far in the past the stale event is signed.
const STALE: jiff::SignedDuration = jiff::SignedDuration::from_hours(1);

pub(super) fn run(out: &mut dyn Write) -> Done {
    telemetry::init_quiet();
    let setting = Setting::prepare().map_err(|error| {
        Failure::new(
            Exit::CannotCreate,
            format!("preparing a folder for the demo: {error}"),
        )
    })?;
    let config = load(setting.config_path())?;
    // The samples are made from a second copy: the first becomes the gateway.
    let sources = load(setting.config_path())?;
    block_on(show(config, &sources, setting.amqp_url(), out))
}

async fn show(
    config: Config,
    sources: &Config,
    amqp_url: Option<&str>,
    out: &mut dyn Write,
) -> Done {
    let orders = Orders::default();
    let app = App::build(config, &orders)
        .map_err(|error| Failure::new(Exit::CannotCreate, error.to_string()))?;
    let Some(address) = app.edge_addrs().first().copied() else {
        return Err(Failure::new(Exit::Failure, "the gateway listens nowhere"));
    };
    let store = if amqp_url.is_some() {
        "journal, then RabbitMQ"
    } else {
        "journal"
    };
    talk(&format!(
        "a gateway listens on https://{address} (self-signed; store: {store})\n"
    ));
    let watch = app.watch();
    let journal = app.journal();
    let gateway = tokio::spawn(app.run(orders.drain.clone()));

    let url = Uri::try_from(format!("https://{address}"))
        .map_err(|error| Failure::new(Exit::Failure, error.to_string()))?;
    let acts = acts(sources)?;
    let expected = acts
        .iter()
        .filter(|act| act.expected == Expected::Event)
        .count();
    let played = play(&acts, &url, &watch, out).await;
    let consumed = match (&played, amqp_url) {
        (Ok(true), Some(amqp_url)) => consumer::from_queue(amqp_url, expected, out).await,
        (Ok(true), None) => consumer::from_journal(&journal, expected, out).await,
        _ => Ok(()),
    };
    orders.drain.cancel();
    let ended = gateway.await;
    let as_expected = played?;
    consumed?;
    match ended {
        Ok(Ok(())) if as_expected => Ok(Exit::Success),
        Ok(Ok(())) => Err(Failure::new(
            Exit::Failure,
            "something was not answered as it should be",
        )),
        Ok(Err(part)) => Err(Failure::new(Exit::Failure, part.to_string())),
        Err(panic) => Err(Failure::new(Exit::Failure, panic.to_string())),
    }
}

/// One request of the demo.
struct Act {
    what: &'static str,
    source: &'static str,
    sample: Sample,
    expected: Expected,
}

/// What has to become of it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expected {
    /// A new event: 2xx, as the provider wants it.
    Event,
    /// 2xx, but no new event.
    Copy,
    /// Turned away with this status.
    Refused(u16),
}

impl Expected {
    fn is(self, status: u16) -> bool {
        match self {
            Self::Event | Self::Copy => (200..300).contains(&status),
            Self::Refused(expected) => status == expected,
        }
    }
}

/// Sends every request and shows what was answered. True when all went as expected.
async fn play(
    acts: &[Act],
    url: &Uri,
    watch: &Watch,
    out: &mut dyn Write,
) -> Result<bool, Failure> {
    let fail = |error: crate::client::ClientError| Failure::new(Exit::Failure, error.to_string());
    let mut rows = table(&["#", "request", "source", "status", "answer", "why"]);
    let mut all_as_expected = true;
    for (number, act) in (1..).zip(acts) {
        let mut seen = watch.listen();
        // A connection each: after a body that was refused unread, the gateway closes it.
        let mut client = Client::connect(url, Trust::Anyone).await.map_err(fail)?;
        let Sample {
            method,
            target,
            headers,
            body,
            written: _,
        } = act.sample.clone();
        let answer = client
            .send(method, &target, headers, body)
            .await
            .map_err(fail)?;
        let why = seen
            .recv()
            .await
            .ok()
            .and_then(|told| told.seen.detail.clone())
            .unwrap_or_default();
        let status = answer.status.as_u16();
        let as_expected = act.expected.is(status);
        let mark = if as_expected { "" } else { " (!)" };
        all_as_expected &= as_expected;
        rows.add_row([
            number.to_string(),
            act.what.to_owned(),
            act.source.to_owned(),
            format!("{status}{mark}"),
            word(&answer),
            why,
        ]);
    }
    write!(out, "{}", lines(&rows))?;
    Ok(all_as_expected)
}

/// The one word of an answer that says what it is.
fn word(answer: &Answer) -> String {
    if answer.headers.contains_key("hookgate-duplicate") {
        return "duplicate".to_owned();
    }
    let body: Option<Value> = serde_json::from_slice(&answer.body).ok();
    let field = |name: &str| {
        body.as_ref()
            .and_then(|body| body.get(name))
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    field("code")
        .or_else(|| field("status"))
        .unwrap_or_else(|| "accepted".to_owned())
}

fn acts(config: &Config) -> Result<Vec<Act>, Failure> {
    let now = Now::read().wall;
    let genuine = Recipe {
        at: now,
        ..Recipe::default()
    };
    let sign = |name: &str, recipe: Recipe| {
        make(find_source(config, name)?, &recipe)
            .map_err(|what| Failure::new(Exit::Failure, format!("{name}: {what}")))
    };
    let usual = |name: &str, event_type: Option<&str>| {
        sign(
            name,
            Recipe {
                event_type: event_type.map(str::to_owned),
                ..genuine.clone()
            },
        )
    };
    let with_body = |name: &str, body: &[u8]| {
        sign(
            name,
            Recipe {
                payload: Some(Bytes::copy_from_slice(body)),
                ..genuine.clone()
            },
        )
    };

    let push = usual("github", Some("push"))?;
    let forged = sign(
        "github",
        Recipe {
            spoiled: true,
            ..genuine.clone()
        },
    )?;
    let stale = sign(
        "stripe",
        Recipe {
            at: now - STALE,
            ..genuine.clone()
        },
    )?;
    let cut = {
        let whole = usual("stripe", None)?.body;
        with_body("stripe", whole.get(..whole.len() / 2).unwrap_or_default())?
    };
    let wrong_shape = {
        let whole = String::from_utf8_lossy(&usual("orders", None)?.body).into_owned();
        with_body(
            "orders",
            whole
                .replace(r#""total":"#, r#""total":"none","was":"#)
                .as_bytes(),
        )?
    };
    let mut too_large = with_body("orders", &vec![b' '; 65 * 1024])?;
    too_large.headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );

    let act = |what, source, sample, expected| Act {
        what,
        source,
        sample,
        expected,
    };
    Ok(vec![
        act("push", "github", push.clone(), Expected::Event),
        act(
            "pull request",
            "github",
            usual("github", Some("pull_request"))?,
            Expected::Event,
        ),
        act(
            "invoice paid",
            "stripe",
            usual("stripe", None)?,
            Expected::Event,
        ),
        act(
            "order created",
            "shopify",
            usual("shopify", None)?,
            Expected::Event,
        ),
        act(
            "app mention",
            "slack",
            usual("slack", None)?,
            Expected::Event,
        ),
        act(
            "order, own scheme",
            "orders",
            usual("orders", None)?,
            Expected::Event,
        ),
        act("the first push again", "github", push, Expected::Copy),
        act("wrong signature", "github", forged, Expected::Refused(401)),
        act(
            "signed an hour ago",
            "stripe",
            stale,
            Expected::Refused(401),
        ),
        act("body cut in half", "stripe", cut, Expected::Refused(400)),
        act(
            "violates the schema",
            "orders",
            wrong_shape,
            Expected::Refused(422),
        ),
        act("too large", "orders", too_large, Expected::Refused(413)),
        act(
            "one of two a minute",
            "limited",
            usual("limited", None)?,
            Expected::Event,
        ),
        act(
            "two of two a minute",
            "limited",
            usual("limited", None)?,
            Expected::Event,
        ),
        act(
            "one too many",
            "limited",
            usual("limited", None)?,
            Expected::Refused(429),
        ),
    ])
}

/// What a table of headers is printed as: name and value, lined up.
fn print_headers(headers: &[(String, String)], out: &mut dyn Write) -> Result<(), Failure> {
    let width = headers
        .iter()
        .map(|(name, _)| name.len())
        .max()
        .unwrap_or_default();
    for (name, value) in headers {
        writeln!(out, "    {name:<width$}  {value}")?;
    }
    Ok(())
}

/// The beginning of a body, on one line.
fn excerpt(body: &[u8]) -> String {
    const EXCERPT_CHARS: usize = 72;
    let text = String::from_utf8_lossy(body);
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= EXCERPT_CHARS {
        return line;
    }
    line.chars()
        .take(EXCERPT_CHARS)
        .chain("...".chars())
        .collect()
}
