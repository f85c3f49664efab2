//! The workloads of servers and a client: nodes start, the timeline runs, the client ends.

use super::{Finished, Host, Middle, ServerReport};
use crate::{
    action::Scene,
    dnsmasq::Dnsmasq,
    lab::Lab,
    node::{Node, Place},
    plan::{Action, NodePlan, TrialPlan, VariantPlan},
    run::Phase,
    spec::{Expect, Role},
    sys::process::ExitState,
    verdict::watch::Mark,
};
use anyhow::{Context, Result, anyhow, bail};
use limosa_record::node::Request;
use std::{path::Path, rc::Rc, time::Duration};
use tokio::time::timeout;

/// How long a client may take to end after it has closed its connections.
const LAST_WORDS: Duration = Duration::from_secs(1);

impl Host {
    /// Servers and a client, until the client has ended.
    pub(super) async fn serve(
        &self,
        finished: &mut Finished<'_>,
        lab: &Lab,
        begun: &mut Mark,
        phase: &dyn Fn(Phase),
    ) -> Result<Middle> {
        let (trial, variant, folder) = (finished.trial, finished.variant, finished.folder);
        let (client_name, client_place) = self.node_of(Role::Client)?;
        let dns = match &self.plan.dns {
            Some(plan) => {
                let (place, record) = (lab.place(&plan.on)?, variant.connect.ip());
                Some(Dnsmasq::start(place, plan.address, record, &folder.join("dnsmasq")).await?)
            }
            None => None,
        };
        let mut nodes = Vec::new();
        for (name, node) in &self.plan.nodes {
            let kept = folder.join(name);
            nodes.push(Rc::new(self.start(name, node, &kept, trial, variant, lab).await?));
        }
        let client = nodes.iter().find(|n| n.name() == client_name).context("no client")?.clone();
        let scene = Scene { dns, ..self.scene(finished, lab, nodes) };
        for step in &variant.timeline {
            if let Action::Relocate(plan) = &step.action {
                scene.prepare_relocation(client_place, plan)?;
            }
        }
        let links = lab.readings(&variant.timeline)?;
        // What the machine did while nodes started is no matter of the download.
        *begun = self.machine.mark();
        phase(Phase::Handshake);
        let zero_ns = client.ask(lab, &Request::Start).await?.handshake_started_ns;
        let zero_ns = zero_ns.context("the client does not say when its handshake started")?;
        finished.zero_ns = Some(zero_ns);
        phase(Phase::Download);
        let end = self.until_the_end(finished, &scene, client.ended(), zero_ns, phase).await;
        self.take_readings(finished, lab, begun, &links, end.is_ok())?;
        finished.moves = scene.moves.take();
        finished.further = scene.further.take();
        let of_moves = finished.moves.iter().filter_map(|m| m.dump.clone());
        finished.dumps = scene.dumps.take().into_iter().chain(of_moves).collect();
        let nodes = scene.nodes.take();
        let unread = nodes.iter().filter_map(|n| n.unread());
        finished.unread = unread.reduce(|mut all, one| {
            all += one;
            all
        });
        for node in nodes.iter().filter(|n| n.name() != client_name) {
            if variant.copies().next().is_some() && !node.was_killed() && end.is_ok() {
                finished.servers.extend(server_report(node, lab).await);
            }
            let state = node.stop(lab).await?;
            if let (Some(expect), Ok(Middle::Over(_))) = (self.plan.expect.get(node.name()), &end) {
                check_end(node, expect, state)?;
            }
        }
        if !matches!(end, Ok(Middle::Over(_))) {
            client.kill().await?;
        }
        if let (Ok(Middle::Over(state)), Some(expect)) = (&end, self.plan.expect.get(client_name)) {
            check_end(&client, expect, *state)?;
        }
        end
    }

    /// One of the nodes, with its own address if it has one.
    async fn start(
        &self,
        name: &str,
        node: &NodePlan,
        kept: &Path,
        trial: &TrialPlan,
        variant: &VariantPlan,
        lab: &Lab,
    ) -> Result<Node> {
        let working = self.desk(trial).join(name);
        let floating = node.address.map(|a| lab.floating(&self.plan.network, a)).transpose()?;
        if let Some(floating) = &floating {
            floating.assign(&node.on)?;
            floating.lead(&node.on)?;
        }
        let started = if let Some(command) = &node.command {
            let place = Place { name, on: &node.on, folder: &working, kept };
            Node::command(command, place, &self.work.path().join("www"), lab).await?
        } else {
            let role = node.role.context("the node has no role")?;
            let config = self.config(name, role, trial, variant, &working)?;
            Node::start(&self.program, name, &node.on, &working, kept, &config, lab).await?
        };
        Ok(started.with_address(floating))
    }
}

/// A step may fail only because the client is just ending, which then is the reason.
pub(super) async fn root_cause(client: Option<Rc<Node>>, error: anyhow::Error) -> anyhow::Error {
    let Some(client) = client else { return error };
    match timeout(LAST_WORDS, client.ended()).await {
        Ok(Ok(state)) if !state.success() => {
            anyhow!("{}\n  then: {error:#}", client.early_end(Ok(state)))
        }
        _ => error,
    }
}

/// Has a server write down what it holds. One that does not answer any more has nothing to say.
async fn server_report(node: &Node, lab: &Lab) -> Option<ServerReport> {
    let reply = node.ask(lab, &Request::Objects).await.ok()?;
    Some(ServerReport { name: node.name().into(), migration: reply.migration })
}

fn check_end(node: &Node, expect: &Expect, state: ExitState) -> Result<()> {
    let (good, wish) = match (expect.exited, expect.signaled) {
        (Some(code), _) => (state == ExitState::Exited(code), format!("{{exited: {code}}}")),
        (_, Some(signal)) => {
            (state == ExitState::Signaled(signal), format!("{{signaled: {signal}}}"))
        }
        (None, None) => (true, String::new()),
    };
    if good {
        return Ok(());
    }
    let name = node.name();
    bail!(node.told(format!("node `{name}` {state}, expected `{name}: {wish}`")))
}
