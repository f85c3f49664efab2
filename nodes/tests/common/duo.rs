//! Two servers and a client, with a link in user space on each of the three ways.
//!
//! The second server is no copy of the first one here, but a fresh process: it forgets everything
//! as a copy does. That a real copy sends nothing of its past is tested where CRIU is.

use super::{Node, Pair, ask, free_address, relay::Front};
use limosa_record::{
    node::{
        Arrivals, Catalogue, Choice, Congestion, Handover, MigrationStatus, Order, Profile, Ranges,
        Request, RequestWorkload, Scheme, StoreConfig, Target, Workload,
    },
    row::{self, AnswerRow, NodeEventRow, NodeRequestRow, ObjectRow},
};
use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    thread::sleep,
    time::{Duration, Instant},
};

/// Name of the new server and of its folder.
pub(crate) const NEW: &str = "new";

/// Half of the round trip on each way.
#[derive(Clone, Copy)]
pub(crate) struct Delays {
    pub(crate) old: Duration,
    pub(crate) new: Duration,
    pub(crate) between: Duration,
}

impl Delays {
    /// In milliseconds.
    pub(crate) fn ms(old: u64, new: u64, between: u64) -> Self {
        let ms = Duration::from_millis;
        Self { old: ms(old), new: ms(new), between: ms(between) }
    }
}

/// Everything that a hand-over needs.
pub(crate) struct Duo {
    pub(crate) pair: Pair,
    pub(crate) to_old: Front,
    pub(crate) to_new: Front,
    pub(crate) between: Front,
    new_address: SocketAddr,
    pub(crate) new_control: SocketAddr,
    migration: SocketAddr,
    old: Option<Node>,
    new: Option<Node>,
    client: Option<Node>,
}

/// `count` objects of `size` bytes.
pub(crate) fn catalogue(count: u64, size_bytes: u64) -> Catalogue {
    Catalogue { seed: 5, count, size_bytes, order: Order::Ascending, listed: vec![], ranges: None }
}

/// Requests for a catalogue.
pub(crate) fn requests(catalogue: &Catalogue, per_s: f64, count: u64, writes: f64) -> Workload {
    Workload::Requests(RequestWorkload {
        catalogue: catalogue.clone(),
        choice: Choice::Uniform,
        arrivals: Arrivals::Poisson { per_s },
        writes,
        count: Some(count),
        duration: None,
        seed: 11,
    })
}

impl Duo {
    /// Starts two servers and a client that waits; the client takes part in `workload`.
    pub(crate) fn new(
        scheme: Scheme,
        delays: Delays,
        catalogue: Catalogue,
        workload: Workload,
    ) -> Self {
        Self::with(scheme, delays, catalogue, workload, |_| {})
    }

    /// The same with other settings.
    pub(crate) fn with(
        scheme: Scheme,
        delays: Delays,
        catalogue: Catalogue,
        workload: Workload,
        settings: impl FnOnce(&mut Pair),
    ) -> Self {
        let size = if catalogue.ranges.is_some() { 6_500_000 } else { 10 };
        let mut pair = Pair::new(scheme, Congestion::Cubic, Profile::Modern, size);
        pair.transport.qlog = false;
        settings(&mut pair);
        pair.store = Some(StoreConfig {
            name: "old".into(),
            catalogue,
            ca: pair.folder.path().join("cert.pem"),
            server_name: "server.test".into(),
        });
        pair.workload = workload;
        let front = |last: u8, server, delay| {
            let address: IpAddr = [127, 0, 0, last].into();
            Front::start(SocketAddr::new(address, 0), server, delay)
        };
        let (new_address, migration) = (free_address(), free_address());
        let to_old = front(7, pair.server_address, delays.old);
        let to_new = front(8, new_address, delays.new);
        let between = front(9, migration, delays.between);
        pair.connect = to_old.address;
        let new_control = free_address();
        let old = Some(pair.start_server());
        let new = Some(pair.start_server_at("before", new_address, new_control));
        let client = Some(pair.start_client("/random"));
        Self {
            pair,
            to_old,
            to_new,
            between,
            new_address,
            new_control,
            migration,
            old,
            new,
            client,
        }
    }

    /// A catalogue with the file `random` in ranges.
    pub(crate) fn ranges() -> Catalogue {
        let ranges = Some(Ranges { file: "random".into(), size_bytes: 500_000 });
        Catalogue { ranges, ..catalogue(0, 0) }
    }

    pub(crate) fn start(&self) {
        ask(self.pair.client_control, &Request::Start);
    }

    /// The second server becomes the target and the first one begins to hand over.
    pub(crate) fn hand_over(&self, rate_bytes_per_s: u64) {
        let target = Target {
            name: NEW.into(),
            folder: self.folder(NEW),
            migration: SocketAddr::new([0, 0, 0, 0].into(), self.migration.port()),
        };
        assert_eq!(ask(self.new_control, &Request::BecomeTarget(target)).error, None);
        let to = Some(self.to_new.address);
        let migration = self.between.address;
        let handover = Request::Handover(Handover { to, migration, rate_bytes_per_s });
        assert_eq!(ask(self.pair.server_control, &handover).error, None);
        assert_eq!(ask(self.pair.server_control, &handover).error, None, "asked twice");
    }

    /// What the old or the new server says of the migration.
    pub(crate) fn status(&self, control: SocketAddr) -> MigrationStatus {
        ask(control, &Request::Status).migration.unwrap_or_default()
    }

    /// Waits until the old server's status fulfils something.
    pub(crate) fn wait_for(&self, control: SocketAddr, wanted: impl Fn(&MigrationStatus) -> bool) {
        let start = Instant::now();
        while !wanted(&self.status(control)) {
            assert!(start.elapsed() < Duration::from_secs(60), "{:?}", self.status(control));
            sleep(Duration::from_millis(20));
        }
    }

    /// Kills a server as far as anybody can tell: nobody hears from it or reaches it any more.
    pub(crate) fn kill_old(&self) {
        self.to_old.set_dark(true);
        self.between.set_dark(true);
    }

    /// The same for the new one.
    pub(crate) fn kill_new(&self) {
        self.to_new.set_dark(true);
        self.between.set_dark(true);
    }

    /// Waits for the client's end, which must be a good one.
    pub(crate) fn finish_client(&mut self) {
        self.client.take().unwrap().join().unwrap().unwrap();
    }

    /// Stops the servers.
    pub(crate) fn stop(&mut self) {
        for control in [self.pair.server_control, self.new_control] {
            assert_eq!(ask(control, &Request::Objects).error, None);
            ask(control, &Request::Stop);
        }
        for node in [self.old.take(), self.new.take()].into_iter().flatten() {
            node.join().unwrap().unwrap();
        }
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.pair.folder.path().join(name)
    }

    /// Rows of the client's requests.
    pub(crate) fn rows(&self) -> Vec<NodeRequestRow> {
        row::read(&self.folder("client").join("requests.csv")).unwrap()
    }

    /// Events of `server`, `new` or `client`.
    pub(crate) fn events(&self, of: &str) -> Vec<NodeEventRow> {
        row::read(&self.folder(of).join("events.csv")).unwrap()
    }

    /// How often `of` has noted this event.
    pub(crate) fn count(&self, of: &str, event: &str) -> usize {
        self.events(of).iter().filter(|e| e.event == event).count()
    }

    /// What a server holds in the end.
    pub(crate) fn objects(&self, of: &str) -> BTreeMap<String, ObjectRow> {
        let rows: Vec<ObjectRow> = row::read(&self.folder(of).join("objects.csv")).unwrap();
        rows.into_iter().map(|row| (row.object.clone(), row)).collect()
    }

    /// How many answers each server gave, after checking that nobody answered twice and everything
    /// was answered.
    pub(crate) fn exactly_one_answered(&self) -> (usize, usize) {
        let answers =
            |of| -> Vec<AnswerRow> { row::read(&self.folder(of).join("answers.csv")).unwrap() };
        let (old, new) = (answers("server"), answers(NEW));
        let mut count = BTreeMap::new();
        for row in old.iter().chain(&new) {
            *count.entry(row.request).or_insert(0) += 1;
        }
        for row in self.rows() {
            assert_eq!(count.get(&row.request), Some(&1), "{row:?}");
            assert_eq!(row.outcome, "ok", "{row:?}");
        }
        assert_eq!(self.pair.result().requests.unwrap().answered_twice, 0);
        (old.len(), new.len())
    }

    /// Every acknowledged write is on this server, object by object.
    pub(crate) fn every_write_is_on(&self, of: &str) {
        let objects = self.objects(of);
        let number = |version: &str| -> u64 { version.split('.').next().unwrap().parse().unwrap() };
        let mut writes = 0;
        for row in self.rows().iter().filter(|r| r.access == "write" && r.outcome == "ok") {
            let written = number(row.version.as_ref().unwrap());
            let held = &objects[&row.object];
            assert!(number(held.version.as_ref().unwrap()) >= written, "{row:?} {held:?}");
            writes += 1;
        }
        assert!(writes > 0);
        assert!(objects.values().all(|o| o.intact != Some(false)));
    }

    /// For the log of a failed test.
    pub(crate) fn print_events(&self) {
        for of in ["server", NEW, "client"] {
            for e in self.events(of) {
                eprintln!("{:>17.3} {of:7} {} {}", e.done_ns as f64 / 1e9, e.event, e.detail);
            }
        }
    }
}
