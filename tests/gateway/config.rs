//! Configurations, through the program: the one that ships, and the corpus in `tests/configs`.
//!
//! What is said about each bad one, word for word, is a test of the configuration's own; here it
//! is the exit code, that the file is named, and that no secret is.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::support::balance::balance;
use crate::support::gateway::{Setup, cli, said};
use crate::support::webhook::Webhook;

/// What the shipped example and the corpus refer to by `{ env = "NAME" }`.
const ENVIRONMENT: [(&str, &str); 10] = [
    ("AMQP_URL", "amqps://user:CANARY@rabbit.example/vhost"),
    ("EMPTY", ""),
    ("GITHUB_SECRET", "CANARY-github"),
    ("GITHUB_WEBHOOK_SECRET", "CANARY-github-webhook"),
    ("HTTP_URL", "http://user:CANARY@rabbit.example/vhost"),
    ("ORDERS_SECRET", "CANARY-orders"),
    ("OTHER_SECRET", "CANARY-other"),
    ("SHOPIFY_WEBHOOK_SECRET", "CANARY-shopify"),
    ("SLACK_SIGNING_SECRET", "CANARY-slack"),
    ("STRIPE_WEBHOOK_SECRET", "CANARY-stripe"),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A copy of the corpus' folder with the secrets and certificates that it refers to.
fn corpus(folder: &str) -> (TempDir, Vec<PathBuf>) {
    let directory = tempfile::tempdir().expect("directory");
    let at = directory.path();
    copy(&root().join("tests/configs").join(folder), at);
    write(&at.join("secrets/good"), "CANARY-file\n", 0o600);
    write(&at.join("secrets/empty"), "\n", 0o600);
    write(&at.join("secrets/short"), "CANARY", 0o600);
    write(&at.join("secrets/short-whsec"), "whsec_CANARY", 0o600);
    write(&at.join("secrets/open"), "CANARY-open\n", 0o644);
    write(&at.join("credentials/passed"), "CANARY-credential", 0o400);
    for (name, from, to) in [
        ("good", 2020, 2040),
        ("other", 2020, 2040),
        ("expired", 2020, 2021),
        ("future", 2039, 2040),
    ] {
        let key = rcgen::KeyPair::generate().expect("key");
        let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("name");
        params.not_before = rcgen::date_time_ymd(from, 1, 1);
        params.not_after = rcgen::date_time_ymd(to, 1, 1);
        let certificate = params.self_signed(&key).expect("certificate");
        write(
            &at.join(format!("certs/{name}.pem")),
            &certificate.pem(),
            0o644,
        );
        write(
            &at.join(format!("certs/{name}.key")),
            &key.serialize_pem(),
            0o600,
        );
        if name == "good" {
            write(&at.join("certs/open.key"), &key.serialize_pem(), 0o644);
        }
    }
    write(&at.join("certs/text.pem"), "not a certificate", 0o600);
    let torn = "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n";
    write(&at.join("certs/torn.pem"), torn, 0o600);
    authorities(&at.join("certs"));
    let entries = std::fs::read_dir(at).expect("corpus");
    let mut files: Vec<_> = entries
        .map(|entry| entry.expect("entry").path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .collect();
    files.sort();
    assert!(!files.is_empty(), "tests/configs/{folder} is empty");
    (directory, files)
}

/// Authorities of clients, and their lists of what they have revoked.
fn authorities(at: &Path) {
    let authority = |name: &str, until: i32| {
        let mut params = rcgen::CertificateParams::new(Vec::new()).expect("parameters");
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        let key = rcgen::KeyPair::generate().expect("key");
        let authority = rcgen::CertifiedIssuer::self_signed(params, key).expect("authority");
        write(&at.join(format!("{name}.pem")), &authority.pem(), 0o644);
        authority
    };
    let partners = authority("partners", 2040);
    let suppliers = authority("suppliers", 2040);
    let past = authority("past", 2021);
    let bundle = partners.pem() + &past.pem();
    write(&at.join("bundle.pem"), &bundle, 0o644);
    for (name, issuer, until) in [
        ("partners", &partners, 2040),
        ("suppliers", &suppliers, 2040),
        ("ended", &partners, 2021),
    ] {
        let params = rcgen::CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(2020, 1, 1),
            next_update: rcgen::date_time_ymd(until, 1, 1),
            crl_number: rcgen::SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: Vec::new(),
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        let list = params.signed_by(issuer).expect("list");
        let list = list.pem().expect("PEM");
        write(&at.join(format!("{name}.crl")), &list, 0o644);
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("folder");
    let entries =
        std::fs::read_dir(from).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    for entry in entries {
        let path = entry.expect("entry").path();
        let target = to.join(path.file_name().expect("name"));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, &target).expect("copy");
        }
    }
}

fn write(path: &Path, text: &str, mode: u32) {
    std::fs::create_dir_all(path.parent().expect("folder")).expect("folder");
    std::fs::write(path, text).expect("file");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("mode");
}

async fn check(file: &Path) -> (Option<i32>, String) {
    let credentials = file.with_file_name("credentials").display().to_string();
    let mut environment = ENVIRONMENT.to_vec();
    environment.push(("CREDENTIALS_DIRECTORY", &credentials));
    let output = cli(&["check", "-c", file.to_str().expect("path")], &environment).await;
    (output.status.code(), said(&output))
}

#[tokio::test]
async fn the_shipped_configuration_is_good() {
    let (code, said) = check(&root().join("gateway.toml")).await;
    assert_eq!(code, Some(0), "{said}");
}

#[tokio::test]
async fn good_ones_load() {
    let (_directory, files) = corpus("good");
    for file in files {
        let (code, said) = check(&file).await;
        assert_eq!(code, Some(0), "{}: {said}", file.display());
        assert!(
            !said.contains("CANARY"),
            "{} gives a secret away: {said}",
            file.display()
        );
    }
}

#[tokio::test]
async fn bad_ones_exit_78_and_say_why() {
    let (_directory, files) = corpus("bad");
    for file in files {
        let (code, said) = check(&file).await;
        assert_eq!(code, Some(78), "{}: {said}", file.display());
        let name = file.file_name().expect("name").to_string_lossy();
        assert!(
            said.contains(&*name),
            "{} is not named: {said}",
            file.display()
        );
        assert!(said.contains("error: "), "{}: {said}", file.display());
        assert!(!said.contains("panicked"), "{}: {said}", file.display());
        assert!(
            !said.contains("CANARY"),
            "{} gives a secret away: {said}",
            file.display()
        );
    }
}

#[tokio::test]
async fn every_mistake_is_told_in_one_run_with_its_place() {
    let gateway = Setup::new().prepare();
    let text = "[server]\nlisten = [\"nowhere\"]\ntls = \"off\"\n\
                [server.limits]\nmax_bodi = \"1MiB\"\nidle_timeout = \"soon\"\n\
                [sources.github]\nprovider = \"gihub\"\nsecrets = [{ value = \"s\" }]\n\
                [sources.open]\n";
    gateway.edit(|_| text.to_owned());
    let output = gateway.cli(&["check"]).await;
    let said = said(&output);
    assert_eq!(output.status.code(), Some(78), "{said}");
    for part in [
        "nowhere", "max_bodi", "max_body", "soon", "gihub", "github", "open",
    ] {
        assert!(said.contains(part), "no {part}: {said}");
    }
    for place in [
        "gateway.toml:2",
        "gateway.toml:5",
        "gateway.toml:6",
        "gateway.toml:8",
    ] {
        assert!(said.contains(place), "no {place}: {said}");
    }
}

#[tokio::test]
async fn a_source_that_proves_nothing_is_shouted() {
    let open = "[sources.open]\nverify = \"insecure-none\"\n";
    let gateway = Setup::new().sources(open).prepare();
    let output = gateway.cli(&["check"]).await;
    let said = said(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(
        said.contains("insecure-none") && said.contains("open"),
        "{said}"
    );
}

#[tokio::test]
async fn secrets_are_in_no_output() {
    let secret = "canary-7d1f0c-in-a-secret";
    let sources = "[sources.github]\nprovider = \"github\"\n\
                   secrets = [{ value = \"canary-7d1f0c-in-a-secret\" }]\n";
    let gateway = Setup::new().sources(sources).start().await;
    let webhook = Webhook::github("/github", "push", "x", br#"{"a":1}"#);
    assert_eq!(gateway.send(&webhook).await.status, 401);
    balance(&gateway).await;
    let mut all = gateway.log();
    for page in ["/metrics", "/readyz?verbose"] {
        all.push_str(&String::from_utf8_lossy(&gateway.admin(page).await.body));
    }
    for arguments in [
        ["check"].as_slice(),
        &["status"],
        &["asyncapi"],
        &["schema"],
    ] {
        all.push_str(&said(&gateway.cli(arguments).await));
    }
    assert!(!all.contains(secret));
}
