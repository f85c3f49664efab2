//! What `criu lazy-pages` has fetched for a restored process, as its log says (criu, uffd.c).
//!
//! Input: a log at level 4. Output: [`Served`]. criu writes no statistics about this.

use std::collections::HashMap;

/// Bytes of a page (x86_64).
const PAGE_BYTES: u64 = 4096;

/// Pages that came after the restore.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Served {
    /// How many have to come.
    pub wanted_pages: u64,
    /// How many have come.
    pub pages: u64,
    /// For each page that the process touched before it was there: from when the daemon read of it
    /// until the page was in its place, in ms.
    pub faults_ms: Vec<f64>,
}

impl Served {
    pub(super) fn read(log: &str) -> Self {
        let mut served = Self::default();
        let mut waiting: HashMap<u64, f64> = HashMap::new();
        for (at_ms, text) in log.lines().filter_map(stamped) {
            if let Some(page) = after(text, "#PF at 0x").and_then(hexadecimal) {
                waiting.entry(page / PAGE_BYTES).or_insert(at_ms);
            } else if let Some((start, bytes)) = after(text, "uffd_copy: 0x").and_then(range) {
                let pages = bytes / PAGE_BYTES;
                served.pages += pages;
                let there = start / PAGE_BYTES..start / PAGE_BYTES + pages;
                let arrived = waiting.extract_if(|page, _| there.contains(page));
                served.faults_ms.extend(arrived.map(|(_, since_ms)| at_ms - since_ms));
            } else if let Some(page) = after(text, "zero page at 0x").and_then(hexadecimal) {
                // Memory that was never written: nothing travels for it.
                waiting.remove(&(page / PAGE_BYTES));
            } else if let Some(rest) = after(text, "Found ")
                && let Some(pages) = rest.strip_suffix(" pages to be handled by UFFD")
            {
                served.wanted_pages += pages.parse::<u64>().unwrap_or(0);
            }
        }
        served
    }
}

/// `(00.549292) text`: milliseconds since criu's start, and the text.
fn stamped(line: &str) -> Option<(f64, &str)> {
    let (stamp, text) = line.strip_prefix('(')?.split_once(") ")?;
    Some((stamp.parse::<f64>().ok()? * 1e3, text.trim()))
}

fn after<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    Some(text.split_once(word)?.1)
}

fn hexadecimal(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}

/// `7f4210844000/4096`: an address, and a number of bytes.
fn range(text: &str) -> Option<(u64, u64)> {
    let (start, bytes) = text.split_once('/')?;
    Some((hexadecimal(start)?, bytes.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of criu 4.2.1.
    const LOG: &str = "\
(00.544502) uffd: 1-12: Found 105 VMAs in image
(00.544511) uffd: 1-12: Found 11596 pages to be handled by UFFD
(00.545988) Connecting to server 127.0.0.1:7077
(00.549292) uffd: 1-12: #PF at 0x7f4210844000
(00.549301) pr1-1 Read 7f4210844000 1 pages
(00.549395) uffd: 1-12: uffd_copy: 0x7f4210844000/4096
(00.549500) uffd: 1-12: #PF at 0x55be87489000
(00.549600) uffd: 1-12: #PF at 0x7f0000000000
(00.549610) uffd: 1-12: zero page at 0x7f0000000000
(00.551500) uffd: 1-12: uffd_copy: 0x55be87488000/65536
(00.602956) uffd: 1-12: UFFD transferred pages: (11596/11596)
";

    #[test]
    fn pages_and_waits_are_read_from_the_log() {
        let served = Served::read(LOG);
        assert_eq!((served.wanted_pages, served.pages), (11596, 17));
        let rounded: Vec<f64> = served.faults_ms.iter().map(|ms| (ms * 1e3).round()).collect();
        assert_eq!(rounded, [103.0, 2000.0]);
    }

    #[test]
    fn a_log_that_is_cut_off_says_what_it_can() {
        for end in 0..LOG.len() {
            let served = Served::read(&LOG[..end]);
            assert!(served.pages <= 17 && served.faults_ms.len() <= 2, "cut at {end}");
        }
        assert_eq!(Served::read("(xx) #PF at 0x1\nuffd_copy: 0x1/4096\n"), Served::default());
    }
}
