//! A server that moves, on loopback: the relay's old address goes dark, its new one lights up.

#[expect(dead_code, reason = "each test binary uses a part of it")]
mod common;

use common::{Pair, ask, relay::Front};
use limosa_record::{
    node::{Congestion, Ladder, Profile, Request, Scheme},
    row::event,
};
use limosa_testkit::{compare, settle};
use std::{
    net::{IpAddr, SocketAddr},
    thread::sleep,
    time::Duration,
};

/// Half of the 50.7 ms that netem with 25 ms each way measures.
const ONE_WAY: Duration = Duration::from_micros(25_350);

fn front(last: u8, server: SocketAddr) -> Front {
    let address: IpAddr = [127, 0, 0, last].into();
    Front::start(SocketAddr::new(address, 0), server, ONE_WAY)
}

/// Downloads while the server moves and returns (probe, detection, resume): seconds from the new
/// address' first light to the next probe, the first established path and the next byte of the
/// body.
fn moves(ladder: Ladder, dark: Duration) -> (Option<f64>, f64, f64) {
    let mut pair = Pair::new(Scheme::Multipath, Congestion::Olia, Profile::Paper2025, 12_000_000);
    let (old, new) = (front(7, pair.server_address), front(8, pair.server_address));
    new.set_dark(true);
    pair.transport.ladder = ladder;
    pair.connect = old.address;
    let server = pair.start_server();
    let client = pair.start_client("/random");
    ask(pair.client_control, &Request::Start);
    sleep(Duration::from_millis(1_000));
    assert_eq!(ask(pair.server_control, &Request::Announce(new.address)).error, None);
    sleep(Duration::from_millis(1_000));
    old.set_dark(true);
    sleep(dark);
    new.set_dark(false);
    let back_ns = limosa_record::clock::now_ns();
    client.join().unwrap().unwrap();
    let result = pair.result();
    assert_eq!((result.error, result.reconnects), (None, 0));
    assert_eq!(result.sha256, Some(pair.sha256.clone()));
    let events = pair.client_events();
    for e in &events {
        eprintln!("{:9.3} {} {}", (e.done_ns - back_ns) as f64 / 1e9, e.event, e.detail);
    }
    let since = |ns: i64| (ns - back_ns) as f64 / 1e9;
    let established = events.iter().filter(|e| {
        e.event == event::PATH_ESTABLISHED && e.detail.contains(&new.address.to_string())
    });
    let times: Vec<f64> = established.map(|e| since(e.done_ns)).collect();
    assert!(times.len() >= 2, "both interfaces end up on the new address");
    let gap = events.iter().filter(|e| e.event == event::GAP && e.done_ns > back_ns);
    let resumed = gap.map(|e| since(e.done_ns)).next().expect("an outage is a gap");
    ask(pair.server_control, &Request::Stop);
    server.join().unwrap().unwrap();
    let mut probes = events.iter().filter(|e| e.event == event::PROBE && e.done_ns > back_ns);
    (probes.next().map(|e| since(e.done_ns)), times[0], resumed)
}

#[test]
fn the_fast_ladder_detects_at_once() {
    let outcome = compare(|| {
        let (_, detected, resumed) = moves(Ladder::Fast, Duration::from_millis(2_300));
        eprintln!("fast: detected after {detected:.3} s, resumed after {resumed:.3} s");
        assert!(detected < 0.4, "{detected}");
        assert!(resumed < detected + 0.7, "{resumed}");
    });
    settle("migration", "the_fast_ladder_detects_at_once", outcome);
}

#[test]
fn the_ladder_of_the_paper_waits_for_its_rung() {
    let outcome = compare(|| {
        let (probe, detected, resumed) = moves(Ladder::Paper, Duration::from_millis(2_000));
        eprintln!("paper: detected after {detected:.3} s, resumed after {resumed:.3} s");
        let probe = probe.expect("a rung after the new address' first light");
        assert!(detected > probe && detected < probe + 0.3, "{probe} {detected}");
        assert!(resumed < detected + 0.7, "{resumed}");
    });
    settle("migration", "the_ladder_of_the_paper_waits_for_its_rung", outcome);
}

#[test]
fn without_a_migration_the_client_starts_again_at_the_fallback_address() {
    let outcome = compare(|| {
        let mut pair = Pair::new(Scheme::Quic, Congestion::Cubic, Profile::Paper2025, 3_000_000);
        let (old, new) = (front(7, pair.server_address), front(8, pair.server_address));
        pair.transport.idle_timeout = limosa_record::unit::Time::from_millis(1_500);
        (pair.connect, pair.fallback) = (old.address, vec![new.address]);
        let server = pair.start_server();
        let client = pair.start_client("/random");
        ask(pair.client_control, &Request::Start);
        sleep(Duration::from_millis(700));
        assert!(ask(pair.client_control, &Request::Status).body_bytes > 0);
        old.set_dark(true);
        client.join().unwrap().unwrap();
        let result = pair.result();
        assert_eq!((result.error, result.reconnects), (None, 1));
        assert_eq!((result.bytes, result.sha256), (3_000_000, Some(pair.sha256.clone())));
        assert!(result.longest_gap_ns.unwrap() > 1_400_000_000);
        let events = pair.client_events();
        assert_eq!(events.iter().filter(|e| e.event == event::CONNECTION_LOST).count(), 1);
        ask(pair.server_control, &Request::Stop);
        server.join().unwrap().unwrap();
    });
    settle(
        "migration",
        "without_a_migration_the_client_starts_again_at_the_fallback_address",
        outcome,
    );
}

/// Calibrates the profile `paper-2025`; see `congestion/cap.rs`.
#[test]
#[ignore = "takes 40 s and needs an idle machine"]
fn the_rates_of_the_paper() {
    let outcome = compare(|| {
        let rate = |scheme, congestion| {
            let mut pair = Pair::new(scheme, congestion, Profile::Paper2025, 30_000_000);
            let front = front(7, pair.server_address);
            pair.connect = front.address;
            let server = pair.start_server();
            let client = pair.start_client("/random");
            ask(pair.client_control, &Request::Start);
            client.join().unwrap().unwrap();
            let result = pair.result();
            let took = (result.finished_ns.unwrap() - result.handshake_started_ns) as f64 / 1e9;
            ask(pair.server_control, &Request::Stop);
            server.join().unwrap().unwrap();
            // The handshake and slow start take about 0.25 s that a longer download would not repeat.
            let steady = 30e6 * 8.0 / (took - 0.25) / 1e6;
            eprintln!("{scheme:?}: {took:.2} s, about {steady:.2} Mbit/s");
            100e6 * 8.0 / steady / 1e6 + 0.25
        };
        let (single, double) =
            (rate(Scheme::Quic, Congestion::Cubic), rate(Scheme::Multipath, Congestion::Olia));
        eprintln!("100 MB would take {single:.1} s and {double:.1} s");
        assert!((single - 64.8).abs() < 2.0 && (double - 48.8).abs() < 2.0);
    });
    settle("migration", "the_rates_of_the_paper", outcome);
}
