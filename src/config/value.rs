//! The words of `gateway.toml` that stand for numbers: sizes, durations, rates, networks. Pure.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use ipnet::IpNet;

use crate::pipeline::limit::Rate;

/// Most of a user's text that a message repeats, in characters.
const QUOTED_CHARS_MAX: usize = 60;

/// Most events per period, and most at once.
pub(crate) const RATE_COUNT_MAX: u32 = 1_000_000;

/// Why a value is not one: what is wrong, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    /// What is wrong.
    pub(crate) what: String,
    /// What would be right.
    pub(crate) help: Option<String>,
}

impl Wrong {
    /// Wrong, and how to write it.
    pub(crate) fn new(what: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            help: Some(help.into()),
        }
    }
}

impl From<&str> for Wrong {
    fn from(what: &str) -> Self {
        Self::from(what.to_owned())
    }
}

impl From<String> for Wrong {
    fn from(what: String) -> Self {
        Self { what, help: None }
    }
}

/// A user's text inside a message: escaped, and cut when long.
pub(crate) fn quote(text: &str) -> String {
    format!("\"{}\"", cut(text).escape_debug())
}

/// A user's text, cut when long.
pub(crate) fn cut(text: &str) -> String {
    let mut cut: String = text.chars().take(QUOTED_CHARS_MAX).collect();
    if cut.len() < text.len() {
        cut.push_str("...");
    }
    cut
}

/// Units of sizes, in bytes.
const SIZES: [(&str, u64); 10] = [
    ("B", 1),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// Units of durations, in milliseconds.
const DURATIONS: [(&str, u64); 5] = [
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

/// `"64KiB"` in bytes. Both kinds of unit: `MiB` is 1024 * 1024 and `MB` is 1000 * 1000.
pub(crate) fn size(text: &str) -> Result<u64, Wrong> {
    number_with_unit(text, &SIZES).ok_or_else(|| {
        Wrong::new(
            format!("{} is not a size", quote(text)),
            "write a whole number and a unit: \"64KiB\", \"1MiB\" or \"10MB\"",
        )
    })
}

/// `"500ms"`, `"5s"`, `"5m"`, `"24h"`, `"7d"`.
pub(crate) fn duration(text: &str) -> Result<Duration, Wrong> {
    number_with_unit(text, &DURATIONS)
        .map(Duration::from_millis)
        .ok_or_else(|| {
            Wrong::new(
                format!("{} is not a duration", quote(text)),
                "write a whole number and a unit: \"500ms\", \"5s\", \"5m\", \"24h\" or \"7d\"",
            )
        })
}

/// `"100/s"`, `"600/m"`, `"10/h"`; as many may come at once.
pub(crate) fn rate(text: &str) -> Result<Rate, Wrong> {
    let parsed = text.split_once('/').and_then(|(count, unit)| {
        let period = match unit.trim() {
            "s" => Duration::from_secs(1),
            "m" => Duration::from_secs(60),
            "h" => Duration::from_secs(3_600),
            _ => return None,
        };
        Some((whole_number(count.trim())?, period))
    });
    let Some((count, period)) = parsed else {
        return Err(Wrong::new(
            format!("{} is not a rate", quote(text)),
            "write a whole number and a period: \"100/s\", \"600/m\" or \"10/h\"",
        ));
    };
    let count = rate_count(count)?;
    Ok(Rate {
        count,
        period,
        burst: count,
    })
}

/// How many events, of a rate or of a burst.
pub(crate) fn rate_count(count: u64) -> Result<NonZeroU32, Wrong> {
    u32::try_from(count)
        .ok()
        .filter(|&count| count <= RATE_COUNT_MAX)
        .and_then(NonZeroU32::new)
        .ok_or_else(|| Wrong::from(format!("{count} is not from 1 to {RATE_COUNT_MAX}")))
}

/// `"10.0.0.0/8"`; a bare address is a network of one.
pub(crate) fn network(text: &str) -> Result<IpNet, Wrong> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(address.to_canonical()));
    }
    let Ok(network) = text.parse::<IpNet>() else {
        return Err(Wrong::new(
            format!("{} is not a network", quote(text)),
            "write \"192.0.2.0/24\", \"2001:db8::/32\" or a single address",
        ));
    };
    if network == network.trunc() {
        Ok(canonical(network))
    } else {
        Err(Wrong::new(
            format!("{} has bits set beyond its prefix", quote(text)),
            format!(
                "write \"{}\" for the network, or the address alone",
                network.trunc()
            ),
        ))
    }
}

/// Addresses of IPv4 that are written as such of IPv6 (RFC 4291, section 2.5.5.2) are those of IPv4:
/// no client's is ever written so.
fn canonical(network: IpNet) -> IpNet {
    const MAPPED_BITS: u8 = 96;
    let address = network.addr().to_canonical();
    let bits = network.prefix_len().checked_sub(MAPPED_BITS);
    match (network, address, bits) {
        (IpNet::V6(_), IpAddr::V4(_), Some(bits)) => IpNet::new(address, bits).unwrap_or(network),
        _ => network,
    }
}

/// A duration as a user would write it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shown(pub(crate) Duration);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.as_millis();
        if ms == 0 {
            return f.write_str("0s");
        }
        for (unit, factor) in [
            ("d", 86_400_000),
            ("h", 3_600_000),
            ("m", 60_000),
            ("s", 1_000),
        ] {
            if ms >= factor && ms.is_multiple_of(factor) {
                return write!(f, "{}{unit}", ms / factor);
            }
        }
        write!(f, "{ms}ms")
    }
}

/// A size as a user would write it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ShownSize(pub(crate) u64);

impl fmt::Display for ShownSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, shift) in [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)] {
            if self.0 >= 1 << shift && self.0.is_multiple_of(1 << shift) {
                return write!(f, "{}{unit}", self.0 >> shift);
            }
        }
        write!(f, "{}B", self.0)
    }
}

fn number_with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let (_, factor) = units.iter().find(|(word, _)| *word == unit.trim_start())?;
    whole_number(number)?.checked_mul(*factor)
}

/// Digits only: `parse` alone would take `+5`.
fn whole_number(text: &str) -> Option<u64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        text.parse().ok()
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
