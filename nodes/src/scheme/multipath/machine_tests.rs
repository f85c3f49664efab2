use super::*;

const IDS: u32 = 60;

fn address(last: u8) -> SocketAddr {
    SocketAddr::from(([10, 1, 0, last], 4433))
}

fn id(n: u32) -> PathId {
    PathId::from(n)
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// The machine with a peer that hands out path ids in order.
struct Rig {
    machine: Machine,
    start: Instant,
    next_id: u32,
    opened: Vec<(u64, usize, PathId)>,
    closed: Vec<PathId>,
    retired: Vec<PathId>,
    silent: Vec<usize>,
}

impl Rig {
    /// Both interfaces serve, by the paths 0 and 1.
    fn new(ladder: Schedule, ids: u32) -> Self {
        let machine = Machine::new(ladder, 2, address(1), id(0), ids);
        let (start, next_id) = (Instant::now(), 1);
        let mut rig = Self {
            machine,
            start,
            next_id,
            opened: vec![],
            closed: vec![],
            retired: vec![],
            silent: vec![],
        };
        rig.tick(0, false);
        rig.established(1, 0);
        rig.opened.clear();
        assert_eq!(rig.machine.serving().collect::<Vec<_>>(), [(0, id(0)), (1, id(1))]);
        rig
    }

    fn at(&self, t: u64) -> Instant {
        self.start + ms(t)
    }

    fn run(&mut self, t: u64, commands: Vec<Command>) {
        for command in commands {
            match command {
                Command::Open { interface, .. } => {
                    let path = id(self.next_id);
                    self.next_id += 1;
                    self.opened.push((t, interface, path));
                    self.machine.opened(interface, path, self.at(t));
                }
                Command::Close(path) => self.closed.push(path),
                Command::Retire(path) => self.retired.push(path),
                Command::Silent(interface) => self.silent.push(interface),
            }
        }
    }

    fn tick(&mut self, t: u64, silent: bool) {
        let commands = self.machine.tick(self.at(t), silent);
        self.run(t, commands);
    }

    fn announced(&mut self, last: u8, interface: usize, t: u64) {
        let commands = self.machine.announced(address(last), interface, self.at(t));
        self.run(t, commands);
    }

    fn established(&mut self, n: u32, t: u64) {
        let commands = self.machine.established(id(n), self.at(t));
        self.run(t, commands);
    }

    /// Ticks whenever the machine asks for it.
    fn until(&mut self, end: u64, silent_from: u64) {
        loop {
            let next = self.machine.next_tick().map(|i| i.duration_since(self.start).as_millis());
            let next = next.map_or(u64::MAX, |t| t as u64);
            let first_silent = self.machine.continuation().map_or(u64::MAX, |_| silent_from);
            let t = next.min(first_silent.max(1));
            if t > end {
                return;
            }
            self.tick(t, t >= silent_from);
        }
    }

    fn times(&self, interface: usize) -> Vec<u64> {
        self.opened.iter().filter(|o| o.1 == interface).map(|o| o.0).collect()
    }
}

#[test]
fn the_scenario_of_the_paper() {
    let mut rig = Rig::new(Schedule::Paper, IDS);
    rig.announced(3, 0, 5_000);
    assert_eq!(rig.closed, [id(0)], "the path on which the frame arrived ends");
    assert_eq!(rig.machine.continuation(), Some((1, id(1))));
    rig.until(20_400, 10_300);
    assert_eq!(rig.times(0), [5_000, 5_500, 6_500, 8_500, 12_500]);
    assert_eq!(rig.times(1), [10_300, 10_800, 11_800, 13_800, 17_800]);
    assert_eq!(rig.silent, [1]);
    let over = rig.closed.contains(&id(1)) || !rig.retired.is_empty();
    assert!(!over, "the last path stays formally open");
    rig.until(20_500, 10_300);
    let (t, interface, probe) = *rig.opened.last().unwrap();
    assert_eq!((t, interface), (20_500, 0));
    let commands = rig.machine.established(probe, rig.at(20_550));
    rig.run(20_550, commands);
    assert_eq!(rig.retired, [id(1)], "the old path ends with the detection");
    rig.until(25_800, 10_300);
    let (t, interface, probe) = *rig.opened.last().unwrap();
    assert_eq!((t, interface), (25_800, 1));
    let commands = rig.machine.established(probe, rig.at(25_850));
    rig.run(25_850, commands);
    assert_eq!(rig.machine.serving().count(), 2);
    assert_eq!(rig.machine.next_tick(), None, "nothing more to do");
    assert_eq!(rig.machine.home, address(3));
}

#[test]
fn a_detection_while_the_old_server_lives_ends_the_continuation_path() {
    let mut rig = Rig::new(Schedule::Fast, IDS);
    rig.announced(3, 1, 5_000);
    rig.until(5_450, u64::MAX);
    assert_eq!(rig.times(1).len(), 5);
    let answered = rig.opened[2].2;
    let commands = rig.machine.established(answered, rig.at(5_460));
    rig.run(5_460, commands);
    for (_, _, probe) in rig.opened.clone().iter().filter(|o| o.1 == 1 && o.2 != answered) {
        assert!(rig.closed.contains(probe), "other probes of the interface are closed");
    }
    assert_eq!(rig.retired, [id(0)]);
    assert_eq!(rig.times(0), [5_460], "a fresh ladder at once");
    assert!(rig.silent.is_empty());
}

#[test]
fn answers_to_closed_probes_and_foreign_paths_are_closed() {
    let mut rig = Rig::new(Schedule::Paper, IDS);
    rig.announced(3, 0, 0);
    rig.until(1_600, u64::MAX);
    let closed_probe = rig.opened[0].2;
    assert!(rig.closed.contains(&closed_probe));
    rig.closed.clear();
    let commands = rig.machine.established(closed_probe, rig.at(1_700));
    assert_eq!(commands, [Command::Close(closed_probe)]);
    assert_eq!(rig.machine.established(id(1), rig.at(1_700)), []);
}

#[test]
fn the_last_path_ids_are_left_to_the_repetitions_of_noq() {
    let mut rig = Rig::new(Schedule::Paper, 6);
    rig.announced(3, 0, 0);
    rig.until(100_000, 3_000);
    assert!(rig.opened.len() <= 6, "{:?}", rig.opened);
    let last = |interface| rig.opened.iter().rfind(|o| o.1 == interface).unwrap().2;
    assert!(!rig.closed.contains(&last(0)) && !rig.closed.contains(&last(1)));
}

#[test]
fn exhaustion_told_by_noq_keeps_what_is_open() {
    let mut rig = Rig::new(Schedule::Paper, IDS);
    rig.announced(3, 0, 0);
    rig.machine.refused(0, Refusal::Exhausted);
    let probe = rig.opened[0].2;
    for t in [600, 1_000, 2_000] {
        for command in rig.machine.tick(rig.at(t), false) {
            assert_ne!(command, Command::Close(probe));
            rig.machine.refused(0, Refusal::Exhausted);
        }
    }
}

#[test]
fn missing_connection_ids_are_asked_for_again() {
    let mut rig = Rig::new(Schedule::Paper, IDS);
    let commands = rig.machine.announced(address(3), 0, rig.at(0));
    let opens = |c: &[Command]| c.iter().filter(|c| matches!(c, Command::Open { .. })).count();
    assert_eq!(opens(&commands), 1);
    rig.machine.refused(0, Refusal::Later);
    assert_eq!(opens(&rig.machine.tick(rig.at(10), false)), 1);
}

#[test]
fn with_one_interface_the_old_path_stays_until_the_detection() {
    let mut machine = Machine::new(Schedule::Paper, 1, address(1), id(0), IDS);
    let now = Instant::now();
    let commands = machine.announced(address(3), 0, now);
    assert_eq!(commands, [Command::Open { interface: 0, remote: address(3), probe: true }]);
    machine.opened(0, id(1), now);
    assert_eq!(machine.established(id(1), now), [Command::Retire(id(0))]);
}

#[test]
fn a_second_announcement_moves_the_detection() {
    let mut rig = Rig::new(Schedule::Paper, IDS);
    rig.announced(3, 0, 0);
    let first = rig.opened[0].2;
    rig.announced(3, 1, 100);
    assert_eq!(rig.opened.len(), 1, "the same announcement again changes nothing");
    rig.announced(4, 0, 200);
    assert!(rig.closed.contains(&first));
    assert_eq!(rig.opened.len(), 2);
    assert_eq!(rig.machine.continuation(), Some((1, id(1))));
}

#[test]
fn a_lost_path_is_opened_again_after_a_pause() {
    let mut rig = Rig::new(Schedule::Paper, IDS);
    rig.machine.abandoned(id(1), rig.at(100));
    rig.tick(100, false);
    assert!(rig.opened.is_empty());
    rig.until(1_100, u64::MAX);
    assert_eq!(rig.times(1), [1_100]);
}

#[test]
fn regression_a_stalled_process_does_not_probe_in_bursts() {
    let mut rig = Rig::new(Schedule::Fast, IDS);
    rig.announced(3, 0, 0);
    rig.until(200, u64::MAX);
    rig.tick(700, false);
    rig.until(900, u64::MAX);
    assert_eq!(rig.times(0), [0, 100, 200, 700, 800, 900]);
}
