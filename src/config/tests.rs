//! Runs the corpus in `tests/configs`: what is good loads, what is bad says why, word for word.
//! `UPDATE_EXPECT=1` writes the words anew.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use tempfile::TempDir;

use super::*;

/// Part of every secret of the corpus.
pub(crate) const CANARY: &str = "CANARY";

/// A copy of a folder of the corpus, with certificates, keys and secrets beside it.
pub(crate) struct Corpus {
    directory: TempDir,
    folder: &'static str,
}

impl Corpus {
    pub(crate) fn new(folder: &'static str) -> Self {
        let corpus = Self {
            directory: tempfile::tempdir().unwrap(),
            folder,
        };
        copy(&corpus.origin(), corpus.directory.path());
        corpus.make_secrets();
        corpus.make_certificates();
        corpus
    }

    fn origin(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/configs")
            .join(self.folder)
    }

    fn make_secrets(&self) {
        self.write("secrets/good", &format!("{CANARY}-file\n"), 0o600);
        self.write("secrets/empty", "\n", 0o600);
        self.write("secrets/short", CANARY, 0o600);
        self.write("secrets/short-whsec", &format!("whsec_{CANARY}"), 0o600);
        self.write("secrets/open", &format!("{CANARY}-open\n"), 0o644);
        self.write("credentials/passed", &format!("{CANARY}-credential"), 0o400);
    }

    fn make_certificates(&self) {
        let pair = |name: &str, from: i32, to: i32| {
            let key = rcgen::KeyPair::generate().unwrap();
            let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
            params.not_before = rcgen::date_time_ymd(from, 1, 1);
            params.not_after = rcgen::date_time_ymd(to, 1, 1);
            let certificate = params.self_signed(&key).unwrap();
            self.write(&format!("certs/{name}.pem"), &certificate.pem(), 0o644);
            self.write(&format!("certs/{name}.key"), &key.serialize_pem(), 0o600);
        };
        self.make_authorities();
        pair("good", 2020, 2040);
        pair("other", 2020, 2040);
        pair("expired", 2020, 2021);
        pair("future", 2039, 2040);
        self.write("certs/text.pem", "not a certificate", 0o600);
        self.write(
            "certs/torn.pem",
            "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n",
            0o600,
        );
        let key = fs::read_to_string(self.directory.path().join("certs/good.key")).unwrap();
        self.write("certs/open.key", &key, 0o644);
    }

    fn make_authorities(&self) {
        let authority = |name: &str, from: i32, to: i32| {
            let key = rcgen::KeyPair::generate().unwrap();
            let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
            params.distinguished_name = rcgen::DistinguishedName::new();
            params
                .distinguished_name
                .push(rcgen::DnType::CommonName, name);
            params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            params.not_before = rcgen::date_time_ymd(from, 1, 1);
            params.not_after = rcgen::date_time_ymd(to, 1, 1);
            let certificate = params.self_signed(&key).unwrap();
            self.write(&format!("certs/{name}.pem"), &certificate.pem(), 0o644);
            rcgen::Issuer::new(params, key)
        };
        let list = |name: &str, issuer: &rcgen::Issuer<'_, rcgen::KeyPair>, to: i32| {
            let params = rcgen::CertificateRevocationListParams {
                this_update: rcgen::date_time_ymd(2020, 1, 1),
                next_update: rcgen::date_time_ymd(to, 1, 1),
                crl_number: rcgen::SerialNumber::from(1),
                issuing_distribution_point: None,
                revoked_certs: Vec::new(),
                key_identifier_method: rcgen::KeyIdMethod::Sha256,
            };
            let list = params.signed_by(issuer).unwrap();
            self.write(&format!("certs/{name}.crl"), &list.pem().unwrap(), 0o644);
        };
        let partners = authority("partners", 2020, 2040);
        let suppliers = authority("suppliers", 2020, 2040);
        authority("past", 2020, 2021);
        list("partners", &partners, 2040);
        list("suppliers", &suppliers, 2040);
        list("ended", &partners, 2021);
        let read = |name: &str| fs::read_to_string(self.path(name)).unwrap();
        let bundle = read("certs/partners.pem") + &read("certs/past.pem");
        self.write("certs/bundle.pem", &bundle, 0o644);
    }

    pub(crate) fn write(&self, name: &str, text: &str, mode: u32) {
        let path = self.directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// An environment that is the same on every machine.
    pub(crate) fn surroundings(&self) -> Surroundings {
        let credentials = self.path("credentials").into_os_string();
        let variable = move |name: &str| {
            Some(match name {
                "GITHUB_SECRET" => OsString::from(format!("{CANARY}-github")),
                "OTHER_SECRET" => OsString::from(format!("{CANARY}-other")),
                "AMQP_URL" => OsString::from(format!("amqps://user:{CANARY}@rabbit.example/vhost")),
                "HTTP_URL" => OsString::from(format!("http://user:{CANARY}@rabbit.example/vhost")),
                "EMPTY" => OsString::new(),
                "CREDENTIALS_DIRECTORY" => credentials.clone(),
                _ => return None,
            })
        };
        Surroundings::new(
            variable,
            Some(20_000),
            "2026-06-01T00:00:00Z".parse::<Timestamp>().unwrap(),
        )
    }

    pub(crate) fn load(&self, name: &str) -> Result<Loaded, Invalid> {
        Config::load_in(&self.path(name), &self.surroundings())
    }

    /// The configurations, without the files that they include.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.origin()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|name| name.ends_with(".toml")).collect();
        names.sort();
        names
    }

    /// Compares what was said with the file that has the words.
    fn check(&self, name: &str, said: &str) -> Result<(), String> {
        let said = said.replace(&format!("{}/", self.directory.path().display()), "");
        assert!(
            !said.contains(CANARY),
            "{name} gives a secret away:\n{said}"
        );
        let path = self.origin().join(name).with_extension("expected");
        let expected = fs::read_to_string(&path).unwrap_or_default();
        if said == expected {
            return Ok(());
        }
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            fs::write(&path, said).unwrap();
            return Ok(());
        }
        Err(format!(
            "=== {name} says\n{said}\n--- instead of\n{expected}\n"
        ))
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn bad_configurations_say_what_is_wrong() {
    let corpus = Corpus::new("bad");
    let names = corpus.names();
    assert!(names.len() >= 60, "{}", names.len());
    let mut differ = Vec::new();
    for name in names {
        match corpus.load(&name) {
            Ok(_) => panic!("{name} loads"),
            Err(invalid) => {
                differ.extend(corpus.check(&name, &format!("{invalid}\n")).err());
            }
        }
    }
    assert!(
        differ.is_empty(),
        "{}UPDATE_EXPECT=1 accepts this",
        differ.concat()
    );
}

#[test]
fn good_configurations_load() {
    let corpus = Corpus::new("good");
    for name in corpus.names() {
        let loaded = corpus
            .load(&name)
            .unwrap_or_else(|invalid| panic!("{name}:\n{invalid}"));
        let warnings: Vec<String> = loaded.warnings.iter().map(|it| format!("{it}\n")).collect();
        corpus.check(&name, &warnings.join("\n")).unwrap();
        let shown = format!(
            "{:?} {:?} {:?}",
            loaded.config, loaded.warnings, loaded.summaries
        );
        assert!(!shown.contains(CANARY), "{name} gives a secret away");
    }
}

#[test]
fn what_is_not_said_has_the_documented_default() {
    let config = Corpus::new("good").load("minimal.toml").unwrap().config;
    let shown = format!("{:?}", config.server.limits);
    assert_eq!(
        shown,
        "Limits { connections_max: 10000, connections_per_peer_max: 256, \
         requests_in_flight_max: 4096, bytes_in_flight_max: 268435456, body_bytes_max: 1048576, \
         handshake_timeout: 5s, header_timeout: 5s, body_timeout: 10s, idle_timeout: 60s, \
         accept_timeout: 2s, drain_timeout: 25s }"
    );
    assert_eq!(config.server.listen, ["0.0.0.0:8443".parse().unwrap()]);
    assert_eq!(config.admin.listen, "127.0.0.1:9090".parse().unwrap());
    assert!(config.broker.is_none() && config.server.tls.is_none());
    assert_eq!(config.journal.bytes_max, 1 << 30);
    assert_eq!(config.journal.retain, Duration::from_secs(86_400));
    assert!(config.journal.path.ends_with("data/journal"));

    let [source] = config.sources.as_slice() else {
        panic!("{:?}", config.sources)
    };
    assert_eq!((&*source.name, source.path.as_str()), ("github", "/github"));
    assert_eq!(source.methods, [http::Method::POST]);
    assert_eq!(source.dedupe, Some(Duration::from_secs(86_400)));
    assert_eq!(
        source.routing_key.render("github", Some("push")),
        "github.push"
    );
    assert_eq!(source.reply.status, http::StatusCode::ACCEPTED);
    assert!(source.enforce && source.reply.body.is_none());
}

#[test]
fn what_is_said_is_what_is_meant() {
    let corpus = Corpus::new("good");
    let loaded = corpus.load("kitchen-sink.toml").unwrap();
    let config = loaded.config;
    let tls = config.server.tls.as_ref().unwrap();
    let Shown::Certificates(certificates) = &tls.shown else {
        panic!()
    };
    assert_eq!(certificates.len(), 2);
    assert!(tls.clients.is_some());
    assert_eq!(tls.unknown_name, UnknownName::Refuse);
    assert!(config.server.proxy_protocol);
    assert_eq!(
        config.server.public_url.as_deref(),
        Some("https://hooks.example.net")
    );
    let broker = config.broker.as_ref().unwrap();
    assert_eq!(&*broker.urls[0].label, "AMQP_URL");
    assert_eq!(broker.cloudevents.as_deref(), Some("ce-"));
    assert_eq!(broker.queues[1].kind, QueueKind::Stream);

    let stripe = config
        .sources
        .iter()
        .find(|source| &*source.name == "stripe")
        .unwrap();
    assert_eq!(stripe.path, "/in/stripe");
    assert_eq!(stripe.body.bytes_max, 65_536);
    assert_eq!(stripe.dedupe, None);
    assert_eq!(stripe.methods, [http::Method::POST, http::Method::PUT]);
    assert_eq!(
        stripe.forward_headers,
        [(
            http::HeaderName::from_static("stripe-signature"),
            "http_stripe_signature".to_owned()
        )]
    );
    assert_eq!(stripe.reply.body.as_deref(), Some("ok"));
    let labels = &loaded
        .summaries
        .iter()
        .find(|it| &*it.name == "stripe")
        .unwrap()
        .secrets;
    assert_eq!(
        labels.iter().map(|label| &**label).collect::<Vec<_>>(),
        ["2026", "good", "passed"]
    );
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let invalid = Config::load(Path::new("/nowhere/gateway.toml")).unwrap_err();
    assert!(
        invalid
            .to_string()
            .contains("\"/nowhere/gateway.toml\": there is no such file")
    );
}

/// Ten thousand sources take a second at most in release, and not the square of anything.
#[test]
fn the_cost_of_loading_grows_with_the_sources() {
    let corpus = Corpus::new("good");
    let mut text = "[server]\ntls = \"off\"\n".to_owned();
    for number in 0..10_000 {
        text.push_str(&format!(
            "[sources.s{number}]\nprovider = \"github\"\nsecrets = [{{ env = \"GITHUB_SECRET\" }}]\n"
        ));
    }
    corpus.write("many.toml", &text, 0o600);
    assert_eq!(
        corpus.load("many.toml").unwrap().config.sources.len(),
        10_000
    );
}

/// Wherever a file breaks off, it is refused or read, and its secrets stay secret.
#[test]
fn a_torn_file_gives_no_secret_away() {
    let corpus = Corpus::new("good");
    let text = fs::read_to_string(corpus.path("warnings.toml")).unwrap();
    let begun = CANARY.split_at(4).0;
    for end in 0..text.len() {
        let cut: String = text.chars().take(end).collect();
        let holed: String = cut.chars().chain(text.chars().skip(end + 1)).collect();
        for torn in [cut, holed] {
            corpus.write("torn.toml", &torn, 0o600);
            let said = match corpus.load("torn.toml") {
                Ok(loaded) => format!("{:?} {:?}", loaded.warnings, loaded.config),
                Err(invalid) => format!("{invalid} {invalid:?}"),
            };
            assert!(!said.contains(begun), "torn at {end}:\n{said}");
        }
    }
}

#[test]
fn segments_leave_room_for_each_other() {
    for (journal, segment) in [(8 << 20, 1 << 20), (64 << 20, 8 << 20), (1 << 30, 64 << 20)] {
        assert_eq!(journal_segment_bytes(journal), segment);
    }
}
