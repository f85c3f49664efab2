//! Memory of a server that does nothing but weigh: a size, and a rate at which its pages change.
//!
//! Input: a [`Ballast`]. Output: nothing; what it is for is to be found in the images of a checkpoint.
//! Its bytes are random, so that no compressor makes it lighter. Pages are chosen uniformly, from
//! all of it or from the hot part at its beginning.

use crate::random::Random;
use anyhow::{Context, Result};
use limosa_record::node::Ballast;
use rustix::thread::disable_transparent_huge_pages;
use std::{
    hint::black_box,
    time::{Duration, Instant},
};
use tokio::time::{MissedTickBehavior, interval};

/// Bytes of a page (x86_64).
const PAGE_BYTES: usize = 4096;

/// How often pages are changed; each time those that are due.
const TICK: Duration = Duration::from_millis(10);

/// Fills the memory, and changes it until the runtime ends.
///
/// # Errors
/// When the kernel will not go without huge pages, which count as changed altogether (2 MB) when a byte is.
pub(crate) fn hold(ballast: &Ballast, seed: u64) -> Result<()> {
    if ballast.dirty_bytes_per_s > 0 {
        disable_transparent_huge_pages(true).context("go without huge pages")?;
    }
    let mut random = Random::new(seed, "ballast");
    let words = usize::try_from(ballast.bytes).unwrap_or(usize::MAX).div_ceil(size_of::<u64>());
    let memory: Vec<u64> = (0..words).map(|_| random.next()).collect();
    let dirtier = Dirtier::new(memory, random, ballast);
    // It holds the memory even where nothing changes.
    tokio::spawn(dirtier.run(ballast.dirty_bytes_per_s as f64 / PAGE_BYTES as f64));
    Ok(())
}

struct Dirtier {
    memory: Vec<u64>,
    random: Random,
    hot_pages: usize,
}

impl Dirtier {
    fn new(memory: Vec<u64>, random: Random, ballast: &Ballast) -> Self {
        let pages = size_of_val(&*memory).div_ceil(PAGE_BYTES);
        let hot_pages = (pages as f64 * ballast.hot_share).ceil() as usize;
        Self { memory, random, hot_pages }
    }

    async fn run(mut self, pages_per_s: f64) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut last = Instant::now();
        let mut due = 0.0;
        while pages_per_s > 0.0 && self.hot_pages > 0 {
            ticks.tick().await;
            // Time in which the process was frozen is not made up for: its clock stood still.
            due += last.elapsed().as_secs_f64() * pages_per_s;
            last = Instant::now();
            self.change(due as usize);
            due = due.fract();
        }
        std::future::pending::<()>().await;
        black_box(&self.memory);
    }

    /// Changes so many pages, chosen with repetition.
    fn change(&mut self, pages: usize) {
        let words = PAGE_BYTES / size_of::<u64>();
        for _ in 0..pages {
            let page = self.random.below(self.hot_pages);
            if let Some(word) = self.memory.get_mut(page * words) {
                *word = black_box(word.wrapping_add(1));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(hot_share: f64, pages: usize) -> Vec<usize> {
        let words = PAGE_BYTES / size_of::<u64>();
        let ballast = Ballast { bytes: 0, dirty_bytes_per_s: 0, hot_share };
        let memory = vec![0; 100 * words];
        let mut dirtier = Dirtier::new(memory, Random::new(1, "test"), &ballast);
        dirtier.change(pages);
        let first = dirtier.memory.iter().step_by(words);
        first.enumerate().filter(|(_, w)| **w != 0).map(|(page, _)| page).collect()
    }

    #[test]
    fn pages_change_everywhere_or_in_the_hot_part_alone() {
        let (all, hot) = (changed(1.0, 2_000), changed(0.1, 2_000));
        assert!(all.len() > 95 && all.iter().any(|p| *p > 90), "{all:?}");
        assert_eq!(hot, (0..10).collect::<Vec<_>>());
        assert!(changed(1.0, 0).is_empty());
    }
}
