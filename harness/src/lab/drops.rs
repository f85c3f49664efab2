//! Packets that a lab lost although nobody asked for it: not by a shape's loss, not by the queue
//! before its rate, not by a link that was cut.

use super::Lab;
use crate::{
    plan::{Action, LossPlan, ShapePlan, StepPlan},
    sys::{link, qdisc},
};
use anyhow::Result;
use std::{collections::HashSet, fmt};

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

impl LinkDrops {
    /// What came on top of an earlier reading of the same lab.
    pub fn since(now: &[Self], before: &[Self]) -> Vec<Self> {
        let then = |now: &Self| {
            let same = |b: &&Self| b.place == now.place && b.cause == now.cause;
            before.iter().find(same).map_or(0, |b| b.packets)
        };
        now.iter()
            .map(|now| Self { packets: now.packets.saturating_sub(then(now)), ..now.clone() })
            .filter(|drops| drops.packets > 0)
            .collect()
    }
}

impl Lab {
    /// Totals since the lab was built, where losses are not wanted by a shape or by a step of
    /// `timeline`.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn unasked_drops(&self, timeline: &[StepPlan]) -> Result<Vec<LinkDrops>> {
        let cut = timeline.iter().any(|s| matches!(s.action, Action::LinkDown { .. }));
        let lossy = self.lossy(timeline);
        let mut all = Vec::new();
        for status in self.shapes()? {
            let place = format!("{} {}", status.link, status.direction);
            let drops = |q: qdisc::Status| u64::from(q.counters.dropped_packets);
            let packets = status.delay.map_or(0, drops);
            if !lossy.contains(&place) {
                all.push(LinkDrops { place, cause: "delay stage", packets });
            }
        }
        // A link that is cut drops what comes, which may be on any interface on the way.
        for (name, netns) in self.namespaces().filter(|_| !cut) {
            for found in link::list(netns)? {
                let packets = found.counters.rx_dropped + found.counters.tx_dropped;
                let place = format!("{} {}", name.trim_end_matches(".netns"), found.name);
                all.push(LinkDrops { place, cause: "interface", packets });
            }
        }
        Ok(all)
    }

    /// The directions that are to lose packets at some time.
    fn lossy(&self, timeline: &[StepPlan]) -> HashSet<String> {
        let loses = |shape: &Option<ShapePlan>| {
            shape.as_ref().is_some_and(|s| s.delay.loss != LossPlan::Random { ratio: 0.0 })
        };
        let steps = timeline.iter().filter_map(|step| match &step.action {
            Action::Shape { link, a_to_b, b_to_a } => Some((link, a_to_b, b_to_a)),
            _ => None,
        });
        let links = self.links.iter().map(|l| (&l.name, &l.a_to_b, &l.b_to_a));
        links
            .chain(steps)
            .flat_map(|(link, a_to_b, b_to_a)| [(link, "a_to_b", a_to_b), (link, "b_to_a", b_to_a)])
            .filter(|(_, _, shape)| loses(shape))
            .map(|(link, direction, _)| format!("{link} {direction}"))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_new_counts() {
        let drops =
            |place: &str, packets| LinkDrops { place: place.into(), cause: "delay stage", packets };
        let before = [drops("a", 3), drops("b", 2)];
        let now = [drops("a", 3), drops("b", 4), drops("c", 1)];
        let new = LinkDrops::since(&now, &before);
        assert_eq!(new, [drops("b", 2), drops("c", 1)]);
        assert_eq!(new[0].to_string(), "2 packets were lost on b by its delay stage");
    }
}
