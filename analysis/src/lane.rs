//! The events of one trial, sorted into lanes.
//!
//! Input: `events.csv` and the plan's addresses. Output: [`Lanes`]. Shown is the `ok` trial whose
//! turnaround is the middle one, so that the picture is neither the best nor the worst case.

use crate::{
    input::{Input, Trial},
    series::LONGEST_S,
};
use limosa_record::row::{EventRow, event};
use serde_json::Value;
use std::collections::BTreeMap;

/// More lanes than this are not shown.
const MOST_PATHS: usize = 12;
/// More events of a trial than this are not shown: probes of a very long silence.
const MOST_EVENTS: usize = 4000;

/// The end of a trial is not shown when nothing happens in more than the rest of it.
const QUIET: f64 = 0.7;

/// What a bar stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Piece {
    /// A validated path.
    Path,
    /// A connection.
    Connection,
    /// No byte of the body.
    Stall,
    /// A step of the timeline.
    Step,
}

/// Something that lasted.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Span {
    pub from_s: f64,
    pub to_s: f64,
    pub text: String,
    pub piece: Piece,
}

/// Something that happened at once.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Moment {
    pub at_s: f64,
    pub text: String,
    pub detail: String,
    pub probe: bool,
}

/// A row of the picture.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Lane {
    pub name: String,
    pub spans: Vec<Span>,
    pub moments: Vec<Moment>,
}

/// One trial.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Lanes {
    pub repetition: u32,
    /// Why this one is shown.
    pub why: &'static str,
    pub end_s: f64,
    /// When the trial ended, if that is not shown.
    pub cut_s: Option<f64>,
    pub server_away: Option<(f64, f64)>,
    pub lanes: Vec<Lane>,
    /// Events and lanes that there are too many of.
    pub left_out: usize,
}

impl Lanes {
    /// `None` when nothing was done to the server, or no trial has events that fit on a time axis.
    pub(crate) fn of(input: &Input, variant: &str) -> Option<Self> {
        let (trial, why) = typical(input, variant)?;
        let repetition = trial.row.repetition;
        let events = input.events.get(&(variant.to_owned(), repetition))?;
        let started = events.iter().filter(|e| e.event == event::HANDSHAKE_STARTED);
        let zero = started.map(|e| e.started_ns).min()?;
        let seconds = |ns: i64| (i128::from(ns) - i128::from(zero)) as f64 / 1e9;
        let timed = |e: &EventRow| {
            let from = seconds(e.started_ns);
            let to = seconds(e.done_ns.unwrap_or(e.started_ns));
            let fits = (0.0..LONGEST_S).contains(&from) && (from..LONGEST_S).contains(&to);
            fits.then(|| (from, to, e.clone()))
        };
        let mut timed: Vec<_> = events.iter().filter_map(timed).collect();
        timed.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut left_out = timed.len().saturating_sub(MOST_EVENTS);
        timed.truncate(MOST_EVENTS);
        let last =
            |keep: fn(&&Timed) -> bool| timed.iter().filter(keep).map(|t| t.1).fold(0.0, f64::max);
        let turnaround = trial.number("turnaround_s").filter(|s| (0.0..LONGEST_S).contains(s));
        let all_s = last(|_| true).max(turnaround.unwrap_or(0.0));
        // What is after the last of it is only the rest of the download.
        let busy_s = last(|(_, _, e)| e.event != event::DOWNLOAD_DONE) * 1.2;
        let end_s = if busy_s < QUIET * all_s { busy_s } else { all_s };
        let server = server(&timed);
        if server.spans.is_empty() || end_s <= 0.0 {
            return None;
        }
        let places = places(&input.plan);
        let mut lanes = vec![server, body(&timed), client(&timed, end_s)];
        let mut of_paths = paths(&timed, &places, end_s);
        left_out += of_paths.len().saturating_sub(MOST_PATHS);
        of_paths.truncate(MOST_PATHS);
        lanes.extend(of_paths);
        lanes.iter_mut().for_each(|l| l.moments.retain(|m| m.at_s <= end_s));
        lanes.retain(|l| !l.spans.is_empty() || !l.moments.is_empty());
        let server_away = away(&lanes);
        let cut = (end_s < all_s).then_some(all_s);
        Some(Self { repetition, why, end_s, cut_s: cut, server_away, lanes, left_out })
    }
}

type Timed = (f64, f64, EventRow);

fn typical<'a>(input: &'a Input, variant: &'a str) -> Option<(&'a Trial, &'static str)> {
    let turnaround = |t: &&Trial| t.number("turnaround_s").unwrap_or(f64::INFINITY);
    let mut ok: Vec<_> = input.of(variant).filter(|t| t.is_ok()).collect();
    ok.sort_by(|a, b| turnaround(a).total_cmp(&turnaround(b)));
    let middle = ok.len().checked_sub(1).and_then(|last| ok.get(last / 2).copied());
    match middle {
        Some(trial) if ok.len() == 1 => Some((trial, "the only one that is ok")),
        Some(trial) => Some((trial, "the one with the middle turnaround")),
        None => input.of(variant).next().map(|trial| (trial, "which failed")),
    }
}

fn server(events: &[Timed]) -> Lane {
    let by_harness = events.iter().filter(|(_, _, e)| e.source == "harness");
    let span = |(from_s, to_s, e): &Timed| Span {
        from_s: *from_s,
        to_s: *to_s,
        text: e.event.clone(),
        piece: Piece::Step,
    };
    Lane { name: "server".into(), spans: by_harness.map(span).collect(), ..Lane::default() }
}

fn away(lanes: &[Lane]) -> Option<(f64, f64)> {
    let steps = || lanes.iter().flat_map(|l| &l.spans).filter(|s| s.piece == Piece::Step);
    let from = steps().find(|s| s.text == "checkpoint")?.from_s;
    let to = steps().find(|s| s.text == "restore" && s.from_s >= from)?.to_s;
    Some((from, to))
}

fn body(events: &[Timed]) -> Lane {
    let mut lane = Lane { name: "body".into(), ..Lane::default() };
    for (from_s, to_s, e) in events {
        if e.event == event::GAP {
            let (text, piece) = ("no byte".to_owned(), Piece::Stall);
            lane.spans.push(Span { from_s: *from_s, to_s: *to_s, text, piece });
        } else if e.event == event::DOWNLOAD_DONE {
            lane.moments.push(moment(*from_s, e));
        }
    }
    lane
}

fn moment(at_s: f64, e: &EventRow) -> Moment {
    let text = e.event.replace('_', " ");
    Moment { at_s, text, detail: e.detail.clone(), probe: false }
}

/// The client's connections, and whatever else it told that has no lane of its own.
fn client(events: &[Timed], end_s: f64) -> Lane {
    let mut lane = Lane { name: "client".into(), ..Lane::default() };
    let mut open: Option<(f64, String)> = None;
    let elsewhere = [
        event::GAP,
        event::DOWNLOAD_DONE,
        event::PATH_ESTABLISHED,
        event::PATH_CLOSED,
        event::PROBE,
        event::HANDSHAKE_STARTED,
    ];
    let span = |(from_s, detail): (f64, String), to_s| Span {
        from_s,
        to_s,
        text: format!("connection to {detail}"),
        piece: Piece::Connection,
    };
    let ours = |e: &EventRow| is_client(&e.source) && !elsewhere.contains(&e.event.as_str());
    for (at_s, _, e) in events.iter().filter(|(_, _, e)| ours(e)) {
        lane.moments.push(moment(*at_s, e));
        if e.event == event::CONNECTED || e.event == event::CONNECTION_LOST {
            lane.spans.extend(open.take().map(|from| span(from, *at_s)));
        }
        if e.event == event::CONNECTED {
            open = Some((*at_s, e.detail.clone()));
        }
    }
    lane.spans.extend(open.map(|from| span(from, end_s)));
    lane
}

/// Of many clients the first one stands for all.
fn is_client(source: &str) -> bool {
    source.starts_with("client") && source.split_once('/').is_none_or(|(_, number)| number == "1")
}

/// `path 4 from 10.0.0.1 to 10.1.0.3:4433`: number, local address, remote address.
fn path_of(detail: &str) -> Option<(&str, &str, &str)> {
    let words: Vec<_> = detail.split_whitespace().collect();
    let after = |word: &str| {
        let i = words.iter().position(|w| *w == word)?;
        words.get(i + 1).copied()
    };
    Some((after("path")?, after("from")?, after("to")?))
}

fn paths(events: &[Timed], places: &BTreeMap<String, String>, end_s: f64) -> Vec<Lane> {
    let mut lanes: Vec<((String, String), Lane)> = Vec::new();
    let mut open: BTreeMap<String, (f64, usize)> = BTreeMap::new();
    let ours = events.iter().filter(|(_, _, e)| is_client(&e.source));
    // The path of the handshake has no event of its own when it opens.
    let first = ours.clone().find(|(_, _, e)| e.event == event::CONNECTED).map(|(at, ..)| *at);
    for (at, _, e) in ours {
        let Some((number, from, to)) = path_of(&e.detail) else { continue };
        let key = (from.to_owned(), to.to_owned());
        let lane = match lanes.iter().position(|(k, _)| *k == key) {
            Some(lane) => lane,
            None => {
                let name = path_name(from, to, places);
                lanes.push((key, Lane { name, ..Lane::default() }));
                lanes.len() - 1
            }
        };
        let close = |since: f64| Span {
            from_s: since,
            to_s: *at,
            text: format!("path {number}"),
            piece: Piece::Path,
        };
        match e.event.as_str() {
            event::PROBE => {
                let probe = Moment { probe: true, ..moment(*at, e) };
                lanes[lane].1.moments.push(probe);
            }
            event::PATH_ESTABLISHED => {
                open.insert(number.to_owned(), (*at, lane));
            }
            event::PATH_CLOSED => match open.remove(number) {
                Some((since, lane)) => lanes[lane].1.spans.push(close(since)),
                None if number == "0" => lanes[lane].1.spans.extend(first.map(close)),
                None => {}
            },
            _ => {}
        }
    }
    for (number, (since, lane)) in open {
        let (text, piece) = (format!("path {number}"), Piece::Path);
        lanes[lane].1.spans.push(Span { from_s: since, to_s: end_s, text, piece });
    }
    let mut lanes: Vec<_> = lanes.into_iter().map(|(_, lane)| lane).collect();
    let start = |l: &Lane| {
        let times = l.spans.iter().map(|s| s.from_s).chain(l.moments.iter().map(|m| m.at_s));
        times.fold(f64::INFINITY, f64::min)
    };
    lanes.sort_by(|a, b| start(a).total_cmp(&start(b)));
    lanes
}

fn path_name(from: &str, to: &str, places: &BTreeMap<String, String>) -> String {
    let local = places.get(from).map_or(from, |p| p.rsplit('.').next().unwrap_or(from));
    let host = to.rsplit_once(':').map_or(to, |(host, _)| host).trim_matches(['[', ']']);
    let remote = places.get(host).map_or(to, |p| p.split('.').next().unwrap_or(to));
    format!("{local} → {remote}")
}

/// Of each address in the plan `place.interface`.
fn places(plan: &Value) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let places = plan.get("network").and_then(|n| n.get("places")).and_then(Value::as_object);
    for (place, about) in places.into_iter().flatten() {
        for interface in about.get("interfaces").and_then(Value::as_array).into_iter().flatten() {
            let name = interface.get("name").and_then(Value::as_str).unwrap_or_default();
            let addresses = interface.get("addresses").and_then(Value::as_array);
            for address in addresses.into_iter().flatten().filter_map(Value::as_str) {
                let plain = address.split('/').next().unwrap_or(address);
                found.insert(plain.to_owned(), format!("{place}.{name}"));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn at(s: f64, event: &str, detail: &str) -> Timed {
        let row = EventRow {
            variant: String::new(),
            repetition: 1,
            source: "client".into(),
            event: event.into(),
            detail: detail.into(),
            planned_ns: None,
            started_ns: 0,
            done_ns: None,
        };
        (s, s, row)
    }

    #[test]
    fn paths_have_lanes_by_their_ends() {
        let plan = json!({"network": {"places": {"client": {"interfaces": [{"name": "eth0", "addresses": ["10.0.0.1/24"]}]},
            "server-b": {"interfaces": [{"name": "eth0", "addresses": ["10.1.0.3/24"]}]}}}});
        let events = [
            at(0.1, "connected", "10.3.0.1:4433"),
            at(1.0, "path_closed", "path 0 from 10.0.0.1 to 10.3.0.1:4433"),
            at(1.1, "probe", "path 2 from 10.0.0.1 to 10.1.0.3:4433"),
            at(1.2, "probe", "path 3 from 10.0.0.1 to 10.1.0.3:4433"),
            at(2.0, "path_established", "path 3 from 10.0.0.1 to 10.1.0.3:4433"),
            at(2.1, "path_closed", "path 2 from 10.0.0.1 to 10.1.0.3:4433"),
        ];
        let lanes = paths(&events, &places(&plan), 5.0);
        let told: Vec<_> = lanes
            .iter()
            .map(|l| (l.name.as_str(), l.moments.len(), (l.spans[0].from_s, l.spans[0].to_s)))
            .collect();
        assert_eq!(
            told,
            [("eth0 → 10.3.0.1:4433", 0, (0.1, 1.0)), ("eth0 → server-b", 2, (2.0, 5.0))]
        );
    }

    #[test]
    fn a_connection_lasts_until_it_is_lost() {
        let events = [
            at(0.1, "connected", "a"),
            at(3.0, "connection_lost", "a"),
            at(4.0, "connected", "b"),
            at(4.5, "something_new", ""),
        ];
        let lane = client(&events, 9.0);
        let spans: Vec<_> = lane.spans.iter().map(|s| (s.from_s, s.to_s)).collect();
        assert_eq!((spans, lane.moments.len()), (vec![(0.1, 3.0), (4.0, 9.0)], 4));
        assert_eq!(lane.moments[3].text, "something new");
    }
}
