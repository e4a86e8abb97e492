//! `url_variants`: how else a sender may write the configured URL before it signs it.

/// One way to write it. All come from `public_url`; none from what a request claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UrlVariant {
    /// Without its port.
    NoPort,
    /// With the port of its scheme, where it has none.
    DefaultPort,
}

impl UrlVariant {
    pub(super) const ALL: [(&'static str, Self); 2] = [
        ("no_port", Self::NoPort),
        ("default_port", Self::DefaultPort),
    ];

    /// The URL so written. `None`: that is how it is written anyway.
    pub(super) fn of(self, url: &str) -> Option<String> {
        let uri: http::Uri = url.parse().ok()?;
        let (scheme, host, path) = (uri.scheme_str()?, uri.host()?, uri.path());
        match (self, uri.port_u16()) {
            (Self::NoPort, Some(_)) => Some(format!("{scheme}://{host}{path}")),
            (Self::DefaultPort, None) => {
                let port = if scheme == "https" { 443 } else { 80 };
                Some(format!("{scheme}://{host}:{port}{path}"))
            }
            (Self::NoPort, None) | (Self::DefaultPort, Some(_)) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_left_out_or_written() {
        for (url, without, with) in [
            (
                "https://a.example/in",
                None,
                Some("https://a.example:443/in"),
            ),
            ("http://a.example/in", None, Some("http://a.example:80/in")),
            (
                "https://a.example:8443/in",
                Some("https://a.example/in"),
                None,
            ),
        ] {
            assert_eq!(UrlVariant::NoPort.of(url).as_deref(), without);
            assert_eq!(UrlVariant::DefaultPort.of(url).as_deref(), with);
        }
    }
}
