//! A server hands over to another one while a client goes on, over real QUIC with delays.

#[expect(dead_code, reason = "each test binary uses a part of it")]
mod common;

use common::duo::{Delays, Duo, NEW, catalogue, requests};
use limosa_record::{
    node::Scheme,
    row::{NodeRequestRow, event},
};
use limosa_testkit::{compare, settle};
use std::{thread::sleep, time::Duration};

fn mean_ms(rows: &[&NodeRequestRow]) -> f64 {
    let sum: i64 = rows.iter().filter_map(|row| row.response_ns).sum();
    sum as f64 / 1e6 / rows.len() as f64
}

fn by<'a>(rows: &'a [NodeRequestRow], server: &str) -> Vec<&'a NodeRequestRow> {
    rows.iter().filter(|row| row.served_by.as_deref() == Some(server)).collect()
}

/// A whole hand-over with reads and writes; returns the rows.
fn whole(scheme: Scheme, delays: Delays, seed: u64) -> Vec<NodeRequestRow> {
    // Small enough for the initial window of a new connection.
    let mut catalogue = catalogue(40, 1_000);
    catalogue.seed = seed;
    let workload = requests(&catalogue, 150.0, 600, 0.2);
    let mut duo = Duo::new(scheme, delays, catalogue, workload);
    duo.start();
    sleep(Duration::from_millis(700));
    // 40 kB in two seconds.
    duo.hand_over(20_000);
    duo.finish_client();
    duo.wait_for(duo.pair.server_control, |m| m.complete);
    duo.stop();
    duo.print_events();
    let (old, new) = duo.exactly_one_answered();
    assert!(old > 0 && new > 0, "{old} {new}");
    duo.every_write_is_on(NEW);
    for e in [event::ANNOUNCEMENT, event::CONNECTED_TO_NEW, event::FIRST_ANSWER_BY_NEW] {
        assert_eq!(duo.count("client", e), 1, "{e}");
    }
    assert_eq!(duo.count("server", event::MIGRATION_COMPLETE), 1);
    assert_eq!(duo.count(NEW, event::MIGRATION_COMPLETE), 1);
    assert_eq!(duo.count("client", event::SERVER_LOST), 0);
    let counts = duo.pair.result().requests.unwrap();
    assert_eq!((counts.ok, counts.failed, counts.lost), (600, 0, 0));
    duo.rows()
}

#[test]
fn dual_path_waits_for_the_slower_server_at_most() {
    let outcome = compare(|| {
        let rows = whole(Scheme::DualPath, Delays::ms(40, 10, 5), 1);
        let (old, new) = (by(&rows, "old"), by(&rows, NEW));
        eprintln!("dual-path: old {:.1} ms, new {:.1} ms", mean_ms(&old), mean_ms(&new));
        // The round trips are 80 and 20 ms; what is above is the machine's and the relay's. The first
        // requests also wait for the handshake.
        let settled: Vec<_> = old.iter().chain(&new).filter(|r| r.request > 40).collect();
        let late = settled.iter().filter(|r| r.first_byte_ns.unwrap() > 110_000_000).count();
        assert!(late * 50 < settled.len(), "{late} of {} took longer", settled.len());
        assert!(mean_ms(&new) < mean_ms(&old));
    });
    settle("handover", "dual_path_waits_for_the_slower_server_at_most", outcome);
}

#[test]
fn dual_path_with_the_new_server_far_away() {
    whole(Scheme::DualPath, Delays::ms(5, 60, 30), 2);
}

/// Delays, and so who hears what first, from a seed.
#[test]
fn exactly_one_answers_under_random_delays() {
    let runs: Vec<_> = (1..=6_u64)
        .map(|seed| {
            let ms = move |n: u64| 1 + (seed * 7_919 * n) % 61;
            let scheme = if seed % 3 == 0 { Scheme::PostCopy } else { Scheme::DualPath };
            std::thread::spawn(move || whole(scheme, Delays::ms(ms(3), ms(5), ms(7)), seed))
        })
        .collect();
    runs.into_iter().for_each(|run| _ = run.join().unwrap());
}

#[test]
fn post_copy_has_a_round_trip_without_service_and_pulls_what_is_missing() {
    let outcome = compare(|| {
        let rows = whole(Scheme::PostCopy, Delays::ms(10, 20, 40), 3);
        let new = by(&rows, NEW);
        let pulled = new.iter().filter(|r| r.first_byte_ns.unwrap() > 110_000_000).count();
        eprintln!("post-copy: {pulled} of {} waited for the other server", new.len());
        // A pull costs the round trip between the servers, 80 ms on top of 40 ms.
        assert!(pulled > 10, "{pulled}");
        assert!(pulled < new.len() / 2, "{pulled}");
    });
    settle(
        "handover",
        "post_copy_has_a_round_trip_without_service_and_pulls_what_is_missing",
        outcome,
    );
}
