//! Watches the machine while trials run: one [`Watch`] for all of them, a [`Mark`] where each
//! begins, [`Readings`] where it ends.

use super::LIMITS;
use anyhow::{Context, Result};
use limosa_lab::sys::{
    lag::{Histogram, Probe},
    machine::{Counters, Usage},
    rtc::Chip,
};
use limosa_record::{dir::write_whole, row::TrialRow};
use serde::Serialize;
use std::{path::Path, time::Duration};

/// Name of the file with the readings in a trial's folder.
pub const FILE: &str = "machine.json";

/// The running measurement.
#[derive(Debug)]
pub struct Watch {
    lag: Probe,
    chip: Option<Chip>,
}

/// The machine at one moment.
#[derive(Debug, Clone)]
pub struct Mark {
    lag: Vec<(usize, Histogram)>,
    chip_offset_ns: Option<i64>,
    counters: Counters,
}

/// The machine between two moments; what could not be measured is `None`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Readings {
    /// Of 99 % of the time wake-ups were no later than this.
    pub lag_p99_ms: Option<f64>,
    /// The latest wake-up.
    pub lag_max_ms: Option<f64>,
    /// Share of time in which wake-ups were later than [`LIMITS`] calls late.
    pub lag_late_share: Option<f64>,
    /// By how much CLOCK_REALTIME and another clock moved apart: the raw hardware clock or, in a
    /// guest, the clock chip that shows the host's time; the larger of both.
    pub clock_drift_ms: Option<f64>,
    /// What the kernel counted.
    pub usage: Usage,
    /// Milliseconds of each processor by lateness of its wake-ups.
    pub lag: Vec<Lag>,
}

/// One processor's wake-ups.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Lag {
    /// Its number.
    pub processor: usize,
    /// How many were less late than so many µs, but as late as the number before.
    pub count_below_us: Histogram,
}

impl Watch {
    /// Starts the probes; `guest` says whether the clock chip shows another clock than our own.
    ///
    /// # Errors
    /// When the kernel gives no threads.
    pub fn start(guest: bool) -> Result<Self> {
        let late = Duration::from_secs_f64(LIMITS.lag_late_ms / 1e3);
        let lag = Probe::start(late).context("start the scheduling-lag probe")?;
        let chip = if guest { Chip::watch() } else { return Ok(Self { lag, chip: None }) };
        let chip = chip.inspect_err(|e| tracing::warn!("clock drift is not watched: {e:#}")).ok();
        Ok(Self { lag, chip })
    }

    /// Now.
    pub fn mark(&self) -> Mark {
        Mark {
            lag: self.lag.read(),
            chip_offset_ns: self.chip.as_ref().and_then(Chip::offset_ns),
            counters: Counters::read(),
        }
    }
}

impl Readings {
    /// What happened between two marks of one watch.
    pub fn between(before: &Mark, now: &Mark) -> Self {
        let usage = now.counters.since(&before.counters);
        let chip = now.chip_offset_ns.zip(before.chip_offset_ns);
        let chip_ms = chip.map(|(now, then)| (now - then) as f64 / 1e6);
        let drifts = [Some(usage.realtime_drift_ms), chip_ms].into_iter().flatten();
        let mut all = Histogram::default();
        let mut lag = Vec::new();
        for ((processor, now), (_, then)) in now.lag.iter().zip(&before.lag) {
            let count_below_us = now.since(then);
            all.add(&count_below_us);
            lag.push(Lag { processor: *processor, count_below_us });
        }
        Self {
            lag_p99_ms: all.quantile_ms(0.99),
            lag_max_ms: all.quantile_ms(1.0),
            lag_late_share: all.late_share(),
            clock_drift_ms: drifts.max_by(|a, b| a.abs().total_cmp(&b.abs())),
            usage,
            lag,
        }
    }

    /// How near the machine is to being overloaded: 1 is at a limit.
    pub fn strain(&self) -> f64 {
        let lag = self.lag_late_share.unwrap_or(0.0) / LIMITS.lag_late_share;
        let pressure = self.usage.cpu_pressure_share.unwrap_or(0.0) / LIMITS.cpu_pressure_share;
        let steal = self.usage.steal_share.unwrap_or(0.0) / LIMITS.steal_share;
        lag.max(pressure).max(steal)
    }

    /// Fills the row's columns.
    pub fn enter(&self, row: &mut TrialRow) {
        row.lag_p99_ms = self.lag_p99_ms;
        row.lag_max_ms = self.lag_max_ms;
        row.lag_late_share = self.lag_late_share;
        row.busy_share = self.usage.busy_share;
        row.steal_share = self.usage.steal_share;
        row.cpu_pressure_share = self.usage.cpu_pressure_share;
        row.clock_drift_ms = self.clock_drift_ms;
    }

    /// Writes all of them into a trial's folder.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let text = format!("{:#}\n", serde_json::to_value(self)?);
        write_whole(&folder.join(FILE), text.as_bytes())?;
        Ok(())
    }
}
