//! The profile `paper-2025`: a cap on the congestion window that puts any controller into the
//! window-limited regime of the paper's stack.
//!
//! The paper's transfers ran at 12.3 Mbit/s on one path and 16.4 Mbit/s on two over links of 100
//! and 50 Mbit/s at a round trip of about 50 ms, flat in time: 2017's stack was limited by a
//! window, not by the links. The cap reproduces that and, like the original, depends on the round
//! trip. With one live path it is [`SINGLE_PATH_WINDOW`]; with more,
//! each has half of [`MULTIPATH_FACTOR`] times as much.

use super::{
    Factory,
    registry::{Member, Registry},
};
use noq::congestion::{Controller, ControllerFactory, ControllerMetrics};
use noq_proto::RttEstimator;
use std::{any::Any, sync::Arc, time::Instant};

/// Bytes in flight on a connection's only live path.
///
/// The target is 100 MB in 64.82 s (Nakano et al. 2025, figure 7), that is 12.34 Mbit/s of body.
/// Rate × round trip gives 12.34e6 ÷ 8 × 50.7 ms = 78.2 kB; headers (2.5 %: 36 of 1 452 bytes per
/// packet), the wait of an acknowledgement for every second packet, and pacing come on top. The
/// figure is calibrated with `experiments/nakano-2025.yaml`; README.md has the result.
const SINGLE_PATH_WINDOW: u64 = 81_500;

/// The paper's stack began with 32 packets of 1350 bytes (quic-go 0.5.0 and mp-quic alike).
pub(super) const INITIAL_WINDOW: u64 = 32 * 1350;

/// The cap grows with the mean time that a packet is in flight over the shortest round trip, up to
/// this. By Little's law the rate is then that of the cap over the shortest round trip, whatever
/// acknowledgements wait for: what an emulator adds while it is busy, some 10 % in a
/// software-emulated guest, does not slow the transfer down; what the links add does, since it is
/// in the shortest round trip, too.
const MAX_STRETCH: f64 = 1.4;

/// Weight of a packet in the mean: some two round trips of the paper's window.
const WEIGHT: f64 = 1.0 / 128.0;

/// All live paths together against a single one: 64.82 s ÷ 48.78 s (figures 7 and 8).
const MULTIPATH_FACTOR: f64 = 64.82 / 48.78;

/// The window of each of `live` paths in bytes.
fn cap(live: usize, stretch: f64) -> u64 {
    // Probes that are answered late make a third and fourth path for a moment: they must not take
    // the share of the two that stay.
    let factor = if live < 2 { 1.0 } else { MULTIPATH_FACTOR / 2.0 };
    (SINGLE_PATH_WINDOW as f64 * factor * stretch) as u64
}

/// Caps the controllers of one connection.
pub(super) struct CapFactory {
    inner: Factory,
    registry: Arc<Registry<()>>,
}

impl CapFactory {
    /// For one connection, around the controllers that `inner` builds.
    pub(super) fn new(inner: Factory) -> Self {
        Self { inner, registry: Registry::new() }
    }

    fn capped(&self, now: Instant, mtu: u16) -> Capped {
        let inner = self.inner.clone().build(now, mtu);
        Capped { inner, member: self.registry.join(()), stretch: 1.0, in_flight: None }
    }
}

impl ControllerFactory for CapFactory {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        Box::new(self.capped(now, current_mtu))
    }
}

/// A controller whose window ends at the cap.
#[derive(Debug)]
struct Capped {
    inner: Box<dyn Controller>,
    member: Arc<Member<()>>,
    stretch: f64,
    /// Mean time from sending to the acknowledgement.
    in_flight: Option<f64>,
}

impl Capped {
    fn limit(&self) -> u64 {
        self.member.look(|table| cap(table.live().count(), self.stretch))
    }
}

impl Controller for Capped {
    fn on_sent(&mut self, now: Instant, bytes: u64, largest_pn: u64) {
        self.inner.on_sent(now, bytes, largest_pn);
    }

    fn on_packet_sent(&mut self, now: Instant, bytes: u16, pn: u64) {
        self.inner.on_packet_sent(now, bytes, pn);
    }

    fn on_cwnd_limited(&mut self) {
        self.inner.on_cwnd_limited();
    }

    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        pn: u64,
        app_limited: bool,
        rtt: &RttEstimator,
    ) {
        self.member.acked(now, rtt.get(), |()| {}, |_| ());
        let own = now.saturating_duration_since(sent).as_secs_f64();
        let mean = self.in_flight.map_or(own, |mean| mean + (own - mean) * WEIGHT);
        self.in_flight = Some(mean);
        self.stretch = (mean / rtt.min().as_secs_f64().max(1e-6)).clamp(1.0, MAX_STRETCH);
        // RFC 9002, section 7.8: a window that is not used must not grow, or a loss would only
        // shrink what the cap hides.
        let unused = self.inner.window() >= self.limit();
        self.inner.on_ack(now, sent, bytes, pn, app_limited || unused, rtt);
    }

    fn on_end_acks(
        &mut self,
        now: Instant,
        in_flight: u64,
        app_limited: bool,
        largest_packet_num_acked: Option<u64>,
    ) {
        self.inner.on_end_acks(now, in_flight, app_limited, largest_packet_num_acked);
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        is_persistent_congestion: bool,
        is_ecn: bool,
        lost_bytes: u64,
        largest_lost_pn: u64,
    ) {
        self.inner.on_congestion_event(
            now,
            sent,
            is_persistent_congestion,
            is_ecn,
            lost_bytes,
            largest_lost_pn,
        );
    }

    fn on_packet_lost(&mut self, lost_bytes: u16, pn: u64, now: Instant) {
        self.inner.on_packet_lost(lost_bytes, pn, now);
    }

    fn on_spurious_congestion_event(&mut self) {
        self.inner.on_spurious_congestion_event();
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.inner.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        self.inner.window().min(self.limit())
    }

    fn metrics(&self) -> ControllerMetrics {
        let mut metrics = self.inner.metrics();
        metrics.congestion_window = self.window();
        metrics
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        let (inner, member) = (self.inner.clone_box(), self.member.clone());
        Box::new(Self { inner, member, stretch: self.stretch, in_flight: self.in_flight })
    }

    fn initial_window(&self) -> u64 {
        self.inner.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use noq::congestion::CubicConfig;
    use std::time::Duration;

    #[test]
    fn two_paths_share_four_thirds_of_one() {
        let sum = 2 * cap(2, 1.0);
        assert!((sum as f64 / cap(1, 1.0) as f64 - 1.33).abs() < 0.01);
        assert_eq!(cap(0, 1.0), cap(1, 1.0));
    }

    #[test]
    fn the_remaining_path_gets_the_single_cap() {
        let factory = CapFactory::new(Arc::new(CubicConfig::default()));
        let (now, rtt) = (Instant::now(), Duration::from_millis(50));
        let (first, second) = (factory.capped(now, 1200), factory.capped(now, 1200));
        assert_eq!(first.limit(), cap(1, 1.0));
        first.member.acked(now, rtt, |()| {}, |_| ());
        second.member.acked(now, rtt, |()| {}, |_| ());
        let _clone = first.clone_box();
        assert_eq!(first.limit(), cap(2, 1.0), "a clone is no further path");
        drop(second);
        assert_eq!(first.limit(), cap(1, 1.0));
    }
}
