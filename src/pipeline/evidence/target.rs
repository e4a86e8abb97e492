//! A URL that may be called: `https`, a name, a port, a path.
//!
//! Read by its own strict rules and sent exactly as it was read. Whatever two readers of a URL
//! could take for different hosts (user names, addresses in any notation, backslashes, odd bytes)
//! is no target at all.

use std::fmt;

/// Longest URL, in bytes.
const URL_BYTES_MAX: usize = 2_048;

/// Longest name of a host, in bytes (RFC 1035, section 2.3.4).
const HOST_BYTES_MAX: usize = 253;

/// Longest part of it.
const LABEL_BYTES_MAX: usize = 63;

/// The port when a URL does not say.
pub(super) const HTTPS: u16 = 443;

/// Where something may be fetched from. Made from a URL in a request only by
/// [`Hosts::target`](super::Hosts::target).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    host: String,
    port: u16,
    path_and_query: String,
    origin: Origin,
}

/// Who named the URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// The configuration.
    Configuration,
    /// A request: a stranger, as long as nothing is proved.
    Request,
}

/// Why a text is no URL that could be called, in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoTarget {
    /// Longer than any that is meant.
    #[error("it is longer than 2048 bytes")]
    TooLong,
    /// Bytes that URLs do not have, or that readers differ about.
    #[error("it has characters that do not belong there")]
    OddCharacters,
    /// Another scheme.
    #[error("it does not begin with https://")]
    NotHttps,
    /// `user@host`.
    #[error("it has a user name")]
    UserInfo,
    /// `#...`.
    #[error("it has a fragment")]
    Fragment,
    /// An address, or a name that is none.
    #[error("its host is not a name")]
    NoName,
    /// A port that is none.
    #[error("its port is not a number from 1 to 65535")]
    BadPort,
}

impl Target {
    /// A URL of the configuration: the operator has chosen its host.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn configured(url: &str) -> Result<Self, NoTarget> {
        Self::parse(url, Origin::Configuration)
    }

    pub(super) fn parse(url: &str, origin: Origin) -> Result<Self, NoTarget> {
        if url.len() > URL_BYTES_MAX {
            return Err(NoTarget::TooLong);
        }
        let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"\\\"<>^`{|}".contains(&byte);
        if !url.bytes().all(is_plain) {
            return Err(NoTarget::OddCharacters);
        }
        let rest = match url.split_at_checked("https://".len()) {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https://") => rest,
            _ => return Err(NoTarget::NotHttps),
        };
        if rest.contains('#') {
            return Err(NoTarget::Fragment);
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if authority.contains('@') {
            return Err(NoTarget::UserInfo);
        }
        let (host, port) = match authority.split_once(':') {
            None => (authority, HTTPS),
            Some((host, port)) => (host, self::port(port).ok_or(NoTarget::BadPort)?),
        };
        if !is_name(host) {
            return Err(NoTarget::NoName);
        }
        let slash = if path.starts_with('/') { "" } else { "/" };
        Ok(Self {
            host: host.to_ascii_lowercase(),
            port,
            path_and_query: format!("{slash}{path}"),
            origin,
        })
    }

    /// The name of the host, in small letters.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Path and query, as they are sent.
    pub fn path_and_query(&self) -> &str {
        &self.path_and_query
    }

    /// The path alone.
    pub fn path(&self) -> &str {
        let end = self.path_and_query.find('?');
        self.path_and_query
            .get(..end.unwrap_or(self.path_and_query.len()))
            .unwrap_or_default()
    }

    /// Whether there is a query.
    pub fn has_query(&self) -> bool {
        self.path_and_query.contains('?')
    }

    /// The whole URL, for who is to open it.
    pub fn url(&self) -> String {
        format!("https://{}{}", self.authority(), self.path_and_query)
    }

    /// Who named it.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// `host`, or `host:port` where that is not 443, as in the header `Host`.
    pub fn authority(&self) -> String {
        if self.port == HTTPS {
            self.host.clone()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for Target {
    /// Without the query, which may hold what is nobody's business.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}{}", self.authority(), self.path())
    }
}

/// Digits, without a sign or a leading zero.
pub(super) fn port(text: &str) -> Option<u16> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    text.parse().ok().filter(|_| is_plain)
}

/// A name of labels with letters, digits and hyphens (RFC 1123, section 2.1). Resolvers take
/// `2130706433`, `0x7f.1` and `127.1` for addresses, so the last label must be none of those.
fn is_name(host: &str) -> bool {
    let last = host.rsplit('.').next().unwrap_or_default();
    (1..=HOST_BYTES_MAX).contains(&host.len())
        && host.split('.').all(is_label)
        && last.starts_with(|c: char| c.is_ascii_alphabetic())
}

/// One part of a name.
pub(super) fn is_label(label: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    (1..=LABEL_BYTES_MAX).contains(&label.len())
        && label.bytes().all(plain)
        && !label.starts_with('-')
        && !label.ends_with('-')
}
