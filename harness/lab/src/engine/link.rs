//! One link of the engine: two devices and, for each direction, a queue, a delay line and counts.
//!
//! Input: frames, and the time. Output: frames written to the far device when they are due. Segments
//! of one train that are due at the same time are written as a train again.

use super::{
    Direction,
    carrier::now_ns,
    counters::{DirectionCounters, Histogram},
    delay::{Fate, Line},
    frame::{Frame, Packet},
    pool::Pool,
    queue::Queue,
};
use crate::shape::LossPlan;
use limosa_record::fault;
use rustix::{io::Errno, io::writev};
use std::{
    io::IoSlice,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    rc::Rc,
};

#[derive(Debug)]
pub(super) struct Link {
    pub(super) name: String,
    up: bool,
    /// Where a direction comes in; it goes out at the other one.
    devices: [OwnedFd; 2],
    ways: [Way; 2],
}

/// What is done instead of what was asked for, when a test has planted a defect.
fn planted(mut direction: Direction) -> Direction {
    const LATER_NS: u64 = 1_000_000;
    let shape = &mut direction.shape;
    if fault::is_wrong("link/delay") {
        shape.delay.delay_ns += LATER_NS;
    }
    if fault::is_wrong("link/loss") {
        shape.delay.loss = LossPlan::Random { ratio: 0.0 };
    }
    if fault::is_wrong("link/rate") {
        shape.rate = None;
    }
    direction
}

/// One direction.
#[derive(Debug)]
struct Way {
    queue: Queue<Packet>,
    line: Line<Packet>,
    counters: DirectionCounters,
    late: Histogram,
}

impl Link {
    pub(super) fn new(
        name: String,
        devices: [OwnedFd; 2],
        directions: [Direction; 2],
        now_ns: u64,
    ) -> Self {
        let way = |direction: Direction| Way {
            queue: Queue::new(&direction.shape, now_ns),
            line: Line::new(direction.shape.delay, direction.seed),
            counters: DirectionCounters::default(),
            late: Histogram::default(),
        };
        Self { name, up: true, devices, ways: directions.map(planted).map(way) }
    }

    pub(super) fn into_devices(self) -> [OwnedFd; 2] {
        self.devices
    }

    /// Where a direction comes in.
    pub(super) fn device(&self, side: usize) -> BorrowedFd<'_> {
        self.devices[side].as_fd()
    }

    /// What waits and what flies stays.
    pub(super) fn reshape(&mut self, side: usize, direction: Direction, now_ns: u64) {
        let direction = planted(direction);
        let way = &mut self.ways[side];
        way.queue.reshape(&direction.shape, now_ns);
        way.line.reshape(direction.shape.delay, direction.seed);
    }

    pub(super) fn set_up(&mut self, up: bool) {
        self.up = up;
        for way in self.ways.iter_mut().filter(|_| !up) {
            let gone = way.queue.drain().chain(way.line.drain()).count();
            way.counters.link_down_packets += gone as u64;
        }
    }

    /// A frame has come in.
    pub(super) fn accept(&mut self, side: usize, now_ns: u64, frame: Rc<Frame>) {
        let way = &mut self.ways[side];
        // The queue drops by what it holds at this very time.
        way.settle(now_ns);
        for segment in 0..frame.segments() {
            let bytes = frame.wire_bytes(segment);
            way.counters.in_packets += 1;
            way.counters.in_bytes += u64::from(bytes);
            let packet = Packet { frame: Rc::clone(&frame), segment };
            if !self.up {
                way.counters.link_down_packets += 1;
            } else if way.queue.push(now_ns, bytes, packet).is_err() {
                way.counters.queue_full_packets += 1;
            }
            // A rate without a limit never lets anything wait.
            way.settle(now_ns);
        }
    }

    /// Writes what is due and returns when there is more to do.
    pub(super) fn forward(
        &mut self,
        side: usize,
        pool: &mut Pool,
        late: &mut Histogram,
    ) -> Option<u64> {
        let way = &mut self.ways[side];
        let to = self.devices[1 - side].as_fd();
        let mut now = now_ns();
        loop {
            way.settle(now);
            let Some((due, first)) = way.line.pop(now) else { return way.next() };
            way.late.add(now - due, 1);
            late.add(now - due, 1);
            let mut run = first.segment..first.segment + 1;
            while let Some((due, _)) = way.line.pop_if(now, |next| {
                Rc::ptr_eq(&next.frame, &first.frame) && next.segment == run.end
            }) {
                run.end += 1;
                way.late.add(now - due, 1);
                late.add(now - due, 1);
            }
            way.write(to, &first.frame, run);
            pool.give(first.frame);
            now = now_ns();
        }
    }

    pub(super) fn counters(&self) -> [DirectionCounters; 2] {
        [0, 1].map(|side| {
            let way = &self.ways[side];
            DirectionCounters {
                backlog_bytes: way.queue.backlog_bytes(),
                backlog_packets: way.queue.len() as u64,
                flying_packets: way.line.len() as u64,
                timer: way.late.summary(),
                ..way.counters
            }
        })
    }

    pub(super) fn reset(&mut self) {
        for way in &mut self.ways {
            way.counters = DirectionCounters::default();
            way.late = Histogram::default();
        }
    }
}

impl Way {
    /// Moves what has left the queue by now into the delay line.
    fn settle(&mut self, now_ns: u64) {
        let mut fate = Fate::default();
        while let Some((left, packet)) = self.queue.pop(now_ns) {
            self.line.push(left, packet, &mut fate);
        }
        let counters = &mut self.counters;
        counters.lost_packets += fate.lost;
        counters.line_full_packets += fate.full;
        counters.duplicated_packets += fate.duplicated;
        counters.corrupted_packets += fate.corrupted;
        counters.reordered_packets += fate.reordered;
    }

    /// The next time at which something is due at the far end, or may be.
    fn next(&mut self) -> Option<u64> {
        let waiting = self.queue.due().map(|due| due.saturating_add(self.line.shortest_ns()));
        [self.line.due(), waiting].into_iter().flatten().min()
    }

    fn write(&mut self, to: BorrowedFd<'_>, frame: &Frame, run: std::ops::Range<u16>) {
        let packets = u64::from(run.end - run.start);
        let bytes: u64 = run.clone().map(|n| u64::from(frame.wire_bytes(n))).sum();
        let data = frame.run(run);
        let parts = data.parts().map(IoSlice::new);
        let counters = &mut self.counters;
        match writev(to, &parts) {
            Ok(_) => {
                counters.out_packets += packets;
                counters.out_bytes += bytes;
            }
            Err(Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM) => {
                counters.reader_full_packets += packets;
            }
            // The interface is down, or gone with its namespace.
            Err(Errno::IO | Errno::BADFD) => counters.link_down_packets += packets,
            Err(error) => {
                if counters.refused_packets == 0 {
                    eprintln!("the kernel refused a frame: {error}");
                }
                counters.refused_packets += packets;
            }
        }
    }
}
