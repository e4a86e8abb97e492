//! One line to a program: a request, its answer, the next request.

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::SendRequest;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::requests::Request;
use crate::support::sender::{Client, Sender, Stream, Version};

/// Lines over one connection, where HTTP/2 is spoken: few enough that no connection comes to the
/// 10,000 requests after which the gateway has senders connect anew.
pub(crate) const LINES_PER_CONNECTION: usize = 4;
/// Longest answer that is read.
const ANSWER_BYTES_MAX: usize = 16 * 1024;
/// Says that an event was there before.
const DUPLICATE: &str = "hookgate-duplicate";

/// A connection of HTTP/1.1, or a share of one of HTTP/2.
pub(crate) enum Line {
    /// With buffers for a request and for its answer.
    Http1(Box<dyn Stream>, Vec<u8>, Vec<u8>),
    /// The client's own buffers do.
    Http2(SendRequest<Full<Bytes>>),
}

impl Line {
    /// So many lines.
    pub(crate) async fn open(to: &Sender, version: Version, count: usize) -> Result<Vec<Self>> {
        let mut lines = Vec::new();
        while lines.len() < count {
            match version {
                Version::Http1 => {
                    let stream = to.stream(&[b"http/1.1"]).await;
                    lines.push(Self::over(stream.map_err(|error| anyhow!(error))?));
                }
                Version::Http2 => {
                    let client = to.connect(version).await.map_err(|error| anyhow!(error))?;
                    let Client::Http2(client) = client else {
                        bail!("asked for HTTP/2");
                    };
                    let share = || Self::Http2(client.clone());
                    lines.extend(std::iter::repeat_with(share).take(LINES_PER_CONNECTION));
                }
            }
        }
        Ok(lines)
    }

    /// HTTP/1.1 over a stream.
    pub(crate) fn over(stream: Box<dyn Stream>) -> Self {
        Self::Http1(stream, Vec::new(), Vec::with_capacity(ANSWER_BYTES_MAX))
    }

    /// Sends a request under an id, and makes sure that it is accepted, as a new event.
    pub(crate) async fn exchange(&mut self, request: &Request, id: &str) -> Result<()> {
        match self {
            Self::Http1(stream, bytes, answer) => {
                request.http1(id, bytes);
                stream.write_all(bytes).await?;
                stream.flush().await?;
                read_answer(stream, answer).await
            }
            Self::Http2(client) => {
                client.ready().await?;
                let answer = client.send_request(request.http2(id)?).await?;
                let (head, mut body) = answer.into_parts();
                let mut said = Vec::new();
                while let Some(frame) = body.frame().await {
                    if let Ok(data) = frame?.into_data() {
                        said.extend_from_slice(&data);
                    }
                    ensure!(said.len() <= ANSWER_BYTES_MAX, "the answer never ends");
                }
                let is_duplicate = head.headers.contains_key(DUPLICATE);
                judge(head.status.as_u16(), is_duplicate, &said)
            }
        }
    }
}

/// Reads one answer of HTTP/1.1 to its end, and makes sure that it says what it has to.
async fn read_answer(stream: &mut Box<dyn Stream>, bytes: &mut Vec<u8>) -> Result<()> {
    bytes.clear();
    loop {
        let n = stream.read_buf(bytes).await?;
        ensure!(n > 0, "the connection ended before the answer");
        ensure!(bytes.len() <= ANSWER_BYTES_MAX, "the answer never ends");
        let mut space = [httparse::EMPTY_HEADER; 32];
        let mut head = httparse::Response::new(&mut space);
        let httparse::Status::Complete(head_bytes) = head.parse(bytes)? else {
            continue;
        };
        let field = |name: &str| {
            let found = head
                .headers
                .iter()
                .find(|header| header.name.eq_ignore_ascii_case(name));
            found.map(|header| header.value)
        };
        let length = field("content-length").context("an answer without a length")?;
        let length: usize = std::str::from_utf8(length)?.parse()?;
        if bytes.len() < head_bytes + length {
            continue;
        }
        let code = head.code.context("an answer without a status")?;
        return judge(code, field(DUPLICATE).is_some(), bytes);
    }
}

fn judge(status: u16, is_duplicate: bool, said: &[u8]) -> Result<()> {
    let said = || String::from_utf8_lossy(said).into_owned();
    ensure!(status == 202, "{status}, not accepted: {}", said());
    ensure!(!is_duplicate, "taken for a copy: {}", said());
    Ok(())
}
