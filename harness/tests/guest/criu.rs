//! Checkpoint and restore with a real CRIU, between real network namespaces.
//!
//! Runs as root inside the guest, and on the host with the criu that `limosa setup` gets.
//! The echo server, and the harness that gets killed, are this very test program, started again
//! with `LIMOSA_TEST_ROLE` set. `LIMOSA_WORK` names a folder for logs and rows (default: a new one in
//! the folder of temporary files, where the images always are).

use limosa_lab::sys::{
    criu::{Criu, CriuError, Leave, Options},
    process::{ExitState, Launch, Process},
};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io::Write,
    net::{TcpListener, TcpStream, UdpSocket},
    os::fd::AsFd,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// The program under test. In the guest it is beside this one.
pub(crate) fn program() -> PathBuf {
    let built = PathBuf::from(env!("CARGO_BIN_EXE_limosa"));
    let beside = || std::env::current_exe().unwrap().with_file_name("limosa");
    if built.is_file() { built } else { beside() }
}

/// The criu that works here.
pub(crate) async fn criu() -> Criu {
    limosa::machine::setup::criu::get(&program()).await.unwrap().criu
}

/// Which part of these tests a process plays.
const ROLE: &str = "LIMOSA_TEST_ROLE";

const WILDCARD: &str = "0.0.0.0:7000";
/// Memory that the server touches, so that its size is that of a real node.
const BALLAST_BYTES: usize = 16 << 20;

/// A client's namespace and three servers' namespaces, each with its own link and subnet.
struct World {
    name: &'static str,
    folder: TempDir,
    work: PathBuf,
}

impl World {
    fn new(name: &'static str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = std::env::var_os("LIMOSA_WORK").map_or(folder.path().join("work"), Into::into);
        let work = root.join(name);
        fs::create_dir_all(&work).unwrap();
        let world = Self { name, folder, work };
        ip(&format!("netns add {}", world.client()));
        for i in 1..=3 {
            let (client, server) = (world.client(), world.server(i));
            ip(&format!("netns add {server}"));
            ip(&format!("-n {server} link set lo up"));
            ip(&format!("-n {client} link add v{i} type veth peer name eth0 netns {server}"));
            ip(&format!("-n {client} addr add 10.0.{i}.1/24 dev v{i}"));
            ip(&format!("-n {client} link set v{i} up"));
            ip(&format!("-n {server} addr add 10.0.{i}.2/24 dev eth0"));
            ip(&format!("-n {server} link set eth0 up"));
        }
        world
    }

    fn client(&self) -> String {
        format!("{}-c", self.name)
    }

    fn server(&self, i: usize) -> String {
        format!("{}-s{i}", self.name)
    }

    fn images(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Fresh options with a work folder of their own.
    fn options(&self, step: &str) -> Options {
        let work = self.work.join(step);
        fs::create_dir_all(&work).unwrap();
        Options::new(work)
    }

    async fn start(&self, bind: &str) -> Process {
        let launch = role("server", bind, &self.work);
        let process = Process::spawn(&launch, Some(netns(&self.server(1)).as_fd())).await.unwrap();
        ready(&self.work).await;
        process
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for name in [self.client(), self.server(1), self.server(2), self.server(3)] {
            let _ = Command::new("ip").args(["netns", "del", &name]).status();
        }
    }
}

fn ip(args: &str) {
    assert!(Command::new("ip").args(args.split(' ')).status().unwrap().success(), "ip {args}");
}

fn netns(name: &str) -> File {
    File::open(Path::new("/run/netns").join(name)).unwrap()
}

fn role(role: &str, value: &str, work: &Path) -> Launch {
    Launch {
        env: vec![
            (ROLE.into(), role.into()),
            ("LIMOSA_ROLE".into(), value.into()),
            ("LIMOSA_WORK".into(), work.into()),
        ],
        own_pid_namespace: true,
        ..Launch::new(std::env::current_exe().unwrap(), [""; 0], work.join("server.log"))
    }
}

/// Is the echo server or the harness, if the environment says so.
pub(crate) fn play_a_role() -> Option<ExitCode> {
    match std::env::var(ROLE).ok()?.as_str() {
        "server" => role_server(),
        _ => role_harness(),
    }
    Some(ExitCode::SUCCESS)
}

/// Numbers every datagram that it echoes, and writes a row for each.
fn role_server() {
    let bind = std::env::var("LIMOSA_ROLE").unwrap();
    let work = PathBuf::from(std::env::var_os("LIMOSA_WORK").unwrap());
    let mut rows =
        OpenOptions::new().append(true).create(true).open(work.join("rows.csv")).unwrap();
    let ballast: Vec<u8> = (0..BALLAST_BYTES).map(|i| ((i * 31) >> 3) as u8).collect();
    let (bind, tcp) = bind.strip_prefix("tcp+").map_or((bind.as_str(), false), |b| (b, true));
    let _connection = tcp.then(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        (TcpStream::connect(listener.local_addr().unwrap()).unwrap(), listener.accept().unwrap())
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let service = tokio::net::UdpSocket::bind(bind).await.unwrap();
        let control = tokio::net::UdpSocket::bind("127.0.0.1:7001").await.unwrap();
        let (mut a, mut b) = ([0; 64], [0; 64]);
        let mut count = 0_usize;
        let mut terminate =
            tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap();
        println!("ready");
        loop {
            let (socket, peer) = tokio::select! {
                got = service.recv_from(&mut a) => (&service, got.unwrap().1),
                got = control.recv_from(&mut b) => (&control, got.unwrap().1),
                _ = terminate.recv() => std::process::exit(7),
            };
            count += 1;
            assert_eq!(ballast[count], ((count * 31) >> 3) as u8);
            writeln!(rows, "{count}").unwrap();
            let _ = socket.send_to(count.to_string().as_bytes(), peer).await;
        }
    });
}

/// Asks the servers again and again, whichever of them lives.
struct Client {
    server: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<(Instant, usize)>>,
}

impl Client {
    fn start(world: &World) -> Self {
        let (server, stop) = (Arc::new(AtomicUsize::new(1)), Arc::new(AtomicBool::new(false)));
        let (target, done, netns) = (server.clone(), stop.clone(), netns(&world.client()));
        let thread = thread::spawn(move || {
            move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            let socket = UdpSocket::bind(WILDCARD).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
            let mut answers = Vec::new();
            while !done.load(Ordering::Relaxed) {
                let peer = format!("10.0.{}.2:7000", target.load(Ordering::Relaxed));
                if let Some(count) = ask(&socket, &peer) {
                    answers.push((Instant::now(), count));
                    thread::sleep(Duration::from_millis(1));
                }
            }
            answers
        });
        Self { server, stop, thread }
    }

    fn finish(self) -> Vec<(Instant, usize)> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// `None` while the server is down.
fn ask(socket: &UdpSocket, peer: &str) -> Option<usize> {
    socket.send_to(b"?", peer).ok()?;
    let mut answer = [0; 64];
    let (length, _) = socket.recv_from(&mut answer).ok()?;
    std::str::from_utf8(&answer[..length]).ok()?.parse().ok()
}

/// Whether a server answers when asked from inside a namespace.
fn answers(namespace: &str, peer: &'static str) -> bool {
    let netns = netns(namespace);
    let asking = thread::spawn(move || {
        move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        (0..30).any(|_| ask(&socket, peer).is_some())
    });
    asking.join().unwrap()
}

async fn ready(work: &Path) {
    let log = work.join("server.log");
    for _ in 0..1000 {
        if fs::read_to_string(&log).is_ok_and(|text| text.contains("ready")) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("server not ready: {}", fs::read_to_string(&log).unwrap_or_default());
}

fn inner_pid(process: &Process) -> String {
    let status =
        fs::read_to_string(format!("/proc/{}/status", process.pid().as_raw_pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("NSpid:")).unwrap();
    line.split_whitespace().last().unwrap().to_owned()
}

async fn criu_is_usable_and_says_what_it_can() {
    let criu = criu().await;
    println!("criu {} at {}", criu.version().await.unwrap(), criu.program().display());
    criu.check().await.unwrap();
    for feature in ["mem_dirty_track", "uffd-noncoop", "no_such_feature"] {
        println!("{feature}: {}", criu.feature(feature).await.unwrap());
    }
    assert!(!criu.feature("no_such_feature").await.unwrap());
}

async fn a_server_moves_again_and_again_while_its_client_goes_on_asking() {
    let world = World::new("move");
    let criu = criu().await;
    let mut process = world.start(WILDCARD).await;
    let client = Client::start(&world);
    for (step, to) in [2, 3, 1, 2].into_iter().enumerate() {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let images = world.images(&format!("step-{step}"));
        let options = world.options(&format!("step-{step}"));
        let dump = criu.dump(&process, &images, &options).await.unwrap();
        assert_eq!(process.wait().await.unwrap(), ExitState::Signaled(9));
        let (restored, restore) =
            criu.restore(&images, netns(&world.server(to)).as_fd(), &options).await.unwrap();
        client.server.store(to, Ordering::Relaxed);
        println!(
            "dump {} ms, restore {} ms\n  {dump:?}\n  {restore:?}",
            (dump.done_ns - dump.started_ns) / 1_000_000,
            (restore.done_ns - restore.started_ns) / 1_000_000,
        );
        assert!(dump.image_bytes > BALLAST_BYTES as u64);
        assert_eq!(inner_pid(&restored), "1");
        process = restored;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(answers(&world.server(2), "127.0.0.1:7001"), "control on loopback");
    let answers = client.finish();
    let counts: BTreeSet<_> = answers.iter().map(|(_, count)| count).collect();
    assert_eq!(counts.len(), answers.len(), "the server forgot what it had answered");
    let mut gaps: Vec<_> = answers.windows(2).map(|w| w[1].0 - w[0].0).collect();
    gaps.sort();
    println!("{} answers, longest gaps {:?}", answers.len(), &gaps[gaps.len() - 6..]);
    assert_eq!(process.stop(Duration::from_secs(5)).await.unwrap(), ExitState::Exited(7));
    let rows = fs::read_to_string(world.work.join("rows.csv")).unwrap();
    assert!(rows.lines().count() > answers.len(), "rows of all lives in one file");
}

async fn a_copy_runs_next_to_its_original() {
    let world = World::new("copy");
    let criu = criu().await;
    let original = world.start(WILDCARD).await;
    let options = Options { leave: Leave::Running, ..world.options("copy") };
    let images = world.images("copy");
    criu.dump(&original, &images, &options).await.unwrap();
    assert_eq!(original.try_wait().unwrap(), None);
    let to = netns(&world.server(2));
    let (copy, _) = criu.restore(&images, to.as_fd(), &options).await.unwrap();
    assert_eq!((inner_pid(&original), inner_pid(&copy)), ("1".into(), "1".into()));
    assert!(answers(&world.client(), "10.0.1.2:7000"), "original");
    assert!(answers(&world.client(), "10.0.2.2:7000"), "copy");
    // The copy can be moved on like any other.
    let (images, options) = (world.images("second"), world.options("second"));
    criu.dump(&copy, &images, &options).await.unwrap();
    let to = netns(&world.server(3));
    let (moved, _) = criu.restore(&images, to.as_fd(), &options).await.unwrap();
    assert!(answers(&world.client(), "10.0.3.2:7000"), "copy of the copy");
    assert_eq!(moved.kill().await.unwrap(), ExitState::Signaled(9));
    assert_eq!(original.stop(Duration::from_secs(5)).await.unwrap(), ExitState::Exited(7));
}

async fn a_restore_without_the_bound_address_names_the_log_and_the_reason() {
    let world = World::new("bound");
    let criu = criu().await;
    let process = world.start("10.0.1.2:7000").await;
    let (images, options) = (world.images("bound"), world.options("fails"));
    criu.dump(&process, &images, &options).await.unwrap();
    let to = netns(&world.server(2));
    let error = criu.restore(&images, to.as_fd(), &options).await.unwrap_err();
    println!("{error}");
    let CriuError::Restore { log, reason: Some(reason), .. } = error else { panic!("{error}") };
    assert!(log.is_file());
    assert!(reason.contains("bind"), "{reason}");
    // Once the address is there, the same images will do.
    ip(&format!("-n {} addr add 10.0.1.2/32 dev lo", world.server(2)));
    let (process, _) = criu.restore(&images, to.as_fd(), &options).await.unwrap();
    assert_eq!(process.stop(Duration::from_secs(5)).await.unwrap(), ExitState::Exited(7));
}

async fn a_failed_dump_leaves_the_source_running() {
    let world = World::new("nodump");
    let criu = criu().await;
    // CRIU does not dump an open TCP connection unless it is told to.
    let process = world.start("tcp+0.0.0.0:7000").await;
    let images = world.images("images");
    let error = criu.dump(&process, &images, &world.options("fails")).await.unwrap_err();
    println!("{error}");
    let CriuError::Dump { source_running, log, reason, .. } = error else { panic!("{error}") };
    assert!(source_running && log.is_file());
    assert!(reason.unwrap().contains("tcp-established"));
    assert!(answers(&world.client(), "10.0.1.2:7000"));
    // A timeout is told apart from a failure.
    let late = Options { limit: Duration::from_millis(1), ..world.options("late") };
    let error = criu.dump(&process, &images, &late).await.unwrap_err();
    println!("{error}");
    assert!(matches!(error, CriuError::TimedOut { source_running: Some(true), .. }));
}

/// A harness that moves a server and then waits for its own end.
fn role_harness() {
    let namespace = std::env::var("LIMOSA_ROLE").unwrap();
    let work = PathBuf::from(std::env::var_os("LIMOSA_WORK").unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let netns = netns(&namespace);
        let criu = criu().await;
        let launch = role("server", WILDCARD, &work);
        let process = Process::spawn(&launch, Some(netns.as_fd())).await.unwrap();
        ready(&work).await;
        let images = tempfile::tempdir().unwrap();
        let options = Options::new(&work);
        criu.dump(&process, images.path(), &options).await.unwrap();
        let (restored, _) = criu.restore(images.path(), netns.as_fd(), &options).await.unwrap();
        let partial = work.join("pid.part");
        fs::write(&partial, restored.pid().as_raw_pid().to_string()).unwrap();
        fs::rename(partial, work.join("pid")).unwrap();
        std::future::pending::<()>().await;
    });
}

async fn a_killed_harness_leaves_no_restored_process() {
    let world = World::new("killed");
    let launch = Launch {
        own_pid_namespace: false,
        stdout: world.work.join("harness.log"),
        stderr: world.work.join("harness.log"),
        ..role("harness", &world.server(1), &world.work)
    };
    let harness = Process::spawn(&launch, None).await.unwrap();
    let mut restored = None;
    for _ in 0..1000 {
        if let Ok(pid) = fs::read_to_string(world.work.join("pid")) {
            restored = Some(PathBuf::from(format!("/proc/{pid}")));
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let restored = restored.unwrap_or_else(|| {
        panic!("{}", fs::read_to_string(&launch.stdout).unwrap_or_default());
    });
    assert!(answers(&world.client(), "10.0.1.2:7000"));
    harness.kill().await.unwrap();
    for _ in 0..200 {
        // A zombie that nobody has reaped yet has no open files any more.
        if fs::read_link(restored.join("fd/0")).is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the restored process is still there");
}

limosa_testkit::async_tests![
    criu_is_usable_and_says_what_it_can,
    a_server_moves_again_and_again_while_its_client_goes_on_asking,
    a_copy_runs_next_to_its_original,
    a_restore_without_the_bound_address_names_the_log_and_the_reason,
    a_failed_dump_leaves_the_source_running,
    a_killed_harness_leaves_no_restored_process,
];
