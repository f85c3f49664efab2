//! Was the machine good enough for a trial's numbers to mean something?
//!
//! Input: [`Evidence`], all that was measured beside the trial. Output: a [`Verdict`], `valid` or
//! `suspect` with every reason. Pure; the measuring is done by [`watch`] and the lab.

pub mod watch;

use crate::run::calibrate;
use limosa_lab::lab::LinkReadings;
use limosa_record::row::{CalibrationRow, TrialRow};
use serde::Serialize;
use watch::Readings;

/// From where on a trial is suspect. Written into the manifest of each run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Limits {
    /// How far the shortest idle round trip may lie above the wanted one: the sum of all hops'
    /// processing is 0.1 ms on hardware and 0.7 ms in a software-emulated guest.
    pub rtt_error_ms: f64,
    /// How late a step of the timeline may start: well below all times between steps, and
    /// two fifths of the shipped experiments' round trips.
    pub step_lateness_ms: f64,
    /// From where on a wake-up is late: 5 ms are a tenth of the shipped experiments' round trips.
    pub lag_late_ms: f64,
    /// Share of time in which wake-ups may be late. Idle it is 0.0001 on hardware and up to 0.016
    /// in an emulated guest that translates programs it has not seen; in a guest on a host with
    /// four busy threads per processor it is 0.2. A kernel itself under that load still favours
    /// threads that mostly sleep (0.003): there the pressure tells.
    pub lag_late_share: f64,
    /// The longest that the machine may have stood still: a fifth of a second is what a client
    /// takes for a server that has fallen silent, and half of that makes plots look wrong.
    pub lag_max_ms: f64,
    /// Share of processor time that the hypervisor may take. Below, the lag probe says enough.
    pub steal_share: f64,
    /// Share of time in which threads may have to wait for a processor, if only for microseconds
    /// (PSI `some`). Idle it is 0.03 and in an emulated guest 0.2, with one busy thread per processor
    /// 0.4, with two 0.98. At 0.41 a download of 65 s took 85 s: its ends were so late at times that
    /// packets counted as lost.
    pub cpu_pressure_share: f64,
    /// Packets that the kernel may drop because it does not keep up: none.
    pub softnet_drops_packets: u64,
    /// Packets per second that the kernel may put off to its next turn. None are when idle; each
    /// is a burst of 300 packets or 2 ms.
    pub softnet_squeezes_per_s: f64,
    /// Packets that links may lose although their shapes did not ask for it: none.
    pub unasked_drops_packets: u64,
    /// How late one in a hundred packets may leave a link in user space: a packet that leaves late
    /// was on a longer link. Idle it is 0.2.
    pub link_lateness_p99_ms: f64,
    /// How far clocks may move apart during a trial: reading the clock chip is exact to some
    /// milliseconds,
    pub clock_drift_ms: f64,
    /// or this share of the trial, if that is more: NTP slews by at most 0.0005.
    pub clock_drift_share: f64,
}

/// The limits; each number's reason is told at its field.
pub const LIMITS: Limits = Limits {
    rtt_error_ms: 1.5,
    step_lateness_ms: 20.0,
    lag_late_ms: 5.0,
    lag_late_share: 0.04,
    lag_max_ms: 100.0,
    steal_share: 0.05,
    cpu_pressure_share: 0.35,
    softnet_drops_packets: 0,
    softnet_squeezes_per_s: 10.0,
    unasked_drops_packets: 0,
    link_lateness_p99_ms: 5.0,
    clock_drift_ms: 20.0,
    clock_drift_share: 0.001,
};

/// All that was measured beside a trial. What could not be measured is empty, and no suspicion.
#[derive(Debug, Clone, Copy)]
pub struct Evidence<'a> {
    /// The idle network.
    pub calibration: &'a [CalibrationRow],
    /// Latest start of a step behind its plan.
    pub step_lateness_ms: Option<f64>,
    /// The machine during the trial.
    pub machine: Option<&'a Readings>,
    /// The links during the trial.
    pub links: &'a LinkReadings,
}

/// A reason to doubt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspicion {
    /// Whether fewer trials at a time would help.
    pub overload: bool,
    /// In words.
    pub why: String,
}

/// All reasons to doubt; without any the trial is valid.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict(pub Vec<Suspicion>);

impl Verdict {
    /// Whether no reason was found.
    pub fn is_valid(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the machine had too much to do.
    pub fn is_overload(&self) -> bool {
        self.0.iter().any(|s| s.overload)
    }

    /// Fills the row's columns.
    pub fn enter(&self, row: &mut TrialRow) {
        row.verdict = Some(if self.is_valid() { "valid" } else { "suspect" }.into());
        let reasons: Vec<&str> = self.0.iter().map(|s| &*s.why).collect();
        row.verdict_reason = (!self.is_valid()).then(|| reasons.join("; "));
    }
}

/// Compares the evidence with [`LIMITS`].
pub fn judge(evidence: &Evidence<'_>) -> Verdict {
    let mut found = Vec::new();
    let mut suspect = |overload, why: String| found.push(Suspicion { overload, why });
    if let Some(why) = calibrate::complaint(evidence.calibration) {
        suspect(true, why);
    }
    if let Some(ms) = evidence.step_lateness_ms.filter(|ms| *ms > LIMITS.step_lateness_ms) {
        suspect(true, format!("a step of the timeline started {ms:.0} ms late"));
    }
    if let Some(machine) = evidence.machine {
        for (why, overload) in machine_complaints(machine) {
            suspect(overload, why);
        }
    }
    for drop in evidence.links.drops.iter().filter(|d| d.packets > LIMITS.unasked_drops_packets) {
        suspect(true, drop.to_string());
    }
    let late = evidence.links.lateness_p99_ms.filter(|ms| *ms > LIMITS.link_lateness_p99_ms);
    if let Some(ms) = late {
        suspect(true, format!("1 % of a link's packets left it more than {ms:.1} ms late"));
    }
    Verdict(found)
}

/// What is wrong with the machine, and whether too much work is the reason.
fn machine_complaints(machine: &Readings) -> Vec<(String, bool)> {
    let usage = &machine.usage;
    let percent = |share: f64| format!("{:.1} %", share * 100.0);
    let above = |value: Option<f64>, limit: f64| value.filter(|value| *value > limit);
    let mut found = Vec::new();
    if let Some(share) = above(machine.lag_late_share, LIMITS.lag_late_share) {
        let (share, limit) = (percent(share), LIMITS.lag_late_ms);
        found.push((
            format!("threads woke up more than {limit} ms late in {share} of the time"),
            true,
        ));
    }
    if let Some(ms) = above(machine.lag_max_ms, LIMITS.lag_max_ms) {
        found.push((format!("the machine stood still for {ms:.0} ms"), true));
    }
    if let Some(share) = above(usage.steal_share, LIMITS.steal_share) {
        found.push((format!("the hypervisor took {} of the processors", percent(share)), true));
    }
    if let Some(share) = above(usage.cpu_pressure_share, LIMITS.cpu_pressure_share) {
        found.push((
            format!("threads waited for a processor in {} of the time", percent(share)),
            true,
        ));
    }
    if let Some(n) = usage.softnet_drops_packets.filter(|n| *n > LIMITS.softnet_drops_packets) {
        found.push((format!("the kernel dropped {n} packets that it had no time for"), true));
    }
    let squeezes = usage.softnet_squeezes.map(|n| n as f64 / usage.time_s.max(1.0));
    if let Some(n) = above(squeezes, LIMITS.softnet_squeezes_per_s) {
        found.push((format!("the kernel put off packets {n:.0} times per second"), true));
    }
    let allowed = LIMITS.clock_drift_ms.max(LIMITS.clock_drift_share * usage.time_s * 1e3);
    if let Some(ms) = machine.clock_drift_ms.filter(|ms| ms.abs() > allowed) {
        found.push((format!("the clocks moved apart by {ms:.0} ms"), false));
    }
    found
}

#[cfg(test)]
mod tests;
