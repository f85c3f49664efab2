//! The workloads of servers and a client: nodes start, the timeline runs, the client ends, and
//! with it whatever else an end is expected of.

use super::{Finished, Host, Middle, ServerReport, expected};
use crate::{
    plan::{Action, NodePlan, TrialPlan, VariantPlan},
    run::{Phase, verdict::watch::Mark},
    spec::{Expect, Role},
    trial::{
        action::Scene,
        dnsmasq::Dnsmasq,
        folders::Folders,
        node::{Meaning, Node, Place, Shared},
    },
};
use anyhow::{Context, Result, anyhow, bail};
use futures_util::{StreamExt, stream::FuturesUnordered};
use limosa_lab::{lab::Lab, sys::process::ExitState};
use limosa_record::{clock::now_ns, node::Request};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    rc::Rc,
    time::Duration,
};
use tokio::time::timeout;

/// How long a client may take to end after it has closed its connections.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The end of a node.
#[derive(Debug, Clone)]
pub(super) struct NodeEnd {
    pub(super) name: String,
    /// Whether it is not one of Limosa's own.
    pub(super) command: bool,
    pub(super) state: ExitState,
    /// Whether it was asked to end, or killed at last.
    pub(super) asked: bool,
    /// When, CLOCK_REALTIME in ns.
    pub(super) at_ns: i64,
}

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
        let foreign = self.plan.nodes[client_name].is_foreign(Role::Client);
        let (folders, mut nodes) = (self.folders(trial, folder)?, Vec::new());
        for (name, node) in self.plan.nodes.iter().filter(|(n, _)| !foreign || *n != client_name) {
            nodes.push(Rc::new(self.start(name, node, &folders, trial, variant, lab).await?));
        }
        let scene = Scene { dns, ..self.scene(finished, lab, nodes)? };
        for step in &variant.timeline {
            if let Action::Relocate(plan) = &step.action {
                scene.prepare_relocation(client_place, plan)?;
            }
        }
        let links = lab.readings(&expected(&variant.timeline))?;
        // What the machine did while nodes started is no matter of the download.
        *begun = self.machine.mark();
        phase(Phase::Handshake);
        let zero_ns = if foreign {
            let zero_ns = now_ns();
            let node = &self.plan.nodes[client_name];
            let client = self.start(client_name, node, &folders, trial, variant, lab).await?;
            scene.nodes.borrow_mut().push(Rc::new(client));
            zero_ns
        } else {
            let zero_ns = scene.node(client_name)?.ask(lab, &Request::Start).await?;
            let zero_ns = zero_ns.handshake_started_ns;
            zero_ns.context("the client does not say when its handshake started")?
        };
        let client = scene.node(client_name)?;
        finished.zero_ns = Some(zero_ns);
        phase(Phase::Download);
        let ends = self.awaited_ends(scene.nodes.borrow().clone(), client_name);
        let end = self.until_the_end(finished, &scene, ends, zero_ns, phase).await;
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
        let wrong = self.end_nodes(finished, &nodes, &client, &end, lab).await?;
        end.and_then(|end| wrong.map_or(Ok(end), Err))
    }

    /// Asks all nodes to end that have not, and returns what is wrong with how they did.
    async fn end_nodes(
        &self,
        finished: &mut Finished<'_>,
        nodes: &[Rc<Node>],
        client: &Rc<Node>,
        end: &Result<Middle>,
        lab: &Lab,
    ) -> Result<Option<anyhow::Error>> {
        let over = matches!(end, Ok(Middle::Over(_)));
        let shared = finished.variant.copies().next().is_some();
        let mut wrong = None;
        for node in nodes.iter().filter(|n| n.name() != client.name()) {
            let by_itself = node.try_ended()?;
            if shared && !node.was_killed() && end.is_ok() {
                finished.servers.extend(server_report(node, lab).await);
            }
            let state = node.stop(lab).await?;
            finished.ends.push(self.node_end(node, state, by_itself.is_none()));
            // What has ended just before the client is no less of an accident.
            if by_itself.is_some() && node.is_accident(&Ok(state)) {
                wrong.get_or_insert_with(|| anyhow!(node.early_end(Ok(state))));
            } else if let (Some(expect), true) = (self.plan.expect.get(node.name()), over) {
                wrong = wrong.or(check_end(node, expect, state).err());
            }
        }
        if !over {
            client.kill().await?;
        }
        if let Some(state) = client.try_ended()? {
            finished.ends.push(self.node_end(client, state, !over));
        }
        if let (Ok(Middle::Over(state)), Some(expect)) = (end, self.plan.expect.get(client.name()))
        {
            wrong = check_end(client, expect, *state).err().or(wrong);
        }
        Ok(wrong)
    }

    /// Returns how the client has ended, when all commands have ended that are expected to.
    async fn awaited_ends(&self, nodes: Vec<Rc<Node>>, client: &str) -> Result<ExitState> {
        let awaited = |n: &&Rc<Node>| n.name() == client || self.plan.awaits(n.name());
        let ends = nodes.iter().filter(awaited).map(async |n| (n.clone(), n.ended().await));
        let mut ends: FuturesUnordered<_> = ends.collect();
        let mut of_client = None;
        while let Some((node, state)) = ends.next().await {
            let state = state?;
            match self.plan.expect.get(node.name()) {
                _ if node.name() == client && !state.success() => return Ok(state),
                Some(expect) if node.name() != client => check_end(&node, expect, state)?,
                _ => {}
            }
            if node.name() == client {
                of_client = Some(state);
            }
        }
        of_client.context("there is no client")
    }

    /// Commands that should have ended by now.
    pub(super) fn still_awaited(&self, scene: &Scene<'_>) -> Vec<String> {
        let foreign = |name: &str| self.plan.nodes.get(name).is_some_and(|n| n.command.is_some());
        let nodes = scene.nodes.borrow();
        let awaited = nodes.iter().filter(|n| n.is_awaited() && foreign(n.name()));
        let still = awaited.filter(|n| matches!(n.try_ended(), Ok(None)));
        still.map(|n| n.name().to_owned()).collect()
    }

    fn node_end(&self, node: &Node, state: ExitState, asked: bool) -> NodeEnd {
        let command = self.plan.nodes.get(node.name()).is_some_and(|n| n.command.is_some());
        let at_ns = if asked { None } else { node.ended_ns() };
        let at_ns = at_ns.unwrap_or_else(now_ns);
        NodeEnd { name: node.name().into(), command, state, asked, at_ns }
    }

    /// One of the nodes, with its own address if it has one.
    async fn start(
        &self,
        name: &str,
        node: &NodePlan,
        folders: &Folders,
        trial: &TrialPlan,
        variant: &VariantPlan,
        lab: &Lab,
    ) -> Result<Node> {
        let (working, kept) = (folders.node(name)?, folders.kept(name)?);
        let floating = node.address.map(|a| lab.floating(&self.plan.network, a)).transpose()?;
        if let Some(floating) = &floating {
            floating.assign(&node.on)?;
            floating.lead(&node.on)?;
        }
        let started = if let Some(command) = &node.command {
            let addresses = self.addresses(node);
            let place =
                Place { name, on: &node.on, folder: &working, kept: &kept, addresses: &addresses };
            let (www, certificates) = (self.work.path().join("www"), &self.certificates.folder);
            let meaning = match node.role {
                Some(Role::Client) => Meaning::Awaited,
                _ if self.plan.awaits(name) => Meaning::Awaited,
                Some(Role::Server) => Meaning::Accident,
                None => Meaning::MayEndWell,
            };
            Node::command(command, place, Shared { www: &www, certificates }, lab)
                .await?
                .meaning(meaning)
        } else {
            let role = node.role.context("the node has no role")?;
            let config = self.config(name, role, trial, variant, &working)?;
            let own = Node::start(&self.program, name, &node.on, &working, &kept, &config, lab);
            match role {
                Role::Client => own.await?.meaning(Meaning::Awaited),
                Role::Server => own.await?,
            }
        };
        Ok(started.with_address(floating))
    }
}

impl Host {
    /// Where a command may be found from its own place: at its own address, or at any of the place.
    fn addresses(&self, node: &NodePlan) -> Vec<IpAddr> {
        if let Some(own) = node.address {
            return vec![own];
        }
        let interfaces = self.plan.network.places.get(&node.on).map(|p| &p.interfaces);
        let of_place = interfaces.into_iter().flatten().flat_map(|i| &i.addresses);
        let loopback: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        loopback.into_iter().chain(of_place.map(|net| net.addr())).collect()
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
