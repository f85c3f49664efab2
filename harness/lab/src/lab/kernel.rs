//! Shaped links in the kernel: a middle namespace each, with four devices. `a` and `b` are the peers
//! of the link's two ends, and the pair `ra`–`rb` joins two bridges, so that a packet crosses
//!
//! ```text
//! end A ── a ═bridge═ ra ── rb ═bridge═ b ── end B
//! ```
//!
//! From A to B the rate and its queue (tbf) are on `ra`, delay and loss (netem) on `b`; from B to
//! A they are on `rb` and `a`. So both stages are on different devices and none is in an
//! endpoint's namespace.

use super::{DirectionStatus, MTU_BYTES, index, is_shaped, places::Place};
use crate::{
    network::Network,
    shape::{DelayStage, LossPlan, RateStage, ShapePlan},
    sys::{
        link,
        netns::Netns,
        offload,
        qdisc::{self, Loss, Netem, Qdisc, Tbf},
    },
};
use anyhow::{Context, Result, ensure};
use indexmap::IndexMap;

/// The middles of all shaped links, by the links' names.
#[derive(Debug)]
pub(super) struct Middles(IndexMap<String, Middle>);

/// The namespace in the middle of a shaped link.
#[derive(Debug)]
struct Middle {
    /// Number of the link in the network.
    number: usize,
    netns: Netns,
    a: u32,
    b: u32,
    ra: u32,
    rb: u32,
}

impl Middles {
    /// Numbers the devices of the shaped links, one namespace each, before any is made.
    pub(super) fn number(network: &Network, namespaces: impl Iterator<Item = Netns>) -> Self {
        let shaped = network.links.iter().enumerate().filter(|(_, l)| is_shaped(l));
        let middle = |((number, link), netns): ((usize, &crate::network::LinkPlan), Netns)| {
            let [a, b, ra, rb] = [(); 4].map(|()| netns.new_index());
            (link.name.clone(), Middle { number, netns, a, b, ra, rb })
        };
        Self(shaped.zip(namespaces).map(middle).collect())
    }

    /// Finds them in a lab that is up.
    pub(super) fn open(network: &Network, find: impl Fn(&str) -> Result<Netns>) -> Result<Self> {
        let mut middles = IndexMap::new();
        for (number, plan) in network.links.iter().enumerate().filter(|(_, l)| is_shaped(l)) {
            let netns = find(&file_name(number))?;
            let [a, b, ra, rb] = ["a", "b", "ra", "rb"].map(|name| index(&netns, name));
            let middle = Middle { number, a: a?, b: b?, ra: ra?, rb: rb?, netns };
            middles.insert(plan.name.clone(), middle);
        }
        Ok(Self(middles))
    }

    /// Their namespaces with a file name for each.
    pub(super) fn namespaces(&self) -> impl Iterator<Item = (String, &Netns)> {
        self.0.values().map(|m| (file_name(m.number), &m.netns))
    }

    fn get(&self, link: &str) -> Result<&Middle> {
        self.0.get(link).with_context(|| format!("`{link}` is not shaped"))
    }

    /// Makes one link, still without its stages.
    pub(super) fn build(&self, link: &str, [a, b]: &[Place<'_>; 2]) -> Result<()> {
        let middle = self.get(link)?;
        let netns = &middle.netns;
        let inner = |index, name: &str, last| link::End {
            index,
            name: name.into(),
            mac: [0x02, 0x4c, 0xff, 0, 0, last],
            mtu_bytes: MTU_BYTES,
        };
        let (bridge_a, bridge_b) = (netns.new_index(), netns.new_index());
        netns.apply([
            link::bridge(bridge_a, "bra"),
            link::bridge(bridge_b, "brb"),
            link::veth(&inner(middle.a, "a", 1), Some(bridge_a), a.netns, &a.end),
            link::veth(&inner(middle.b, "b", 2), Some(bridge_b), b.netns, &b.end),
            link::veth(
                &inner(middle.ra, "ra", 3),
                Some(bridge_a),
                netns,
                &inner(middle.rb, "rb", 4),
            ),
            link::enslave(middle.rb, Some(bridge_b)),
            link::set_up(middle.rb, true),
            link::set_up(bridge_a, true),
            link::set_up(bridge_b, true),
        ])?;
        a.connect()?;
        b.connect()?;
        for device in ["a", "b", "ra", "rb"] {
            offload::disable(netns, device)?;
        }
        Ok(())
    }

    /// Sets both stages of the directions that have a new shape and a seed.
    pub(super) fn reshape(&self, link: &str, new: [Option<(&ShapePlan, u64)>; 2]) -> Result<()> {
        let middle = self.get(link)?;
        let devices = [(middle.ra, middle.b), (middle.rb, middle.a)];
        for (new, (rate_device, delay_device)) in new.into_iter().zip(devices) {
            let Some((shape, seed)) = new else { continue };
            ensure!(shape.trace.is_none(), "a recording is played by links in user space only");
            let rate = Qdisc::Tbf(tbf(shape.rate));
            let delay = Qdisc::Netem(netem(&shape.delay, seed));
            let requests = [qdisc::set(rate_device, &rate), qdisc::set(delay_device, &delay)];
            middle.netns.apply(requests).with_context(|| format!("shape link `{link}`"))?;
        }
        Ok(())
    }

    pub(super) fn set_up(&self, link: &str, up: bool) -> Result<()> {
        let middle = self.get(link)?;
        middle.netns.apply([link::set_up(middle.ra, up)])
    }

    pub(super) fn shapes(&self) -> Result<Vec<DirectionStatus>> {
        let mut all = Vec::new();
        for (name, middle) in &self.0 {
            let stages = qdisc::list(&middle.netns)?;
            let on = |device: u32| stages.iter().find(|s| s.link == device).map(Into::into);
            for (direction, rate, delay) in
                [("a_to_b", middle.ra, middle.b), ("b_to_a", middle.rb, middle.a)]
            {
                all.push(DirectionStatus {
                    link: name.clone(),
                    direction: direction.into(),
                    rate: on(rate),
                    delay: on(delay),
                    engine: None,
                });
            }
        }
        Ok(all)
    }
}

fn file_name(number: usize) -> String {
    format!("link{number}.middle.netns")
}

/// Without a rate limit the stage stays, wide open, so that it can be narrowed during a run.
fn tbf(rate: Option<RateStage>) -> Tbf {
    let open =
        RateStage { rate_bps: 100_000_000_000, burst_bytes: 64 << 20, limit_bytes: 256 << 20 };
    let RateStage { rate_bps, burst_bytes, limit_bytes } = rate.unwrap_or(open);
    Tbf { rate_bps, burst_bytes, limit_bytes }
}

fn netem(delay: &DelayStage, seed: u64) -> Netem {
    Netem {
        delay_ns: delay.delay_ns,
        jitter_ns: delay.jitter_ns,
        jitter_reorders: delay.jitter_reorders,
        loss: match delay.loss {
            LossPlan::Random { ratio } => Loss::Random { ratio },
            LossPlan::GilbertElliott {
                to_bad_ratio,
                to_good_ratio,
                bad_loss_ratio,
                good_loss_ratio,
            } => Loss::GilbertElliott {
                to_bad_ratio,
                to_good_ratio,
                bad_loss_ratio,
                good_loss_ratio,
            },
        },
        duplicate_ratio: delay.duplicate_ratio,
        corrupt_ratio: delay.corrupt_ratio,
        reorder_ratio: delay.reorder_ratio,
        reorder_gap: 0,
        limit_packets: delay.limit_packets,
        seed: Some(seed),
    }
}
