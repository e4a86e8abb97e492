//! Why a sender that may be genuine is refused: the usual mistakes, tried one at a time.
//!
//! Only `explain` asks, for one saved request; the gateway itself never comes by here. Answers
//! say which change would make the proof hold, never what the proof would be.

mod body;
mod make_up;
mod mode;
mod rewrite;
mod token;
mod url;

use std::borrow::Cow;
use std::cmp::Ordering;
use std::sync::Arc;

use http::HeaderMap;

use crate::clock::Now;
use crate::pipeline::arrival::Inbound;
use crate::pipeline::expr::facts::Facts;
use crate::pipeline::expr::{Found, Place};
use crate::pipeline::verify::key::{Encoding, KeyForm};
use crate::pipeline::verify::mac::Algorithm;
use crate::pipeline::verify::scheme::{Kind, Method, Scheme, Signing};
use crate::pipeline::verify::signature::{Sent, Spot};
use crate::pipeline::verify::sns;
use crate::pipeline::verify::stamp::{Stamp, StampSpot, Unit};
use crate::pipeline::verify::template::{Given, Part, Template};
use crate::pipeline::verify::{Refusal, Verifier};

/// How alike two header names must be to be mentioned, from 0 to 1.
const ALIKE_MIN: f64 = 0.75;

/// Longest beginning of a signature that is shown, when it looks like a prefix.
const PREFIX_SHOWN_BYTES_MAX: usize = 12;

/// Words in the names of headers that say what it is about: they look like a provider's others.
const ABOUT: [&str; 3] = ["event", "delivery", "topic"];

/// Words in the names of headers that prove something.
const TELLING: [&str; 6] = ["signature", "hmac", "token", "auth", "timestamp", "secret"];

const ALGORITHMS: [(&str, Algorithm); 4] = [
    ("hmac-sha1", Algorithm::HmacSha1),
    ("hmac-sha256", Algorithm::HmacSha256),
    ("hmac-sha384", Algorithm::HmacSha384),
    ("hmac-sha512", Algorithm::HmacSha512),
];

impl Verifier {
    /// What message signatures of this request are over, where the source has such; never a secret.
    pub(crate) fn signature_base(&self, inbound: &Inbound) -> Option<String> {
        let facts = Facts::of(inbound);
        let lines = self.schemes.iter().find_map(|scheme| match &scheme.kind {
            Kind::Message(message) => message.shown(&facts),
            _ => None,
        });
        lines.map(|lines| format!("the signature is over {}", lines.join(" | ")))
    }

    /// What a person could change so that this request passes, where one of the usual mistakes
    /// explains the refusal.
    pub(crate) fn diagnose(
        &self,
        inbound: &Inbound,
        now: Now,
        refusal: &Refusal,
    ) -> Option<String> {
        let facts = Facts::of(inbound);
        let scheme = self.failed(&facts, now)?;
        match refusal {
            Refusal::Prefix { .. } => scheme.other_prefix(&facts),
            Refusal::Undecodable { .. } => match scheme.kind {
                Kind::Basic => scheme.basic_mistake(&facts),
                _ => scheme.other_encoding(&facts),
            },
            Refusal::Mismatch(_) => {
                let mistake = scheme.mistake(&facts);
                mistake.or_else(|| scheme.other_length(&facts))
            }
            Refusal::WrongToken(_) => scheme.token_mistake(&facts),
            Refusal::BadToken(fault) => match &scheme.kind {
                Kind::Jwt(jwt) => jwt.mistake(&scheme.signature, &facts, fault),
                _ => None,
            },
            Refusal::Stale { .. } => {
                let unit = scheme.other_unit(&facts, now);
                Some(unit.unwrap_or_else(|| scheme.of_its_own_time()))
            }
            Refusal::TimestampUnreadable { .. } | Refusal::Future { .. } => {
                scheme.other_unit(&facts, now)
            }
            Refusal::Absent(_)
            | Refusal::FieldAbsent(_)
            | Refusal::TimestampAbsent(_)
            | Refusal::Ambiguous(_)
            | Refusal::NotListed { .. }
            | Refusal::TooMany(_)
            | Refusal::FieldUnsafe(_)
            | Refusal::BodyUnreadable(_)
            | Refusal::UrlNotAllowed { .. }
            | Refusal::NoEvidence
            | Refusal::Evidence(_)
            | Refusal::Challenge
            | Refusal::NotCovered(_)
            | Refusal::Unsupported(_)
            | Refusal::Parameter { .. }
            | Refusal::Expired(_)
            | Refusal::CertificateAbsent
            | Refusal::NotEnrolled
            | Refusal::EnrolmentClosed
            | Refusal::EnrolmentUnfit => None,
            Refusal::Asserted(_) => scheme.other_topic(&facts),
            Refusal::Digest => Some(
                "the body was changed after the sender hashed it, or the digest is of another \
                 coding of it"
                    .to_owned(),
            ),
            Refusal::CertificateOther(_) => scheme.shown_certificate(&facts),
        }
    }
}

impl Verifier {
    /// Where to look, when nothing that was tried explains the refusal.
    pub(crate) fn at_a_loss(&self, inbound: &Inbound, now: Now, refusal: &Refusal) -> Vec<String> {
        let facts = Facts::of(inbound);
        let Some(scheme) = self.failed(&facts, now) else {
            return Vec::new();
        };
        let beside_signature = |stamp: &Stamp| matches!(stamp.spot, StampSpot::Item(_));
        match refusal {
            Refusal::TimestampAbsent(_) if scheme.stamp.as_ref().is_some_and(beside_signature) => {
                Vec::new()
            }
            Refusal::Absent(_) | Refusal::FieldAbsent(_) | Refusal::TimestampAbsent(_) => {
                vec![scheme.similar_headers(&facts.head.headers)]
            }
            Refusal::Mismatch(_) => scheme.unexplained(&facts),
            Refusal::WrongToken(_) => vec!["most likely the secret is another one".to_owned()],
            _ => Vec::new(),
        }
    }

    /// The scheme of a refused request that does not pass.
    fn failed(&self, facts: &Facts<'_>, now: Now) -> Option<&Scheme> {
        // What was fetched is not at hand any more: such a scheme is the one that failed when no
        // other did.
        let (fetching, own): (Vec<&Scheme>, Vec<&Scheme>) =
            self.schemes.iter().partition(|it| it.needs_evidence());
        let mut own = own.into_iter();
        let failed = own.find(|scheme| scheme.check(facts, None, now).is_err());
        failed.or_else(|| fetching.first().copied())
    }

    /// The label of the first secret of `other` with which the proof would hold here.
    pub(crate) fn holds_with_key_of(&self, other: &Self, inbound: &Inbound) -> Option<Arc<str>> {
        let facts = Facts::of(inbound);
        let keys = || other.schemes.iter().flat_map(|scheme| &scheme.keys);
        self.schemes.iter().find_map(|scheme| {
            let sent = scheme.signature.sent(&facts).ok()?;
            let trial = scheme.trial(&sent);
            let fits = |secret: &[u8]| match (&trial, &scheme.kind) {
                (Some(trial), _) => trial.holds_with(&facts, secret),
                (None, Kind::Token) => sent.iter().any(|sent| *sent.text == *secret),
                (None, _) => false,
            };
            let key = keys().find(|key| fits(key.secret.expose()))?;
            Some(Arc::clone(&key.label))
        })
    }
}

impl Scheme {
    /// What is known of a signature whose timestamp is too old.
    fn of_its_own_time(&self) -> String {
        // Nobody fetches a key for a request that is refused without it.
        let known = if self.needs_evidence() {
            "the signature was not looked at, because its key is fetched for fresh requests only"
        } else {
            "the signature itself is genuine"
        };
        format!("{known}; a saved request is judged as of its own time with --at")
    }

    /// The topic that a message of SNS is of, where another is asserted: its name is no secret.
    fn other_topic(&self, facts: &Facts<'_>) -> Option<String> {
        let given = self.given(facts, None);
        let mut asserts = self.asserts.iter();
        asserts.find(|it| it.pins(sns::TOPIC) && it.check(&given).is_err())?;
        match facts.find(&Place::parse(sns::TOPIC).ok()?).ok()? {
            Found::Once(topic) => {
                let topic = String::from_utf8_lossy(&topic);
                Some(format!(
                    "the message is of the topic {}",
                    topic.escape_debug()
                ))
            }
            Found::Absent | Found::Twice => None,
        }
    }

    fn shown_certificate(&self, facts: &Facts<'_>) -> Option<String> {
        let certificate = facts.head.certificate.as_deref()?;
        Some(format!(
            "it is of `{}`, issued by `{}`, for {}, with the fingerprint {}",
            certificate.subject,
            certificate.issuer,
            match certificate.names.as_slice() {
                [] => "no alternative name".to_owned(),
                names => names.join(", "),
            },
            certificate.fingerprint
        ))
    }

    fn unexplained(&self, facts: &Facts<'_>) -> Vec<String> {
        let url = match &self.kind {
            Kind::Message(_) => {
                return vec![
                    "most likely the secret is another one, or the sender knows another address \
                     than `public_url`"
                        .to_owned(),
                ];
            }
            Kind::Signed(signing) if signing.template.any(|it| matches!(it, Part::Url(_))) => {
                self.url.as_deref()
            }
            _ => None,
        };
        unexplained(facts, url)
    }

    /// What is configured, to be changed in one thing at a time.
    fn trial<'a>(&'a self, sent: &'a [Sent<'a>]) -> Option<Trial<'a>> {
        let Kind::Signed(signing) = &self.kind else {
            return None;
        };
        Some(Trial {
            scheme: self,
            sent,
            method: signing.method,
            encoding: signing.encoding,
            template: &signing.template,
            url: self.url.clone(),
        })
    }

    /// Headers that may be what was looked for under another name.
    fn similar_headers(&self, headers: &HeaderMap) -> String {
        let wanted = self.header_names();
        let mut similar: Vec<&str> = headers
            .keys()
            .map(http::HeaderName::as_str)
            .filter(|name| !wanted.iter().any(|wanted| wanted == name))
            .filter(|name| {
                let has = |words: &[&str]| words.iter().any(|word| name.contains(word));
                let is_alike = |wanted: &&str| strsim::jaro_winkler(wanted, name) >= ALIKE_MIN;
                has(&TELLING) || (wanted.iter().any(is_alike) && !has(&ABOUT))
            })
            .collect();
        similar.sort_unstable();
        match similar.as_slice() {
            [] if wanted.is_empty() => {
                "no header of this proof is looked at, only the query or the body: is the URL at \
                 the provider the whole one, and does the provider sign?"
                    .to_owned()
            }
            [] => {
                "no header of the request looks like it: does the provider have a secret to sign \
                 with?"
                    .to_owned()
            }
            similar => format!("the request has {}", similar.join(", ")),
        }
    }

    fn header_names(&self) -> Vec<&str> {
        let mut names = Vec::new();
        for spot in &self.signature.spots {
            match spot {
                Spot::At(Place::Header(header)) => names.push(header.name.as_str()),
                Spot::HeadersLike { prefix, .. } => names.push(prefix),
                Spot::At(Place::Query(_) | Place::Form(_) | Place::Json(_)) | Spot::Each { .. } => {
                }
            }
        }
        if let Some(StampSpot::At(Place::Header(header))) = self.stamp.as_ref().map(|s| &s.spot) {
            names.push(header.name.as_str());
        }
        if let Kind::Signed(signing) = &self.kind {
            names.extend(signing.template.parts().filter_map(|part| match part {
                Part::Value {
                    place: Place::Header(header),
                    ..
                } => Some(header.name.as_str()),
                _ => None,
            }));
        }
        names
    }

    fn other_encoding(&self, facts: &Facts<'_>) -> Option<String> {
        let Kind::Signed(signing) = &self.kind else {
            return None;
        };
        let sent = self.signature.sent(facts).ok()?;
        let text = &sent.first()?.text;
        let wanted = signing.method.signature_bytes()?;
        if let Some((prefix, rest)) = beginning(text)
            && signing
                .encoding
                .decode(rest)
                .is_some_and(|it| it.len() == wanted)
        {
            return Some(format!(
                "it begins with `{prefix}`: should `prefix` be that?"
            ));
        }
        let others = Encoding::ALL
            .iter()
            .filter(|(_, encoding)| *encoding != signing.encoding);
        let mut fitting = others.filter(|(_, encoding)| {
            let decoded = encoding.decode(text);
            decoded.is_some_and(|decoded| decoded.len() == wanted)
        });
        if let Some((name, _)) = fitting.next() {
            return Some(format!(
                "it could be {name}: should `encoding` be `{name}`?"
            ));
        }
        // Base64 that lost its end has no whole number of bytes any more.
        let length = signing.encoding.encode(&vec![0; wanted]).len();
        let is_cut = text.len() != length && signing.encoding.is_written_in(text);
        is_cut.then(|| {
            format!(
                "the signature has {} characters, and one of {} has {length} in {}: {}",
                text.len(),
                signing.method.name(),
                signing.encoding.name(),
                cut_or_more(text.len(), length)
            )
        })
    }

    /// A signature of a length that its algorithm never makes.
    fn other_length(&self, facts: &Facts<'_>) -> Option<String> {
        let Kind::Signed(signing) = &self.kind else {
            return None;
        };
        let sent = self.signature.sent(facts).ok()?;
        let decoded = sent
            .iter()
            .filter_map(|sent| signing.encoding.decode(&sent.text));
        let lengths: Vec<usize> = decoded.map(|decoded| decoded.len()).collect();
        let wanted = signing.method.signature_bytes()?;
        if lengths.contains(&wanted) {
            return None;
        }
        let length = *lengths.first()?;
        let alike = ALGORITHMS
            .iter()
            .find(|(_, algorithm)| algorithm.bytes() == length);
        let why = match alike {
            Some((name, _)) => format!("{name} makes as many, but does not match either"),
            None => cut_or_more(length, wanted).to_owned(),
        };
        Some(format!(
            "the signature has {length} bytes, and one of {} has {wanted}: {why}",
            signing.method.name()
        ))
    }

    fn other_unit(&self, facts: &Facts<'_>, now: Now) -> Option<String> {
        let stamp = self.stamp.as_ref()?;
        let text = self.timestamp(facts).ok()??;
        let others = Unit::ALL.iter().filter(|(_, unit)| *unit != stamp.unit);
        for (name, unit) in others {
            let mut other = stamp.clone();
            other.unit = *unit;
            if other.check(&text, now.wall).is_ok() {
                return Some(format!(
                    "it would be fresh with `timestamp_unit = \"{name}\"`"
                ));
            }
        }
        None
    }

    /// The one change that makes the signature hold.
    fn mistake(&self, facts: &Facts<'_>) -> Option<String> {
        let signing = match &self.kind {
            Kind::Signed(signing) => signing,
            Kind::Message(message) => return self.mistake_in_address(message, facts),
            _ => return None,
        };
        let sent = self.signature.sent(facts).ok()?;
        let trial = self.trial(&sent)?;
        None.or_else(|| self.mistake_in_secret(&trial, facts))
            .or_else(|| mistake_in_body(&trial, facts))
            .or_else(|| mistake_in_words(&trial, signing, facts))
            .or_else(|| mistake_in_template(&trial, facts))
            .or_else(|| self.mistake_in_url(&trial, signing, facts))
    }

    fn mistake_in_secret(&self, trial: &Trial<'_>, facts: &Facts<'_>) -> Option<String> {
        for key in &self.keys {
            let secret = key.secret.expose();
            let label = &key.label;
            for (what, why, other) in written_otherwise(secret) {
                if trial.holds_with(facts, &other) {
                    return Some(format!("it matches {what} the secret `{label}`{why}"));
                }
            }
            for (name, method) in trial.method.other_forms() {
                let other = Trial {
                    method,
                    ..trial.clone()
                };
                if other.holds_with(facts, secret) {
                    return Some(format!(
                        "the secret `{label}` matches with `key = \"{name}\"`"
                    ));
                }
            }
        }
        None
    }
}

/// What looks like a prefix, up to `=` or a blank, and what comes after it.
fn beginning(text: &[u8]) -> Option<(&str, &[u8])> {
    let end = text.iter().position(|byte| matches!(byte, b'=' | b' '))? + 1;
    let (beginning, rest) = text.split_at_checked(end)?;
    let is_shown = end <= PREFIX_SHOWN_BYTES_MAX && !rest.is_empty();
    let beginning = std::str::from_utf8(beginning).ok()?;
    is_shown.then_some((beginning, rest))
}

/// How a secret may have been copied wrongly: what goes before "the secret" in words, and after.
fn written_otherwise(secret: &[u8]) -> Vec<(&'static str, &'static str, Vec<u8>)> {
    const WHSEC: &[u8] = b"whsec_";
    let trimmed = secret.trim_ascii();
    let mut others = Vec::new();
    if trimmed != secret {
        others.push(("without the white space around", "", trimmed.to_vec()));
    }
    if let [first @ (b'"' | b'\''), inner @ .., last] = trimmed
        && first == last
    {
        let why = ": they are not part of it";
        others.push(("without the quotes around", why, inner.to_vec()));
    }
    let why = ": the sender's copy has one too many";
    others.push(("with a newline after", why, [secret, b"\n"].concat()));
    others.push(match secret.strip_prefix(WHSEC) {
        Some(bare) => ("without the `whsec_` of", "", bare.to_vec()),
        None => {
            let why = ": that is part of it";
            ("with `whsec_` in front of", why, [WHSEC, secret].concat())
        }
    });
    for quote in [b"\"", b"'"] {
        let quoted = [quote, secret, quote].concat();
        others.push(("with quotes around", ": the sender's copy has them", quoted));
    }
    others
}

/// What is left to say when no usual mistake explains it.
fn unexplained(facts: &Facts<'_>, url: Option<&str>) -> Vec<String> {
    if let Some(what) = other_body_length(facts) {
        return vec![format!(
            "none of the usual mistakes explains it: the body is {what}, so no secret can match"
        )];
    }
    let url = url.map_or(String::new(), |url| {
        format!("the provider was told another URL than {url} (see `public_url`), ")
    });
    let told = format!(
        "none of the usual mistakes explains it: most likely the secret is another one, {url}or \
         the body was changed on its way"
    );
    let hints = [body::written_again(facts), mode::of(facts)];
    std::iter::once(told)
        .chain(hints.into_iter().flatten())
        .collect()
}

/// How a body differs in length from the one that its sender announced.
fn other_body_length(facts: &Facts<'_>) -> Option<&'static str> {
    let announced = facts.head.headers.get(http::header::CONTENT_LENGTH)?;
    let announced = announced.to_str().ok()?.parse::<usize>().ok()?;
    match announced.cmp(&facts.body.len()) {
        Ordering::Greater => Some("not all that was sent"),
        Ordering::Less => Some("more than what was sent"),
        Ordering::Equal => None,
    }
}

fn cut_or_more(actual: usize, wanted: usize) -> &'static str {
    if actual < wanted {
        "it was cut"
    } else {
        "there is more in it than the signature"
    }
}

impl Method {
    /// As it is written in `algorithm`.
    fn name(self) -> &'static str {
        match self {
            Self::Shared { algorithm, .. } => match algorithm {
                Algorithm::HmacSha1 => "hmac-sha1",
                Algorithm::HmacSha256 => "hmac-sha256",
                Algorithm::HmacSha384 => "hmac-sha384",
                Algorithm::HmacSha512 => "hmac-sha512",
                Algorithm::PlainSha1 => "sha1",
                Algorithm::PlainSha256 => "sha256",
            },
            Self::Public { algorithm, .. } => algorithm.name(),
        }
    }

    /// How long a signature is. `None`: that depends on the key, or on the signature.
    fn signature_bytes(self) -> Option<usize> {
        match self {
            Self::Shared { algorithm, .. } => Some(algorithm.bytes()),
            Self::Public { algorithm, .. } => algorithm.signature_bytes(),
        }
    }

    /// The same with keys that are written otherwise. A public key in another form would not have
    /// passed as one.
    fn other_forms(self) -> Vec<(&'static str, Self)> {
        match self {
            Self::Public { .. } => Vec::new(),
            Self::Shared {
                algorithm,
                form: own,
            } => KeyForm::ALL
                .into_iter()
                .filter(|(_, form)| *form != own)
                .map(|(name, form)| (name, Self::Shared { algorithm, form }))
                .collect(),
        }
    }

    /// The same with another hash.
    fn other_algorithms(self) -> Vec<(&'static str, Self)> {
        match self {
            Self::Public { .. } => Vec::new(),
            Self::Shared {
                algorithm: own,
                form,
            } => ALGORITHMS
                .into_iter()
                .filter(|(_, algorithm)| *algorithm != own)
                .map(|(name, algorithm)| (name, Self::Shared { algorithm, form }))
                .collect(),
        }
    }
}

fn mistake_in_body(trial: &Trial<'_>, facts: &Facts<'_>) -> Option<String> {
    body::variants(facts).find_map(|(what, body)| {
        let changed = Facts::new(facts.head, &body);
        trial.holds(&changed).then(|| format!("it matches {what}"))
    })
}

fn mistake_in_words(trial: &Trial<'_>, signing: &Signing, facts: &Facts<'_>) -> Option<String> {
    for (name, encoding) in Encoding::ALL {
        if encoding != signing.encoding
            && (Trial {
                encoding,
                ..trial.clone()
            })
            .holds(facts)
        {
            return Some(format!("it matches with `encoding = \"{name}\"`"));
        }
    }
    for (name, method) in signing.method.other_algorithms() {
        let other = Trial {
            method,
            ..trial.clone()
        };
        if other.holds(facts) {
            return Some(format!("it matches with `algorithm = \"{name}\"`"));
        }
    }
    None
}

fn mistake_in_template(trial: &Trial<'_>, facts: &Facts<'_>) -> Option<String> {
    const OTHERS: [&str; 4] = [
        "{body}",
        "{timestamp}.{body}",
        "{timestamp}:{body}",
        "{timestamp}{body}",
    ];
    OTHERS.into_iter().find_map(|text| {
        let template = Template::parse(text, &std::collections::BTreeMap::new()).ok()?;
        let holds = (Trial {
            template: &template,
            ..trial.clone()
        })
        .holds(facts);
        let is_other = template != *trial.template;
        (is_other && holds).then(|| format!("it matches with `signed = \"{text}\"`"))
    })
}

/// One set of assumptions.
#[derive(Clone)]
struct Trial<'a> {
    scheme: &'a Scheme,
    sent: &'a [Sent<'a>],
    method: Method,
    encoding: Encoding,
    template: &'a Template,
    url: Option<String>,
}

impl Trial<'_> {
    /// Whether the signature holds under them with any of the configured secrets.
    fn holds(&self, facts: &Facts<'_>) -> bool {
        self.scheme
            .keys
            .iter()
            .any(|key| self.holds_with(facts, key.secret.expose()))
    }

    fn holds_with(&self, facts: &Facts<'_>, secret: &[u8]) -> bool {
        let sent = self.sent.iter();
        let mut sent = sent.filter_map(|sent| self.encoding.decode(&sent.text));
        match self.method {
            Method::Shared { algorithm, form } => {
                let key = form.key(secret);
                let Some(mut mac) = key.and_then(|key| algorithm.keyed(&key)) else {
                    return false;
                };
                let fed = self.feed(facts, secret, |piece| mac.update(piece));
                let expected = fed.map(|()| mac.finish());
                sent.any(|sent| Some(&sent) == expected.as_ref())
            }
            Method::Public { algorithm, form } => {
                let key = form.key(secret);
                let Some(key) = key.and_then(|key| algorithm.public_key(&key)) else {
                    return false;
                };
                let mut text = Vec::new();
                let fed = self.feed(facts, secret, |piece| text.extend_from_slice(piece));
                fed.is_some() && sent.any(|sent| key.verifies(&text, &sent))
            }
        }
    }

    /// `None` when the request lacks what is signed.
    fn feed(&self, facts: &Facts<'_>, secret: &[u8], sink: impl FnMut(&[u8])) -> Option<()> {
        let timestamp = self.scheme.timestamp(facts).ok()?;
        let url = self.url.as_deref();
        let given = Given {
            facts,
            timestamp: timestamp.as_deref(),
            secret,
            url,
        };
        self.template.feed(&given, sink).ok()
    }
}

/// A body with what makes it differ.
type Variant<'a> = (String, Cow<'a, [u8]>);
