//! `model.json`: what the thesis' model of response times needs to know of a run with hand-overs.
//!
//! Input: the plan, and when hand-overs began in its trials. Output: the parameters per variant.
//! Round trips are the sums of the links' delays; the push takes what its rate says.

use crate::{
    plan::{Action, Plan, Reach, VariantPlan, WorkloadPlan},
    run::calibrate,
    spec::Role,
};
use anyhow::Result;
use limosa_analysis::model::{Parameters, Scheme};
use limosa_record::{
    dir::{RunDir, write_whole},
    node,
    row::{self, EventRow, event},
};
use std::collections::BTreeMap;

/// Writes the file where the plan has a request workload under a scheme that hands over.
///
/// # Errors
/// When events cannot be read or the file cannot be written.
pub fn write(run: &RunDir, plan: &Plan) -> Result<()> {
    let events: Vec<EventRow> = row::read(&run.events())?;
    let mut all = BTreeMap::new();
    for (name, variant) in &plan.variants {
        let Some(start_s) = mean_start_s(&events, name) else { continue };
        if let Some(parameters) = parameters(plan, variant, start_s) {
            all.insert(name, parameters);
        }
    }
    if !all.is_empty() {
        let json = format!("{:#}\n", serde_json::to_value(&all)?);
        write_whole(&run.root().join("model.json"), json.as_bytes())?;
    }
    Ok(())
}

fn parameters(plan: &Plan, variant: &VariantPlan, start_s: f64) -> Option<Parameters> {
    let scheme = match variant.scheme? {
        node::Scheme::DualPath => Scheme::DualPath,
        node::Scheme::PostCopy => Scheme::PostCopy,
        _ => return None,
    };
    let WorkloadPlan::Requests(_) = &plan.workload else { return None };
    let handover = variant.timeline.iter().find_map(|step| match &step.action {
        Action::Handover { migration, rate_bytes_per_s, .. } => {
            Some((migration.ip(), *rate_bytes_per_s))
        }
        _ => None,
    });
    let (migration, rate_bytes_per_s) = handover?;
    let network = plan.network_of(variant);
    let on = |role| plan.nodes.values().find(|n| n.role == Some(role)).map(|n| &*n.on);
    let (client, old) = (on(Role::Client)?, on(Role::Server)?);
    let new = network.places.iter().find_map(|(name, place)| {
        let has = |a: &ipnet::IpNet| a.addr() == migration;
        place.interfaces.iter().any(|i| i.addresses.iter().any(has)).then_some(name)
    })?;
    let reach = Reach::new(&network);
    let round_trip_s = |from: &str, to: &str| {
        let way = reach.way(from, to).ok()?;
        Some(calibrate::Wanted::of(&way.crossings).delay_ns as f64 / 1e9)
    };
    Some(Parameters {
        scheme,
        r_old_s: round_trip_s(client, old)?,
        r_new_s: round_trip_s(client, new)?,
        s_s: round_trip_s(old, new)?,
        push_s: plan.workload.bytes() as f64 / rate_bytes_per_s as f64,
        start_s,
    })
}

/// When hand-overs of a variant began on average, in seconds since the start of the handshake.
fn mean_start_s(events: &[EventRow], variant: &str) -> Option<f64> {
    let mut zero = BTreeMap::new();
    let mut start = BTreeMap::new();
    for e in events.iter().filter(|e| e.variant == variant) {
        if e.event == event::HANDSHAKE_STARTED {
            zero.entry(e.repetition).or_insert(e.started_ns);
        } else if e.event == event::HANDOVER && e.source == "harness" {
            start.insert(e.repetition, e.started_ns);
        }
    }
    let spans: Vec<f64> = start
        .iter()
        .filter_map(|(repetition, ns)| Some((ns - zero.get(repetition)?) as f64 / 1e9))
        .collect();
    (!spans.is_empty()).then(|| spans.iter().sum::<f64>() / spans.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(repetition: u32, source: &str, event: &str, started_ns: i64) -> EventRow {
        EventRow {
            variant: "v".into(),
            repetition,
            source: source.into(),
            event: event.into(),
            detail: String::new(),
            planned_ns: None,
            started_ns,
            done_ns: None,
        }
    }

    #[test]
    fn the_start_is_the_harness_mean_over_the_trials() {
        let rows = [
            event(1, "client", event::HANDSHAKE_STARTED, 1_000_000_000),
            event(1, "harness", event::HANDOVER, 3_000_000_000),
            event(1, "server", event::HANDOVER, 9_000_000_000),
            event(2, "client", event::HANDSHAKE_STARTED, 10_000_000_000),
            event(2, "harness", event::HANDOVER, 13_000_000_000),
        ];
        assert_eq!(mean_start_s(&rows, "v"), Some(2.5));
        assert_eq!(mean_start_s(&rows, "w"), None);
    }
}
