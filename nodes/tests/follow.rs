//! One path that follows the server, on loopback: the relay's old address goes dark, its new one
//! lights up.

#[expect(dead_code, reason = "each test binary uses a part of it")]
mod common;

use common::{Pair, ask, duo, relay::Front};
use limosa_record::{
    node::{Congestion, Ladder, PoolOrder, Profile, Request, Scheme, StoreConfig},
    row::{self, NodeEventRow, NodeRequestRow, event},
};
use limosa_testkit::{compare, settle};
use std::{
    net::{IpAddr, SocketAddr},
    thread::sleep,
    time::{Duration, Instant},
};

const ONE_WAY: Duration = Duration::from_millis(9);

fn front(last: u8, server: SocketAddr) -> Front {
    let address: IpAddr = [127, 0, 0, last].into();
    Front::start(SocketAddr::new(address, 0), server, ONE_WAY)
}

/// What a client did while its server was away for a second.
struct Moved {
    pair: Pair,
    old: Front,
    new: Front,
    /// When the server was back, CLOCK_REALTIME in ns.
    back_ns: i64,
}

/// A client with 50 requests per second and a server that moves after a second; `announce` tells
/// addresses at half a second.
fn moves(scheme: Scheme, order: PoolOrder, announce: impl Fn(&Pair, &Front)) -> Moved {
    let mut pair = Pair::new(scheme, Congestion::Cubic, Profile::Modern, 10);
    let (old, new) = (front(7, pair.server_address), front(8, pair.server_address));
    new.set_dark(true);
    let catalogue = duo::catalogue(10, 500);
    pair.store = Some(StoreConfig {
        name: "server".into(),
        catalogue: catalogue.clone(),
        ca: pair.folder.path().join("cert.pem"),
        server_name: "server.test".into(),
    });
    pair.workload = duo::requests(&catalogue, 50.0, 200, 0.0);
    (pair.transport.ladder, pair.transport.pool_order) = (Ladder::Fast, order);
    pair.connect = old.address;
    let (server, client) = (pair.start_server(), pair.start_client("/"));
    ask(pair.client_control, &Request::Start);
    sleep(Duration::from_millis(500));
    announce(&pair, &new);
    sleep(Duration::from_millis(500));
    old.set_dark(true);
    sleep(Duration::from_millis(1_000));
    new.set_dark(false);
    let back_ns = limosa_record::clock::now_ns();
    client.join().unwrap().unwrap();
    ask(pair.server_control, &Request::Stop);
    server.join().unwrap().unwrap();
    let moved = Moved { pair, old, new, back_ns };
    for e in moved.pair.client_events() {
        eprintln!("{:9.3} {} {}", moved.since_back(e.done_ns), e.event, e.detail);
    }
    moved
}

fn tell(pair: &Pair, address: SocketAddr) {
    assert_eq!(ask(pair.server_control, &Request::Announce(address)).error, None);
}

impl Moved {
    fn since_back(&self, ns: i64) -> f64 {
        (ns - self.back_ns) as f64 / 1e9
    }

    fn events(&self, event: &str) -> Vec<NodeEventRow> {
        self.pair.client_events().into_iter().filter(|e| e.event == event).collect()
    }

    /// All requests were answered over one connection, which led to the new address once. Seconds
    /// from the server's return to the first probe, to the new path, and to the first answer.
    fn followed(&self) -> (f64, f64, f64) {
        let result = self.pair.result();
        assert_eq!((result.error, result.reconnects), (None, 0));
        let counts = result.requests.unwrap();
        assert_eq!((counts.ok, counts.failed), (200, 0));
        let established = self.events(event::PATH_ESTABLISHED);
        assert_eq!(established.len(), 1, "{established:?}");
        assert!(established[0].detail.ends_with(&self.new.address.to_string()), "{established:?}");
        assert_eq!(self.events(event::CONNECTION_LOST).len(), 0);
        let rows: Vec<NodeRequestRow> =
            row::read(&self.pair.client_folder().join("requests.csv")).unwrap();
        let answers = rows.iter().map(|r| r.t_ns + r.response_ns.unwrap());
        let answered = answers.filter(|ns| *ns > self.back_ns).min().expect("an answer");
        let probe = self.events(event::PROBE)[0].done_ns;
        let times = (probe, established[0].done_ns, answered);
        (self.since_back(times.0), self.since_back(times.1), self.since_back(times.2))
    }
}

#[test]
fn proactive_looks_for_the_new_server_as_soon_as_it_knows_of_it() {
    let outcome = compare(|| {
        let moved =
            moves(Scheme::Proactive, PoolOrder::Random, |pair, new| tell(pair, new.address));
        let (probe, established, answered) = moved.followed();
        eprintln!("proactive: probe {probe:.3} s, path {established:.3} s, answer {answered:.3} s");
        assert!(probe < -1.4, "{probe}: half a second before the old server was gone");
        assert!(established < 0.3, "{established}");
        assert!(answered < established + 0.7, "{answered}");
    });
    settle("follow", "proactive_looks_for_the_new_server_as_soon_as_it_knows_of_it", outcome);
}

#[test]
fn reactive_looks_for_the_new_server_when_the_old_one_owes_an_answer() {
    let outcome = compare(|| {
        let moved = moves(Scheme::Reactive, PoolOrder::Random, |pair, new| tell(pair, new.address));
        let (_, established, answered) = moved.followed();
        eprintln!("reactive: path {established:.3} s, answer {answered:.3} s");
        assert!(established < 0.3, "{established}");
        assert!(answered < established + 0.7, "{answered}");
        // On a busy machine an answer may be late although the old server is there; then it stops.
        let during_outage = |e: &&NodeEventRow| {
            moved.since_back(e.done_ns) > -1.0 && moved.since_back(e.done_ns) < 0.0
        };
        assert!(moved.events(event::PROBE).iter().any(|e| during_outage(&e)));
    });
    settle("follow", "reactive_looks_for_the_new_server_when_the_old_one_owes_an_answer", outcome);
}

#[test]
fn a_pool_is_tried_one_address_after_the_other() {
    let moved = moves(Scheme::Pool, PoolOrder::Listed, |pair, new| {
        tell(pair, "127.0.0.9:9".parse().unwrap());
        // Frames that are under way together arrive in any order.
        sleep(Duration::from_millis(100));
        tell(pair, new.address);
    });
    let (..) = moved.followed();
    let tried: Vec<_> = moved.events(event::PROBE).into_iter().map(|e| e.detail).collect();
    let at = |address: &str| tried.iter().position(|detail| detail.ends_with(address)).unwrap();
    assert!(at("127.0.0.9:9") < at(&moved.new.address.to_string()), "{tried:?}");
}

#[test]
fn addresses_where_no_server_can_be_are_refused_and_the_old_path_stays() {
    let bad = ["224.0.0.1:4433", "255.255.255.255:4433", "127.0.0.1:4433", "0.0.0.0:4433"];
    let moved = moves(Scheme::Proactive, PoolOrder::Random, |pair, new| {
        bad.iter().for_each(|address| tell(pair, address.parse().unwrap()));
        // Nobody acknowledges what it has refused.
        sleep(Duration::from_millis(100));
        assert_eq!(ask(pair.server_control, &Request::Status).unheard.len(), 1);
        tell(pair, new.address);
        let begun = Instant::now();
        while !ask(pair.server_control, &Request::Status).unheard.is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(5), "the announcement is acknowledged");
            sleep(Duration::from_millis(10));
        }
    });
    moved.followed();
    let refused = moved.events(event::ANNOUNCEMENT_REFUSED);
    assert_eq!(refused.len(), bad.len(), "{refused:?}");
    let probed = moved.events(event::PROBE);
    assert!(bad.iter().all(|bad| probed.iter().all(|e| !e.detail.ends_with(bad))), "{probed:?}");
    assert!(moved.old.address != moved.new.address);
}
