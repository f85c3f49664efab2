//! The old server's machine, and both machines against each other under random delays.

use super::{
    Verdict,
    origin::{Command, MAX_ROUNDS, Next, Origin},
    target::Target,
};
use crate::{
    random::Random,
    store::{Id, Version, wire::To},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

fn v(number: u64) -> Version {
    Version { number, client: 0 }
}

fn origin(dual: bool, names: &[&str]) -> Origin {
    let objects = names.iter().enumerate();
    Origin::new(dual, objects.map(|(i, id)| (Id::from(*id), i as u64, Version::default())))
}

fn cut(commands: &[Command], wanted: &str) -> Option<u64> {
    commands.iter().find_map(|command| match command {
        Command::Commit { id, cut, .. } if **id == *wanted => Some(*cut),
        _ => None,
    })
}

#[test]
fn objects_go_in_order_and_pass_when_they_have_arrived() {
    let (mut o, now) = (origin(true, &["b", "a"]), Instant::now());
    o.arrived(0, 7, To::Both, Duration::ZERO, now);
    assert_eq!(o.next(now), Next::Push("b".into()));
    assert_eq!(o.next(now), Next::Push("a".into()));
    assert_eq!(o.next(now), Next::Idle);
    assert_eq!(o.judge("b", 0, 8, To::Both, now), Verdict::Answer);
    o.held("b", v(0), now);
    let cut = cut(&o.commands(), "b").unwrap();
    assert!(cut > 8);
    assert_eq!(o.judge("b", 0, cut - 1, To::Both, now), Verdict::Answer);
    assert_eq!(o.judge("b", 0, cut, To::Both, now), Verdict::NotMine);
    assert_eq!(o.judge("b", 0, cut, To::Only, now), Verdict::Answer, "nobody else was asked");
    o.held("a", v(0), now);
    let commands = o.commands();
    assert!(commands.contains(&Command::Complete));
    assert!(commands.contains(&Command::Round { round: 1, objects: 2, since: now }));
    // A client that came later gets its cut with its first request.
    o.arrived(1, 1, To::Both, Duration::ZERO, now);
    assert_eq!(o.judge("a", 1, 1, To::Both, now), Verdict::Answer);
    assert!(matches!(o.commands()[..], [Command::Commit { client: 1, .. }]));
}

#[test]
fn a_write_on_the_way_makes_another_round_and_then_a_short_stop() {
    let (mut o, now, a) = (origin(true, &["a"]), Instant::now(), Id::from("a"));
    o.arrived(0, 1, To::Only, Duration::ZERO, now);
    for round in 0..u64::from(MAX_ROUNDS) {
        assert!(o.may_write("a"));
        assert_eq!(o.next(now), Next::Push(a.clone()));
        o.written(&a, v(round + 1), false, now);
        o.held("a", v(round), now);
    }
    assert!(!o.may_write("a"), "writes are held");
    assert!(cut(&o.commands(), "a").is_none());
    assert_eq!(o.next(now), Next::Push(a.clone()));
    o.held("a", v(u64::from(MAX_ROUNDS)), now);
    let commands = o.commands();
    assert!(commands.contains(&Command::Stopped { id: a, since: now }));
    assert!(cut(&commands, "a").is_some() && commands.contains(&Command::Complete));
    assert!(o.may_write("a"));
}

#[test]
fn a_write_that_went_to_both_is_sent_again_only_when_it_is_not_confirmed_soon() {
    let (mut o, now, a) = (origin(true, &["a"]), Instant::now(), Id::from("a"));
    o.arrived(0, 1, To::Both, Duration::ZERO, now);
    assert_eq!(o.next(now), Next::Push(a.clone()));
    o.held("a", v(0), now);
    o.written(&a, v(2), true, now);
    let Next::At(later) = o.next(now) else { panic!("not at once") };
    assert!(later > now + Duration::from_millis(100));
    o.held("a", v(2), now);
    assert_eq!(o.next(later), Next::Idle, "the client's own copy has arrived");
    o.written(&a, v(3), true, later);
    let Next::At(due) = o.next(later) else { panic!("not at once") };
    assert_eq!(o.next(due), Next::Push(a.clone()), "it has not");
    let cut = 100;
    o.written(&a, v(cut), true, due);
    o.held("a", v(3), due);
    assert_eq!(o.next(due + Duration::from_secs(9)), Next::Idle, "the new server acknowledges it");
}

#[test]
fn a_new_connection_goes_on_from_what_is_held() {
    let (mut o, now) = (origin(true, &["a", "b", "c"]), Instant::now());
    o.arrived(0, 1, To::Both, Duration::ZERO, now);
    for _ in 0..3 {
        o.next(now);
    }
    o.held("a", v(0), now);
    let first = cut(&o.commands(), "a");
    o.connected(&[("a".into(), v(0)), ("b".into(), v(0))], now);
    let commands = o.commands();
    assert_eq!(cut(&commands, "a"), first, "a cut is chosen once");
    assert!(cut(&commands, "b").is_some(), "its confirmation was lost");
    assert_eq!(o.next(now), Next::Push("c".into()));
    assert_eq!(o.next(now), Next::Idle);
}

#[test]
fn without_the_new_server_everything_comes_back() {
    let (mut o, now) = (origin(true, &["a"]), Instant::now());
    o.arrived(0, 1, To::Both, Duration::ZERO, now);
    o.next(now);
    o.held("a", v(0), now);
    assert_eq!(o.judge("a", 0, 99, To::Both, now), Verdict::NotMine);
    o.arrived(0, 99, To::Gone, Duration::ZERO, now);
    assert!(o.commands().contains(&Command::TakenBack));
    assert_eq!(o.judge("a", 0, 99, To::Both, now), Verdict::Answer);
    assert_eq!(o.next(now), Next::Idle);
}

#[test]
fn post_copy_sends_what_is_asked_for_out_of_turn() {
    let (mut o, now) = (origin(false, &["a", "b", "c"]), Instant::now());
    assert_eq!(o.next(now), Next::Push("a".into()));
    assert!(o.pulled("c", now) && !o.pulled("x", now));
    assert_eq!(o.next(now), Next::Push("b".into()));
    assert_eq!(o.next(now), Next::Idle, "it was sent");
    // The new server has overwritten one of them already.
    for (id, number) in [("a", 0), ("b", 0), ("c", 5)] {
        o.held(id, v(number), now);
    }
    assert!(o.commands().contains(&Command::Complete));
}

/// A message or request under way.
enum Way {
    RequestToOld(u64),
    RequestToNew(u64),
    Object(Id),
    Held(Id),
    Commit(Id, u64),
    NewDecides,
}

/// Plays both servers with random delays on all ways, also of a request to the two servers, and
/// counts the answers.
fn play(seed: u64) {
    const REQUESTS: u64 = 400;
    let mut random = Random::new(seed, "play");
    let names: Vec<String> = (0..12).map(|n| n.to_string()).collect();
    let mut old = origin(true, &names.iter().map(|n| &**n).collect::<Vec<_>>());
    let mut new = Target::new(true);
    new.linked(true);
    let start = Instant::now();
    let at = |ms: u64| start + Duration::from_millis(ms);
    let asked: BTreeMap<u64, Id> =
        (1..=REQUESTS).map(|n| (n, Id::from(&*names[random.below(names.len())]))).collect();
    let (longest_a, longest_b) = (1 + random.below(200), 1 + random.below(200));
    let link = 1 + random.below(100);
    // Time, a number that keeps things apart, what.
    let mut queue: BTreeMap<(u64, u64), Way> = BTreeMap::new();
    let mut serial = 0;
    let mut put = |queue: &mut BTreeMap<_, _>, ms: u64, way: Way| {
        serial += 1;
        queue.insert((ms, serial), way);
    };
    for number in 1..=REQUESTS {
        let sent = number * 10;
        put(&mut queue, sent + random.below(longest_a) as u64, Way::RequestToOld(number));
        put(&mut queue, sent + random.below(longest_b) as u64, Way::RequestToNew(number));
    }
    for n in 0..names.len() as u64 {
        let Next::Push(id) = old.next(at(0)) else { panic!("nothing to push") };
        put(&mut queue, n * 250 + random.below(link) as u64, Way::Object(id));
    }
    let (mut held, mut parked) = (BTreeSet::new(), BTreeSet::new());
    let mut answers: BTreeMap<u64, u32> = BTreeMap::new();
    let mut by_new = 0;
    while let Some(((ms, _), way)) = queue.pop_first() {
        match way {
            Way::RequestToOld(n) => {
                old.link_rtt(Duration::from_millis(link as u64));
                old.arrived(0, n, To::Both, Duration::from_millis(longest_a as u64), at(ms));
                if old.judge(&asked[&n], 0, n, To::Both, at(ms)) == Verdict::Answer {
                    *answers.entry(n).or_default() += 1;
                }
            }
            Way::RequestToNew(n) => {
                parked.insert(n);
                put(&mut queue, ms, Way::NewDecides);
            }
            Way::Object(id) => {
                held.insert(id.clone());
                put(&mut queue, ms + random.below(link) as u64, Way::Held(id));
            }
            Way::Held(id) => old.held(&id, v(0), at(ms)),
            Way::Commit(id, cut) => {
                new.commit(id, 0, cut);
                put(&mut queue, ms, Way::NewDecides);
            }
            Way::NewDecides => parked.retain(|n| {
                let version = held.contains(&asked[n]).then_some(v(0));
                match new.judge(&asked[n], 0, *n, To::Both, v(0), version) {
                    Verdict::Answer => {
                        *answers.entry(*n).or_default() += 1;
                        by_new += 1;
                        false
                    }
                    Verdict::NotMine => false,
                    _ => true,
                }
            }),
        }
        for command in old.commands() {
            if let Command::Commit { id, cut, .. } = command {
                let later = ms + random.below(link) as u64;
                put(&mut queue, later, Way::Commit(id, cut));
            }
        }
    }
    for n in 1..=REQUESTS {
        assert_eq!(answers.get(&n), Some(&1), "seed {seed}, request {n}");
    }
    assert!(by_new > 0 && by_new < REQUESTS, "both have answered: {by_new}");
}

#[test]
fn exactly_one_answers_whatever_the_delays() {
    (0..300).for_each(play);
}
