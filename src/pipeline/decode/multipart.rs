//! `multipart/form-data` (RFC 7578), read so that no other reader could see other fields: what is
//! doubtful is not taken.
//!
//! The body is in memory and stays as it is; a file in it is told by its name, type and length.

use httparse::{EMPTY_HEADER, Header, Status};
use memchr::memmem::Finder;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

/// Most parts of one body.
pub(crate) const PARTS_MAX: usize = 1_000;

/// Longest boundary (RFC 2046, section 5.1.1).
const BOUNDARY_BYTES_MAX: usize = 70;

/// Longest head of a part.
const HEAD_BYTES_MAX: usize = 8 * 1024;

/// Most header fields of a part.
const HEADERS_MAX: usize = 16;

/// One field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) name: String,
    pub(crate) content: Content,
}

/// What a field holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// Its text; what is not UTF-8 in it is replaced, as in a form of the other kind.
    Text(String),
    /// A file, of which the body keeps the bytes.
    File {
        name: String,
        content_type: String,
        bytes: usize,
    },
}

impl Content {
    pub(super) fn into_json(self) -> Value {
        match self {
            Self::Text(text) => Value::String(text),
            Self::File {
                name,
                content_type,
                bytes,
            } => json!({"filename": name, "content_type": content_type, "size": bytes}),
        }
    }
}

/// Reads a body whose `Content-Type` is this.
///
/// # Errors
///
/// What is wrong and in which part, without anything of its content.
pub(crate) fn read(content_type: &str, body: &[u8]) -> Result<Vec<Part>, String> {
    let opening = format!("--{}", boundary(content_type)?);
    let delimiter = format!("\r\n{opening}");
    let finder = Finder::new(delimiter.as_bytes());
    let body = body.strip_prefix(b"\r\n").unwrap_or(body);
    let Some(mut rest) = body.strip_prefix(opening.as_bytes()) else {
        return Err("it does not begin with its boundary".to_owned());
    };
    let mut parts = Vec::new();
    loop {
        if let Some(epilogue) = rest.strip_prefix(b"--") {
            return match epilogue {
                b"" | b"\r\n" => Ok(parts),
                _ => Err("there is more behind the last boundary".to_owned()),
            };
        }
        if parts.len() == PARTS_MAX {
            return Err(format!("it has more than {PARTS_MAX} parts"));
        }
        let number = parts.len() + 1;
        let told = |why: &str| format!("part {number}: {why}");
        let Some(from) = rest.strip_prefix(b"\r\n") else {
            return Err(told("its boundary does not end the line"));
        };
        let (head, from) = head(from).map_err(|why| told(&why))?;
        let Some(end) = finder.find(from) else {
            return Err(told("no boundary ends it"));
        };
        let (content, behind) = from.split_at(end);
        rest = behind.get(delimiter.len()..).unwrap_or_default();
        parts.push(head.part(content));
    }
}

/// What stands above a part.
struct Head {
    name: String,
    /// `Some` makes it a file.
    filename: Option<String>,
    content_type: Option<String>,
}

impl Head {
    fn part(self, content: &[u8]) -> Part {
        let content = match self.filename {
            None => Content::Text(String::from_utf8_lossy(content).into_owned()),
            Some(name) => Content::File {
                name,
                content_type: self.content_type.unwrap_or_default(),
                bytes: content.len(),
            },
        };
        Part {
            name: self.name,
            content,
        }
    }
}

/// Reads a part's head, and gives what is behind it.
fn head(from: &[u8]) -> Result<(Head, &[u8]), String> {
    let window = from.get(..HEAD_BYTES_MAX).unwrap_or(from);
    let mut space = [EMPTY_HEADER; HEADERS_MAX];
    let (length, headers) = match httparse::parse_headers(window, &mut space) {
        Ok(Status::Complete(found)) => found,
        Ok(Status::Partial) => return Err(format!("no head of {HEAD_BYTES_MAX} bytes at most")),
        Err(_fault) => {
            return Err(format!(
                "its head is no list of {HEADERS_MAX} header fields at most"
            ));
        }
    };
    let (lines, behind) = from.split_at_checked(length).unwrap_or((from, b""));
    // Others do not take a bare line feed for the end of a line.
    let mut ends = lines.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
    if !ends.all(|(at, _)| at > 0 && lines.get(at - 1) == Some(&b'\r')) {
        return Err("a line of its head ends without a carriage return".to_owned());
    }
    let Some(disposition) = only(headers, "content-disposition")? else {
        return Err("it has no Content-Disposition".to_owned());
    };
    let (kind, rest) = disposition.split_once(';').unwrap_or((disposition, ""));
    if !kind.trim().eq_ignore_ascii_case("form-data") {
        return Err("its Content-Disposition is not form-data".to_owned());
    }
    let parameters = parameters(rest)?;
    let Some(name) = parameter(&parameters, "name")? else {
        return Err("it has no name".to_owned());
    };
    if name.contains('\\') {
        return Err("its name has a backslash, which is read in two ways".to_owned());
    }
    let filename = parameter(&parameters, "filename")?.map(str::to_owned);
    let extended = parameter(&parameters, "filename*")?.map(extended);
    match only(headers, "content-transfer-encoding")? {
        Some(coding)
            if !["7bit", "8bit", "binary"].contains(&&*coding.trim().to_ascii_lowercase()) =>
        {
            return Err("its Content-Transfer-Encoding is not taken".to_owned());
        }
        _ => {}
    }
    let head = Head {
        name: name.to_owned(),
        filename: filename.or(extended),
        content_type: only(headers, "content-type")?.map(str::to_owned),
    };
    Ok((head, behind))
}

/// The value of a header field that may be there once.
fn only<'a>(headers: &[Header<'a>], name: &str) -> Result<Option<&'a str>, String> {
    let mut found = headers
        .iter()
        .filter(|header| header.name.eq_ignore_ascii_case(name));
    let (first, second) = (found.next(), found.next());
    if second.is_some() {
        return Err(format!("it has {name} twice"));
    }
    let text = first.map(|header| std::str::from_utf8(header.value));
    text.transpose()
        .map_err(|_odd| format!("its {name} is not UTF-8"))
}

/// The boundary that `Content-Type` says.
fn boundary(content_type: &str) -> Result<String, String> {
    let (_, rest) = content_type.split_once(';').unwrap_or((content_type, ""));
    let parameters = parameters(rest).map_err(|why| format!("its Content-Type: {why}"))?;
    let boundary = parameter(&parameters, "boundary")
        .map_err(|why| format!("its Content-Type: {why}"))?
        .unwrap_or_default();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(&byte);
    let fits = (1..=BOUNDARY_BYTES_MAX).contains(&boundary.len())
        && boundary.bytes().all(plain)
        && !boundary.ends_with(' ');
    if fits {
        Ok(boundary.to_owned())
    } else {
        Err(format!(
            "its Content-Type has no boundary of 1 to {BOUNDARY_BYTES_MAX} characters"
        ))
    }
}

/// `; name=value; name="value"`, names in lower case. In quotes, a backslash escapes a quote or
/// another backslash, and is itself before anything else: browsers send paths so.
fn parameters(mut text: &str) -> Result<Vec<(String, String)>, String> {
    let mut parameters = Vec::new();
    loop {
        text = text.trim_start_matches([' ', '\t', ';']);
        if text.is_empty() {
            return Ok(parameters);
        }
        let Some((name, rest)) = text.split_once('=') else {
            return Err("a parameter has no value".to_owned());
        };
        let (value, rest) = match rest.strip_prefix('"') {
            Some(quoted) => unquote(quoted).ok_or("a quote has no end")?,
            None => {
                let end = rest.find(';').unwrap_or(rest.len());
                let (value, rest) = rest.split_at(end);
                (value.trim_end().to_owned(), rest)
            }
        };
        let after = rest.trim_start_matches([' ', '\t']);
        if !after.is_empty() && !after.starts_with(';') {
            return Err("a parameter goes on behind its quotes".to_owned());
        }
        parameters.push((name.trim().to_ascii_lowercase(), value));
        text = rest;
    }
}

/// What stands before the closing quote, and what behind it.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.chars();
    loop {
        match chars.next()? {
            '"' => return Some((value, chars.as_str())),
            '\\' if chars.as_str().starts_with(['"', '\\']) => value.extend(chars.next()),
            other => value.push(other),
        }
    }
}

fn parameter<'p>(
    parameters: &'p [(String, String)],
    name: &str,
) -> Result<Option<&'p str>, String> {
    let mut found = parameters.iter().filter(|(own, _)| own == name);
    match (found.next(), found.next()) {
        (_, Some(_)) => Err(format!("`{name}` is there twice")),
        (first, None) => Ok(first.map(|(_, value)| value.as_str())),
    }
}

/// `UTF-8''na%C3%AFve.txt` (RFC 8187); some libraries write names beyond ASCII so.
fn extended(value: &str) -> String {
    let encoded = value.rsplit('\'').next().unwrap_or(value);
    percent_decode_str(encoded).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests;
