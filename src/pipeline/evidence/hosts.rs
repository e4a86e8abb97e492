//! The hosts that a URL in a request may name.

use std::fmt;

use crate::pipeline::evidence::target::{HTTPS, NoTarget, Origin, Target, is_label, port};

/// Stands for the name of a region of AWS (`us-east-1`).
///
/// A `*` would be too much: `sns.s3-us-west-2.amazonaws.com` is a bucket that anybody could have
/// had.
const AWS_REGION: &str = "{aws-region}";

/// A list of hosts, with their ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hosts(Vec<Host>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Host {
    labels: Vec<Label>,
    port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Label {
    Is(String),
    /// `*`: any one label.
    Any,
    AwsRegion,
}

/// Why a URL in a request is not called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAllowed {
    /// It could not be called at all.
    #[error(transparent)]
    NoTarget(#[from] NoTarget),
    /// Its host and port are not on the list.
    #[error("its host is not on the list")]
    Unlisted,
}

impl Hosts {
    /// Reads a list: names in which a whole label may be `*` or `{aws-region}`, each with `:PORT`
    /// where that is not 443. The two last labels are always written out.
    ///
    /// # Errors
    ///
    /// The position of the first that is no such name, and what is wrong with it.
    pub fn parse(texts: &[String]) -> Result<Self, (usize, String)> {
        let hosts = texts.iter().enumerate().map(|(position, text)| {
            Host::parse(text).ok_or_else(|| {
                let what = format!(
                    "`{text}` is not the name of a host, such as `api.example.com`, \
                     `*.certs.example.com` or `idp.example.com:8443`"
                );
                (position, what)
            })
        });
        hosts.collect::<Result<_, _>>().map(Self)
    }

    /// The URL as a target, if its host is on the list.
    ///
    /// # Errors
    ///
    /// See [`NotAllowed`].
    pub fn target(&self, url: &str) -> Result<Target, NotAllowed> {
        let target = Target::parse(url, Origin::Request)?;
        if self.0.iter().any(|host| host.is(&target)) {
            Ok(target)
        } else {
            Err(NotAllowed::Unlisted)
        }
    }

    /// Each as it was written, in small letters.
    pub fn names(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(Host::to_string)
    }
}

impl Host {
    fn parse(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        let (name, port) = match text.split_once(':') {
            None => (text.as_str(), HTTPS),
            Some((name, port)) => (name, self::port(port)?),
        };
        let labels: Option<Vec<Label>> = name.split('.').map(Label::parse).collect();
        let labels = labels?;
        let own = labels.iter().rev().take(2);
        if !own.clone().all(|label| matches!(label, Label::Is(_))) {
            return None;
        }
        // A name that a URL could have.
        let example = name.replace('*', "any").replace(AWS_REGION, "us-east-1");
        Target::parse(&format!("https://{example}"), Origin::Configuration).ok()?;
        Some(Self { labels, port })
    }

    fn is(&self, target: &Target) -> bool {
        let mut labels = target.host().split('.');
        self.port == target.port()
            && self
                .labels
                .iter()
                .all(|label| labels.next().is_some_and(|it| label.is(it)))
            && labels.next().is_none()
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, label) in self.labels.iter().enumerate() {
            let dot = if position == 0 { "" } else { "." };
            let label = match label {
                Label::Is(label) => label,
                Label::Any => "*",
                Label::AwsRegion => AWS_REGION,
            };
            write!(f, "{dot}{label}")?;
        }
        if self.port == HTTPS {
            Ok(())
        } else {
            write!(f, ":{}", self.port)
        }
    }
}

impl Label {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "*" => Some(Self::Any),
            AWS_REGION => Some(Self::AwsRegion),
            label => is_label(label).then(|| Self::Is(label.to_owned())),
        }
    }

    fn is(&self, label: &str) -> bool {
        match self {
            Self::Is(own) => own == label,
            Self::Any => true,
            Self::AwsRegion => is_aws_region(label),
        }
    }
}

/// Two letters, words, and a number: `eu-west-1`, `us-gov-east-1`, `cn-north-1`.
fn is_aws_region(label: &str) -> bool {
    let parts: Vec<&str> = label.split('-').collect();
    let is_word = |word: &&str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase());
    match parts.as_slice() {
        [area, words @ .., number] => {
            area.len() == 2
                && is_word(area)
                && (1..=2).contains(&words.len())
                && words.iter().all(is_word)
                && (1..=2).contains(&number.len())
                && number.bytes().all(|byte| byte.is_ascii_digit())
        }
        _ => false,
    }
}
