//! Faults on purpose, so that every way to fail and to undo can be run by a test.
//!
//! In: the variable `LIMOSA_FAULT`, as `POINT:KIND` or `POINT@N:KIND`: the first or the N-th time
//! that this process passes the point, the point goes wrong. Out: an error, a process that hangs or
//! a process that is dead. Child processes inherit the variable and count for themselves; what a
//! node passes begins with `server/` or `client/`. Without the variable a point costs one look at a
//! static.
//!
//! | point | what goes wrong there |
//! |---|---|
//! | `netlink`, `netns`, `tap`, `engine` | a request to the kernel's route netlink, a new namespace, a new TAP device, the start of the link engine |
//! | `write/NAME` | writing a file of this name; `server/write/…` and `client/write/…` in a node |
//! | `criu/dump`, `criu/source`, `criu/restore-late` … | criu, or what it dumps, see the harness' `sys::criu` |
//! | `criu/page-server`, `criu/lazy-pages` | the criu that takes pages or gets them |
//! | `transfer/rsync`, `transfer/connect`, `transfer/file` | rsync, or the stream's connection and each file that it brings |
//! | `phase/PHASE`, as `phase/calibration` | the harness itself, when a trial gets there |
//! | `server/start`, `client/asked/Status` … | a node, when it starts or is asked something |
//! | `guest/boot`, `guest/run` | the guest, before and after its agent has answered |
//! | `link/delay`, `link/loss`, `link/rate` | every link in user space: 1 ms more, no losses, no rate (kind `wrong`) |
//!
//! | kind | |
//! |---|---|
//! | `refuse` | EPERM |
//! | `full` | ENOSPC |
//! | `hang` | goes on for ever |
//! | `die` | ends at once, without any clearing up |
//! | `wrong` | does something else than was asked for, each time and without a word |

use std::{
    fmt::Display,
    io,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

/// The variable that says where and how.
pub const VARIABLE: &str = "LIMOSA_FAULT";

/// What a point does when it goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It is not permitted.
    Refuse,
    /// The disk is full.
    Full,
    /// It never comes back.
    Hang,
    /// The process is dead.
    Die,
    /// It does something else, each time.
    Wrong,
}

#[derive(Debug)]
struct Fault {
    point: String,
    number: u64,
    kind: Kind,
    passed: AtomicU64,
}

/// What begins the names of this process' points.
static PREFIX: OnceLock<&str> = OnceLock::new();

/// Reads the variable, so that a mistake in it is told and not passed over.
///
/// # Errors
/// When it is not as described above.
pub fn check() -> Result<(), String> {
    match std::env::var(VARIABLE) {
        Ok(text) => parse(&text).map(drop),
        Err(_) => Ok(()),
    }
}

fn parse(text: &str) -> Result<Fault, String> {
    let wrong = |why: String| {
        format!("{VARIABLE}={text}: {why}\n  hint: POINT:KIND or POINT@N:KIND, as netlink@7:refuse")
    };
    let (point, kind) = text.rsplit_once(':').ok_or_else(|| wrong("no kind".into()))?;
    let kind = match kind {
        "refuse" => Kind::Refuse,
        "full" => Kind::Full,
        "hang" => Kind::Hang,
        "die" => Kind::Die,
        "wrong" => Kind::Wrong,
        other => {
            let kinds = "`refuse`, `full`, `hang`, `die` or `wrong`";
            return Err(wrong(format!("`{other}` is not {kinds}")));
        }
    };
    let (point, number) = match point.rsplit_once('@') {
        Some((point, n)) => {
            let number = n.parse().ok().filter(|n| *n > 0);
            (point, number.ok_or_else(|| wrong(format!("`{n}` is not a number from 1")))?)
        }
        None => (point, 1),
    };
    Ok(Fault { point: point.into(), number, kind, passed: AtomicU64::new(0) })
}

fn fault() -> Option<&'static Fault> {
    static FAULT: OnceLock<Option<Fault>> = OnceLock::new();
    FAULT.get_or_init(|| parse(&std::env::var(VARIABLE).ok()?).ok()).as_ref()
}

/// From now on the names of this process' points begin with this.
pub fn prefix(prefix: &'static str) {
    PREFIX.get_or_init(|| prefix);
}

/// Whether what is asked for at this point is not done, so that a test can show that it would be seen.
pub fn is_wrong(point: &str) -> bool {
    fault().is_some_and(|fault| fault.kind == Kind::Wrong && fault.point == point)
}

/// Passes a point and says what goes wrong there, if anything does now.
pub fn strikes(point: impl Display) -> Option<Kind> {
    let fault = fault()?;
    let prefix = PREFIX.get().copied().unwrap_or_default();
    if format!("{prefix}{point}") != fault.point {
        return None;
    }
    let passed = fault.passed.fetch_add(1, Ordering::Relaxed) + 1;
    (passed == fault.number).then_some(fault.kind)
}

/// Passes a point where this process itself goes wrong.
///
/// # Errors
/// When the fault of this point is an error.
pub fn here(point: impl Display) -> io::Result<()> {
    /// Of EPERM and ENOSPC, the same on all of Linux.
    const REFUSED: i32 = 1;
    const FULL: i32 = 28;
    match strikes(point) {
        None => Ok(()),
        Some(Kind::Refuse) => Err(io::Error::from_raw_os_error(REFUSED)),
        Some(Kind::Full) => Err(io::Error::from_raw_os_error(FULL)),
        Some(Kind::Hang) => loop {
            thread::sleep(Duration::from_secs(3600));
        },
        Some(Kind::Die) => std::process::abort(),
        // Only those who ask with `is_wrong` can do otherwise.
        Some(Kind::Wrong) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_has_a_point_a_number_and_a_kind() {
        let fault = parse("write/trials.csv@3:full").unwrap();
        assert_eq!((&*fault.point, fault.number, fault.kind), ("write/trials.csv", 3, Kind::Full));
        assert_eq!(parse("netlink:hang").unwrap().number, 1);
        for wrong in ["netlink", "netlink:no", "netlink@0:die", "netlink@x:die"] {
            assert!(parse(wrong).unwrap_err().contains("hint: POINT:KIND"), "{wrong}");
        }
    }
}
