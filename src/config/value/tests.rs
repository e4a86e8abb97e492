use super::*;

#[test]
fn sizes() {
    for (text, bytes) in [
        ("0B", 0),
        ("64KiB", 65_536),
        ("1MiB", 1_048_576),
        ("10MB", 10_000_000),
        ("3 GB", 3_000_000_000),
        ("1TiB", 1 << 40),
    ] {
        assert_eq!(size(text), Ok(bytes), "{text}");
    }
    for text in [
        "",
        "64",
        "KiB",
        "64kib",
        "-1KiB",
        "+1KiB",
        "1.5MiB",
        "99999999999TiB",
        "1 KiB x",
    ] {
        assert!(size(text).is_err(), "{text}");
    }
}

#[test]
fn durations() {
    for (text, ms) in [
        ("0s", 0),
        ("500ms", 500),
        ("5s", 5_000),
        ("5m", 300_000),
        ("24h", 86_400_000),
        ("7d", 604_800_000),
    ] {
        assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
    }
    for text in [
        "",
        "5",
        "s",
        "-5s",
        "1h30m",
        "5 weeks",
        "99999999999999999999s",
    ] {
        assert!(duration(text).is_err(), "{text}");
    }
}

#[test]
fn rates() {
    let hundred = NonZeroU32::new(100).unwrap();
    assert_eq!(
        rate("100/m"),
        Ok(Rate {
            count: hundred,
            period: Duration::from_secs(60),
            burst: hundred
        })
    );
    for text in [
        "",
        "100",
        "100/",
        "/s",
        "100/d",
        "0/s",
        "-1/s",
        "1000001/s",
        "99999999999999999999/s",
    ] {
        assert!(rate(text).is_err(), "{text}");
    }
}

#[test]
fn networks() {
    for (text, shown) in [
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("192.0.2.7", "192.0.2.7/32"),
        ("2001:db8::/32", "2001:db8::/32"),
        ("::1", "::1/128"),
        ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
        ("::ffff:192.0.2.7", "192.0.2.7/32"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
        ("::/0", "::/0"),
    ] {
        assert_eq!(network(text).unwrap().to_string(), shown);
    }
    assert!(
        network("10.0.0.1/8")
            .unwrap_err()
            .help
            .unwrap()
            .contains("\"10.0.0.0/8\"")
    );
    for text in ["", "10.0.0.0/33", "example.com", "10.0.0"] {
        assert!(network(text).is_err(), "{text}");
    }
}

#[test]
fn what_is_shown_is_what_would_be_written() {
    for text in ["500ms", "5s", "5m", "24h", "7d", "90s"] {
        let parsed = duration(text).unwrap();
        assert_eq!(duration(&Shown(parsed).to_string()), Ok(parsed), "{text}");
    }
    for text in ["1B", "64KiB", "10MB", "1GiB"] {
        let parsed = size(text).unwrap();
        assert_eq!(size(&ShownSize(parsed).to_string()), Ok(parsed), "{text}");
    }
}

#[test]
fn a_quoted_text_is_escaped_and_cut() {
    assert_eq!(quote("a\n\u{1b}[31m"), r#""a\n\u{1b}[31m""#);
    assert_eq!(
        quote(&"x".repeat(1000)).chars().count(),
        QUOTED_CHARS_MAX + 5
    );
}
