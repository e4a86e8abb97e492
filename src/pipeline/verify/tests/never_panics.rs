//! Whatever a configuration or a stranger writes: an answer, never a panic.

use proptest::prelude::*;

use super::*;

/// Text in which what has a meaning is frequent.
fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        3 => prop::sample::select(vec![
            "{", "}", "{{", "}}", "{body}", "{timestamp}", "{header:X-Id}", "{json:/a}", "sort(",
            ")", "|", "?", ":", ",", "=", "v1", "t", "signature:", "header*:", "config:", "\u{e9}",
        ]).prop_map(str::to_owned),
        1 => ".{0,4}",
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

/// Header values: visible bytes and those above ASCII.
fn header_value() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"t=1760000000".to_vec()),
        Just(b"v1=".to_vec()),
        Just(b",".to_vec()),
        Just(b"abcd".to_vec()),
        prop::collection::vec(prop_oneof![32_u8..127, 128_u8..=255], 0..8),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn templates(signed in text(), body in ".{0,40}") {
        let scheme = RawScheme { signed: Some(signed), ..scheme() };
        if let Ok(verifier) = compile_with(vec![scheme], &[b"k"]) {
            let mut request = inbound(&[], &body);
            if verifier.sign(&mut request.head, &request.body, now(), None).is_ok() {
                drop(verify(&verifier, request));
            }
        }
    }

    #[test]
    fn words(a in text(), b in text(), c in text(), d in text()) {
        let list = RawList { separator: Some(a.clone()), assign: Some(b.clone()), pick: Some(c) };
        let scheme = RawScheme {
            signature: vec![d.clone()],
            list: Some(list),
            timestamp: Some(a),
            assert: vec![b],
            key: Some(d),
            ..scheme()
        };
        drop(compile_with(vec![scheme], &[b"k"]));
    }

    #[test]
    fn list_headers(value in header_value(), separator in "[,; ]{1,2}", assign in "[=,]{1,2}") {
        let list = RawList { separator: Some(separator), assign: Some(assign), pick: Some("v1".to_owned()) };
        let verifier = compile(RawScheme { list: Some(list), ..scheme() });
        let mut request = inbound(&[], BODY);
        request.head.headers.insert("x-signature", http::HeaderValue::from_bytes(&value).unwrap());
        prop_assert!(verify(&verifier, request).is_err());
    }

    #[test]
    fn genuine_requests_pass_whatever_their_body(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let verifier = compile(scheme());
        let mut request = inbound(&[], "");
        request.body = Bytes::from(body);
        prop_assert!(verify(&verifier, signed(&verifier, request)).is_ok());
    }
}
