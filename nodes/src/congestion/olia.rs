//! OLIA as a noq controller: slow start and loss as in RFC 9002 appendix B, congestion avoidance
//! coupled over the live paths of the connection (see [`super::olia_math`]).

use super::{
    olia_math::{PathView, Variant, increase},
    registry::{Entry, Member, Registry, Table},
};
use noq::congestion::{Controller, ControllerFactory, ControllerMetrics};
use noq_proto::RttEstimator;
use std::{
    any::Any,
    sync::Arc,
    time::{Duration, Instant},
};

/// What the controllers of one connection tell each other.
#[derive(Debug, Default)]
struct Share {
    window: f64,
    acked_since_loss: f64,
    acked_between_losses: f64,
}

/// Builds the coupled controllers of one connection.
#[derive(Debug)]
pub(super) struct OliaFactory {
    variant: Variant,
    initial_window: u64,
    registry: Arc<Registry<Share>>,
}

impl OliaFactory {
    /// For one connection.
    pub(super) fn new(variant: Variant, initial_window: u64) -> Self {
        Self { variant, initial_window, registry: Registry::new() }
    }

    fn controller(&self, mtu: u16) -> Olia {
        let window = self.initial_window as f64;
        Olia {
            variant: self.variant,
            initial_window: self.initial_window,
            member: self.registry.join(Share { window, ..Share::default() }),
            mss: f64::from(mtu),
            window,
            ssthresh: f64::INFINITY,
            recovery_start: None,
        }
    }
}

impl ControllerFactory for OliaFactory {
    fn build(self: Arc<Self>, _now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        Box::new(self.controller(current_mtu))
    }
}

/// One path's controller.
#[derive(Debug, Clone)]
struct Olia {
    variant: Variant,
    initial_window: u64,
    member: Arc<Member<Share>>,
    mss: f64,
    window: f64,
    ssthresh: f64,
    recovery_start: Option<Instant>,
}

impl Olia {
    fn minimum_window(&self) -> f64 {
        2.0 * self.mss
    }

    fn in_recovery(&self, sent: Instant) -> bool {
        self.recovery_start.is_some_and(|start| sent <= start)
    }

    fn acked(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool, rtt: Duration) {
        let acked = bytes as f64;
        let gain = self.member.acked(
            now,
            rtt,
            |share| share.acked_since_loss += acked,
            |table| self.coupled_increase(table, acked),
        );
        if app_limited || self.in_recovery(sent) {
            return;
        }
        self.window += if self.window < self.ssthresh { acked } else { gain };
        self.window = self.window.max(self.minimum_window());
        self.member.update(|share| share.window = self.window);
    }

    fn coupled_increase(&self, table: &Table<Share>, acked: f64) -> f64 {
        let view = |entry: &Entry<Share>| PathView {
            window: entry.value.window,
            // A round-trip time of zero would make a path infinitely good.
            rtt: entry.rtt.as_secs_f64().max(1e-6),
            l: entry.value.acked_since_loss.max(entry.value.acked_between_losses),
        };
        let (ids, paths): (Vec<u64>, Vec<PathView>) =
            table.live().map(|(id, entry)| (id, view(entry))).unzip();
        let own = ids.iter().position(|id| *id == self.member.id());
        own.map_or(0.0, |r| {
            increase(self.variant, &paths, r, table.ever_created(), self.mss, acked)
        })
    }
}

impl Controller for Olia {
    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        _pn: u64,
        app_limited: bool,
        rtt: &RttEstimator,
    ) {
        self.acked(now, sent, bytes, app_limited, rtt.get());
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        is_persistent_congestion: bool,
        _is_ecn: bool,
        _lost_bytes: u64,
        _largest_lost_pn: u64,
    ) {
        if self.in_recovery(sent) {
            return;
        }
        self.recovery_start = Some(now);
        self.ssthresh = (self.window * self.variant.kept_on_loss()).max(self.minimum_window());
        self.window = if is_persistent_congestion { self.minimum_window() } else { self.ssthresh };
        self.member.update(|share| {
            share.window = self.window;
            share.acked_between_losses = share.acked_since_loss;
            share.acked_since_loss = 0.0;
        });
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.mss = f64::from(new_mtu);
        self.window = self.window.max(self.minimum_window());
        self.member.update(|share| share.window = self.window);
    }

    fn window(&self) -> u64 {
        self.window as u64
    }

    fn metrics(&self) -> ControllerMetrics {
        let mut metrics = ControllerMetrics::default();
        metrics.congestion_window = self.window();
        metrics.ssthresh = self.ssthresh.is_finite().then_some(self.ssthresh as u64);
        metrics
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        self.initial_window
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::{super::INITIAL_WINDOW, *};
    const MTU: u16 = 1200;
    const MSS: u64 = MTU as u64;

    fn acked(path: &mut Olia, now: Instant, bytes: u64) {
        path.acked(now, now, bytes, false, Duration::from_millis(50));
    }

    #[test]
    fn slow_start_doubles_per_round_trip_and_ends_with_a_loss() {
        let now = Instant::now();
        let mut path = OliaFactory::new(Variant::Draft, INITIAL_WINDOW).controller(MTU);
        acked(&mut path, now, INITIAL_WINDOW);
        assert_eq!(path.window(), 2 * INITIAL_WINDOW);
        path.on_congestion_event(now, now, false, false, MSS, 1);
        assert_eq!(path.window(), INITIAL_WINDOW);
        path.on_congestion_event(now, now, false, false, MSS, 2);
        assert_eq!(path.window(), INITIAL_WINDOW, "one reduction per round trip");
        let later = now + Duration::from_millis(60);
        for _ in 0..INITIAL_WINDOW / MSS {
            acked(&mut path, later, MSS);
        }
        let gained = path.window() - INITIAL_WINDOW;
        assert!((MSS - 60..=MSS).contains(&gained), "Reno gains one MSS, this {gained}");
    }

    #[test]
    fn persistent_congestion_leaves_the_minimum() {
        let now = Instant::now();
        let mut path = OliaFactory::new(Variant::Mpquic, INITIAL_WINDOW).controller(MTU);
        path.on_congestion_event(now, now, true, false, MSS, 1);
        assert_eq!(path.window(), 2 * MSS);
    }

    /// Two paths in congestion avoidance with equal windows and losses.
    fn pair(variant: Variant) -> ([Olia; 2], Instant) {
        let now = Instant::now();
        let factory = OliaFactory::new(variant, INITIAL_WINDOW);
        let mut paths = [factory.controller(MTU), factory.controller(MTU)];
        for path in &mut paths {
            acked(path, now, 100 * MSS);
        }
        for path in &mut paths {
            path.on_congestion_event(now, now, false, false, MSS, 1);
        }
        (paths, now + Duration::from_millis(60))
    }

    #[test]
    fn a_clone_is_no_further_path_and_a_dead_path_leaves_the_sums() {
        let (paths, later) = pair(Variant::Draft);
        let [mut first, second] = paths;
        let clone = first.clone_box();
        let before = first.window();
        acked(&mut first, later, before);
        let coupled = first.window() - before;
        assert!((MSS / 5..=MSS * 3 / 4).contains(&coupled), "{coupled}");
        drop((clone, second));
        let before = first.window();
        acked(&mut first, later, before);
        let alone = first.window() - before;
        assert!((MSS - 1..=MSS).contains(&alone), "{alone}");
    }

    #[test]
    fn a_silent_path_leaves_the_sums() {
        let (paths, later) = pair(Variant::Draft);
        let [mut first, _silent] = paths;
        let later = later + Duration::from_secs(1);
        let before = first.window();
        acked(&mut first, later, before);
        assert!((MSS - 1..=MSS).contains(&(first.window() - before)));
    }
}
