//! Bytes to records and back. Pure: it reads no file.
//!
//! The layout is drawn in [`crate::journal`]. The checksum is checked before any field means
//! anything, and it is seeded with the log's id and the segment's sequence, so that bytes that an
//! older file left on the same blocks never pass for a record of this one.

use jiff::Timestamp;

/// Bytes before the payload.
pub(super) const HEAD_BYTES: usize = 32;

/// Longest payload.
pub(super) const PAYLOAD_BYTES_MAX: u32 = 64 * 1024 * 1024;

/// The highest end of a log. Records are below it: none is written at it, and none that stands
/// there is taken for one of ours.
pub(super) const POSITION_MAX: u64 = u64::MAX >> 1;

const HEAD: u32 = 32;
const FRAME_BYTES_MAX: u32 = HEAD + PAYLOAD_BYTES_MAX;

/// What the checksums of one segment begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seed(u32);

/// One record as it stands in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    /// Its place in the log.
    pub(super) position: u64,
    /// Everything before this position was on stable storage when the record was written. Records
    /// of one write share it.
    pub(super) durable: u64,
    /// When it was appended.
    pub(super) at: Timestamp,
    pub(super) payload: &'a [u8],
}

/// What a run of bytes begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decoded<'a> {
    /// A record of this many bytes.
    Record(Frame<'a>, usize),
    /// Perhaps a record; it takes this many bytes to know.
    Incomplete(usize),
    /// Not a record.
    Bad,
}

impl Seed {
    pub(super) fn new(log_id: [u8; 16], sequence: u64) -> Self {
        let crc = crc32c::crc32c(&log_id);
        Self(crc32c::crc32c_append(crc, &sequence.to_le_bytes()))
    }

    fn checksum(self, length: [u8; 4], rest: &[u8], payload: &[u8]) -> u32 {
        let crc = crc32c::crc32c_append(self.0, &length);
        let crc = crc32c::crc32c_append(crc, rest);
        crc32c::crc32c_append(crc, payload)
    }
}

/// How many bytes a payload takes with its head, or `None` if it is too long.
pub(super) fn frame_bytes(payload: usize) -> Option<u32> {
    let payload = u32::try_from(payload).ok()?;
    (payload <= PAYLOAD_BYTES_MAX).then_some(HEAD + payload)
}

/// Appends one record of `bytes` bytes, as told by [`frame_bytes`].
pub(super) fn encode(out: &mut Vec<u8>, seed: Seed, bytes: u32, frame: &Frame<'_>) {
    let length = bytes.to_le_bytes();
    let mut rest = [0; 24];
    let fields = frame.position.to_le_bytes().into_iter();
    let fields = fields.chain(frame.durable.to_le_bytes());
    let fields = fields.chain(frame.at.as_microsecond().to_le_bytes());
    for (to, from) in rest.iter_mut().zip(fields) {
        *to = from;
    }
    let checksum = seed.checksum(length, &rest, frame.payload);
    out.extend_from_slice(&length);
    out.extend_from_slice(&checksum.to_le_bytes());
    out.extend_from_slice(&rest);
    out.extend_from_slice(frame.payload);
}

/// Reads the record that `bytes` begin with.
pub(super) fn decode(seed: Seed, bytes: &[u8]) -> Decoded<'_> {
    let Some(head) = Head::read(bytes) else {
        return Decoded::Incomplete(HEAD_BYTES);
    };
    let Some(frame_bytes) = head.frame_bytes() else {
        return Decoded::Bad;
    };
    let Some(payload) = bytes.get(HEAD_BYTES..frame_bytes) else {
        return Decoded::Incomplete(frame_bytes);
    };
    if seed.checksum(head.length, &head.rest, payload) != head.checksum {
        return Decoded::Bad;
    }
    let (position, durable, at) = head.fields();
    match Timestamp::from_microsecond(at) {
        Ok(at) if position < POSITION_MAX && durable <= position => Decoded::Record(
            Frame {
                position,
                durable,
                at,
                payload,
            },
            frame_bytes,
        ),
        // A sound checksum over what was never written.
        Ok(_) | Err(_) => Decoded::Bad,
    }
}

/// How many bytes the record takes that `bytes` seem to begin with.
pub(super) fn announced(bytes: &[u8]) -> Option<usize> {
    Head::read(bytes)?.frame_bytes()
}

/// Whether `bytes` may begin a record at or after `floor` that ends within `room` bytes. Much
/// cheaper than [`decode`], for looking at every offset of a damaged file.
pub(super) fn plausible(bytes: &[u8], floor: u64, room: u64) -> bool {
    let Some(head) = Head::read(bytes) else {
        return false;
    };
    let fits = head
        .frame_bytes()
        .is_some_and(|bytes| u64::try_from(bytes).is_ok_and(|b| b <= room));
    let (position, durable, _) = head.fields();
    fits && position >= floor && durable <= position
}

/// A head, none of it trusted yet.
struct Head {
    length: [u8; 4],
    checksum: u32,
    rest: [u8; 24],
}

impl Head {
    fn read(bytes: &[u8]) -> Option<Self> {
        let (length, bytes) = bytes.split_first_chunk()?;
        let (checksum, bytes) = bytes.split_first_chunk()?;
        let (rest, _) = bytes.split_first_chunk()?;
        let checksum = u32::from_le_bytes(*checksum);
        Some(Self {
            length: *length,
            checksum,
            rest: *rest,
        })
    }

    /// The length, if a record may have it. Zeros written ahead have none.
    fn frame_bytes(&self) -> Option<usize> {
        let length = u32::from_le_bytes(self.length);
        let sane = (HEAD..=FRAME_BYTES_MAX).contains(&length);
        if sane {
            usize::try_from(length).ok()
        } else {
            None
        }
    }

    /// Position, durable position, microseconds.
    fn fields(&self) -> (u64, u64, i64) {
        let mut fields = self.rest.as_chunks::<8>().0.iter().copied();
        let mut next = || fields.next().unwrap_or_default();
        (
            u64::from_le_bytes(next()),
            u64::from_le_bytes(next()),
            i64::from_le_bytes(next()),
        )
    }
}
