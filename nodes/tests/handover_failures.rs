//! Bad luck during a hand-over: a server dies, a link is cut, an object changes too fast.

#[expect(dead_code, reason = "each test binary uses a part of it")]
mod common;

use common::duo::{Delays, Duo, NEW, catalogue, requests};
use limosa_record::{
    node::{Arrivals, Choice, ListedObject, Scheme, Workload},
    row::{NodeRequestRow, event},
};
use std::{thread::sleep, time::Duration};

/// A client with 100 requests per second, and a hand-over that takes five seconds, begun.
fn begun(scheme: Scheme, count: u64, writes: f64) -> Duo {
    let catalogue = catalogue(50, 1_000);
    let workload = requests(&catalogue, 100.0, count, writes);
    let duo = Duo::new(scheme, Delays::ms(10, 10, 10), catalogue, workload);
    duo.start();
    sleep(Duration::from_millis(500));
    duo.hand_over(10_000);
    duo
}

fn outcomes(rows: &[NodeRequestRow], outcome: &str) -> usize {
    rows.iter().filter(|row| row.outcome == outcome).count()
}

#[test]
fn when_the_old_server_dies_half_way_what_has_arrived_is_served_and_the_rest_is_lost_at_once() {
    let mut duo = begun(Scheme::DualPath, 500, 0.0);
    duo.wait_for(duo.pair.server_control, |m| m.owned >= 20);
    duo.kill_old();
    duo.finish_client();
    let status = duo.status(duo.new_control);
    duo.stop();
    duo.print_events();
    let rows = duo.rows();
    let (ok, lost) = (outcomes(&rows, "ok"), outcomes(&rows, "lost"));
    assert_eq!((rows.len(), ok + lost), (500, 500), "nothing fails in another way");
    assert!(lost > 20, "{lost}");
    assert_eq!(status.held + status.lost, 50);
    assert!((20..50).contains(&status.held), "{status:?}");
    assert_eq!(duo.count(NEW, event::TAKEN_OVER), 1);
    assert_eq!(duo.count(NEW, event::OBJECTS_LOST), 1);
    assert_eq!(duo.count("client", event::SERVER_LOST), 1);
    // After the death was noticed, the last hundred requests are answered in a round trip.
    let late = rows.iter().filter(|r| r.request > 400);
    let quick = late.filter(|r| r.response_ns.unwrap() < 60_000_000).count();
    assert!(quick >= 90, "{quick} of 100");
    let served = rows.iter().filter(|r| r.request > 400 && r.outcome == "ok");
    assert!(served.count() > 20, "reads of what has arrived go on");
}

#[test]
fn when_the_new_server_dies_the_old_one_takes_back_everything_and_nothing_is_lost() {
    let mut duo = begun(Scheme::DualPath, 500, 0.3);
    duo.wait_for(duo.pair.server_control, |m| m.owned >= 20);
    duo.kill_new();
    duo.finish_client();
    duo.stop();
    duo.print_events();
    assert_eq!(outcomes(&duo.rows(), "ok"), 500);
    duo.every_write_is_on("server");
    assert_eq!(duo.count("server", event::TAKEN_BACK), 1);
    let rows = duo.rows();
    let new = rows.iter().filter(|r| r.served_by.as_deref() == Some(NEW)).count();
    assert!(new > 0, "the new one had begun to answer");
    assert_eq!(rows.last().unwrap().served_by.as_deref(), Some("old"));
}

#[test]
fn when_the_old_server_dies_under_post_copy_pulls_fail_at_once() {
    let mut duo = begun(Scheme::PostCopy, 500, 0.0);
    sleep(Duration::from_millis(200));
    duo.kill_old();
    duo.finish_client();
    let status = duo.status(duo.new_control);
    duo.stop();
    duo.print_events();
    let rows = duo.rows();
    let (ok, lost) = (outcomes(&rows, "ok"), outcomes(&rows, "lost"));
    assert_eq!((rows.len(), ok + lost), (500, 500));
    assert!(lost > 20 && ok > 100, "{lost} {ok}");
    assert_eq!(status.held + status.lost, 50, "{status:?}");
}

/// The link between the servers is cut for so long that a second connection would not help.
fn cut_link(scheme: Scheme) -> Duo {
    let mut duo = begun(scheme, 800, 0.2);
    duo.wait_for(duo.pair.server_control, |m| m.held >= 10);
    duo.between.set_dark(true);
    sleep(Duration::from_millis(1_500));
    let (old, held) = (duo.pair.server_control, duo.status(duo.pair.server_control).held);
    assert!(held < 50);
    duo.between.set_dark(false);
    duo.wait_for(old, |m| m.complete);
    duo.finish_client();
    duo.stop();
    duo.print_events();
    duo.every_write_is_on(NEW);
    duo
}

#[test]
fn a_link_that_was_cut_and_mended_resumes_the_push_under_dual_path() {
    let duo = cut_link(Scheme::DualPath);
    assert_eq!(outcomes(&duo.rows(), "ok"), 800);
    duo.exactly_one_answered();
}

#[test]
fn a_link_that_was_cut_and_mended_resumes_the_push_under_post_copy() {
    let duo = cut_link(Scheme::PostCopy);
    let rows = duo.rows();
    // What was to be pulled meanwhile could not be had.
    assert_eq!(outcomes(&rows, "ok") + outcomes(&rows, "lost"), 800);
    assert!(rows.iter().rev().take(50).all(|row| row.outcome == "ok"));
}

#[test]
fn an_object_that_changes_faster_than_it_travels_is_stopped_for_a_moment() {
    let mut catalogue = catalogue(0, 0);
    catalogue.listed = vec![
        ListedObject { id: "hot".into(), size_bytes: 2_000, priority: 0 },
        ListedObject { id: "cold".into(), size_bytes: 20_000, priority: 1 },
    ];
    let Workload::Requests(mut workload) = requests(&catalogue, 200.0, 600, 1.0) else {
        unreachable!()
    };
    workload.choice = Choice::Script(vec!["hot".into()]);
    // A confirmation takes 30 ms, in which six writes come; at random times there might be none.
    workload.arrivals = Arrivals::Fixed { per_s: 200.0 };
    let delays = Delays::ms(5, 5, 30);
    let mut duo = Duo::new(Scheme::DualPath, delays, catalogue, Workload::Requests(workload));
    duo.start();
    sleep(Duration::from_millis(400));
    duo.hand_over(20_000);
    duo.finish_client();
    duo.wait_for(duo.pair.server_control, |m| m.complete);
    duo.stop();
    duo.print_events();
    assert_eq!(outcomes(&duo.rows(), "ok"), 600);
    duo.exactly_one_answered();
    duo.every_write_is_on(NEW);
    assert_eq!(duo.count("server", event::SHORT_STOP), 1);
    let stop = duo.events("server").into_iter().find(|e| e.event == event::SHORT_STOP).unwrap();
    eprintln!("stopped for {} ms", (stop.done_ns - stop.started_ns) / 1_000_000);
}
