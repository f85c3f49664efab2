//! A lab that takes no time, with what really stands in the way of a step: processes, their ports,
//! the files of images, and what servers and criu refuse. It knows nothing of how plans are checked.

use anyhow::{Result, bail, ensure};
use limosa::{
    plan::{Action, Anchor, NodePlan, Plan, VariantPlan},
    spec::Role,
    trial::timeline::{Outcome, Stage},
};
use limosa_record::{node::Scheme, random::SplitMix64};
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tokio::time::{Instant, sleep};

const SERVICE: u16 = 4433;
const CONTROL: u16 = 4400;

#[derive(Debug, Clone, PartialEq)]
enum Program {
    Server,
    Client,
    /// Another program, that listens nowhere or at a port.
    Command(Option<u16>),
}

/// A server's part in a handover.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Part {
    Origin,
    Target,
}

#[derive(Debug, Clone)]
struct Process {
    program: Program,
    place: String,
    alive: bool,
    /// Nobody is answered while it is stopped.
    stopped: bool,
    part: Option<Part>,
    has_address: bool,
    /// Sockets are bound to addresses of this place.
    bound: Option<String>,
    killed: bool,
}

impl Process {
    fn ports(&self) -> Vec<u16> {
        match self.program {
            Program::Server => vec![SERVICE, CONTROL],
            Program::Client => vec![CONTROL],
            // A program with an address of its own listens there only.
            Program::Command(port) => port.filter(|_| !self.has_address).into_iter().collect(),
        }
    }
}

#[derive(Debug, Clone)]
struct Image {
    process: Process,
}

pub(crate) struct World<'p> {
    plan: &'p Plan,
    variant: &'p VariantPlan,
    random: RefCell<SplitMix64>,
    /// What every action takes at the most, in ms.
    slowness: u64,
    processes: RefCell<BTreeMap<String, Process>>,
    images: RefCell<BTreeMap<String, Image>>,
    begun: Instant,
    connected_ns: i64,
    arrivals: RefCell<BTreeSet<String>>,
    relocated: RefCell<bool>,
    /// The copy has the clients.
    handed_over: RefCell<Option<String>>,
    pub(crate) over: RefCell<bool>,
}

impl<'p> World<'p> {
    pub(crate) fn new(
        plan: &'p Plan,
        variant: &'p VariantPlan,
        seed: u64,
        slowness: u64,
    ) -> Result<Self> {
        let mut random = SplitMix64(seed);
        let connected_ns = 1_000_000 * (1 + random.below(slowness)) as i64;
        let world = Self {
            plan,
            variant,
            random: RefCell::new(random),
            slowness,
            processes: RefCell::default(),
            images: RefCell::default(),
            begun: Instant::now(),
            connected_ns,
            arrivals: RefCell::default(),
            relocated: RefCell::new(false),
            handed_over: RefCell::default(),
            over: RefCell::new(false),
        };
        for (name, node) in &plan.nodes {
            world.start(name, node)?;
        }
        Ok(world)
    }

    fn start(&self, name: &str, node: &NodePlan) -> Result<()> {
        let port = node.command.as_ref().and_then(|c| c.ready.as_ref()?.tcp);
        let program = match (&node.command, node.role) {
            (Some(_), _) => Program::Command(port),
            (None, Some(Role::Client)) => Program::Client,
            (None, _) => Program::Server,
        };
        let bound = (program == Program::Client).then(|| node.on.clone());
        let process = Process {
            program,
            place: node.on.clone(),
            alive: true,
            stopped: false,
            part: None,
            has_address: node.address.is_some(),
            bound,
            killed: false,
        };
        self.bind(&process, &node.on)?;
        self.processes.borrow_mut().insert(name.into(), process);
        Ok(())
    }

    fn bind(&self, process: &Process, place: &str) -> Result<()> {
        if let Some(bound) = process.bound.as_ref().filter(|bound| *bound != place) {
            bail!("criu: cannot bind an address of {bound} on {place}");
        }
        for other in self.processes.borrow().values().filter(|p| p.alive && p.place == place) {
            let taken = other.ports().into_iter().find(|port| process.ports().contains(port));
            if let Some(port) = taken {
                bail!("criu: port {port} of {place} is in use");
            }
        }
        Ok(())
    }

    async fn until(&self, time_ns: i64) {
        let left_ns = u64::try_from(time_ns - self.now_ns()).unwrap_or(0);
        sleep(Duration::from_nanos(left_ns)).await;
    }

    async fn takes(&self, least_ms: u64) {
        let more = self.random.borrow_mut().below(self.slowness);
        sleep(Duration::from_millis(least_ms + more)).await;
    }

    fn scheme(&self) -> Scheme {
        self.variant.scheme.expect("a workload with a client")
    }

    fn get(&self, name: &str) -> Result<Process> {
        match self.processes.borrow().get(name) {
            Some(process) => Ok(process.clone()),
            None => bail!("there is no node `{name}`"),
        }
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut Process)) {
        change(self.processes.borrow_mut().get_mut(name).expect("a node"));
    }

    /// A question over the control channel; a node that moves is waited for.
    async fn ask(&self, name: &str) -> Result<Process> {
        let asked = self.now_ns();
        loop {
            let process = self.get(name)?;
            ensure!(!matches!(process.program, Program::Command(_)), "{name} answers nothing");
            ensure!(!process.killed, "no answer within 5s");
            if process.alive && !process.stopped {
                return Ok(process);
            }
            // The client waits as long, in vain.
            ensure!(self.now_ns() - asked < 120_000_000_000, "{name} does not come back");
            sleep(Duration::from_millis(5)).await;
        }
    }

    async fn announce(&self, node: &str) -> Result<()> {
        self.until(self.connected_ns).await;
        let process = self.ask(node).await?;
        ensure!(process.program == Program::Server, "only a server can announce an address");
        match self.scheme() {
            Scheme::Quic => bail!("the scheme `quic` cannot announce an address"),
            Scheme::MptcpTunnel => bail!("no connections of QUIC"),
            _ => Ok(()),
        }
    }

    /// What criu says when it is to dump a process.
    fn dump(&self, name: &str, image: &str, ends: bool) -> Result<Process> {
        let process = self.get(name)?;
        ensure!(process.alive && !process.stopped, "no such process");
        let role = self.plan.nodes.get(name).and_then(|n| n.role);
        let talks = role.is_some() && self.now_ns() >= self.connected_ns;
        if self.scheme() == Scheme::MptcpTunnel && role.is_some() {
            bail!("criu: unsupported protocol 262");
        }
        if self.scheme() == Scheme::Http
            && talks
            && !process.has_address
            && role == Some(Role::Server)
        {
            bail!("criu: connected TCP socket, consider --tcp-established");
        }
        ensure!(!self.images.borrow().contains_key(image), "images `{image}` are there already");
        if ends {
            self.change(name, |p| p.stopped = true);
        }
        Ok(process)
    }

    async fn checkpoint(&self, node: &str, image: &str, leave_running: bool) -> Result<()> {
        let process = self.dump(node, image, !leave_running)?;
        self.takes(20).await;
        self.images.borrow_mut().insert(image.into(), Image { process });
        if !leave_running {
            ensure!(self.get(node)?.alive, "killed meanwhile");
            self.change(node, |p| (p.alive, p.stopped) = (false, false));
        }
        Ok(())
    }

    async fn restore(&self, node: &str, image: &str, on: &str, copy: Option<&str>) -> Result<()> {
        let images = self.images.borrow().get(image).cloned();
        let Some(Image { process }) = images else { bail!("Can't open dir {image}") };
        let being = copy.unwrap_or(node);
        ensure!(copy.is_none_or(|copy| !self.processes.borrow().contains_key(copy)), "File exists");
        ensure!(copy.is_some() || !self.get(node)?.alive, "{node} still runs");
        let restored = Process { place: on.into(), alive: true, stopped: true, ..process };
        self.bind(&restored, on)?;
        self.processes.borrow_mut().insert(being.into(), restored.clone());
        self.takes(20).await;
        self.change(being, |p| p.stopped = false);
        if copy.is_some() {
            ensure!(restored.program == Program::Server, "only a server has objects");
            ensure!(self.scheme().hands_over(), "the scheme does not know old and new servers");
            self.change(being, |p| p.part = Some(Part::Target));
        } else {
            self.images.borrow_mut().remove(image);
        }
        Ok(())
    }

    async fn migrate(&self, node: &str, to: &str) -> Result<()> {
        let process = self.get(node)?;
        ensure!(process.program != Program::Client, "clients do not move");
        ensure!(process.place != to, "no way from {to} to {to}");
        ensure!(self.arrivals.borrow_mut().insert(to.into()), "port 873 of {to} is in use");
        self.dump(node, "migrate", true)?;
        self.takes(50).await;
        ensure!(self.get(node)?.alive, "the source has ended, too");
        self.bind(&Process { alive: true, ..process.clone() }, to)?;
        self.change(node, |p| p.place = to.into());
        self.takes(20).await;
        self.change(node, |p| p.stopped = false);
        self.arrivals.borrow_mut().remove(to);
        Ok(())
    }

    async fn handover(&self, from: &str, to: &str) -> Result<()> {
        let origin = self.ask(from).await?;
        ensure!(self.scheme().hands_over(), "the scheme does not know old and new servers");
        ensure!(origin.part.is_none(), "has a part in a migration already");
        let target = self.get(to)?;
        ensure!(target.alive && target.part == Some(Part::Target), "nobody takes the objects");
        self.change(from, |p| p.part = Some(Part::Origin));
        self.handed_over.replace(Some(to.into()));
        Ok(())
    }

    async fn attack(&self, node: &str, from: &str) -> Result<()> {
        self.takes(300).await;
        let process = self.get(node)?;
        let speaks = !matches!(self.scheme(), Scheme::Http | Scheme::MptcpTunnel);
        let own = !matches!(process.program, Program::Command(_));
        ensure!(process.alive && speaks && own, "`{node}` sent nothing that could be caught");
        let processes = self.processes.borrow();
        let taken =
            processes.values().any(|p| p.alive && p.place == from && p.ports().contains(&SERVICE));
        ensure!(!taken, "the attacker's socket: address in use");
        Ok(())
    }

    fn kill(&self, node: &str) -> Result<()> {
        let process = self.get(node)?;
        ensure!(process.alive && !process.killed, "no such process");
        self.change(node, |p| (p.alive, p.stopped, p.killed) = (false, false, true));
        if process.program == Program::Client {
            self.over.replace(true);
        }
        Ok(())
    }

    /// What the client has come to when all steps are done.
    pub(crate) fn end(&self) -> Result<()> {
        let expect = |name: &str| self.plan.expect.get(name).cloned();
        for (name, process) in self.processes.borrow().iter() {
            let Some(expect) = expect(name) else { continue };
            if process.killed {
                ensure!(expect.exited.is_none(), "{name} killed by signal 9");
            }
        }
        if *self.over.borrow() {
            return Ok(());
        }
        let alive = |name: &str| self.processes.borrow().get(name).is_some_and(|p| p.alive);
        let client =
            self.plan.nodes.iter().find(|(_, n)| n.role == Some(Role::Client)).expect("one").0;
        ensure!(alive(client), "the client never comes back");
        let server =
            self.plan.nodes.iter().find(|(_, n)| n.role == Some(Role::Server)).expect("one").0;
        let copy = self.handed_over.borrow().clone();
        let served = alive(server) || copy.is_some_and(|copy| alive(&copy));
        // Who has said how the client ends has thought of that.
        let said = expect(client).is_some_and(|e| e.exited != Some(0));
        ensure!(served || said, "no server is left");
        Ok(())
    }
}

impl Stage for World<'_> {
    async fn apply(&self, action: &Action, planned_ns: i64) -> Result<Outcome> {
        self.until(planned_ns).await;
        let started_ns = self.now_ns();
        if *self.over.borrow() {
            bail!("the client ended before the step");
        }
        match action {
            Action::Announce { node, .. } => self.announce(node).await?,
            Action::Barrier { node, .. } => _ = self.ask(node).await?,
            Action::Publish { node } => {
                ensure!(self.plan.dns.is_some(), "there is no DNS server");
                self.announce(node).await?;
            }
            Action::Checkpoint { node, image, leave_running } => {
                self.checkpoint(node, image, *leave_running).await?;
            }
            Action::Restore { node, image, on, copy } => {
                let copy = copy.as_ref().map(|copy| &*copy.name);
                self.restore(node, image, on, copy).await?;
            }
            Action::Migrate(plan) => self.migrate(&plan.node, &plan.to).await?,
            Action::Relocate(_) => {
                ensure!(self.scheme() == Scheme::MptcpTunnel, "the client has not joined");
                ensure!(!self.relocated.replace(true), "File exists");
            }
            Action::Handover { from, to, .. } => self.handover(from, to).await?,
            Action::Attack(plan) => self.attack(&plan.node, &plan.from).await?,
            Action::Search { node } => {
                let own = !matches!(self.get(node)?.program, Program::Command(_));
                let kept = self.variant.transport.as_ref().is_some_and(|t| t.key_log);
                ensure!(own && kept, "{node} has no key log");
            }
            Action::Kill { node } => self.kill(node)?,
            Action::Shape { .. } | Action::LinkDown { .. } | Action::LinkUp { .. } => {}
        }
        Ok(Outcome { detail: String::new(), started_ns, done_ns: self.now_ns() })
    }

    async fn reached(&self, anchor: Anchor) -> Result<i64> {
        let more = match anchor {
            Anchor::Connected => 0,
            Anchor::FirstByte => 10,
            Anchor::Bytes(size) => 20 + size.0 / 1000,
        };
        let at_ns = self.connected_ns + 1_000_000 * more as i64;
        self.until(at_ns).await;
        Ok(at_ns)
    }

    /// Virtual time, from the start of the handshake.
    fn now_ns(&self) -> i64 {
        self.begun.elapsed().as_nanos() as i64
    }
}
