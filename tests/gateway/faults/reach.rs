//! A schema or a request never makes the gateway call an address, or think for ever.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use hookgate::pipeline::schema::SchemaSet;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::support::balance::balance;
use crate::support::figures::Row;
use crate::support::gateway::{Gateway, PROGRAM, Setup, source};
use crate::support::webhook::Webhook;

// === patterns ===

/// Patterns over which backtracking engines think exponentially or at least quadratically long
/// when a long run of `a` ends otherwise than they hope.
const PATTERNS: [&str; 30] = [
    "^(a+)+$",
    "(a|aa)+$",
    "(.*a){25}$",
    "^(a|a)*$",
    "^(a*)*$",
    "^(a|a?)+$",
    "(a+)+b",
    "^(([a-z])+.)+[A-Z]([a-z])+$",
    "(a*)*b",
    "^(a+a+)+b$",
    "(x+x+)+y|(a+a+)+y",
    "a*a*a*a*a*a*b",
    "(a?){30}a{30}b",
    "^.*.*.*.*=.*$",
    "^(.*)*$b",
    "(.+)+!!$",
    "(a|b|ab)*c",
    "^([a-zA-Z0-9])(([\\-.]|[_]+)?([a-zA-Z0-9]+))*(@){1}[a-z0-9]+$",
    "^(\\w+\\s?)*$",
    "([a-z]+)*[0-9]$",
    "((a+)*)+$",
    "(aa*)*b",
    "^(?:a+)+(?:a+)+$",
    "(.*)(.*)(.*)(.*)(.*)[^a-z!]$",
    "\\s+$|a+b",
    "^(a{1,10}){1,10}b",
    "(a{0,20}){0,20}$",
    "^(?i:(A+)+)$",
    "([ab]|[ac])+d",
    "^(\\p{L}+)+$",
];

/// What no engine runs in linear time, so it is a mistake.
const REFUSED: [&str; 10] = [
    "(?=a)",
    "(?!a)",
    "(?<=a)b",
    "(?<!a)b",
    "^(?=.*[0-9])(?=.*[a-z]).*$",
    "(a)\\1",
    "(?<n>a)\\k<n>",
    "(?>a+)b",
    "(?(1)a|b)",
    "^(?!.*(.)\\1).*$",
];

fn schemas(directory: &Path, schema: &Value) -> SchemaSet {
    let file = directory.join("schema.json");
    std::fs::write(&file, schema.to_string()).expect("schema");
    SchemaSet::load(&file).unwrap_or_else(|problems| panic!("{schema}: {problems:?}"))
}

/// The shortest of some runs: what others do on this machine only adds to it.
fn time(schemas: &SchemaSet, body: &Value) -> Duration {
    let runs = (0..3).map(|_| {
        let start = Instant::now();
        drop(schemas.check(None, body));
        start.elapsed()
    });
    runs.min().expect("a run")
}

/// A hundred thousand characters cost no more than some times what a plain pattern takes for them;
/// what is quadratic would cost tens of thousands of times that. A ratio of times that were taken
/// one after the other, because this is no optimised build.
#[test]
fn hostile_patterns_take_linear_time() {
    const LENGTH: usize = 100_000;
    let directory = TempDir::new().expect("directory");
    let long = Value::String("a".repeat(LENGTH - 1) + "!");
    let mut slowest = (0.0, "");
    for pattern in PATTERNS {
        let plain = schemas(directory.path(), &json!({"pattern": "^[a-z]*$"}));
        let hostile = schemas(directory.path(), &json!({ "pattern": pattern }));
        let reference = time(&plain, &long);
        let whole = time(&hostile, &long);
        let ratio = whole.as_secs_f64() / reference.as_secs_f64();
        assert!(
            ratio < 300.0,
            "{pattern}: {whole:?}, a plain pattern takes {reference:?}"
        );
        if ratio > slowest.0 {
            slowest = (ratio, pattern);
        }
    }
    Row::new("X6.patterns")
        .saw("patterns", PATTERNS.len())
        .saw("bytes", LENGTH)
        .saw(
            "slowest against a plain pattern",
            format!("{:.1} times", slowest.0),
        )
        .write();
}

// === references ===

/// What leads out of the schema's own folder, or nowhere. `TRAP` is a listener of the test's own.
const REFERENCES: [&str; 25] = [
    "http://TRAP/schema.json",
    "http://TRAP/schema.json#/definitions/a",
    "HTTP://TRAP/schema.json",
    "https://TRAP/schema.json",
    "http://user:password@TRAP/schema.json",
    "//TRAP/schema.json",
    "///TRAP/schema.json",
    "ftp://TRAP/schema.json",
    "gopher://TRAP/1schema",
    "jar:http://TRAP/a.jar!/schema.json",
    "http://localhost:PORT/schema.json",
    "http://[::1]:PORT/schema.json",
    "http://2130706433:PORT/schema.json",
    "http://169.254.169.254/latest/meta-data/",
    "http://json-schema.invalid/schema.json",
    "file:///etc/passwd",
    "file://TRAP/etc/passwd",
    "/etc/passwd",
    "../../../../etc/passwd",
    "..%2f..%2fetc%2fpasswd",
    "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
    "urn:example:schema",
    "data:application/json,{}",
    "other.json",
    "#/definitions/absent",
];

/// Schemas that refer to themselves without an end. They say nothing, and are no mistake.
fn endless() -> Vec<Value> {
    vec![
        json!({"$ref": ""}),
        json!({"$ref": "#"}),
        json!({"allOf": [{"$ref": "#"}]}),
        json!({"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}),
        json!({"not": {"$ref": "#"}}),
        json!({"$ref": "it.json"}),
        json!({"$ref": "#/definitions/a", "definitions": {
            "a": {"$ref": "#/definitions/b"}, "b": {"$ref": "#/definitions/a"}}}),
        json!({"additionalProperties": {"$ref": "#"}, "items": {"$ref": "#"}}),
    ]
}

/// Schemas of so many levels.
fn deep(levels: usize) -> String {
    format!("{}true{}", r#"{"not":"#.repeat(levels), "}".repeat(levels))
}

/// A gateway to be, with one source for each schema.
fn gateway(schemas: &[String]) -> Gateway {
    let mut sources = String::new();
    let mut setup = Setup::new();
    for (n, schema) in schemas.iter().enumerate() {
        let line = format!("schema = \"schemas/{n}/it.json\"");
        sources.push_str(&source(&format!("s{n}"), "github", &line));
        setup = setup.file(&format!("schemas/{n}/it.json"), schema.as_bytes());
    }
    setup.sources(&sources).prepare()
}

/// Runs a command on the gateway's configuration and gives its exit code, what it said, and every
/// call by which it could have reached an address.
async fn traced(gateway: &Gateway, command: &str) -> (Option<i32>, String, Vec<String>) {
    let calls = gateway.directory().join(format!("calls-{command}"));
    let running = tokio::process::Command::new("strace")
        .args(["-f", "-qq", "-e", "trace=%network", "-o"])
        .arg(&calls)
        .args([PROGRAM, command, "-c"])
        .arg(gateway.config())
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(crate::support::eventually::PATIENCE, running)
        .await
        .expect("it ends")
        .expect("strace, which deploy/install-dependencies.sh installs");
    let said = crate::support::gateway::said(&output);
    (output.status.code(), said, reaching(&calls))
}

/// The lines of a trace that reach out.
fn reaching(calls: &Path) -> Vec<String> {
    let trace = std::fs::read_to_string(calls).expect("a trace");
    let reaches = ["connect(", "sendto(", "sendmsg(", "sendmmsg("];
    let is_out = |line: &&str| reaches.iter().any(|call| line.contains(call));
    // The runtime wakes itself through a socket pair, which needs neither of them.
    trace.lines().filter(is_out).map(str::to_owned).collect()
}

#[tokio::test]
async fn no_reference_is_followed_out_of_the_folder() {
    let trap = TcpListener::bind("127.0.0.1:0").await.expect("a trap");
    let address = trap.local_addr().expect("address");
    let references = REFERENCES.iter().map(|reference| {
        let reference = reference.replace("TRAP", &address.to_string());
        json!({"$ref": reference.replace("PORT", &address.port().to_string())})
    });
    // A document's own name must not become the place that others are looked for.
    let base = format!("http://{address}/a/b.json");
    let more = [
        json!({"$id": base, "$ref": "c.json"}),
        json!({"$id": base, "properties": {"a": {"$ref": "/c.json"}}}),
        json!({"$schema": base}),
        json!({"$schema": "http://json-schema.org/draft-99/schema#"}),
        json!({"$dynamicRef": base}),
    ];
    let patterns = REFUSED.map(|pattern| json!({ "pattern": pattern }));
    let schemas: Vec<_> = references
        .chain(more)
        .chain(patterns)
        .map(|schema| schema.to_string())
        .chain([deep(65), deep(127), deep(10_000)])
        .collect();
    // Mistakes are listed up to a bound, so not all at once.
    for some in schemas.chunks(12) {
        let gateway = gateway(some);
        for command in ["check", "run"] {
            let (code, said, calls) = traced(&gateway, command).await;
            assert_eq!(code, Some(78), "{said}");
            for (n, schema) in some.iter().enumerate() {
                let file = format!("schemas/{n}/it.json");
                assert!(
                    said.contains(&file),
                    "{schema} is taken by {command}: {said}"
                );
            }
            assert_eq!(calls, Vec::<String>::new(), "{command} reaches out");
        }
    }
    assert_untouched(&trap).await;
    Row::new("X6.references")
        .saw("references out of the folder", REFERENCES.len() + 5)
        .saw("too deep", 3)
        .saw("patterns that are not linear", REFUSED.len())
        .saw("outbound calls", 0)
        .write();
}

/// Whatever such a schema means, holding a body against it ends, and the gateway goes on.
#[tokio::test]
async fn a_schema_without_an_end_has_an_answer() {
    let schemas: Vec<_> = endless().iter().map(Value::to_string).collect();
    let mut gateway = gateway(&schemas);
    gateway.start().await;
    let body = format!("{}1{}", r#"{"a":["#.repeat(60), "]}".repeat(60));
    for (n, schema) in schemas.iter().enumerate() {
        let path = format!("/s{n}");
        let webhook = Webhook::github(&path, "push", &format!("{n}"), body.as_bytes());
        let status = gateway.send(&webhook).await.status;
        assert!(matches!(status, 202 | 422), "{schema}: {status}");
    }
    balance(&gateway).await;
}

/// Nobody has connected.
async fn assert_untouched(trap: &TcpListener) {
    let waited = tokio::time::timeout(Duration::from_millis(50), trap.accept()).await;
    assert!(waited.is_err(), "somebody connected: {waited:?}");
}

/// Addresses in bodies and headers are data: certificates, key sets, schemas, callbacks.
#[tokio::test]
async fn no_address_in_a_request_is_called() {
    let trap = TcpListener::bind("127.0.0.1:0").await.expect("a trap");
    let address = trap.local_addr().expect("address");
    let calls = tempfile::NamedTempFile::new().expect("a file");
    let trace = calls.path().to_str().expect("path");
    let wrapper = ["strace", "-f", "-qq", "-e", "trace=%network", "-o", trace];
    let gateway = Setup::new()
        .under(&wrapper)
        .file("any.json", b"true")
        .plain()
        .sources(&source("github", "github", "schema = \"any.json\""))
        .start()
        .await;
    let members = [
        "$ref",
        "$schema",
        "$id",
        "SigningCertURL",
        "SubscribeURL",
        "UnsubscribeURL",
        "jku",
        "x5u",
        "jwks_uri",
        "callback_url",
        "validationUrl",
        "iss",
    ];
    let hosts = [
        address.to_string(),
        "sns.us-east-1.amazonaws.com.evil.invalid".to_owned(),
        format!("sns.us-east-1.amazonaws.com@{address}"),
        "169.254.169.254".to_owned(),
    ];
    let mut sent = 0;
    for member in members {
        for host in &hosts {
            let url = format!("http://{host}/{member}");
            let body = json!({ member: url, "Type": "SubscriptionConfirmation" }).to_string();
            let id = format!("{member}-{sent}");
            let webhook = Webhook::github("/github", "push", &id, body.as_bytes())
                .with("X-Amz-Sns-Message-Type", "SubscriptionConfirmation")
                .with("WebHook-Request-Callback", &url)
                .with("WebHook-Request-Origin", host)
                .with("Link", &format!("<{url}>"))
                .with("Referer", &url);
            assert_eq!(gateway.send(&webhook).await.status, 202, "{body}");
            sent += 1;
        }
    }
    assert_untouched(&trap).await;
    drop(gateway);
    // Answers go out by `sendto`, on connections that others made.
    let connects: Vec<_> = reaching(calls.path())
        .into_iter()
        .filter(|line| line.contains("connect("))
        .collect();
    assert_eq!(connects, Vec::<String>::new());
    Row::new("X6.requests")
        .saw("requests with addresses", sent)
        .saw("outbound calls", 0)
        .write();
}

/// Where else a proof could say that its key is. `HOST` is a listed host, `TRAP` a listener of the
/// test's own.
const URLS: [&str; 26] = [
    "https://TRAP/PATH",
    "http://TRAP/PATH",
    "http://HOST/PATH",
    "https://HOST:PORT/PATH",
    "https://HOST@TRAP/PATH",
    "https://HOST:443@TRAP/PATH",
    "https://TRAP#@HOST/PATH",
    "https://TRAP\\@HOST/PATH",
    "https://TRAP/?@HOST/PATH",
    "https://HOST.evil.invalid/PATH",
    "https://HOST.:PORT/PATH",
    "https://localhost:PORT/PATH",
    "https://127.1:PORT/PATH",
    "https://2130706433:PORT/PATH",
    "https://0x7f000001:PORT/PATH",
    "https://017700000001:PORT/PATH",
    "https://[::1]:PORT/PATH",
    "https://[::ffff:127.0.0.1]:PORT/PATH",
    "https://169.254.169.254/PATH",
    "https://[fd00:ec2::254]/PATH",
    "https://10.0.0.1/PATH",
    "https://sns.s3-us-west-2.amazonaws.com/PATH",
    "file:///etc/passwd",
    "gopher://TRAP/1PATH",
    "//TRAP/PATH",
    "https://HOST/PATH?a=b",
];

/// Neither is one that a proof names, unless its host is listed; and then not where a resolver
/// says that it is, when that is not on the internet.
#[tokio::test]
async fn no_key_is_fetched_from_elsewhere() {
    let trap = TcpListener::bind("127.0.0.1:0").await.expect("a trap");
    let address = trap.local_addr().expect("address");
    let calls = tempfile::NamedTempFile::new().expect("a file");
    let trace = calls.path().to_str().expect("path");
    let wrapper = ["strace", "-f", "-qq", "-e", "trace=%network", "-o", trace];
    let (aws, paypal) = ("sns.us-east-1.amazonaws.com", "api.paypal.com");
    let sources = format!(
        "[fetch]\nresolve = {{ \"{aws}\" = \"{address}\", \"{paypal}\" = \"{address}\" }}\n\
         [sources.aws]\nprovider = \"sns\"\nconfirm = true\n\
         [sources.aws.config]\ntopics = [\"arn\"]\n\
         [sources.aws.verify]\ntolerance = \"0s\"\n\
         [sources.paypal]\nprovider = \"paypal-cert-url\"\n\
         [sources.paypal.config]\nwebhook_id = \"WH-1\"\n"
    );
    let setup = Setup::new().under(&wrapper).plain().sources(&sources);
    let gateway = setup.start().await;
    let sns = |url: &str| {
        let body = json!({
            "Type": "SubscriptionConfirmation", "MessageId": "m", "TopicArn": "arn",
            "Message": "a", "Token": "t", "Timestamp": "2026-01-01T00:00:00.000Z",
            "SignatureVersion": "2", "Signature": "QUJD", "SigningCertURL": url,
            "SubscribeURL": url,
        });
        Webhook::bare("/aws", body.to_string().as_bytes())
    };
    let transfer = |url: &str| {
        Webhook::bare("/paypal", b"{}")
            .with("PayPal-Transmission-Id", "t")
            .with("PayPal-Transmission-Time", "2026-01-01T00:00:00Z")
            .with("PayPal-Auth-Algo", "SHA256withRSA")
            .with("PayPal-Cert-Url", url)
            .with("PayPal-Transmission-Sig", "QUJD")
    };
    let fill = |url: &str, host: &str, path: &str| {
        url.replace("HOST", host)
            .replace("TRAP", &address.to_string())
            .replace("PORT", &address.port().to_string())
            .replace("PATH", path)
    };
    let certificate = "SimpleNotificationService-a.pem";
    let certs = "v1/notifications/certs/CERT-a";
    let mut sent = 0;
    for url in URLS {
        for webhook in [
            sns(&fill(url, aws, certificate)),
            transfer(&fill(url, paypal, certs)),
        ] {
            assert_eq!(gateway.send(&webhook).await.status, 401, "{webhook:?}");
            sent += 1;
        }
    }
    // The hosts are right, and a resolver lies about them.
    let lies = [
        sns(&fill("https://HOST/PATH", aws, certificate)),
        transfer(&fill("https://HOST/PATH", paypal, certs)),
    ];
    for webhook in lies {
        assert_eq!(gateway.send(&webhook).await.status, 503);
    }
    assert_untouched(&trap).await;
    let metrics = gateway.metrics().await;
    let labels = [("outcome", "address_not_allowed")];
    assert!((metrics.sum("hookgate_fetches_total", &labels) - 2.0).abs() < f64::EPSILON);
    assert!((metrics.sum("hookgate_fetches_total", &[]) - 2.0).abs() < f64::EPSILON);
    balance(&gateway).await;
    drop(gateway);
    let reached = reaching(calls.path());
    let connects: Vec<_> = reached
        .iter()
        .filter(|line| line.contains("connect("))
        .collect();
    assert_eq!(connects, Vec::<&String>::new());
    Row::new("X6.keys")
        .saw("requests with addresses of keys", sent)
        .saw("resolvers that lie", 2)
        .saw("outbound calls", 0)
        .write();
}
