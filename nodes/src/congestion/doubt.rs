//! What a restored server may send over the paths that it had before it moved: next to nothing,
//! until one of them proves alive.
//!
//! A path keeps its window over a checkpoint. Elsewhere than before it leads nowhere, and whatever
//! is sent over it before the client abandons it is missing in the stream until noq sends it again,
//! some 0.3 s later. So its window is two packets until something is acknowledged that was sent
//! after the move. A restored process knows itself by its clocks, as in [`crate::socket`].

use super::Factory;
use crate::socket::CLOCK_JUMP_NS;
use limosa_record::clock;
use noq::congestion::{Controller, ControllerFactory, ControllerMetrics};
use noq_proto::RttEstimator;
use std::{
    any::Any,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

/// Two packets, as a sender may send at a probe timeout (RFC 9002, section 6.2.4).
const DOUBTED_WINDOW: u64 = 2 * 1200;

/// Builds controllers that doubt.
pub(super) struct DoubtFactory(pub(super) Factory);

impl ControllerFactory for DoubtFactory {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        let inner = self.0.clone().build(now, current_mtu);
        Box::new(Doubting { inner, memory: Mutex::new(Memory::new(clock::offset_ns())) })
    }
}

/// What is known of moves.
#[derive(Debug, Clone, Copy)]
struct Memory {
    /// CLOCK_REALTIME − CLOCK_MONOTONIC: the downtime is in one of them.
    offset_ns: i64,
    /// When the process was found to have moved; `None` while the path is trusted.
    moved: Option<Instant>,
}

impl Memory {
    fn new(offset_ns: i64) -> Self {
        Self { offset_ns, moved: None }
    }

    /// Whether the path is doubted.
    fn doubts(&mut self, offset_ns: i64) -> bool {
        if (offset_ns - self.offset_ns).abs() > CLOCK_JUMP_NS {
            *self = Self { offset_ns, moved: Some(Instant::now()) };
        }
        self.moved.is_some()
    }

    /// Something sent at this time has arrived.
    fn acknowledged(&mut self, sent: Instant) {
        self.moved = self.moved.filter(|moved| sent <= *moved);
    }
}

/// A controller whose window is small after a move.
#[derive(Debug)]
struct Doubting {
    inner: Box<dyn Controller>,
    memory: Mutex<Memory>,
}

impl Doubting {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Controller for Doubting {
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
        self.memory().acknowledged(sent);
        self.inner.on_ack(now, sent, bytes, pn, app_limited, rtt);
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
        let window = self.inner.window();
        if self.memory().doubts(clock::offset_ns()) { window.min(DOUBTED_WINDOW) } else { window }
    }

    fn metrics(&self) -> ControllerMetrics {
        let mut metrics = self.inner.metrics();
        metrics.congestion_window = self.window();
        metrics
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self { inner: self.inner.clone_box(), memory: Mutex::new(*self.memory()) })
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
    use std::time::Duration;

    #[test]
    fn a_path_is_doubted_from_a_move_until_something_sent_after_it_is_acknowledged() {
        let mut memory = Memory::new(7);
        assert!(!memory.doubts(7 + CLOCK_JUMP_NS), "clocks that are read one after the other");
        assert!(memory.doubts(8 + CLOCK_JUMP_NS));
        let moved = memory.moved.unwrap();
        memory.acknowledged(moved - Duration::from_secs(1));
        assert!(memory.doubts(8 + CLOCK_JUMP_NS), "sent before the move");
        memory.acknowledged(moved + Duration::from_millis(1));
        assert!(!memory.doubts(8 + CLOCK_JUMP_NS));
        assert!(memory.doubts(9 + 2 * CLOCK_JUMP_NS), "it moves again");
    }
}
