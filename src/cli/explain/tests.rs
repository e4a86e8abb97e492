use super::*;

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
    let objects: Vec<serde_json::Value> = lines
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
    assert_eq!((exit, lines.len()), (Exit::Failure, 1));
    assert!(lines[0].contains("signature_absent"), "{lines:?}");
}
