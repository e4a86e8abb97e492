//! Who a client is by its certificate.

use std::net::IpAddr;

use rustls_pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Most alternative names that are kept.
const NAMES_MAX: usize = 64;

/// What a verified certificate says of its holder. Made of nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// `CN=partner, O=Partner Inc.`
    pub subject: String,
    /// The authority's name, likewise.
    pub issuer: String,
    /// The serial number, in hex with colons.
    pub serial: String,
    /// Alternative names: DNS names, addresses of mail, URIs, IP addresses.
    pub names: Vec<String>,
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
            subject: certificate.subject().to_string(),
            issuer: certificate.issuer().to_string(),
            serial: certificate.raw_serial_as_string(),
            names,
        })
    }
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) | GeneralName::RFC822Name(name) | GeneralName::URI(name) => {
            Some((*name).to_owned())
        }
        GeneralName::IPAddress(bytes) => ip(bytes).map(|ip| ip.to_string()),
        _ => None,
    }
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
        assert_eq!(read.names, names);
    }

    #[test]
    fn what_is_no_certificate_says_nothing() {
        assert_eq!(
            ClientCertificate::of(&CertificateDer::from(vec![1, 2, 3])),
            None
        );
    }
}
