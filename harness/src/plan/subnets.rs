//! The subnets of a network: which each segment has, which are free, and which addresses can be a
//! host's.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// Stations of the largest segment that gets 254 addresses of IPv4; a larger one gets 65,534.
const MOST_STATIONS_OF_A_24: usize = 200;

/// The last router of a subnet that is large enough has this number, the next ones lower ones.
const LAST_ROUTER: u128 = 254;

/// A complaint and what to do about it.
pub(super) type Wrong = (String, Option<String>);

/// No two overlap, and a segment has one of each family at most.
#[derive(Default)]
pub(super) struct Subnets {
    /// By family (whether IPv4) and first address: the last address, the subnet, its segment.
    ranges: BTreeMap<(bool, u128), (u128, IpNet, usize)>,
    of_segment: HashMap<(usize, bool), IpNet>,
    /// Number of the next block to try.
    next: u32,
}

impl Subnets {
    pub(super) fn of(&self, segment: usize, v4: bool) -> Option<IpNet> {
        self.of_segment.get(&(segment, v4)).copied()
    }

    pub(super) fn add(&mut self, segment: usize, net: IpNet) {
        let (net, (first, last)) = (net.trunc(), range(&net));
        self.ranges.insert((is_v4(&net), first), (last, net, segment));
        self.of_segment.insert((segment, is_v4(&net)), net);
    }

    /// A subnet that shares addresses with this one, and its segment.
    fn overlapping(&self, net: &IpNet) -> Option<(IpNet, usize)> {
        let (v4, (first, last)) = (is_v4(net), range(net));
        let (_, (end, other, segment)) = self.ranges.range((v4, 0)..=(v4, last)).next_back()?;
        (*end >= first).then_some((*other, *segment))
    }

    /// Whether a segment can have an address that the user gave.
    pub(super) fn check(&self, net: &IpNet, segment: usize) -> Result<(), Wrong> {
        let own = self.of(segment, is_v4(net));
        if let Some(own) = own.filter(|own| *own != net.trunc()) {
            let hint = Some("nodes joined by switches share a subnet".into());
            return Err((format!("`{net}` is not in {own}, which this segment has"), hint));
        }
        match self.overlapping(net) {
            Some((other, of)) if of != segment => {
                let hint = Some("each segment has a subnet of its own".into());
                Err((format!("`{net}` overlaps {other} of another segment"), hint))
            }
            _ => Ok(()),
        }
    }

    /// Takes the next free block for a segment of so many stations; nothing when none is left.
    pub(super) fn take_free(&mut self, segment: usize, v4: bool, stations: usize) -> Option<IpNet> {
        let block = if v4 { self.free_v4(stations)? } else { self.free_v6()? };
        self.add(segment, block);
        Some(block)
    }

    /// The next segment gets the next block.
    pub(super) fn advance(&mut self) {
        self.next += 1;
    }

    fn free_v4(&mut self, stations: usize) -> Option<IpNet> {
        if stations > MOST_STATIONS_OF_A_24 {
            let ten = (self.next..256).map(|k| (10, k));
            let others = (16..32).map(|k| (172, k)).chain([(192, 168)]);
            let wide = ten.chain(others).filter_map(|(a, b)| v4_net([a, b, 0, 0], 16));
            return wide.into_iter().find(|net| self.overlapping(net).is_none());
        }
        // What is taken now is not looked at again.
        let free = (self.next..).map_while(|n| Some((small_block(n)?, n)));
        let (net, n) = free.into_iter().find(|(net, _)| self.overlapping(net).is_none())?;
        self.next = n;
        Some(net)
    }

    fn free_v6(&mut self) -> Option<IpNet> {
        loop {
            let [high, low] = [self.next >> 16, self.next & 0xffff].map(|n| n as u16);
            let block = Ipv6Net::new(Ipv6Addr::new(0xfd00, 0, high, low, 0, 0, 0, 0), 64).ok()?;
            if self.overlapping(&block.into()).is_none() {
                return Some(block.into());
            }
            self.next = self.next.checked_add(1)?;
        }
    }
}

/// The n-th /24: 10.K.0.0 for the first 256, then 10.K.1.0 and so on, then the other private ranges.
fn small_block(n: u32) -> Option<IpNet> {
    let block = match n {
        0..65_536 => [10, n % 256, n / 256, 0],
        65_536..69_632 => [172, 16 + (n - 65_536) / 256, n % 256, 0],
        69_632..69_888 => [192, 168, n % 256, 0],
        _ => return None,
    };
    v4_net(block, 24)
}

fn v4_net([a, b, c, d]: [u32; 4], prefix: u8) -> Option<IpNet> {
    let [a, b, c, d] = [a, b, c, d].map(u8::try_from);
    Ipv4Net::new(Ipv4Addr::new(a.ok()?, b.ok()?, c.ok()?, d.ok()?), prefix).ok().map(IpNet::V4)
}

/// First and last address as numbers.
fn range(net: &IpNet) -> (u128, u128) {
    match net {
        IpNet::V4(net) => (u32::from(net.network()).into(), u32::from(net.broadcast()).into()),
        IpNet::V6(net) => (net.network().into(), net.broadcast().into()),
    }
}

pub(super) fn is_v4(net: &IpNet) -> bool {
    matches!(net, IpNet::V4(_))
}

/// Numbers of a subnet's hosts in the order in which they are given out: hosts from 1 upwards,
/// routers from 254, or from the end of a smaller subnet, downwards and then upwards from there.
/// Both addresses of a /31 and of a /127 are hosts' (RFC 3021, RFC 6164).
pub(super) struct Numbers {
    subnet: IpNet,
    hosts: Box<dyn Iterator<Item = u128>>,
    routers: Box<dyn Iterator<Item = u128>>,
}

impl Numbers {
    pub(super) fn of(subnet: IpNet) -> Self {
        let (first, last) = range(&subnet);
        let size = last - first;
        let (low, high) = match (size, is_v4(&subnet)) {
            (0 | 1, _) => (0, size),
            // The first is the network's or the subnet routers' (RFC 4291), the last is for all.
            (_, true) => (1, size - 1),
            (_, false) => (1, size),
        };
        let turn = high.min(LAST_ROUTER);
        Self {
            subnet,
            hosts: Box::new(low..=high),
            routers: Box::new((low..=turn).rev().chain(turn + 1..=high)),
        }
    }

    /// The next number that `is_free` takes.
    pub(super) fn next(&mut self, router: bool, is_free: impl Fn(IpAddr) -> bool) -> Option<IpNet> {
        let numbers = if router { &mut self.routers } else { &mut self.hosts };
        let (first, _) = range(&self.subnet);
        let address = |n: u128| -> Option<IpAddr> {
            let n = first.checked_add(n)?;
            match self.subnet {
                IpNet::V4(_) => Some(Ipv4Addr::from(u32::try_from(n).ok()?).into()),
                IpNet::V6(_) => Some(Ipv6Addr::from(n).into()),
            }
        };
        let free = numbers.filter_map(address).find(|ip| is_free(*ip))?;
        IpNet::new(free, self.subnet.prefix_len()).ok()
    }
}

/// An address of a host with its prefix length, as the user wrote it.
pub(super) fn parse(text: &str) -> Result<IpNet, Wrong> {
    let wrong = |why: String, hint: &str| (why, Some(hint.to_owned()));
    // The standard library takes no `010.1.0.3`, which is 8.1.0.3 to some programs.
    let parsed = text.split_once('/').and_then(|(ip, length)| {
        let digits = length.bytes().all(|b| b.is_ascii_digit());
        IpNet::new(ip.parse().ok()?, length.parse().ok().filter(|_| digits)?).ok()
    });
    let Some(net) = parsed else {
        let hint = "write it like `10.1.0.3/24` or `fd00::3/64`";
        return Err(wrong(format!("`{text}` is not an address with a prefix length"), hint));
    };
    let ip = net.addr();
    if let Some(what) = special(&net) {
        return Err((format!("`{ip}` is not an address of a host: {what}"), None));
    }
    if net.prefix_len() < 8 {
        let message = format!("`{net}` is in a subnet of more than a 256th of all addresses");
        return Err(wrong(message, "the shortest prefix is /8"));
    }
    let (first, last) = range(&net);
    let number: u128 = match ip {
        IpAddr::V4(ip) => u32::from(ip).into(),
        IpAddr::V6(ip) => ip.into(),
    };
    match (number, is_v4(&net)) {
        _ if last - first < 2 => Ok(net),
        (n, true) if n == first || n == last => {
            let message = format!("`{ip}` is the network or broadcast address of {}", net.trunc());
            Err((message, None))
        }
        (n, false) if n == first => {
            let message = format!("`{ip}` is the subnet-router anycast address of {}", net.trunc());
            Err((message, None))
        }
        _ => Ok(net),
    }
}

/// What an address is instead of a host's, or its subnet has in it.
fn special(net: &IpNet) -> Option<&'static str> {
    const SPECIAL: [(&str, &str); 8] = [
        ("127.0.0.0/8", "it is loopback"),
        ("224.0.0.0/4", "it is multicast"),
        ("0.0.0.0/8", "it is `this network`"),
        ("255.255.255.255/32", "it is broadcast"),
        ("::/96", "it is unspecified, loopback or an IPv4 address"),
        ("::ffff:0.0.0.0/96", "it is an IPv4 address in IPv6 (v4-mapped)"),
        ("fe80::/10", "it is link-local, which no router forwards"),
        ("ff00::/8", "it is multicast"),
    ];
    let ip = net.addr();
    let holds =
        |range: &&(&str, &str)| range.0.parse::<IpNet>().is_ok_and(|special| special.contains(&ip));
    SPECIAL.iter().find(holds).map(|found| found.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn addresses_that_cannot_be_a_hosts_are_refused() {
        let refused = |text: &str| parse(text).unwrap_err().0;
        assert!(refused("fd00::/64").contains("anycast"));
        assert!(refused("fe80::1/64").contains("link-local"));
        assert!(refused("::ffff:1.2.3.4/96").contains("v4-mapped"));
        assert!(refused("::1/128").contains("loopback"));
        assert!(refused("010.001.000.003/24").contains("not an address"));
        for bad in ["10.0.0.0/24", "10.0.0.255/24", "127.0.0.1/8", "224.1.1.1/24", "0.0.0.0/8"] {
            refused(bad);
        }
        for bad in ["1.2.3.4", "1.2.3.4/33", "1.2.3.4/+8", "fd00::1/129", "fd00::1/7", "1.2.3.4/"] {
            refused(bad);
        }
        for good in ["192.0.2.0/31", "192.0.2.1/31", "192.0.2.7/32", "10.0.0.1/8", "fd00::/127"] {
            parse(good).unwrap();
        }
    }

    #[test]
    fn numbers_of_small_and_of_large_subnets_are_all_used() {
        for (subnet, expected) in [
            ("192.0.2.0/31", 2),
            ("192.0.2.0/30", 2),
            ("192.0.2.0/25", 126),
            ("10.0.0.0/22", 1022),
            ("fd00::/127", 2),
            ("fd00::/126", 3),
            ("fd00::/121", 127),
        ] {
            let mut numbers = Numbers::of(net(subnet));
            let mut seen = std::collections::HashSet::new();
            while let Some(found) = numbers.next(true, |_| true) {
                assert!(net(subnet).contains(&found.addr()) && seen.insert(found), "{found}");
            }
            assert_eq!(seen.len(), expected, "{subnet}");
            assert_eq!(std::iter::from_fn(|| numbers.next(false, |_| true)).count(), expected);
        }
        let mut large = Numbers::of(net("10.0.0.0/16"));
        let first: Vec<_> = (0..256).filter_map(|_| large.next(true, |_| true)).collect();
        assert_eq!(first[0], net("10.0.0.254/16"));
        assert_eq!(first[253..], [net("10.0.0.1/16"), net("10.0.0.255/16"), net("10.0.1.0/16")]);
    }

    #[test]
    fn blocks_go_round_what_is_taken() {
        let mut subnets = Subnets::default();
        subnets.add(0, net("10.0.0.0/8"));
        assert_eq!(subnets.take_free(1, true, 2), Some(net("172.16.0.0/24")));
        assert_eq!(subnets.take_free(2, true, 500), Some(net("172.17.0.0/16")));
        let mut many = Subnets::default();
        for segment in 0..69_888 {
            let block = many.take_free(segment, true, 2).unwrap();
            assert_eq!(many.of(segment, true), Some(block));
            many.advance();
        }
        assert_eq!(many.of(255, true), Some(net("10.255.0.0/24")));
        assert_eq!(many.of(256, true), Some(net("10.0.1.0/24")));
        assert_eq!(many.take_free(70_000, true, 2), None);
    }
}
