//! The action `relocate`: a whole machine moves under MPTCP, after Le et al. (figure 1).
//!
//! A namespace with the server's process and the kernel's sockets stands for the virtual machine:
//! CRIU cannot move sockets of MPTCP. The process is stopped, the machine's cable is taken out of
//! the old host and, after the time that its memory would take, a cable is put into the new one; what is
//! for its old address goes through a tunnel (VXLAN) from the old host to the new one and back. Then
//! the new address is announced (ADD_ADDR), the client joins (MP_JOIN), the old one is withdrawn
//! (REMOVE_ADDR), and the tunnel goes.

use super::Scene;
use crate::{
    plan::{Reach, RelocatePlan},
    trial::timeline::{Done, Outcome, until},
};
use anyhow::{Context, Result, bail};
use limosa_lab::sys::{
    link::{self, MAIN_TABLE, Route},
    mptcp,
};
use limosa_record::clock::now_ns;
use rustix::process::Signal;
use std::{
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};
use tokio::time::sleep;

/// The ends of the tunnel (RFC 2544: nobody else has these addresses).
const TUNNEL: [Ipv4Addr; 2] = [Ipv4Addr::new(198, 18, 0, 1), Ipv4Addr::new(198, 18, 0, 2)];

/// The table, and the priority of its rule, for what comes from the old address at the new host.
const BACK: u32 = 200;

/// How long the client may take to join.
const JOIN_LIMIT: Duration = Duration::from_secs(10);

/// How often it is looked whether it has.
const LOOK: Duration = Duration::from_millis(5);

impl Scene<'_> {
    /// Before the trial: connections take a second path, and machines that will move are plugged
    /// into their old hosts only.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn prepare_relocation(&self, client: &str, plan: &RelocatePlan) -> Result<()> {
        for place in [client, &plan.machine] {
            mptcp::set_limits(self.lab.place(place)?, 1, 1)?;
        }
        self.lab.set_link(&plan.plug, false)
    }

    /// Moves a machine.
    pub(super) async fn relocate(&self, plan: &RelocatePlan, planned_ns: i64) -> Result<Outcome> {
        let node = self.node(&plan.node)?;
        until(planned_ns).await;
        let started_ns = now_ns();
        node.signal(Signal::STOP)?;
        self.lab.set_link(&plan.unplug, false)?;
        self.told("freeze", plan.node.clone(), started_ns);
        sleep(plan.pause.as_duration()).await;
        let plugged_ns = now_ns();
        let tunnel = self.tunnel(plan)?;
        self.lab.set_link(&plan.plug, true)?;
        self.route_home(plan)?;
        self.told("tunnel", format!("{} to {}", plan.from, plan.to), plugged_ns);
        let thawed_ns = now_ns();
        node.signal(Signal::CONT)?;
        self.told("thaw", format!("{} at {}", plan.node, plan.to), thawed_ns);
        let mut detail = format!("{} from {} to {}", plan.node, plan.from, plan.to);
        if let Some(after) = plan.join {
            sleep(after.as_duration()).await;
            self.join(plan).await?;
            for ((place, _), index) in self.tunnel_ends(plan).into_iter().zip(tunnel) {
                self.lab.place(place)?.apply([link::delete(index)])?;
            }
            self.told("released", plan.from.clone(), now_ns());
        } else {
            detail += ", through the tunnel";
        }
        Ok(Outcome { detail, started_ns, done_ns: now_ns() })
    }

    /// ADD_ADDR, MP_JOIN, REMOVE_ADDR.
    async fn join(&self, plan: &RelocatePlan) -> Result<()> {
        let machine = self.lab.place(&plan.machine)?;
        let before = mptcp::counter(machine, "MPJoinAckRx")?;
        let announced_ns = now_ns();
        mptcp::announce(machine, plan.new)?;
        self.told("add_addr", plan.new.to_string(), announced_ns);
        let begun = Instant::now();
        while mptcp::counter(machine, "MPJoinAckRx")? == before {
            if begun.elapsed() > JOIN_LIMIT {
                bail!(
                    "the client has not joined at {} within {JOIN_LIMIT:?}\n  \
                     hint: is the connection one of MPTCP, or has TCP taken its place?",
                    plan.new
                );
            }
            sleep(LOOK).await;
        }
        self.told("mp_join", plan.new.to_string(), announced_ns);
        let withdrawn_ns = now_ns();
        mptcp::withdraw(machine, plan.old)?;
        self.told("remove_addr", plan.old.to_string(), withdrawn_ns);
        Ok(())
    }

    /// Old and new host with their address towards the other one.
    fn tunnel_ends<'p>(&self, plan: &'p RelocatePlan) -> [(&'p str, Option<Ipv4Addr>); 2] {
        [(&plan.from, &plan.to), (&plan.to, &plan.from)].map(|(at, other)| {
            let own = match Reach::new(self.network).way_in(true, at, other).map(|way| way.from) {
                Ok(IpAddr::V4(own)) => Some(own),
                _ => None,
            };
            (at.as_str(), own)
        })
    }

    /// Makes the tunnel with its routes; the numbers of its ends.
    fn tunnel(&self, plan: &RelocatePlan) -> Result<[u32; 2]> {
        let [(from, near), (to, far)] = self.tunnel_ends(plan);
        let (Some(near), Some(far)) = (near, far) else {
            bail!("no way of IPv4 between {from} and {to}")
        };
        let (old_host, new_host) = (self.lab.place(from)?, self.lab.place(to)?);
        let [at_old, at_new] = [old_host, new_host].map(|netns| netns.new_index());
        let old = (plan.old, if plan.old.is_ipv4() { 32 } else { 128 });
        let via = |end: usize| Some(IpAddr::from(TUNNEL[end]));
        let (table, source) = (MAIN_TABLE, None);
        old_host.apply([
            link::vxlan(at_old, "tunnel", near, far),
            link::add_address(at_old, TUNNEL[0].into(), 30),
            link::set_up(at_old, true),
            link::set_route(&Route { to: old, via: via(1), link: at_old, table, source }),
        ])?;
        let plugged = self.lab.index(to, &plan.to_interface)?;
        let everything = (Ipv4Addr::UNSPECIFIED.into(), 0);
        new_host.apply([
            link::vxlan(at_new, "tunnel", far, near),
            link::add_address(at_new, TUNNEL[1].into(), 30),
            link::set_up(at_new, true),
            link::set_up(plugged, true),
            link::set_route(&Route { to: old, via: Some(plan.new), link: plugged, table, source }),
            link::set_route(&Route {
                to: everything,
                via: via(0),
                link: at_new,
                table: BACK,
                source,
            }),
            link::add_rule(plan.old, BACK, BACK),
        ])?;
        Ok([at_old, at_new])
    }

    /// The machine sends everything through its new host, whatever address it comes from.
    fn route_home(&self, plan: &RelocatePlan) -> Result<()> {
        let machine = self.lab.place(&plan.machine)?;
        let plugged = self.lab.index(&plan.machine, &plan.new_interface)?;
        let place = self.network.places.get(&plan.machine).context("the machine is gone")?;
        let old = place.routes.iter().filter(|r| r.interface == plan.old_interface);
        let routes = old.filter(|r| r.via.is_some_and(|via| via.is_ipv4())).map(|r| {
            let to = (r.to.addr(), r.to.prefix_len());
            let via = Some(plan.gateway);
            link::set_route(&Route { to, via, link: plugged, table: r.table, source: None })
        });
        machine.apply(routes)
    }

    fn told(&self, event: &'static str, detail: String, started_ns: i64) {
        let done = Done { event, detail, planned_ns: started_ns, started_ns, done_ns: now_ns() };
        self.further.borrow_mut().push(done);
    }
}
