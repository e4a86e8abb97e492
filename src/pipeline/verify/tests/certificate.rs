//! Proofs by the certificate of the connection.

use super::*;
use crate::config::raw::RawHolder;
use crate::pipeline::certificate::ClientCertificate;

const FINGERPRINT: &str = "4355a46b19d348dc2f57c046f8ef63d4538ebb936000f3c9ee954a27460dd865";

fn shown() -> ClientCertificate {
    ClientCertificate {
        subject: "CN=partner, O=Partner Inc.".to_owned(),
        issuer: "CN=Partners CA".to_owned(),
        serial: "0a:ff".to_owned(),
        names: texts(&["dns:partner.example", "ip:192.0.2.7", "ip:2001:db8::7"]),
        fingerprint: FINGERPRINT.to_owned(),
    }
}

fn table(holder: RawHolder) -> RawScheme {
    RawScheme {
        algorithm: Some("client-certificate".to_owned()),
        holder,
        ..RawScheme::default()
    }
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

fn with(certificate: Option<ClientCertificate>) -> Inbound {
    let mut inbound = inbound(&[], BODY);
    inbound.head.certificate = certificate.map(Arc::new);
    inbound
}

#[test]
fn each_list_that_is_given_must_have_one_of_the_values() {
    for (holder, fits) in [
        (
            RawHolder {
                subject: texts(&["CN=x", "CN=partner, O=Partner Inc."]),
                ..RawHolder::default()
            },
            true,
        ),
        (
            RawHolder {
                subject: texts(&["CN=partner"]),
                ..RawHolder::default()
            },
            false,
        ),
        (
            RawHolder {
                san: texts(&["dns:PARTNER.example"]),
                ..RawHolder::default()
            },
            true,
        ),
        (
            RawHolder {
                san: texts(&["uri:partner.example"]),
                ..RawHolder::default()
            },
            false,
        ),
        (
            RawHolder {
                san: texts(&["dns:example"]),
                ..RawHolder::default()
            },
            false,
        ),
        (
            RawHolder {
                san: texts(&["ip:192.0.2.7"]),
                ..RawHolder::default()
            },
            true,
        ),
        (
            RawHolder {
                san: texts(&["ip:2001:DB8:0::7"]),
                ..RawHolder::default()
            },
            true,
        ),
        (
            RawHolder {
                issuer: texts(&["CN=Partners CA"]),
                ..RawHolder::default()
            },
            true,
        ),
        (
            RawHolder {
                issuer: texts(&["CN=Other CA"]),
                ..RawHolder::default()
            },
            false,
        ),
        (
            RawHolder {
                fingerprint: texts(&[&FINGERPRINT.to_uppercase()]),
                ..RawHolder::default()
            },
            true,
        ),
        (
            RawHolder {
                san: texts(&["dns:partner.example"]),
                issuer: texts(&["CN=Other CA"]),
                ..RawHolder::default()
            },
            false,
        ),
    ] {
        let verifier = compile_with(vec![table(holder.clone())], &[]).unwrap();
        let proof = verify(&verifier, with(Some(shown())));
        assert_eq!(proof.is_ok(), fits, "{holder:?}: {proof:?}");
        match proof {
            Ok(proof) => assert_eq!((proof.coverage, proof.key), (Coverage::Token, None)),
            Err(refusal) => assert_eq!(refusal.label(), "certificate_mismatch"),
        }
        let refusal = verify(&verifier, with(None)).unwrap_err();
        assert_eq!(refusal, Refusal::CertificateAbsent);
    }
}

#[test]
fn beside_a_signature_both_must_hold() {
    let holder = RawHolder {
        san: texts(&["dns:partner.example"]),
        ..RawHolder::default()
    };
    let verifier = compile_with(vec![plain(), table(holder)], &[SECRET.as_bytes()]).unwrap();
    let mut both = signed(&verifier, with(Some(shown())));
    let proof = verify(&verifier, both.clone()).unwrap();
    assert_eq!(
        (proof.coverage, proof.key.as_deref()),
        (Coverage::Full, Some("new"))
    );
    let unsigned = verify(&verifier, with(Some(shown()))).unwrap_err();
    assert_eq!(unsigned.label(), "signature_absent");
    both.head.certificate = None;
    assert_eq!(
        verify(&verifier, both).unwrap_err(),
        Refusal::CertificateAbsent
    );
}

/// A request that only pretends to be spoiled would be taken for a proof that works.
#[test]
fn a_proof_by_the_connection_is_not_spoiled() {
    let holder = RawHolder {
        subject: texts(&["CN=partner"]),
        ..RawHolder::default()
    };
    let verifier = compile_with(vec![table(holder.clone())], &[]).unwrap();
    let mut inbound = with(None);
    let refused = verifier.spoil(&mut inbound.head).unwrap_err();
    assert!(refused.contains("nothing to spoil"), "{refused}");
    let both = compile_with(vec![plain(), table(holder)], &[SECRET.as_bytes()]).unwrap();
    both.spoil(&mut signed(&both, inbound).head).unwrap();
}

#[test]
fn mistakes_are_told() {
    let mistake = |edit: fn(&mut RawScheme)| {
        let mut table = table(RawHolder::default());
        edit(&mut table);
        let problems = compile_with(vec![table], &[]).unwrap_err();
        let [problem] = problems.as_slice() else {
            panic!("{problems:?}");
        };
        format!("{} {}", problem.path.join("."), problem.what)
    };
    assert!(mistake(|_| {}).starts_with("verify.algorithm any certificate"));
    let kind = mistake(|table| table.holder.san = texts(&["partner.example"]));
    assert!(kind.contains("kind of name"), "{kind}");
    let named = mistake(|table| table.holder.san = texts(&["ip:partner"]));
    assert!(
        named.contains("`ip:partner` is not an IP address"),
        "{named}"
    );
    let short = mistake(|table| table.holder.fingerprint = texts(&["4355"]));
    assert!(short.contains("SHA-256"), "{short}");
    let foreign = mistake(|table| {
        table.holder.san = texts(&["dns:a"]);
        table.signature = texts(&["header:X"]);
    });
    assert!(
        foreign.starts_with("verify.signature `signature` says nothing"),
        "{foreign}"
    );
}

#[test]
fn a_refusal_says_whose_certificate_it_was() {
    let holder = RawHolder {
        subject: texts(&["CN=other"]),
        ..RawHolder::default()
    };
    let verifier = compile_with(vec![table(holder)], &[]).unwrap();
    let inbound = with(Some(shown()));
    let refusal = verify(&verifier, inbound.clone()).unwrap_err();
    let said = verifier
        .diagnose(&inbound, Now::at(now()), &refusal)
        .unwrap();
    assert!(said.contains("`CN=partner, O=Partner Inc.`"), "{said}");
    assert!(said.contains(FINGERPRINT), "{said}");
}
