//! What a restore has forked and nobody has adopted: the restore failed, or nobody waits for it any
//! more. It is a child of this process, and has no parent-death signal until it is restored.

use crate::sys::process;
use rustix::{fs::fstat, process::Pid};
use std::{
    collections::HashSet,
    fs,
    os::{fd::BorrowedFd, unix::fs::MetadataExt},
    thread::sleep,
    time::{Duration, Instant},
};

/// How long a killed criu may take to end. Until then it may fork.
const END_LIMIT: Duration = Duration::from_secs(1);

/// Ends, when it is dropped, all children that have come into a network namespace since it was made.
#[derive(Debug)]
pub(super) struct Newborn {
    namespace: u64,
    before: HashSet<Pid>,
    adopted: bool,
}

impl Newborn {
    pub(super) fn watch(netns: BorrowedFd<'_>) -> rustix::io::Result<Self> {
        let namespace = fstat(netns)?.st_ino;
        Ok(Self { namespace, before: children_in(namespace), adopted: false })
    }

    /// Somebody else looks after it now.
    pub(super) fn adopted(mut self) {
        self.adopted = true;
    }
}

impl Drop for Newborn {
    fn drop(&mut self) {
        let limit = Instant::now() + END_LIMIT;
        let mut ended = HashSet::new();
        while !self.adopted && Instant::now() < limit {
            let new = &children_in(self.namespace) - &self.before;
            if new.is_empty() {
                break;
            }
            for pid in new.difference(&ended) {
                process::end_child(*pid);
            }
            ended.extend(new);
            sleep(Duration::from_millis(1));
        }
    }
}

/// Living children of this process in a network namespace (`proc_tid_children(5)`); those that have
/// ended have none.
fn children_in(namespace: u64) -> HashSet<Pid> {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let lists = threads.map(|t| fs::read_to_string(t.path().join("children")).unwrap_or_default());
    let pids: Vec<i32> = lists
        .flat_map(|l| l.split(' ').filter_map(|p| p.parse().ok()).collect::<Vec<_>>())
        .collect();
    let there =
        |pid: &i32| fs::metadata(format!("/proc/{pid}/ns/net")).is_ok_and(|m| m.ino() == namespace);
    pids.into_iter().filter(there).filter_map(Pid::from_raw).collect()
}
