//! A server and a client on loopback, started and asked as the harness does it.

#[expect(dead_code, reason = "each test binary uses a part of it")]
mod common;

use common::{Pair, ask};
use limosa_record::{
    node::{Congestion, Profile, Request, Scheme},
    row::{self, NodeThroughputRow, event},
};

const SIZE: usize = 3_000_000;

fn downloads(scheme: Scheme, congestion: Congestion, profile: Profile) {
    let pair = Pair::new(scheme, congestion, profile, SIZE);
    let server = pair.start_server();
    let client = pair.start_client("/random");
    let reply = ask(pair.client_control, &Request::Start);
    let started = reply.handshake_started_ns.expect("the client has started");
    client.join().unwrap().unwrap();
    let result = pair.result();
    assert_eq!(result.error, None);
    assert_eq!((result.bytes, result.reconnects), (SIZE as u64, 0));
    assert_eq!(result.handshake_started_ns, started);
    assert_eq!(result.sha256, Some(pair.sha256.clone()));
    assert_eq!(std::fs::read(pair.folder.path().join("saved")).unwrap(), pair.content);
    let rows: Vec<NodeThroughputRow> =
        row::read(&pair.client_folder().join("throughput.csv")).unwrap();
    let received: u64 = rows.iter().map(|row| row.bytes).sum();
    assert!(received >= SIZE as u64 && received < 2 * SIZE as u64, "{received}");
    let done = pair.client_events().into_iter().filter(|e| e.event == event::DOWNLOAD_DONE);
    assert_eq!(done.count(), 1);
    let keys = std::fs::read_to_string(pair.client_folder().join("keys.log")).unwrap();
    assert!(keys.contains("CLIENT_TRAFFIC_SECRET_0 "));
    let qlogs = std::fs::read_dir(pair.client_folder().join("qlog")).unwrap();
    assert!(qlogs.map(|e| e.unwrap().metadata().unwrap().len()).sum::<u64>() > 1_000);
    if scheme == Scheme::Multipath {
        let used: Vec<_> =
            rows.iter().filter(|row| row.bytes > 100_000).map(|row| row.local).collect();
        assert!(pair.locals.iter().all(|local| used.contains(local)), "both interfaces carry data");
    }
    assert_eq!(ask(pair.server_control, &Request::Stop).error, None);
    server.join().unwrap().unwrap();
}

#[test]
fn quic() {
    downloads(Scheme::Quic, Congestion::Cubic, Profile::Modern);
}

#[test]
fn quic_in_the_regime_of_the_paper() {
    downloads(Scheme::Quic, Congestion::Cubic, Profile::Paper2025);
}

#[test]
fn multipath_with_olia() {
    downloads(Scheme::Multipath, Congestion::Olia, Profile::Paper2025);
}

#[test]
fn a_missing_file_is_an_error_at_once() {
    let pair = Pair::new(Scheme::Quic, Congestion::Cubic, Profile::Modern, 10);
    let server = pair.start_server();
    let client = pair.start_client("/missing");
    ask(pair.client_control, &Request::Start);
    let error = client.join().unwrap().unwrap_err();
    assert!(format!("{error:#}").contains("refused with code 404"), "{error:#}");
    assert!(pair.result().error.is_some());
    ask(pair.server_control, &Request::Stop);
    server.join().unwrap().unwrap();
}

#[test]
fn requests_that_make_no_sense_are_answered_with_an_error() {
    let pair = Pair::new(Scheme::Multipath, Congestion::Cubic, Profile::Modern, 10);
    let server = pair.start_server();
    let anywhere = "127.0.0.1:9".parse().unwrap();
    let reply = ask(pair.server_control, &Request::Announce(anywhere));
    assert!(reply.error.unwrap().contains("no live connection"));
    assert!(ask(pair.server_control, &Request::Start).error.is_some());
    let reply = common::ask_raw(pair.server_control, b"{\"what\":1}");
    assert!(reply.error.unwrap().contains("not a request"));
    ask(pair.server_control, &Request::Stop);
    server.join().unwrap().unwrap();
}

#[test]
fn a_body_that_is_played_comes_at_its_rate() {
    let mut pair = Pair::new(Scheme::Quic, Congestion::Cubic, Profile::Modern, 200_000);
    pair.play_bytes_per_s = Some(100_000);
    let server = pair.start_server();
    let client = pair.start_client("/random");
    ask(pair.client_control, &Request::Start);
    client.join().unwrap().unwrap();
    let result = pair.result();
    assert_eq!((result.error, result.sha256), (None, Some(pair.sha256.clone())));
    let took_ns = result.finished_ns.unwrap() - result.handshake_started_ns;
    assert!(took_ns > 1_950_000_000, "{took_ns} ns for two seconds of it");
    let playback = result.playback.expect("a playback");
    assert_eq!(playback.stopped_at_bytes, playback.resumed_at_bytes);
    ask(pair.server_control, &Request::Stop);
    server.join().unwrap().unwrap();
}
