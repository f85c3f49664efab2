//! Shaped links in user space: a TAP device at each end and the [engine](crate::engine) between them.

use super::{DirectionStatus, StageStatus, places::Place};
use crate::{
    engine::{Direction, DirectionCounters, Engine, EngineLink},
    network::LinkPlan,
    shape::ShapePlan,
    sys::tap,
};
use anyhow::{Context, Result};
use indexmap::IndexMap;
use limosa_record::random::seed_of;
use std::{
    path::Path,
    sync::{Mutex, PoisonError},
};

/// A direction's shape in words: rate, and delay.
type Wish = (Option<String>, String);

/// All shaped links, and the process that carries them; dropping this takes the links away.
#[derive(Debug)]
pub(super) struct UserLinks {
    engine: Engine,
    /// What both directions were last told to be.
    wishes: Mutex<IndexMap<String, [Wish; 2]>>,
}

impl UserLinks {
    /// Makes the devices, starts the engine and connects the ends.
    pub(super) fn build(
        pairs: Vec<(&LinkPlan, [Place<'_>; 2])>,
        program: &Path,
        log: &Path,
        seed: u64,
    ) -> Result<Self> {
        let (mut links, mut wishes) = (Vec::new(), IndexMap::new());
        for (plan, [a, b]) in &pairs {
            let direction = |shape: &Option<ShapePlan>, name: &str| {
                let parts = [&seed.to_le_bytes(), plan.name.as_bytes(), name.as_bytes()];
                let shape = shape.clone().context("a shaped link has two directions")?;
                Ok::<_, anyhow::Error>(Direction { shape, seed: seed_of(&parts) })
            };
            let (a_to_b, b_to_a) =
                (direction(&plan.a_to_b, "a_to_b")?, direction(&plan.b_to_a, "b_to_a")?);
            wishes.insert(plan.name.clone(), [wish(&a_to_b.shape), wish(&b_to_a.shape)]);
            links.push(EngineLink {
                name: plan.name.clone(),
                a: tap::create(a.netns, &a.end)?,
                b: tap::create(b.netns, &b.end)?,
                a_to_b,
                b_to_a,
            });
        }
        let engine = Engine::start(program, links, log)?;
        for (_, [a, b]) in &pairs {
            a.connect()?;
            b.connect()?;
        }
        Ok(Self { engine, wishes: Mutex::new(wishes) })
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Changes the directions that have a new shape and a seed.
    pub(super) fn reshape(&self, link: &str, new: [Option<(&ShapePlan, u64)>; 2]) -> Result<()> {
        let new = new.map(|new| new.map(|(shape, seed)| Direction { shape: shape.clone(), seed }));
        self.engine.shape(link, new[0].as_ref(), new[1].as_ref())?;
        let mut wishes = self.wishes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(wishes) = wishes.get_mut(link) {
            for (kept, new) in wishes.iter_mut().zip(&new) {
                if let Some(new) = new {
                    *kept = wish(&new.shape);
                }
            }
        }
        Ok(())
    }

    pub(super) fn set_up(&self, link: &str, up: bool) -> Result<()> {
        self.engine.set_up(link, up)
    }

    pub(super) async fn ended(&self) -> String {
        self.engine.ended().await
    }

    pub(super) fn shapes(&self) -> Result<Vec<DirectionStatus>> {
        let wishes = self.wishes.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut all = Vec::new();
        for (link, counters) in self.engine.counters()? {
            let wishes = wishes.get(&link).cloned().unwrap_or_default();
            for ((direction, wish), counters) in
                ["a_to_b", "b_to_a"].into_iter().zip(wishes).zip(counters)
            {
                all.push(status(&link, direction, wish, counters));
            }
        }
        Ok(all)
    }
}

fn wish(shape: &ShapePlan) -> Wish {
    (shape.rate_text(), shape.delay_text())
}

fn status(
    link: &str,
    direction: &str,
    (rate, delay): Wish,
    counters: DirectionCounters,
) -> DirectionStatus {
    let c = &counters;
    let rate = StageStatus {
        shape: rate.unwrap_or_else(|| "unlimited".into()),
        sent_packets: c.in_packets - c.queue_full_packets.min(c.in_packets) - c.backlog_packets,
        dropped_packets: c.queue_full_packets,
        backlog_bytes: c.backlog_bytes,
    };
    let delay = StageStatus {
        shape: delay,
        sent_packets: c.out_packets,
        dropped_packets: c.lost_packets
            + c.line_full_packets
            + c.link_down_packets
            + c.reader_full_packets
            + c.refused_packets,
        backlog_bytes: 0,
    };
    let (link, direction) = (link.to_owned(), direction.to_owned());
    DirectionStatus {
        link,
        direction,
        rate: Some(rate),
        delay: Some(delay),
        engine: Some(counters),
    }
}
