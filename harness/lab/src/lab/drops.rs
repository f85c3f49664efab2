//! What the links of a lab did that nobody asked for: packets lost not by a shape's loss, not by the
//! queue before its rate, not by a link that was cut; and packets that left late.

use super::{DirectionStatus, Lab};
use crate::{
    shape::{LossPlan, ShapePlan},
    sys::link,
};
use anyhow::Result;
use std::{collections::HashSet, fmt};

/// What is going to happen to the links by intent, so that it is no fault of theirs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Expected {
    /// A link is cut at some time.
    pub cut: bool,
    /// Shapes that links get later: the link's name, and those of both directions.
    pub shapes: Vec<(String, Option<ShapePlan>, Option<ShapePlan>)>,
}

/// All links together.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LinkReadings {
    /// What was lost, as totals since the lab was built, or since an earlier reading.
    pub drops: Vec<LinkDrops>,
    /// 99 of 100 packets left the worst link in user space at most this late, since the lab was
    /// built.
    pub lateness_p99_ms: Option<f64>,
}

/// What one link, or a node's interface, lost for one cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkDrops {
    /// Name of the link, and its direction; or of a node and its interface.
    pub place: String,
    /// Which part lost them, as `delay stage`.
    pub cause: &'static str,
    /// How many.
    pub packets: u64,
}

impl fmt::Display for LinkDrops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} packets were lost on {} by its {}", self.packets, self.place, self.cause)
    }
}

impl LinkReadings {
    /// What came on top of an earlier reading of the same lab.
    pub fn since(self, before: &Self) -> Self {
        let then = |now: &LinkDrops| {
            let same = |b: &&LinkDrops| b.place == now.place && b.cause == now.cause;
            before.drops.iter().find(same).map_or(0, |b| b.packets)
        };
        let new =
            |now: LinkDrops| LinkDrops { packets: now.packets.saturating_sub(then(&now)), ..now };
        let drops = self.drops.into_iter().map(new).filter(|d| d.packets > 0).collect();
        Self { drops, ..self }
    }
}

impl Lab {
    /// What has happened since the lab was built that neither a shape nor anything that is
    /// `expected` wants.
    ///
    /// # Errors
    /// When the kernel or the engine cannot be asked.
    pub fn readings(&self, expected: &Expected) -> Result<LinkReadings> {
        let cut = expected.cut;
        let lossy =
            self.directions(expected, |shape| shape.delay.loss != LossPlan::Random { ratio: 0.0 });
        let shapes = self.shapes()?;
        let late = shapes.iter().filter_map(|s| s.engine.as_ref());
        let late = late.map(|counters| counters.timer.p99_ns as f64 / 1e6);
        let lateness_p99_ms = late.reduce(f64::max);
        let mut drops: Vec<LinkDrops> =
            shapes.iter().flat_map(|status| of_direction(status, &lossy, cut)).collect();
        // What was damaged on a link is thrown away by whoever it then seems to be for.
        let damaged = self.directions(expected, |shape| shape.delay.corrupt_ratio > 0.0);
        let damaged = !damaged.is_empty();
        // A link that is cut drops what comes, which may be on any interface on the way.
        for (name, netns) in self.namespaces().filter(|_| !cut) {
            for found in link::list(netns)? {
                let received = if damaged { 0 } else { found.counters.rx_dropped };
                let packets = received + found.counters.tx_dropped;
                let place = format!("{} {}", name.trim_end_matches(".netns"), found.name);
                drops.push(LinkDrops { place, cause: "interface", packets });
            }
        }
        Ok(LinkReadings { drops, lateness_p99_ms })
    }

    /// The directions that have such a shape at some time.
    fn directions(&self, expected: &Expected, has: impl Fn(&ShapePlan) -> bool) -> HashSet<String> {
        let steps = expected.shapes.iter().map(|(link, a, b)| (link, a, b));
        let links = self.links.iter().map(|l| (&l.name, &l.a_to_b, &l.b_to_a));
        links
            .chain(steps)
            .flat_map(|(link, a_to_b, b_to_a)| [(link, "a_to_b", a_to_b), (link, "b_to_a", b_to_a)])
            .filter(|(_, _, shape)| shape.as_ref().is_some_and(&has))
            .map(|(link, direction, _)| format!("{link} {direction}"))
            .collect()
    }
}

/// One direction's losses by cause. netem counts all of its losses together, so that where it is
/// to lose packets nobody can tell the others.
fn of_direction(status: &DirectionStatus, lossy: &HashSet<String>, cut: bool) -> Vec<LinkDrops> {
    let place = format!("{} {}", status.link, status.direction);
    let drops = |cause, packets| LinkDrops { place: place.clone(), cause, packets };
    match (&status.engine, &status.delay) {
        (Some(c), _) => {
            let cut_off = if cut { 0 } else { c.link_down_packets };
            vec![
                drops("delay line, which was full", c.line_full_packets),
                drops("far end, which was full", c.reader_full_packets),
                drops("far end, which refused them", c.refused_packets),
                drops("far end, which was down", cut_off),
            ]
        }
        (None, Some(delay)) if !lossy.contains(&place) => {
            vec![drops("delay stage", delay.dropped_packets)]
        }
        (None, _) => vec![],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_new_counts() {
        let drops =
            |place: &str, packets| LinkDrops { place: place.into(), cause: "delay stage", packets };
        let reading = |drops| LinkReadings { drops, lateness_p99_ms: Some(0.2) };
        let before = reading(vec![drops("a", 3), drops("b", 2)]);
        let now = reading(vec![drops("a", 3), drops("b", 4), drops("c", 1)]);
        let new = now.since(&before).drops;
        assert_eq!(new, [drops("b", 2), drops("c", 1)]);
        assert_eq!(new[0].to_string(), "2 packets were lost on b by its delay stage");
    }
}
