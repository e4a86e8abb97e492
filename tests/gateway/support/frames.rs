//! HTTP/2 frames as bytes (RFC 9113), for peers that break its rules. Nothing here keeps any.

/// Types of frames.
pub(crate) const DATA: u8 = 0x0;
pub(crate) const HEADERS: u8 = 0x1;
pub(crate) const PRIORITY: u8 = 0x2;
pub(crate) const RST_STREAM: u8 = 0x3;
pub(crate) const SETTINGS: u8 = 0x4;
pub(crate) const PING: u8 = 0x6;
pub(crate) const WINDOW_UPDATE: u8 = 0x8;
pub(crate) const CONTINUATION: u8 = 0x9;

/// Flags.
pub(crate) const END_STREAM: u8 = 0x1;
pub(crate) const END_HEADERS: u8 = 0x4;
pub(crate) const PADDED: u8 = 0x8;

/// What a client says first: the preface, and settings of its own.
pub(crate) fn hello(settings: &[(u16, u32)]) -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(self::settings(settings));
    bytes
}

/// One frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len())
        .expect("a length")
        .to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// SETTINGS: identifiers and values.
pub(crate) fn settings(pairs: &[(u16, u32)]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (identifier, value) in pairs {
        payload.extend(identifier.to_be_bytes());
        payload.extend(value.to_be_bytes());
    }
    frame(SETTINGS, 0, 0, &payload)
}

/// A field of a head that leaves no trace in the table of the other side (RFC 7541, 6.2.2).
pub(crate) fn field(name: &str, value: &str) -> Vec<u8> {
    literal(0x00, name, value)
}

/// A field that the other side remembers, as number 62 (6.2.1).
pub(crate) fn remembered(name: &str, value: &str) -> Vec<u8> {
    literal(0x40, name, value)
}

/// The field of this number in the table (6.1); below 127.
pub(crate) fn indexed(number: u8) -> Vec<u8> {
    vec![0x80 | number]
}

fn literal(kind: u8, name: &str, value: &str) -> Vec<u8> {
    let mut bytes = vec![kind];
    for text in [name, value] {
        bytes.extend(length(text.len()));
        bytes.extend(text.as_bytes());
    }
    bytes
}

/// A length in the low seven bits, and more bytes when it does not fit (5.1).
fn length(mut rest: usize) -> Vec<u8> {
    let small = |n: usize| u8::try_from(n).expect("seven bits");
    if rest < 127 {
        return vec![small(rest)];
    }
    let mut bytes = vec![127];
    rest -= 127;
    while rest >= 128 {
        bytes.push(small(rest % 128) | 0x80);
        rest /= 128;
    }
    bytes.push(small(rest));
    bytes
}

/// The head of `POST /github`, with more fields.
pub(crate) fn post(more: &[(&str, &str)]) -> Vec<u8> {
    let mut block = vec![
        0x83, // :method POST
        0x87, // :scheme https
    ];
    block.extend(field(":path", "/github"));
    block.extend(field(":authority", "localhost"));
    for (name, value) in more {
        block.extend(field(name, value));
    }
    block
}

/// HEADERS that begin a request whose body is still to come.
pub(crate) fn begin(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &post(&[]))
}

/// HEADERS of a request without a body.
pub(crate) fn whole(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &post(&[]))
}

/// WINDOW_UPDATE.
pub(crate) fn window(stream: u32, increment: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &increment.to_be_bytes())
}

/// RST_STREAM: cancelled.
pub(crate) fn reset(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())
}
