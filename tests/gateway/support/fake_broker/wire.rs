//! AMQP 0-9-1 as bytes, as much of it as a broker needs that only takes publishes. Made by hand:
//! what a hostile broker says is not what any library would let it say.

/// Class and method, as in the specification.
pub(crate) type Method = (u16, u16);

pub(crate) const START: Method = (10, 10);
pub(crate) const START_OK: Method = (10, 11);
pub(crate) const TUNE: Method = (10, 30);
pub(crate) const TUNE_OK: Method = (10, 31);
pub(crate) const OPEN: Method = (10, 40);
pub(crate) const OPEN_OK: Method = (10, 41);
pub(crate) const CONNECTION_CLOSE: Method = (10, 50);
pub(crate) const CONNECTION_CLOSE_OK: Method = (10, 51);
pub(crate) const BLOCKED: Method = (10, 60);
pub(crate) const UNBLOCKED: Method = (10, 61);
pub(crate) const CHANNEL_OPEN: Method = (20, 10);
pub(crate) const CHANNEL_OPEN_OK: Method = (20, 11);
pub(crate) const CHANNEL_CLOSE: Method = (20, 40);
pub(crate) const CHANNEL_CLOSE_OK: Method = (20, 41);
pub(crate) const EXCHANGE_DECLARE: Method = (40, 10);
pub(crate) const EXCHANGE_DECLARE_OK: Method = (40, 11);
pub(crate) const QUEUE_DECLARE: Method = (50, 10);
pub(crate) const QUEUE_DECLARE_OK: Method = (50, 11);
pub(crate) const QUEUE_BIND: Method = (50, 20);
pub(crate) const QUEUE_BIND_OK: Method = (50, 21);
pub(crate) const PUBLISH: Method = (60, 40);
pub(crate) const RETURN: Method = (60, 50);
pub(crate) const DELIVER: Method = (60, 60);
pub(crate) const ACK: Method = (60, 80);
pub(crate) const NACK: Method = (60, 120);
pub(crate) const CONFIRM_SELECT: Method = (85, 10);
pub(crate) const CONFIRM_SELECT_OK: Method = (85, 11);

/// Types of frames.
pub(crate) const METHOD: u8 = 1;
pub(crate) const HEADER: u8 = 2;
pub(crate) const BODY: u8 = 3;
pub(crate) const HEARTBEAT: u8 = 8;

const FRAME_END: u8 = 0xCE;
const HEAD_BYTES: usize = 7;
/// What the broker offers and the client takes.
pub(crate) const FRAME_MAX: u32 = 131_072;

/// A frame as it came.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) channel: u16,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// Takes the first frame off what has been read; `None` while it is not whole.
    pub(crate) fn take(input: &mut Vec<u8>) -> Option<Self> {
        let head = input.get(..HEAD_BYTES)?;
        let length = u32::from_be_bytes(head[3..].try_into().expect("four bytes"));
        let end = HEAD_BYTES + usize::try_from(length).expect("a length");
        if input.len() <= end {
            return None;
        }
        let frame: Vec<u8> = input.drain(..=end).collect();
        assert_eq!(frame[end], FRAME_END, "the client lost its place");
        Some(Self {
            kind: frame[0],
            channel: u16::from_be_bytes([frame[1], frame[2]]),
            payload: frame[HEAD_BYTES..end].to_vec(),
        })
    }

    /// Which method it is.
    pub(crate) fn method(&self) -> Option<Method> {
        let bytes: &[u8; 4] = self.payload.first_chunk()?;
        let [a, b, c, d] = *bytes;
        (self.kind == METHOD).then(|| (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
    }
}

/// Any frame.
pub(crate) fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short payload");
    let mut out = vec![kind];
    out.extend(channel.to_be_bytes());
    out.extend(length.to_be_bytes());
    out.extend(payload);
    out.push(FRAME_END);
    out
}

/// A method with its arguments.
pub(crate) fn method(channel: u16, method: Method, arguments: &[u8]) -> Vec<u8> {
    let mut payload = method.0.to_be_bytes().to_vec();
    payload.extend(method.1.to_be_bytes());
    payload.extend(arguments);
    frame(METHOD, channel, &payload)
}

/// A string of at most 255 bytes.
pub(crate) fn short(text: &str) -> Vec<u8> {
    let mut out = vec![u8::try_from(text.len()).expect("a short text")];
    out.extend(text.as_bytes());
    out
}

/// A string of any length; an empty table looks the same as an empty one.
pub(crate) fn long(text: &[u8]) -> Vec<u8> {
    let length = u32::try_from(text.len()).expect("a short text");
    let mut out = length.to_be_bytes().to_vec();
    out.extend(text);
    out
}

pub(crate) fn start() -> Vec<u8> {
    // That the broker tells when it blocks is something that it says it can.
    let capability = [short("connection.blocked"), b"t\x01".to_vec()].concat();
    let properties = [short("capabilities"), b"F".to_vec(), long(&capability)].concat();
    let arguments = [
        vec![0, 9],
        long(&properties),
        long(b"PLAIN AMQPLAIN"),
        long(b"en_US"),
    ];
    method(0, START, &arguments.concat())
}

pub(crate) fn tune(channel_max: u16, frame_max: u32, heartbeat: u16) -> Vec<u8> {
    let mut arguments = channel_max.to_be_bytes().to_vec();
    arguments.extend(frame_max.to_be_bytes());
    arguments.extend(heartbeat.to_be_bytes());
    method(0, TUNE, &arguments)
}

pub(crate) fn ack(channel: u16, tag: u64, multiple: bool) -> Vec<u8> {
    let mut arguments = tag.to_be_bytes().to_vec();
    arguments.push(u8::from(multiple));
    method(channel, ACK, &arguments)
}

pub(crate) fn nack(channel: u16, tag: u64, multiple: bool) -> Vec<u8> {
    let mut arguments = tag.to_be_bytes().to_vec();
    arguments.push(u8::from(multiple));
    method(channel, NACK, &arguments)
}

/// `channel.close` or `connection.close`.
pub(crate) fn close(channel: u16, which: Method, code: u16, text: &str) -> Vec<u8> {
    let mut arguments = code.to_be_bytes().to_vec();
    arguments.extend(short(text));
    arguments.extend([0; 4]);
    method(channel, which, &arguments)
}

/// The short string at an offset, and where it ends.
pub(crate) fn short_at(bytes: &[u8], at: usize) -> (String, usize) {
    let end = at + 1 + usize::from(bytes[at]);
    let text = String::from_utf8(bytes[at + 1..end].to_vec()).expect("UTF-8");
    (text, end)
}

/// Size of the body, and the message id, of a content header's payload.
pub(crate) fn content_header(payload: &[u8]) -> (usize, String) {
    let size = u64::from_be_bytes(payload[4..12].try_into().expect("eight bytes"));
    let flags = u16::from_be_bytes([payload[12], payload[13]]);
    let mut at = 14;
    // In the order of the specification, from the highest bit on.
    for bit in (8..16).rev() {
        if flags & (1 << bit) == 0 {
            continue;
        }
        at = match bit {
            // Headers: a table.
            13 => {
                let length = payload[at..at + 4].try_into().expect("four bytes");
                at + 4 + usize::try_from(u32::from_be_bytes(length)).expect("a length")
            }
            // Delivery mode and priority.
            11 | 12 => at + 1,
            _ => short_at(payload, at).1,
        };
    }
    let id = if flags & (1 << 7) == 0 {
        String::new()
    } else {
        short_at(payload, at).0
    };
    (usize::try_from(size).expect("a size"), id)
}
