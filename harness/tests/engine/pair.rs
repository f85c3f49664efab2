//! Two hosts with an engine's link between them.

use anyhow::{Context, Result, ensure};
use limosa_lab::{
    engine::{Direction, DirectionCounters, Engine, EngineLink},
    shape::{DelayStage, LossPlan, RateStage, ShapePlan},
    sys::{
        link::{self, End},
        netns::{Netns, Role},
        ping::{Ping, Rtt, ping},
        tap,
    },
};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
    time::Duration,
};
use tempfile::TempDir;

pub(crate) const LINK: &str = "wire";

/// Hosts 0 and 1; `a_to_b` is from 0 to 1.
pub(crate) struct Pair {
    pub(crate) hosts: [Netns; 2],
    pub(crate) engine: Engine,
    _folder: TempDir,
}

/// Addresses of a host, both families.
pub(crate) fn addresses(host: usize) -> [IpAddr; 2] {
    let n = host as u8 + 1;
    let v6 = Ipv6Addr::new(0xfd00, 0, 0, 1, 0, 0, 0, n.into());
    [Ipv4Addr::new(10, 1, 0, n).into(), v6.into()]
}

fn mac(host: usize) -> [u8; 6] {
    [2, 0, 0, 0, 1, host as u8 + 1]
}

/// A link without rate and faults.
pub(crate) fn delayed(delay: Duration) -> ShapePlan {
    let delay = DelayStage {
        delay_ns: delay.as_nanos() as u64,
        jitter_ns: 0,
        jitter_reorders: false,
        loss: LossPlan::Random { ratio: 0.0 },
        duplicate_ratio: 0.0,
        corrupt_ratio: 0.0,
        reorder_ratio: 0.0,
        limit_packets: 100_000,
    };
    ShapePlan { rate: None, trace: None, delay }
}

/// A link with a rate, and a queue of 25 ms at that rate.
pub(crate) fn limited(rate_bps: u64, delay: Duration) -> ShapePlan {
    let limit_bytes = (rate_bps / 8 / 40) as u32;
    let rate = Some(RateStage { rate_bps, burst_bytes: 16_000, limit_bytes });
    ShapePlan { rate, ..delayed(delay) }
}

pub(crate) fn direction(shape: &ShapePlan) -> Direction {
    Direction { shape: shape.clone(), seed: 1 }
}

impl Pair {
    /// Both directions have the same shape.
    pub(crate) fn up(shape: &ShapePlan) -> Result<Self> {
        let hosts = <[Netns; 2]>::try_from(Netns::create(&[Role::Host; 2])?).ok();
        let hosts = hosts.context("another number of namespaces")?;
        let folder = tempfile::tempdir()?;
        let log = folder.path().join("engine.log");
        let ends = [0, 1].map(|n| End {
            index: hosts[n].new_index(),
            name: "eth0".into(),
            mac: mac(n),
            mtu_bytes: 1500,
        });
        let [a, b] = [0, 1].map(|n| tap::create(&hosts[n], &ends[n]));
        let one = EngineLink {
            name: LINK.into(),
            a: a?,
            b: b?,
            a_to_b: direction(shape),
            b_to_a: direction(shape),
        };
        let program = Path::new(env!("CARGO_BIN_EXE_limosa"));
        let engine = Engine::start(program, vec![one], &log)?;
        for (n, host) in hosts.iter().enumerate() {
            let index = ends[n].index;
            let own = addresses(n).into_iter().zip([24, 64]);
            let own = own.map(|(a, prefix)| link::add_address(index, a, prefix));
            let far = addresses(1 - n).map(|a| link::set_neighbour(index, a, mac(1 - n)));
            let up = [link::set_up(link::LOOPBACK, true), link::set_up(index, true)];
            host.apply(up.into_iter().chain(own).chain(far))?;
            link::wait_ready(host, &[index], Duration::from_secs(5))?;
        }
        Ok(Self { hosts, engine, _folder: folder })
    }

    /// Echoes from host 0 to host 1.
    pub(crate) fn echo(&self, v6: bool, count: u16) -> Result<Rtt> {
        let ping_plan = Ping {
            to: addresses(1)[usize::from(v6)],
            from: None,
            count,
            interval: Duration::from_millis(20),
            timeout: Duration::from_secs(2),
        };
        ping(&self.hosts[0], &ping_plan)
    }

    /// Counters from 0 to 1 and back.
    pub(crate) fn counters(&self) -> Result<[DirectionCounters; 2]> {
        let all = self.engine.counters()?;
        ensure!(all.len() == 1 && all[0].0 == LINK, "not one link: {all:?}");
        Ok(all[0].1)
    }
}
