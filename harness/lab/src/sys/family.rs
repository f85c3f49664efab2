//! The processes of a tree, root first.
//!
//! Input: a PID. Output: PIDs. Kernel interface: /proc/PID/task/TID/children (proc(5)), which CRIU
//! needs, too.

use rustix::process::Pid;
use std::fs;

/// A process with all that descend from it. What has ended meanwhile is left out.
pub fn family(root: Pid) -> Vec<Pid> {
    let mut found = vec![root];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        next += 1;
        let threads = fs::read_dir(format!("/proc/{}/task", parent.as_raw_pid()));
        for thread in threads.into_iter().flatten().flatten() {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            let pids = children.split_whitespace().filter_map(|word| word.parse().ok());
            found.extend(pids.filter_map(Pid::from_raw));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{Signal, kill_process};
    use std::{
        io::{BufRead, BufReader},
        process::{Command, Stdio},
    };

    #[test]
    fn children_of_children_belong_to_the_family() {
        let mut outer = Command::new("sh")
            .args(["-c", "sh -c 'sleep 60 & echo up; wait'; true"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(outer.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let found = family(Pid::from_child(&outer));
        assert_eq!((found[0], found.len()), (Pid::from_child(&outer), 3), "{found:?}");
        for pid in found {
            kill_process(pid, Signal::KILL).unwrap();
        }
        outer.wait().unwrap();
    }
}
