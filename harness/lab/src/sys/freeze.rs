//! A tree of processes, stopped as a whole and let go on.
//!
//! Input: the first process of a PID namespace. Output: which of its processes had been stopped
//! before. Kernel interface: SIGSTOP and SIGCONT (signal(7)), the states of threads
//! (proc_pid_stat(5)), and PIDs as the namespace has them (`NSpid` in proc_pid_status(5)).
//!
//! CRIU writes down that a process is stopped, and restores it like that: whoever has frozen a
//! process before its dump thaws it after its restore. A cgroup is not used: a process would have
//! to be in one of its own from its start, which a machine need not allow, and a killed run would
//! leave it behind.

use super::family::family;
use rustix::{
    io::Errno,
    process::{Pid, Signal, kill_process},
};
use std::{collections::HashSet, fs, io, time::Duration};
use tokio::time::{Instant, sleep};

/// How long all threads may take to stop. One that waits for a disk cannot.
const LIMIT: Duration = Duration::from_secs(5);

/// How often one looks without a pause: most stop within some microseconds.
const EAGER_LOOKS: usize = 50;

/// Processes that are frozen, or were when they were dumped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frozen {
    /// Those that had been stopped before, by their PIDs in their own namespace.
    stopped_before: HashSet<i32>,
}

impl Frozen {
    /// Stops a process and all that descend from it, and returns when no thread of them runs.
    ///
    /// # Errors
    /// When they do not stop; those that have go on then.
    pub async fn freeze(root: Pid) -> io::Result<Self> {
        let (mut frozen, mut known) = (Self::default(), HashSet::new());
        let deadline = Instant::now() + LIMIT;
        for look in 0_usize.. {
            // Nobody can be born any more when everybody had stopped before one counts.
            let quiet = known.iter().all(|pid| is_still(*pid));
            let before = known.len();
            for pid in family(root) {
                if known.insert(pid) && !frozen.stop(pid)? {
                    frozen.thaw(root);
                    return Err(io::Error::other(format!("process {pid} cannot be stopped")));
                }
            }
            if quiet && known.len() == before {
                break;
            }
            if Instant::now() > deadline {
                frozen.thaw(root);
                let late = format!("the process has not stopped within {LIMIT:?}");
                return Err(io::Error::new(io::ErrorKind::TimedOut, late));
            }
            if look > EAGER_LOOKS {
                sleep(Duration::from_millis(1)).await;
            }
        }
        Ok(frozen)
    }

    /// Whether it is stopped, or will be, or has ended meanwhile.
    fn stop(&mut self, pid: Pid) -> io::Result<bool> {
        if is_stopped(pid) {
            self.stopped_before.extend(inner_pid(pid));
        }
        match kill_process(pid, Signal::STOP) {
            Ok(()) | Err(Errno::SRCH) => Ok(true),
            Err(Errno::PERM) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    /// Lets a process and all that descend from it go on, but those that had been stopped before;
    /// it may be the one that was frozen, or what has been restored from its images.
    pub fn thaw(&self, root: Pid) {
        for pid in family(root) {
            let stays = inner_pid(pid).is_some_and(|inner| self.stopped_before.contains(&inner));
            if !stays {
                // One that has ended needs it no more.
                let _ = kill_process(pid, Signal::CONT);
            }
        }
    }
}

/// The states of all threads; none when the process is gone.
fn states(pid: Pid) -> Vec<char> {
    let tasks = fs::read_dir(format!("/proc/{}/task", pid.as_raw_pid()));
    let state = |task: fs::DirEntry| {
        let stat = fs::read_to_string(task.path().join("stat")).ok()?;
        stat.rsplit_once(") ")?.1.chars().next()
    };
    tasks.into_iter().flatten().flatten().filter_map(state).collect()
}

/// Whether none of its threads does anything: stopped, traced, or ended.
fn is_still(pid: Pid) -> bool {
    states(pid).iter().all(|state| matches!(state, 'T' | 't' | 'Z' | 'X'))
}

fn is_stopped(pid: Pid) -> bool {
    states(pid).contains(&'T')
}

/// Its PID in the innermost namespace that it is in.
fn inner_pid(pid: Pid) -> Option<i32> {
    let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_pid())).ok()?;
    let pids = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    pids.split_whitespace().next_back()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{BufRead, BufReader},
        process::{Child, Command, Stdio},
    };

    /// Forks all the time, and has a child that is stopped.
    fn busy() -> (Child, Pid) {
        let script = "sleep 60 & kill -STOP $!; echo $!; while :; do (:); done";
        let mut child =
            Command::new("sh").args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let stopped = Pid::from_raw(line.trim().parse().unwrap()).unwrap();
        (child, stopped)
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_family_stops_as_a_whole_and_goes_on_but_for_who_stood_still_before() {
        let (mut child, stopped) = busy();
        let root = Pid::from_child(&child);
        while !is_stopped(stopped) {
            sleep(Duration::from_millis(1)).await;
        }
        for _ in 0..20 {
            let frozen = Frozen::freeze(root).await.unwrap();
            let before = family(root);
            assert!(before.iter().all(|pid| is_still(*pid)));
            sleep(Duration::from_millis(5)).await;
            assert_eq!(family(root), before, "somebody was born while all stood still");
            frozen.thaw(root);
            while is_stopped(root) {
                sleep(Duration::from_millis(1)).await;
            }
            assert!(is_stopped(stopped));
        }
        kill_process(stopped, Signal::KILL).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
