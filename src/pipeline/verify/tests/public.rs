//! Signatures that only the sender can make.

use super::*;
use crate::pipeline::verify::testing::{Pair, pair, pem};

/// Made with `openssl genrsa 1024`: shorter than anybody should trust.
const RSA_1024: &str = "-----BEGIN PUBLIC KEY-----
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDKIoiBUOXy/pZkQnTl0DebrjeL
MMeNX1843XT9ZsYMHQlSIW9FQqyDu2p/vX5N9U5FS67mhM484WPymsIGvQ1dr7lI
VrIcmPECuOkgJzZMTGRRTvl0JCTSIbKmK3QvZhoxfkq7bcNGdkpt8PhcCXrSiuFi
jiMSEKprEXEoABVECwIDAQAB
-----END PUBLIC KEY-----
";

const ALGORITHMS: [&str; 3] = ["ed25519", "ecdsa-p256-sha256", "rsa-pkcs1-sha256"];

fn public(algorithm: &str, form: &str) -> RawScheme {
    RawScheme {
        algorithm: Some(algorithm.to_owned()),
        key: Some(form.to_owned()),
        encoding: Some("base64".to_owned()),
        prefix: None,
        ..plain()
    }
}

fn signed_by(pair: &Pair, verifier: &Verifier, body: &str) -> Inbound {
    let mut request = inbound(&[], body);
    verifier
        .sign(
            &mut request.head,
            body.as_bytes(),
            now(),
            Some(&pair.private),
        )
        .unwrap();
    request
}

#[test]
fn a_key_in_every_form_lets_its_owner_in_and_nobody_else() {
    for algorithm in ALGORITHMS {
        for form in ["pem", "base64", "hex", "whpk"] {
            let (owner, other) = (
                pair(algorithm, form).unwrap(),
                pair(algorithm, form).unwrap(),
            );
            let scheme = public(algorithm, form);
            let verifier = compile_with(vec![scheme], &[owner.public.as_bytes()]).unwrap();
            let genuine = signed_by(&owner, &verifier, "{}");
            verifier.verify(genuine, Now::at(now())).unwrap();
            let forged = signed_by(&other, &verifier, "{}");
            let (_, refusal) = verifier.verify(forged, Now::at(now())).unwrap_err();
            assert_eq!(refusal, Refusal::Mismatch(1), "{algorithm} {form}");
        }
    }
}

#[test]
fn during_a_rotation_either_key_lets_in() {
    let (old, new) = (
        pair("ed25519", "hex").unwrap(),
        pair("ed25519", "hex").unwrap(),
    );
    let keys = [old.public.as_bytes(), new.public.as_bytes()];
    let verifier = compile_with(vec![public("ed25519", "hex")], &keys).unwrap();
    for owner in [&old, &new] {
        let genuine = signed_by(owner, &verifier, "{}");
        verifier.verify(genuine, Now::at(now())).unwrap();
    }
}

#[test]
fn a_certificate_is_as_good_as_the_key_in_it() {
    let signer = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["sender.example".to_owned()])
        .unwrap()
        .self_signed(&signer)
        .unwrap();
    let scheme = public("ecdsa-p256-sha256", "pem");
    let verifier = compile_with(vec![scheme], &[certificate.pem().as_bytes()]).unwrap();
    let owner = Pair {
        public: String::new(),
        private: Secret::new(signer.serialize_pem().into_bytes()),
    };
    let genuine = signed_by(&owner, &verifier, "{}");
    verifier.verify(genuine, Now::at(now())).unwrap();
}

#[test]
fn what_is_no_key_of_the_algorithm_is_said() {
    let ed25519 = pair("ed25519", "pem").unwrap().public;
    let cases: [(&str, &str, &[u8], &str); 6] = [
        ("ed25519", "pem", b"secret", "is not written as pem"),
        ("ed25519", "hex", b"xyz", "is not written as hex"),
        ("ed25519", "hex", b"00ff", "is no public key for ed25519"),
        (
            "rsa-pkcs1-sha256",
            "pem",
            ed25519.as_bytes(),
            "is no public key for rsa",
        ),
        (
            "ecdsa-p256-sha256",
            "pem",
            ed25519.as_bytes(),
            "is no public key for ecdsa",
        ),
        (
            "ecdsa-p256-sha256",
            "base64",
            b"AAAA",
            "is no public key for ecdsa",
        ),
    ];
    for (algorithm, form, key, what) in cases {
        let problems = compile_with(vec![public(algorithm, form)], &[key]).unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!(problems[0].path, ["secrets", "0"]);
        assert!(problems[0].what.contains(what), "{:?}", problems[0]);
    }
    let two = format!("{ed25519}{ed25519}");
    assert!(compile_with(vec![public("ed25519", "pem")], &[two.as_bytes()]).is_err());
    let short = compile_with(
        vec![public("rsa-pkcs1-sha256", "pem")],
        &[RSA_1024.as_bytes()],
    );
    assert!(
        short.unwrap_err()[0]
            .what
            .contains("is no public key for rsa")
    );
    let private = pem("PRIVATE KEY", b"no key");
    assert!(compile_with(vec![public("ed25519", "pem")], &[private.as_bytes()]).is_err());
}

#[test]
fn there_is_no_secret_to_be_signed() {
    let with_secret = RawScheme {
        signed: Some("{secret}{body}".to_owned()),
        ..public("ed25519", "pem")
    };
    let key = pair("ed25519", "pem").unwrap().public;
    let problems = compile_with(vec![with_secret], &[key.as_bytes()]).unwrap_err();
    assert_eq!(problems[0].path, ["verify", "signed"]);
}

#[test]
fn without_the_private_key_nothing_is_signed() {
    let owner = pair("ed25519", "pem").unwrap();
    let verifier =
        compile_with(vec![public("ed25519", "pem")], &[owner.public.as_bytes()]).unwrap();
    let mut request = inbound(&[], "{}");
    let sign = |inbound: &mut Inbound, key: Option<&Secret>| {
        verifier
            .sign(&mut inbound.head, b"{}", now(), key)
            .unwrap_err()
    };
    assert!(sign(&mut request, None).contains("private key"));
    let junk = Secret::new(b"junk".to_vec());
    assert!(sign(&mut request, Some(&junk)).contains("PEM"));
    let other = pair("rsa-pkcs1-sha256", "pem").unwrap().private;
    assert!(sign(&mut request, Some(&other)).contains("not one for ed25519"));
}

#[test]
fn the_usual_mistakes_are_named() {
    let owner = pair("ed25519", "pem").unwrap();
    let verifier =
        compile_with(vec![public("ed25519", "pem")], &[owner.public.as_bytes()]).unwrap();
    let mut request = signed_by(&owner, &verifier, "{\"a\":1}");
    request.body = Bytes::from_static(b"{\"a\": 1}");
    let (request, refusal) = verifier.verify(request, Now::at(now())).unwrap_err();
    let said = verifier
        .diagnose(&request, Now::at(now()), &refusal)
        .unwrap();
    assert!(said.contains("it matches"), "{said}");
}

#[test]
fn a_public_key_is_no_shared_secret_and_no_token() {
    let known = pair("ed25519", "pem").unwrap().public;
    for scheme in [plain(), token()] {
        let problems = compile_with(vec![scheme], &[known.as_bytes()]).unwrap_err();
        assert!(problems[0].what.contains("is a public key"), "{problems:?}");
    }
    // Beside a table that takes it, it counts there only.
    let both = vec![public("ed25519", "pem"), token()];
    let verifier = compile_with(both.clone(), &[known.as_bytes(), b"t0ken"]).unwrap();
    let owner = inbound(&[("X-Token", known.lines().next().unwrap())], "{}");
    assert!(verifier.verify(owner, Now::at(now())).is_err());
    assert!(compile_with(both, &[known.as_bytes()]).is_err());
}
