//! Broker URLs: secrets, of which only host and port are ever shown.

use std::fmt;
use std::net::Ipv6Addr;

use lapin::uri::{AMQPScheme, AMQPUri};

use crate::secret::Labelled;

/// A dead peer is noticed after two of these. RabbitMQ's guide recommends 5 to 20 seconds.
const HEARTBEAT_SECONDS: u16 = 10;

/// Longest frame that is agreed to, unless the URL says otherwise; RabbitMQ's own default. lapin
/// allocates 64 of them for a connection, and takes whatever the broker offers if nothing is said:
/// a broker that offers four gigabytes would end the process.
const FRAME_BYTES: u32 = 128 * 1024;
/// Longest that a URL may ask for.
const FRAME_BYTES_MAX: u32 = 1024 * 1024;

/// One node of the cluster.
#[derive(Clone)]
pub(super) struct Node {
    uri: AMQPUri,
    address: String,
}

impl Node {
    /// Reads a URL like `amqps://user:password@host:5671/vhost?heartbeat=10`.
    ///
    /// # Errors
    ///
    /// A text for the operator that holds nothing of the URL.
    pub(super) fn parse(url: &Labelled) -> Result<Self, String> {
        let label = &url.label;
        let unfit = |what: &str| format!("the URL in {label:?} is not one of a broker: {what}");
        let text = str::from_utf8(url.secret.expose())
            .map_err(|_quotes_it| unfit("it is not UTF-8"))?
            .trim();
        if !text.starts_with("amqp://") && !text.starts_with("amqps://") {
            return Err(unfit("it does not begin with amqp:// or amqps://"));
        }
        // What the parser says may quote the URL.
        let mut uri: AMQPUri = text
            .parse()
            .map_err(|_quotes_it| unfit("it is not an AMQP URL"))?;
        // The parser takes an IPv6 address for no host at all.
        if let Some(address) = ipv6_host(text) {
            uri.authority.host = address
                .parse::<Ipv6Addr>()
                .map_err(|_quotes_it| unfit("its host is not an IPv6 address"))?
                .to_string();
        }
        if uri.vhost.len() > 255 {
            return Err(unfit("its vhost is longer than 255 bytes"));
        }
        uri.query.heartbeat.get_or_insert(HEARTBEAT_SECONDS);
        let frame_bytes = uri.query.frame_max.filter(|bytes| *bytes > 0);
        let frame_bytes = frame_bytes.map_or(FRAME_BYTES, |bytes| bytes.min(FRAME_BYTES_MAX));
        uri.query.frame_max = Some(frame_bytes);
        let (host, port) = (&uri.authority.host, uri.authority.port);
        let address = if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        };
        Ok(Self { uri, address })
    }

    /// `host:port`, for logs.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// All of it, for the connection.
    pub(super) fn uri(&self) -> &AMQPUri {
        &self.uri
    }

    /// Whether TLS is spoken.
    pub(super) fn is_tls(&self) -> bool {
        self.uri.scheme == AMQPScheme::AMQPS
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// What stands between brackets where the host is.
fn ipv6_host(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    Some(host.strip_prefix('[')?.split_once(']')?.0)
}
