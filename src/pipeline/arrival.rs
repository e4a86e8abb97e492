//! A request while it comes in: [`Arrival`] is a head with its body unread, [`Inbound`] has all of
//! it, under a cap and before a deadline.

use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, Method};
use http_body::Body;
use tokio::time::timeout;

use crate::pipeline::certificate::ClientCertificate;
use crate::reject::Reject;

/// What the request line and the headers say.
#[derive(Clone, Debug)]
pub struct Head {
    /// The method.
    pub method: Method,
    /// The path as received, without the query; never decoded.
    pub path: String,
    /// The query as received, without the `?`.
    pub query: Option<String>,
    /// The headers as received.
    pub headers: HeaderMap,
    /// Who sent it, after trusted proxies.
    pub client_ip: IpAddr,
    /// The id that this request is known by, in the answer, the log and the message.
    pub request_id: Arc<str>,
    /// The certificate that its connection has shown and that was verified.
    pub certificate: Option<Arc<ClientCertificate>>,
}

/// A request whose body has not been read.
#[derive(Debug)]
pub struct Arrival<B> {
    /// Its head.
    pub head: Head,
    /// Its body.
    pub body: B,
}

/// A request that has arrived whole. Made only by [`Arrival::read`] and from saved files.
#[derive(Clone, Debug)]
pub struct Inbound {
    /// Its head.
    pub head: Head,
    /// Every byte of its body.
    pub body: Bytes,
}

impl Inbound {
    /// The request as HTTP/1.1, the body in one piece: what `explain` reads.
    pub fn written(&self) -> Vec<u8> {
        let Head {
            method,
            path,
            query,
            headers,
            ..
        } = &self.head;
        let target = match query {
            Some(query) => format!("{path}?{query}"),
            None => path.clone(),
        };
        written(method, &target, headers, &self.body)
    }
}

/// A request as HTTP/1.1, with the length of its body, which is in one piece.
pub fn written(method: &Method, target: &str, headers: &HeaderMap, body: &[u8]) -> Vec<u8> {
    let mut out = format!("{method} {target} HTTP/1.1\r\n").into_bytes();
    let mut field = |name: &str, value: &[u8]| {
        out.extend_from_slice(&[name.as_bytes(), b": ", value, b"\r\n"].concat());
    };
    for (name, value) in headers {
        if *name != TRANSFER_ENCODING {
            field(name.as_str(), value.as_bytes());
        }
    }
    if !headers.contains_key(CONTENT_LENGTH) {
        field(CONTENT_LENGTH.as_str(), body.len().to_string().as_bytes());
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(body);
    out
}

/// How much body is taken, and how long that may take.
#[derive(Clone, Copy, Debug)]
pub struct BodyBounds {
    /// Longest body, in bytes.
    pub bytes_max: usize,
    /// From the head to the last byte.
    pub timeout: Duration,
}

impl<B: Body<Data = Bytes>> Arrival<B> {
    /// Reads the whole body. An announced length over the limit is refused before a byte is read;
    /// an unannounced one is cut off at the limit. `make_room` is asked for every part before it
    /// is kept.
    ///
    /// # Errors
    ///
    /// [`Reject::BodyTooLarge`], [`Reject::BodyTooSlow`], [`Reject::BodyBroken`],
    /// [`Reject::Ambiguous`] for trailer fields, and what `make_room` says.
    pub async fn read(
        self,
        bounds: BodyBounds,
        make_room: impl FnMut(usize) -> Result<(), Reject>,
    ) -> Result<Inbound, Reject> {
        let announced = self.body.size_hint().lower();
        if announced > u64::try_from(bounds.bytes_max).unwrap_or(u64::MAX) {
            return Err(Reject::BodyTooLarge(bounds.bytes_max));
        }
        let reading = read_to_end(self.body, bounds.bytes_max, make_room);
        let Ok(body) = timeout(bounds.timeout, reading).await else {
            return Err(Reject::BodyTooSlow);
        };
        Ok(Inbound {
            head: self.head,
            body: body?,
        })
    }
}

/// What has been read: one frame is the usual case and is handed on without a copy.
enum Gathered {
    Nothing,
    One(Bytes),
    Many(BytesMut),
}

impl Gathered {
    fn len(&self) -> usize {
        match self {
            Self::Nothing => 0,
            Self::One(bytes) => bytes.len(),
            Self::Many(bytes) => bytes.len(),
        }
    }

    fn and(self, more: Bytes) -> Self {
        match self {
            Self::Nothing => Self::One(more),
            Self::One(first) => {
                let mut many = BytesMut::with_capacity(first.len() + more.len());
                many.extend_from_slice(&first);
                many.extend_from_slice(&more);
                Self::Many(many)
            }
            Self::Many(mut many) => {
                many.extend_from_slice(&more);
                Self::Many(many)
            }
        }
    }
}

async fn read_to_end<B: Body<Data = Bytes>>(
    body: B,
    bytes_max: usize,
    mut make_room: impl FnMut(usize) -> Result<(), Reject>,
) -> Result<Bytes, Reject> {
    let mut body = pin!(body);
    let mut gathered = Gathered::Nothing;
    while let Some(frame) = poll_fn(|context| body.as_mut().poll_frame(context)).await {
        let Ok(frame) = frame else {
            return Err(Reject::BodyBroken);
        };
        let Ok(data) = frame.into_data() else {
            return Err(Reject::Ambiguous("trailer fields are not taken"));
        };
        if gathered.len() + data.len() > bytes_max {
            return Err(Reject::BodyTooLarge(bytes_max));
        }
        make_room(data.len())?;
        gathered = gathered.and(data);
    }
    Ok(match gathered {
        Gathered::Nothing => Bytes::new(),
        Gathered::One(bytes) => bytes,
        Gathered::Many(bytes) => bytes.freeze(),
    })
}
