//! What the steps of a timeline do: the one `match` over [`Action`].

mod attack;
mod migrate;
mod milestones;
mod relocate;

pub use migrate::{Move, Round};
pub use milestones::Milestones;

use crate::{
    plan::{Action, Anchor, CopyPlan, Reach, SERVER_PORT},
    trial::{
        dnsmasq::Dnsmasq,
        folders::Folders,
        node::{Node, Place},
        timeline::{Done, Outcome, Stage, until},
    },
};
use anyhow::{Context, Result, anyhow, bail};
use futures_util::{StreamExt, stream::FuturesUnordered};
use limosa_lab::{
    lab::Lab,
    network::Network,
    sys::{
        criu::{Criu, DumpReport, Leave, Options},
        egress,
    },
};
use limosa_record::{
    clock::now_ns,
    node::{Handover, Request, Target},
};
use std::{
    cell::RefCell,
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant},
};
use tokio::{sync::Notify, time::sleep};

/// How often a server is asked whether its clients have acknowledged.
const ASK_AGAIN: Duration = Duration::from_millis(10);

/// A lab with its nodes, on which actions are carried out.
#[derive(Debug)]
pub struct Scene<'a> {
    /// The network.
    pub lab: &'a Lab,
    /// What it was made of.
    pub network: &'a Network,
    /// The client's place, if there is a client.
    pub client_place: Option<&'a str>,
    /// The processes; copies join them.
    pub nodes: RefCell<Vec<Rc<Node>>>,
    /// Told when a copy has joined.
    pub joined: Notify,
    /// The criu program, when the plan needs one.
    pub criu: Option<&'a Criu>,
    /// The DNS server, if the plan has one.
    pub dns: Option<Dnsmasq>,
    /// Where nodes have their folders, images theirs, and CRIU's logs theirs.
    pub folders: Folders,
    /// Whether a server speaks to its clients as soon as it is restored.
    pub speaks_first: bool,
    /// What CRIU reported, in order.
    pub dumps: RefCell<Vec<DumpReport>>,
    /// Servers that moved, in order.
    pub moves: RefCell<Vec<Move>>,
    /// What steps have done beside what they were planned for.
    pub further: RefCell<Vec<Done>>,
    /// The name of the client, if there is one.
    pub client: Option<&'a str>,
    /// Bytes of the body whose arrival the clients note.
    pub marks_bytes: Vec<u64>,
    /// How far its clients have come, as far as anybody waits for it.
    pub milestones: Milestones,
}

impl Scene<'_> {
    /// One of the processes by its name.
    ///
    /// # Errors
    /// When there is none of this name.
    pub fn node(&self, name: &str) -> Result<Rc<Node>> {
        let found = self.nodes.borrow().iter().find(|n| n.name() == name).cloned();
        found.with_context(|| format!("there is no node `{name}`"))
    }

    /// Waits until a node ends that should not, and says which and how.
    pub async fn early_end(&self) -> String {
        loop {
            let nodes = self.nodes.borrow().clone();
            let ends = nodes.iter().map(async |n| {
                let state = n.ended().await;
                if n.is_accident(&state) {
                    n.early_end(state)
                } else {
                    std::future::pending().await
                }
            });
            let mut ends: FuturesUnordered<_> = ends.collect();
            tokio::select! {
                Some(why) = ends.next() => return why,
                () = self.joined.notified() => {}
            }
        }
    }

    /// The copy comes to life behind a block: it must not send under its origin's keys. The block
    /// is lifted when it has forgotten the connections that it was copied with.
    async fn restore_copy(
        &self,
        origin: &Node,
        images: &std::path::Path,
        options: &Options,
        on: &str,
        copy: &CopyPlan,
    ) -> Result<Outcome> {
        let name = &copy.name;
        let netns = self.lab.place(on)?;
        netns.apply(egress::block(SERVER_PORT))?;
        // The origin's log goes on in its folder.
        let (folder, kept) = (self.folders.node(name)?, self.folders.kept(name)?);
        let as_copy = Place { name, on, folder: &folder, kept: &kept, addresses: &[] };
        let restored = origin.copy(self.criu()?, images, options, self.lab, as_copy).await;
        let (node, report) = restored?;
        let node = Rc::new(node);
        self.nodes.borrow_mut().push(node.clone());
        self.joined.notify_one();
        let name = name.clone();
        let target = Target { name, folder, migration: copy.migration };
        node.ask(self.lab, &Request::BecomeTarget(target)).await?;
        netns.apply(egress::unblock(SERVER_PORT))?;
        let detail = format!("{}, a copy of {}, on {on}", copy.name, origin.name());
        Ok(Outcome { detail, started_ns: report.started_ns, done_ns: now_ns() })
    }

    /// Waits until all clients have acknowledged; names those that have not in time.
    async fn barrier(&self, node: &str, deadline: Duration) -> Result<Vec<String>> {
        let (node, begun) = (self.node(node)?, Instant::now());
        loop {
            let unheard = node.ask(self.lab, &Request::Status).await?.unheard;
            if unheard.is_empty() || begun.elapsed() >= deadline {
                return Ok(unheard);
            }
            sleep(ASK_AGAIN.min(deadline.saturating_sub(begun.elapsed()))).await;
        }
    }

    /// Lets a server that lives again speak first, where the scheme wants it.
    async fn restored(&self, node: &Node) -> Result<()> {
        if self.speaks_first {
            node.ask(self.lab, &Request::Speak).await?;
        }
        Ok(())
    }

    /// A server that has come to another place is told its address there, so that it takes packets
    /// at it; then the record is written.
    async fn publish(&self, node: &str) -> Result<String> {
        let node = self.node(node)?;
        let place = node.place();
        let client = self.client_place.context("there is no client")?;
        let way = Reach::new(self.network).way(client, &place);
        let ip = way.map_err(|no| anyhow!("{}\n  hint: {}", no.why, no.hint))?.to;
        node.ask(self.lab, &Request::Announce(SocketAddr::new(ip, SERVER_PORT))).await?;
        self.dns.as_ref().context("there is no DNS server")?.set(ip)?;
        Ok(format!("{} is at {ip}", node.name()))
    }

    fn criu(&self) -> Result<&Criu> {
        self.criu.context("there is no criu")
    }

    /// The actions that need no preparation.
    async fn at_once(&self, action: &Action) -> Result<String> {
        match action {
            Action::Announce { node, address } => {
                let waited = self.first_connection().await?;
                self.node(node)?.ask(self.lab, &Request::Announce(*address)).await?;
                Ok(format!("{node} will be at {address}{waited}"))
            }
            Action::Handover { from, to, service, migration, rate_bytes_per_s } => {
                let handover = Handover {
                    to: Some(*service),
                    migration: *migration,
                    rate_bytes_per_s: *rate_bytes_per_s,
                };
                self.node(from)?.ask(self.lab, &Request::Handover(handover)).await?;
                Ok(format!("{from} to {to}"))
            }
            Action::Publish { node } => self.publish(node).await,
            Action::Shape { link, a_to_b, b_to_a } => {
                self.lab.reshape(link, a_to_b.as_ref(), b_to_a.as_ref())?;
                Ok(link.clone())
            }
            Action::LinkDown { link } => {
                self.lab.set_link(link, false)?;
                Ok(link.clone())
            }
            Action::LinkUp { link } => {
                self.lab.set_link(link, true)?;
                Ok(link.clone())
            }
            Action::Kill { node } => {
                self.node(node)?.kill().await?;
                Ok(node.clone())
            }
            Action::Attack(plan) => self.attack(plan).await,
            Action::Search { node } => self.search(node),
            Action::Barrier { node, deadline } => {
                let unheard = self.barrier(node, deadline.as_duration()).await?;
                Ok(match &unheard[..] {
                    [] => format!("all clients of {node} have acknowledged"),
                    stragglers => format!("without {}", stragglers.join(", ")),
                })
            }
            Action::Checkpoint { .. }
            | Action::Restore { .. }
            | Action::Migrate(_)
            | Action::Relocate(_) => bail!("needs preparation"),
        }
    }
}

impl Stage for Scene<'_> {
    async fn reached(&self, anchor: Anchor) -> Result<i64> {
        self.come_to(anchor).await
    }

    async fn apply(&self, action: &Action, planned_ns: i64) -> Result<Outcome> {
        match action {
            Action::Checkpoint { node, image, leave_running } => {
                let images = self.folders.images(image)?;
                let mut options = Options::new(self.folders.logs(image)?.join("checkpoint"));
                options.begin_ns = planned_ns;
                options.leave = if *leave_running { Leave::Running } else { Leave::Dead };
                let dump = self.node(node)?.checkpoint(self.criu()?, &images, &options).await?;
                let detail = format!("{node} as {image}, {} bytes", dump.image_bytes);
                let (started_ns, done_ns) = (dump.started_ns, dump.done_ns);
                self.dumps.borrow_mut().push(dump);
                Ok(Outcome { detail, started_ns, done_ns })
            }
            Action::Restore { node, image, on, copy } => {
                let images = self.folders.images(image)?;
                let mut options = Options::new(self.folders.logs(image)?.join("restore"));
                options.begin_ns = planned_ns;
                let found = self.node(node)?;
                if let Some(copy) = copy {
                    return self.restore_copy(&found, &images, &options, on, copy).await;
                }
                let report = found.restore(self.criu()?, &images, &options, self.lab, on).await?;
                self.restored(&found).await?;
                // They are full of secrets, and nobody needs them any more.
                self.folders.remove(&images)?;
                let detail = format!("{node} from {image} on {on}");
                let (started_ns, done_ns) = (report.started_ns, report.done_ns);
                Ok(Outcome { detail, started_ns, done_ns })
            }
            Action::Migrate(plan) => self.migrate(plan, planned_ns).await,
            Action::Relocate(plan) => self.relocate(plan, planned_ns).await,
            _ => {
                until(planned_ns).await;
                let started_ns = now_ns();
                let detail = self.at_once(action).await?;
                Ok(Outcome { detail, started_ns, done_ns: now_ns() })
            }
        }
    }
}
