//! The processes of an experiment, checked against the network.

use super::{Network, SERVER_PORT};
use crate::spec::{
    Document, Experiment, Kind, Node, PathStep, Problem, Ready, Role, SpecError, Variant, known,
};
use indexmap::IndexMap;
use limosa_record::node::Scheme;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// Names in a command's folder that are not its own.
const TAKEN: [&str; 3] = ["stdout.log", "stderr.log", "www"];

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
        ready.and_then(|r| r.tcp).unwrap_or(SERVER_PORT)
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
    let has = |place: &str| {
        network.places.get(place).is_some_and(|p| p.kind == Kind::Host)
            && network.address(place).is_some()
    };
    let nodes: IndexMap<String, Node> = match &experiment.value.nodes {
        Some(nodes) => nodes.0.clone(),
        None => {
            let server = if has("server-a") { "server-a" } else { "server" };
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
        if let Some((message, hint)) = network.no_host(&node.on) {
            complain(&["on".into()], message, hint);
        }
        check_command(name, node, &mut complain);
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
    let Node { on, role, command, env, files, ready, address } = node;
    let command = command.and_then(|argv| {
        let (program, args) = argv.split_first()?;
        Some(CommandPlan { program: program.clone(), args: args.to_vec(), env, files, ready })
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
        ];
        for (field, _) in given.iter().filter(|(_, given)| *given) {
            complain(&[(*field).into()], "this is for a node with a `command`".into(), None);
        }
        return;
    };
    if node.role == Some(Role::Client) {
        let hint = Some("leave its role out, and have a client of Limosa's own".into());
        complain(&["role".into()], "a command cannot be the client".into(), hint);
    }
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
    let ready = node.ready.clone().unwrap_or_default();
    if node.ready.is_some() && ready.tcp.is_some() == ready.line.is_some() {
        complain(&["ready".into()], "takes exactly one of `tcp` and `line`".into(), None);
    } else if node.role == Some(Role::Server) && ready.tcp.is_none() {
        let hint = Some("add `ready: {tcp: 8080}`, for example".into());
        complain(&[], format!("no port at which clients find the server `{name}`"), hint);
    }
    if ready.tcp == Some(0) {
        complain(&["ready".into(), "tcp".into()], "port 0 is none".into(), None);
    }
    if ready.line.is_some_and(|line| line.is_empty()) {
        complain(&["ready".into(), "line".into()], "every line has this text in it".into(), None);
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

impl Network {
    /// Why a place is no host that can be reached, and what there is instead; `None` when it is one.
    pub(super) fn no_host(&self, name: &str) -> Option<(String, Option<String>)> {
        let reached = |name: &str| self.address(name).is_some();
        let hosts = self.places.iter().filter(|(_, p)| p.kind == Kind::Host);
        let hosts = hosts.map(|(name, _)| name.as_str()).filter(|name| reached(name));
        let message = match self.places.get(name).map(|place| place.kind) {
            Some(Kind::Host) if reached(name) => return None,
            Some(Kind::Host) => format!("the host `{name}` has no link, so nobody reaches it"),
            Some(Kind::Switch) => format!("`{name}` is a switch, not a host"),
            Some(Kind::Router) => format!("`{name}` is a router, not a host"),
            None => format!("there is no host `{name}` in the topology"),
        };
        Some((message, known("hosts", name, hosts)))
    }
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
    let foreign = nodes.values().any(|n| n.role == Some(Role::Server) && n.command.is_some());
    let workload = &experiment.value.workload;
    let mut complain = |field: &str, message: &str, hint: &str| {
        let way = ["variants".into(), name.into(), field.into()];
        problems.push(experiment.problem(&way, message.into(), Some(hint.into())));
    };
    match (variant.scheme, foreign) {
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
            if variant.ballast.is_some() {
                complain("ballast", "a command has its own memory", "leave it out");
            }
        }
        (Some(_), true) => {
            let hint = "use `http`, or leave the server's `command` out";
            complain("scheme", "only Limosa's own server speaks it", hint);
        }
        (Some(_), false) | (None, _) => {}
    }
}
