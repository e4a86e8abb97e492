//! What the files of `[server.tls]` hold, and all that is wrong with it: chains and their keys,
//! authorities, lists of what these revoked.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use x509_parser::prelude::{CertificateRevocationList, FromDer as _, X509Certificate};

use super::{Flaw, Material, Snapshot, Verifier, Which};
use crate::config::value::{Wrong, quote};
use crate::config::{Certificate, Clients};

/// What ends sooner is warned of.
const EXPIRY_NOTICE: SignedDuration = SignedDuration::from_hours(14 * 24);

/// What the files hold, as far as they can be used, and what is wrong with the rest.
pub(super) fn look_into(snapshot: &Snapshot, now: Timestamp) -> (Option<Material>, Vec<Flaw>) {
    let mut look = Look {
        snapshot,
        now,
        flaws: Vec::new(),
    };
    let pairs = 0..snapshot.files.pairs.len();
    let certificates: Vec<_> = pairs.filter_map(|at| look.certificate(at)).collect();
    let clients = look.clients();
    let is_whole = look.flaws.iter().all(|flaw| !flaw.is_error);
    let material = is_whole.then_some(Material {
        certificates,
        clients,
    });
    (material, look.flaws)
}

struct Look<'a> {
    snapshot: &'a Snapshot,
    now: Timestamp,
    flaws: Vec<Flaw>,
}

/// From when until when something is good.
struct Validity {
    begin: Timestamp,
    end: Timestamp,
}

/// The authorities of a file.
struct Authorities {
    /// Those in force.
    roots: RootCertStore,
    names: Vec<Name>,
    /// When the first of those in force ends.
    end: Timestamp,
}

/// An authority's name.
struct Name {
    der: Vec<u8>,
    shown: String,
    is_in_force: bool,
}

/// A list as its issuer signed it.
struct RevocationList {
    which: Which,
    issuer: Name,
    end: Timestamp,
    der: CertificateRevocationListDer<'static>,
}

impl<'a> Look<'a> {
    fn error(&mut self, which: Which, wrong: impl Into<Wrong>) {
        self.flaws.push(Flaw {
            which,
            wrong: wrong.into(),
            is_error: true,
        });
    }

    fn warning(&mut self, which: Which, what: impl Into<String>, help: impl Into<String>) {
        self.flaws.push(Flaw {
            which,
            wrong: Wrong::new(what, help),
            is_error: false,
        });
    }

    fn bytes(&mut self, which: Which) -> Option<&'a [u8]> {
        let snapshot = self.snapshot;
        let (_, contents) = snapshot.contents.iter().find(|(it, _)| *it == which)?;
        match contents {
            Ok(contents) => Some(&contents.bytes),
            Err(why) => {
                let shown = quote(&snapshot.files.path(which).to_string_lossy());
                let what = which.name();
                self.error(which, format!("cannot read the {what} from {shown}: {why}"));
                None
            }
        }
    }

    /// One chain and its key.
    fn certificate(&mut self, at: usize) -> Option<Certificate> {
        let (cert, key) = (Which::Certificate(at), Which::Key(at));
        let help = "it must be PEM: -----BEGIN CERTIFICATE-----";
        let chain: Option<Vec<CertificateDer<'static>>> = self.items(cert, help);
        let private = self.private_key(key);
        let chain = chain?;
        let not_after = self.validity(cert, chain.first()?);
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        match CertifiedKey::from_der(chain, private?, &provider) {
            Ok(certified) => Some(Certificate {
                path: self.snapshot.files.path(cert).to_owned(),
                not_after: not_after?,
                certified: Arc::new(certified),
            }),
            Err(rustls::Error::InconsistentKeys(_)) => {
                let help =
                    "the file of `cert` must begin with the certificate that was made for this key";
                let what = "this key does not belong to the certificate";
                self.error(key, Wrong::new(what, help));
                None
            }
            Err(error) => {
                let what = format!("the certificate or its key cannot be used: {error}");
                self.error(key, what);
                None
            }
        }
    }

    /// All items of one kind in a file; at least one.
    fn items<T: PemObject>(&mut self, which: Which, help: &str) -> Option<Vec<T>> {
        let items: Result<Vec<T>, pem::Error> = T::pem_slice_iter(self.bytes(which)?).collect();
        let shown = quote(&self.snapshot.files.path(which).to_string_lossy());
        match items {
            Ok(items) if !items.is_empty() => Some(items),
            Ok(_) => {
                let what = match which {
                    Which::ClientCrl(_) => "revocation list",
                    Which::Certificate(_) | Which::Key(_) | Which::ClientCa => "certificate",
                };
                self.error(
                    which,
                    Wrong::new(format!("there is no {what} in {shown}"), help),
                );
                None
            }
            Err(error) => {
                self.error(which, format!("{shown} is not PEM: {error}"));
                None
            }
        }
    }

    fn private_key(&mut self, which: Which) -> Option<PrivateKeyDer<'static>> {
        let key = PrivateKeyDer::from_pem_slice(self.bytes(which)?);
        let shown = quote(&self.snapshot.files.path(which).to_string_lossy());
        match key {
            Ok(key) => {
                if self.is_world_readable(which) {
                    self.warning(
                        which,
                        "everybody on this machine can read this key",
                        "take the permission away: chmod o-r",
                    );
                }
                Some(key)
            }
            Err(pem::Error::NoItemsFound) => {
                let help = "it must be PEM without a passphrase: -----BEGIN PRIVATE KEY-----";
                let what = format!("there is no private key in {shown}");
                self.error(which, Wrong::new(what, help));
                None
            }
            // What the parser says could repeat a part of the key.
            Err(_) => {
                self.error(which, format!("{shown} is not PEM"));
                None
            }
        }
    }

    fn is_world_readable(&self, which: Which) -> bool {
        let mut contents = self.snapshot.contents.iter();
        contents.any(|(it, contents)| {
            *it == which
                && contents
                    .as_ref()
                    .is_ok_and(|contents| contents.world_readable)
        })
    }

    /// When the certificate ends. An old one still serves those who do not look, so it is no
    /// error.
    fn validity(&mut self, which: Which, certificate: &CertificateDer<'_>) -> Option<Timestamp> {
        let Ok((_, parsed)) = X509Certificate::from_der(certificate) else {
            self.error(which, "the certificate cannot be read");
            return None;
        };
        let Validity { begin, end } = Validity::of(&parsed);
        let help = "senders that verify certificates will not connect: renew it";
        if self.now > end {
            self.warning(which, format!("the certificate expired at {end}"), help);
        } else if self.now < begin {
            let what = format!("the certificate is not valid before {begin}");
            self.warning(which, what, help);
        } else if end.duration_since(self.now) < EXPIRY_NOTICE {
            let what = format!("the certificate expires at {end}");
            self.warning(which, what, "renew it");
        }
        Some(end)
    }

    /// What certificates of clients are checked against.
    fn clients(&mut self) -> Option<Clients> {
        let path = self.snapshot.files.client_ca.clone()?;
        let authorities = self.authorities();
        let mut lists = self.revocation_lists()?;
        let authorities = authorities?;
        // The verifier asks the first list that knows the issuer.
        lists.sort_by_key(|list| std::cmp::Reverse(list.end));
        if !lists.is_empty() {
            self.ensure_covered(&authorities.names, &lists);
        }
        let mut ends = vec![(path, authorities.end)];
        // Of several in a file, the one that ends first comes last.
        for list in lists.iter().filter(|list| !list.is_superseded(&lists)) {
            ends.push((self.snapshot.files.path(list.which).to_owned(), list.end));
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let roots = Arc::new(authorities.roots);
        let mut builder = WebPkiClientVerifier::builder_with_provider(roots, provider)
            // Only sources that ask for one need it; who shows a wrong one is sent away.
            .allow_unauthenticated();
        if !lists.is_empty() {
            let lists = lists.into_iter().map(|list| list.der);
            // Whom no list in force speaks of could be revoked: no list, no entry.
            builder = builder.with_crls(lists).enforce_revocation_expiration();
        }
        match builder.build() {
            Ok(verifier) => Some(Clients {
                ends,
                verifier: Verifier(verifier),
            }),
            Err(error) => {
                self.error(Which::ClientCa, format!("it cannot be used: {error}"));
                None
            }
        }
    }

    /// The authorities of `client_ca`. One that has expired is not used: what it signed is too old
    /// to be believed.
    fn authorities(&mut self) -> Option<Authorities> {
        let which = Which::ClientCa;
        let help = "it must be PEM: -----BEGIN CERTIFICATE-----";
        let certificates: Vec<CertificateDer<'static>> = self.items(which, help)?;
        let mut authorities = Authorities {
            roots: RootCertStore::empty(),
            names: Vec::new(),
            end: Timestamp::MAX,
        };
        let mut is_whole = true;
        for certificate in certificates {
            let Ok((_, parsed)) = X509Certificate::from_der(&certificate) else {
                self.error(which, "a certificate of an authority cannot be read");
                is_whole = false;
                continue;
            };
            let subject = parsed.subject();
            let shown = quote(&subject.to_string());
            if !parsed.is_ca() {
                self.warning(
                    which,
                    format!("{shown} is no authority: it can sign no client's certificate"),
                    "put the certificate of the authority that signed it there",
                );
            }
            let is_in_force = self.is_in_force(&shown, &parsed);
            authorities.names.push(Name {
                der: subject.as_raw().to_vec(),
                shown: shown.clone(),
                is_in_force,
            });
            if !is_in_force {
                continue;
            }
            authorities.end = authorities.end.min(Validity::of(&parsed).end);
            if let Err(error) = authorities.roots.add(certificate.clone()) {
                self.error(
                    which,
                    format!("the authority {shown} cannot be used: {error}"),
                );
                is_whole = false;
            }
        }
        if is_whole && authorities.roots.is_empty() {
            self.error(
                which,
                Wrong::new(
                    "no authority in this file is valid now, so no client could be believed",
                    "put the certificate of an authority that is in force there",
                ),
            );
            is_whole = false;
        }
        is_whole.then_some(authorities)
    }

    fn is_in_force(&mut self, shown: &str, authority: &X509Certificate<'_>) -> bool {
        let Validity { begin, end } = Validity::of(authority);
        let what = if self.now > end {
            format!("the authority {shown} expired at {end}, so it is not used")
        } else if self.now < begin {
            format!("the authority {shown} is not valid before {begin}, so it is not used")
        } else {
            if end.duration_since(self.now) < EXPIRY_NOTICE {
                let what = format!("the authority {shown} expires at {end}");
                self.warning(Which::ClientCa, what, "put its successor beside it");
            }
            return true;
        };
        let help = "take it out, or put its successor beside it";
        self.warning(Which::ClientCa, what, help);
        false
    }

    fn revocation_lists(&mut self) -> Option<Vec<RevocationList>> {
        let help = "it must be PEM: -----BEGIN X509 CRL-----; \
                    openssl crl -inform der -in FILE -out FILE.pem makes that of DER";
        let mut lists = Vec::new();
        let mut is_whole = true;
        for at in 0..self.snapshot.files.client_crl.len() {
            let which = Which::ClientCrl(at);
            let ders: Option<Vec<CertificateRevocationListDer<'static>>> = self.items(which, help);
            let Some(ders) = ders else {
                is_whole = false;
                continue;
            };
            for der in ders {
                match self.revocation_list(which, der) {
                    Some(list) => lists.push(list),
                    None => is_whole = false,
                }
            }
        }
        is_whole.then_some(lists)
    }

    fn revocation_list(
        &mut self,
        which: Which,
        der: CertificateRevocationListDer<'static>,
    ) -> Option<RevocationList> {
        let Ok((_, parsed)) = CertificateRevocationList::from_der(&der) else {
            self.error(which, "the revocation list cannot be read");
            return None;
        };
        let shown = quote(&parsed.issuer().to_string());
        let issuer = parsed.issuer().as_raw().to_vec();
        let Some(end) = parsed.next_update() else {
            let what = format!("the revocation list of {shown} does not say when it ends");
            self.error(which, what);
            return None;
        };
        let end = moment(end.timestamp());
        Some(RevocationList {
            which,
            issuer: Name {
                der: issuer,
                shown,
                is_in_force: self.now <= end,
            },
            end,
            der,
        })
    }

    /// Where there are lists, whoever is in none is refused, so each authority needs one.
    fn ensure_covered(&mut self, authorities: &[Name], lists: &[RevocationList]) {
        let help = "clients with a certificate of this authority are refused until there is a \
                    newer list";
        for list in lists {
            if !list.issuer.is_in_force && !list.is_superseded(lists) {
                let what = format!(
                    "the revocation list of {} ended at {}",
                    list.issuer.shown, list.end
                );
                self.warning(list.which, what, help);
            }
            if authorities.iter().all(|name| name.der != list.issuer.der) {
                let what = format!(
                    "the revocation list of {} is of no authority in `client_ca`",
                    list.issuer.shown
                );
                let help = "that is right for an authority in between, whose certificate clients \
                            send along";
                self.warning(list.which, what, help);
            }
        }
        for name in authorities.iter().filter(|name| name.is_in_force) {
            if lists.iter().all(|list| list.issuer.der != name.der) {
                let what = format!(
                    "`client_crl` has no list of {}, so all its clients are refused",
                    name.shown
                );
                let help = "add the list of this authority, or leave `client_crl` out";
                self.error(Which::ClientCa, Wrong::new(what, help));
            }
        }
    }
}

impl RevocationList {
    /// Whether it has ended, and there is another in its place.
    fn is_superseded(&self, all: &[Self]) -> bool {
        let is_successor =
            |other: &Self| other.issuer.is_in_force && other.issuer.der == self.issuer.der;
        !self.issuer.is_in_force && all.iter().any(is_successor)
    }
}

impl Validity {
    fn of(certificate: &X509Certificate<'_>) -> Self {
        let validity = certificate.validity();
        Self {
            begin: moment(validity.not_before.timestamp()),
            end: moment(validity.not_after.timestamp()),
        }
    }
}

fn moment(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX)
}
