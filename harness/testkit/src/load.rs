//! What else the machine does: the processor time that its hypervisor took, and that of programs that
//! are none of the test's. What the test itself needs is no disturbance.
//!
//! Input: /proc. A guest sees neither, so the host tells it in a file that both have.

use limosa::run::verdict::LIMITS;
use serde::{Deserialize, Serialize};
use std::{fs, path::Path};

/// Marks the processes of tests: they inherit this variable.
pub(crate) const MARK: &str = "LIMOSA_TEST_MARK";

/// In a guest: the file with the host's load.
pub(crate) const HOST: &str = "LIMOSA_TEST_HOST";

/// Share of processor time that other programs may take: a comparison beside them is as good as one
/// beside a hypervisor that takes as much, and a desktop's own business is below.
const FOREIGN_SHARE: f64 = 0.1;

/// Processor time since the machine was started, in ticks.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Load {
    all: u64,
    stolen: u64,
    /// In programs that are none of the test's.
    foreign: u64,
}

/// Now; `None` where that cannot be known.
pub(crate) fn read() -> Option<Load> {
    match std::env::var_os(HOST) {
        Some(file) => serde_json::from_slice(&fs::read(file).ok()?).ok(),
        None => here(),
    }
}

/// Of this machine.
pub(crate) fn here() -> Option<Load> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let line = stat.lines().next()?;
    let ticks: Vec<u64> = line.split_whitespace().skip(1).filter_map(|n| n.parse().ok()).collect();
    // proc_stat(5): user nice system idle iowait irq softirq steal; guest time is within user.
    let [user, nice, system, .., stolen] = ticks.get(..8)? else { return None };
    let all = ticks.iter().take(8).sum();
    let foreign = (user + nice + system).saturating_sub(own_ticks());
    Some(Load { all, stolen: *stolen, foreign })
}

/// What was wrong between two readings.
pub(crate) fn complaint(before: Option<Load>, after: Option<Load>) -> Option<String> {
    let (before, after) = before.zip(after)?;
    let all = after.all.saturating_sub(before.all).max(1) as f64;
    let share = |of: fn(&Load) -> u64| of(&after).saturating_sub(of(&before)) as f64 / all;
    let (stolen, foreign) = (share(|l| l.stolen), share(|l| l.foreign));
    let mut found = Vec::new();
    if stolen > LIMITS.steal_share {
        found.push(format!("the hypervisor took {:.0} % of the processors", stolen * 100.0));
    }
    if foreign > FOREIGN_SHARE {
        found.push(format!("other programs took {:.0} % of the processors", foreign * 100.0));
    }
    (!found.is_empty()).then(|| found.join("; "))
}

/// Processor time of the kernel's own threads, of this process and of all with the mark.
fn own_ticks() -> u64 {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let own = processes.filter_map(|entry| {
        let folder = entry.path();
        let number: u32 = folder.file_name()?.to_str()?.parse().ok()?;
        let environment = fs::read(folder.join("environ")).unwrap_or_default();
        let marked = environment.split(|b| *b == 0).any(|v| v.starts_with(MARK.as_bytes()));
        let (ticks, is_kernel) = ticks(&folder)?;
        (marked || is_kernel || number == std::process::id()).then_some(ticks)
    });
    own.sum()
}

/// Processor time of a process and of those children that it has waited for, and whether it is the
/// kernel's.
fn ticks(process: &Path) -> Option<(u64, bool)> {
    const KERNEL_FLAG: u64 = 0x0020_0000; // PF_KTHREAD, linux/sched.h
    let stat = fs::read_to_string(process.join("stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |at: usize| fields.get(at).and_then(|n| n.parse::<u64>().ok());
    // proc_pid_stat(5): flags is field 9, utime to cstime are 14 to 17; the state, field 3, comes first.
    let sum = (11..=14).filter_map(number).sum();
    Some((sum, number(6)? & KERNEL_FLAG != 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stolen_and_foreign_time_are_told() {
        let load = |all, stolen, foreign| Some(Load { all, stolen, foreign });
        assert_eq!(complaint(load(100, 0, 0), load(1100, 40, 90)), None);
        assert_eq!(complaint(None, load(1100, 900, 0)), None);
        let told = complaint(load(100, 10, 10), load(1100, 110, 510)).expect("a complaint");
        assert!(told.contains("hypervisor took 10 %") && told.contains("programs took 50 %"));
    }

    #[test]
    fn this_machine_can_be_read() {
        let load = here().expect("a reading");
        assert!(load.all > 0 && load.foreign <= load.all);
    }
}
