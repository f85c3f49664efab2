//! Recorded readings, and the real probe on a machine that is made busy.

use super::*;
use limosa_lab::{lab::LinkDrops, sys::machine::Usage};
use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};
use watch::Watch;

/// This machine idle, as it was measured.
fn idle() -> Readings {
    Readings {
        lag_p99_ms: Some(0.033),
        lag_max_ms: Some(3.0),
        lag_late_share: Some(0.0),
        clock_drift_ms: Some(-0.01),
        usage: Usage {
            time_s: 60.0,
            busy_share: Some(0.04),
            steal_share: Some(0.002),
            cpu_pressure_share: Some(0.015),
            softnet_drops_packets: Some(0),
            softnet_squeezes: Some(1),
            realtime_drift_ms: -0.01,
        },
        lag: vec![],
    }
}

fn calibration(min_rtt_ms: Option<f64>) -> Vec<CalibrationRow> {
    vec![CalibrationRow {
        interface: "eth0".into(),
        wanted_rtt_ms: Some(50.0),
        min_rtt_ms,
        median_rtt_ms: min_rtt_ms,
        max_rtt_ms: min_rtt_ms,
        sent_packets: 10,
        lost_packets: 0,
        least_rtt_ms: None,
        most_rtt_ms: None,
    }]
}

fn judged(machine: &Readings) -> Verdict {
    let calibration = calibration(Some(50.2));
    judge(&Evidence {
        calibration: &calibration,
        step_lateness_ms: Some(0.4),
        machine: Some(machine),
        links: &LinkReadings::default(),
    })
}

#[test]
fn an_idle_machine_is_valid() {
    assert_eq!(judged(&idle()), Verdict::default());
    // The first trial in an emulated guest.
    let guest = Readings {
        lag_p99_ms: Some(6.656),
        lag_max_ms: Some(20.48),
        lag_late_share: Some(0.0159),
        clock_drift_ms: Some(0.97),
        ..idle()
    };
    assert_eq!(judged(&guest), Verdict::default());
}

#[test]
fn each_reading_can_make_a_trial_suspect() {
    let usage = idle().usage;
    let cases: [(Readings, &str, bool); 7] = [
        (
            Readings { lag_late_share: Some(0.2235), ..idle() },
            "threads woke up more than 5 ms late in 22.4 % of the time",
            true,
        ),
        (
            Readings { lag_max_ms: Some(110.5), ..idle() },
            "the machine stood still for 110 ms",
            true,
        ),
        (
            Readings { usage: Usage { steal_share: Some(0.1), ..usage }, ..idle() },
            "the hypervisor took 10.0 % of the processors",
            true,
        ),
        (
            Readings { usage: Usage { cpu_pressure_share: Some(0.976), ..usage }, ..idle() },
            "threads waited for a processor in 97.6 % of the time",
            true,
        ),
        (
            Readings { usage: Usage { softnet_drops_packets: Some(7), ..usage }, ..idle() },
            "the kernel dropped 7 packets that it had no time for",
            true,
        ),
        (
            Readings { usage: Usage { softnet_squeezes: Some(1200), ..usage }, ..idle() },
            "the kernel put off packets 20 times per second",
            true,
        ),
        (
            Readings { clock_drift_ms: Some(-61.0), ..idle() },
            "the clocks moved apart by -61 ms",
            false,
        ),
    ];
    for (readings, why, overload) in cases {
        assert_eq!(judged(&readings), Verdict(vec![Suspicion { overload, why: why.into() }]));
    }
}

#[test]
fn the_trials_own_measurements_count() {
    let drops = vec![
        LinkDrops { place: "s0-router a_to_b".into(), cause: "delay stage", packets: 3 },
        LinkDrops { place: "client eth0".into(), cause: "interface", packets: 1 },
    ];
    let calibration = calibration(Some(52.0));
    let (idle, late) = (idle(), Some(31.2));
    let evidence = Evidence {
        calibration: &calibration,
        step_lateness_ms: late,
        machine: Some(&idle),
        links: &LinkReadings { drops, lateness_p99_ms: Some(7.25) },
    };
    let verdict = judge(&evidence);
    let mut row = TrialRow { status: "failed".into(), ..TrialRow::default() };
    verdict.enter(&mut row);
    assert_eq!(row.verdict.as_deref(), Some("suspect"), "a failed trial has a verdict, too");
    assert_eq!(
        row.verdict_reason.as_deref(),
        Some(
            "the RTT over eth0 is 52.00 ms instead of 50.00 ms; \
             a step of the timeline started 31 ms late; \
             3 packets were lost on s0-router a_to_b by its delay stage; \
             1 packets were lost on client eth0 by its interface; \
             1 % of a link's packets left it more than 7.2 ms late"
        )
    );
}

#[test]
fn what_a_kernel_does_not_tell_is_no_suspicion() {
    let evidence = Evidence {
        calibration: &[],
        step_lateness_ms: None,
        machine: Some(&Readings::default()),
        links: &LinkReadings::default(),
    };
    assert!(judge(&evidence).is_valid());
}

/// The real probe: four threads per processor that do nothing but count, for about a second.
#[test]
fn an_overloaded_machine_is_suspect() {
    let watch = Watch::start(false).unwrap();
    let threads = 4 * thread::available_parallelism().unwrap().get();
    let stop = AtomicBool::new(false);
    let readings = thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let mark = watch.mark();
        thread::sleep(Duration::from_secs(1));
        let readings = Readings::between(&mark, &watch.mark());
        stop.store(true, Ordering::Relaxed);
        readings
    });
    let verdict = judged(&readings);
    assert!(verdict.is_overload(), "{readings:?}");
    assert!(readings.strain() > 1.0, "{readings:?}");
}
