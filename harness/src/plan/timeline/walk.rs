//! Walks each node through its states along the timeline, and finds steps that it cannot take.
//!
//! A node runs at a place, is in an image, has been killed, or (a copy) is not there yet. Where the
//! order of two steps is not certain before the trial, because one of them waits for something that
//! takes as long as it takes, several orders are walked, and one has to be possible; see
//! [`PACES`](super::when::PACES). Steps that need another one's result wait for it:
//! [`StepPlan::needs`](super::StepPlan::needs).

use super::{
    Action,
    resolve::{Checked, Context, Own},
    when::When,
};
use crate::spec::{Expect, PathStep, Role};
use std::collections::HashMap;

/// How long an attacker listens, in ns; see `action/attack.rs`.
const CATCH_NS: u64 = 300_000_000;

/// What an action takes at the least, in ns, and whether it may take longer.
pub(super) fn takes(action: &Action) -> (u64, bool) {
    match action {
        Action::Relocate(plan) => {
            (plan.pause.0.saturating_add(plan.join.map_or(0, |join| join.0)).max(1), true)
        }
        Action::Attack(_) => (CATCH_NS, false),
        Action::Shape { .. }
        | Action::LinkDown { .. }
        | Action::LinkUp { .. }
        | Action::Kill { .. } => (1, false),
        _ => (1, true),
    }
}

/// What is wrong with a step.
pub(super) struct Wrong {
    /// Its number among the steps.
    pub(super) step: usize,
    pub(super) field: Vec<PathStep>,
    pub(super) message: String,
    pub(super) hint: String,
}

/// Where a node is.
#[derive(Debug, Clone, Copy, PartialEq)]
enum State<'w> {
    /// A copy that no step has restored yet.
    Unborn,
    /// It runs at this place.
    Runs(&'w str),
    /// It ended when these images were made.
    Image(&'w str),
    /// It was killed.
    Killed,
}

#[derive(Debug, Clone, Copy)]
struct Life<'w> {
    state: State<'w>,
    /// The step that brought it there; none at the start.
    since: Option<usize>,
    kind: Kind,
    /// The handover in which it has a part, for good.
    part: Option<usize>,
    relocated: Option<usize>,
}

/// What listens: each place has room for one node of Limosa's own.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    /// At the servers' port, too.
    Server,
    Client,
    Command,
}

/// Images: the step that made them, the one that used them up.
#[derive(Debug, Clone, Copy)]
struct Images {
    made: usize,
    used: Option<usize>,
}

struct Walk<'w, 'a> {
    context: &'w Context<'a>,
    steps: &'w [Checked],
    lives: HashMap<&'w str, Life<'w>>,
    images: HashMap<&'w str, Images>,
    /// The node of Limosa's own that is at a place.
    at: HashMap<&'w str, &'w str>,
    /// The last move to each place: two at a time would use the same ports.
    arrivals: HashMap<&'w str, usize>,
    /// The client's end, after which nothing happens.
    over: Option<usize>,
    wrong: Vec<Wrong>,
    needs: Vec<Vec<usize>>,
}

/// What each step waits for when they come in this order, or what cannot be in it.
pub(super) fn walk(
    context: &Context<'_>,
    own: &Own<'_>,
    steps: &[Checked],
    order: &[usize],
) -> Result<Vec<Vec<usize>>, Vec<Wrong>> {
    let (mut lives, mut at) = (HashMap::new(), HashMap::new());
    let born = |state, kind| Life { state, since: None, kind, part: None, relocated: None };
    for (name, node) in context.nodes {
        let kind = match (&node.command, node.role) {
            (None, Some(Role::Server)) => Kind::Server,
            (None, Some(Role::Client)) => Kind::Client,
            _ => Kind::Command,
        };
        if kind != Kind::Command {
            at.insert(node.on.as_str(), name.as_str());
        }
        lives.insert(name.as_str(), born(State::Runs(&node.on), kind));
    }
    for name in own.copies.keys() {
        lives.insert(name, born(State::Unborn, Kind::Server));
    }
    let mut walk = Walk {
        context,
        steps,
        lives,
        images: HashMap::new(),
        at,
        arrivals: HashMap::new(),
        over: None,
        wrong: Vec::new(),
        needs: vec![Vec::new(); steps.len()],
    };
    order.iter().for_each(|step| walk.step(*step));
    if walk.wrong.is_empty() {
        walk.end();
    }
    if walk.wrong.is_empty() { Ok(walk.needs) } else { Err(walk.wrong) }
}

impl<'w> Walk<'w, '_> {
    fn step(&mut self, step: usize) {
        if let Some(over) = self.over {
            let message =
                format!("the trial is over when the client is killed {}", self.line(over));
            return self.tell(step, &[], message, "leave the step out, or move it before that");
        }
        let steps = self.steps;
        match &steps[step].plan.action {
            Action::Announce { node, .. }
            | Action::Barrier { node, .. }
            | Action::Publish { node } => _ = self.runs(step, node),
            Action::Checkpoint { node, image, leave_running } => {
                self.checkpoint(step, node, image, *leave_running);
            }
            Action::Restore { node, image, on, copy } => {
                let copy = copy.as_ref().map(|copy| copy.name.as_str());
                self.restore(step, node, image, on, copy);
            }
            Action::Migrate(plan) => self.migrate(step, &plan.node, &plan.to),
            Action::Relocate(plan) => self.relocate(step, &plan.node),
            Action::Handover { from, to, .. } => self.handover(step, from, to),
            Action::Attack(plan) => self.attack(step, &plan.node, &plan.from),
            Action::Kill { node } => self.kill(step, node),
            Action::Search { .. }
            | Action::Shape { .. }
            | Action::LinkDown { .. }
            | Action::LinkUp { .. } => {}
        }
    }

    fn life(&self, node: &str) -> Option<Life<'w>> {
        self.lives.get(node).copied()
    }

    /// Whether a node runs when a step comes to it; tells when it does not.
    fn runs(&mut self, step: usize, node: &'w str) -> bool {
        let Some(life) = self.life(node) else { return false };
        let at = life.since.map(|since| self.line(since)).unwrap_or_default();
        let (message, hint) = match life.state {
            State::Runs(_) => {
                return life.since.is_none_or(|since| self.follows(step, since, node));
            }
            State::Image(image) => (
                format!(
                    "`{node}` has ended by then: the checkpoint {at} put it into the images `{image}`"
                ),
                "restore it before, or checkpoint it with `leave_running: true`",
            ),
            State::Killed => (
                format!("`{node}` has ended by then: it is killed {at}"),
                "move one of the two steps",
            ),
            State::Unborn => (
                format!("the copy `{node}` is not there yet"),
                "let the step come `after:` the `restore` of the copy",
            ),
        };
        self.tell(step, &[], message, hint);
        false
    }

    /// A step comes after the one that brought its node where it is, and waits for it if need be.
    fn follows(&mut self, step: usize, since: usize, node: &str) -> bool {
        if self.at_once(since, step) {
            let message = format!("`{node}` is moved {} at the same time", self.line(since));
            self.tell(step, &[], message, "let one of the two come `after:` the other");
            return false;
        }
        // Who only asks a node that moves is answered by it, before, or where it will be.
        let moves = |at: usize| {
            let action = &self.steps[at].plan.action;
            matches!(action, Action::Migrate(_) | Action::Checkpoint { .. } | Action::Relocate(_))
        };
        if !moves(since) || moves(step) {
            self.wait_for(step, since);
        }
        true
    }

    /// Whether two steps start at the same moment.
    fn at_once(&self, one: usize, other: usize) -> bool {
        let [one, other] = [one, other].map(|step| &self.steps[step].plan.when);
        matches!((one, other), (When::At(one), When::At(other)) if one == other)
    }

    fn wait_for(&mut self, step: usize, other: usize) {
        let steps = self.steps;
        // What comes after it by its time waits anyway.
        let after = match &steps[step].plan.when {
            When::After(name, _) => steps[other].plan.name.as_ref() == Some(name),
            _ => false,
        };
        if !after {
            self.needs[step].push(other);
        }
    }

    fn becomes(&mut self, node: &'w str, state: State<'w>, step: usize) {
        let Some(life) = self.lives.get_mut(node) else { return };
        if let State::Runs(place) = life.state
            && self.at.get(place) == Some(&node)
        {
            self.at.remove(place);
        }
        if let (State::Runs(place), true) = (state, life.kind != Kind::Command) {
            self.at.insert(place, node);
        }
        (life.state, life.since) = (state, Some(step));
    }

    /// Whether there is room for a node at a place; tells when there is not.
    fn has_room(&mut self, step: usize, node: &'w str, place: &'w str) -> bool {
        let other = self.at.get(place).copied().filter(|other| *other != node);
        let own = self.life(node).is_some_and(|life| life.kind != Kind::Command);
        let Some(other) = other.filter(|_| own) else { return true };
        let message =
            format!("`{other}` is on `{place}` by then, and a place has room for one of the two");
        self.tell(step, &[], message, "both would listen on the same ports: take another place");
        false
    }

    fn checkpoint(&mut self, step: usize, node: &'w str, image: &'w str, leave_running: bool) {
        let good = self.runs(step, node);
        self.images.insert(image, Images { made: step, used: None });
        if good && !leave_running {
            self.becomes(node, State::Image(image), step);
        }
    }

    fn restore(
        &mut self,
        step: usize,
        node: &'w str,
        image: &'w str,
        on: &'w str,
        copy: Option<&'w str>,
    ) {
        let hint = format!("write `after: {image} + 10s`");
        let Some(images) = self.images.get(image).copied() else {
            let makes = |s: &Checked| matches!(&s.plan.action, Action::Checkpoint { image: made, .. } if made == image);
            let maker = self.steps.iter().position(makes);
            let line = maker.map(|maker| self.line(maker)).unwrap_or_default();
            let message = format!("restores `{image}` before the checkpoint {line} makes it");
            return self.tell(step, &[], message, &hint);
        };
        if self.at_once(images.made, step) {
            let message = format!("restores `{image}` at the very time at which it is made");
            return self.tell(step, &[], message, &hint);
        }
        self.wait_for(step, images.made);
        if let (Some(used), None) = (images.used, copy) {
            let message = format!("`{image}` was used up by the restore {}", self.line(used));
            let hint = "checkpoint again, or with `leave_running: true` and restore copies";
            return self.tell(step, &[], message, hint);
        }
        let being = copy.unwrap_or(node);
        let room = self.has_room(step, being, on);
        if let Some(images) = self.images.get_mut(image) {
            images.used = Some(step);
        }
        if room {
            self.becomes(being, State::Runs(on), step);
        }
    }

    fn migrate(&mut self, step: usize, node: &'w str, to: &'w str) {
        if !self.runs(step, node) {
            return;
        }
        if self.life(node).is_some_and(|life| life.state == State::Runs(to)) {
            let message = format!("`{node}` is on `{to}` already");
            let way = ["migrate".into(), "to".into()];
            return self.tell(step, &way, message, "name another place");
        }
        if !self.has_room(step, node, to) {
            return;
        }
        // What travels needs a way.
        if let Some(State::Runs(from)) = self.life(node).map(|life| life.state)
            && let Err(no) = self.context.reach.way(from, to)
        {
            return self.tell(step, &["migrate".into(), "to".into()], no.why, &no.hint);
        }
        if let Some(before) = self.arrivals.insert(to, step) {
            self.wait_for(step, before);
        }
        self.becomes(node, State::Runs(to), step);
    }

    fn relocate(&mut self, step: usize, node: &'w str) {
        if let Some(before) = self.life(node).and_then(|life| life.relocated) {
            let line = self.line(before);
            let message = format!("the machine of `{node}` moves {line} already, and moves once");
            return self.tell(step, &[], message, "leave one of the two out");
        }
        if self.runs(step, node)
            && let Some(life) = self.lives.get_mut(node)
        {
            (life.relocated, life.since) = (Some(step), Some(step));
        }
    }

    fn handover(&mut self, step: usize, from: &'w str, to: &'w str) {
        if !(self.runs(step, from) && self.runs(step, to)) {
            return;
        }
        for node in [from, to] {
            if let Some(part) = self.life(node).and_then(|life| life.part) {
                let line = self.line(part);
                let message = format!("`{node}` has a part in the handover {line} already");
                return self.tell(step, &[], message, "a server hands over once, to one copy");
            }
        }
        for node in [from, to] {
            if let Some(life) = self.lives.get_mut(node) {
                life.part = Some(step);
            }
        }
    }

    fn attack(&mut self, step: usize, node: &'w str, from: &'w str) {
        self.runs(step, node);
        let there = self.at.get(from).copied();
        let server = there.filter(|node| self.life(node).is_some_and(|l| l.kind == Kind::Server));
        if let Some(server) = server {
            let message =
                format!("`{server}` is on `{from}` by then, and has the port that is sent from");
            let way = ["attack".into(), "from".into()];
            self.tell(step, &way, message, "take another place");
        }
    }

    fn kill(&mut self, step: usize, node: &'w str) {
        if !self.runs(step, node) {
            return;
        }
        if let Some(code) = self.expectation(node).and_then(|expect| expect.exited) {
            let message = format!("`{node}` is killed, and expected to exit with {code}");
            let hint = format!("add `expect: {{{node}: {{signaled: 9}}}}`");
            self.tell(step, &[], message, &hint);
        }
        self.becomes(node, State::Killed, step);
        if self.life(node).is_some_and(|life| life.kind == Kind::Client) {
            self.over = Some(step);
        }
    }

    /// How a node shall end: as the file says, or with 0 when it is the client.
    fn expectation(&self, node: &str) -> Option<Expect> {
        let own = self.context.experiment.value.expect.get(node).cloned();
        let client = self.context.nodes.get(node).is_some_and(|n| n.role == Some(Role::Client));
        own.or_else(|| client.then_some(Expect { exited: Some(0), signaled: None }))
    }

    fn with_role(&self, role: Role) -> Option<(&'w str, Life<'w>)> {
        let found = self.context.nodes.iter().find(|(_, node)| node.role == Some(role))?;
        self.lives.get_key_value(found.0.as_str()).map(|(name, life)| (*name, *life))
    }

    /// What is left when all steps are done has to be enough for the client.
    fn end(&mut self) {
        let client = self.with_role(Role::Client);
        if let Some((name, Life { state: State::Image(image), since: Some(step), .. })) = client {
            let message =
                format!("`{name}` is never restored from `{image}`, and no trial ends without it");
            return self.tell(step, &[], message, "add a step with `restore`");
        }
        let gone = |life: &Life<'_>| matches!(life.state, State::Image(_) | State::Killed);
        let taken_over = self.lives.values().any(|life| life.part.is_some() && !gone(life));
        let client = client.map_or("client", |(name, _)| name);
        let expected = self.context.experiment.value.expect.get(client);
        let fails = expected.is_some_and(|expect| expect.exited != Some(0));
        if taken_over || fails || self.over.is_some() {
            return;
        }
        let server = self.with_role(Role::Server).filter(|(_, life)| gone(life));
        let Some((name, Life { since: Some(step), .. })) = server else { return };
        let message =
            format!("`{name}` does not come back from here, and its client waits for it in vain");
        let hint = format!(
            "restore it, or say how the client ends then: `expect: {{{client}: {{exited: 1}}}}`"
        );
        self.tell(step, &[], message, &hint);
    }

    fn line(&self, step: usize) -> String {
        self.context.line(self.steps[step].number)
    }

    fn tell(&mut self, step: usize, field: &[PathStep], message: String, hint: &str) {
        self.wrong.push(Wrong { step, field: field.to_vec(), message, hint: hint.into() });
    }
}
