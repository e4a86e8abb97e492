//! What others see of a source: where it is, what it takes, what it passes on and answers.

use std::collections::HashSet;

use http::{HeaderName, HeaderValue, StatusCode};

use crate::config::compile::Compiler;
use crate::config::raw::{RawReply, RawVerify};
use crate::config::server::to_usize;
use crate::config::value::{ShownSize, Wrong, quote};
use crate::pipeline::arrival::BodyBounds;
use crate::source::Reply;

/// Longest path of a source, in bytes.
const PATH_BYTES_MAX: usize = 255;

/// Most request headers that are copied into a message.
const FORWARD_HEADERS_MAX: usize = 32;

/// Longest name of a forwarded header; `http_` comes before it, and AMQP takes 255.
const HEADER_BYTES_MAX: usize = 200;

/// What a message never carries: it would give away what proves an identity.
const HEADERS_SECRET: [&str; 4] = [
    "authorization",
    "proxy-authorization",
    "cookie",
    "set-cookie",
];

impl Compiler<'_> {
    pub(super) fn path(&self) -> String {
        let Some(path) = &self.raw.path else {
            return format!("/{}", self.name);
        };
        self.ensure_path(&["path"], path);
        path.clone()
    }

    /// Reports what keeps a path from being compared byte for byte.
    pub(super) fn ensure_path(&self, place: &[&str], path: &str) {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
        let why = if !path.starts_with('/') {
            "does not begin with `/`"
        } else if path.len() > PATH_BYTES_MAX {
            "is too long"
        } else if path.contains("//") {
            "has an empty part between two `/`"
        } else if path.split('/').any(|part| matches!(part, "." | "..")) {
            "has a part that other programs would resolve"
        } else if !path.bytes().all(plain) {
            "has a character that can be written in more than one way"
        } else {
            return;
        };
        let help = format!(
            "paths are compared byte for byte: at most {PATH_BYTES_MAX} letters, digits, `-`, `_`, \
             `.`, `~` and `/`, such as \"/in/{}\"",
            self.name
        );
        self.reporter.error(
            place,
            Wrong::new(format!("the path {} {why}", quote(path)), help),
        );
    }

    pub(super) fn body_bounds(&self) -> BodyBounds {
        let limits = self.shared.limits;
        let bytes_max = self.raw.max_body.map_or(limits.body_bytes_max, to_usize);
        if self.raw.max_body.is_some() && bytes_max > limits.bytes_in_flight_max {
            let in_flight = u64::try_from(limits.bytes_in_flight_max).unwrap_or(u64::MAX);
            self.reporter.error(
                &["max_body"],
                Wrong::new(
                    format!(
                        "`max_body` is more than the {} of max_bytes_in_flight, so no such body \
                         could be taken",
                        ShownSize(in_flight)
                    ),
                    "make it smaller, or max_bytes_in_flight in [server.limits] larger",
                ),
            );
        }
        // A segment that is being written cannot go, so not all of the journal is room.
        let room = self.shared.journal_bytes_max / 2;
        if u64::try_from(bytes_max).unwrap_or(u64::MAX) > room {
            self.reporter.error(
                &["max_body"],
                Wrong::new(
                    format!(
                        "`max_body` is more than half of the {} of the journal's max_size, so \
                         such a body would always find it full",
                        ShownSize(self.shared.journal_bytes_max)
                    ),
                    "make it smaller, or max_size in [journal] larger",
                ),
            );
        }
        BodyBounds {
            bytes_max,
            timeout: limits.body_timeout,
        }
    }

    pub(super) fn forward_headers(&self) -> Vec<(HeaderName, String)> {
        let written = self.raw.forward_headers.as_deref().unwrap_or_default();
        if written.len() > FORWARD_HEADERS_MAX {
            self.reporter.error(
                &["forward_headers"],
                format!(
                    "at most {FORWARD_HEADERS_MAX} headers can be forwarded, not {}",
                    written.len()
                ),
            );
        }
        let mut seen = HashSet::new();
        let mut headers = Vec::new();
        for (index, text) in written.iter().enumerate() {
            let index = index.to_string();
            let checked = self.forward_header(text);
            let Some((header, name)) = self.reporter.accept(&["forward_headers", &index], checked)
            else {
                continue;
            };
            if !seen.insert(name.clone()) {
                let what = format!("another header is already forwarded as {}", quote(&name));
                self.reporter.error(&["forward_headers", &index], what);
            }
            headers.push((header, name));
        }
        headers
    }

    fn forward_header(&self, text: &str) -> Result<(HeaderName, String), Wrong> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        let fits = text.len() <= HEADER_BYTES_MAX && text.bytes().all(plain);
        let header = HeaderName::from_bytes(text.as_bytes())
            .ok()
            .filter(|_| fits);
        let Some(header) = header else {
            return Err(Wrong::new(
                format!("{} cannot be forwarded", quote(text)),
                format!("a name has letters, digits, `-` and `_`, at most {HEADER_BYTES_MAX}"),
            ));
        };
        if HEADERS_SECRET.contains(&header.as_str()) || self.is_token(&header) {
            return Err(Wrong::new(
                format!(
                    "{} holds a secret, which must not travel with events",
                    quote(text)
                ),
                "take it out: consumers see by `hookgate_verified` that the sender was verified",
            ));
        }
        let name = format!("http_{}", header.as_str().replace('-', "_"));
        Ok((header, name))
    }

    /// Whether this header is itself the sender's secret.
    fn is_token(&self, header: &HeaderName) -> bool {
        let Some(RawVerify::Schemes(schemes)) = &self.raw.verify else {
            return false;
        };
        let mut tokens = schemes.iter().filter(|scheme| {
            matches!(scheme.algorithm.as_deref(), Some("token" | "basic" | "jwt"))
        });
        tokens.any(|scheme| {
            let mut names = scheme
                .signature
                .iter()
                .filter_map(|place| place.strip_prefix("header:"));
            names.any(|name| name.eq_ignore_ascii_case(header.as_str()))
        })
    }

    pub(super) fn reply(&self) -> Reply {
        let raw = self.raw.reply.clone().unwrap_or_default();
        let RawReply {
            status,
            content_type,
            headers: _of_handshakes,
            mut body,
        } = raw;
        let status = status.and_then(|status| StatusCode::from_u16(status).ok());
        let status = status.unwrap_or(StatusCode::ACCEPTED);
        if let Some(content_type) = &content_type
            && HeaderValue::from_str(content_type).is_err()
        {
            let what = format!("{} is not a content type", quote(content_type));
            self.reporter.error(&["reply", "content_type"], what);
        }
        if matches!(status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT) {
            if body.as_ref().is_some_and(|body| !body.is_empty()) {
                let what = format!("an answer with status {} has no body", status.as_u16());
                self.reporter.error(
                    &["reply", "body"],
                    Wrong::new(what, "take it out, or use 200"),
                );
            }
            body = Some(String::new());
        }
        Reply {
            status,
            body,
            content_type,
        }
    }
}
