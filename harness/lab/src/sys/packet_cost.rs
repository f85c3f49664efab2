//! How much processor time this machine spends on a small message, as a measure of its speed at
//! what an emulation does most: an emulated machine is some twenty times slower than a real one.
//!
//! Kernel interface: unix(7) datagrams within this process, CLOCK_THREAD_CPUTIME_ID.

use anyhow::{Context, Result};
use rustix::time::{ClockId, clock_gettime};
use std::{os::unix::net::UnixDatagram, time::Duration};

/// Bytes of a message: a full packet.
const BYTES: usize = 1452;

/// Messages per round; of a few rounds the fastest counts.
const MESSAGES: u32 = 500;
const ROUNDS: usize = 5;

/// Processor time for sending one message and receiving it.
///
/// # Errors
/// When the kernel gives no sockets.
pub fn measure() -> Result<Duration> {
    let (out, back) = UnixDatagram::pair().context("make a pair of sockets")?;
    let (sent, mut received) = ([0; BYTES], [0; BYTES]);
    let mut best = Duration::MAX;
    for _ in 0..ROUNDS {
        let start = used();
        for _ in 0..MESSAGES {
            out.send(&sent).context("send a message")?;
            back.recv(&mut received).context("receive a message")?;
        }
        best = best.min((used() - start) / MESSAGES);
    }
    Ok(best)
}

/// Processor time of this thread.
fn used() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let part = |n: i64| u64::try_from(n).unwrap_or(0);
    Duration::from_secs(part(time.tv_sec)) + Duration::from_nanos(part(time.tv_nsec))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_takes_microseconds() {
        let cost = measure().unwrap();
        let possible = Duration::from_nanos(100)..Duration::from_millis(1);
        assert!(possible.contains(&cost), "{cost:?}");
    }
}
