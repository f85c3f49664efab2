//! The steps of a variant's timeline: every reference resolved, no cycle, nothing after the end.

use super::{MIGRATION_PORT, Network, NodePlan, SERVER_PORT, shape, shape::ShapePlan};
use crate::spec::{Document, Experiment, Kind, PathStep, Problem, Restore, Role, Step};
use indexmap::IndexMap;
use limosa_record::unit::Time;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

/// One step: when, and what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepPlan {
    /// Its name for other steps' `after`.
    pub name: Option<String>,
    /// When it starts.
    pub when: When,
    /// What it does.
    pub action: Action,
}

/// When a step starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum When {
    /// This long after the start of the handshake.
    At(Time),
    /// This long after the named step was done.
    After(String, Time),
}

/// A copy of a server that goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyPlan {
    /// Its name.
    pub name: String,
    /// Where it listens for the objects of its origin.
    pub migration: SocketAddr,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// The server tells its clients the address it will move to.
    Announce {
        /// The server.
        node: String,
        /// Where it will be.
        address: SocketAddr,
    },
    /// CRIU freezes the node and writes it to images.
    Checkpoint {
        /// The node.
        node: String,
        /// Name of the images.
        image: String,
        /// Whether it goes on; else it ends.
        leave_running: bool,
    },
    /// CRIU brings the node to life in another place.
    Restore {
        /// The node.
        node: String,
        /// Name of the images.
        image: String,
        /// The place.
        on: String,
        /// What comes to life, when the node itself went on.
        copy: Option<CopyPlan>,
    },
    /// A server and its copy begin to share the work.
    Handover {
        /// The old server.
        from: String,
        /// The new one.
        to: String,
        /// Where clients reach the new one.
        service: SocketAddr,
        /// Where the old one reaches it.
        migration: SocketAddr,
        /// Rate at which objects move, in bytes per second.
        rate_bytes_per_s: u64,
    },
    /// A link gets another shape.
    Shape {
        /// The link.
        link: String,
        /// New shape from its first end to its second.
        a_to_b: Option<ShapePlan>,
        /// New shape from its second end to its first.
        b_to_a: Option<ShapePlan>,
    },
    /// A link is cut.
    LinkDown {
        /// The link.
        link: String,
    },
    /// A link is mended.
    LinkUp {
        /// The link.
        link: String,
    },
    /// A node is killed.
    Kill {
        /// The node.
        node: String,
    },
}

impl Action {
    /// The word in the `event` column.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Announce { .. } => "announce",
            Self::Checkpoint { .. } => "checkpoint",
            Self::Restore { .. } => "restore",
            Self::Handover { .. } => "handover",
            Self::Shape { .. } => "shape",
            Self::LinkDown { .. } => "link_down",
            Self::LinkUp { .. } => "link_up",
            Self::Kill { .. } => "kill",
        }
    }
}

/// What the steps refer to.
pub(super) struct Context<'a> {
    pub(super) experiment: &'a Document<Experiment>,
    pub(super) network: &'a Network,
    pub(super) nodes: &'a IndexMap<String, NodePlan>,
}

/// A step that is right in itself, with its place in the file.
struct Checked<'a> {
    spec: &'a Step,
    way: Vec<PathStep>,
    plan: StepPlan,
}

/// The timeline of one variant. Each problem is told once even if it is in several variants.
pub(super) fn resolve(
    context: &Context<'_>,
    variant: &str,
    problems: &mut Vec<Problem>,
) -> Vec<StepPlan> {
    let mut steps: Vec<Checked<'_>> = Vec::new();
    let takes = |s: &Step| s.only.as_ref().is_none_or(|only| only.iter().any(|v| v == variant));
    let timeline = &context.experiment.value.timeline;
    let taken: Vec<&Step> = timeline.iter().filter(|s| takes(s)).collect();
    for (i, spec) in timeline.iter().enumerate().filter(|(_, s)| takes(s)) {
        let way = vec!["timeline".into(), i.into()];
        let mut complain = |field: &[PathStep], message: String, hint: Option<String>| {
            let way = [&way[..], field].concat();
            let problem = context.experiment.problem(&way, message, hint);
            if !problems.contains(&problem) {
                problems.push(problem);
            }
        };
        let when = when(spec, context.experiment.value.time_limit, &mut complain);
        let action = action(context, spec, &taken, &mut complain);
        if let (Some(when), Some(action)) = (when, action) {
            let image = match &action {
                Action::Checkpoint { image, .. } => Some(image.clone()),
                _ => None,
            };
            let name = spec.name.clone().or(image);
            steps.push(Checked { spec, way, plan: StepPlan { name, when, action } });
        }
    }
    if steps.len() < taken.len() {
        // The order of what is left would only give more problems with the same causes.
        return Vec::new();
    }
    check_names(context, &steps, problems);
    let times = check_order(context, &steps, problems);
    let mut order: Vec<usize> = (0..steps.len()).collect();
    order.sort_by_key(|i| times.get(i).copied().unwrap_or(Time(u64::MAX)));
    order.into_iter().map(|i| steps[i].plan.clone()).collect()
}

type Complain<'a> = dyn FnMut(&[PathStep], String, Option<String>) + 'a;

fn when(spec: &Step, limit: Time, complain: &mut Complain<'_>) -> Option<When> {
    match (&spec.at, &spec.after) {
        (Some(at), None) if *at >= limit => {
            let hint = Some("raise `time_limit` or move the step".into());
            complain(&["at".into()], format!("{at} lies after the trial's end at {limit}"), hint);
            None
        }
        (Some(at), None) => Some(When::At(*at)),
        (None, Some(text)) => match parse_after(text) {
            Ok((name, delay)) => Some(When::After(name, delay)),
            Err(why) => {
                complain(&["after".into()], why, Some("write it like `image + 10s`".into()));
                None
            }
        },
        (None, None) => {
            complain(&[], "the step has no time".into(), Some("add `at:` or `after:`".into()));
            None
        }
        (Some(_), Some(_)) => {
            complain(&["after".into()], "the step has both `at` and `after`".into(), None);
            None
        }
    }
}

/// `image`, `image + 10s`.
fn parse_after(text: &str) -> Result<(String, Time), String> {
    let (name, delay) = match text.split_once('+') {
        Some((name, delay)) => (name.trim(), delay.trim().parse()?),
        None => (text.trim(), Time(0)),
    };
    if name.is_empty() || name.contains(char::is_whitespace) {
        return Err(format!("`{text}` does not name a step"));
    }
    Ok((name.into(), delay))
}

fn action(
    context: &Context<'_>,
    spec: &Step,
    others: &[&Step],
    complain: &mut Complain<'_>,
) -> Option<Action> {
    let given = [
        ("announce", spec.announce.is_some()),
        ("checkpoint", spec.checkpoint.is_some()),
        ("restore", spec.restore.is_some()),
        ("handover", spec.handover.is_some()),
        ("shape", spec.shape.is_some()),
        ("link_down", spec.link_down.is_some()),
        ("link_up", spec.link_up.is_some()),
        ("kill", spec.kill.is_some()),
    ];
    let names: Vec<&str> = given.iter().filter(|g| g.1).map(|g| g.0).collect();
    if names.len() != 1 {
        let all = given.iter().map(|g| format!("`{}`", g.0)).collect::<Vec<_>>().join(", ");
        let found = if names.is_empty() { "no action".into() } else { names.join(" and ") };
        complain(
            &[],
            format!("a step takes exactly one action, this has {found}"),
            Some(format!("one of {all}")),
        );
        return None;
    }
    if let Some(a) = &spec.announce {
        server(context, &a.node, &["announce".into(), "node".into()], complain)?;
        let address = host(context, &a.to, &["announce".into(), "to".into()], complain)?;
        return Some(Action::Announce { node: a.node.clone(), address });
    }
    if let Some(c) = &spec.checkpoint {
        node(context, &c.node, &["checkpoint".into(), "node".into()], complain)?;
        let (node, image, leave_running) = (c.node.clone(), c.image.clone(), c.leave_running);
        return Some(Action::Checkpoint { node, image, leave_running });
    }
    if let Some(r) = &spec.restore {
        return restore(context, r, others, complain);
    }
    if let Some(h) = &spec.handover {
        return handover(context, h, others, complain);
    }
    if let Some(s) = &spec.shape {
        return reshape(context, s, complain);
    }
    if let Some(l) = spec.link_down.as_ref().or(spec.link_up.as_ref()) {
        let field = names[0];
        link(context, &l.link, field, complain)?;
        let link = l.link.clone();
        return Some(if field == "link_up" {
            Action::LinkUp { link }
        } else {
            Action::LinkDown { link }
        });
    }
    let kill = spec.kill.as_ref()?;
    let mut copies = others.iter().filter_map(|s| s.restore.as_ref()?.name.as_ref());
    if !copies.any(|copy| *copy == kill.node) {
        node(context, &kill.node, &["kill".into(), "node".into()], complain)?;
    }
    Some(Action::Kill { node: kill.node.clone() })
}

fn restore(
    context: &Context<'_>,
    spec: &Restore,
    others: &[&Step],
    complain: &mut Complain<'_>,
) -> Option<Action> {
    host(context, &spec.on, &["restore".into(), "on".into()], complain)?;
    let made = others.iter().filter_map(|s| s.checkpoint.as_ref()).find(|c| c.image == spec.from);
    let Some(made) = made else {
        let message = format!("no step makes the images `{}`", spec.from);
        let hint = Some(format!(
            "add a step with `checkpoint: {{node: …, as: {}}}` for the same variants",
            spec.from
        ));
        complain(&["restore".into(), "from".into()], message, hint);
        return None;
    };
    match &spec.name {
        None if made.leave_running => {
            let message = format!("`{}` goes on, so its copy needs a name", made.node);
            let hint = Some(format!("add `as: {}-new`", made.node));
            complain(&["restore".into()], message, hint);
            return None;
        }
        Some(name) if !made.leave_running => {
            let message = format!("`{}` itself is restored, not a copy `{name}`", made.node);
            let hint = Some("leave `as` out, or checkpoint with `leave_running: true`".into());
            complain(&["restore".into(), "as".into()], message, hint);
            return None;
        }
        Some(name) if context.nodes.contains_key(name) => {
            let message = format!("there is a node `{name}` already");
            complain(&["restore".into(), "as".into()], message, None);
            return None;
        }
        Some(name) if context.nodes.get(&made.node).is_some_and(|n| n.on == spec.on) => {
            let message = format!("`{name}` cannot be where `{}` still runs", made.node);
            complain(&["restore".into(), "on".into()], message, None);
            return None;
        }
        _ => {}
    }
    let any: IpAddr = match context.network.address(&spec.on)? {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let migration = SocketAddr::new(any, MIGRATION_PORT);
    let copy = spec.name.clone().map(|name| CopyPlan { name, migration });
    let (node, image, on) = (made.node.clone(), spec.from.clone(), spec.on.clone());
    Some(Action::Restore { node, image, on, copy })
}

fn handover(
    context: &Context<'_>,
    spec: &crate::spec::Handover,
    others: &[&Step],
    complain: &mut Complain<'_>,
) -> Option<Action> {
    server(context, &spec.from, &["handover".into(), "from".into()], complain)?;
    let restores = || others.iter().filter_map(|s| s.restore.as_ref());
    let Some(copy) = restores().find(|r| r.name.as_ref() == Some(&spec.to)) else {
        let message = format!("no step restores a copy `{}`", spec.to);
        let hint = one_of("copies", restores().filter_map(|r| r.name.as_ref()));
        complain(&["handover".into(), "to".into()], message, hint);
        return None;
    };
    let rate_bytes_per_s = spec.rate.0 / 8;
    if rate_bytes_per_s < 1_000 {
        let message = format!("a rate of {} is below 8kbit/s", spec.rate);
        complain(&["handover".into(), "rate".into()], message, None);
        return None;
    }
    let client = context.nodes.values().find(|n| n.role == Role::Client)?;
    let from = &context.nodes.get(&spec.from)?.on;
    let toward = |place: &str, port| {
        Some(SocketAddr::new(context.network.address_toward(&copy.on, place)?, port))
    };
    Some(Action::Handover {
        from: spec.from.clone(),
        to: spec.to.clone(),
        service: toward(&client.on, SERVER_PORT)?,
        migration: toward(from, MIGRATION_PORT)?,
        rate_bytes_per_s,
    })
}

fn reshape(
    context: &Context<'_>,
    spec: &crate::spec::Reshape,
    complain: &mut Complain<'_>,
) -> Option<Action> {
    let found = link(context, &spec.link, "shape", complain)?;
    if found.a_to_b.is_none() {
        let hint = Some("give it `shape: {}` in the topology".into());
        let message = format!("the link `{}` is not shaped at the start", spec.link);
        complain(&["shape".into(), "link".into()], message, hint);
        return None;
    }
    let mut one = |field: &str, wish: Option<&crate::spec::Shape>| {
        let wish = wish?;
        let (traces, links) = (&context.experiment.traces, context.experiment.value.links);
        let failed = |(name, why): shape::FieldError| {
            let way = ["shape".into(), field.into(), name.into()];
            let shown = if shape::is_given(wish, name) { 3 } else { 2 };
            complain(&way[..shown], why, None);
        };
        shape::resolve(wish, traces, links).map_err(failed).ok()
    };
    let a_to_b = one("a_to_b", spec.a_to_b.as_ref()).or_else(|| one("both", spec.both.as_ref()));
    let b_to_a = one("b_to_a", spec.b_to_a.as_ref()).or_else(|| one("both", spec.both.as_ref()));
    Some(Action::Shape { link: spec.link.clone(), a_to_b, b_to_a })
}

fn one_of<'a>(what: &str, names: impl Iterator<Item = &'a String>) -> Option<String> {
    let names: Vec<_> = names.map(|n| format!("`{n}`")).collect();
    Some(format!("the {what} are {}", names.join(", "))).filter(|_| !names.is_empty())
}

fn node<'a>(
    context: &Context<'a>,
    name: &str,
    way: &[PathStep],
    complain: &mut Complain<'_>,
) -> Option<&'a NodePlan> {
    let found = context.nodes.get(name);
    if found.is_none() {
        let hint = one_of("nodes", context.nodes.keys());
        complain(way, format!("there is no node `{name}`"), hint);
    }
    found
}

fn server(
    context: &Context<'_>,
    name: &str,
    way: &[PathStep],
    complain: &mut Complain<'_>,
) -> Option<()> {
    if node(context, name, way, complain)?.role != Role::Server {
        complain(way, format!("`{name}` is not a server"), None);
        return None;
    }
    Some(())
}

fn host(
    context: &Context<'_>,
    name: &str,
    way: &[PathStep],
    complain: &mut Complain<'_>,
) -> Option<SocketAddr> {
    let mut hosts = context.network.places.iter().filter(|(_, p)| p.kind == Kind::Host);
    let address = context.network.address(name).map(|ip| SocketAddr::new(ip, SERVER_PORT));
    let found = address.filter(|_| hosts.clone().any(|(host, _)| host == name));
    if found.is_none() {
        let hint = one_of("hosts", hosts.by_ref().map(|p| p.0));
        complain(way, format!("there is no host `{name}` in the topology"), hint);
    }
    found
}

fn link<'a>(
    context: &Context<'a>,
    name: &str,
    field: &str,
    complain: &mut Complain<'_>,
) -> Option<&'a super::LinkPlan> {
    let found = context.network.links.iter().find(|l| l.name == name);
    if found.is_none() {
        let hint = one_of("links", context.network.links.iter().map(|l| &l.name));
        complain(&[field.into(), "link".into()], format!("there is no link `{name}`"), hint);
    }
    found
}

fn check_names(context: &Context<'_>, steps: &[Checked<'_>], problems: &mut Vec<Problem>) {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for (i, step) in steps.iter().enumerate() {
        let Some(name) = &step.plan.name else { continue };
        if seen.insert(name, i).is_some() {
            let message = format!("two steps are called `{name}`");
            let problem = context.experiment.problem(&step.way, message, None);
            if !problems.contains(&problem) {
                problems.push(problem);
            }
        }
    }
}

/// Follows every `after` to its root and returns the earliest time each step can start, by index.
fn check_order(
    context: &Context<'_>,
    steps: &[Checked<'_>],
    problems: &mut Vec<Problem>,
) -> BTreeMap<usize, Time> {
    let limit = context.experiment.value.time_limit;
    let by_name = |name: &str| steps.iter().position(|s| s.plan.name.as_deref() == Some(name));
    let mut times = BTreeMap::new();
    for (i, step) in steps.iter().enumerate() {
        let mut complain = |field: &str, message: String, hint: Option<String>| {
            let way = [&step.way[..], &[field.into()]].concat();
            let problem = context.experiment.problem(&way, message, hint);
            if !problems.contains(&problem) {
                problems.push(problem);
            }
        };
        let (mut total, mut current, mut visited) = (0_u64, i, vec![i]);
        let earliest = loop {
            match &steps[current].plan.when {
                When::At(at) => break Some(total.saturating_add(at.0)),
                When::After(name, delay) => {
                    total = total.saturating_add(delay.0);
                    let Some(next) = by_name(name) else {
                        if current == i {
                            let names = steps.iter().filter_map(|s| s.plan.name.as_ref());
                            let hint = one_of("named steps", names);
                            complain("after", format!("no step is called `{name}`"), hint);
                        }
                        break None;
                    };
                    if next != i && visited.contains(&next) {
                        // The steps of the round are told; this one only waits for them.
                        break None;
                    }
                    if next == i {
                        let round: Vec<_> = visited
                            .iter()
                            .filter_map(|v| steps[*v].plan.name.clone())
                            .chain([name.clone()])
                            .collect();
                        let message =
                            format!("the step waits for itself: {}", round.join(" after "));
                        complain("after", message, Some("give one of them `at:`".into()));
                        break None;
                    }
                    visited.push(next);
                    current = next;
                }
            }
        };
        let Some(earliest) = earliest.map(Time) else { continue };
        if earliest >= limit && step.spec.after.is_some() {
            let message = format!("the step cannot start before the trial's end at {limit}");
            complain("after", message, Some("raise `time_limit`".into()));
        }
        times.insert(i, earliest);
    }
    for (i, step) in steps.iter().enumerate() {
        let Action::Restore { image, .. } = &step.plan.action else { continue };
        let made = by_name_of_image(steps, image);
        if let (Some(restored), Some(made)) = (times.get(&i), made.and_then(|m| times.get(&m)))
            && matches!(step.plan.when, When::At(_))
            && restored <= made
        {
            let message = format!("restores `{image}` at {restored}, before it is made at {made}");
            let hint = Some(format!("write `after: {image} + 10s`"));
            problems.push(context.experiment.problem(&step.way, message, hint));
        }
    }
    times
}

fn by_name_of_image(steps: &[Checked<'_>], wanted: &str) -> Option<usize> {
    steps
        .iter()
        .position(|s| matches!(&s.plan.action, Action::Checkpoint { image, .. } if image == wanted))
}
