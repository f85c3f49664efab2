//! Which stations of a segment know each other's Ethernet addresses from the start, so that no
//! packet waits for ARP or neighbour discovery.
//!
//! In a segment of ordinary size everybody knows everybody. The entries are the square of the
//! stations, and a thousand hosts would spend a gigabyte and most of their time on them. So in a
//! large one those know each other that will talk by plan: routers and everybody, and all places
//! where something runs or will run. Others find each other by ARP, once.

use super::{Action, VariantPlan, WorkloadPlan};
use limosa_lab::neighbours::MOST_ACQUAINTED;
use limosa_lab::{neighbours::stations, network::Network};
use std::collections::BTreeSet;

/// The places where something runs or will run, where it matters.
pub(super) fn talkers<'p>(
    network: &Network,
    nodes: impl Iterator<Item = &'p str>,
    dns: Option<&'p str>,
    workload: &'p WorkloadPlan,
    variants: impl Iterator<Item = &'p VariantPlan>,
) -> BTreeSet<String> {
    if stations(network).values().all(|members| members.len() <= MOST_ACQUAINTED) {
        return BTreeSet::new();
    }
    let mut found: BTreeSet<String> = nodes.chain(dns).map(ToOwned::to_owned).collect();
    if let WorkloadPlan::Push(route) = workload {
        found.extend([route.from.clone(), route.to.clone()]);
    }
    for step in variants.flat_map(|v| &v.timeline) {
        match &step.action {
            Action::Restore { on, .. } => drop(found.insert(on.clone())),
            Action::Migrate(plan) => drop(found.insert(plan.to.clone())),
            Action::Attack(plan) => drop(found.insert(plan.from.clone())),
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use crate::{plan, spec};
    use std::{fmt::Write, path::Path};

    fn star(hosts: usize) -> plan::Network {
        let (mut nodes, mut links) = (String::new(), String::new());
        for n in 0..hosts {
            let _ = writeln!(nodes, "  h{n}: {{}}");
            let _ = writeln!(links, "  - ends: [h{n}, s]");
        }
        let text = format!(
            "version: 1\nfamilies: [ipv4]\nnodes:\n  s: {{kind: switch}}\n  r: {{kind: router}}\n\
             {nodes}links:\n  - ends: [r, s]\n{links}"
        );
        let document = spec::parse(Path::new("star.yaml"), text).unwrap();
        plan::resolve_topology(&document, spec::Links::Auto).unwrap()
    }

    #[test]
    fn entries_do_not_grow_with_the_square_of_a_large_segment() {
        let count = |network: &plan::Network| network.neighbours().values().flatten().count();
        assert_eq!(count(&star(100)), 101 * 100);
        assert_eq!(count(&star(1000)), 2 * 1000);
        let mut busy = star(1000);
        busy.talkers = ["h1", "h7"].map(String::from).into();
        let known = busy.neighbours();
        assert_eq!((known["h0"].len(), known["h1"].len(), known["r"].len()), (1, 2, 1000));
    }
}
