//! The usual mistakes of people who set up a source, and what they are told.

use super::*;

/// A source at a URL of its own, without a prefix and with several secrets.
fn at(url: &str, signed: &str, secrets: &[(&str, &str)]) -> Source {
    let scheme = RawScheme {
        prefix: None,
        signed: Some(signed.to_owned()),
        ..scheme()
    };
    let secrets: Vec<Labelled> = secrets
        .iter()
        .map(|(label, secret)| Labelled {
            label: Arc::from(*label),
            secret: Secret::new(secret.as_bytes().to_vec()),
        })
        .collect();
    let context = Context {
        secrets: &secrets,
        config: &BTreeMap::new(),
        url: Some(url.to_owned()),
    };
    let verifier = Verifier::compile(&RawVerify::Schemes(vec![scheme]), &context).unwrap();
    Source {
        verifier,
        handshakes: Vec::new(),
        ..source()
    }
}

const OWN: &str = "https://hooks.example.com/erp";

#[test]
fn what_was_tried_is_told_without_the_secret_and_without_the_signature() {
    let secrets = [("new", "s3cr3t-new"), ("old", "s3cr3t-old")];
    let judge = at(
        OWN,
        "v0:{timestamp}:{method}:{url}:{header:X-Id}.{body}",
        &secrets,
    );
    let other = at("https://other", "{timestamp}{body}", &[("x", "s3cr3t-x")]);
    let mut wrong = request(&other, BODY);
    wrong.head.query = Some("a=1".to_owned());
    wrong.head.headers.insert("x-id", "7".parse().unwrap());
    let words = "tried: `new`, `old` as utf8, hmac-sha256 in hex over `v0:` + the timestamp \
                 `1760000000` (0s before the moment of judgement) + `:` + `POST` + `:` + the URL \
                 https://hooks.example.com/erp and the query + `:` + header X-Id (`7`) + `.` + the \
                 body (21 bytes)";
    let told = check(&judge, &saved(&wrong), "signature_mismatch", words).whole();
    for source in [&judge, &other] {
        let signed = request(source, BODY);
        let signature = signed.head.headers["x-signature"].to_str().unwrap();
        assert!(!told.contains(signature.split_at(16).0), "{told}");
    }
}

#[test]
fn how_far_the_clocks_are_apart_is_told_when_nothing_fits() {
    let wrong = saved(&request(&source_with(scheme(), "other"), BODY));
    for (second, words) in [
        (1_760_000_090, "(1m 30s before the moment of judgement)"),
        (1_759_999_990, "(10s after the moment of judgement)"),
    ] {
        let now = Now::at(Timestamp::from_second(second).unwrap());
        let told = explain(&source(), &wrong, now).whole();
        assert!(told.contains(words), "{told}");
    }
}

#[test]
fn a_secret_that_was_copied_wrongly() {
    for (signed_with, configured, words) in [
        (
            "s3cr3t",
            "\"s3cr3t\"",
            "without the quotes around the secret",
        ),
        (
            "\"s3cr3t\"",
            "s3cr3t",
            "with quotes around the secret `main`: the sender's copy has them",
        ),
        (
            "s3cr3t",
            "'s3cr3t'\n",
            "without the quotes around the secret",
        ),
        (
            "whsec_s3cr3t",
            "s3cr3t",
            "with `whsec_` in front of the secret `main`",
        ),
        (
            "s3cr3t",
            "whsec_s3cr3t",
            "without the `whsec_` of the secret `main`",
        ),
    ] {
        mismatch(
            &source_with(scheme(), signed_with),
            &source_with(scheme(), configured),
            words,
        );
    }
}

#[test]
fn a_prefix_that_is_not_configured() {
    let judge = at(OWN, "{timestamp}.{body}", &[("main", "s3cr3t")]);
    check(
        &judge,
        &saved(&request(&source(), BODY)),
        "signature_undecodable",
        "it begins with `v0=`: should `prefix` be that?",
    );
}

#[test]
fn a_url_that_the_sender_knows_otherwise() {
    let url_of = |url: &str| at(url, "{timestamp}{url}{body}", &[("main", "s3cr3t")]);
    let told = |told: &str, headers: &[(&'static str, &str)], configured: &str| {
        let mut genuine = request(&url_of(told), BODY);
        for (name, value) in headers {
            genuine.head.headers.insert(*name, value.parse().unwrap());
        }
        let words =
            format!("it matches for the URL {told}, but `public_url` makes it {configured}");
        let file = saved(&genuine);
        check(&url_of(configured), &file, "signature_mismatch", &words);
    };
    told("http://hooks.example.com/erp", &[], OWN);
    told("https://hooks.example.com/erp/", &[], OWN);
    told(OWN, &[], "https://hooks.example.com/erp/");
    told("https://hooks.example.com:443/erp", &[], OWN);
    told(OWN, &[], "https://hooks.example.com:8443/erp");
    told("https://hooks.example.com:8443/erp", &[], OWN);
    // Where the request went: `Host: h`.
    told("https://h/erp", &[], OWN);
    told(
        "https://hooks.example.com/erp",
        &[],
        "https://hooks.example.com/in/erp",
    );
    // What proxies say.
    let prefix = [("x-forwarded-prefix", "/hooks/")];
    told("https://hooks.example.com/hooks/erp", &prefix, OWN);
    let original = [
        ("x-original-uri", "/a/b?c=d"),
        ("x-forwarded-host", "pub.example.com"),
    ];
    told("https://pub.example.com/a/b", &original, OWN);
    let port = [("x-forwarded-port", "9443")];
    told("https://hooks.example.com:9443/erp", &port, OWN);
}

#[test]
fn a_query_that_was_added_on_the_way() {
    let judge = at(OWN, "{timestamp}{url}{body}", &[("main", "s3cr3t")]);
    let mut genuine = request(&judge, BODY);
    genuine.head.query = Some("added=1".to_owned());
    let words = "it matches for the URL https://hooks.example.com/erp without the query";
    check(&judge, &saved(&genuine), "signature_mismatch", words);
}

#[test]
fn bodies_that_were_written_again() {
    let with = |signed: &str, came: &[u8], words: &str| {
        let file = saved_with(&request(&source(), signed), "\r\n", came);
        check(&source(), &file, "signature_mismatch", words);
    };
    for (signed, came) in [("a\n", "a\n\n"), ("a\n", "a\n\r\n"), ("a", "a \n\n")] {
        with(signed, came.as_bytes(), "without the newline at the end");
    }
    let (plain, html) = (r#"{"a":"<b> & c"}"#, r#"{"a":"\u003cb\u003e \u0026 c"}"#);
    with(html, plain.as_bytes(), "the JSON escaped for HTML");
    with(plain, html.as_bytes(), "the JSON not escaped");
    let (sorted, not) = (
        r#"{"a":{"c":1,"d":2},"b":3}"#,
        br#"{"b": 3, "a": {"d": 2, "c": 1}}"#,
    );
    with(sorted, not, "with the JSON's keys in alphabetical order");
    with(
        "{\"a\":\"\u{fc}\"}",
        "{\"a\":\"\u{c3}\u{bc}\"}".as_bytes(),
        "as one byte",
    );
    for (signed, came) in [
        ("a=1%202&b=%2a", "a=1+2&b=%2a"),
        ("a=1+2", "a=1%202"),
        ("a=%2F", "a=/"),
    ] {
        with(
            signed,
            came.as_bytes(),
            "the form's escapes written otherwise",
        );
    }
    let unsorted = r#"{"d":1,"a":2,"c":3,"b":4}"#;
    with(
        unsorted,
        br#"{"a":2,"b":4,"c":3,"d":1}"#,
        "in alphabetical order, as a program writes",
    );
    let told = explain(
        &source(),
        &saved_with(&request(&source(), "{}"), "\n", unsorted.as_bytes()),
        now(),
    );
    assert!(!told.whole().contains("alphabetical"), "{told:?}");
}

#[test]
fn an_event_of_the_test_mode_under_the_live_secret() {
    for (body, words) in [
        (
            r#"{"livemode":false}"#,
            "body member /livemode says false: test and live mode",
        ),
        (r#"{"live":"true"}"#, "body member /live says true"),
        (
            r#"{"meta":{"test_mode":true}}"#,
            "body member /meta/test_mode says true",
        ),
    ] {
        let test = source_with(scheme(), "of the test mode");
        let file = saved(&request(&test, body));
        check(&source(), &file, "signature_mismatch", words);
    }
    let told = explain(
        &source(),
        &saved(&request(&source_with(scheme(), "x"), BODY)),
        now(),
    );
    assert!(!told.whole().contains("mode have"), "{told:?}");
}

#[test]
fn a_request_of_another_provider() {
    let from = |header: &'static str| {
        let text = format!("POST /erp HTTP/1.1\nHost: h\n{header}: sha256=00\n\n{BODY}");
        text.into_bytes()
    };
    let of = |provider: Option<&str>| Source {
        provider: provider.map(str::to_owned),
        ..source()
    };
    let words = "x-hub-signature-256, as the provider `github`";
    check(
        &of(Some("stripe")),
        &from("X-Hub-Signature-256"),
        "signature_absent",
        words,
    );
    let words = "x-hubspot-signature-v3, as the provider `hubspot-v3` sends it, and the source's \
                 provider is `hubspot-v1`";
    check(
        &of(Some("hubspot_v1")),
        &from("X-HubSpot-Signature-v3"),
        "signature_absent",
        "hubspot",
    );
    check(
        &of(Some("hubspot-v1")),
        &from("X-HubSpot-Signature-v3"),
        "signature_absent",
        words,
    );
    let words =
        "stripe-signature, as the provider `stripe` sends it, and the source has no provider";
    check(
        &of(None),
        &from("Stripe-Signature"),
        "signature_absent",
        words,
    );
    let file = saved(&request(&source_with(scheme(), "other"), BODY));
    let told = explain(&source(), &file, now());
    assert!(!told.whole().contains("as the provider"), "{told:?}");
    // Its own, and what everybody may have.
    for (provider, header) in [
        ("github", "X-Hub-Signature-256"),
        ("stripe", "Authorization"),
    ] {
        let told = explain(&of(Some(provider)), &from(header), now());
        assert!(!told.whole().contains("as the provider"), "{told:?}");
    }
}

#[test]
fn secrets_that_are_swapped() {
    let named = |name: &str, source: Source| Source {
        name: Arc::from(name),
        ..source
    };
    let all = |judge: &Source, other: Source, file: &[u8]| {
        let neighbours = Neighbours {
            sources: &[Arc::new(other)],
            paths: &[],
        };
        let told = explain_among(judge, &neighbours, file, None, &Nowhere, now()).whole();
        assert!(!told.contains("s3cr3t"), "{told}");
        told
    };
    let live = named("live", source_with(scheme(), "s3cr3t-live"));
    let test = named("test", source_with(scheme(), "s3cr3t-test"));
    let told = all(
        &live,
        test,
        &saved(&request(&source_with(scheme(), "s3cr3t-test"), BODY)),
    );
    assert!(
        told.contains("the source test would take it, with its secret `main`"),
        "{told}"
    );

    // The other source signs otherwise, and has the right secret all the same.
    let other = named(
        "other",
        at(OWN, "{body}.{timestamp}", &[("b", "s3cr3t-test")]),
    );
    let told = all(
        &live,
        other,
        &saved(&request(&source_with(scheme(), "s3cr3t-test"), BODY)),
    );
    assert!(
        told.contains("with the secret `b` of the source other"),
        "{told}"
    );

    let token = |secret: &str| {
        let scheme = RawScheme {
            algorithm: Some("token".to_owned()),
            signature: vec!["header:X-Token".to_owned()],
            ..RawScheme::default()
        };
        source_with(scheme, secret)
    };
    let file = format!("POST /erp HTTP/1.1\nX-Token: s3cr3t-b\n\n{BODY}");
    let told = all(
        &token("s3cr3t-a"),
        named("b", token("s3cr3t-b")),
        file.as_bytes(),
    );
    assert!(told.contains("the source b would take it"), "{told}");
    // Nobody knows this one, and what is taken is not looked for elsewhere.
    let file = format!("POST /erp HTTP/1.1\nX-Token: nobody's\n\n{BODY}");
    let told = all(
        &token("s3cr3t-a"),
        named("b", token("s3cr3t-b")),
        file.as_bytes(),
    );
    assert!(
        told.contains("tried: `main`") && !told.contains("source b"),
        "{told}"
    );
    let told = all(
        &live,
        named("twin", source_with(scheme(), "s3cr3t-live")),
        &saved(&request(&live, BODY)),
    );
    assert!(!told.contains("twin"), "{told}");
}

#[test]
fn a_token_with_something_around_it() {
    let judge = |prefix: Option<&str>, secret: &str| {
        let scheme = RawScheme {
            algorithm: Some("token".to_owned()),
            signature: vec!["header:Authorization".to_owned()],
            prefix: prefix.map(str::to_owned),
            ..RawScheme::default()
        };
        source_with(scheme, secret)
    };
    let mismatch = "token_mismatch";
    let bearer = Some("Bearer ");
    for (prefix, secret, sent, reason, words) in [
        (
            None,
            "\"s3cr3t\"",
            "s3cr3t",
            mismatch,
            "quotes around the secret `main`",
        ),
        (
            None,
            "s3cr3t \n",
            "s3cr3t",
            mismatch,
            "quotes around the secret `main`",
        ),
        (
            None,
            "s3cr3t",
            "'s3cr3t'",
            mismatch,
            "the sender has to leave them out",
        ),
        (
            None,
            "s3cr3t",
            "S3CR3T",
            mismatch,
            "capital and small letters",
        ),
        (None, "s3cr3t-long", "s3cr3t-l", mismatch, "it was cut"),
        (
            None,
            "s3cr3t",
            "Bearer s3cr3t",
            mismatch,
            "what comes before it, `Bearer `",
        ),
        (
            bearer,
            "Bearer s3cr3t",
            "Bearer s3cr3t",
            mismatch,
            "that is the `prefix`",
        ),
        (
            bearer,
            "s3cr3t",
            "s3cr3t",
            "signature_prefix",
            "has to write `Bearer ` before it",
        ),
        (
            bearer,
            "s3cr3t",
            "bearer s3cr3t",
            "signature_prefix",
            "it begins with `bearer `",
        ),
        (
            bearer,
            "s3cr3t",
            "other",
            "signature_prefix",
            "the sender leaves `Bearer ` out",
        ),
        (
            None,
            "s3cr3t",
            "other",
            mismatch,
            "most likely the secret is another one",
        ),
    ] {
        let file = format!("POST /erp HTTP/1.1\nAuthorization: {sent}\n\n{BODY}");
        let told = explain(&judge(prefix, secret), file.as_bytes(), now());
        assert_eq!(told.reason, reason, "{told:?}");
        assert!(told.whole().contains(words), "{sent}: {told:?}");
    }
}

#[test]
fn a_header_that_says_what_it_is_about_is_no_signature() {
    let file = format!("POST /erp HTTP/1.1\nX-Signed-Event: push\n\n{BODY}");
    let words = "no header of the request looks like it";
    check(&source(), file.as_bytes(), "signature_absent", words);
}

#[test]
fn user_and_password_that_are_not_written_as_basic() {
    let scheme = RawScheme {
        algorithm: Some("basic".to_owned()),
        ..RawScheme::default()
    };
    let judge = source_with(scheme, "user:s3cr3t");
    for (sent, reason, words) in [
        (
            "user:s3cr3t",
            "signature_undecodable",
            "they have to be in base64",
        ),
        (
            "Basic user:s3cr3t",
            "signature_undecodable",
            "they have to be in base64",
        ),
        (
            "dXNlcjpzM2NyM3Q=",
            "signature_undecodable",
            "the word `Basic` is missing",
        ),
        (
            "Basic dXNlcjpTM0NSM1Q=",
            "token_mismatch",
            "capital and small letters",
        ),
    ] {
        let file = format!("POST /erp HTTP/1.1\nAuthorization: {sent}\n\n{BODY}");
        check(&judge, file.as_bytes(), reason, words);
    }
}

#[test]
fn where_nothing_fits_the_url_is_a_suspect_if_it_is_signed() {
    let judge = at(OWN, "{timestamp}{url}{body}", &[("main", "s3cr3t")]);
    let other = at(
        "https://elsewhere/x",
        "{timestamp}{url}{body}",
        &[("main", "s3cr3t")],
    );
    let words = "another URL than https://hooks.example.com/erp (see `public_url`)";
    mismatch(&other, &judge, words);
    let bodies = at(OWN, "{timestamp}{body}", &[("main", "s3cr3t")]);
    let wrong = at(OWN, "{timestamp}{body}", &[("main", "another")]);
    let told = explain(&bodies, &saved(&request(&wrong, BODY)), now());
    assert!(!told.whole().contains("public_url"), "{told:?}");
}

#[test]
fn nothing_is_at_a_loss_beside_what_explains_it() {
    let shopify = Source {
        provider: Some("shopify".to_owned()),
        ..source()
    };
    let file = format!("POST /erp HTTP/1.1\nStripe-Signature: t=1,v1=00\n\n{BODY}");
    let words = "as the provider `stripe` sends it";
    let told = check(&shopify, file.as_bytes(), "signature_absent", words);
    assert!(
        !told.whole().contains("the request has stripe-signature;"),
        "{told:?}"
    );
    assert_eq!(told.remarks.len(), 1, "{told:?}");
    let neighbours = Neighbours {
        sources: &[Arc::new(Source {
            name: Arc::from("test"),
            ..source_with(scheme(), "s3cr3t-test")
        })],
        paths: &[],
    };
    let file = saved(&request(&source_with(scheme(), "s3cr3t-test"), BODY));
    let told = explain_among(&source(), &neighbours, &file, None, &Nowhere, now()).whole();
    assert!(told.contains("the source test would take it"), "{told}");
    assert!(!told.contains("none of the usual mistakes"), "{told}");
}

#[test]
fn a_signature_is_called_genuine_only_where_it_was_looked_at() {
    let fetched = RawScheme {
        algorithm: Some("rsa-pkcs1-sha256".to_owned()),
        prefix: None,
        encoding: Some("base64".to_owned()),
        fetch: Some(RawFetch {
            url: Some("header:X-Url".to_owned()),
            hosts: vec!["certs.example.com".to_owned()],
            ..RawFetch::default()
        }),
        ..scheme()
    };
    let later = Now::at(Timestamp::from_second(1_760_001_000).unwrap());
    let genuine = "the signature itself is genuine";
    let told = explain(&source(), &saved(&request(&source(), BODY)), later);
    assert_eq!(told.reason, "timestamp_stale");
    assert!(told.whole().contains(genuine), "{told:?}");
    let forged = format!(
        "POST /erp HTTP/1.1\nX-Signature: QUJD\nX-Time: 1760000000\n\
         X-Url: https://certs.example.com/a\n\n{BODY}"
    );
    let told = explain(&source_with(fetched, ""), forged.as_bytes(), later);
    assert_eq!(told.reason, "timestamp_stale");
    let whole = told.whole();
    assert!(!whole.contains(genuine), "{whole}");
    assert!(whole.contains("the signature was not looked at"), "{whole}");
    assert!(whole.contains("--at"), "{whole}");
}

#[test]
fn another_topic_of_sns_is_named() {
    let own = "arn:aws:sns:us-east-1:1:own";
    let judge = source_with(
        RawScheme {
            algorithm: Some("sns".to_owned()),
            assert: vec![format!("json:/TopicArn in {own}")],
            fetch: Some(RawFetch {
                url: Some("json:/SigningCertURL".to_owned()),
                hosts: vec!["sns.us-east-1.amazonaws.com".to_owned()],
                ..RawFetch::default()
            }),
            ..RawScheme::default()
        },
        "",
    );
    let body = |topic: &str| {
        serde_json::json!({
            "Type": "Notification", "MessageId": "1", "TopicArn": topic, "Message": "m",
            "Timestamp": "2025-10-09T08:53:20.000Z", "SignatureVersion": "1",
            "Signature": "EXAMPLEw6JRN",
            "SigningCertURL": "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-1.pem",
        })
    };
    let topic = "arn:aws:sns:us-east-1:1:another";
    let file = format!("POST /erp HTTP/1.1\n\n{}", body(topic));
    let words = format!("the message is of the topic {topic}");
    check(&judge, file.as_bytes(), "assertion_failed", &words);
}

#[test]
fn a_proof_that_is_no_header_is_not_looked_for_in_the_headers() {
    let token = RawScheme {
        algorithm: Some("token".to_owned()),
        signature: vec!["query:code".to_owned()],
        ..RawScheme::default()
    };
    let file = format!("POST /erp HTTP/1.1\n\n{BODY}");
    let words = "only the query or the body: is the URL at the provider the whole one";
    let judge = source_with(token, "s3cr3t");
    check(&judge, file.as_bytes(), "signature_absent", words);
}

#[test]
fn a_message_signature_for_another_address() {
    let message_at = |url: &str, covered: &[&str]| {
        let scheme = RawScheme {
            algorithm: Some("rfc9421".to_owned()),
            message: RawMessage {
                signature_algorithm: Some("hmac-sha256".to_owned()),
                covered: covered.iter().map(|it| (*it).to_owned()).collect(),
                ..RawMessage::default()
            },
            ..RawScheme::default()
        };
        let secrets = [Labelled {
            label: Arc::from("main"),
            secret: Secret::new(b"s3cr3t".to_vec()),
        }];
        let context = Context {
            secrets: &secrets,
            config: &BTreeMap::new(),
            url: Some(url.to_owned()),
        };
        let verifier = Verifier::compile(&RawVerify::Schemes(vec![scheme]), &context).unwrap();
        Source {
            verifier,
            ..source()
        }
    };
    for (covered, told, named) in [
        ("@target-uri", "http://h/erp", "http://h/erp"),
        ("@authority", "http://h/other", "https://h/erp"),
    ] {
        let covered = ["@method", covered, "content-digest"];
        let genuine = request(&message_at(told, &covered), BODY);
        let words = format!("it matches for the URL {named}, but `public_url` makes it {OWN}");
        let judge = message_at(OWN, &covered);
        check(&judge, &saved(&genuine), "signature_mismatch", &words);
    }
}
