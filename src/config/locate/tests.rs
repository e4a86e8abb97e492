use super::*;

#[track_caller]
fn check(text: &str, path: &[&str], at: At, expected: &str) {
    let source = Text {
        shown: "x".to_owned(),
        directory: PathBuf::new(),
        text: text.to_owned(),
    };
    let document = Document::parse(&source);
    let path: Vec<String> = path.iter().map(|&key| key.to_owned()).collect();
    let span = document.locate(&path, at).unwrap();
    assert_eq!(text.get(span), Some(expected));
}

const TEXT: &str = "\
[server]
listen = [\"a\", \"b\"]
tls = { cert = \"c\" }
[sources.x.verify]
key = \"utf8\"
[[sources.x.handshake]]
method = \"GET\"
[[sources.x.handshake]]
method = \"PUT\"
";

#[test]
fn a_path_leads_to_its_key_or_its_value() {
    check(TEXT, &["server", "listen"], At::Key, "listen");
    check(TEXT, &["server", "listen"], At::Value, "[\"a\", \"b\"]");
    check(TEXT, &["server", "listen", "1"], At::Value, "\"b\"");
    check(TEXT, &["server", "tls", "cert"], At::Value, "\"c\"");
    check(
        TEXT,
        &["sources", "x", "verify", "key"],
        At::Value,
        "\"utf8\"",
    );
    check(
        TEXT,
        &["sources", "x", "handshake", "1", "method"],
        At::Value,
        "\"PUT\"",
    );
}

#[test]
fn what_is_not_there_is_shown_by_what_is_above_it() {
    check(TEXT, &["server", "limits"], At::Value, "[server]");
    check(
        TEXT,
        &["server", "tls", "key"],
        At::Value,
        "{ cert = \"c\" }",
    );
    check(TEXT, &["server", "listen", "7"], At::Value, "listen");
    check(
        TEXT,
        &["sources", "x", "verify", "signed"],
        At::Value,
        "[sources.x.verify]",
    );
    check(TEXT, &["sources", "x", "path"], At::Value, "x");
    check(
        TEXT,
        &["sources", "x", "handshake", "1", "reply"],
        At::Value,
        "[[sources.x.handshake]]",
    );
}

fn masked(text: &str) -> Masked {
    let source = Text {
        shown: "x".to_owned(),
        directory: PathBuf::new(),
        text: text.to_owned(),
    };
    Document::parse(&source).mask()
}

#[test]
fn secrets_are_masked_wherever_they_may_stand() {
    for text in [
        "s = { value = \"CANARY\" }",
        "secrets = [\"CANARY\", { env = \"E\" }]",
        "secrets = [{ vaule = \"CANARY\" }]",
        "secret = \"CANARY\"",
        "[admin]\ntoken = \"CANARY\"",
        "urls = [\"amqp://u:CANARY@h\"]",
        "password = 'CANARY'",
        "[x]\nvalue = \"\"\"\na\nCANARY\n\"\"\"",
        "broker_password.a.b = \"CANARY\"",
        // Not TOML: no key is certain.
        "value = \"CANARY",
        "value = \"\"\"\na\nCANARY \\q\n\"\"\"\nx = 1",
        "a = { value = 'CANARY' } }",
        "urls = [amqp://u:CANARY@h\"]",
        "urls [amqp://u:CANARY@h\"]",
        "secrets = [\n  CANARY\",\n]",
        "key = \"\"\nMIICANARYMIICANARYMIICANARYMIICANARYMIICANARYMIICANARYMIICANARYMI==\n\"\"\"",
    ] {
        let masked = masked(text).text;
        assert!(!masked.contains("CANARY"), "{text}: {masked}");
        assert_eq!(masked.lines().count(), text.lines().count());
    }
}

#[test]
fn of_a_broken_file_keys_and_headers_are_shown() {
    let text = "[sources.x\nprovider = \"github\"\npath = = 5";
    assert_eq!(
        masked(text).text,
        "[sources.x\nprovider = \"******\"\npath = = ******"
    );
}

#[test]
fn references_are_not_masked() {
    let text =
        "secrets = [{ env = \"E\", label = \"L\" }, { file = \"/f\" }]\nalgorithm = \"token\"";
    assert_eq!(masked(text).text, text);
}

#[test]
fn a_mask_does_not_tell_the_length_of_a_secret() {
    let shown = "secret = { value = \"******\", labl = 1 }\nx = 1";
    for secret in ["Q", "abcdefghijk", "\u{e9}\u{4e2d}", "a b", "Q'R'"] {
        let text = shown.replace("******", secret);
        let masked = masked(&text);
        assert_eq!(masked.text, shown.replace("= 1 }", "= ****** }"));
        let at = |part: &str| {
            let start = text.find(part).unwrap();
            masked.text.get(masked.span(start..start + part.len()))
        };
        assert_eq!(at("value"), Some("value"));
        assert_eq!(at(secret), Some("******"));
        assert_eq!(at("labl"), Some("labl"));
        assert_eq!(at("x = 1"), Some("x = 1"));
        let start = text.find(secret).unwrap();
        assert_eq!(masked.text.get(masked.span(start..start)), Some(""));
        let quoted = start - 1..start + secret.len() + 1;
        assert_eq!(masked.text.get(masked.span(quoted)), Some("\"******\""));
    }
}
