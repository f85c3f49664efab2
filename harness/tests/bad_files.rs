//! Every way to get a file wrong that we could think of, and the message that it gives.
//!
//! The messages are one snapshot, so that they can be read in one sitting.

use limosa::{plan, spec};
use std::{fmt::Write, fs, path::Path};

const TOPOLOGY: &str = "\
version: 1
nodes:
  client: {}
  switch: {kind: switch}
  router: {kind: router}
  server-a: {}
  server-b: {}
links:
  - {ends: [client.eth0, switch]}
  - {ends: [switch, router.eth0], shape: {rate: 10Mbit/s, delay: 5ms}}
  - {ends: [router.eth1, server-a.eth0]}
  - {ends: [router.eth2, server-b.eth0]}
";

const EXPERIMENT: &str = "\
version: 1
topology: net
repetitions: 3
time_limit: 60s
workload:
  download: {path: /random, size: 10MB}
variants:
  quic-none: {scheme: quic}
  multipath-migrate:
    scheme: multipath
    transport: {idle_timeout: 30s}
timeline:
  - at: 1s
    announce: {node: server, to: server-b}
    only: [multipath-migrate]
  - at: 2s
    checkpoint: {node: server, as: image}
    only: [multipath-migrate]
  - after: image + 10s
    restore: {from: image, on: server-b}
    only: [multipath-migrate]
expect:
  client: {exited: 0}
";

fn load(folder: &Path, experiment: &str, topology: &str) -> Result<plan::Plan, spec::SpecError> {
    fs::write(folder.join("net.yaml"), topology).unwrap();
    let file = folder.join("x.yaml");
    fs::write(&file, experiment).unwrap();
    let (experiment, topology) = spec::load_experiment(&file)?;
    plan::resolve(&experiment, &topology)
}

#[test]
fn the_files_are_right_before_they_are_made_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let plan = load(folder.path(), EXPERIMENT, TOPOLOGY).unwrap();
    assert_eq!(plan.trials.len(), 6);
}

#[test]
fn each_mistake_is_told_with_its_place() {
    // (what is wrong, text to find, text to put there)
    let in_experiment = [
        ("unknown field", "repetitions: 3", "repetitons: 3"),
        ("unknown action", "    announce:", "    teleport:"),
        ("misspelt unit", "at: 2s", "at: 2sec"),
        ("no unit", "at: 2s", "at: 2"),
        ("negative time", "at: 2s", "at: -2s"),
        ("absurd size", "size: 10MB", "size: 99999999999GB"),
        ("empty body", "size: 10MB", "size: 0B"),
        ("absurd idle timeout", "idle_timeout: 30s", "idle_timeout: 30h"),
        ("duplicate variant", "  multipath-migrate:\n", "  quic-none:\n"),
        ("duplicate field", "repetitions: 3", "repetitions: 3\nrepetitions: 4"),
        ("unknown scheme", "scheme: quic", "scheme: quick"),
        ("unknown topology", "topology: net", "topology: nett"),
        ("unknown node", "node: server, as", "node: servr, as"),
        ("unknown host", "on: server-b", "on: server-c"),
        ("switch as a host", "to: server-b", "to: switch"),
        ("announcing client", "announce: {node: server", "announce: {node: client"),
        ("unknown image", "from: image", "from: imge"),
        ("unknown step", "after: image + 10s", "after: imge + 10s"),
        ("bad after", "after: image + 10s", "after: image + ten"),
        ("cycle", "at: 2s", "after: image"),
        ("after the end", "at: 2s", "at: 61s"),
        ("cannot start before the end", "image + 10s", "image + 58s"),
        ("restore before checkpoint", "after: image + 10s", "at: 1s"),
        ("no time", "  - at: 2s\n    checkpoint", "  - checkpoint"),
        ("two times", "  - at: 2s", "  - at: 2s\n    after: image"),
        ("no action", "    announce: {node: server, to: server-b}\n", ""),
        ("two actions", "    checkpoint:", "    kill: {node: client}\n    checkpoint:"),
        (
            "unknown variant",
            "only: [multipath-migrate]\n  - at: 2s",
            "only: [multipth]\n  - at: 2s",
        ),
        (
            "images of another variant",
            "checkpoint: {node: server, as: image}\n    only: [multipath-migrate]",
            "checkpoint: {node: server, as: image}\n    only: [quic-none]",
        ),
        (
            "an attack from nowhere",
            "    announce: {node: server, to: server-b}\n",
            "    attack: {kind: replay, node: server, from: mars}\n",
        ),
        (
            "an attack that cuts no link",
            "    announce: {node: server, to: server-b}\n",
            "    attack: {kind: reset, node: client, from: server-b, cut: lnk}\n",
        ),
        (
            "keys that nobody knows",
            "    announce: {node: server, to: server-b}\n",
            "    search: {node: server}\n",
        ),
        ("no repetitions", "repetitions: 3", "repetitions: 0"),
        ("too many repetitions", "repetitions: 3", "repetitions: 4000000000"),
        (
            "no variants",
            "variants:\n  quic-none: {scheme: quic}\n  multipath-migrate:\n    scheme: multipath\n    transport: {idle_timeout: 30s}\n",
            "variants: {}\n",
        ),
        ("expecting a stranger", "  client: {exited: 0}", "  clint: {exited: 0}"),
        ("expecting two ends", "{exited: 0}", "{exited: 0, signaled: 9}"),
        (
            "a playback in ranges",
            "size: 10MB}\nvariants:\n  quic-none: {scheme: quic}",
            "size: 10MB, play: 4Mbit/s}\nvariants:\n  quic-none: {scheme: dual-path}",
        ),
        ("a playback that stands", "size: 10MB", "size: 10MB, play: 1kbit/s"),
        ("path outside", "path: /random", "path: /../etc/passwd"),
        ("later version", "version: 1", "version: 2\nnew_field: 3"),
        ("not YAML", "workload:", "workload: [}"),
        ("wrong type", "repetitions: 3", "repetitions: [3]"),
        ("name that is a path", "  quic-none:", "  ../quic:"),
        ("unknown links", "repetitions: 3", "repetitions: 3\nlinks: fast"),
        ("no scheme", "{scheme: quic}", "{}"),
        (
            "a technique that is not there",
            "checkpoint: {node: server, as: image}",
            "migrate: {node: server, to: server-b, technique: warm, transfer: rsync}",
        ),
        (
            "rounds without an end",
            "announce: {node: server, to: server-b}",
            "migrate: {node: server, to: server-b, technique: pre-copy, transfer: rsync}",
        ),
        (
            "lazy pages by the page server",
            "announce: {node: server, to: server-b}",
            "migrate: {node: server, to: server-b, technique: post-copy, transfer: page-server}",
        ),
        (
            "moving to where it is",
            "announce: {node: server, to: server-b}",
            "migrate: {node: server, to: server-a, technique: cold, transfer: rsync}",
        ),
        (
            "a copy beside a client",
            "{scheme: quic}",
            "{scheme: quic, push: {size: 1MB, content: zeros}}",
        ),
        ("two workloads", "workload:\n", "workload:\n  push: {from: server-a, to: server-b}\n"),
        ("no clients", "{scheme: quic}", "{scheme: quic, clients: 0}"),
        ("too many clients", "{scheme: quic}", "{scheme: quic, clients: 201}"),
        ("many clients of two servers", "{scheme: quic}", "{scheme: post-copy, clients: 2}"),
        ("nobody to ask", "{scheme: quic}", "{scheme: lookup}"),
        ("a DNS server nowhere", "repetitions: 3", "repetitions: 3\ndns: {on: router}"),
        ("nowhere to publish", "announce: {node: server, to: server-b}", "publish: {node: server}"),
        (
            "a machine without a second cable",
            "announce: {node: server, to: server-b}",
            "relocate: {node: server, to: switch, pause: 1s}",
        ),
        (
            "a new shape with two losses",
            "    checkpoint: {node: server, as: image}",
            "    shape: {link: switch--router, both: {loss: 1%, burst_loss: {to_bad: 1%, to_good: 30%}}}",
        ),
    ];
    let in_topology = [
        ("duplicate node", "  server-b: {}", "  server-a: {}"),
        ("unknown field in a shape", "delay: 5ms", "delya: 5ms"),
        ("link to nowhere", "client.eth0", "clint.eth0"),
        ("interface used twice", "router.eth2", "router.eth1"),
        ("absurd rate", "rate: 10Mbit/s", "rate: 1bit/s"),
        ("absurd delay", "delay: 5ms", "delay: 5h"),
        ("burst without rate", "rate: 10Mbit/s", "burst: 10KB"),
        ("two queues", "delay: 5ms", "latency: 5ms, queue: 10KB"),
        ("loss above 100 %", "delay: 5ms", "loss: 120%"),
        (
            "address clash",
            "  server-a: {}\n  server-b: {}",
            "  server-a: {interfaces: {eth0: {addresses: [10.1.0.3/24]}}}\n  server-b: {interfaces: {eth0: {addresses: [10.1.0.3/24]}}}",
        ),
        (
            "subnet clash",
            "  server-a: {}\n  server-b: {}",
            "  server-a: {interfaces: {eth0: {addresses: [10.1.0.3/16]}}}\n  server-b: {interfaces: {eth0: {addresses: [10.1.7.3/24]}}}",
        ),
        (
            "not an address",
            "server-b: {}",
            "server-b: {interfaces: {eth0: {addresses: [10.1.0.300/24]}}}",
        ),
        (
            "network address",
            "server-b: {}",
            "server-b: {interfaces: {eth0: {addresses: [10.1.0.0/24]}}}",
        ),
        ("unused interface", "server-b: {}", "server-b: {interfaces: {eth9: {}}}"),
        ("long interface name", "client.eth0", "client.interface-number-0"),
        ("one end only", "[client.eth0, switch]", "[client.eth0]"),
        ("both shapes", "shape: {", "a_to_b: {}, shape: {"),
        ("link to itself", "router.eth1, server-a.eth0", "router.eth1, router.eth4"),
        ("no server", "  server-a: {}", "  servr-a: {}"),
        ("a host without a link", "  - {ends: [router.eth1, server-a.eth0]}\n", ""),
        ("a unit of others", "rate: 10Mbit/s", "rate: 10mbps"),
        ("rate and recording", "delay: 5ms", "trace: good.trace"),
        ("no recording", "rate: 10Mbit/s", "trace: none.trace"),
        ("a folder as a recording", "rate: 10Mbit/s", "trace: ."),
        ("bad recording", "rate: 10Mbit/s", "trace: bad.trace"),
        ("disorder without jitter", "delay: 5ms", "delay: 5ms, jitter_reorder: true"),
        ("bad for ever", "delay: 5ms", "burst_loss: {to_bad: 1%, to_good: 0%}"),
        ("half a burst", "delay: 5ms", "burst_loss: {to_bad: 1%}"),
    ];
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("good.trace"), "1\n2\n").unwrap();
    fs::write(folder.path().join("bad.trace"), "1\n2\n1.5\n").unwrap();
    let mut told = String::new();
    let files = [(&in_experiment[..], true), (&in_topology[..], false)];
    for (mistakes, experiment) in files {
        for (what, find, put) in mistakes {
            let text = if experiment { EXPERIMENT } else { TOPOLOGY };
            assert!(text.contains(find), "{what}: `{find}` is not in the text");
            let wrong = text.replacen(find, put, 1);
            let result = match experiment {
                true => load(folder.path(), &wrong, TOPOLOGY),
                false => load(folder.path(), EXPERIMENT, &wrong),
            };
            let error = result.expect_err(what).to_string();
            let error = error.replace(&format!("{}/", folder.path().display()), "");
            writeln!(told, "# {what}\nerror: {error}\n").unwrap();
        }
    }
    insta::assert_snapshot!(told);
}

const PUSH: &str = "\
version: 1
topology: net
repetitions: 1
workload: {push: {from: server-a, to: server-b}}
variants:
  zeros: {push: {size: 1MB, content: zeros}}
";

#[test]
fn each_mistake_of_a_push_is_told_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let plan = load(folder.path(), PUSH, TOPOLOGY).unwrap();
    assert!(plan.needs_rsync() && !plan.needs_criu() && plan.nodes.is_empty());
    let mut told = String::new();
    for (what, find, put) in [
        ("switch as a host", "from: server-a", "from: switch"),
        ("to itself", "to: server-b", "to: server-a"),
        ("nothing to copy", "{push: {size: 1MB, content: zeros}}", "{}"),
        ("empty file", "size: 1MB", "size: 0B"),
        ("unknown content", "content: zeros", "content: ones"),
        ("a scheme", "zeros: {push", "zeros: {scheme: quic, push"),
        ("nodes", "repetitions: 1", "repetitions: 1\nnodes: {client: {on: client, role: client}}"),
        (
            "a step with a node",
            "repetitions: 1",
            "repetitions: 1\ntimeline: [{at: 1s, kill: {node: server}}]",
        ),
    ] {
        assert!(PUSH.contains(find), "{what}");
        let error = load(folder.path(), &PUSH.replacen(find, put, 1), TOPOLOGY);
        let error = error.expect_err(what).to_string();
        let error = error.replace(&format!("{}/", folder.path().display()), "");
        writeln!(told, "# {what}\nerror: {error}\n").unwrap();
    }
    insta::assert_snapshot!(told);
}

/// A network with both servers in one subnet, and a server that is not Limosa's own.
const COMMAND: &str = "\
version: 1
topology: net
repetitions: 1
nodes:
  client: {on: client, role: client}
  server:
    on: server-a
    role: server
    address: 10.1.0.100
    command: [nginx, -c, nginx.conf]
    env: {LANG: C}
    files: {nginx.conf: 'events {}'}
    ready: {tcp: 8080}
workload:
  download: {path: /random, size: 10MB}
variants:
  one: {scheme: http}
timeline:
  - at: 1s
    migrate: {node: server, to: server-b, technique: cold, transfer: stream}
";

#[test]
fn each_mistake_of_a_command_is_told_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let topology = TOPOLOGY
        .replace("nodes:\n", "nodes:\n  rack: {kind: switch}\n")
        .replace("[router.eth1, server-a.eth0]", "[router.eth1, rack]")
        .replace("[router.eth2, server-b.eth0]", "[server-b.eth0, rack]")
        + "  - {ends: [server-a.eth0, rack]}\n";
    let plan = load(folder.path(), COMMAND, &topology).unwrap();
    assert_eq!(plan.commands().map(|c| c.1.line()).collect::<Vec<_>>(), ["nginx -c nginx.conf"]);
    assert_eq!(plan.variants["one"].connect.to_string(), "10.1.0.100:8080");
    let at_home = plan.at_places(&plan.variants["one"]).connect;
    assert_eq!((Some(at_home.ip()), at_home.port()), (plan.network.address("server-a"), 8080));
    let mut told = String::new();
    for (what, find, put) in [
        ("no program", "[nginx, -c, nginx.conf]", "[]"),
        ("a path from where?", "[nginx,", "[bin/nginx,"),
        ("not a list", "[nginx, -c, nginx.conf]", "nginx -c nginx.conf"),
        ("a variable with a value", "{LANG: C}", "{LANG=C: C}"),
        ("a file outside", "{nginx.conf:", "{../nginx.conf:"),
        ("a file that is there already", "{nginx.conf:", "{www:"),
        ("two conditions", "{tcp: 8080}", "{tcp: 8080, line: ready}"),
        ("no port", "    ready: {tcp: 8080}\n", ""),
        ("only a line", "{tcp: 8080}", "{line: ready}"),
        ("port zero", "{tcp: 8080}", "{tcp: 0}"),
        ("an empty line", "    role: server\n", "    ready: {line: ''}\n"),
        ("neither role nor command", "{on: client, role: client}", "{on: client}"),
        ("HTTP with two strangers", "role: client}", "role: client, command: [curl]}"),
        (
            "waiting for a client",
            "role: client}",
            "role: client, command: [curl], ready: {line: connected}}",
        ),
        (
            "a body that is not its own",
            "role: client}",
            "role: client, command: [curl], saves: ../x}",
        ),
        ("a body of nobody", "role: client}", "role: client, saves: body}"),
        (
            "a server that saves",
            "    ready: {tcp: 8080}\n",
            "    ready: {tcp: 8080}\n    saves: body\n",
        ),
        ("two ports", "{tcp: 8080}", "{tcp: 8080, quic: 443}"),
        ("a port of QUIC for HTTP", "{tcp: 8080}", "{quic: 443}"),
        (
            "the port of Limosa's own server",
            "workload:",
            "  own: {on: server-a, command: [x], ready: {tcp: 8080}}\nworkload:",
        ),
        ("an environment without a command", "role: client}", "role: client, env: {A: b}}"),
        ("an address elsewhere", "10.1.0.100", "10.2.0.100"),
        ("an address of somebody else", "10.1.0.100", "10.1.0.1"),
        ("no address", "10.1.0.100", "nowhere"),
        ("moving out of the subnet", "to: server-b", "to: client"),
        ("QUIC with a stranger", "scheme: http", "scheme: quic"),
        (
            "HTTP with a friend",
            "    command: [nginx, -c, nginx.conf]\n    env: {LANG: C}\n    files: {nginx.conf: 'events {}'}\n    ready: {tcp: 8080}\n",
            "",
        ),
        ("ballast in a stranger", "{scheme: http}", "{scheme: http, ballast: {size: 1MB}}"),
        ("playing over HTTP", "size: 10MB", "size: 10MB, play: 4Mbit/s"),
        (
            "announcing a stranger",
            "migrate: {node: server, to: server-b, technique: cold, transfer: stream}",
            "announce: {node: server, to: server-b}",
        ),
        (
            "a copy of a stranger",
            "migrate: {node: server, to: server-b, technique: cold, transfer: stream}",
            "checkpoint: {node: server, as: image, leave_running: true}\n  - after: image\n    restore: {from: image, on: server-b, as: copy}",
        ),
    ] {
        assert!(COMMAND.contains(find), "{what}");
        let mut wrong = COMMAND.replacen(find, put, 1);
        if what == "an empty line" {
            wrong = wrong.replacen("    ready: {tcp: 8080}\n", "", 1);
        }
        let error = load(folder.path(), &wrong, &topology).expect_err(what).to_string();
        let error = error.replace(&format!("{}/", folder.path().display()), "");
        writeln!(told, "# {what}\nerror: {error}\n").unwrap();
    }
    insta::assert_snapshot!(told);
}

/// Programs at both ends: neither of them is Limosa's own.
const STRANGERS: &str = "\
version: 1
topology: net
repetitions: 1
nodes:
  server: {on: server-a, role: server, command: [nginx], ready: {quic: 443}}
  client: {on: client, role: client, command: [curl], saves: body}
workload:
  download: {path: /random, size: 10MB}
variants:
  one: {}
expect:
  client: {exited: 0}
";

#[test]
fn programs_at_both_ends_need_no_scheme_and_have_none() {
    let folder = tempfile::tempdir().unwrap();
    let plan = load(folder.path(), STRANGERS, TOPOLOGY).unwrap();
    assert!(plan.awaits("client") && !plan.awaits("server"));
    let one = &plan.variants["one"];
    assert_eq!((one.scheme, one.connect.port(), one.local.len()), (None, 443, 1));
    let mut told = String::new();
    for (what, find, put) in [
        ("a scheme", "one: {}", "one: {scheme: quic}"),
        ("several clients", "one: {}", "one: {clients: 3}"),
        ("transport settings", "one: {}", "one: {transport: {qlog: true}}"),
        (
            "requests",
            "download: {path: /random, size: 10MB}",
            "requests: {objects: {count: 1, size: 1KB}, arrivals: {every: 1s}, count: 1}",
        ),
        ("playing", "size: 10MB", "size: 10MB, play: 4Mbit/s"),
        (
            "Limosa's own server and another scheme",
            "server, command: [nginx], ready: {quic: 443}",
            "server",
        ),
        (
            "the port of Limosa's own server",
            "server, command: [nginx], ready: {quic: 443}}",
            "server}\n  other: {on: server-a, command: [x], ready: {udp: 4433}}",
        ),
    ] {
        assert!(STRANGERS.contains(find), "{what}");
        let mut wrong = STRANGERS.replacen(find, put, 1);
        if what.ends_with("another scheme") {
            wrong = wrong.replacen("one: {}", "one: {scheme: multipath}", 1);
        }
        let error = load(folder.path(), &wrong, TOPOLOGY).expect_err(what).to_string();
        let error = error.replace(&format!("{}/", folder.path().display()), "");
        writeln!(told, "# {what}\nerror: {error}\n").unwrap();
    }
    insta::assert_snapshot!(told);
}

#[test]
fn a_recording_in_the_kernel_names_who_can_play_it() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("good.trace"), "1\n2\n").unwrap();
    let topology = TOPOLOGY.replace("rate: 10Mbit/s", "trace: good.trace");
    let plan = load(folder.path(), EXPERIMENT, &topology).unwrap();
    assert!(plan.needs_user_links());
    let kernel = EXPERIMENT.replace("repetitions: 3", "repetitions: 3\nlinks: kernel");
    let error = load(folder.path(), &kernel, &topology).unwrap_err().to_string();
    let error = error.replace(&format!("{}/", folder.path().display()), "");
    assert!(error.starts_with("net.yaml:10:50: links in the kernel cannot play"), "{error}");
    assert!(error.contains("`links: user` can"), "{error}");
}

#[test]
fn files_that_are_no_files() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("binary.yaml"), [0xff, 0xfe, 0x00]).unwrap();
    fs::write(at("empty.yaml"), "").unwrap();
    let tell = |name: &str| {
        let error = spec::load_experiment(&at(name)).unwrap_err().to_string();
        error.replace(&format!("{}/", folder.path().display()), "")
    };
    assert_eq!(
        tell("none.yaml"),
        "none.yaml: there is no such file\n  hint: the files that come with Limosa are in experiments/"
    );
    assert_eq!(tell("binary.yaml"), "binary.yaml: is not UTF-8 text");
    assert_eq!(tell("empty.yaml"), "empty.yaml: is empty");
    assert!(tell("").ends_with("is a folder, not a file"), "{}", tell(""));
}

/// Names become names of files and folders. (Text before the name, the name as it is, text behind it)
const NAMES: &[(&str, &str, &str)] = &[
    ("  ", "quic-none", ": {scheme: quic}"),
    ("checkpoint: {node: server, as: ", "image", "}"),
    ("restore: {from: image, on: server-b", "", "}"),
    ("capture: [", "client", "]"),
    (
        "nodes:\n  server: {on: server-a, role: server}\n  ",
        "client",
        ": {on: client, role: client}",
    ),
];

#[test]
fn no_name_leads_out_of_the_run_directory() {
    let folder = tempfile::tempdir().unwrap();
    let base = EXPERIMENT.replace(
        "repetitions: 3",
        "repetitions: 3\ncapture: [client]\nnodes:\n  server: {on: server-a, role: server}\n  client: {on: client, role: client}",
    );
    load(folder.path(), &base, TOPOLOGY).unwrap();
    for (before, name, behind) in NAMES {
        let old = format!("{before}{name}{behind}");
        assert!(base.contains(&old), "{old}");
        for path in
            ["../x", "..", ".", "/etc/x", "a/b", "a/../../b", "\"a\\0b\"", "\"a\\nb\"", "\"\""]
        {
            // A copy's name is the only one that is not there in the first place.
            let put = if name.is_empty() { format!(", as: {path}") } else { path.to_owned() };
            let text = base.replacen(&old, &format!("{before}{put}{behind}"), 1);
            assert!(load(folder.path(), &text, TOPOLOGY).is_err(), "{old}: {path}");
        }
    }
    for (name, behind) in [("server-b", ": {}"), ("switch", ": {kind: switch}")] {
        for path in ["../x", "a/b", "..", "\"\""] {
            let text =
                TOPOLOGY.replacen(&format!("  {name}{behind}"), &format!("  {path}{behind}"), 1);
            assert!(load(folder.path(), EXPERIMENT, &text).is_err(), "{name}: {path}");
        }
        let text = TOPOLOGY.replace("client.eth0", "client.../x");
        assert!(load(folder.path(), EXPERIMENT, &text).is_err());
    }
}
