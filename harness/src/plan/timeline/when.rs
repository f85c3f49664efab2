//! When steps start: what their times count from, and in which order they can come.

use super::resolve::Complain;
use crate::spec::{MOST_TOLD, Step, known};
use limosa_record::unit::{Size, Time};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// When a step starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum When {
    /// This long after the start of the handshake.
    At(Time),
    /// This long after the named step was done.
    After(String, Time),
    /// This long after something that clients do.
    Since(Anchor, Time),
}

/// What clients do that times can count from. With several clients it is when all have done it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Anchor {
    /// The handshake was confirmed.
    Connected,
    /// The first byte of a body or of an answer arrived.
    FirstByte,
    /// So much of the body had arrived.
    Bytes(Size),
}

/// Names of anchors that no step may have.
const CONNECTED: &str = "connected";
const FIRST_BYTE: &str = "first_byte";

/// How long things may take of which nobody knows that before the trial. A timeline that cannot be
/// at any of these paces cannot be.
pub(super) const PACES: [Pace; 4] = [
    // Nothing takes any time: the earliest times there are.
    Pace { answer_ns: 1, bytes_per_ms: 12_500_000, action_ns: 1 },
    Pace { answer_ns: 30_000_000, bytes_per_ms: 12_500, action_ns: 100_000_000 },
    Pace { answer_ns: 500_000_000, bytes_per_ms: 1_250, action_ns: 1_000_000_000 },
    Pace { answer_ns: 3_000_000_000, bytes_per_ms: 125, action_ns: 5_000_000_000 },
];

/// How fast a network and its nodes are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// From the start to the connection, and from there to the first byte.
    answer_ns: u64,
    bytes_per_ms: u64,
    /// What an action takes that has to do with criu or with other nodes.
    action_ns: u64,
}

impl Anchor {
    fn at_ns(self, pace: &Pace) -> u64 {
        match self {
            Self::Connected => pace.answer_ns,
            Self::FirstByte => 2 * pace.answer_ns,
            Self::Bytes(size) => {
                let body_ns = size.0.saturating_mul(1_000_000) / pace.bytes_per_ms;
                body_ns.saturating_add(2 * pace.answer_ns + 1)
            }
        }
    }
}

impl std::fmt::Display for Anchor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Connected => f.write_str("the clients are connected"),
            Self::FirstByte => f.write_str("the first byte is there"),
            Self::Bytes(size) => write!(f, "{size} are there"),
        }
    }
}

/// The time of a step, if it has exactly one that makes sense.
pub(super) fn when(spec: &Step, limit: Time, complain: &mut Complain<'_>) -> Option<When> {
    let given = [
        ("at", spec.at.is_some()),
        ("after", spec.after.is_some()),
        ("after_bytes", spec.after_bytes.is_some()),
    ];
    let given: Vec<&str> = given.iter().filter(|(_, is)| *is).map(|(field, _)| *field).collect();
    if given.is_empty() {
        complain(&[], "the step has no time".into(), Some("add `at:` or `after:`".into()));
        return None;
    }
    if let [first, second, ..] = given[..] {
        complain(&[second.into()], format!("the step has both `{first}` and `{second}`"), None);
        return None;
    }
    if let Some(at) = spec.at {
        if at >= limit {
            let hint = Some("raise `time_limit` or move the step".into());
            complain(&["at".into()], format!("{at} lies after the trial's end at {limit}"), hint);
            return None;
        }
        return Some(When::At(at));
    }
    let (field, read, like) = match (&spec.after, &spec.after_bytes) {
        (Some(text), _) => ("after", after(text), "image + 10s"),
        (_, Some(text)) => ("after_bytes", after_bytes(text), "10MB + 200ms"),
        (None, None) => return None,
    };
    let failed = |why| complain(&[field.into()], why, Some(format!("write it like `{like}`")));
    read.map_err(failed).ok()
}

/// `image`, `image + 10s`, `connected + 200ms`.
fn after(text: &str) -> Result<When, String> {
    let (name, delay) = with_delay(text)?;
    if name.is_empty() || name.contains(char::is_whitespace) {
        return Err(format!("`{text}` does not name a step"));
    }
    Ok(match name {
        CONNECTED => When::Since(Anchor::Connected, delay),
        FIRST_BYTE => When::Since(Anchor::FirstByte, delay),
        _ => When::After(name.into(), delay),
    })
}

/// `10MB`, `10MB + 200ms`.
fn after_bytes(text: &str) -> Result<When, String> {
    let (size, delay) = with_delay(text)?;
    let size: Size = size.parse()?;
    if size.0 == 0 {
        return Err(format!("`{text}` is there before the first byte"));
    }
    Ok(When::Since(Anchor::Bytes(size), delay))
}

fn with_delay(text: &str) -> Result<(&str, Time), String> {
    Ok(match text.split_once('+') {
        Some((what, delay)) => (what.trim(), delay.trim().parse()?),
        None => (text.trim(), Time(0)),
    })
}

/// A name that no step may have, because `after` would mean something else by it.
pub(super) fn is_taken(name: &str) -> bool {
    [CONNECTED, FIRST_BYTE].contains(&name)
}

/// What a step needs to be put in order.
pub(super) struct Timed<'a> {
    pub(super) when: &'a When,
    pub(super) name: Option<&'a str>,
    /// What its action takes at the least, in ns, and whether it may take longer.
    pub(super) takes: (u64, bool),
}

/// When each step starts at some pace, in ns; steps that wait for nothing or for themselves are told,
/// and have no time.
pub(super) fn starts(
    steps: &[Timed<'_>],
    pace: &Pace,
    mut complain: impl FnMut(usize, String, Option<String>),
) -> Vec<Option<u64>> {
    let by_name: HashMap<&str, usize> =
        steps.iter().enumerate().filter_map(|(i, s)| Some((s.name?, i))).collect();
    let mut times: Vec<Option<u64>> = vec![None; steps.len()];
    let mut state = vec![Search::New; steps.len()];
    let mut missing = 0_usize;
    for start in 0..steps.len() {
        let (mut path, mut current) = (Vec::new(), Some(start));
        // Up to a step whose time is known or counts from nothing else.
        while let Some(i) = current.filter(|i| state[*i] == Search::New) {
            state[i] = Search::OnPath;
            path.push(i);
            current = match steps[i].when {
                When::After(name, _) => by_name.get(&**name).copied(),
                When::At(_) | When::Since(..) => None,
            };
        }
        if let Some(end) = current.filter(|i| state[*i] == Search::OnPath) {
            let from = path.iter().position(|i| *i == end).unwrap_or(0);
            let (first, message) = waits_for_itself(steps, &path[from..]);
            complain(first, message, Some("give one of them `at:`".into()));
        }
        for i in path.into_iter().rev() {
            state[i] = Search::Done;
            times[i] = match steps[i].when {
                When::At(at) => Some(at.0),
                When::Since(anchor, delay) => Some(anchor.at_ns(pace).saturating_add(delay.0)),
                When::After(name, delay) => match by_name.get(&**name).copied() {
                    Some(other) => times[other].map(|before| {
                        let (least_ns, longer) = steps[other].takes;
                        let took_ns = if longer { pace.action_ns.max(least_ns) } else { least_ns };
                        before.saturating_add(took_ns).saturating_add(delay.0)
                    }),
                    None => {
                        missing += 1;
                        // Nobody reads the hundredth hint, and each looks at all names.
                        let all = if missing > MOST_TOLD { &[] } else { steps };
                        let names = all.iter().filter_map(|s| s.name);
                        let hint = known("named steps", name, names)
                            .or_else(|| Some("give the other step a `name:`".into()));
                        complain(i, format!("no step is called `{name}`"), hint);
                        None
                    }
                },
            };
        }
    }
    times
}

#[derive(Clone, Copy, PartialEq)]
enum Search {
    New,
    OnPath,
    Done,
}

/// Which step of a round comes first in the file, and what is told there.
fn waits_for_itself(steps: &[Timed<'_>], round: &[usize]) -> (usize, String) {
    const MOST_NAMED: usize = 8;
    let first = round.iter().enumerate().min_by_key(|(_, step)| **step).map_or(0, |(at, _)| at);
    let names = |at: &usize| steps[*at].name.unwrap_or("?");
    let turned = round[first..].iter().chain(&round[..=first]);
    let mut named: Vec<&str> = turned.clone().take(MOST_NAMED).map(names).collect();
    if round.len() >= MOST_NAMED {
        named.push("…");
    }
    (round[first], format!("the step waits for itself: {}", named.join(" after ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_count_from_steps_and_from_what_clients_do() {
        let step = |text: &str| after(text);
        assert_eq!(step("image + 10s"), Ok(When::After("image".into(), Time::from_secs(10))));
        assert_eq!(step("connected"), Ok(When::Since(Anchor::Connected, Time(0))));
        let late = Time::from_millis(200);
        assert_eq!(step(" first_byte +200ms "), Ok(When::Since(Anchor::FirstByte, late)));
        assert_eq!(
            after_bytes("10MB + 200ms"),
            Ok(When::Since(Anchor::Bytes(Size(10_000_000)), late))
        );
        assert!(step("two words").is_err() && step("").is_err() && step("x + y").is_err());
        assert!(after_bytes("10").is_err() && after_bytes("0B").is_err());
    }

    #[test]
    fn a_client_is_connected_before_it_gets_anything_at_any_pace() {
        for pace in &PACES {
            let bytes = |n| Anchor::Bytes(Size(n)).at_ns(pace);
            assert!(Anchor::Connected.at_ns(pace) < Anchor::FirstByte.at_ns(pace));
            assert!(Anchor::FirstByte.at_ns(pace) < bytes(1) && bytes(1) < bytes(1_000_000));
        }
    }

    #[test]
    fn a_long_chain_and_a_long_round_take_no_time() {
        let names: Vec<String> = (0..50_000).map(|n| format!("s{n}")).collect();
        let whens: Vec<When> = (0..50_000_usize)
            .map(|n| match n {
                0 => When::At(Time(5)),
                n => When::After(names[n - 1].clone(), Time(1)),
            })
            .collect();
        let timed = |whens: &[When]| {
            let steps: Vec<Timed<'_>> = whens
                .iter()
                .zip(&names)
                .map(|(when, name)| Timed { when, name: Some(name), takes: (1, true) })
                .collect();
            let mut told = Vec::new();
            let times = starts(&steps, &PACES[0], |at, message, _| told.push((at, message)));
            (times, told)
        };
        let (times, told) = timed(&whens);
        assert!(told.is_empty());
        assert_eq!(times[49_999], Some(5 + 2 * 49_999));
        let mut round = whens;
        round[0] = When::After("s49999".into(), Time(0));
        let (times, told) = timed(&round);
        assert!(times.iter().all(Option::is_none));
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].0, 0);
        assert!(told[0].1.len() < 200, "{}", told[0].1);
    }
}
