//! The machine's clock chip, which in a guest shows the host's time.
//!
//! Output: how far CLOCK_REALTIME and the chip have moved apart. Kernel interface:
//! /sys/class/rtc/rtc0/since_epoch (Documentation/ABI/testing/sysfs-class-rtc); QEMU drives that
//! chip by the host's clock (`-rtc clock=host`), while everything else in a guest runs by the
//! guest's idea of how fast its processor counts.
//!
//! The chip shows whole seconds, so a thread looks for the moment at which they change.

use anyhow::{Context, Result};
use limosa_record::clock::now_ns;
use std::{
    fs,
    sync::{Arc, Mutex, PoisonError, Weak},
    thread,
    time::{Duration, Instant},
};

const CHIP: &str = "/sys/class/rtc/rtc0/since_epoch";

/// The thread begins to look so long before it expects the next second.
const AHEAD: Duration = Duration::from_millis(8);

/// How often it looks.
const LOOK: Duration = Duration::from_micros(500);

/// Watches the chip until it is dropped.
#[derive(Debug)]
pub struct Chip {
    /// CLOCK_REALTIME minus the chip's time at the chip's last new second, in ns.
    offset_ns: Arc<Mutex<Option<i64>>>,
}

impl Chip {
    /// Watches it from its next second on.
    ///
    /// # Errors
    /// When there is no such chip.
    pub fn watch() -> Result<Self> {
        seconds()?;
        let offset_ns = Arc::new(Mutex::new(None));
        let weak = Arc::downgrade(&offset_ns);
        // A chip that cannot be read any more leaves its last offset.
        let watching = move || follow(&weak).unwrap_or_default();
        thread::Builder::new().name("rtc".into()).spawn(watching).context("start a thread")?;
        Ok(Self { offset_ns })
    }

    /// CLOCK_REALTIME minus the chip's time, in ns; only differences between two readings mean
    /// something.
    pub fn offset_ns(&self) -> Option<i64> {
        *self.offset_ns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn follow(offset_ns: &Weak<Mutex<Option<i64>>>) -> Result<()> {
    let mut second = seconds()?;
    let mut change = Instant::now();
    while offset_ns.strong_count() > 0 {
        let mut now = seconds()?;
        // A change that was slept through is no reading, but the next one is a second later.
        if now == second {
            while now == second {
                thread::sleep(LOOK);
                now = seconds()?;
            }
            change = Instant::now();
            let offset = now_ns() - now * 1_000_000_000;
            let Some(place) = offset_ns.upgrade() else { break };
            *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(offset);
        } else {
            change += Duration::from_secs(1);
        }
        second = now;
        let next = change + Duration::from_secs(1) - AHEAD;
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    Ok(())
}

fn seconds() -> Result<i64> {
    let text = fs::read_to_string(CHIP).with_context(|| format!("read {CHIP}"))?;
    text.trim().parse().with_context(|| format!("{CHIP} says `{}`", text.trim()))
}
