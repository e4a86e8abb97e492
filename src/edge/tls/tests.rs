use std::path::PathBuf;

use rustls_pki_types::CertificateDer;

use super::*;
use crate::config::{Files, Limits};
use crate::edge::testing::limits;

/// A certificate for these names, signed by itself.
pub(crate) fn certificate(names: &[&str]) -> Certificate {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let chain = vec![made.cert.der().clone()];
    let certified = CertifiedKey::from_der(chain, key, &provider::default_provider()).unwrap();
    Certificate {
        path: PathBuf::from("test.pem"),
        not_after: jiff::Timestamp::MAX,
        certified: Arc::new(certified),
    }
}

pub(crate) fn leaf(certificate: &Certificate) -> &CertificateDer<'static> {
    &certificate.certified.cert[0]
}

pub(crate) fn server(tls: Option<Tls>, limits: Limits) -> Server {
    Server {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        public_url: None,
        trusted_proxies: Vec::new(),
        proxy_protocol: false,
        tls,
        limits,
    }
}

/// These certificates, from nowhere.
pub(crate) fn showing(certificates: Vec<Certificate>) -> Tls {
    tls(Shown::Certificates(certificates))
}

fn tls(shown: Shown) -> Tls {
    let files = Files::default();
    Tls {
        shown,
        unknown_name: UnknownName::First,
        clients: None,
        fingerprint: files.read().fingerprint(),
        files,
    }
}

#[test]
fn the_certificate_is_chosen_by_name_and_the_first_is_for_the_rest() {
    let one = certificate(&["one.example"]);
    let wild = certificate(&["*.wild.example", "wild.example"]);
    let two = certificate(&["two.example", "one.example"]);
    let all = [one, wild, two];
    let names = Names::new(&all, None, UnknownName::First).unwrap();
    let chosen = |name: Option<&str>| {
        let chosen = names.find(name).unwrap();
        let found = all
            .iter()
            .position(|known| known.certified.cert == chosen.cert);
        found.unwrap()
    };
    assert_eq!(chosen(Some("one.example")), 0);
    assert_eq!(chosen(Some("ONE.example")), 0);
    assert_eq!(chosen(Some("wild.example")), 1);
    assert_eq!(chosen(Some("a.wild.example")), 1);
    assert_eq!(chosen(Some("a.b.wild.example")), 0);
    assert_eq!(chosen(Some("two.example")), 2);
    assert_eq!(chosen(Some("three.example")), 0);
    assert_eq!(chosen(Some("not a name")), 0);
    assert_eq!(chosen(None), 0);
}

#[test]
fn a_name_that_no_certificate_is_for_can_be_refused() {
    let all = [
        certificate(&["one.example"]),
        certificate(&["*.wild.example"]),
    ];
    let names = Names::new(&all, None, UnknownName::Refuse).unwrap();
    let is_shown = |name: Option<&str>| names.find(name).is_some();
    assert!(is_shown(Some("one.example")) && is_shown(Some("a.wild.example")));
    for name in [
        Some("two.example"),
        Some("wild.example"),
        Some("a.b.wild.example"),
        None,
    ] {
        assert!(!is_shown(name), "{name:?}");
    }
}

#[test]
fn nothing_to_show_is_refused_and_changes_nothing() {
    let server = server(None, limits());
    let nothing = Identity::new(&server, &showing(Vec::new()));
    assert!(matches!(nothing, Err(TlsError::NoCertificate)));
    let identity = Identity::new(&server, &showing(vec![certificate(&["h.example"])])).unwrap();
    let before = identity.config();
    let nothing = identity.replace(&[], None);
    assert!(matches!(nothing, Err(TlsError::NoCertificate)));
    assert!(Arc::ptr_eq(&before, &identity.config()));
    let new = certificate(&["new.example"]);
    identity.replace(std::slice::from_ref(&new), None).unwrap();
    assert!(!Arc::ptr_eq(&before, &identity.config()));
    let made = Identity::new(&server, &tls(Shown::SelfSigned)).unwrap();
    // Its own certificate is not from a file, and stays.
    made.replace(&[], None).unwrap();
}

#[test]
fn a_self_signed_certificate_is_for_this_machine_and_where_it_listens() {
    let mut server = server(None, limits());
    server.listen = vec![
        "0.0.0.0:1".parse().unwrap(),
        "192.0.2.7:1".parse().unwrap(),
        "[2001:db8::7]:1".parse().unwrap(),
    ];
    let key = self_signed(&server).unwrap();
    let names = ["localhost", "127.0.0.1", "::1", "192.0.2.7", "2001:db8::7"];
    for name in names {
        assert!(is_for(&key, &ServerName::try_from(name).unwrap()), "{name}");
    }
    for name in ["0.0.0.0", "192.0.2.8", "example.com"] {
        assert!(
            !is_for(&key, &ServerName::try_from(name).unwrap()),
            "{name}"
        );
    }
}

#[test]
fn a_fingerprint_looks_as_openssl_shows_it() {
    let text = fingerprint(b"");
    assert!(text.starts_with("E3:B0:C4:42:98:FC:1C:14"), "{text}");
    assert_eq!(text.len(), 32 * 3 - 1);
}

/// The files of a folder, as the configuration reads them.
fn clients_of(folder: &std::path::Path) -> Clients {
    let files = Files {
        client_ca: Some(folder.join("ca.pem")),
        ..Files::default()
    };
    let material = files.read().take(crate::clock::Now::read().wall).unwrap();
    material.clients.unwrap()
}

#[test]
fn whoever_shows_a_certificate_shows_it_each_time() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["partner".to_owned()]).unwrap();
    std::fs::write(folder.path().join("ca.pem"), made.cert.pem()).unwrap();
    let is_resumed =
        |config: &ServerConfig| config.ticketer.enabled() || config.session_storage.can_cache();
    let shown = certificate(&["h.example"]);
    let identity = Identity::new(&server(None, limits()), &showing(vec![shown])).unwrap();
    assert!(is_resumed(&identity.config()));
    let (shown, clients) = (certificate(&["h.example"]), clients_of(folder.path()));
    identity.replace(&[shown], Some(&clients)).unwrap();
    let config = identity.config();
    assert!(!is_resumed(&config));
    assert_eq!(config.send_tls13_tickets, 0);
    assert_eq!(config.max_early_data_size, 0);
}
