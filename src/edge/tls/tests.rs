use std::path::PathBuf;

use rustls_pki_types::CertificateDer;

use super::*;
use crate::config::Limits;
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
        tls,
        limits,
    }
}

#[test]
fn the_certificate_is_chosen_by_name_and_the_first_is_for_the_rest() {
    let one = certificate(&["one.example"]);
    let wild = certificate(&["*.wild.example", "wild.example"]);
    let two = certificate(&["two.example", "one.example"]);
    let all = [one, wild, two];
    let certificates = Certificates::new(&all).unwrap();
    let chosen = |name: Option<&str>| {
        let chosen = certificates.find(name).unwrap();
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
fn certificates_can_be_replaced_but_not_by_none() {
    let (old, new) = (certificate(&["old.example"]), certificate(&["new.example"]));
    let certificates = Certificates::new(std::slice::from_ref(&old)).unwrap();
    let shown = || certificates.find(None).unwrap().cert.clone();
    let nothing = certificates.replace(&[]);
    assert!(matches!(nothing, Err(TlsError::NoCertificate)));
    assert_eq!(shown(), old.certified.cert);
    certificates.replace(std::slice::from_ref(&new)).unwrap();
    assert_eq!(shown(), new.certified.cert);
    assert!(matches!(
        Certificates::new(&[]),
        Err(TlsError::NoCertificate)
    ));
}

#[test]
fn a_self_signed_certificate_is_for_this_machine_and_where_it_listens() {
    let mut server = server(Some(Tls::SelfSigned), limits());
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
