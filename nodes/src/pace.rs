//! Sending at a steady rate: objects between servers, and bodies that are played.

use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// Who sends waits at most so long between two writes, so that the rate is steady.
const GRAIN: Duration = Duration::from_millis(5);

/// Keeps a steady rate.
#[derive(Debug)]
pub(crate) struct Pace {
    rate: f64,
    chunk: usize,
    next: Instant,
}

impl Pace {
    /// So many bytes per second, which must not be 0.
    pub(crate) fn new(bytes_per_s: u64) -> Self {
        let rate = bytes_per_s as f64;
        let chunk = (rate * GRAIN.as_secs_f64()) as usize;
        Self { rate, chunk: chunk.clamp(1_000, 64_000), next: Instant::now() }
    }

    /// Bytes that go out in one write.
    pub(crate) fn chunk(&self) -> usize {
        self.chunk
    }

    /// Waits until so many bytes may follow those before.
    pub(crate) async fn wait(&mut self, bytes: usize) {
        let now = Instant::now();
        // What a stall has cost is not caught up with: the rate is a limit.
        if now > self.next + 2 * GRAIN {
            self.next = now;
        }
        self.next += Duration::from_secs_f64(bytes as f64 / self.rate);
        sleep_until(self.next).await;
    }
}
