//! A saved request: head, blank line, body. Line ends in the head may be LF, because editors make
//! them so; the body is taken byte for byte.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};

use crate::pipeline::arrival::{Head, Inbound};

/// Most header fields of a saved request.
const HEADERS_MAX: usize = 200;

/// A saved request, with what is odd about it.
#[derive(Debug)]
pub(super) struct Saved {
    pub(super) inbound: Inbound,
    pub(super) remarks: Vec<String>,
}

/// Reads a saved request.
pub(super) fn read(file: &[u8]) -> Result<Saved, String> {
    let mut fields = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut parsed = httparse::Request::new(&mut fields);
    let length = match parsed.parse(file) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => {
            return Err("the head has no end: an empty line goes before the body".to_owned());
        }
        Err(error) => {
            return Err(format!(
                "this is not a saved HTTP/1.1 request ({error}); it begins with a line like \
                 `POST /path HTTP/1.1`"
            ));
        }
    };
    let head = head(&parsed)?;
    let rest = file.get(length..).unwrap_or_default();
    let mut remarks = Vec::new();
    let body = match is_chunked(&head.headers) {
        true => dechunk(rest)?,
        false => Bytes::copy_from_slice(rest),
    };
    remarks.extend(announced_otherwise(&head.headers, &body));
    Ok(Saved {
        inbound: Inbound { head, body },
        remarks,
    })
}

fn head(parsed: &httparse::Request<'_, '_>) -> Result<Head, String> {
    let (method, target) = (
        parsed.method.unwrap_or_default(),
        parsed.path.unwrap_or_default(),
    );
    let Ok(method) = Method::try_from(method) else {
        return Err(format!("`{method}` is no method"));
    };
    let Ok(target) = Uri::try_from(target) else {
        return Err(format!("`{target}` is no request target"));
    };
    let mut headers = HeaderMap::new();
    for field in parsed.headers.iter() {
        let (Ok(name), Ok(value)) = (
            HeaderName::try_from(field.name),
            HeaderValue::from_bytes(field.value),
        ) else {
            return Err(format!("the header {} is not one", field.name));
        };
        headers.append(name, value);
    }
    Ok(Head {
        method,
        path: target.path().to_owned(),
        query: target.query().map(str::to_owned),
        headers,
        client_ip: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        request_id: Arc::from("explain"),
        certificate: None,
    })
}

fn is_chunked(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    codings.any(|value| value.as_bytes().eq_ignore_ascii_case(b"chunked"))
}

/// RFC 9112, section 7.1.
fn dechunk(mut rest: &[u8]) -> Result<Bytes, String> {
    let broken = || {
        "Transfer-Encoding is chunked, but the body is not; save the request as it came over the \
         wire, or take that header out"
            .to_owned()
    };
    let mut body = BytesMut::new();
    loop {
        let Ok(httparse::Status::Complete((start, size))) = httparse::parse_chunk_size(rest) else {
            return Err(broken());
        };
        let Ok(size) = usize::try_from(size) else {
            return Err(broken());
        };
        if size == 0 {
            return Ok(body.freeze());
        }
        let chunk = rest
            .get(start..)
            .and_then(|rest| rest.split_at_checked(size));
        let (chunk, tail) = chunk.ok_or_else(broken)?;
        body.extend_from_slice(chunk);
        rest = tail.strip_prefix(b"\r\n").ok_or_else(broken)?;
    }
}

/// What `Content-Length` says, where that is not so.
fn announced_otherwise(headers: &HeaderMap, body: &[u8]) -> Option<String> {
    let actual = body.len();
    let announced = headers.get(CONTENT_LENGTH)?.to_str().ok()?;
    let why = match announced.parse::<usize>() {
        Err(_) => "which is no number of bytes".to_owned(),
        Ok(length) if length == actual => return None,
        Ok(length) if length == actual.saturating_add(1) => {
            "it is 1 byte short: the newline at its end got lost, or the file was cut".to_owned()
        }
        Ok(length) if length > actual => {
            format!(
                "it is {} bytes short: the file was cut, or something wrote the body again",
                length - actual
            )
        }
        Ok(length) => match actual - length {
            1 if body.ends_with(b"\n") => {
                "a byte more is often a newline that an editor added".to_owned()
            }
            1 => "a byte was added after it was sent".to_owned(),
            more => format!("{more} bytes were added after it was sent"),
        },
    };
    Some(format!(
        "Content-Length says {announced}, but the saved body has {actual} bytes: {why}"
    ))
}
