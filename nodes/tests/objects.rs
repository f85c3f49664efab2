//! Requests for objects and downloads in ranges.

#[expect(dead_code, reason = "each test binary uses a part of it")]
mod common;

use common::{
    Pair, ask,
    duo::{Delays, Duo, NEW, catalogue, requests},
};
use limosa_record::{
    node::{
        Arrivals, Congestion, Profile, Request, RequestWorkload, Scheme, StoreConfig, Workload,
    },
    row::{self, NodeRequestRow, NodeThroughputRow, ObjectRow, event},
    unit::Time,
};
use std::{thread::sleep, time::Duration};

/// A client that has so many requests, each of `outstanding` at a time after a pause.
fn asking(scheme: Scheme, count: u64, outstanding: u32, think_ms: u64) -> Pair {
    let mut pair = Pair::new(scheme, Congestion::Cubic, Profile::Modern, 10);
    let catalogue = catalogue(20, 3_000);
    let Workload::Requests(workload) = requests(&catalogue, 1.0, count, 0.3) else {
        unreachable!()
    };
    let arrivals = Arrivals::ClosedLoop { outstanding, think: Time::from_millis(think_ms) };
    pair.workload = Workload::Requests(RequestWorkload { arrivals, ..workload });
    pair.store = Some(StoreConfig {
        name: "only".into(),
        catalogue,
        ca: pair.folder.path().join("cert.pem"),
        server_name: "server.test".into(),
    });
    pair
}

fn serves_requests(scheme: Scheme) {
    let pair = asking(scheme, 400, 8, 1);
    let server = pair.start_server();
    let client = pair.start_client("/random");
    ask(pair.client_control, &Request::Start);
    client.join().unwrap().unwrap();
    let result = pair.result();
    assert_eq!((result.error, result.sha256), (None, None));
    let counts = result.requests.unwrap();
    assert_eq!((counts.ok, counts.answered_twice), (400, 0));
    assert!((80..160).contains(&counts.writes), "{}", counts.writes);
    let rows: Vec<NodeRequestRow> = row::read(&pair.client_folder().join("requests.csv")).unwrap();
    assert_eq!(rows.len(), 400);
    assert!(rows.iter().all(|r| r.outcome == "ok" && r.served_by.as_deref() == Some("only")));
    assert!(rows.iter().all(|r| r.first_byte_ns <= r.response_ns && r.first_byte_ns > Some(0)));
    let reply = ask(pair.server_control, &Request::Objects);
    assert_eq!(reply.objects.unwrap().held, 20);
    ask(pair.server_control, &Request::Stop);
    server.join().unwrap().unwrap();
    let objects: Vec<ObjectRow> =
        row::read(&pair.folder.path().join("server/objects.csv")).unwrap();
    assert!(objects.len() == 20 && objects.iter().all(|o| o.intact == Some(true)));
    let written = |o: &&ObjectRow| o.version.as_deref() != Some("0.0");
    assert!(objects.iter().filter(written).count() > 10);
}

#[test]
fn requests_over_quic() {
    serves_requests(Scheme::Quic);
}

#[test]
fn a_keep_alive_holds_the_connection_of_an_idle_client() {
    for (keep_alive, reconnects) in [(None, true), (Some(Time::from_millis(100)), false)] {
        let mut pair = asking(Scheme::Quic, 3, 1, 1_500);
        pair.transport.idle_timeout = Time::from_millis(500);
        pair.transport.keep_alive = keep_alive;
        let server = pair.start_server();
        let client = pair.start_client("/random");
        ask(pair.client_control, &Request::Start);
        let ended = client.join().unwrap();
        let lost = ended.is_err() || pair.result().reconnects > 0;
        assert_eq!(lost, reconnects, "{ended:?} {keep_alive:?}");
        ask(pair.server_control, &Request::Stop);
        server.join().unwrap().unwrap();
    }
}

#[test]
fn requests_over_multipath() {
    serves_requests(Scheme::Multipath);
}

#[test]
fn requests_over_dual_path_without_a_migration() {
    serves_requests(Scheme::DualPath);
}

/// A download of 6.5 MB in ranges of 0.5 MB; with a hand-over if there is a rate for it.
fn downloads(scheme: Scheme, rate: Option<u64>) -> Duo {
    let delays = Delays::ms(20, 20, 5);
    let mut duo = Duo::new(scheme, delays, Duo::ranges(), Workload::Download);
    duo.start();
    if let Some(rate) = rate {
        while ask(duo.pair.client_control, &Request::Status).body_bytes == 0 {
            sleep(Duration::from_millis(5));
        }
        duo.hand_over(rate);
    }
    duo.finish_client();
    duo.stop();
    duo.print_events();
    let result = duo.pair.result();
    assert_eq!((result.error, result.reconnects), (None, 0));
    assert_eq!((result.bytes, result.sha256), (6_500_000, Some(duo.pair.sha256.clone())));
    let saved = std::fs::read(duo.pair.folder.path().join("saved")).unwrap();
    assert_eq!(saved, duo.pair.content);
    duo
}

#[test]
fn a_download_in_ranges_without_a_migration() {
    for scheme in [Scheme::DualPath, Scheme::PostCopy] {
        let duo = downloads(scheme, None);
        assert_eq!(duo.count("client", event::DOWNLOAD_DONE), 1);
    }
}

#[test]
fn a_download_in_ranges_goes_on_at_the_new_server_under_dual_path() {
    let duo = downloads(Scheme::DualPath, Some(20_000_000));
    assert_eq!(duo.count("client", event::CONNECTED_TO_NEW), 1);
}

#[test]
fn a_download_in_ranges_goes_on_at_the_new_server_under_post_copy() {
    let duo = downloads(Scheme::PostCopy, Some(2_000_000));
    assert_eq!(duo.count("client", event::FIRST_ANSWER_BY_NEW), 1);
    let file = duo.pair.client_folder().join("throughput.csv");
    let rows: Vec<NodeThroughputRow> = row::read(&file).unwrap();
    for local in &duo.pair.locals {
        let bytes: u64 = rows.iter().filter(|r| r.local == *local).map(|r| r.bytes).sum();
        assert!(bytes > 100_000, "{local} carried {bytes} bytes");
    }
    assert!(duo.objects(NEW).len() == 13);
}

#[test]
fn the_second_connection_resumes_the_first_one_and_early_data_saves_a_round_trip() {
    for early_data in [false, true] {
        let catalogue = catalogue(10, 500);
        let workload = requests(&catalogue, 100.0, 200, 0.2);
        let delays = Delays::ms(30, 30, 2);
        let mut duo = Duo::with(Scheme::PostCopy, delays, catalogue, workload, |pair| {
            pair.transport.early_data = early_data;
        });
        duo.start();
        sleep(Duration::from_millis(500));
        duo.hand_over(100_000);
        duo.finish_client();
        duo.stop();
        duo.print_events();
        duo.exactly_one_answered();
        assert_eq!(duo.count(NEW, event::RESUMED), 1, "early data: {early_data}");
        let keys = std::fs::read_to_string(duo.pair.client_folder().join("keys.log"));
        let early = keys.unwrap().contains("CLIENT_EARLY_TRAFFIC_SECRET");
        assert_eq!(early, early_data);
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    let catalogue = catalogue(3, 10);
    let workload = requests(&catalogue, 10.0, 1, 0.0);
    let mut duo = Duo::new(Scheme::DualPath, Delays::ms(1, 1, 1), catalogue, workload);
    duo.start();
    let refused = |control, request| ask(control, &request).error.expect("refused");
    let (old, new) = (duo.pair.server_control, duo.new_control);
    assert!(refused(duo.pair.client_control, Request::Objects).contains("only a server"));
    duo.hand_over(1_000);
    let handover = limosa_record::node::Handover {
        to: None,
        migration: duo.between.address,
        rate_bytes_per_s: 5,
    };
    assert!(refused(old, Request::Handover(handover)).contains("already"));
    let target = limosa_record::node::Target {
        name: "third".into(),
        folder: duo.pair.folder.path().join("third"),
        migration: "0.0.0.0:0".parse().unwrap(),
    };
    assert!(refused(new, Request::BecomeTarget(target)).contains("already"));
    duo.finish_client();
    duo.stop();
}
