//! Is the network what was asked for? Measured before each trial, between the client and the
//! server, over each of the client's interfaces that the plan knows a way from.

use crate::{
    plan::{Crossing, Reach, VariantPlan, Way},
    run::verdict::LIMITS,
};
use anyhow::{Result, bail};
use limosa_lab::{
    lab::Lab,
    network::Network,
    shape::LossPlan,
    sys::ping::{Ping, ping},
};
use limosa_record::row::CalibrationRow;
use std::time::Duration;

/// Echo requests per interface.
const REQUESTS: u16 = 10;

/// What an idle round trip over some links takes, as their shapes have it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The shortest: each delay less its jitter, none where packets may overtake.
    pub least_ns: u64,
    /// The sum of the delays.
    pub delay_ns: u64,
    /// The longest: each delay and its jitter.
    pub most_ns: u64,
    /// Whether packets may be lost or damaged on the way.
    pub loses: bool,
}

impl Wanted {
    /// Of the links there and back.
    pub fn of(crossings: &[Crossing<'_>]) -> Self {
        let mut wanted = Self::default();
        for (link, forth) in crossings {
            let shape = if *forth { &link.a_to_b } else { &link.b_to_a };
            let Some(shape) = shape else { continue };
            let stage = &shape.delay;
            if stage.reorder_ratio == 0.0 {
                wanted.least_ns += stage.delay_ns.saturating_sub(stage.jitter_ns);
            }
            wanted.delay_ns += stage.delay_ns;
            wanted.most_ns += stage.delay_ns + stage.jitter_ns;
            wanted.loses |=
                stage.loss != LossPlan::Random { ratio: 0.0 } || stage.corrupt_ratio > 0.0;
        }
        wanted
    }
}

/// Measures the round trip over each interface of the client that has a way.
///
/// # Errors
/// When nothing comes back although no link loses packets, or the measurement itself fails.
pub fn calibrate(
    network: &Network,
    lab: &Lab,
    client: &str,
    variant: &VariantPlan,
) -> Result<Vec<CalibrationRow>> {
    let reach = Reach::new(network);
    let mut rows = Vec::new();
    for (i, name) in variant.interfaces.iter().enumerate() {
        let Some(way) = way(&reach, network, client, variant, i) else { continue };
        let wanted = Wanted::of(&way.crossings);
        let wish = Ping {
            to: way.to,
            from: Some(way.from),
            count: REQUESTS,
            interval: Duration::from_millis(20),
            timeout: Duration::from_nanos(wanted.most_ns) + Duration::from_secs(2),
        };
        let rtt = ping(lab.place(client)?, &wish)?;
        if rtt.min_ns().is_none() && !wanted.loses {
            bail!(
                "no echo came back over {name}: `{client}` does not reach {} although it has a way",
                way.to
            );
        }
        let ms = |ns: Option<u64>| ns.map(|ns| ns as f64 / 1e6);
        rows.push(CalibrationRow {
            interface: name.clone(),
            wanted_rtt_ms: ms(Some(wanted.delay_ns)),
            min_rtt_ms: ms(rtt.min_ns()),
            median_rtt_ms: ms(rtt.median_ns()),
            max_rtt_ms: ms(rtt.max_ns()),
            sent_packets: rtt.sent,
            lost_packets: rtt.lost(),
            least_rtt_ms: ms(Some(wanted.least_ns)),
            most_rtt_ms: ms(Some(wanted.most_ns)),
        });
    }
    Ok(rows)
}

/// From the client's i-th interface to the server behind it, or to where the server will be.
fn way<'n>(
    reach: &Reach<'n>,
    network: &'n Network,
    client: &str,
    variant: &VariantPlan,
    i: usize,
) -> Option<Way<'n>> {
    let interface = network.interface(client, variant.interfaces.get(i)?)?;
    let later = variant.fallback.iter().map(std::net::SocketAddr::ip);
    let mut servers = std::iter::once(variant.server_behind(i).ip()).chain(later);
    servers.find_map(|to| reach.way_from(client, interface, to))
}

/// What is wrong with a calibration, if anything.
pub fn complaint(rows: &[CalibrationRow]) -> Option<String> {
    let slack_ms = LIMITS.rtt_error_ms;
    rows.iter().find_map(|row| {
        let (got, least) = (row.min_rtt_ms?, row.least_rtt_ms.or(row.wanted_rtt_ms)?);
        let most = row.most_rtt_ms.or(row.wanted_rtt_ms)?;
        let wanted =
            if least < most { format!("{least:.2} to {most:.2}") } else { format!("{most:.2}") };
        let name = &row.interface;
        (got > most + slack_ms || got < least)
            .then(|| format!("the RTT over {name} is {got:.2} ms instead of {wanted} ms"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{plan, spec};
    use std::path::Path;

    #[test]
    fn a_shape_may_ask_for_jitter_and_for_packets_that_overtake() {
        let wanted = |shape: &str| {
            let text = format!(
                "version: 1\nnodes: {{a: {{}}, b: {{}}}}\nlinks:\n  - {{ends: [a, b], shape: {shape}}}\n"
            );
            let document = spec::parse(Path::new("net.yaml"), text).unwrap();
            let network = plan::resolve_topology(&document, spec::Links::Auto).unwrap();
            let way = Reach::new(&network).way("a", "b").unwrap();
            let found = Wanted::of(&way.crossings);
            [found.least_ns, found.delay_ns, found.most_ns].map(|ns| ns / 1_000_000)
        };
        assert_eq!(wanted("{delay: 10ms}"), [20, 20, 20]);
        assert_eq!(wanted("{delay: 10ms, jitter: 4ms}"), [12, 20, 28]);
        assert_eq!(wanted("{delay: 10ms, reorder: 5%}"), [0, 20, 20]);
    }
}
