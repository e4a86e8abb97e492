//! Follows the frames of an HTTP/2 connection by their headers alone: whether a head has begun and
//! not ended, and how many frames have come that carry no body. h2 knows, and does not say.

/// The client's preface (RFC 9113, section 3.4).
const PREFACE_BYTES: usize = 24;
/// Length, type, flags and stream of a frame (section 4.1).
const HEADER_BYTES: usize = 9;

const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const CONTINUATION: u8 = 0x9;
const END_HEADERS: u8 = 0x4;

/// What has come so far.
#[derive(Debug, Default)]
pub struct Frames {
    /// Bytes of the preface.
    preface: usize,
    /// The beginning of the next frame's header.
    header: [u8; HEADER_BYTES],
    header_bytes: usize,
    /// What is still to come of the frame.
    payload_left: usize,
    /// Whether the last HEADERS or CONTINUATION was not the last part of its head.
    head_open: bool,
    in_head: bool,
    heads: u64,
    count: u64,
}

impl Frames {
    /// More bytes came.
    pub fn read(&mut self, mut bytes: &[u8]) {
        let skipped = bytes.len().min(PREFACE_BYTES - self.preface);
        self.preface += skipped;
        bytes = bytes.get(skipped..).unwrap_or_default();
        while !bytes.is_empty() {
            if self.payload_left > 0 {
                let passed = bytes.len().min(self.payload_left);
                self.payload_left -= passed;
                bytes = bytes.get(passed..).unwrap_or_default();
                continue;
            }
            let room = self.header.get_mut(self.header_bytes..).unwrap_or_default();
            let (taken, rest) = bytes.split_at(bytes.len().min(room.len()));
            for (to, from) in room.iter_mut().zip(taken) {
                *to = *from;
            }
            self.header_bytes += taken.len();
            bytes = rest;
            if self.header_bytes == HEADER_BYTES {
                self.header_bytes = 0;
                self.begin();
            }
        }
    }

    fn begin(&mut self) {
        let [high, middle, low, kind, flags, ..] = self.header;
        self.payload_left = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        self.in_head = matches!(kind, HEADERS | CONTINUATION);
        if self.in_head {
            self.head_open = flags & END_HEADERS == 0;
        }
        if kind == HEADERS {
            self.heads += 1;
        }
        if kind != DATA || self.payload_left == 0 {
            self.count += 1;
        }
    }

    /// The number of the head, or of what may be one, that has begun and of which the peer owes
    /// the rest.
    pub fn owed_head(&self) -> Option<u64> {
        if self.head_open || (self.in_head && self.payload_left > 0) {
            Some(self.heads)
        } else {
            (self.header_bytes > 0).then_some(self.heads + 1)
        }
    }

    /// Frames that have begun and carry no body.
    pub fn count(&self) -> u64 {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let [.., middle, low] = u32::try_from(payload).unwrap().to_be_bytes();
        let mut bytes = vec![0, middle, low, kind, flags, 0, 0, 0, 1];
        bytes.resize(HEADER_BYTES + payload, 0xff);
        bytes
    }

    /// After the preface and these bytes, however they are cut.
    #[track_caller]
    fn check(bytes: &[u8], owed: Option<u64>, count: u64) {
        let all = [&[b'P'; PREFACE_BYTES], bytes].concat();
        for step in [1, 2, 7, 10, 1000] {
            let mut frames = Frames::default();
            for part in all.chunks(step) {
                frames.read(part);
            }
            assert_eq!(frames.owed_head(), owed, "in steps of {step}");
            assert_eq!(frames.count(), count, "in steps of {step}");
        }
    }

    #[test]
    fn a_head_is_owed_until_its_last_byte() {
        let whole = frame(HEADERS, END_HEADERS, 300);
        check(&whole, None, 1);
        check(&whole[..whole.len() - 1], Some(1), 1);
        check(&whole[..HEADER_BYTES - 1], Some(1), 0);
        check(&[&whole[..], &whole[..4]].concat(), Some(2), 1);
        let begun = frame(HEADERS, 0, 5);
        check(&begun, Some(1), 1);
        let more = [begun.clone(), frame(CONTINUATION, 0, 0)].concat();
        check(&more, Some(1), 2);
        let ended = [begun, frame(CONTINUATION, END_HEADERS, 3)].concat();
        check(&ended, None, 2);
    }

    #[test]
    fn only_bodies_do_not_count() {
        let (body, empty, ping) = (frame(DATA, 0, 70), frame(DATA, 1, 0), frame(6, 0, 8));
        check(&[&body[..], &empty, &ping, &body[..50]].concat(), None, 2);
        check(b"", None, 0);
    }
}
