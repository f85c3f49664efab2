//! Topologies that people have built elsewhere, and what was reported of them: each becomes a
//! network in which packets find their way, or is refused with place and reason.

use limosa::{
    plan::{self, Reach},
    spec,
};
use limosa_lab::network::Network;
use std::{fmt::Write, path::Path};

fn network(text: &str) -> Result<Network, String> {
    let document =
        spec::parse(Path::new("net.yaml"), text.to_owned()).map_err(|e| e.to_string())?;
    plan::resolve_topology(&document, spec::Links::Auto).map_err(|e| e.to_string())
}

/// A topology of IPv4 with these nodes and links, a line each.
fn lines(nodes: &[&str], links: &[&str]) -> String {
    let mut text = "version: 1\nfamilies: [ipv4]\nnodes:\n".to_owned();
    for node in nodes {
        let _ = writeln!(text, "  {node}");
    }
    text += "links:\n";
    for link in links {
        let _ = writeln!(text, "  - {link}");
    }
    text
}

fn refused(text: &str, place: &str, parts: &[&str]) {
    let told = network(text).expect_err("refused");
    assert!(told.starts_with(&format!("net.yaml:{place}: ")), "{told}");
    for part in parts {
        assert!(told.contains(part), "`{part}` is not in:\n{told}");
    }
}

fn addresses(network: &Network, place: &str) -> Vec<String> {
    let all = network.places[place].interfaces.iter().flat_map(|i| &i.addresses);
    all.map(ToString::to_string).collect()
}

fn why_not(network: &Network, from: &str, to: &str) -> String {
    Reach::new(network).way(from, to).expect_err("no way").why
}

/// mininet#849, minicps#8, ToMaTo#965.
#[test]
fn a_ring_of_switches_is_refused_at_the_link_that_closes_it() {
    let switches = ["h1: {}", "s1: {kind: switch}", "s2: {kind: switch}", "s3: {kind: switch}"];
    let ring = ["ends: [h1, s1]", "ends: [s1, s2]", "ends: [s2, s3]", "ends: [s3, s1]"];
    let named = ["ring of switches: `s3` – `s1` – `s2` – `s3`", "hint: "];
    refused(&lines(&switches, &ring), "12:11", &named);
    let twice = ["ends: [s1, s2]", "{ends: [s2, s1], name: second}"];
    refused(&lines(&switches, &twice), "10:12", &["`s2` – `s1` – `s2`"]);
    network(&lines(&switches, &ring[..3])).expect("a chain is fine");
    // A host with two links to a switch forwards nothing.
    let both = ["ends: [h1.eth0, s1]", "{ends: [h1.eth1, s1], name: second}"];
    network(&lines(&switches, &both)).expect("two links of a host are fine");
}

/// A bridge of Linux has 1023 ports.
#[test]
fn a_switch_with_too_many_ports_is_refused() {
    let star = |hosts: usize| {
        let nodes: Vec<String> = (0..hosts).map(|n| format!("h{n}: {{}}")).collect();
        let links: Vec<String> = (0..hosts).map(|n| format!("ends: [h{n}, s]")).collect();
        let mut nodes: Vec<&str> = nodes.iter().map(String::as_str).collect();
        nodes.push("s: {kind: switch}");
        lines(&nodes, &links.iter().map(String::as_str).collect::<Vec<_>>())
    };
    network(&star(1023)).expect("a full bridge");
    refused(&star(1999), "3028:19", &["`s` has more than 1023 ports", "hint: "]);
}

/// netlab#1641, mp-quic#15: the address that has a way, not the first.
#[test]
fn a_server_is_reached_where_there_is_a_way() {
    let nodes = ["client: {}", "r: {kind: router}", "server-a: {}", "server-b: {}"];
    let links = [
        "ends: [server-a.eth0, server-b.eth0]",
        "ends: [client.eth0, r.eth0]",
        "ends: [r.eth1, server-a.eth1]",
        "ends: [r.eth2, server-b.eth1]",
    ];
    let network = network(&lines(&nodes, &links)).expect("a network");
    let reach = Reach::new(&network);
    let to = |server: &str| reach.way("client", server).expect("a way").to.to_string();
    assert_eq!([to("server-a"), to("server-b")], ["10.2.0.1", "10.3.0.1"]);
    assert_eq!(reach.way("server-a", "server-b").expect("a way").to.to_string(), "10.0.0.2");
}

/// mp-quic#50: the second provider's servers are behind the second interface.
#[test]
fn each_provider_is_used_for_what_is_behind_it() {
    let nodes = [
        "client: {}",
        "isp-a: {kind: router}",
        "isp-b: {kind: router}",
        "server-a: {}",
        "server-b: {}",
    ];
    let links = [
        "ends: [client.eth0, isp-a.eth0]",
        "ends: [client.eth1, isp-b.eth0]",
        "ends: [isp-a.eth1, server-a.eth0]",
        "ends: [isp-b.eth1, server-b.eth0]",
    ];
    let network = network(&lines(&nodes, &links)).expect("a network");
    let reach = Reach::new(&network);
    let through = |server: &str| reach.way("client", server).expect("a way").interface.name.clone();
    assert_eq!([through("server-a"), through("server-b")], ["eth0", "eth1"]);
    let main = network.places["client"].routes.iter().filter(|r| r.table == 254);
    let main: Vec<_> = main.map(|r| format!("{} {}", r.to, r.interface)).collect();
    assert_eq!(main, ["0.0.0.0/0 eth0", "10.3.0.0/24 eth1"]);
    assert!(reach.way("server-a", "server-b").is_err());
}

/// netlab#455, imunes#92; ngfw_src#1066, scion#481; mininet#576.
#[test]
fn routers_take_free_numbers_of_subnets_of_any_size() {
    for (given, free) in [
        ("192.0.2.1/30", "192.0.2.2/30"),
        ("192.0.2.1/29", "192.0.2.6/29"),
        ("192.0.2.1/25", "192.0.2.126/25"),
        ("192.0.2.0/31", "192.0.2.1/31"),
        ("192.0.2.1/31", "192.0.2.0/31"),
        ("10.1.0.254/8", "10.0.0.254/8"),
        ("10.0.0.254/16", "10.0.0.253/16"),
        ("fd00:1::1/126", "fd00:1::3/126"),
        ("fd00:1::1/121", "fd00:1::7f/121"),
        ("fd00:1::/127", "fd00:1::1/127"),
    ] {
        let r1 = format!("r1: {{kind: router, interfaces: {{eth1: {{addresses: ['{given}']}}}}}}");
        let nodes = ["client: {}", &r1, "r2: {kind: router}", "server: {}"];
        let links =
            ["ends: [client, r1]", "ends: [r1.eth1, r2.eth0]", "ends: [r2.eth1, server.eth0]"];
        let text = lines(&nodes, &links);
        let text = if given.contains(':') { text.replace("ipv4", "ipv6") } else { text };
        let network = network(&text).unwrap_or_else(|e| panic!("{given}: {e}"));
        assert_eq!(addresses(&network, "r2")[0], free, "beside {given}");
        Reach::new(&network).way("client", "server").expect("a way");
    }
    let r1 = "r1: {kind: router, interfaces: {eth0: {addresses: [192.0.2.0/31]}}}";
    let full = ["s: {kind: switch}", r1, "r2: {kind: router}", "r3: {kind: router}"];
    let links = ["ends: [r1.eth0, s]", "ends: [r2, s]", "ends: [r3, s]"];
    refused(&lines(&full, &links), "11:12", &["192.0.2.0/31 has no address left for `r3.eth0`"]);
}

#[test]
fn a_router_after_three_hundred_hosts_gets_an_address() {
    let mut nodes = vec!["s: {kind: switch}".to_owned(), "r: {kind: router}".to_owned()];
    nodes.extend((0..300).map(|n| format!("h{n}: {{}}")));
    let mut links: Vec<String> = (0..300).map(|n| format!("ends: [h{n}, s]")).collect();
    links.push("ends: [r, s]".to_owned());
    let words = |all: &[String]| all.iter().map(|s| s.as_str().to_owned()).collect::<Vec<_>>();
    let (nodes, links) = (words(&nodes), words(&links));
    let (nodes, links): (Vec<&str>, Vec<&str>) =
        (nodes.iter().map(String::as_str).collect(), links.iter().map(String::as_str).collect());
    let network = network(&lines(&nodes, &links)).expect("a network");
    assert_eq!(addresses(&network, "r"), ["10.0.1.45/16"]);
}

/// Mininet's 10.0.0.0/8.
#[test]
fn other_private_ranges_are_taken_when_the_user_has_the_first() {
    let h1 = "h1: {interfaces: {eth0: {addresses: [10.0.0.1/8]}}}";
    let nodes = [h1, "r: {kind: router}", "h2: {}"];
    let links = ["ends: [h1.eth0, r.eth0]", "ends: [r.eth1, h2.eth0]"];
    let network = network(&lines(&nodes, &links)).expect("a network");
    assert_eq!(addresses(&network, "h2"), ["172.16.0.1/24"]);
    Reach::new(&network).way("h1", "h2").expect("a way");
}

fn chain(routers: usize, families: &str) -> String {
    let mut nodes = vec!["client: {}".to_owned(), "server: {}".to_owned()];
    nodes.extend((0..routers).map(|n| format!("r{n}: {{kind: router}}")));
    let mut links = vec!["ends: [client, r0]".to_owned()];
    links.extend((1..routers).map(|n| format!("ends: [r{}, r{n}]", n - 1)));
    links.push(format!("ends: [r{}, server]", routers - 1));
    let (nodes, links): (Vec<&str>, Vec<&str>) =
        (nodes.iter().map(String::as_str).collect(), links.iter().map(String::as_str).collect());
    lines(&nodes, &links).replace("[ipv4]", families)
}

/// meshnet-lab#25, mininet#195.
#[test]
fn long_chains_work_as_far_as_packets_live() {
    for families in ["[ipv4]", "[ipv6]", "[ipv4, ipv6]"] {
        let network = network(&chain(254, families)).expect("a network");
        let way = Reach::new(&network).way("client", "server").expect("a way");
        assert_eq!(way.crossings.len(), 2 * 255);
    }
    let network = network(&chain(300, "[ipv4]")).expect("more than 256 segments");
    assert!(why_not(&network, "client", "server").contains("more than 254 routers"));
    refused(&chain(1200, "[ipv4]"), "1207:3", &["1200 routers", "1000000 routes", "hint: "]);
}

/// ipmininet#128, mininet#854.
#[test]
fn a_host_in_the_middle_and_parts_without_a_link_are_told() {
    let nodes = ["a: {}", "m: {}", "b: {}", "c: {}", "lone: {}", "d: {}"];
    let links = ["ends: [a, m]", "ends: [m, b]", "ends: [c, d]"];
    let network = network(&lines(&nodes, &links)).expect("a network");
    assert!(why_not(&network, "a", "b").contains("`m` is between them, and hosts do not forward"));
    assert!(why_not(&network, "a", "c").contains("no links lead from one to the other"));
    assert!(why_not(&network, "a", "lone").contains("no link ends at `lone`"));
    Reach::new(&network).way("a", "m").expect("neighbours reach each other");
}

/// mininet-wifi#235, and what interfaces cannot be called.
#[test]
fn addresses_and_names_that_cannot_work_are_refused() {
    for (bad, why) in [
        ("fd00::/64", "subnet-router anycast"),
        ("fe80::1/64", "link-local"),
        ("::ffff:1.2.3.4/96", "v4-mapped"),
        ("010.001.000.003/24", "not an address with a prefix length"),
        ("10.0.0.1/7", "the shortest prefix is /8"),
    ] {
        let host = format!("h: {{interfaces: {{eth0: {{addresses: ['{bad}']}}}}}}");
        let text = lines(&[&host, "r: {kind: router}"], &["ends: [h.eth0, r.eth0]"]);
        refused(&text, "4:39", &[why]);
    }
    for name in ["all", "default", "..", "lo", "br0", "sit0", "a/b", "sixteen-letters-"] {
        let text = lines(&["h: {}", "r: {kind: router}"], &[&format!("ends: ['h.{name}', r]")]);
        refused(&text, "7:12", &[name]);
    }
}

/// Sizes: all of this is linear, so that it is over at once.
#[test]
fn two_thousand_hosts_have_a_plan() {
    let mut nodes = Vec::new();
    let mut links = Vec::new();
    for s in 0..4 {
        nodes.push(format!("s{s}: {{kind: switch}}"));
        links.extend((s > 0).then(|| format!("ends: [s0, s{s}]")));
        for n in 0..500 {
            nodes.push(format!("h{s}-{n}: {{}}"));
            links.push(format!("ends: [h{s}-{n}, s{s}]"));
        }
    }
    let (nodes, links): (Vec<&str>, Vec<&str>) =
        (nodes.iter().map(String::as_str).collect(), links.iter().map(String::as_str).collect());
    let network = network(&lines(&nodes, &links)).expect("a network");
    assert_eq!(addresses(&network, "h3-499"), ["10.0.7.208/16"]);
}
