//! Is the network what was asked for? Measured before each trial, between the client and the
//! server, over each of the client's interfaces.

use crate::{
    lab::Lab,
    plan::{Network, ShapePlan, VariantPlan},
    sys::ping::{Ping, ping},
    verdict::LIMITS,
};
use anyhow::Result;
use limosa_record::row::CalibrationRow;
use std::{
    collections::{HashSet, VecDeque},
    time::Duration,
};

/// Echo requests per interface.
const REQUESTS: u16 = 10;

/// Measures the round trip over each interface of the client.
///
/// # Errors
/// When the measurement itself fails; lost echoes are no error but an empty cell.
pub fn calibrate(
    network: &Network,
    lab: &Lab,
    client: &str,
    variant: &VariantPlan,
) -> Result<Vec<CalibrationRow>> {
    let mut rows = Vec::new();
    for (i, (interface, from)) in variant.interfaces.iter().zip(&variant.local).enumerate() {
        let to = variant.server_behind(i).ip();
        let wish = Ping {
            to,
            from: Some(*from),
            count: REQUESTS,
            interval: Duration::from_millis(20),
            timeout: Duration::from_secs(2),
        };
        let rtt = ping(lab.place(client)?, &wish)?;
        let ms = |ns: Option<u64>| ns.map(|ns| ns as f64 / 1e6);
        rows.push(CalibrationRow {
            interface: interface.clone(),
            wanted_rtt_ms: wanted_rtt_ns(network, client, interface, to).map(|ns| ns as f64 / 1e6),
            min_rtt_ms: ms(rtt.min_ns()),
            median_rtt_ms: ms(rtt.median_ns()),
            max_rtt_ms: ms(rtt.max_ns()),
            sent_packets: rtt.sent,
            lost_packets: rtt.lost(),
        });
    }
    Ok(rows)
}

/// What is wrong with a calibration, if anything.
pub fn complaint(rows: &[CalibrationRow]) -> Option<String> {
    let slack_ms = LIMITS.rtt_error_ms;
    rows.iter().find_map(|row| {
        let name = &row.interface;
        match (row.min_rtt_ms, row.wanted_rtt_ms) {
            (None, _) => Some(format!("no echo came back over {name}")),
            (Some(got), Some(wanted)) if got > wanted + slack_ms || got < wanted => {
                Some(format!("the RTT over {name} is {got:.2} ms instead of {wanted:.2} ms"))
            }
            _ => None,
        }
    })
}

/// Sum of the delays there and back along the fewest links.
pub(crate) fn wanted_rtt_ns(
    network: &Network,
    client: &str,
    interface: &str,
    to: std::net::IpAddr,
) -> Option<u64> {
    let (server, _) = network
        .places
        .iter()
        .find(|(_, p)| p.interfaces.iter().any(|i| i.addresses.iter().any(|a| a.addr() == to)))?;
    let delay = |s: &Option<ShapePlan>| s.as_ref().map_or(0, |s| s.delay.delay_ns);
    let first = network
        .links
        .iter()
        .position(|l| l.ends.iter().any(|e| e.0 == client && e.1 == interface))?;
    let other = |link: usize, from: &str| {
        let [a, b] = &network.links[link].ends;
        if a.0 == from { b.0.clone() } else { a.0.clone() }
    };
    let cost =
        |link: usize| delay(&network.links[link].a_to_b) + delay(&network.links[link].b_to_a);
    let mut seen = HashSet::from([client.to_owned()]);
    let mut queue = VecDeque::from([(other(first, client), cost(first))]);
    while let Some((place, so_far)) = queue.pop_front() {
        if place == *server {
            return Some(so_far);
        }
        if !seen.insert(place.clone()) {
            continue;
        }
        for (i, link) in network.links.iter().enumerate() {
            if link.ends.iter().any(|e| e.0 == place) {
                queue.push_back((other(i, &place), so_far + cost(i)));
            }
        }
    }
    None
}
