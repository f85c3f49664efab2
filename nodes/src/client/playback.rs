//! What the viewer of a body sees that is played while it arrives.
//!
//! The player begins with the first byte and has no further buffer: each byte is due
//! `position ÷ rate` after the one at the beginning, and when it is late the picture stands still
//! until it comes and everything after it is due later by as much.

use limosa_record::node::PlaybackResult;

/// A player.
#[derive(Debug)]
pub(super) struct Playback {
    bytes_per_s: u64,
    /// When the next byte is due, CLOCK_REALTIME in ns; `None` before the first one.
    due_ns: Option<i64>,
    /// The end of what has arrived, in bytes.
    position: u64,
    /// The longest stop so far, in ns.
    longest_ns: i64,
    result: PlaybackResult,
}

impl Playback {
    /// Plays so many bytes per second.
    pub(super) fn new(bytes_per_s: u64) -> Self {
        let result = PlaybackResult::default();
        Self { bytes_per_s, due_ns: None, position: 0, longest_ns: 0, result }
    }

    /// These bytes of the body arrived at that time, CLOCK_REALTIME in ns.
    pub(super) fn arrived(&mut self, from: u64, bytes: u64, now_ns: i64) {
        let due = self.due_ns.unwrap_or(now_ns);
        let late = now_ns - due;
        if late > 0 {
            self.result.stalled_ns += late;
        }
        if late > self.longest_ns {
            self.longest_ns = late;
            self.result.stopped_at_bytes = Some(self.position);
            self.result.resumed_at_bytes = Some(from);
        }
        let length = i128::from(bytes) * 1_000_000_000 / i128::from(self.bytes_per_s);
        self.due_ns = Some(due.max(now_ns) + length as i64);
        self.position = from + bytes;
    }

    /// What has become of it.
    pub(super) fn result(self) -> PlaybackResult {
        self.result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000_000;

    #[test]
    fn a_late_byte_stops_the_picture_and_delays_all_others() {
        let mut playback = Playback::new(1_000_000);
        playback.arrived(0, 10_000, 0);
        // Early is no matter: 20 ms are there at 5 ms.
        playback.arrived(10_000, 10_000, 5 * MS);
        playback.arrived(20_000, 10_000, 520 * MS);
        playback.arrived(30_000, 10_000, 530 * MS);
        playback.arrived(40_000, 10_000, 541 * MS);
        let result = playback.result();
        assert_eq!(result.stalled_ns, 501 * MS);
        assert_eq!(
            (result.stopped_at_bytes, result.resumed_at_bytes),
            (Some(20_000), Some(20_000))
        );
    }

    #[test]
    fn a_playback_that_starts_again_says_so() {
        let mut playback = Playback::new(1_000_000);
        playback.arrived(0, 10_000, 0);
        playback.arrived(0, 10_000, 5_000 * MS);
        let result = playback.result();
        assert_eq!(result.stalled_ns, 4_990 * MS);
        assert_eq!((result.stopped_at_bytes, result.resumed_at_bytes), (Some(10_000), Some(0)));
    }
}
