//! Every coding, and every way of not being one.

use http::HeaderValue;

use super::testing::{deflate, gzip};
use super::*;

const TEXT: &[u8] = br#"{"type":"order.created","id":"e1"}"#;

fn zstd(body: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(body, ruzstd::encoding::CompressionLevel::Fastest)
}

fn hex(text: &str) -> Vec<u8> {
    hex::decode(text).unwrap()
}

/// Made by the encoder of Node.
fn brotli() -> Vec<u8> {
    hex("8b10807b2274797065223a226f726465722e63726561746564222c226964223a226531227d03")
}

/// 20 MiB of zeros.
fn brotli_bomb() -> Vec<u8> {
    hex("cbffff3ff82700e2b14020f7fe8fffff7ff04f00c4611180eefd5ffeffffe09f0088c30200ddfb1f")
}

fn undo(coding: Coding, body: &[u8], bytes_max: usize) -> Result<Vec<u8>, Reject> {
    coding.undo(body, bytes_max, &mut |_bytes| Ok(()))
}

#[test]
fn every_coding_comes_undone() {
    for (coding, packed) in [
        (Coding::Gzip, gzip(TEXT)),
        (Coding::Deflate, deflate(TEXT)),
        (Coding::Brotli, brotli()),
        (Coding::Zstd, zstd(TEXT)),
    ] {
        let name = coding.name();
        assert_eq!(
            undo(coding, &packed, TEXT.len()).as_deref(),
            Ok(TEXT),
            "{name}"
        );
        let over = undo(coding, &packed, TEXT.len() - 1);
        assert_eq!(
            over,
            Err(Reject::BodyUnpacksTooLarge(TEXT.len() - 1)),
            "{name}"
        );
        for cut in 0..packed.len() {
            let cut = undo(coding, &packed[..cut], 1_000);
            assert!(matches!(cut, Err(Reject::Malformed(_))), "{name}: {cut:?}");
        }
        let more = undo(coding, &[packed.as_slice(), b"x"].concat(), 1_000);
        assert!(
            matches!(more, Err(Reject::Malformed(_))),
            "{name}: {more:?}"
        );
    }
}

#[test]
fn several_members_and_frames_are_one_body() {
    let twice = [gzip(b"a"), gzip(b"b")].concat();
    assert_eq!(undo(Coding::Gzip, &twice, 2), Ok(b"ab".to_vec()));
    let skipped = hex("502a4d1802000000ffff");
    let frames = [zstd(b"a"), skipped.clone(), zstd(b"b"), skipped].concat();
    assert_eq!(undo(Coding::Zstd, &frames, 2), Ok(b"ab".to_vec()));
    let cut = undo(Coding::Zstd, &hex("502a4d1803000000ffff"), 2);
    assert_eq!(
        cut,
        Err(Reject::Malformed("its zstd ends too soon".to_owned()))
    );
}

#[test]
fn a_bomb_is_stopped_at_the_cap() {
    const CAP: usize = 1024 * 1024;
    let zeros = vec![0; 1_000 * CAP / 50];
    for (coding, bomb) in [
        (Coding::Gzip, gzip(&zeros)),
        (Coding::Deflate, deflate(&zeros)),
        (Coding::Brotli, brotli_bomb()),
        (Coding::Zstd, zstd(&zeros)),
    ] {
        assert!(
            bomb.len() * 900 < zeros.len(),
            "{}: {}",
            coding.name(),
            bomb.len()
        );
        let mut kept = 0;
        let unpacked = coding.undo(&bomb, CAP, &mut |bytes| {
            kept += bytes;
            Ok(())
        });
        assert_eq!(
            unpacked,
            Err(Reject::BodyUnpacksTooLarge(CAP)),
            "{}",
            coding.name()
        );
        assert!(kept <= CAP);
    }
}

#[test]
fn a_window_that_is_announced_is_not_believed() {
    // A frame with a window of 64 GiB, and one of a single segment of as much.
    for header in ["28b52ffd00d0", "28b52ffde0000000001000000000"] {
        let packed = [hex(header), hex("010000")].concat();
        let refused = undo(Coding::Zstd, &packed, 1_000);
        assert!(matches!(refused, Err(Reject::Malformed(_))), "{refused:?}");
    }
}

#[test]
fn a_request_says_one_coding_at_most() {
    let of = |values: &[&'static str]| {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(CONTENT_ENCODING, HeaderValue::from_static(value));
        }
        Coding::of(&headers)
    };
    assert_eq!(of(&[]), Ok(None));
    assert_eq!(of(&["identity"]), Ok(None));
    assert_eq!(of(&["X-GZIP"]), Ok(Some(Coding::Gzip)));
    assert_eq!(of(&["identity, br"]), Ok(Some(Coding::Brotli)));
    for refused in [
        &["gzip, br"][..],
        &["gzip", "gzip"],
        &["x-gzipped"],
        &["compress"],
        &[""],
    ] {
        assert_eq!(of(refused), Err(Reject::UnsupportedCoding), "{refused:?}");
    }
}
