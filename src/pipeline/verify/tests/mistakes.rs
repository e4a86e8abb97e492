//! Each mistake that a configuration can hold: where it is, what it is, what would be right.

use super::*;
use crate::config::raw::{RawFetch, RawHolder, RawMessage};

#[track_caller]
fn check(scheme: RawScheme, path: &[&str], words: &str) {
    check_with(vec![scheme], &[SECRET.as_bytes()], path, words);
}

#[track_caller]
fn check_with(schemes: Vec<RawScheme>, secrets: &[&[u8]], path: &[&str], words: &str) {
    let problems = compile_with(schemes, secrets).unwrap_err();
    let [problem] = problems.as_slice() else {
        panic!("not one problem: {problems:?}");
    };
    let said = format!(
        "{} {}",
        problem.what,
        problem.help.as_deref().unwrap_or_default()
    );
    assert_eq!(problem.path, path, "{said}");
    assert!(said.contains(words), "{said}");
    assert!(!said.contains(SECRET), "{said}");
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "what a configuration says is optional"
)]
fn word(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[test]
fn words_that_are_not_known() {
    let wrong = RawScheme {
        algorithm: word("hmac-sha265"),
        ..plain()
    };
    check(
        wrong,
        &["verify", "algorithm"],
        "did you mean `hmac-sha256`?",
    );
    let wrong = RawScheme {
        algorithm: word("md5"),
        ..plain()
    };
    check(wrong, &["verify", "algorithm"], "`token`, `basic`");
    let wrong = RawScheme {
        encoding: word("base46"),
        ..plain()
    };
    check(wrong, &["verify", "encoding"], "did you mean `base64`?");
    let wrong = RawScheme {
        key: word("utf-8"),
        ..plain()
    };
    check(wrong, &["verify", "key"], "did you mean `utf8`?");
    let wrong = RawScheme {
        timestamp_unit: word("sec"),
        ..scheme()
    };
    check(wrong, &["verify", "timestamp_unit"], "`ms` and `rfc3339`");
}

#[test]
fn a_wrong_algorithm_hides_no_other_mistake() {
    let wrong = RawScheme {
        algorithm: word("hmac-sha265"),
        signature: vec!["X-Signature".to_owned()],
        list: Some(RawList::default()),
        encoding: word("hexx"),
        key: word("utf-8"),
        signed: word("{bdy}"),
        timestamp: word("X-Time"),
        timestamp_unit: word("sec"),
        assert: vec!["x".to_owned()],
        ..plain()
    };
    let found = |scheme: RawScheme, secret: &[u8]| -> Vec<String> {
        let problems = compile_with(vec![scheme], &[secret]).unwrap_err();
        let paths = problems.iter().map(|problem| problem.path.join("."));
        paths.collect()
    };
    assert_eq!(
        found(wrong, b"x"),
        [
            "verify.algorithm",
            "verify.signature",
            "verify.list",
            "verify.assert",
            "verify.key",
            "verify.encoding",
            "verify.signed",
            "verify.timestamp_unit",
            "verify.timestamp",
        ]
    );
    let of_key = RawScheme {
        algorithm: None,
        key: word("hex"),
        tolerance: Some(Duration::from_mins(5)),
        ..plain()
    };
    assert_eq!(
        found(of_key, b"xyz"),
        ["verify.algorithm", "verify.tolerance", "secrets.0"]
    );
    // What is right for a token is not held against a word that may mean one.
    let misspelt = RawScheme {
        algorithm: word("tokn"),
        ..token()
    };
    assert_eq!(found(misspelt, b"x"), ["verify.algorithm"]);
}

#[test]
fn what_is_missing() {
    check(
        RawScheme {
            algorithm: None,
            ..plain()
        },
        &["verify", "algorithm"],
        "is missing",
    );
    check(
        RawScheme {
            signature: vec![],
            ..plain()
        },
        &["verify", "signature"],
        "is missing",
    );
    check_with(vec![plain()], &[], &["secrets"], "there is no secret");
    check_with(vec![], &[b"x"], &["verify"], "insecure-none");
}

#[test]
fn places() {
    for (place, words) in [
        ("X-Signature", "does not say where to look"),
        ("headers:X-Signature", "`headers:` is not known"),
        ("header:", "lacks what comes after"),
        ("header:X Signature", "cannot be a header's name"),
        ("json:signature", "begins with `/`"),
    ] {
        let wrong = RawScheme {
            signature: vec![place.to_owned()],
            ..plain()
        };
        check(wrong, &["verify", "signature"], words);
    }
}

#[test]
fn templates() {
    for (template, words) in [
        ("{timestamp.{body}", "`{timestamp.{body}` is not known"),
        ("{timestap}.{body}", "did you mean `timestamp`?"),
        ("{bdy}", "did you mean `body`?"),
        ("{body", "without its `}`"),
        ("body}", "without its `{`"),
        ("{config:shop}{body}", "`config` does not have"),
        ("{config:a,b}{body}", "`config` has no value `a,b`"),
        ("literal", "one signature would fit every request"),
        ("{secret}", "one signature would fit every request"),
        ("{sort(body,bdy)}", "`{bdy}` is not known"),
        ("{timestamp}.{body}", "nobody knows where it stands"),
    ] {
        let wrong = RawScheme {
            signed: word(template),
            ..plain()
        };
        check(wrong, &["verify", "signed"], words);
    }
}

#[test]
fn a_plain_hash_needs_its_secret() {
    let wrong = RawScheme {
        algorithm: word("sha256"),
        ..plain()
    };
    check(wrong, &["verify", "signed"], "could be made by anybody");
}

#[test]
fn a_tolerance_that_protects_nothing() {
    let uncovered = RawScheme {
        timestamp: word("header:X-Time"),
        tolerance: Some(Duration::from_mins(5)),
        ..plain()
    };
    check(
        uncovered,
        &["verify", "tolerance"],
        "anybody could put a fresh one",
    );
    let nowhere = RawScheme {
        tolerance: Some(Duration::from_mins(5)),
        ..plain()
    };
    check(nowhere, &["verify", "tolerance"], "without a `timestamp`");
}

#[test]
fn a_timestamp_that_is_not_signed() {
    let unsigned = RawScheme {
        timestamp: word("header:X-Time"),
        ..plain()
    };
    check(
        unsigned.clone(),
        &["verify", "timestamp"],
        "anybody could put a fresh one",
    );
    // It is said that nobody looks at it.
    let unchecked = RawScheme {
        tolerance: Some(Duration::ZERO),
        ..unsigned.clone()
    };
    assert!(compile_with(vec![unchecked], &[SECRET.as_bytes()]).is_ok());
    // In the body it is signed with it.
    let inside = RawScheme {
        timestamp: word("json:/at"),
        ..unsigned
    };
    assert!(compile_with(vec![inside], &[SECRET.as_bytes()]).is_ok());
}

#[test]
fn a_signature_that_is_part_of_what_it_signs() {
    for (signature, signed) in [
        ("query:sig", "{url}"),
        ("query:sig", "{query:id}.{query:sig}"),
        ("form:sig", "{form_sorted}"),
        ("json:/sig", "{body}"),
        ("header:X-Signature", "{header:X-Signature}.{body}"),
    ] {
        let never = RawScheme {
            signature: vec![signature.to_owned()],
            signed: word(signed),
            ..plain()
        };
        check(never, &["verify", "signed"], "could never hold");
    }
    let beside = RawScheme {
        signature: vec!["query:sig".to_owned()],
        signed: word("{query:id}.{body}"),
        ..plain()
    };
    assert!(compile_with(vec![beside], &[SECRET.as_bytes()]).is_ok());
}

#[test]
fn lists() {
    let unlisted = RawScheme {
        list: None,
        ..scheme()
    };
    check(unlisted, &["verify", "timestamp"], "there is no such list");
    let list = RawList {
        separator: None,
        assign: word("="),
        pick: word("v1"),
    };
    check(
        RawScheme {
            list: Some(list),
            ..plain()
        },
        &["verify", "list"],
        "`separator` is missing",
    );
    let list = RawList {
        separator: word(","),
        assign: word("="),
        pick: None,
    };
    check(
        RawScheme {
            list: Some(list),
            ..plain()
        },
        &["verify", "list"],
        "go together",
    );
    let list = RawList {
        separator: word(","),
        assign: word("="),
        pick: word("config:x"),
    };
    check(
        RawScheme {
            list: Some(list),
            ..plain()
        },
        &["verify", "list"],
        "does not have `x` write config.x = ",
    );
    let signature = vec!["header:A".to_owned(), "header:B".to_owned()];
    check(
        RawScheme {
            signature,
            ..scheme()
        },
        &["verify", "timestamp"],
        "several places",
    );
}

#[test]
fn assertions() {
    for (assert, words) in [
        ("header:X-Version = 1", "write `PLACE == VALUE`"),
        ("version == 1", "does not say where to look"),
        ("header:X == {secret}", "use algorithm `token`"),
    ] {
        let wrong = RawScheme {
            assert: vec![assert.to_owned()],
            ..plain()
        };
        check(wrong, &["verify", "assert"], words);
    }
}

/// Anybody with an account at Amazon has topics, and SNS signs for all of them.
#[test]
fn sns_without_a_topic() {
    let of = |asserts: &[&str]| RawScheme {
        algorithm: word("sns"),
        fetch: Some(RawFetch {
            url: word("json:/SigningCertURL"),
            hosts: vec!["sns.{aws-region}.amazonaws.com".to_owned()],
            ..RawFetch::default()
        }),
        assert: asserts.iter().map(|&it| it.to_owned()).collect(),
        ..RawScheme::default()
    };
    for asserts in [
        &[][..],
        &["json:/TopicArn absent"],
        &["json:/TopicArn == {json:/TopicArn}"],
        &["json:/TopicArn == {header:X-Topic}"],
        &["json:/Type == Notification"],
    ] {
        let words = "anybody with an account at Amazon could send";
        check_with(vec![of(asserts)], &[], &["verify", "algorithm"], words);
    }
    for assert in [
        "json:/TopicArn in arn:aws:sns:eu-west-1:1:a {config:account}",
        "json:/TopicArn == {config:account}",
    ] {
        compile_with(vec![of(&[assert])], &[]).unwrap();
    }
    // What makes no sense is one mistake.
    let unknown = of(&["json:/TopicArn in {config:topics}"]);
    check_with(
        vec![unknown],
        &[],
        &["verify", "assert"],
        "write config.topics = ",
    );
}

#[test]
fn a_key_that_is_fetched_beside_others() {
    let fetch = |holds: Option<&str>| {
        Some(RawFetch {
            url: word("header:X-Cert-Url"),
            hosts: vec!["certs.example.com".to_owned()],
            holds: holds.map(str::to_owned),
            ..RawFetch::default()
        })
    };
    let certified = RawScheme {
        algorithm: word("rsa-pkcs1-sha256"),
        key: None,
        fetch: fetch(None),
        ..plain()
    };
    compile_with(vec![certified.clone()], &[]).unwrap();
    let named = RawScheme {
        secrets: vec!["new".to_owned()],
        ..certified.clone()
    };
    check(named, &["verify", "secrets"], "about a key that is fetched");
    let written = RawScheme {
        key: word("pem"),
        ..certified
    };
    check(written, &["verify", "key"], "about a key that is fetched");
    let shared = RawScheme {
        key: word("base64"),
        fetch: fetch(Some("json:/key")),
        ..plain()
    };
    compile_with(vec![shared], &[]).unwrap();
    let message = RawScheme {
        algorithm: word("rfc9421"),
        fetch: fetch(None),
        message: RawMessage {
            signature_algorithm: word("hmac-sha256"),
            ..RawMessage::default()
        },
        ..RawScheme::default()
    };
    check(
        message,
        &["verify", "fetch"],
        "says nothing about `rfc9421`",
    );
    let certificate = RawScheme {
        algorithm: word("client-certificate"),
        fetch: fetch(None),
        holder: RawHolder {
            subject: vec!["CN=a".to_owned()],
            ..RawHolder::default()
        },
        ..RawScheme::default()
    };
    let words = "says nothing about `client-certificate`";
    check(certificate, &["verify", "fetch"], words);
}

#[test]
fn secrets_that_do_not_fit() {
    for (key, secret) in [("hex", "xyz"), ("base64", "***"), ("whsec", "whsec_***")] {
        let scheme = RawScheme {
            key: word(key),
            ..plain()
        };
        let words = format!("`old` is not written as {key}");
        let good: &[u8] = if key == "hex" { b"abcd" } else { b"YWJj" };
        check_with(
            vec![scheme],
            &[good, secret.as_bytes()],
            &["secrets", "1"],
            &words,
        );
    }
    for (key, words) in [
        ("hex", "an even number of the digits 0 to 9 and a to f"),
        ("whsec", "`whsec_` and then base64"),
    ] {
        let scheme = RawScheme {
            key: word(key),
            ..plain()
        };
        check_with(vec![scheme], &[b"s-cret"], &["secrets", "0"], words);
    }
    check_with(vec![plain()], &[b""], &["secrets", "0"], "`new` is empty");
    let basic = RawScheme {
        algorithm: word("basic"),
        ..RawScheme::default()
    };
    check_with(
        vec![basic],
        &[b"user"],
        &["secrets", "0"],
        "`USER:PASSWORD`",
    );
}

#[test]
fn a_token_has_no_encoding() {
    let wrong = RawScheme {
        encoding: word("hex"),
        ..token()
    };
    check(wrong, &["verify", "encoding"], "says nothing about a token");
}

#[test]
fn a_url_that_nobody_configured() {
    let scheme = RawScheme {
        signed: word("{url}{body}"),
        ..plain()
    };
    let secrets = [labelled("new", SECRET.as_bytes())];
    let context = Context {
        secrets: &secrets,
        config: &BTreeMap::new(),
        url: None,
    };
    let problems = Verifier::compile(&RawVerify::Schemes(vec![scheme]), &context).unwrap_err();
    assert_eq!(
        problems[0].help.as_deref(),
        Some("set `public_url` under `[server]`")
    );
}

#[test]
fn every_mistake_of_every_table_is_told_with_its_place() {
    let first = RawScheme {
        encoding: word("hexx"),
        key: word("utf"),
        ..plain()
    };
    let second = RawScheme {
        algorithm: None,
        signature: vec![],
        ..RawScheme::default()
    };
    let problems = compile_with(vec![first, second], &[b"x"]).unwrap_err();
    let places: Vec<String> = problems
        .iter()
        .map(|problem| problem.path.join("."))
        .collect();
    assert_eq!(
        places,
        [
            "verify.0.key",
            "verify.0.encoding",
            "verify.1.algorithm",
            "verify.1.signature"
        ]
    );
}
