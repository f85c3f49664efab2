//! Whatever valid topology and timeline are given, the plan makes sense.

use limosa::{
    plan::{self},
    spec::{self},
};
use limosa_lab::network::{Kind, Network};
use proptest::prelude::*;
use std::{collections::HashSet, fmt::Write, fs, net::IpAddr};

/// Hosts on switches, switches on a chain of routers.
fn topology(segments: &[u8], second: bool) -> String {
    let mut text = String::from("version: 1\nnodes:\n");
    let mut links = String::from("links:\n");
    for (s, hosts) in segments.iter().enumerate() {
        writeln!(text, "  s{s}: {{kind: switch}}\n  r{s}: {{kind: router}}").unwrap();
        writeln!(links, "  - {{ends: [s{s}, r{s}.down], shape: {{rate: 10Mbit/s, delay: {s}ms}}}}")
            .unwrap();
        if s > 0 {
            writeln!(links, "  - ends: [r{}.right, r{s}.left]", s - 1).unwrap();
        }
        for h in 0..*hosts {
            writeln!(text, "  h{s}x{h}: {{}}").unwrap();
            writeln!(links, "  - ends: [h{s}x{h}.eth0, s{s}]").unwrap();
            if second && s + 1 < segments.len() {
                writeln!(links, "  - ends: [h{s}x{h}.eth1, s{}]", s + 1).unwrap();
            }
        }
    }
    text + &links
}

fn resolve(text: &str) -> Network {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("net.yaml");
    fs::write(&file, text).unwrap();
    let topology = spec::load_topology(&file).unwrap_or_else(|e| panic!("{e}\n{text}"));
    plan::resolve_topology(&topology, spec::Links::Auto).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

/// Follows the main tables from a place to an address; how many routers that took.
fn hops(network: &Network, from: &str, to: IpAddr) -> Option<usize> {
    let mut here = from.to_owned();
    for hop in 0..20 {
        let place = &network.places[&here];
        let on_link =
            |i: &limosa_lab::network::InterfacePlan| i.addresses.iter().any(|a| a.contains(&to));
        if place.interfaces.iter().any(on_link) {
            return Some(hop);
        }
        let routes = place.routes.iter().filter(|r| r.table == 254 && r.to.contains(&to));
        let via = routes.max_by_key(|r| r.to.prefix_len())?.via?;
        let owner = network.places.iter().find(|(_, p)| {
            p.interfaces.iter().any(|i| i.addresses.iter().any(|a| a.addr() == via))
        });
        here = owner?.0.clone();
        if network.places[&here].kind != Kind::Router {
            return None;
        }
    }
    None
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn addresses_are_unique_and_everybody_reaches_everybody(
        segments in proptest::collection::vec(1u8..5, 1..6),
        second: bool,
    ) {
        let network = resolve(&topology(&segments, second));
        let mut addresses = HashSet::new();
        let mut macs = HashSet::new();
        for interface in network.places.values().flat_map(|p| &p.interfaces) {
            prop_assert!(macs.insert(interface.mac));
            for address in &interface.addresses {
                prop_assert!(addresses.insert(address.addr()), "{address} is there twice");
            }
        }
        let hosts = || network.places.iter().filter(|(_, p)| p.kind == Kind::Host);
        for (from, _) in hosts() {
            for address in hosts().flat_map(|(_, p)| &p.interfaces).flat_map(|i| &i.addresses) {
                let found = hops(&network, from, address.addr());
                prop_assert!(found.is_some(), "{from} does not reach {address}");
            }
        }
        for (name, place) in hosts().filter(|(_, p)| p.interfaces.len() > 1) {
            prop_assert_eq!(place.rules.len(), 4, "a rule per address of {}", name);
        }
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "[ -~\n]{0,200}") {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.yaml");
        fs::write(&file, text).unwrap();
        let _ = spec::load_topology(&file).map(|t| plan::resolve_topology(&t, spec::Links::Auto));
        let _ = spec::load_experiment(&file);
    }

    #[test]
    fn steps_are_ordered_by_their_time(times in proptest::collection::vec(0u32..59_000, 1..8)) {
        let folder = tempfile::tempdir().unwrap();
        let mut text = String::from(
            "version: 1\ntopology: net\nrepetitions: 1\ntime_limit: 60s\nworkload: {download: {path: /x, size: 1B}}\n\
             variants: {v: {scheme: quic}}\nnodes: {server: {on: h0x0, role: server}, client: {on: h1x0, role: client}}\ntimeline:\n",
        );
        for t in &times {
            writeln!(text, "  - {{at: {t}ms, link_down: {{link: s0--r0}}}}").unwrap();
        }
        fs::write(folder.path().join("net.yaml"), topology(&[1, 1], false)).unwrap();
        let file = folder.path().join("x.yaml");
        fs::write(&file, text).unwrap();
        let (experiment, topology) = spec::load_experiment(&file).unwrap();
        let plan = plan::resolve(&experiment, &topology).unwrap();
        let mut sorted = times.clone();
        sorted.sort_unstable();
        let planned: Vec<_> = plan.variants["v"].timeline.iter().map(|s| s.when.clone()).collect();
        let wanted: Vec<_> = sorted
            .iter()
            .map(|t| plan::When::At(limosa_record::unit::Time::from_millis((*t).into())))
            .collect();
        prop_assert_eq!(planned, wanted);
    }
}
