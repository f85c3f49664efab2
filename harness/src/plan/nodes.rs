//! The processes of an experiment, checked against the network.

use super::SERVER_PORT;
use crate::spec::{
    Document, Experiment, Node, PathStep, Problem, Ready, Role, SpecError, Transport, Variant,
    Workload, check_free, known,
};
use indexmap::IndexMap;
use limosa_lab::network::Kind;
use limosa_lab::network::Network;
use limosa_record::node::Scheme;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// Names in a command's folder that are not its own.
const TAKEN: [&str; 4] = ["stdout.log", "stderr.log", "www", "certs"];

/// A process and where it starts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodePlan {
    /// The place where it starts.
    pub on: String,
    /// What it is to the others.
    pub role: Option<Role>,
    /// The program, when it is not Limosa's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<CommandPlan>,
    /// Its own address, which moves along.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
}

/// A program that is not Limosa's own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CommandPlan {
    /// Its name or its absolute path.
    pub program: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Variables of its environment, beside Limosa's own.
    pub env: IndexMap<String, String>,
    /// Files in its folder, by name.
    pub files: IndexMap<String, String>,
    /// When it is ready; at once when `None`.
    pub ready: Option<Ready>,
    /// The file in its folder that holds the body when it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub saves: Option<String>,
}

impl CommandPlan {
    /// Program and arguments as a shell would take them.
    pub fn line(&self) -> String {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
        let words = std::iter::once(&self.program).chain(&self.args).map(|word| {
            match !word.is_empty() && word.chars().all(plain) {
                true => word.clone(),
                false => format!("'{}'", word.replace('\'', r"'\''")),
            }
        });
        words.collect::<Vec<_>>().join(" ")
    }
}

impl NodePlan {
    /// The port at which its clients find it.
    pub(super) fn port(&self) -> u16 {
        let ready = self.command.as_ref().and_then(|c| c.ready.as_ref());
        ready.and_then(|r| r.tcp.or(r.udp_port())).unwrap_or(SERVER_PORT)
    }

    /// Whether it is a program with that role that is not Limosa's own.
    pub fn is_foreign(&self, role: Role) -> bool {
        self.role == Some(role) && self.command.is_some()
    }
}

/// All that is wrong with an experiment whose commands are not to be started.
pub fn refuse_commands(experiment: &Document<Experiment>) -> SpecError {
    let nodes = experiment.value.nodes.iter().flat_map(|nodes| nodes.iter());
    let commands = nodes.filter_map(|(name, node)| Some((name, node.command.as_ref()?)));
    let problem = |(name, command): (&String, &Vec<String>)| {
        let way = ["nodes".into(), name.into(), "command".into()];
        let program = command.first().map_or("", String::as_str);
        let message = format!("the node `{name}` would start the program `{program}` as root");
        let hint = "read the file, and add `--allow-commands` if you want that";
        experiment.problem(&way, message, Some(hint.into()))
    };
    SpecError(commands.map(problem).collect())
}

/// The processes, or nothing and the reasons in `problems`.
pub(super) fn resolve(
    experiment: &Document<Experiment>,
    network: &Network,
    problems: &mut Vec<Problem>,
) -> Option<IndexMap<String, NodePlan>> {
    let workload = &experiment.value.workload;
    if workload.push.is_some() && workload.download.is_none() && workload.requests.is_none() {
        return Some(IndexMap::new());
    }
    let before = problems.len();
    let nodes: IndexMap<String, Node> = match &experiment.value.nodes {
        Some(nodes) => nodes.0.clone(),
        None => {
            let first = no_host(network, "server-a");
            let server = if first.is_none() { "server-a" } else { "server" };
            IndexMap::from([
                ("server".into(), Node::own(server, Role::Server)),
                ("client".into(), Node::own("client", Role::Client)),
            ])
        }
    };
    for (name, node) in &nodes {
        let mut complain = |field: &[PathStep], message: String, hint: Option<String>| {
            let way = [&["nodes".into(), name.into()], field].concat();
            problems.push(experiment.problem(&way, message, hint));
        };
        if let Err(why) = check_free(name) {
            complain(&[], why, None);
        }
        if let Some((message, hint)) = no_host(network, &node.on) {
            complain(&["on".into()], message, hint);
        }
        check_command(name, node, &mut complain);
        check_client(name, node, workload, &mut complain);
        check_port(name, &nodes, &mut complain);
        check_address(name, &nodes, network, &mut complain);
    }
    check_places(experiment, &nodes, problems);
    for (role, word) in [(Role::Server, "server"), (Role::Client, "client")] {
        let count = nodes.values().filter(|n| n.role == Some(role)).count();
        if count != 1 {
            let message = format!("an experiment has one {word}, this has {count}");
            problems.push(experiment.problem(&["nodes".into()], message, None));
        }
    }
    (problems.len() == before).then(|| nodes.into_iter().map(|(k, n)| (k, plan(n))).collect())
}

/// Limosa's own nodes listen for the harness on one port, so that a place has room for one.
fn check_places(
    experiment: &Document<Experiment>,
    nodes: &IndexMap<String, Node>,
    problems: &mut Vec<Problem>,
) {
    let mut taken: IndexMap<&str, &str> = IndexMap::new();
    for (name, node) in nodes.iter().filter(|(_, node)| node.command.is_none()) {
        if let Some(other) = taken.insert(&node.on, name) {
            let message =
                format!("`{other}` is on `{}`, too, where there is room for one", node.on);
            let hint = Some("both would listen on the same ports: give each a place".into());
            let way = ["nodes".into(), name.into(), "on".into()];
            problems.push(experiment.problem(&way, message, hint));
        }
    }
}

fn plan(node: Node) -> NodePlan {
    let Node { on, role, command, env, files, ready, saves, address } = node;
    let command = command.and_then(|argv| {
        let (program, args) = argv.split_first()?;
        let (program, args) = (program.clone(), args.to_vec());
        Some(CommandPlan { program, args, env, files, ready, saves })
    });
    NodePlan { on, role, command, address }
}

type Complain<'a> = dyn FnMut(&[PathStep], String, Option<String>) + 'a;

fn check_command(name: &str, node: &Node, complain: &mut Complain<'_>) {
    let Some(argv) = &node.command else {
        if node.role.is_none() {
            let hint = Some("add `role: server`, for example, or a `command`".into());
            complain(&[], format!("`{name}` has neither role nor command"), hint);
        }
        let given = [
            ("env", !node.env.is_empty()),
            ("files", !node.files.is_empty()),
            ("ready", node.ready.is_some()),
            ("saves", node.saves.is_some()),
        ];
        for (field, _) in given.iter().filter(|(_, given)| *given) {
            complain(&[(*field).into()], "this is for a node with a `command`".into(), None);
        }
        return;
    };
    let program = argv.first().map_or("", String::as_str);
    if program.is_empty() || (program.contains('/') && !program.starts_with('/')) {
        let message = format!("`{program}` is neither a program's name nor an absolute path");
        complain(&["command".into()], message, Some("write it like `[nginx, -g, …]`".into()));
    }
    let texts = argv.iter().chain(node.env.values());
    if texts.chain(node.env.keys()).any(|text| text.contains('\0')) {
        complain(&["command".into()], "no program takes a NUL character".into(), None);
    }
    for variable in node.env.keys().filter(|v| v.is_empty() || v.contains('=')) {
        let message = format!("`{variable}` cannot be a variable");
        complain(&["env".into(), variable.into()], message, None);
    }
    for file in node.files.keys() {
        if !super::service::is_plain(file) || TAKEN.contains(&file.as_str()) {
            let message = format!("`{file}` cannot be a file of its own");
            let hint = format!(
                "letters, digits, `-`, `_` and `.`, and none of {}",
                TAKEN.map(|taken| format!("`{taken}`")).join(", ")
            );
            complain(&["files".into(), file.into()], message, Some(hint));
        }
    }
    check_ready(node, complain);
}

fn check_ready(node: &Node, complain: &mut Complain<'_>) {
    let Some(ready) = &node.ready else { return };
    let ports = [("tcp", ready.tcp), ("udp", ready.udp), ("quic", ready.quic)];
    let given = ports.iter().filter(|(_, port)| port.is_some()).count();
    if given + usize::from(ready.line.is_some()) != 1 {
        let message = "takes exactly one of `tcp`, `udp`, `quic` and `line`".into();
        complain(&["ready".into()], message, None);
    }
    for (field, _) in ports.iter().filter(|(_, port)| *port == Some(0)) {
        complain(&["ready".into(), (*field).into()], "port 0 is none".into(), None);
    }
    if ready.line.as_ref().is_some_and(String::is_empty) {
        complain(&["ready".into(), "line".into()], "every line has this text in it".into(), None);
    }
}

/// What a client that is a command may have, and what nobody else may.
fn check_client(name: &str, node: &Node, workload: &Workload, complain: &mut Complain<'_>) {
    if node.command.is_none() {
        return;
    }
    let Some(Role::Client) = node.role else {
        if node.saves.is_some() {
            let message = format!("`{name}` is no client, which could save a body");
            complain(&["saves".into()], message, Some("add `role: client`".into()));
        }
        return;
    };
    if node.ready.is_some() {
        let hint = Some("leave it out: the trial begins when a client is started".into());
        complain(&["ready".into()], "nobody waits until a client is ready".into(), hint);
    }
    let Some(file) = &node.saves else { return };
    if !super::service::is_plain(file)
        || TAKEN.contains(&file.as_str())
        || node.files.contains_key(file)
    {
        let hint = Some("write it like `saves: body`".into());
        complain(&["saves".into()], format!("`{file}` cannot be a file of its own"), hint);
    } else if workload.download.is_none() {
        let hint = Some("add `download: {path: /random, size: 20MB}` to the workload".into());
        complain(&["saves".into()], "there is no body that it could save".into(), hint);
    }
}

/// Whether somebody else in its place takes the port that a node is ready at.
fn check_port(name: &str, nodes: &IndexMap<String, Node>, complain: &mut Complain<'_>) {
    let port = |node: &Node| match (&node.command, &node.ready, node.role) {
        (None, _, Some(Role::Server)) => Some(("UDP", SERVER_PORT)),
        (Some(_), Some(ready), _) => {
            ready.tcp.map(|p| ("TCP", p)).or(ready.udp_port().map(|p| ("UDP", p)))
        }
        _ => None,
    };
    let Some(node) = nodes.get(name).filter(|n| n.command.is_some()) else { return };
    let Some(taken) = port(node) else { return };
    // Two programs with an address each may have the port at their own address only.
    let apart =
        |other: &Node| other.command.is_some() && node.address.is_some() && other.address.is_some();
    let clash = |(other, n): &(&String, &Node)| {
        let earlier = n.command.is_none() || nodes.get_index_of(*other) < nodes.get_index_of(name);
        *other != name && earlier && n.on == node.on && port(n) == Some(taken) && !apart(n)
    };
    if let Some((other, _)) = nodes.iter().find(clash) {
        let message = format!("{} port {} of `{}` is `{other}`'s", taken.0, taken.1, node.on);
        let hint = Some("give it another port, or another place".into());
        complain(&["ready".into()], message, hint);
    }
}

fn check_address(
    name: &str,
    nodes: &IndexMap<String, Node>,
    network: &Network,
    complain: &mut Complain<'_>,
) {
    let Some((node, address)) = nodes.get(name).and_then(|n| Some((n, n.address?))) else { return };
    let way = ["address".into()];
    if network.interface_near(&node.on, address).is_none() {
        let message = format!("{address} is in no subnet of `{}`", node.on);
        complain(&way, message, subnets(network, &node.on));
        return;
    }
    let interfaces = network.places.values().flat_map(|p| &p.interfaces);
    let owned = interfaces.flat_map(|i| &i.addresses).any(|net| net.addr() == address);
    let others = nodes.iter().filter(|(other, _)| *other != name);
    if owned || others.into_iter().any(|(_, n)| n.address == Some(address)) {
        complain(&way, format!("{address} is somebody else's"), None);
    }
}

/// Why a place is no host that can be reached, and what there is instead; `None` when it is one.
pub(super) fn no_host(network: &Network, name: &str) -> Option<(String, Option<String>)> {
    let reached = |name: &str| network.address(name).is_some();
    let hosts = network.places.iter().filter(|(_, p)| p.kind == Kind::Host);
    let hosts = hosts.map(|(name, _)| name.as_str()).filter(|name| reached(name));
    let message = match network.places.get(name).map(|place| place.kind) {
        Some(Kind::Host) if reached(name) => return None,
        Some(Kind::Host) => format!("the host `{name}` has no link, so nobody reaches it"),
        Some(Kind::Switch) => format!("`{name}` is a switch, not a host"),
        Some(Kind::Router) => format!("`{name}` is a router, not a host"),
        None => format!("there is no host `{name}` in the topology"),
    };
    Some((message, known("hosts", name, hosts)))
}

/// Where an address on a place could be.
pub(super) fn subnets(network: &Network, place: &str) -> Option<String> {
    let interfaces = network.places.get(place)?.interfaces.iter();
    let nets: Vec<_> =
        interfaces.flat_map(|i| &i.addresses).map(|a| a.trunc().to_string()).collect();
    Some(format!("`{place}` is in {}", nets.join(", ")))
}

/// Which clients speak with which servers.
pub(super) fn check_scheme(
    experiment: &Document<Experiment>,
    name: &str,
    variant: &Variant,
    nodes: &IndexMap<String, NodePlan>,
    problems: &mut Vec<Problem>,
) {
    let foreign = |role| nodes.values().any(|n| n.is_foreign(role));
    let workload = &experiment.value.workload;
    let mut complain = |field: &str, message: &str, hint: &str| {
        let way = ["variants".into(), name.into(), field.into()];
        problems.push(experiment.problem(&way, message.into(), Some(hint.into())));
    };
    if foreign(Role::Server) && variant.ballast.is_some() {
        complain("ballast", "a command has its own memory", "leave it out");
    }
    if foreign(Role::Client) {
        match (variant.scheme, foreign(Role::Server)) {
            (Some(_), true) => {
                let message = "a scheme is for a server or a client of Limosa's own";
                complain("scheme", message, "leave it out");
            }
            (Some(scheme), false) if scheme != Scheme::Quic => {
                complain("scheme", "only Limosa's own client speaks it", "use `quic`");
            }
            _ => {}
        }
        if variant.clients.is_some() {
            complain("clients", "a command is one client", "leave it out");
        }
        if foreign(Role::Server) && variant.transport != Transport::default() {
            let message = "the transport of commands is their own";
            complain("transport", message, "leave it out");
        }
        return;
    }
    match (variant.scheme, foreign(Role::Server)) {
        (Some(Scheme::Http), false) => {
            let hint = "give the server a `command`, or take another scheme";
            complain("scheme", "Limosa's own server does not speak HTTP/1.1", hint);
        }
        (Some(Scheme::Http), true) if workload.requests.is_some() => {
            let hint = "use the workload `download`";
            complain("scheme", "a client of `http` knows no objects", hint);
        }
        (Some(Scheme::Http), true) => {
            if workload.download.as_ref().is_some_and(|d| d.play.is_some()) {
                complain("scheme", "a client of `http` does not play", "leave `play` out");
            }
        }
        (Some(_), true) => {
            let hint = "use `http`, or leave the server's `command` out";
            complain("scheme", "only Limosa's own server speaks it", hint);
        }
        (Some(_), false) | (None, _) => {}
    }
}

/// What is wrong with servers and clients as a pair, whatever the variant.
pub(super) fn check_pair(
    experiment: &Document<Experiment>,
    nodes: &IndexMap<String, NodePlan>,
    problems: &mut Vec<Problem>,
) {
    let workload = &experiment.value.workload;
    if nodes.values().any(|n| n.is_foreign(Role::Client)) {
        let plays = workload.download.as_ref().is_some_and(|d| d.play.is_some());
        let both = nodes.values().any(|n| n.is_foreign(Role::Server));
        if both && experiment.value.transport != Transport::default() {
            let hint = Some("leave it out".into());
            let message = "the transport of commands is their own".into();
            problems.push(experiment.problem(&["transport".into()], message, hint));
        }
        for (way, wrong) in [
            (&["workload", "requests"][..], workload.requests.is_some()),
            (&["workload", "download", "play"][..], plays),
        ] {
            if wrong {
                let way: Vec<PathStep> = way.iter().map(|step| (*step).into()).collect();
                let hint =
                    Some("leave the client's `command` out, or take a plain download".into());
                let message = "this is what a client of Limosa's own does".into();
                problems.push(experiment.problem(&way, message, hint));
            }
        }
        return;
    }
    let Some((name, server)) = nodes.iter().find(|(_, n)| n.is_foreign(Role::Server)) else {
        return;
    };
    let ready = server.command.as_ref().and_then(|c| c.ready.as_ref());
    if ready.is_none_or(|r| r.tcp.is_none()) {
        let hint =
            Some("add `ready: {tcp: 8080}`, for example, or a `command` to the client".into());
        let message = format!("no port at which Limosa's own client finds the server `{name}`");
        problems.push(experiment.problem(&["nodes".into(), name.into()], message, hint));
    }
}
