//! Tokens that somebody made up, or changed: each is refused, and for the right reason.

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;

use super::*;

fn hs256(key: &[u8], header: &str, claims: &str) -> String {
    let text = format!("{}.{}", part(header), part(claims));
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(text.as_bytes());
    format!("{text}.{}", part(mac.finalize().into_bytes()))
}

/// A genuine token with other members in its header, signed over.
fn header(changes: &Value) -> String {
    let key = IssuerKey::rsa();
    let mut header = key.header();
    for (name, value) in changes.as_object().unwrap() {
        header[name] = value.clone();
    }
    key.sign(&header.to_string(), &good().to_string())
}

fn claim(name: &str, value: Value) -> String {
    IssuerKey::rsa().token(&with(name, value))
}

/// A genuine token of these claims, as they are written.
fn claims(text: &str) -> String {
    let key = IssuerKey::rsa();
    key.sign(&key.header().to_string(), text)
}

fn thief(changes: &Value) -> String {
    let thief = IssuerKey::new_rsa("r1");
    let mut header = thief.header();
    for (name, value) in changes.as_object().unwrap() {
        header[name] = value.clone();
    }
    thief.sign(&header.to_string(), &good().to_string())
}

/// The three parts of a token with one of them changed.
fn recut(token: &str, change: impl FnOnce(&mut Vec<String>)) -> String {
    let mut parts: Vec<String> = token.split('.').map(str::to_owned).collect();
    change(&mut parts);
    parts.join(".")
}

/// The DER of an ECDSA signature, from `r` and `s` side by side.
fn der(raw: &[u8]) -> Vec<u8> {
    let integer = |number: &[u8]| [&[2, 33, 0][..], number].concat();
    let (r, s) = raw.split_at(32);
    let inner = [integer(r), integer(s)].concat();
    [&[0x30, u8::try_from(inner.len()).unwrap()][..], &inner].concat()
}

fn attacks() -> Vec<(&'static str, String, &'static str)> {
    let (rsa, ec) = (IssuerKey::rsa(), IssuerKey::ec());
    let genuine = rsa.token(&good());
    let of_ec = ec.token(&good());
    let text = good().to_string();
    let unsigned = |name: &str| {
        format!(
            "{}.{}.",
            part(json!({"alg": name}).to_string()),
            part(&text)
        )
    };
    let hs = json!({"alg": "HS256", "kid": "r1"}).to_string();
    let raw = URL_SAFE_NO_PAD
        .decode(of_ec.rsplit('.').next().unwrap())
        .unwrap();
    let spliced = |bytes: Vec<u8>| recut(&of_ec, |parts| parts[2] = part(bytes));
    let member = |name: &str, value: &str| text.replacen('{', &format!("{{\"{name}\":{value},"), 1);
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    let later = IssuerKey::rsa().token(&with("email", json!("thief@example.com")));
    vec![
        ("alg none", unsigned("none"), "token_malformed"),
        ("alg None", unsigned("None"), "token_malformed"),
        ("alg NONE", unsigned("NONE"), "token_malformed"),
        (
            "alg none with a signature",
            header(&json!({"alg": "none"})),
            "token_algorithm",
        ),
        (
            "alg nOnE with a signature",
            header(&json!({"alg": "nOnE"})),
            "token_algorithm",
        ),
        (
            "alg in small letters",
            header(&json!({"alg": "rs256"})),
            "token_algorithm",
        ),
        (
            "alg of another list",
            header(&json!({"alg": "RS512"})),
            "token_algorithm",
        ),
        (
            "alg with a blank",
            header(&json!({"alg": "RS256 "})),
            "token_algorithm",
        ),
        ("alg empty", header(&json!({"alg": ""})), "token_algorithm"),
        (
            "alg absent",
            rsa.sign("{\"kid\":\"r1\"}", &text),
            "token_malformed",
        ),
        (
            "alg a number",
            header(&json!({"alg": 256})),
            "token_malformed",
        ),
        (
            "alg a list",
            header(&json!({"alg": ["RS256"]})),
            "token_malformed",
        ),
        (
            "HS256 with the public key in PEM",
            hs256(rsa.public.as_bytes(), &hs, &text),
            "token_algorithm",
        ),
        (
            "HS256 with the public key's JWK",
            hs256(rsa.jwk.to_string().as_bytes(), &hs, &text),
            "token_algorithm",
        ),
        (
            "HS256 with no key",
            hs256(b"", &hs, &text),
            "token_algorithm",
        ),
        (
            "ES256 over an RSA key",
            header(&json!({"alg": "ES256"})),
            "token_key_unknown",
        ),
        (
            "RS256 with the name of an EC key",
            header(&json!({"kid": "e1"})),
            "token_key_unknown",
        ),
        (
            "kid a path",
            header(&json!({"kid": "../../../../dev/null"})),
            "token_key_unknown",
        ),
        (
            "kid of SQL",
            header(&json!({"kid": "x' UNION SELECT 'key';--"})),
            "token_key_unknown",
        ),
        (
            "kid a URL",
            header(&json!({"kid": "https://thief.example/jwks.json"})),
            "token_key_unknown",
        ),
        (
            "kid of a command",
            header(&json!({"kid": "r1|whoami"})),
            "token_key_unknown",
        ),
        (
            "kid with a NUL",
            header(&json!({"kid": "r1\u{0}"})),
            "token_key_unknown",
        ),
        (
            "kid empty",
            header(&json!({"kid": ""})),
            "token_key_unknown",
        ),
        (
            "kid a list",
            header(&json!({"kid": ["r1"]})),
            "token_malformed",
        ),
        ("kid null", header(&json!({"kid": null})), "token_malformed"),
        (
            "kid of 10000 characters",
            header(&json!({"kid": "k".repeat(10_000)})),
            "token_malformed",
        ),
        (
            "key of a thief under the name of ours",
            thief(&json!({})),
            "token_signature",
        ),
        (
            "key of a thief, and no name",
            thief(&json!({"kid": "r1"})),
            "token_signature",
        ),
        (
            "jwk of a thief",
            thief(&json!({"jwk": IssuerKey::new_rsa("r1").jwk})),
            "token_signature",
        ),
        (
            "jku of a thief",
            thief(&json!({"jku": "https://thief.example/jwks.json"})),
            "token_signature",
        ),
        (
            "x5u of a thief",
            thief(&json!({"x5u": "https://thief.example/c.pem"})),
            "token_signature",
        ),
        (
            "x5c of a thief",
            thief(&json!({"x5c": ["MIIB"]})),
            "token_signature",
        ),
        ("crit", header(&json!({"crit": ["exp"]})), "token_extension"),
        (
            "crit empty",
            header(&json!({"crit": []})),
            "token_extension",
        ),
        (
            "b64 false",
            header(&json!({"b64": false})),
            "token_extension",
        ),
        ("zip", header(&json!({"zip": "DEF"})), "token_extension"),
        ("enc", header(&json!({"enc": "A256GCM"})), "token_extension"),
        (
            "expired",
            claim("exp", json!(SECONDS - 61)),
            "token_expired",
        ),
        ("expired long ago", claim("exp", json!(0)), "token_expired"),
        ("not yet", claim("nbf", json!(SECONDS + 61)), "token_early"),
        (
            "issued in the future",
            claim("iat", json!(SECONDS + 61)),
            "token_early",
        ),
        (
            "exp absent",
            claim("exp", Value::Null),
            "token_claim_absent",
        ),
        (
            "exp null",
            claims(&text.replace(&format!("\"exp\":{}", SECONDS + 3600), "\"exp\":null")),
            "token_time",
        ),
        (
            "exp a text",
            claim("exp", json!("1860000000")),
            "token_time",
        ),
        (
            "exp a fraction",
            claim("exp", json!(1_860_000_000.5)),
            "token_time",
        ),
        (
            "exp in exponents",
            claims(&text.replace(&(SECONDS + 3600).to_string(), "2e9")),
            "token_time",
        ),
        ("exp huge", claim("exp", json!(u64::MAX)), "token_time"),
        (
            "exp beyond all calendars",
            claim("exp", json!(9_000_000_000_000_000_i64)),
            "token_time",
        ),
        (
            "exp beyond all numbers",
            claims(&text.replace(&(SECONDS + 3600).to_string(), "1e400")),
            "token_malformed",
        ),
        ("exp negative", claim("exp", json!(-1)), "token_time"),
        ("exp true", claim("exp", json!(true)), "token_time"),
        (
            "exp a list",
            claim("exp", json!([SECONDS + 3600])),
            "token_time",
        ),
        ("nbf a text", claim("nbf", json!("0")), "token_time"),
        ("iat negative", claim("iat", json!(-1)), "token_time"),
        (
            "iss of somebody else",
            claim("iss", json!("https://issuer.example.thief.example")),
            "token_issuer",
        ),
        (
            "iss with a slash more",
            claim("iss", json!("https://issuer.example/")),
            "token_issuer",
        ),
        (
            "iss a list",
            claim("iss", json!([ISSUER])),
            "token_claim_absent",
        ),
        (
            "iss absent",
            claim("iss", Value::Null),
            "token_claim_absent",
        ),
        (
            "aud of somebody else",
            claim("aud", json!("https://other.example")),
            "token_audience",
        ),
        (
            "aud that begins like ours",
            claim("aud", json!(format!("{AUDIENCE}/more"))),
            "token_audience",
        ),
        (
            "aud in another case",
            claim("aud", json!(AUDIENCE.to_uppercase())),
            "token_audience",
        ),
        (
            "aud a list of others",
            claim("aud", json!(["a", "b"])),
            "token_audience",
        ),
        (
            "aud an empty list",
            claim("aud", json!([])),
            "token_audience",
        ),
        (
            "aud a list with more than texts",
            claim("aud", json!([AUDIENCE, {"a": 1}])),
            "token_audience",
        ),
        (
            "aud a list in a list",
            claim("aud", json!([[AUDIENCE]])),
            "token_audience",
        ),
        (
            "aud an object",
            claim("aud", json!({"0": AUDIENCE})),
            "token_audience",
        ),
        (
            "aud absent",
            claim("aud", Value::Null),
            "token_claim_absent",
        ),
        (
            "email of somebody else",
            claim("email", json!("push@project.example.thief.example")),
            "token_claim",
        ),
        (
            "email absent",
            claim("email", Value::Null),
            "token_claim_absent",
        ),
        (
            "email not verified",
            claim("email_verified", json!(false)),
            "token_claim",
        ),
        (
            "email an object",
            claim("email", json!({"a": "push@project.example"})),
            "token_claim",
        ),
        (
            "aud twice",
            claims(&member("aud", "\"x\"")),
            "token_malformed",
        ),
        ("exp twice", claims(&member("exp", "0")), "token_malformed"),
        (
            "alg twice",
            rsa.sign(r#"{"alg":"none","alg":"RS256","kid":"r1"}"#, &text),
            "token_malformed",
        ),
        (
            "a member twice, in depth",
            claims(&member("a", r#"{"b":1,"b":2}"#)),
            "token_malformed",
        ),
        (
            "a member twice, one escaped",
            claims(&member("\\u0061ud", "\"x\"")),
            "token_malformed",
        ),
        (
            "claims too deep",
            claims(&member("a", &deep)),
            "token_malformed",
        ),
        ("claims a list", claims("[]"), "token_malformed"),
        ("claims a text", claims("\"x\""), "token_malformed"),
        (
            "claims with text behind",
            claims(&format!("{text}{{}}")),
            "token_malformed",
        ),
        (
            "claims with a mark before",
            claims(&format!("\u{feff}{text}")),
            "token_malformed",
        ),
        ("claims a token", claims(&genuine), "token_malformed"),
        (
            "claims not UTF-8",
            recut(&genuine, |parts| parts[1] = part(b"{\"a\":\"\xff\"}")),
            "token_malformed",
        ),
        (
            "signature of another token",
            recut(&genuine, |parts| {
                parts[2] = later.rsplit('.').next().unwrap().to_owned();
            }),
            "token_signature",
        ),
        (
            "claims of another token",
            recut(&genuine, |parts| {
                parts[1] = part(with("email", json!("x")).to_string());
            }),
            "token_signature",
        ),
        (
            "signature cut",
            recut(&genuine, |parts| parts[2].truncate(300)),
            "token_signature",
        ),
        (
            "signature absent",
            recut(&genuine, |parts| parts[2].clear()),
            "token_malformed",
        ),
        (
            "signature of zeros",
            recut(&genuine, |parts| parts[2] = part([0; 256])),
            "token_signature",
        ),
        (
            "signature longer",
            recut(&genuine, |parts| parts[2].push_str("AAAA")),
            "token_signature",
        ),
        (
            "ES256 r and s zero",
            spliced(vec![0; 64]),
            "token_signature",
        ),
        (
            "ES256 r zero",
            spliced([&[0; 32][..], &raw[32..]].concat()),
            "token_signature",
        ),
        (
            "ES256 s zero",
            spliced([&raw[..32], &[0; 32][..]].concat()),
            "token_signature",
        ),
        (
            "ES256 r and s one",
            spliced([&[0; 31][..], &[1], &[0; 31], &[1]].concat()),
            "token_signature",
        ),
        ("ES256 in DER", spliced(der(&raw)), "token_signature"),
        ("ES256 half", spliced(raw[..32].to_vec()), "token_signature"),
        (
            "ES256 with a byte more",
            spliced([&raw[..], &[0]].concat()),
            "token_signature",
        ),
        ("padding", format!("{genuine}="), "token_malformed"),
        (
            "padding of the header",
            recut(&genuine, |parts| parts[0].push('=')),
            "token_malformed",
        ),
        (
            "white space before",
            format!(" {genuine}"),
            "token_malformed",
        ),
        (
            "white space within",
            recut(&genuine, |parts| parts[1].insert(4, ' ')),
            "token_malformed",
        ),
        ("a tab behind", format!("{genuine}\t"), "token_malformed"),
        (
            "base64 that is not for URLs",
            recut(&genuine, |parts| {
                parts[2] = parts[2].replace('-', "+").replace('_', "/");
            }),
            "token_malformed",
        ),
        (
            "stray bits",
            recut(&of_ec, |parts| {
                let last = parts[2].pop().unwrap();
                parts[2].push(match last {
                    'A' => 'B',
                    'Q' => 'R',
                    'g' => 'h',
                    _ => 'x',
                });
            }),
            "token_malformed",
        ),
        (
            "two parts",
            genuine.rsplit_once('.').unwrap().0.to_owned(),
            "token_malformed",
        ),
        ("four parts", format!("{genuine}.x"), "token_malformed"),
        ("five parts", "a.b.c.d.e".to_owned(), "token_malformed"),
        ("dots only", "..".to_owned(), "token_malformed"),
        ("nothing", String::new(), "token_malformed"),
        (
            "longer than any token",
            claim("a", json!("a".repeat(20_000))),
            "token_malformed",
        ),
    ]
}

#[test]
fn each_attack_is_refused_for_its_own_reason() {
    let attacks = attacks();
    assert!(attacks.len() > 100);
    for (name, token, label) in attacks {
        match judge(verifier(), &token) {
            Ok(()) => panic!("`{name}` passes"),
            Err(refusal) => assert_eq!(refusal.label(), label, "{name}: {refusal}"),
        }
    }
}

/// No message repeats more of a token than the short words that it may.
#[test]
fn no_refusal_repeats_a_signature_or_breaks_a_line() {
    for (name, token, _) in attacks() {
        let said = judge(verifier(), &token).unwrap_err().to_string();
        let signature = token.rsplit('.').next().unwrap();
        assert!(
            signature.len() < 8 || !said.contains(signature),
            "{name}: {said}"
        );
        assert!(
            said.len() < 1000 && !said.contains(char::is_control),
            "{name}: {said}"
        );
    }
}

#[test]
fn one_changed_character_of_a_token_is_refused() {
    for key in [IssuerKey::rsa(), IssuerKey::ec(), IssuerKey::ed()] {
        let token = key.token(&good());
        for position in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[position] = if bytes[position] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            assert!(judge(verifier(), &changed).is_err(), "{position}");
        }
    }
}

#[test]
fn a_token_twice_or_without_its_prefix_is_refused() {
    let token = IssuerKey::rsa().token(&good());
    for (authorization, label) in [
        (token.clone(), "signature_prefix"),
        (format!("bearer {token}"), "signature_prefix"),
        (format!("Bearer  {token}"), "token_malformed"),
        (format!("Bearer {token},Bearer {token}"), "token_malformed"),
    ] {
        let refusal = check(verifier(), request(&authorization), now()).unwrap_err();
        assert_eq!(refusal.label(), label, "{authorization}");
    }
    let mut twice = request(&format!("Bearer {token}"));
    let value = twice.head.headers["authorization"].clone();
    twice.head.headers.append("authorization", value);
    assert_eq!(
        check(verifier(), twice, now()).unwrap_err().label(),
        "ambiguous"
    );
}
