//! Who a client is by its certificate, as plain data: the edge verifies it, `verify` compares.

use std::net::IpAddr;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use sha2::{Digest as _, Sha256};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// Most alternative names that are kept.
const NAMES_MAX: usize = 64;

/// What a verified certificate says of its holder. Made of nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// `CN=partner, O=Partner Inc.`: attributes in the order of the certificate, each with the short
    /// name of its type; what separates them is escaped in their values as in RFC 4514, so that no
    /// value can pass for two.
    pub subject: String,
    /// The authority's name, likewise.
    pub issuer: String,
    /// The serial number, in hex with colons.
    pub serial: String,
    /// Alternative names with their kind: `dns:partner.example`, `email:`, `uri:`, `ip:`. DNS names
    /// in lower case.
    pub names: Vec<String>,
    /// The SHA-256 of the whole certificate, in lower-case hex.
    pub fingerprint: String,
}

impl ClientCertificate {
    /// Of a certificate that was verified. `None`: it is not readable, which the verifier would
    /// have noticed.
    pub fn of(verified: &CertificateDer<'_>) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(verified).ok()?;
        let names = match certificate.subject_alternative_name() {
            Ok(Some(extension)) => {
                let names = extension.value.general_names.iter().filter_map(name);
                names.take(NAMES_MAX).collect()
            }
            Ok(None) | Err(_) => Vec::new(),
        };
        Some(Self {
            subject: distinguished(certificate.subject()),
            issuer: distinguished(certificate.issuer()),
            serial: certificate.raw_serial_as_string(),
            names,
            fingerprint: hex::encode(Sha256::digest(verified)),
        })
    }

    /// Of the first certificate in a PEM text, for a request that was saved without its connection.
    /// `None`: there is none.
    pub fn of_pem(text: &[u8]) -> Option<Self> {
        Self::of(&CertificateDer::from_pem_slice(text).ok()?)
    }
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some(format!("dns:{}", name.to_ascii_lowercase())),
        GeneralName::RFC822Name(name) => Some(format!("email:{name}")),
        GeneralName::URI(name) => Some(format!("uri:{name}")),
        GeneralName::IPAddress(bytes) => ip(bytes).map(|ip| format!("ip:{ip}")),
        _ => None,
    }
}

fn distinguished(name: &X509Name<'_>) -> String {
    let parts = name.iter_rdn().map(|part| {
        let attributes: Vec<String> = part.iter().map(attribute).collect();
        attributes.join("+")
    });
    parts.collect::<Vec<String>>().join(", ")
}

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> String {
    let kind = attribute.attr_type();
    let registry = x509_parser::objects::oid_registry();
    let kind = x509_parser::objects::oid2abbrev(kind, registry)
        .map_or_else(|_unknown| kind.to_id_string(), str::to_owned);
    match attribute.as_str() {
        Ok(value) => format!("{kind}={}", escaped(value)),
        Err(_) => format!("{kind}=#{}", hex::encode(attribute.as_slice())),
    }
}

/// RFC 4514, section 2.4; an `=`, too, which may be escaped there.
fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for character in value.chars() {
        match character {
            '\\' | ',' | '+' | '"' | '<' | '>' | ';' | '=' | '#' => text.extend(['\\', character]),
            character if character.is_control() => {
                text.push_str(&format!("\\{:02x}", u32::from(character)));
            }
            character => text.push(character),
        }
    }
    text
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(IpAddr::from(v4));
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}

#[cfg(test)]
mod tests {
    use rustls_pki_types::CertificateDer;

    use super::*;

    #[test]
    fn what_a_certificate_says_is_read() {
        let names = ["partner.example", "192.0.2.7", "2001:db8::7"].map(str::to_owned);
        let mut params = rcgen::CertificateParams::new(names.to_vec()).unwrap();
        let subject = &mut params.distinguished_name;
        *subject = rcgen::DistinguishedName::new();
        subject.push(rcgen::DnType::CommonName, "partner");
        subject.push(rcgen::DnType::OrganizationName, "Partner Inc.");
        params.serial_number = Some(rcgen::SerialNumber::from(vec![0x0a, 0xff]));
        let key = rcgen::KeyPair::generate().unwrap();
        let made = params.self_signed(&key).unwrap();
        let read = ClientCertificate::of(made.der()).unwrap();
        assert_eq!(read.subject, "CN=partner, O=Partner Inc.");
        assert_eq!(read.issuer, read.subject);
        assert_eq!(read.serial, "0a:ff");
        let typed = ["dns:partner.example", "ip:192.0.2.7", "ip:2001:db8::7"];
        assert_eq!(read.names, typed);
        assert_eq!(read.fingerprint.len(), 64);
        assert_eq!(ClientCertificate::of_pem(made.pem().as_bytes()), Some(read));
    }

    #[test]
    fn no_value_passes_for_two() {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        let subject = &mut params.distinguished_name;
        *subject = rcgen::DistinguishedName::new();
        subject.push(rcgen::DnType::CommonName, "partner, O=Partner Inc.");
        let key = rcgen::KeyPair::generate().unwrap();
        let made = params.self_signed(&key).unwrap();
        let read = ClientCertificate::of(made.der()).unwrap();
        assert_eq!(read.subject, r"CN=partner\, O\=Partner Inc.");
    }

    #[test]
    fn what_is_no_certificate_says_nothing() {
        assert_eq!(
            ClientCertificate::of(&CertificateDer::from(vec![1, 2, 3])),
            None
        );
    }
}
