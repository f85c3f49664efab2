//! How far the clients of a process have come: the moments from which steps of a timeline count.
//!
//! A moment is there when *all* clients have come to it, and stays what it was.

use limosa_record::{clock, node::Reply};
use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

/// Of all clients of a process.
#[derive(Debug)]
pub(super) struct Milestones {
    connected: Moment,
    first_byte: Moment,
    marks: Vec<(u64, Moment)>,
}

/// When the last of so many clients came to something.
#[derive(Debug)]
struct Moment(Mutex<(u16, Option<i64>)>);

impl Moment {
    fn of(clients: u16) -> Self {
        Self(Mutex::new((clients.max(1), None)))
    }

    /// One more client is there.
    fn one(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.0 = state.0.saturating_sub(1);
        if state.0 == 0 {
            state.1.get_or_insert_with(clock::now_ns);
        }
    }

    fn at_ns(&self) -> Option<i64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1
    }
}

impl Milestones {
    /// `marks_bytes` are in ascending order.
    pub(super) fn new(clients: u16, marks_bytes: &[u64]) -> Self {
        let moment = || Moment::of(clients);
        let marks = marks_bytes.iter().map(|bytes| (*bytes, moment())).collect();
        Self { connected: moment(), first_byte: moment(), marks }
    }

    /// Enters them into an answer.
    pub(super) fn enter(&self, reply: &mut Reply) {
        reply.connected_ns = self.connected.at_ns();
        reply.first_byte_ns = self.first_byte.at_ns();
        reply.marks_ns = self.marks.iter().map(|(_, moment)| moment.at_ns()).collect();
    }
}

/// What one client has come to: each thing counts once, however often it connects.
#[derive(Debug, Default)]
pub(super) struct Come {
    connected: AtomicBool,
    first_byte: AtomicBool,
    marks: AtomicUsize,
}

impl Come {
    pub(super) fn connected(&self, all: &Milestones) {
        if !self.connected.swap(true, Ordering::Relaxed) {
            all.connected.one();
        }
    }

    pub(super) fn first_byte(&self, all: &Milestones) {
        if !self.first_byte.swap(true, Ordering::Relaxed) {
            all.first_byte.one();
        }
    }

    /// So many bytes of the body are there.
    pub(super) fn bytes(&self, all: &Milestones, bytes: u64) {
        if bytes == 0 {
            return;
        }
        self.first_byte(all);
        let mut next = self.marks.load(Ordering::Relaxed);
        while let Some((_, moment)) = all.marks.get(next).filter(|(mark, _)| bytes >= *mark) {
            moment.one();
            next += 1;
        }
        self.marks.store(next, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_there_when_all_clients_have_come_to_it_and_stays() {
        let all = Milestones::new(2, &[10, 100]);
        let (one, other) = (Come::default(), Come::default());
        let seen = || {
            let mut reply = Reply::default();
            all.enter(&mut reply);
            reply
        };
        one.connected(&all);
        one.connected(&all);
        assert_eq!(seen().connected_ns, None, "one client that connects twice is one");
        other.connected(&all);
        let connected = seen().connected_ns;
        assert!(connected.is_some());
        one.bytes(&all, 0);
        one.bytes(&all, 500);
        assert_eq!((seen().first_byte_ns, seen().marks_ns), (None, vec![None, None]));
        other.bytes(&all, 10);
        assert!(seen().first_byte_ns.is_some());
        assert!(seen().marks_ns[0].is_some() && seen().marks_ns[1].is_none());
        // A body that begins again passes nothing twice.
        one.bytes(&all, 120);
        assert!(seen().marks_ns[1].is_none());
        other.bytes(&all, 100);
        assert!(seen().marks_ns[1].is_some());
        one.connected(&all);
        assert_eq!(seen().connected_ns, connected);
    }
}
