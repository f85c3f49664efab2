//! Which requests, and when: everything follows from the workload and its seed.

use crate::random::Random;
use anyhow::{Result, ensure};
use limosa_record::node::{Arrivals, Choice, RequestWorkload};
use std::time::{Duration, Instant};

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    /// From 1.
    pub(super) number: u64,
    /// The object.
    pub(super) id: String,
    /// When it is due; in a closed loop at once.
    pub(super) due: Instant,
    /// The size of what it writes; `None` for a read.
    pub(super) write: Option<u64>,
}

/// All requests of a workload, one after the other.
#[derive(Debug)]
pub(super) struct Sequence {
    objects: Vec<(String, u64)>,
    /// Cumulative weights of the objects; empty when they follow a script.
    weights: Vec<f64>,
    script: Vec<usize>,
    arrivals: Arrivals,
    writes: f64,
    count: u64,
    until: Option<Instant>,
    number: u64,
    due: Instant,
    times: Random,
    choices: Random,
    kinds: Random,
}

impl Sequence {
    /// Checks the workload and starts at `start`.
    pub(super) fn new(workload: &RequestWorkload, start: Instant) -> Result<Self> {
        let catalogue = &workload.catalogue;
        let counted = (0..catalogue.count).map(|n| (n.to_string(), catalogue.size_bytes));
        let listed = catalogue.listed.iter().map(|o| (o.id.clone(), o.size_bytes));
        let objects: Vec<_> = counted.chain(listed).collect();
        ensure!(!objects.is_empty(), "the catalogue is empty");
        let weight = |exponent: f64| {
            let weights = (1..=objects.len()).map(|rank| (rank as f64).powf(-exponent));
            weights
                .scan(0.0, |sum, w| {
                    *sum += w;
                    Some(*sum)
                })
                .collect()
        };
        let (weights, script) = match &workload.choice {
            Choice::Uniform => (weight(0.0), Vec::new()),
            Choice::Zipf { exponent } => {
                ensure!(*exponent >= 0.0, "the exponent {exponent} is negative");
                (weight(*exponent), Vec::new())
            }
            Choice::Script(ids) => {
                ensure!(!ids.is_empty(), "the script is empty");
                let place = |id: &String| objects.iter().position(|o| o.0 == *id);
                let places: Option<Vec<_>> = ids.iter().map(place).collect();
                (Vec::new(), places.ok_or_else(|| anyhow::anyhow!("unknown object in script"))?)
            }
        };
        match workload.arrivals {
            Arrivals::Fixed { per_s } | Arrivals::Poisson { per_s } => {
                ensure!(per_s > 0.0 && per_s <= 1e6, "{per_s} requests per second");
            }
            Arrivals::ClosedLoop { outstanding, .. } => {
                ensure!(outstanding > 0, "no requests outstanding");
            }
        }
        ensure!((0.0..=1.0).contains(&workload.writes), "share of writes {}", workload.writes);
        ensure!(workload.count.is_some() || workload.duration.is_some(), "a workload without end");
        let random = |purpose| Random::new(workload.seed, purpose);
        let mut sequence = Self {
            objects,
            weights,
            script,
            arrivals: workload.arrivals,
            writes: workload.writes,
            count: workload.count.unwrap_or(u64::MAX),
            until: workload.duration.map(|d| start + d.as_duration()),
            number: 0,
            due: start,
            times: random("arrivals"),
            choices: random("choices"),
            kinds: random("kinds"),
        };
        if let Arrivals::Poisson { .. } = sequence.arrivals {
            sequence.due = start + sequence.pause();
        }
        Ok(sequence)
    }

    /// The next request; `None` when it is over.
    pub(super) fn next(&mut self) -> Option<Item> {
        if self.number >= self.count {
            return None;
        }
        self.number += 1;
        let due = self.due;
        self.due = due + self.pause();
        let chosen = match self.script.len() {
            0 => {
                let at = self.choices.unit() * self.weights.last().copied().unwrap_or(1.0);
                self.weights.partition_point(|w| *w <= at).min(self.objects.len() - 1)
            }
            length => self.script[(self.number - 1) as usize % length],
        };
        let (id, size) = self.objects[chosen].clone();
        let write = (self.kinds.unit() < self.writes).then_some(size);
        let item = Item { number: self.number, id, due, write };
        Some(item).filter(|_| self.in_time(due))
    }

    /// Whether a request may still be issued at this time.
    pub(super) fn in_time(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| now < until)
    }

    fn pause(&mut self) -> Duration {
        match self.arrivals {
            Arrivals::Fixed { per_s } => Duration::from_secs_f64(1.0 / per_s),
            Arrivals::Poisson { per_s } => {
                Duration::from_secs_f64(self.times.exponential() / per_s)
            }
            Arrivals::ClosedLoop { .. } => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use limosa_record::{node::Catalogue, unit::Time};

    fn workload(choice: Choice, arrivals: Arrivals) -> RequestWorkload {
        RequestWorkload {
            catalogue: Catalogue { count: 10, size_bytes: 5, ..Catalogue::default() },
            choice,
            arrivals,
            writes: 0.25,
            count: Some(20_000),
            duration: None,
            seed: 3,
        }
    }

    fn all(workload: &RequestWorkload, start: Instant) -> Vec<Item> {
        let mut sequence = Sequence::new(workload, start).unwrap();
        std::iter::from_fn(|| sequence.next()).collect()
    }

    #[test]
    fn zipf_and_poisson_follow_from_the_seed_and_have_the_right_shares() {
        let start = Instant::now();
        let mut w = workload(Choice::Zipf { exponent: 1.0 }, Arrivals::Poisson { per_s: 100.0 });
        let items = all(&w, start);
        assert_eq!(items, all(&w, start));
        let share = |id: &str| items.iter().filter(|i| i.id == id).count() as f64 / 20_000.0;
        let harmonic: f64 = (1..=10).map(|k| 1.0 / f64::from(k)).sum();
        assert!((share("0") - 1.0 / harmonic).abs() < 0.015, "{}", share("0"));
        assert!((share("4") - 0.2 / harmonic).abs() < 0.01, "{}", share("4"));
        let writes = items.iter().filter(|i| i.write == Some(5)).count();
        assert!((4_700..5_300).contains(&writes), "{writes}");
        let took = items.last().unwrap().due - start;
        assert!((190.0..210.0).contains(&took.as_secs_f64()), "{took:?}");
        let gaps: Vec<f64> =
            items.windows(2).map(|i| (i[1].due - i[0].due).as_secs_f64() * 100.0).collect();
        let variance = gaps.iter().map(|g| (g - 1.0) * (g - 1.0)).sum::<f64>() / gaps.len() as f64;
        assert!((variance - 1.0).abs() < 0.1, "exponential: {variance}");
        w.seed = 4;
        assert_ne!(items, all(&w, start));
    }

    #[test]
    fn a_script_repeats_and_a_duration_ends_it() {
        let start = Instant::now();
        let script = Choice::Script(vec!["3".into(), "1".into()]);
        let mut w = workload(script, Arrivals::Fixed { per_s: 10.0 });
        (w.duration, w.writes) = (Some(Time::from_millis(450)), 0.0);
        let ids: Vec<_> = all(&w, start).into_iter().map(|i| i.id).collect();
        assert_eq!(ids, ["3", "1", "3", "1", "3"]);
    }

    #[test]
    fn nonsense_is_refused() {
        let uniform = || workload(Choice::Uniform, Arrivals::Fixed { per_s: 1.0 });
        let refused = |change: fn(&mut RequestWorkload)| {
            let mut w = uniform();
            change(&mut w);
            Sequence::new(&w, Instant::now()).is_err()
        };
        assert!(!refused(|_| {}));
        assert!(refused(|w| w.catalogue.count = 0));
        assert!(refused(|w| w.choice = Choice::Zipf { exponent: -1.0 }));
        assert!(refused(|w| w.choice = Choice::Script(vec!["77".into()])));
        assert!(refused(|w| w.arrivals = Arrivals::Poisson { per_s: 0.0 }));
        assert!(refused(|w| w.arrivals = Arrivals::Fixed { per_s: f64::NAN }));
        assert!(refused(|w| w.writes = 1.5));
        assert!(refused(|w| w.count = None));
    }
}
