use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::*;
use crate::providers;

const CONFIG: &str = r#"
[server]
tls = "off"
[sources.github]
provider = "github"
secrets = [{ value = "s3cr3t" }]
"#;

/// What is said of files that are and are not there.
fn run_over(names: &[&str], json: bool) -> (Exit, Vec<String>) {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::write(at("gateway.toml"), CONFIG).unwrap();
    fs::write(at("request"), "POST /github HTTP/1.1\n\n{}").unwrap();
    let args = ExplainArgs {
        files: names.iter().map(|name| at(name)).collect(),
        source: "github".to_owned(),
        at: None,
        evidence: None,
        client_certificate: None,
        json,
        config: ConfigArg {
            config: at("gateway.toml"),
        },
    };
    let mut out = Vec::new();
    let exit = run(&args, &mut out).unwrap();
    let said = String::from_utf8(out).unwrap();
    (exit, said.lines().map(str::to_owned).collect())
}

#[test]
fn a_file_that_cannot_be_read_does_not_hide_the_next() {
    let (exit, lines) = run_over(&["absent", "request"], true);
    assert_eq!(exit, Exit::Failure);
    let objects: Vec<Value> = lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let [absent, request] = objects.as_slice() else {
        panic!("{objects:?}")
    };
    let keys: Vec<&str> = absent
        .as_object()
        .unwrap()
        .keys()
        .map(|key| &**key)
        .collect();
    assert_eq!(keys, ["detail", "file", "reason", "status", "verdict"]);
    assert_eq!(absent["verdict"], "reject");
    assert_eq!(
        (&absent["status"], &absent["reason"]),
        (&0.into(), &"unreadable".into())
    );
    assert!(absent["file"].as_str().unwrap().ends_with("/absent"));
    assert!(absent["detail"].as_str().unwrap().contains("No such file"));
    assert_eq!(request["reason"], "signature_absent");
}

#[test]
fn without_json_only_what_was_judged_is_data() {
    let (exit, lines) = run_over(&["absent", "request"], false);
    // A line with the verdict, and one with a remark.
    assert_eq!((exit, lines.len()), (Exit::Failure, 2));
    assert!(lines[0].contains("signature_absent"), "{lines:?}");
}

/// Where the sender says that its key is, for the vectors of such senders: what their `secret` is,
/// is there.
fn fetched_from(provider: &str, vector: &Value) -> Option<String> {
    if !["connectwise", "paypal_cert_url", "sns"].contains(&provider) {
        return None;
    }
    let body = STANDARD.decode(vector["body_base64"].as_str()?).ok()?;
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    [
        &vector["headers"]["PayPal-Cert-Url"],
        &body["SigningCertURL"],
        &body["Metadata"]["key_url"],
    ]
    .into_iter()
    .find_map(|url| url.as_str().map(str::to_owned))
}

/// Saves what a vector's sender would have had fetched.
fn save_evidence(folder: &Path, provider: &str, vector: &Value) {
    let Some(url) = fetched_from(provider, vector) else {
        return;
    };
    let name = url.rsplit('/').next().unwrap();
    fs::write(folder.join(name), vector["secret"].as_str().unwrap()).unwrap();
    if let Some(authority) = vector["authority"].as_str() {
        fs::write(folder.join("authority.pem"), authority).unwrap();
    }
}

/// A configuration with the source that a vector is for.
fn config_of(provider: &str, vector: &Value) -> String {
    let text = |value: &Value| toml::Value::String(value.as_str().unwrap().to_owned()).to_string();
    let url: http::Uri = vector["url"].as_str().unwrap().parse().unwrap();
    let secrets = std::iter::once(&vector["secret"])
        .chain(vector["extra_secrets"].as_array().into_iter().flatten())
        .enumerate()
        .map(|(n, secret)| format!("{{ value = {}, label = \"{n}\" }}", text(secret)));
    let secrets: Vec<String> = secrets.collect();
    let mut config = format!(
        "[server]\ntls = \"off\"\npublic_url = \"{}://{}\"\n",
        url.scheme_str().unwrap(),
        url.authority().unwrap(),
    );
    if vector["authority"].is_string() {
        config.push_str("[fetch]\nca = \"authority.pem\"\n");
    }
    config.push_str(&format!("[sources.one]\npath = \"{}\"\n", url.path()));
    if fetched_from(provider, vector).is_none() {
        config.push_str(&format!("secrets = [{}]\n", secrets.join(", ")));
    }
    if vector["method"] == "GET" {
        // No event comes with it, and handshakes are verified, too.
        config.push_str("handshake = [{ method = \"GET\", has = [\"query:never\"] }]\n");
    } else {
        config.push_str(&format!("methods = [{}]\n", text(&vector["method"])));
    }
    let is_message = vector["verify"].is_object();
    if !is_message {
        config.push_str(&format!("provider = \"{provider}\"\n"));
    }
    let mut table = |name: &str, entries: &Value| {
        config.push_str(&format!("[sources.one.{name}]\n"));
        for (key, value) in entries.as_object().into_iter().flatten() {
            config.push_str(&format!(
                "{key} = {}\n",
                toml::Value::try_from(value).unwrap()
            ));
        }
    };
    // What a handshake asks for.
    let mut more = vector["config"].as_object().cloned().unwrap_or_default();
    let preset = providers::text(provider).unwrap_or_default();
    for key in ["verify_token", "service_id", "topics", "key_url"] {
        if preset.contains(&format!("config:{key}")) {
            more.entry(key).or_insert_with(|| "t1".into());
        }
    }
    table("config", &Value::Object(more));
    if is_message {
        table("verify", &vector["verify"]);
        config.push_str("algorithm = \"rfc9421\"\n");
    }
    config
}

fn request_of(vector: &Value) -> Vec<u8> {
    let url: http::Uri = vector["url"].as_str().unwrap().parse().unwrap();
    let mut head = format!(
        "{} {} HTTP/1.1\r\n",
        vector["method"].as_str().unwrap(),
        url.path_and_query().unwrap()
    );
    for (name, value) in vector["headers"].as_object().unwrap() {
        head.push_str(&format!("{name}: {}\r\n", value.as_str().unwrap()));
    }
    let body = STANDARD
        .decode(vector["body_base64"].as_str().unwrap())
        .unwrap();
    [head.as_bytes(), b"\r\n", body.as_slice()].concat()
}

/// What comes after the proof turns away some vectors: not every one is an event.
fn is_proved(said: &Value) -> bool {
    let is_refused = said["status"] == 401 || said["reason"] == "evidence_unavailable";
    !is_refused && said["reason"] != "unreadable"
}

#[test]
fn every_vector_is_judged_as_it_should() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let directory = tempfile::tempdir().unwrap();
    let (config, request) = (
        directory.path().join("c.toml"),
        directory.path().join("request"),
    );
    let mut accepted = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let provider = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if provider == "handshakes" {
            continue;
        }
        let vectors: Vec<Value> = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        for vector in &vectors {
            fs::write(&config, config_of(&provider, vector)).unwrap();
            save_evidence(directory.path(), &provider, vector);
            let expected = vector["expect"] == "accept";
            let bytes = request_of(vector);
            let mut at = vector["now_unix"].as_i64().unwrap();
            let judge = |bytes: &[u8], at: i64| {
                fs::write(&request, bytes).unwrap();
                let args = ExplainArgs {
                    files: vec![request.clone()],
                    source: "one".to_owned(),
                    at: Some(at),
                    evidence: Some(directory.path().to_owned()),
                    client_certificate: None,
                    json: true,
                    config: ConfigArg {
                        config: config.clone(),
                    },
                };
                let mut out = Vec::new();
                run(&args, &mut out).unwrap_or_else(|failure| panic!("{vector}: {failure:?}"));
                serde_json::from_slice::<Value>(&out).unwrap()
            };
            let said = judge(&bytes, at);
            assert_eq!(is_proved(&said), expected, "{} {said}", vector["id"]);
            if !expected {
                continue;
            }
            accepted += 1;
            if said["detail"]
                .as_str()
                .unwrap()
                .contains("body coverage: full")
            {
                let mut changed = bytes.clone();
                *changed.last_mut().unwrap() ^= 1;
                let said = judge(&changed, at);
                assert_eq!(said["status"], 401, "{} {said}", vector["id"]);
            }
            at += 7 * 86_400;
            let said = judge(&bytes, at);
            let reason = said["reason"].as_str().unwrap();
            let is_stale = matches!(
                reason,
                "timestamp_stale" | "signature_expired" | "token_expired" | "token_old"
            );
            assert!(is_stale || is_proved(&said), "{} {said}", vector["id"]);
        }
    }
    assert!(accepted > 110, "{accepted}");
}
