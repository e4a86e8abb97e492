//! A [`RawSource`] with its secrets becomes a [`Source`].

mod asked;
mod face;
pub(crate) mod ranges;
mod reading;
mod remarks;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::authorities::Authorities;
use crate::config::preset::{self, Presets};
use crate::config::problem::Problem;
use crate::config::raw::{RawScheme, RawSource, RawVerify, Window};
use crate::config::reader::{Reporter, enumerate};
use crate::config::secrets::Listed;
use crate::config::server::to_usize;
use crate::config::source::VERIFY_HELP;
use crate::config::value::{ShownSize, Wrong, quote};
use crate::config::{Limits, Summary};
use crate::pipeline::decode::Format;
use crate::pipeline::expr::Expr;
use crate::pipeline::handshake::Handshake;
use crate::pipeline::handshake::enrolment::Enrolment;
use crate::pipeline::limit::{PeerLimit, SourceLimit};
use crate::pipeline::routing::RoutingKey;
use crate::pipeline::schema::SchemaSet;
use crate::pipeline::split::{ELEMENTS_MAX_DEFAULT, Place, Split, elements_that_fit};
use crate::pipeline::verify::{Context, Verifier};
use crate::providers;
use crate::secret::Labelled;
use crate::source::{Ack, OnInvalid, Source};

/// How long an event id is recognised when a source does not say.
const DEDUPE_DEFAULT: Duration = Duration::from_secs(86_400);

/// Longest name of a source, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// Methods that a handshake may come with.
const METHODS_HANDSHAKE: [&str; 7] = ["POST", "PUT", "PATCH", "DELETE", "GET", "HEAD", "OPTIONS"];

/// What all sources share.
#[derive(Debug)]
pub(crate) struct Shared<'a> {
    pub(crate) limits: &'a Limits,
    pub(crate) public_url: Option<&'a str>,
    pub(crate) authorities: &'a Authorities,
    pub(crate) has_broker: bool,
    /// Whether clients are asked for a certificate.
    pub(crate) asks_for_certificates: bool,
    /// How long the journal keeps what was published.
    pub(crate) retain: Duration,
    /// And how much.
    pub(crate) journal_bytes_max: u64,
}

/// One source as it stands in a file.
#[derive(Debug)]
pub(crate) struct Written<'a> {
    pub(crate) name: &'a str,
    pub(crate) raw: RawSource,
    pub(crate) secrets: Listed,
    /// Whether there is a `verify` or a `provider`, be it one that makes no sense.
    pub(crate) has_verify: bool,
    /// The directory that its schema's path is relative to.
    pub(crate) directory: &'a Path,
    pub(crate) reporter: Reporter<'a>,
}

impl Written<'_> {
    /// Where it listens.
    pub(crate) fn path(&self) -> String {
        let own = self.raw.path.clone();
        own.unwrap_or_else(|| format!("/{}", self.name))
    }
}

/// Compiles a source; reports what is wrong with it. `None`: it was too wrong.
pub(crate) fn compile(
    written: Written<'_>,
    presets: &mut Presets,
    shared: &Shared<'_>,
) -> Option<(Source, Summary)> {
    let Written {
        name,
        raw,
        secrets,
        has_verify,
        directory,
        reporter,
    } = written;
    // No message repeats a name that is not one.
    let name = Arc::from(if is_name(name, &reporter) {
        name
    } else {
        "NAME"
    });
    let says_max_body = raw.max_body.is_some();
    let own_verify = raw.verify.clone();
    let mut raw = merge(raw, presets, &reporter);
    if !says_max_body {
        // What a provider may send is no mistake of an operator who has less room.
        let room = u64::try_from(shared.limits.bytes_in_flight_max).unwrap_or(u64::MAX);
        let room = room.min(shared.journal_bytes_max / 2);
        raw.max_body = raw.max_body.map(|bytes| bytes.min(room));
    }
    let source = Compiler {
        name,
        raw: &raw,
        own_verify,
        secrets,
        has_verify,
        directory,
        reporter,
        shared,
    };
    let mut summary = source.summary();
    let source = source.compile()?;
    summary.calls = calls(&source);
    Some((source, summary))
}

/// The hosts that a request may make the gateway call, each once.
fn calls(source: &Source) -> Vec<String> {
    let confirming = source.handshakes.iter().filter(|_| source.confirms);
    let hosts = source.verifier.hosts();
    let hosts: BTreeSet<String> = hosts.chain(confirming.flat_map(Handshake::hosts)).collect();
    hosts.into_iter().collect()
}

fn is_name(name: &str, reporter: &Reporter<'_>) -> bool {
    let plain =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
    let is_name = (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(plain);
    if !is_name {
        let what = format!("{} is not a name for a source", quote(name));
        let help = format!(
            "use small letters, digits, `-` and `_`, at most {NAME_BYTES_MAX}: it is part of the \
             path, of routing keys and of metrics"
        );
        reporter.error(&[], Wrong::new(what, help));
    }
    is_name
}

/// Lays the user's keys over those of the provider, if there is such a one.
fn merge(raw: RawSource, presets: &mut Presets, reporter: &Reporter<'_>) -> RawSource {
    let Some(provider) = raw.provider.clone() else {
        return raw;
    };
    if let Some(preset) = presets.find(&provider) {
        return preset::lay_over(raw, preset);
    }
    reporter.error(
        &["provider"],
        Wrong::new(
            format!("there is no provider {}", quote(&provider)),
            format!(
                "{}`hookgate providers` lists them",
                providers::hint(&provider)
            ),
        ),
    );
    raw
}

struct Compiler<'a> {
    name: Arc<str>,
    raw: &'a RawSource,
    /// `verify` without what a provider says.
    own_verify: Option<RawVerify>,
    secrets: Listed,
    has_verify: bool,
    directory: &'a Path,
    reporter: Reporter<'a>,
    shared: &'a Shared<'a>,
}

impl Compiler<'_> {
    /// Every part is compiled before any is missed, so that all mistakes are found.
    fn compile(self) -> Option<Source> {
        let raw = self.raw;
        let path = self.path();
        let format = self.format();
        let stand_in = [Enrolment::stand_in()];
        let context = Context {
            secrets: match &self.secrets {
                Listed::Enrolled => &stand_in,
                _ => self.known_secrets(),
            },
            config: &raw.config,
            url: self.shared.public_url.map(|url| format!("{url}{path}")),
        };
        let secrets = self.known_secrets().iter();
        let secret_labels = secrets.map(|secret| Arc::clone(&secret.label)).collect();
        let mut verifier = self.verifier(&context);
        self.ensure_certificates_are_asked_for();
        let handshakes = self.handshakes(&context, verifier.as_ref());
        let enrolment = self.enrolment(&context, &handshakes);
        if matches!(self.secrets, Listed::Enrolled) {
            verifier.iter_mut().for_each(Verifier::forget_keys);
        }
        if handshakes.iter().any(Handshake::signs_for_strangers) {
            verifier.iter_mut().for_each(Verifier::beware_of_challenges);
        }
        if let Some(verifier) = &mut verifier {
            verifier.believe(self.shared.authorities);
        }
        let split = self.split(format);
        let event_id = self.expressions("event_id", raw.event_id.as_deref(), format);
        let event_type = self.expressions("event_type", raw.event_type.as_deref(), format);
        let schemas = self.schemas(format);
        let routing_key = self.routing_key();
        let (allow_ips, ranges) = self.allow_ips();
        let body = self.body_bounds();
        let reading = self.reading(body.bytes_max, verifier.as_ref());
        let methods = self.methods(verifier.as_ref());
        let ack = self.ack();
        let forward_headers = self.forward_headers();
        let reply = self.reply();
        self.remark();
        self.ensure_config_is_asked_for();
        if let Some(verifier) = &verifier {
            self.remark_short(verifier);
            self.remark_unused(verifier);
        }
        Some(Source {
            provider: raw.provider.clone(),
            methods,
            allow_ips,
            ranges,
            peer_limit: raw
                .peer_rate_limit
                .map(|rate| PeerLimit::new(Arc::clone(&self.name), rate)),
            body,
            handshakes,
            verifier: verifier?,
            secret_labels,
            enrolment,
            enforce: raw.enforce.unwrap_or(true),
            confirms: raw.confirm.unwrap_or(false),
            limit: raw
                .rate_limit
                .map(|rate| SourceLimit::new(Arc::clone(&self.name), rate)),
            split,
            reading,
            event_id,
            event_type,
            schemas,
            on_invalid: match raw.on_invalid.as_deref() {
                Some("quarantine") => OnInvalid::Quarantine,
                _ => OnInvalid::Reject,
            },
            dedupe: match raw.dedupe {
                Some(Window::Off) => None,
                Some(Window::For(window)) => Some(window),
                None => Some(DEDUPE_DEFAULT),
            },
            routing_key: routing_key?,
            ack,
            forward_headers,
            reply,
            problems: raw.problems.unwrap_or(true),
            path,
            name: self.name,
        })
    }

    /// What could be resolved of its secrets: all of them, or none.
    fn known_secrets(&self) -> &[Labelled] {
        match &self.secrets {
            Listed::All(secrets) => secrets,
            Listed::Absent | Listed::Broken | Listed::Enrolled => &[],
        }
    }

    fn verifier(&self, context: &Context<'_>) -> Option<Verifier> {
        let Some(verify) = &self.raw.verify else {
            if self.has_verify {
                // What is wrong with it has been reported.
                return None;
            }
            self.reporter.error(
                &[],
                Wrong::new(
                    format!("source `{}` has no way to verify who sends", self.name),
                    VERIFY_HELP.replace("sources.NAME", &format!("sources.{}", self.name)),
                ),
            );
            return None;
        };
        let needs_secrets = match verify {
            RawVerify::InsecureNone => {
                self.shout_insecure();
                false
            }
            RawVerify::Schemes(schemes) => schemes.iter().any(RawScheme::needs_secrets),
        };
        let whole = !needs_secrets || !context.secrets.is_empty();
        if needs_secrets && matches!(self.secrets, Listed::Absent) {
            self.reporter.error(
                &[],
                Wrong::new(
                    format!("source `{}` has no `secrets` to verify with", self.name),
                    self.secrets_help(),
                ),
            );
        }
        match Verifier::compile(verify, context) {
            Ok(verifier) => Some(verifier),
            Err(problems) => {
                // Without secrets, only what is said of `verify` itself is to be believed.
                let about_verify = |problem: &Problem| {
                    problem.path.first().is_some_and(|key| key == "verify")
                        && problem.path.len() > 1
                };
                for problem in problems.into_iter().filter(|it| whole || about_verify(it)) {
                    self.reporter.push(problem);
                }
                None
            }
        }
    }

    /// No client shows a certificate that nobody asks it for.
    fn ensure_certificates_are_asked_for(&self) {
        let Some(RawVerify::Schemes(tables)) = &self.raw.verify else {
            return;
        };
        let wants = |table: &RawScheme| table.algorithm.as_deref() == Some("client-certificate");
        let Some(position) = tables.iter().position(wants) else {
            return;
        };
        if self.shared.asks_for_certificates {
            return;
        }
        let position = position.to_string();
        let path: &[&str] = if tables.len() == 1 {
            &["verify", "algorithm"]
        } else {
            &["verify", &position, "algorithm"]
        };
        self.reporter.error(
            path,
            Wrong::new(
                "no client is asked for a certificate, so none could show one",
                "write client_ca = \"partners.pem\" in [server.tls]; TLS that ends at a load \
                 balancer cannot carry it here",
            ),
        );
    }

    fn secrets_help(&self) -> String {
        let name = &self.name;
        if self
            .raw
            .handshakes
            .iter()
            .any(|rule| rule.capture.is_some())
        {
            return format!(
                "write secrets = \"enrolled\" in [sources.{name}]: this provider sends its secret in \
                 a handshake, which `hookgate enroll {name}` waits for"
            );
        }
        let variable = name.to_ascii_uppercase().replace('-', "_");
        format!("write secrets = [{{ env = \"{variable}_SECRET\" }}] in [sources.{name}]")
    }

    /// What waits for a secret, where it comes in a handshake.
    fn enrolment(&self, context: &Context<'_>, handshakes: &[Handshake]) -> Option<Arc<Enrolment>> {
        if !matches!(self.secrets, Listed::Enrolled) {
            return None;
        }
        let wrong = |what: &str, help: &str| {
            self.reporter.error(&["secrets"], Wrong::new(what, help));
        };
        let has_broken_rules = handshakes.len() < self.raw.handshakes.len();
        if !has_broken_rules && !handshakes.iter().any(Handshake::captures) {
            wrong(
                "secrets = \"enrolled\", but no handshake brings one",
                "name the provider's secrets: { env = \"NAME\" }; or write a handshake with `capture`",
            );
        }
        if handshakes.iter().any(Handshake::signs) {
            wrong(
                "a handshake is answered with a secret that is yet to come",
                "name the provider's secrets: { env = \"NAME\" }",
            );
        }
        let Some(RawVerify::Schemes(schemes)) = &self.raw.verify else {
            return None;
        };
        let is_shared = |algorithm: &str| algorithm.starts_with("hmac-");
        let all_shared = schemes
            .iter()
            .filter_map(|scheme| scheme.algorithm.as_deref())
            .all(is_shared);
        if schemes.iter().any(|scheme| !scheme.secrets.is_empty()) {
            wrong(
                "a `verify` table asks for certain secrets, and one that comes in a handshake has a \
                 new label every time",
                "take `secrets` out of the table, or name the secrets: { env = \"NAME\" }",
            );
        }
        if !all_shared {
            wrong(
                "only a secret that both sides sign with can come in a handshake",
                "use an `hmac-` algorithm, or name the secrets: { env = \"NAME\" }",
            );
        }
        let verify = RawVerify::Schemes(schemes.clone());
        let name = Arc::clone(&self.name);
        Some(Arc::new(Enrolment::new(name, verify, context)))
    }

    /// Compiles the rules. Where there is no verifier, another one stands in, so that mistakes in
    /// the rules are found nevertheless; those about replies may be its doing.
    fn handshakes(&self, context: &Context<'_>, verifier: Option<&Verifier>) -> Vec<Handshake> {
        let mut handshakes = Vec::new();
        let stand_in = Verifier::compile(&RawVerify::InsecureNone, context);
        let Some(used) = verifier.or(stand_in.as_ref().ok()) else {
            return handshakes;
        };
        for (index, rule) in self.raw.handshakes.iter().enumerate() {
            let index = index.to_string();
            if let Some(method) = &rule.method
                && !METHODS_HANDSHAKE.contains(&method.as_str())
            {
                self.reporter.error(
                    &["handshake", &index, "method"],
                    Wrong::new(
                        format!("{} is not a method of a handshake", quote(method)),
                        format!("it can be {}", enumerate(&METHODS_HANDSHAKE, "`", "or")),
                    ),
                );
                continue;
            }
            if let Some(path) = &rule.path {
                self.ensure_path(&["handshake", &index, "path"], path);
            }
            match Handshake::compile(rule, context, used) {
                Ok(handshake) => handshakes.push(handshake),
                Err(problems) => {
                    let about_reply =
                        |problem: &Problem| problem.path.first().is_some_and(|key| key == "reply");
                    for problem in problems {
                        if verifier.is_some() || !about_reply(&problem) {
                            self.reporter.push(problem.under(&["handshake", &index]));
                        }
                    }
                }
            }
        }
        handshakes
    }

    fn expressions(&self, key: &str, texts: Option<&[String]>, format: Format) -> Vec<Expr> {
        let mut expressions = Vec::new();
        for (index, text) in texts.unwrap_or_default().iter().enumerate() {
            let index = index.to_string();
            let parsed = Expr::parse(text)
                .map_err(|why| Wrong::from(format!("{} is not an expression: {why}", quote(text))));
            let Some(expression) = self.reporter.accept(&[key, &index], parsed) else {
                continue;
            };
            if expression.is_of_batch() && self.raw.split.is_none() {
                let what = format!(
                    "{} is a place in a batch, and nothing is split",
                    quote(text)
                );
                let help = "write json:/pointer, or say with `split` where the events stand";
                self.reporter.error(&[key, &index], Wrong::new(what, help));
            }
            if expression.is_digest() && key == "event_type" {
                let what = "`digest` tells one event from another, and is no type";
                let help = "write header:NAME or json:/pointer";
                self.reporter.error(&[key, &index], Wrong::new(what, help));
            }
            if expression.needs_json() && format == Format::Raw {
                let what = format!(
                    "{} reads a body that format = \"raw\" leaves alone",
                    quote(text)
                );
                let help = "use header:NAME or query:NAME, or another `format`";
                self.reporter.error(&[key, &index], Wrong::new(what, help));
            }
            expressions.push(expression);
        }
        expressions
    }

    /// Where the events of a batch stand.
    fn split(&self, format: Format) -> Option<Split> {
        let Some(texts) = &self.raw.split else {
            if format == Format::CloudEvents {
                return Some(Split::new(vec![Place::CloudEvents], self.elements_max()));
            }
            if self.raw.max_elements.is_some() {
                let what = "`max_elements` without `split`: there is nothing to count";
                let help = "say where the events stand: split = \"json:/events\"";
                self.reporter
                    .error(&["max_elements"], Wrong::new(what, help));
            }
            return None;
        };
        let mut places = Vec::new();
        for (index, text) in texts.iter().enumerate() {
            let index = index.to_string();
            let parsed = Place::parse(text).map_err(|help| {
                Wrong::new(format!("{} is no place of a batch", quote(text)), help)
            });
            let Some(place) = self.reporter.accept(&["split", &index], parsed) else {
                continue;
            };
            let (wanted, is_read) = match &place {
                Place::Json(_) => (
                    "json",
                    match format {
                        Format::Auto | Format::Json | Format::CloudEvents => true,
                        Format::Form => self.raw.unwrap.is_some(),
                        Format::Xml | Format::Lines | Format::Raw => false,
                    },
                ),
                Place::Form(_) => ("form", matches!(format, Format::Auto | Format::Form)),
                Place::Lines => ("ndjson", matches!(format, Format::Auto | Format::Lines)),
                // Nobody can write it.
                Place::CloudEvents => ("cloudevents", format == Format::CloudEvents),
            };
            if !is_read {
                let what = format!("{} cannot be in a body of this `format`", quote(text));
                let help = format!("take out `format`, or write format = \"{wanted}\"");
                self.reporter
                    .error(&["split", &index], Wrong::new(what, help));
            }
            places.push(place);
        }
        Some(Split::new(places, self.elements_max()))
    }

    /// Most elements of a batch: no more than there could ever be room for.
    fn elements_max(&self) -> usize {
        let in_flight = self.shared.limits.bytes_in_flight_max;
        let fit = elements_that_fit(in_flight);
        let Some(written) = self.raw.max_elements.map(to_usize) else {
            return ELEMENTS_MAX_DEFAULT.min(fit);
        };
        if written > fit {
            let in_flight = ShownSize(u64::try_from(in_flight).unwrap_or(u64::MAX));
            let what = format!(
                "`max_elements` is more than the {fit} for which half of the {in_flight} of \
                 max_bytes_in_flight is room"
            );
            let help = "make it smaller, or max_bytes_in_flight in [server.limits] larger";
            self.reporter
                .error(&["max_elements"], Wrong::new(what, help));
        }
        written
    }

    fn schemas(&self, format: Format) -> Option<SchemaSet> {
        let schema = self.raw.schema.as_ref()?;
        if format == Format::Raw {
            let what =
                "a schema needs a body that can be read, and format = \"raw\" leaves it alone";
            self.reporter.error(
                &["schema"],
                Wrong::new(what, "take out `schema`, or `format`"),
            );
        }
        match SchemaSet::load(&self.directory.join(schema)) {
            Ok(schemas) => Some(schemas),
            Err(problems) => {
                problems
                    .into_iter()
                    .for_each(|problem| self.reporter.push(problem));
                None
            }
        }
    }

    fn routing_key(&self) -> Option<RoutingKey> {
        let written = self.raw.routing_key.as_ref();
        let template = written.map_or_else(|| format!("{}.{{type}}", self.name), String::clone);
        let parsed = RoutingKey::parse(&template);
        self.reporter.accept(
            &["routing_key"],
            parsed.map_err(|why| {
                Wrong::new(
                    format!("the routing key {}: {why}", quote(&template)),
                    format!("write \"{}.{{type}}\", for example", self.name),
                )
            }),
        )
    }

    fn ack(&self) -> Ack {
        if self.raw.ack.as_deref() != Some("broker") {
            return Ack::Journal;
        }
        if !self.shared.has_broker {
            self.reporter.error(
                &["ack"],
                Wrong::new(
                    "ack = \"broker\" without a [broker]",
                    "write [broker] with urls, or ack = \"journal\"",
                ),
            );
        }
        Ack::Broker
    }
}
