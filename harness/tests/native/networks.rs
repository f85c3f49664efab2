//! Networks as people have built them elsewhere: packets really find their way, what a step cuts
//! is whole again afterwards, and a namespace has nothing of the host's settings.

use crate::{machine::lab, text};
use limosa::{
    plan::{self, Reach},
    spec,
};
use limosa_lab::{
    lab::{Carrier, Lab},
    network::Network,
    sys::{
        link,
        ping::{Ping, ping},
    },
};
use std::{fmt::Write, fs, net::IpAddr, path::Path, process::Output, time::Duration};

fn network(text: &str) -> Network {
    let document = spec::parse(Path::new("net.yaml"), text.to_owned()).expect("a topology");
    plan::resolve_topology(&document, spec::Links::Kernel).expect("a network")
}

fn build(network: &Network) -> Lab {
    Lab::up(network, 0, Carrier::Kernel).expect("build the lab")
}

/// Whether an echo comes back.
fn answers(lab: &Lab, place: &str, from: Option<IpAddr>, to: IpAddr) -> bool {
    let timeout = Duration::from_secs(2);
    let wish = Ping { to, from, count: 3, interval: Duration::from_millis(5), timeout };
    ping(lab.place(place).expect("a place"), &wish).expect("ping").min_ns().is_some()
}

/// Builds it and asks from one place for the other, in every family in which the plan has a way.
fn reaches(text: &str, from: &str, to: &str) {
    let network = network(text);
    let lab = build(&network);
    let reach = Reach::new(&network);
    let ways: Vec<_> =
        [true, false].into_iter().filter_map(|v4| reach.way_in(v4, from, to).ok()).collect();
    assert!(!ways.is_empty(), "no way by plan in\n{text}");
    for way in ways {
        assert!(answers(&lab, from, Some(way.from), way.to), "{from} to {} in\n{text}", way.to);
        assert!(answers(&lab, from, None, way.to), "{from} to {}, any source, in\n{text}", way.to);
    }
}

fn between_routers(families: &str, given: &str) -> String {
    format!(
        "version: 1\nfamilies: {families}\nnodes:\n  a: {{}}\n  b: {{}}\n  r2: {{kind: router}}\n  \
         r1: {{kind: router, interfaces: {{eth1: {{addresses: ['{given}']}}}}}}\nlinks:\n  \
         - ends: [a, r1.eth0]\n  - ends: [r1.eth1, r2.eth0]\n  - ends: [r2.eth1, b]\n"
    )
}

fn addresses_anywhere_in_a_subnet_of_any_size_are_reached() {
    for given in ["192.0.2.1/30", "192.0.2.0/31", "192.0.2.9/25", "10.200.3.4/8", "172.20.0.255/12"]
    {
        reaches(&between_routers("[ipv4]", given), "a", "b");
    }
    for given in ["fd00:1::1/126", "fd00:1::/127", "fd00:1::7f/121", "fd00:1::abcd/64"] {
        reaches(&between_routers("[ipv6]", given), "a", "b");
    }
}

fn a_chain_of_as_many_routers_as_a_packet_lives_for_is_passed() {
    for routers in [70, 254] {
        let mut text = "version: 1\nnodes:\n  a: {}\n  b: {}\n".to_owned();
        for n in 0..routers {
            let _ = writeln!(text, "  r{n}: {{kind: router}}");
        }
        text += "links:\n  - ends: [a, r0]\n";
        for n in 1..routers {
            let _ = writeln!(text, "  - ends: [r{}, r{n}]", n - 1);
        }
        let _ = writeln!(text, "  - ends: [r{}, b]", routers - 1);
        reaches(&text, "a", "b");
    }
}

const TWO_PROVIDERS: &str = "\
version: 1
nodes: {a: {}, p: {kind: router}, q: {kind: router}, x: {}, y: {}}
links:
  - ends: [a.eth0, p]
  - ends: [a.eth1, q]
  - ends: [p, x]
  - ends: [q, y]
";

const TWO_GATEWAYS: &str = "\
version: 1
nodes: {s: {kind: switch}, a: {}, p: {kind: router}, q: {kind: router}, x: {}, y: {}}
links:
  - ends: [a, s]
  - ends: [p, s]
  - ends: [q, s]
  - ends: [p, x]
  - ends: [q, y]
";

const BACKHAUL_FIRST: &str = "\
version: 1
nodes: {a: {}, r: {kind: router}, x: {}, y: {}}
links:
  - ends: [x.eth0, y.eth0]
  - ends: [a, r]
  - ends: [r, x.eth1]
  - ends: [r, y.eth1]
";

const PARALLEL: &str = "\
version: 1
nodes: {s: {kind: switch}, t: {kind: switch}, a: {}, y: {}}
links:
  - {ends: [a.eth0, s], name: one}
  - {ends: [a.eth1, t], name: two}
  - {ends: [y.eth0, s], name: three}
  - {ends: [y.eth1, t], name: four}
";

const EIGHT: &str = "\
version: 1
families: [ipv4]
nodes:
  a: {interfaces: {eth0: {addresses: [10.0.0.1/8]}}}
  r: {kind: router}
  y: {}
links:
  - ends: [a.eth0, r]
  - ends: [r, y]
";

fn providers_gateways_backhauls_and_parallel_links_lead_where_the_plan_says() {
    reaches(TWO_PROVIDERS, "a", "x");
    reaches(TWO_PROVIDERS, "a", "y");
    reaches(TWO_GATEWAYS, "a", "x");
    reaches(TWO_GATEWAYS, "a", "y");
    reaches(BACKHAUL_FIRST, "a", "x");
    reaches(BACKHAUL_FIRST, "a", "y");
    reaches(BACKHAUL_FIRST, "x", "y");
    reaches(PARALLEL, "a", "y");
    reaches(EIGHT, "a", "y");
}

fn a_large_segment_has_few_neighbours_and_everybody_is_reached() {
    let mut text = "version: 1\nnodes:\n  s: {kind: switch}\n  r: {kind: router}\n".to_owned();
    for n in 0..300 {
        let _ = writeln!(text, "  h{n}: {{}}");
    }
    text += "links:\n";
    for n in 0..300 {
        let _ = writeln!(text, "  - ends: [h{n}, s]");
    }
    text += "  - ends: [r, s]\n";
    reaches(&text, "h0", "h299");
    reaches(&text, "h299", "r");
    let lab = build(&network(&text));
    let known = |place| link::neighbours(lab.place(place).expect("a place"), false);
    assert_eq!(known("h0").expect("neighbours").len(), 1);
    assert_eq!(known("r").expect("neighbours").len(), 300);
}

fn what_a_cut_takes_away_is_there_when_the_link_is_mended() {
    for ends in ["[a.eth0, r.eth0]", "[r.eth0, a.eth0]"] {
        let text = format!(
            "version: 1\nnodes: {{a: {{}}, r: {{kind: router}}, b: {{}}}}\nlinks:\n  \
             - {{ends: {ends}, name: access}}\n  - ends: [r.eth1, b.eth0]\n  - ends: [a.eth1, b.eth1]\n"
        );
        let network = network(&text);
        let lab = build(&network);
        let state = || {
            let all = ["a", "r"].map(|place| {
                let netns = lab.place(place).expect("a place");
                [false, true].map(|v6| {
                    let mut known = link::neighbours(netns, v6).expect("neighbours");
                    known.sort();
                    known
                })
            });
            format!("{all:?}")
        };
        let before = state();
        let addresses = network.places["r"].interfaces[1].addresses.iter().map(|net| net.addr());
        let addresses: Vec<IpAddr> = addresses.collect();
        let own = |to: &IpAddr| {
            let all = network.places["a"].interfaces[0].addresses.iter().map(|net| net.addr());
            all.into_iter().find(|own| own.is_ipv4() == to.is_ipv4())
        };
        for _ in 0..2 {
            for to in &addresses {
                assert!(answers(&lab, "a", own(to), *to), "{to} before a cut of {ends}");
            }
            lab.set_link("access", false).expect("cut");
            lab.set_link("access", false).expect("cut again");
            assert!(!answers(&lab, "a", own(&addresses[0]), addresses[0]), "the link is cut");
            lab.set_link("access", true).expect("mend");
            lab.set_link("access", true).expect("mend again");
        }
        for to in &addresses {
            assert!(answers(&lab, "a", own(to), *to), "{to} after the cut of {ends}");
        }
        assert_eq!(state(), before);
    }
}

fn settings_of_a_namespace_do_not_come_from_the_host() {
    let text = "version: 1\ntcp_congestion: reno\nnodes: {a: {}, r: {kind: router}, s: {kind: switch}}\n\
                links:\n  - ends: [a, s]\n  - ends: [r, s]\n";
    let lab = build(&network(text));
    let settings =
        |lab: &Lab, place: &str| lab.place(place).expect("a place").settings().expect("settings");
    let (host, router) = (settings(&lab, "a"), settings(&lab, "r"));
    for (name, value) in [
        ("net.ipv4.tcp_congestion_control", "reno"),
        ("net.ipv4.tcp_rmem", "4096 131072 6291456"),
        ("net.ipv4.ip_default_ttl", "255"),
        ("net.ipv4.conf.all.rp_filter", "0"),
        ("net.ipv6.conf.default.hop_limit", "255"),
        ("net.ipv6.conf.all.keep_addr_on_down", "1"),
    ] {
        assert_eq!(host.get(name).map(String::as_str), Some(value), "{name}");
        assert_eq!(router.get(name).map(String::as_str), Some(value), "{name}");
    }
    let forwards = ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"];
    assert!(forwards.iter().all(|name| host[*name] == "0" && router[*name] == "1"));
    let usual = build(&network(&text.replace("tcp_congestion: reno\n", "")));
    let usual = settings(&usual, "a")["net.ipv4.tcp_congestion_control"].clone();
    assert!(["cubic", "reno"].contains(&usual.as_str()), "{usual}");
    let none = network(&text.replace("reno", "limosa_has_none"));
    let told = Lab::up(&none, 0, Carrier::Kernel).expect_err("refused");
    let told = format!("{told:#}");
    assert!(told.contains("no TCP congestion control `limosa_has_none`"), "{told}");
}

struct Down(String);

impl Drop for Down {
    fn drop(&mut self) {
        let _ = limosa(&["down", &self.0]);
    }
}

fn limosa(arguments: &[&str]) -> Output {
    crate::limosa().args(arguments).output().expect("start limosa")
}

fn up_proposes_what_works_and_exec_needs_one_place_only() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let file = folder.path().join("net.yaml");
    let topology =
        "version: 1\nnodes: {a: {}, m: {}, b: {}}\nlinks:\n  - ends: [a, m]\n  - ends: [m, b]\n";
    fs::write(&file, topology).expect("write a topology");
    let name = &*lab("middle");
    let _down = Down(name.to_owned());
    let up = limosa(&["up", &file.to_string_lossy(), "--name", name]);
    let told = text(&up);
    assert!(up.status.success(), "{told}");
    assert!(told.contains(&format!("try: limosa exec {name} a -- ping -c 3 10.0.0.2")), "{told}");
    assert!(told.contains("note: `a` cannot reach `b`: `m` is between them"), "{told}");
    let gone = limosa(&["exec", name, "m", "--", "ip", "link", "del", "eth0"]);
    assert!(gone.status.success(), "{}", text(&gone));
    let other = limosa(&["exec", name, "b", "--", "ls", "/sys/class/net"]);
    assert!(other.status.success(), "{}", text(&other));
    let shown = limosa(&["inspect", name]);
    let told = text(&shown);
    assert!(told.contains("node `a`") && told.contains("`eth0` is gone"), "{told}");
    assert!(told.contains(&format!("hint: limosa down {name}")), "{told}");
}

limosa_testkit::tests![
    addresses_anywhere_in_a_subnet_of_any_size_are_reached,
    a_chain_of_as_many_routers_as_a_packet_lives_for_is_passed,
    providers_gateways_backhauls_and_parallel_links_lead_where_the_plan_says,
    a_large_segment_has_few_neighbours_and_everybody_is_reached,
    what_a_cut_takes_away_is_there_when_the_link_is_mended,
    settings_of_a_namespace_do_not_come_from_the_host,
    up_proposes_what_works_and_exec_needs_one_place_only,
];
