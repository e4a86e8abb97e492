//! Who may send, by address: `allow_ips`.

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Who may send to a source. Other networks can be put in while it is asked.
#[derive(Debug, Default)]
pub struct AllowIps(ArcSwap<Networks>);

impl AllowIps {
    /// No networks: anyone.
    pub fn new(networks: Networks) -> Self {
        Self(ArcSwap::from_pointee(networks))
    }

    /// Whether all addresses are in.
    pub fn is_anyone(&self) -> bool {
        self.0.load().is_empty()
    }

    /// Whether this address is in.
    pub fn admits(&self, address: IpAddr) -> bool {
        let networks = self.0.load();
        networks.is_empty() || networks.contains(address)
    }

    /// Asks these from now on.
    pub fn replace(&self, networks: Networks) {
        self.0.store(Arc::new(networks));
    }
}

/// A set of networks. Asking it costs a few comparisons, however many a provider publishes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks {
    /// Sorted, and none within another.
    v4: Vec<Ipv4Net>,
    v6: Vec<Ipv6Net>,
}

impl Networks {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// Whether an address is in one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => {
                let after = self.v4.partition_point(|network| network.addr() <= address);
                let before = after.checked_sub(1).and_then(|at| self.v4.get(at));
                before.is_some_and(|network| network.contains(&address))
            }
            IpAddr::V6(address) => {
                let after = self.v6.partition_point(|network| network.addr() <= address);
                let before = after.checked_sub(1).and_then(|at| self.v6.get(at));
                before.is_some_and(|network| network.contains(&address))
            }
        }
    }
}

impl FromIterator<IpNet> for Networks {
    fn from_iter<I: IntoIterator<Item = IpNet>>(networks: I) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for network in networks {
            match network.trunc() {
                IpNet::V4(network) => v4.push(network),
                IpNet::V6(network) => v6.push(network),
            }
        }
        // Sorts, too.
        Self {
            v4: Ipv4Net::aggregate(&v4),
            v6: Ipv6Net::aggregate(&v6),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_in_or_out_whatever_the_order_of_networks() {
        let texts = [
            "203.0.113.0/24",
            "10.0.0.0/8",
            "10.1.0.0/16",
            "192.0.2.7/32",
            "2001:db8::/32",
            "10.0.0.0/8",
        ];
        let networks: Networks = texts.iter().map(|text| text.parse().unwrap()).collect();
        for (address, expected) in [
            ("10.0.0.0", true),
            ("10.255.255.255", true),
            ("10.1.2.3", true),
            ("11.0.0.0", false),
            ("9.255.255.255", false),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("203.0.113.255", true),
            ("255.255.255.255", false),
            ("2001:db8:ffff::1", true),
            ("2001:db9::", false),
            ("::", false),
        ] {
            assert_eq!(
                networks.contains(address.parse().unwrap()),
                expected,
                "{address}"
            );
        }
        assert!(!networks.is_empty());
        assert!(Networks::default().is_empty());
        assert!(!Networks::default().contains([10, 0, 0, 1].into()));
    }
}
