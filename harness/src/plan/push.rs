//! The workload `push`: which places it is between, and what each variant copies.

use super::{Reach, TRANSFER_PORT, VariantPlan};
use crate::plan::nodes::no_host;
use crate::spec::{Content, Document, Experiment, PathStep, Problem, Push};
use indexmap::IndexMap;
use limosa_lab::network::Network;
use limosa_record::unit::Size;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// Largest file.
const MAX_FILE: Size = Size(1 << 40);

/// From where to where files are copied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushRoute {
    /// The place that has them.
    pub from: String,
    /// The place that gets them.
    pub to: String,
}

/// What is copied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushPlan {
    /// Size of the file.
    pub size: Size,
    /// What is in it.
    pub content: Content,
    /// Whether it is compressed on the way.
    pub compress: bool,
}

/// The two places, if they are two hosts that reach each other.
pub(super) fn route(
    experiment: &Document<Experiment>,
    push: &Push,
    network: &Network,
    problems: &mut Vec<Problem>,
) -> Option<PushRoute> {
    let before = problems.len();
    let mut complain = |way: &[&str], message: String, hint: Option<String>| {
        let way: Vec<PathStep> = way.iter().map(|step| (*step).into()).collect();
        problems.push(experiment.problem(&way, message, hint));
    };
    for (field, place) in [("from", &push.from), ("to", &push.to)] {
        if let Some((message, hint)) = no_host(network, place) {
            complain(&["workload", "push", field], message, hint);
        }
    }
    if push.from == push.to {
        let message = format!("`{}` cannot copy to itself", push.from);
        complain(&["workload", "push", "to"], message, None);
    }
    if experiment.value.nodes.is_some() {
        let hint = Some("leave `nodes` out, or choose another workload".into());
        complain(&["nodes"], "a push has no servers and no clients".into(), hint);
    }
    let (from, to) = (push.from.clone(), push.to.clone());
    (problems.len() == before).then_some(PushRoute { from, to })
}

/// A variant of a push, without its timeline and shapes.
pub(super) fn variant(
    experiment: &Document<Experiment>,
    name: &str,
    route: &PushRoute,
    reach: &Reach<'_>,
    problems: &mut Vec<Problem>,
) -> Option<VariantPlan> {
    let spec = &experiment.value.variants[name];
    let mut complain = |field: Option<&str>, message: String, hint: &str| {
        let way = ["variants", name].into_iter().chain(field).map(Into::into).collect::<Vec<_>>();
        problems.push(experiment.problem(&way, message, Some(hint.into())));
        None
    };
    if spec.scheme.is_some() {
        return complain(Some("scheme"), "a push has no scheme".into(), "leave it out");
    }
    if spec.ballast.is_some() {
        return complain(Some("ballast"), "a push has no server".into(), "leave it out");
    }
    if spec.clients.is_some() {
        return complain(Some("clients"), "a push has no clients".into(), "leave it out");
    }
    let Some(pushed) = &spec.push else {
        let hint = "add `push: {size: 100MiB, content: random}`";
        return complain(None, format!("`{name}` does not say what is copied"), hint);
    };
    if pushed.size == Size(0) || pushed.size > MAX_FILE {
        let message = format!("a file of {} is outside 1B to {MAX_FILE}", pushed.size);
        return complain(Some("push"), message, "the thesis copies 100MiB to 10GiB");
    }
    let way = match reach.way(&route.from, &route.to) {
        Ok(way) => way,
        Err(no) => {
            let way = ["workload", "push", "to"].map(PathStep::from);
            let problem = experiment.problem(&way, no.why, Some(no.hint));
            if !problems.contains(&problem) {
                problems.push(problem);
            }
            return None;
        }
    };
    let (size, content, compress) = (pushed.size, pushed.content, pushed.compress);
    Some(VariantPlan {
        scheme: None,
        transport: None,
        connect: SocketAddr::new(way.to, TRANSFER_PORT),
        fallback: Vec::new(),
        local: vec![way.from],
        interfaces: vec![way.interface.name.clone()],
        behind: IndexMap::new(),
        timeline: Vec::new(),
        shapes: IndexMap::new(),
        clients: 1,
        ballast: None,
        push: Some(PushPlan { size, content, compress }),
    })
}
