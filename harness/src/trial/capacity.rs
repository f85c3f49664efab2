//! How many trials of a plan a machine is thought to carry at the same time. Only where to begin:
//! the verdicts correct it.

use crate::plan::{Plan, VariantPlan};
use limosa_lab::shape::ShapePlan;
use limosa_record::node::Profile;
use std::time::Duration;

/// Packets per second of a trial with the profile `paper-2025`: its two paths carry 16.4 Mbit/s
/// together (figure 8), which is 1 450 packets and half as many acknowledgements.
const PAPER_PACKETS_PER_S: f64 = 2200.0;

/// Bits of a full packet.
const PACKET_BITS: f64 = 1500.0 * 8.0;

/// Acknowledgements per packet of data.
const ACKNOWLEDGED: f64 = 0.5;

/// Messages within a process that cost as much as a packet's whole way: sealed, sent, over up to
/// four links and four interfaces, received, opened, written to a file.
const MESSAGES_PER_PACKET: f64 = 15.0;

/// Share of the processors that trials may take together: queueing theory and the lag probe agree
/// that beyond it waits grow quickly.
const USABLE: f64 = 0.6;

/// At least one. `message` is what [`packet_cost`](limosa_lab::sys::packet_cost) measures.
pub(super) fn capacity(
    plan: &Plan,
    message: Duration,
    processors: usize,
    memory_bytes: u64,
) -> usize {
    let modern =
        |v: &VariantPlan| v.transport.as_ref().is_none_or(|t| t.profile == Profile::Modern);
    let modern = plan.variants.values().any(modern);
    let links = links_packets_per_s(plan);
    let rate = if modern { links } else { links.min(PAPER_PACKETS_PER_S) };
    let each = rate * message.as_secs_f64() * MESSAGES_PER_PACKET;
    let by_time = USABLE * processors as f64 / each;
    // Each trial's body arrives in a file, which may be in memory; half of that is for others.
    let by_memory = memory_bytes as f64 / 2.0 / plan.bytes().max(1) as f64;
    (by_time.min(by_memory) as usize).max(1)
}

/// What all shaped links can carry of one download; a link without a rate carries anything.
fn links_packets_per_s(plan: &Plan) -> f64 {
    let packets = |shape: &Option<ShapePlan>| -> f64 {
        let Some(shape) = shape else { return 0.0 };
        match (&shape.trace, shape.rate) {
            (Some(trace), _) => trace.opportunities as f64 * 1e3 / f64::from(trace.length_ms),
            (None, Some(rate)) => rate.rate_bps as f64 / PACKET_BITS,
            (None, None) => f64::INFINITY,
        }
    };
    let links = plan.network.links.iter().filter(|l| l.a_to_b.is_some() || l.b_to_a.is_some());
    let data: f64 = links.map(|l| packets(&l.a_to_b).max(packets(&l.b_to_a))).sum();
    if data > 0.0 { data * (1.0 + ACKNOWLEDGED) } else { f64::INFINITY }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{plan, spec};
    use std::path::Path;

    fn shipped(name: &str) -> Plan {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../experiments").join(name);
        let (experiment, topology) = spec::load_experiment(&file).unwrap();
        plan::resolve(&experiment, &topology).unwrap()
    }

    const MEMORY: u64 = 16 << 30;

    #[test]
    fn a_plan_that_sends_more_gets_fewer() {
        let (slow, fast) = (shipped("nakano-2025.yaml"), shipped("nakano-2025-modern.yaml"));
        let message = Duration::from_nanos(1500);
        let [slow, fast] = [&slow, &fast].map(|plan| capacity(plan, message, 16, MEMORY));
        assert!(slow > 4 * fast && fast >= 1, "{slow} and {fast}");
    }

    #[test]
    fn a_slow_machine_carries_one_and_memory_counts() {
        let plan = shipped("nakano-2025.yaml");
        assert_eq!(capacity(&plan, Duration::from_micros(100), 2, MEMORY), 1);
        assert_eq!(capacity(&plan, Duration::from_nanos(100), 64, 1 << 30), 5);
        assert_eq!(capacity(&plan, Duration::from_nanos(100), 64, 0), 1);
    }

    #[test]
    fn a_link_without_a_rate_carries_anything() {
        let mut plan = shipped("nakano-2025-modern.yaml");
        for link in &mut plan.network.links {
            link.a_to_b.iter_mut().for_each(|s| s.rate = None);
        }
        assert_eq!(links_packets_per_s(&plan), f64::INFINITY);
        assert_eq!(capacity(&plan, Duration::from_nanos(100), 64, MEMORY), 1);
    }
}
