//! Experiment and topology to [`Plan`].

use super::{
    About, NodePlan, Plan, Reach, TrialPlan, VariantPlan, WorkloadPlan, dns, neighbours, network,
    nodes, push, service, shape, timeline, variant,
};
use crate::spec::{
    Document, Experiment, Links, Problem, Role, SpecError, Topology, known, of_file,
};
use indexmap::IndexMap;
use limosa_lab::{network::Network, shape::ShapePlan};
use limosa_record::random::seed_of;
use limosa_record::{
    node::Scheme,
    unit::{Size, Time},
};

/// Longest time limit of a trial.
const MAX_TIME_LIMIT: Time = Time::from_secs(24 * 3600);

/// Most memory that only weighs.
const MAX_BALLAST: Size = Size(16 << 30);

/// Most clients of a server.
const MAX_CLIENTS: u16 = 200;

/// Most variants.
const MAX_VARIANTS: usize = 10_000;

/// Most processes.
const MAX_NODES: usize = 1_000;

/// Most steps that all variants take together.
const MAX_TAKEN: usize = 500_000;

/// Most trials of one run.
const MAX_TRIALS: u64 = 100_000;

/// Decides everything that an experiment leaves open and checks all of it.
///
/// # Errors
/// All that is wrong with the two files, not only the first.
pub fn resolve(
    experiment: &Document<Experiment>,
    topology: &Document<Topology>,
) -> Result<Plan, SpecError> {
    let mut problems = Vec::new();
    let spec = &experiment.value;
    let experiment_name = of_file(&experiment.path).map_err(|why| misnamed(experiment, why))?;
    check_sizes(experiment)?;
    let network = network::resolve(topology, spec.links, &mut problems);
    check_numbers(experiment, &mut problems);
    let workload = service::resolve(experiment, network.as_ref(), &mut problems);
    let Some(mut network) = network else { return Err(SpecError(problems)) };
    if let Some(wanted) = &spec.tcp_congestion {
        if let Some(why) = network::wrong_congestion(wanted) {
            let hint = Some("write it like `bbr` or `cubic`".into());
            problems.push(experiment.problem(&["tcp_congestion".into()], why, hint));
        }
        network.tcp_congestion = Some(wanted.clone());
    }
    let Some(nodes) = nodes::resolve(experiment, &network, &mut problems) else {
        return Err(SpecError(problems));
    };
    check_expectations(experiment, &nodes, &mut problems);
    nodes::check_pair(experiment, &nodes, &mut problems);
    check_capture(experiment, &network, &mut problems);
    let reach = &Reach::new(&network);
    let dns = dns::resolve(experiment, &network, reach, &nodes, &mut problems);
    for (i, step) in spec.timeline.iter().enumerate() {
        for (v, name) in step.only.iter().flatten().enumerate() {
            if !spec.variants.is_empty() && !spec.variants.contains_key(name) {
                let way = ["timeline".into(), i.into(), "only".into(), v.into()];
                let hint = known("variants", name, spec.variants.keys().map(String::as_str));
                problems.push(experiment.problem(
                    &way,
                    format!("there is no variant `{name}`"),
                    hint,
                ));
            }
        }
    }
    let context = timeline::Context::new(experiment, &network, reach, &nodes);
    if context.steps() > MAX_TAKEN {
        let message =
            format!("all variants together take {} steps, more than {MAX_TAKEN}", context.steps());
        problems.push(experiment.problem(&["timeline".into()], message, None));
        return Err(SpecError(problems));
    }
    let mut variants = IndexMap::new();
    for (name, variant) in spec.variants.iter() {
        let timeline = timeline::resolve(&context, name, &mut problems);
        let shapes = shapes(experiment, name, &network, &mut problems);
        let resolved = match &workload {
            Some(WorkloadPlan::Push(route)) => {
                push::variant(experiment, name, route, reach, &mut problems)
                    .map(|plan| VariantPlan { timeline, ..plan })
            }
            // What is wrong with the workload has been told.
            None => None,
            Some(_) => {
                check_variant(experiment, name, &nodes, &mut problems);
                nodes::check_scheme(experiment, name, variant, &nodes, &mut problems);
                variant::resolve(&context, name, timeline, &mut problems)
            }
        };
        if let Some(plan) = resolved {
            variants.insert(name.clone(), VariantPlan { shapes, ..plan });
        }
    }
    let (Some(workload), true) = (workload, problems.is_empty()) else {
        return Err(SpecError(problems));
    };
    let topology = topology.path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let about = About {
        name: experiment_name,
        description: spec.description.clone(),
        topology,
        repetitions: spec.repetitions,
        seed: spec.seed,
    };
    let trials = trials(&about, &variants);
    let time_limit = spec.time_limit;
    let expect = expectations(spec, &nodes);
    let (experiment, links, capture) = (about, spec.links, spec.capture.clone());
    network.talkers = neighbours::talkers(
        &network,
        nodes.values().map(|n| n.on.as_str()),
        dns.as_ref().map(|dns| dns.on.as_str()),
        &workload,
        variants.values(),
    );
    Ok(Plan {
        experiment,
        links,
        network,
        nodes,
        dns,
        workload,
        variants,
        trials,
        time_limit,
        capture,
        expect,
    })
}

/// Only the network of a topology, for `limosa up`.
///
/// # Errors
/// All that is wrong with the file.
pub fn resolve_topology(topology: &Document<Topology>, links: Links) -> Result<Network, SpecError> {
    let mut problems = Vec::new();
    network::resolve(topology, links, &mut problems).ok_or(SpecError(problems))
}

/// Repetition by repetition, so that a run that is cut off has some of every variant.
pub(super) fn trials(about: &About, variants: &IndexMap<String, VariantPlan>) -> Vec<TrialPlan> {
    let seed = about.seed.to_le_bytes();
    let one = |repetition: u32, variant: &String| TrialPlan {
        variant: variant.clone(),
        repetition,
        seed: seed_of(&[&seed, variant.as_bytes(), &repetition.to_le_bytes()]),
    };
    (1..=about.repetitions).flat_map(|r| variants.keys().map(move |v| one(r, v))).collect()
}

impl Plan {
    /// The same plan with another number of repetitions or only some variants.
    pub fn narrow(&mut self, repetitions: Option<u32>, only: &[String]) {
        if let Some(repetitions) = repetitions {
            self.experiment.repetitions = repetitions;
        }
        if !only.is_empty() {
            self.variants.retain(|name, _| only.contains(name));
        }
        self.trials = trials(&self.experiment, &self.variants);
    }
}

/// What is larger than anything that makes sense, before anything is done with it.
fn check_sizes(experiment: &Document<Experiment>) -> Result<(), SpecError> {
    let spec = &experiment.value;
    let nodes = spec.nodes.as_ref().map_or(0, |nodes| nodes.len());
    for (field, count, most) in
        [("variants", spec.variants.len(), MAX_VARIANTS), ("nodes", nodes, MAX_NODES)]
    {
        if count > most {
            let message = format!("`{field}` has {count} entries, more than {most}");
            return Err(SpecError(vec![experiment.problem(&[field.into()], message, None)]));
        }
    }
    Ok(())
}

fn check_numbers(experiment: &Document<Experiment>, problems: &mut Vec<Problem>) {
    let spec = &experiment.value;
    let mut complain = |field: &str, message: String| {
        problems.push(experiment.problem(&[field.into()], message, None));
    };
    if spec.variants.is_empty() {
        complain("variants", "there is no variant to try".into());
    }
    let trials = u64::from(spec.repetitions) * spec.variants.len() as u64;
    if spec.repetitions == 0 {
        complain("repetitions", "nothing is tried with 0 repetitions".into());
    } else if trials > MAX_TRIALS {
        complain("repetitions", format!("{trials} trials are more than {MAX_TRIALS}"));
    }
    if spec.time_limit > MAX_TIME_LIMIT || spec.time_limit < Time::from_secs(1) {
        complain("time_limit", format!("{} is outside 1s to {MAX_TIME_LIMIT}", spec.time_limit));
    }
    let mut transports = vec![(vec!["transport".into()], &spec.transport)];
    for (name, variant) in spec.variants.iter() {
        let way = vec!["variants".into(), name.into(), "transport".into()];
        transports.push((way, &variant.transport));
    }
    for (way, transport) in transports {
        let mut outside = |field: &str, time: Option<Time>, low: Time, high: Time| {
            if let Some(time) = time.filter(|t| *t < low || *t > high) {
                let way = [&way[..], &[field.into()]].concat();
                let message = format!("{time} is outside {low} to {high}");
                problems.push(experiment.problem(&way, message, None));
            }
        };
        let (ms, s) = (Time::from_millis, Time::from_secs);
        outside("idle_timeout", transport.idle_timeout, ms(100), s(3600));
        outside("keep_alive", transport.keep_alive, ms(10), s(3600));
        outside("sample_interval", transport.sample_interval, ms(10), s(60));
    }
}

fn check_expectations(
    experiment: &Document<Experiment>,
    nodes: &IndexMap<String, NodePlan>,
    problems: &mut Vec<Problem>,
) {
    for (name, expect) in experiment.value.expect.iter() {
        let way = ["expect".into(), name.into()];
        if !nodes.contains_key(name) {
            let hint = known("nodes", name, nodes.keys().map(String::as_str));
            problems.push(experiment.problem(&way, format!("there is no node `{name}`"), hint));
        } else if expect.exited.is_some() == expect.signaled.is_some() {
            let message = "takes exactly one of `exited` and `signaled`".into();
            problems.push(experiment.problem(&way, message, None));
        }
    }
}

fn check_capture(
    experiment: &Document<Experiment>,
    network: &Network,
    problems: &mut Vec<Problem>,
) {
    for (i, place) in experiment.value.capture.iter().enumerate() {
        if !network.places.contains_key(place) {
            let hint = known("places", place, network.places.keys().map(String::as_str));
            let message = format!("there is no place `{place}` to capture");
            problems.push(experiment.problem(&["capture".into(), i.into()], message, hint));
        }
    }
}

/// The shapes that a variant changes.
fn shapes(
    experiment: &Document<Experiment>,
    variant: &str,
    network: &Network,
    problems: &mut Vec<Problem>,
) -> IndexMap<String, ShapePlan> {
    let mut shapes = IndexMap::new();
    for (link, wish) in experiment.value.variants[variant].shapes.iter() {
        let way = ["variants".into(), variant.into(), "shapes".into(), link.into()];
        let Some(plan) = network.links.iter().find(|l| l.name == *link) else {
            let hint = known("links", link, network.links.iter().map(|l| &*l.name));
            problems.push(experiment.problem(&way, format!("there is no link `{link}`"), hint));
            continue;
        };
        if plan.a_to_b.is_none() {
            let hint = Some("give it `shape: {}` in the topology".into());
            let message = format!("the link `{link}` has no shape in the topology");
            problems.push(experiment.problem(&way, message, hint));
            continue;
        }
        let (delay, links) = (wish.delay.unwrap_or_default(), experiment.value.links);
        match shape::resolve(wish, delay, &experiment.traces, links) {
            Ok(shape) => drop(shapes.insert(link.clone(), shape)),
            Err(wrong) => {
                let mut way = way.to_vec();
                way.extend(shape::is_given(wish, wrong.field).then(|| wrong.field.into()));
                problems.push(experiment.problem(&way, wrong.why, wrong.hint));
            }
        }
    }
    shapes
}

/// A file whose name cannot be that of its results.
fn misnamed(experiment: &Document<Experiment>, message: String) -> SpecError {
    let hint = Some("give the file another name".into());
    let file = experiment.path.clone();
    SpecError(vec![Problem { file, location: None, source_line: None, message, hint }])
}

fn expectations(
    spec: &Experiment,
    nodes: &IndexMap<String, NodePlan>,
) -> IndexMap<String, crate::spec::Expect> {
    let mut expect = spec.expect.0.clone();
    for (name, _) in nodes.iter().filter(|(_, n)| n.role == Some(Role::Client)) {
        let zero = crate::spec::Expect { exited: Some(0), signaled: None };
        expect.entry(name.clone()).or_insert(zero);
    }
    expect
}

/// What a variant of a workload with a client needs, and must not have.
fn check_variant(
    experiment: &Document<Experiment>,
    name: &str,
    nodes: &IndexMap<String, NodePlan>,
    problems: &mut Vec<Problem>,
) {
    let spec = &experiment.value.variants[name];
    let mut way = vec!["variants".into(), name.into()];
    if spec.ballast.as_ref().is_some_and(|b| b.size > MAX_BALLAST) {
        let way = [&way[..], &["ballast".into(), "size".into()]].concat();
        let message = format!("a ballast above {MAX_BALLAST}");
        problems.push(experiment.problem(&way, message, None));
    }
    if let Some(clients) = spec.clients.filter(|n| !(1..=MAX_CLIENTS).contains(n)) {
        let way = [&way[..], &["clients".into()]].concat();
        let message = format!("{clients} clients are outside 1 to {MAX_CLIENTS}");
        problems.push(experiment.problem(&way, message, None));
    } else if spec.clients.is_some_and(|n| n > 1) && spec.scheme.is_some_and(Scheme::hands_over) {
        let way = [&way[..], &["clients".into()]].concat();
        let message = "schemes with two servers have one client".into();
        problems.push(experiment.problem(&way, message, None));
    }
    if spec.scheme == Some(Scheme::MptcpTunnel) && experiment.value.workload.download.is_none() {
        let way = [&way[..], &["scheme".into()]].concat();
        let message = "the scheme `mptcp-tunnel` downloads, it has no requests".into();
        problems.push(experiment.problem(&way, message, None));
    }
    let foreign = |role| nodes.values().any(|n| n.is_foreign(role));
    let both = foreign(Role::Server) && foreign(Role::Client);
    let (message, hint) = match (spec.scheme, &spec.push) {
        (None, None) if both => return,
        (None, _) => (format!("`{name}` has no scheme"), "add `scheme: multipath`, for example"),
        (Some(_), Some(_)) => {
            way.push("push".into());
            ("only the workload `push` copies files".into(), "leave it out")
        }
        (Some(_), None) => return,
    };
    problems.push(experiment.problem(&way, message, Some(hint.into())));
}
