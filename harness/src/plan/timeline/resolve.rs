//! From the steps that a variant takes to its timeline.

use super::{
    Action, StepPlan,
    actions::action,
    walk,
    when::{self, Anchor, PACES, Pace, Timed, When},
};
use crate::{
    plan::{NodePlan, Reach},
    spec::{Checkpoint, Document, Experiment, Location, PathStep, Problem, Restore},
};
use indexmap::IndexMap;
use limosa_lab::network::{LinkPlan, Network};
use limosa_record::node::Scheme;
use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
};

/// What the steps refer to.
pub(in crate::plan) struct Context<'a> {
    pub(in crate::plan) experiment: &'a Document<Experiment>,
    pub(in crate::plan) network: &'a Network,
    pub(in crate::plan) reach: &'a Reach<'a>,
    pub(in crate::plan) nodes: &'a IndexMap<String, NodePlan>,
    pub(super) links: HashMap<&'a str, &'a LinkPlan>,
    /// Steps for all variants, and those for each besides; numbers in the file.
    common: Vec<usize>,
    only: HashMap<&'a str, Vec<usize>>,
    /// What was told already: a mistake in several variants is one.
    told: RefCell<HashSet<(Option<Location>, String)>>,
}

impl<'a> Context<'a> {
    pub(in crate::plan) fn new(
        experiment: &'a Document<Experiment>,
        network: &'a Network,
        reach: &'a Reach<'a>,
        nodes: &'a IndexMap<String, NodePlan>,
    ) -> Self {
        let links = network.links.iter().map(|link| (&*link.name, link)).collect();
        let (mut common, mut only) = (Vec::new(), HashMap::<_, Vec<_>>::new());
        for (i, step) in experiment.value.timeline.iter().enumerate() {
            match &step.only {
                None => common.push(i),
                Some(names) => {
                    names.iter().for_each(|name| only.entry(&**name).or_default().push(i));
                }
            }
        }
        let told = RefCell::default();
        Self { experiment, network, reach, nodes, links, common, only, told }
    }

    /// The steps of a variant, by their numbers in the file.
    fn of(&self, variant: &str) -> Vec<usize> {
        let mut all = self.common.clone();
        all.extend(self.only.get(variant).into_iter().flatten());
        all.sort_unstable();
        all.dedup();
        all
    }

    /// How many steps all variants take together.
    pub(in crate::plan) fn steps(&self) -> usize {
        let variants = self.experiment.value.variants.len();
        let only: usize = self.only.values().map(Vec::len).sum();
        self.common.len().saturating_mul(variants).saturating_add(only)
    }

    /// Tells what is wrong with a step, once.
    pub(super) fn tell(
        &self,
        step: usize,
        field: &[PathStep],
        message: String,
        hint: Option<String>,
        problems: &mut Vec<Problem>,
    ) {
        let way = [&["timeline".into(), step.into()], field].concat();
        let problem = self.experiment.problem(&way, message, hint);
        if self.told.borrow_mut().insert((problem.location, problem.message.clone())) {
            problems.push(problem);
        }
    }

    /// The line of a step, as messages name it.
    pub(super) fn line(&self, step: usize) -> String {
        let location = self.experiment.location(&["timeline".into(), step.into()]);
        location.map_or_else(|| "elsewhere".into(), |location| format!("in line {}", location.line))
    }
}

/// A variant as its steps see it.
pub(super) struct Own<'a> {
    pub(super) scheme: Option<Scheme>,
    pub(super) key_log: bool,
    /// Its checkpoints by the names of their images.
    pub(super) images: HashMap<&'a str, &'a Checkpoint>,
    /// Its restores of copies by their names.
    pub(super) copies: HashMap<&'a str, &'a Restore>,
}

impl<'a> Own<'a> {
    fn new(context: &Context<'a>, variant: &str, taken: &[usize]) -> Self {
        let spec = &context.experiment.value;
        let own = spec.variants.get(variant);
        let key_log = own.and_then(|v| v.transport.key_log).or(spec.transport.key_log);
        let (mut images, mut copies) = (HashMap::new(), HashMap::new());
        for step in taken.iter().map(|i| &spec.timeline[*i]) {
            if let Some(made) = &step.checkpoint {
                images.entry(&*made.image).or_insert(made);
            }
            if let Some((restore, name)) =
                step.restore.as_ref().and_then(|r| Some((r, r.name.as_ref()?)))
            {
                copies.entry(&**name).or_insert(restore);
            }
        }
        let scheme = own.and_then(|v| v.scheme);
        Self { scheme, key_log: key_log == Some(true), images, copies }
    }
}

pub(super) type Complain<'a> = dyn FnMut(&[PathStep], String, Option<String>) + 'a;

/// A step that is right in itself, with its number in the file.
pub(super) struct Checked {
    pub(super) number: usize,
    pub(super) plan: StepPlan,
}

/// The timeline of one variant. Each problem is told once even if it is in several variants.
pub(in crate::plan) fn resolve(
    context: &Context<'_>,
    variant: &str,
    problems: &mut Vec<Problem>,
) -> Vec<StepPlan> {
    let spec = &context.experiment.value;
    let taken = context.of(variant);
    let own = Own::new(context, variant, &taken);
    let mut steps = Vec::with_capacity(taken.len());
    for number in taken.iter().copied() {
        let step = &spec.timeline[number];
        let mut complain = |field: &[PathStep], message: String, hint: Option<String>| {
            context.tell(number, field, message, hint, problems);
        };
        let when = when::when(step, spec.time_limit, &mut complain);
        let action = action(context, &own, step, &mut complain);
        if let (Some(when), Some(action)) = (when, action) {
            let name = step.name.clone().or_else(|| image_of(&action));
            let plan = StepPlan { name, when, action, needs: Vec::new() };
            steps.push(Checked { number, plan });
        }
    }
    if steps.len() < taken.len() {
        // The order of what is left would only give more problems with the same causes.
        return Vec::new();
    }
    let before = problems.len();
    check_names(context, &steps, problems);
    check_folders(context, &steps, problems);
    check_anchors(context, &steps, problems);
    let earliest = times(context, &steps, problems);
    if problems.len() > before || earliest.len() < steps.len() {
        return Vec::new();
    }
    possible(context, &own, &steps, earliest, problems)
}

/// The steps in the first order in which they can be; when there is none, what is wrong at their
/// earliest times.
fn possible(
    context: &Context<'_>,
    own: &Own<'_>,
    steps: &[Checked],
    earliest: Vec<u64>,
    problems: &mut Vec<Problem>,
) -> Vec<StepPlan> {
    let mut found = Vec::new();
    for (number, pace) in PACES.iter().enumerate() {
        let times = match number {
            0 => earliest.clone(),
            _ => starts(steps, pace, |_, _, _| {}).into_iter().flatten().collect(),
        };
        let order = in_order(&times);
        match walk::walk(context, own, steps, &order) {
            Ok(needs) => return planned(steps, &order, needs),
            Err(wrong) if number == 0 => found = wrong,
            // At each pace the order is the same when all times are given.
            Err(_) => {}
        }
    }
    for wrong in found {
        let hint = Some(wrong.hint);
        context.tell(steps[wrong.step].number, &wrong.field, wrong.message, hint, problems);
    }
    Vec::new()
}

/// The steps in this order, with what each needs.
fn planned(steps: &[Checked], order: &[usize], needs: Vec<Vec<usize>>) -> Vec<StepPlan> {
    let mut place = vec![0; order.len()];
    order.iter().enumerate().for_each(|(new, old)| place[*old] = new);
    let one = |step: &usize| {
        let mut needs: Vec<usize> = needs[*step].iter().map(|other| place[*other]).collect();
        needs.sort_unstable();
        needs.dedup();
        StepPlan { needs, ..steps[*step].plan.clone() }
    };
    order.iter().map(one).collect()
}

/// When each step starts at a pace.
fn starts(
    steps: &[Checked],
    pace: &Pace,
    complain: impl FnMut(usize, String, Option<String>),
) -> Vec<Option<u64>> {
    let timed: Vec<Timed<'_>> = steps
        .iter()
        .map(|step| Timed {
            when: &step.plan.when,
            name: step.plan.name.as_deref(),
            takes: walk::takes(&step.plan.action),
        })
        .collect();
    when::starts(&timed, pace, complain)
}

fn image_of(action: &Action) -> Option<String> {
    match action {
        Action::Checkpoint { image, .. } => Some(image.clone()),
        _ => None,
    }
}

fn check_names(context: &Context<'_>, steps: &[Checked], problems: &mut Vec<Problem>) {
    let mut seen: HashSet<&str> = HashSet::new();
    for step in steps {
        let Some(name) = &step.plan.name else { continue };
        if when::is_taken(name) {
            let message = format!("no step can be called `{name}`: `after: {name}` counts from it");
            context.tell(step.number, &[], message, None, problems);
        } else if !seen.insert(name) {
            let message = format!("two steps are called `{name}`");
            context.tell(step.number, &[], message, None, problems);
        }
    }
}

/// Images, and copies, have folders of their own: none may be there twice.
fn check_folders(context: &Context<'_>, steps: &[Checked], problems: &mut Vec<Problem>) {
    let mut seen = HashSet::new();
    for step in steps {
        let (verb, what, name) = match &step.plan.action {
            Action::Checkpoint { image, .. } => ("checkpoint", "checkpoints make images", image),
            Action::Restore { copy: Some(copy), .. } => ("restore", "copies are", &copy.name),
            _ => continue,
        };
        if !seen.insert((verb, name)) {
            let message = format!("two {what} called `{name}`");
            context.tell(step.number, &[verb.into(), "as".into()], message, None, problems);
        }
    }
}

/// What times can count from depends on who the client is and what it does.
fn check_anchors(context: &Context<'_>, steps: &[Checked], problems: &mut Vec<Problem>) {
    let client = context.nodes.values().find(|n| n.role == Some(crate::spec::Role::Client));
    let own = client.is_some_and(|client| client.command.is_none());
    let download = context.experiment.value.workload.download.as_ref();
    for step in steps {
        let When::Since(anchor, _) = &step.plan.when else { continue };
        let field = if matches!(anchor, Anchor::Bytes(_)) { "after_bytes" } else { "after" };
        let mut complain = |message: String, hint: &str| {
            context.tell(step.number, &[field.into()], message, Some(hint.into()), problems);
        };
        match (anchor, download) {
            _ if !own => complain(
                "there is no client of Limosa's own to count from".into(),
                "write `at:`, or the `name` of another step",
            ),
            (Anchor::Bytes(_), None) => {
                complain(
                    "only a download has a body".into(),
                    "write `after: first_byte`, or `at:`",
                );
            }
            (Anchor::Bytes(size), Some(download)) if *size > download.size => {
                let message =
                    format!("the body has only {}, of which {size} never come", download.size);
                complain(message, "name fewer bytes, or download more");
            }
            _ => {}
        }
    }
}

/// The earliest time of each step; fewer than there are steps when some have none.
fn times(context: &Context<'_>, steps: &[Checked], problems: &mut Vec<Problem>) -> Vec<u64> {
    let times = starts(steps, &PACES[0], |at, message, hint| {
        context.tell(steps[at].number, &["after".into()], message, hint, problems);
    });
    let limit = context.experiment.value.time_limit;
    for (step, time) in steps.iter().zip(&times) {
        if time.is_some_and(|t| t >= limit.0) && !matches!(step.plan.when, When::At(_)) {
            let message = format!("the step cannot start before the trial's end at {limit}");
            let after = context.experiment.value.timeline[step.number].after.is_some();
            let field = if after { "after" } else { "after_bytes" };
            let hint = Some("raise `time_limit`".into());
            context.tell(step.number, &[field.into()], message, hint, problems);
        }
    }
    times.into_iter().flatten().collect()
}

/// The numbers of the steps in the order of their times, those at one time as in the file.
fn in_order(times: &[u64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..times.len()).collect();
    order.sort_by_key(|i| times[*i]);
    order
}
