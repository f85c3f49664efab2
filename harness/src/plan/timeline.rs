//! The steps of a variant's timeline: every reference resolved, no cycle, nothing after the end.

mod actions;

use self::actions::{action, one_of};
use super::{Network, NodePlan, shape::ShapePlan};
use crate::spec::{Attacked, Document, Experiment, PathStep, Problem, Step, Technique, Transfer};
use indexmap::IndexMap;
use limosa_record::unit::Time;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
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

/// A server that moves with all that it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigratePlan {
    /// The server.
    pub node: String,
    /// The place where it will be.
    pub to: String,
    /// When its memory travels.
    pub technique: Technique,
    /// What carries its images.
    pub transfer: Transfer,
    /// Whether they are compressed on the way.
    pub compress: bool,
    /// In how many rounds memory is copied while the server runs, at the most.
    #[serde(default)]
    pub rounds: u32,
    /// A round that has copied no more than this, or no less than the one before it, is the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub below_bytes: Option<u64>,
    /// Whether the images stay in the trial's folder.
    #[serde(default)]
    pub keep_images: bool,
}

impl MigratePlan {
    /// Whether memory still travels when the server runs at its target.
    pub fn is_lazy(&self) -> bool {
        matches!(self.technique, Technique::PostCopy | Technique::Hybrid)
    }
}

/// Somebody else who sends to a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttackPlan {
    /// What is sent.
    pub kind: Attacked,
    /// The node that is listened to.
    pub node: String,
    /// The place that it is sent from, with the servers' port.
    pub from: String,
    /// A link that is cut while the attacker listens.
    pub cut: Option<String>,
}

/// A machine that moves from one host to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelocatePlan {
    /// The server.
    pub node: String,
    /// The place that stands for its machine.
    pub machine: String,
    /// The old host.
    pub from: String,
    /// The new host.
    pub to: String,
    /// The link to the old host.
    pub unplug: String,
    /// The link to the new host.
    pub plug: String,
    /// The machine's interfaces on these links.
    pub old_interface: String,
    /// On the second one.
    pub new_interface: String,
    /// The new host's interface there.
    pub to_interface: String,
    /// The machine's addresses on these links.
    pub old: IpAddr,
    /// On the second one.
    pub new: IpAddr,
    /// The new host's address there.
    pub gateway: IpAddr,
    /// How long the machine stands still.
    pub pause: Time,
    /// How long it is reached through the tunnel only; for ever when empty.
    pub join: Option<Time>,
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
    /// Waits until every client has acknowledged the newest announcement.
    Barrier {
        /// The server.
        node: String,
        /// Goes on without the others after this time.
        deadline: Time,
    },
    /// The server's record in the DNS becomes where it is now.
    Publish {
        /// The server.
        node: String,
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
    /// A server moves: checkpoint, transfer of its images, restore.
    Migrate(MigratePlan),
    /// A server's machine moves.
    Relocate(RelocatePlan),
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
    /// Somebody else sends to a node.
    Attack(AttackPlan),
    /// Looks for a node's keys on the disk.
    Search {
        /// The node.
        node: String,
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
            Self::Barrier { .. } => "barrier",
            Self::Publish { .. } => "publish",
            Self::Checkpoint { .. } => "checkpoint",
            Self::Restore { .. } => "restore",
            Self::Migrate(_) => "migrate",
            Self::Relocate(_) => "relocate",
            Self::Handover { .. } => "handover",
            Self::Attack(_) => "attack",
            Self::Search { .. } => "search",
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
