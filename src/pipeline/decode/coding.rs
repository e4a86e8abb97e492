//! `Content-Encoding` undone, for looking into a body only: what is signed, stored and published is
//! what came.
//!
//! A few bytes can unpack to gigabytes, so nothing is unpacked before its sender is known, no more
//! than `max_body`, and every piece is asked room for before it is kept: unpacked bytes count among
//! those in flight. A decoder's own window is at most [`WINDOW_BYTES_MAX`] (brotli: 16 MiB,
//! RFC 7932, section 9.1), and there are never more decoders than threads, because unpacking does
//! not wait for anything.

use std::io::{self, Read};

use brotli_decompressor::reader::StandardAlloc;
use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState};
use flate2::bufread::{MultiGzDecoder, ZlibDecoder};
use http::HeaderMap;
use http::header::CONTENT_ENCODING;
use ruzstd::decoding::{FrameDecoder, StreamingDecoder};

use crate::reject::Reject;

/// Most that one frame of zstd may look back: what RFC 9659 lets HTTP senders use.
const WINDOW_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Unpacked at a time.
const PIECE_BYTES: usize = 16 * 1024;

/// A content coding (RFC 9110, section 8.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// RFC 1952, of any number of members.
    Gzip,
    /// The zlib format (RFC 1950), not bare DEFLATE.
    Deflate,
    /// RFC 7932.
    Brotli,
    /// RFC 8878, of any number of frames, without dictionaries.
    Zstd,
}

/// Every coding, under its name in `Content-Encoding` and in `gateway.toml`.
pub(crate) const CODINGS: [(&str, Coding); 4] = [
    ("gzip", Coding::Gzip),
    ("deflate", Coding::Deflate),
    ("br", Coding::Brotli),
    ("zstd", Coding::Zstd),
];

impl Coding {
    /// The coding of this name, in any case; `x-gzip` is `gzip` (RFC 9110, section 8.4.1.3).
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        let name = name.strip_prefix("x-gzip").map_or(name.as_str(), |rest| {
            if rest.is_empty() { "gzip" } else { &name }
        });
        let mut codings = CODINGS.into_iter();
        codings.find_map(|(known, coding)| (known == name).then_some(coding))
    }

    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        let mut codings = CODINGS.into_iter();
        let found = codings.find_map(|(name, coding)| (coding == self).then_some(name));
        found.unwrap_or_default()
    }

    /// What a request says its body is coded with. More than one coding, or one that nobody here
    /// knows, is not taken.
    pub(super) fn of(headers: &HeaderMap) -> Result<Option<Self>, Reject> {
        let mut coding = None;
        for value in headers.get_all(CONTENT_ENCODING) {
            let value = value.to_str().map_err(|_odd| Reject::UnsupportedCoding)?;
            for name in value.split(',').map(str::trim) {
                if name.eq_ignore_ascii_case("identity") {
                    continue;
                }
                let known = Self::parse(name).ok_or(Reject::UnsupportedCoding)?;
                if coding.replace(known).is_some() {
                    return Err(Reject::UnsupportedCoding);
                }
            }
        }
        Ok(coding)
    }

    /// Unpacks a body whole.
    ///
    /// # Errors
    ///
    /// [`Reject::BodyUnpacksTooLarge`] beyond `bytes_max`, [`Reject::Malformed`], and what
    /// `make_room` says.
    pub(super) fn undo(
        self,
        body: &[u8],
        bytes_max: usize,
        make_room: &mut dyn FnMut(usize) -> Result<(), Reject>,
    ) -> Result<Vec<u8>, Reject> {
        let mut unpacked = Unpacked {
            coding: self,
            bytes: Vec::new(),
            bytes_max,
            make_room,
        };
        let mut rest = body;
        match self {
            // Takes bytes behind the end for a member that is broken.
            Self::Gzip => unpacked.take(&mut MultiGzDecoder::new(rest))?,
            Self::Brotli => unpacked.take_brotli(rest)?,
            Self::Deflate => {
                unpacked.take(&mut ZlibDecoder::new(&mut rest))?;
                if !rest.is_empty() {
                    return Err(unpacked.broken("has more behind its end"));
                }
            }
            Self::Zstd => unpacked.take_frames(rest)?,
        }
        Ok(unpacked.bytes)
    }
}

/// What has been unpacked so far.
struct Unpacked<'a> {
    coding: Coding,
    bytes: Vec<u8>,
    bytes_max: usize,
    make_room: &'a mut dyn FnMut(usize) -> Result<(), Reject>,
}

impl Unpacked<'_> {
    fn broken(&self, why: &str) -> Reject {
        Reject::Malformed(format!("its {} {why}", self.coding.name()))
    }

    fn take(&mut self, from: &mut impl Read) -> Result<(), Reject> {
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let length = match from.read(&mut piece) {
                Ok(0) => return Ok(()),
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Err(self.broken("ends too soon"));
                }
                Err(_other) => return Err(self.broken("cannot be unpacked")),
            };
            self.keep(piece.get(..length).unwrap_or_default())?;
        }
    }

    fn keep(&mut self, piece: &[u8]) -> Result<(), Reject> {
        if self.bytes.len() + piece.len() > self.bytes_max {
            return Err(Reject::BodyUnpacksTooLarge(self.bytes_max));
        }
        (self.make_room)(piece.len())?;
        self.bytes.extend_from_slice(piece);
        Ok(())
    }

    /// By hand, because the crate's reader passes over what is behind the end.
    fn take_brotli(&mut self, packed: &[u8]) -> Result<(), Reject> {
        let heap = StandardAlloc::default;
        let mut state = BrotliState::new(heap(), heap(), heap());
        let (mut left, mut at, mut total) = (packed.len(), 0, 0);
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let (mut space, mut length) = (piece.len(), 0);
            let result = BrotliDecompressStream(
                &mut left,
                &mut at,
                packed,
                &mut space,
                &mut length,
                &mut piece,
                &mut total,
                &mut state,
            );
            self.keep(piece.get(..length).unwrap_or_default())?;
            match result {
                BrotliResult::NeedsMoreOutput => {}
                BrotliResult::ResultSuccess if left == 0 => return Ok(()),
                BrotliResult::ResultSuccess => return Err(self.broken("has more behind its end")),
                BrotliResult::NeedsMoreInput => return Err(self.broken("ends too soon")),
                BrotliResult::ResultFailure => return Err(self.broken("cannot be unpacked")),
            }
        }
    }

    /// A decoder of zstd stops behind each frame, and knows nothing of frames to skip.
    fn take_frames(&mut self, mut rest: &[u8]) -> Result<(), Reject> {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(WINDOW_BYTES_MAX);
        loop {
            if let Some(behind) = behind_skippable(rest) {
                rest = behind.ok_or_else(|| self.broken("ends too soon"))?;
            } else {
                let frame = StreamingDecoder::new_with_decoder(&mut rest, &mut decoder);
                let mut frame = frame.map_err(|_no_frame| self.broken("cannot be unpacked"))?;
                self.take(&mut frame)?;
                let said = decoder.get_checksum_from_data();
                if said.is_some() && said != decoder.get_calculated_checksum() {
                    return Err(self.broken("does not fit its checksum"));
                }
            }
            if rest.is_empty() {
                return Ok(());
            }
        }
    }
}

/// What follows a skippable frame (RFC 8878, section 3.1.2), `Some(None)` if it is cut off.
#[expect(
    clippy::option_option,
    reason = "no such frame, or one that is cut off"
)]
fn behind_skippable(rest: &[u8]) -> Option<Option<&[u8]>> {
    let (magic, rest) = rest.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*magic) & 0xffff_fff0 != 0x184d_2a50 {
        return None;
    }
    let behind = rest.split_first_chunk::<4>().and_then(|(length, rest)| {
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        rest.get(length..)
    });
    Some(behind)
}

#[cfg(test)]
mod tests;

#[cfg(test)]
pub(super) mod testing {
    //! Packs bodies.

    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::{GzEncoder, ZlibEncoder};

    pub(in super::super) fn gzip(body: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(body).unwrap();
        encoder.finish().unwrap()
    }

    pub(in super::super) fn deflate(body: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(body).unwrap();
        encoder.finish().unwrap()
    }
}
