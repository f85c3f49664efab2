//! What is in a lab stays in it: no packet leaves it, runs beside each other do not meet, and a node
//! obeys only its own namespace.

use super::{
    machine::{Place, lab},
    text,
};
use limosa::{
    plan::{MIGRATION_PORT, SERVER_PORT},
    trial::node::CONTROL,
};
use limosa_analysis::wire;
use limosa_lab::{capture::Capture, lab::pinned::PinnedLab, sys::netns::Netns};
use limosa_record::node::{Reply, Request};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    path::Path,
    process::{Child, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

const TOPOLOGY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../topologies/nakano-2025.yaml");

/// Addresses for documentation (RFC 5737, RFC 3849), which nobody has.
const OUTSIDE: [SocketAddr; 2] = [
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9)), 9),
    SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9)), 9),
];

/// The namespace of whoever runs the tests.
fn machine() -> Netns {
    Netns::open(Path::new("/proc/self/ns/net")).expect("the machine's own namespace")
}

/// What the machine's own business has pushed out of a capture is no matter of ours.
fn end(capture: Capture) {
    if let Err(error) = capture.stop() {
        println!("{error:#}");
    }
}

fn holds(file: &Path, mark: &str) -> bool {
    let bytes = fs::read(file).expect("a capture");
    bytes.windows(mark.len()).any(|window| window == mark.as_bytes())
}

/// Sends a datagram, or does not get as far as that.
fn send(to: SocketAddr, mark: &str) -> std::io::Result<usize> {
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    UdpSocket::bind(any)?.send_to(mark.as_bytes(), to)
}

/// Whatever a place of a lab sends to an address outside, nothing of it is seen on any interface of
/// the machine; what is sent on the machine itself is.
fn nothing_leaves_a_lab() {
    let name = &*lab("inside");
    let place = Place::new("60s");
    let mark = format!("limosa-{}-from-", std::process::id());
    let file = place.path().join("machine.pcap");
    let up = ["up", TOPOLOGY, "--links", "user", "--name", name];
    let up = place.limosa(&up).output().expect("start limosa");
    assert!(up.status.success(), "{}", text(&up));
    let seen = Capture::start(&machine(), &file).expect("capture");
    let pinned = PinnedLab::open(name).expect("open the lab");
    let mut refused = Vec::new();
    for place_name in pinned.network.places.keys() {
        let inside = pinned.lab.place(place_name).expect("a place");
        for to in OUTSIDE {
            let sent = inside.run(|| Ok(send(to, &format!("{mark}inside"))));
            if sent.expect("enter the place").is_err() {
                refused.push(format!("{place_name} to {to}"));
            }
        }
    }
    let here = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    send(here.local_addr().expect("its address"), &format!("{mark}outside")).expect("send");
    sleep(Duration::from_millis(300));
    end(seen);
    let down = place.limosa(&["down", name]).output().expect("start limosa");
    assert!(down.status.success(), "{}", text(&down));
    assert!(holds(&file, &format!("{mark}outside")), "the capture sees nothing at all");
    assert!(!holds(&file, &format!("{mark}inside")), "see the capture");
    // The places that have no router to ask do not even get rid of it.
    println!("without a way out: {}", refused.join(", "));
    assert!(refused.iter().any(|way| way.starts_with("router")), "{refused:?}");
    assert_eq!(place.left(), [""; 0]);
}

/// The namespaces of a run's nodes, by name, as soon as both have said ready.
fn nodes(place: &Place) -> BTreeMap<String, Netns> {
    let home = place.tmp().display().to_string();
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let mut found = BTreeMap::new();
        for process in fs::read_dir("/proc").expect("list processes").flatten() {
            let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).into_owned();
            let words: Vec<&str> = line.split('\0').collect();
            if let ["node", config] = words[1.min(words.len())..].get(..2).unwrap_or_default()
                && config.starts_with(&home)
                && let Some(name) = Path::new(config).parent().and_then(Path::file_name)
                && let Ok(netns) = Netns::open(&process.path().join("ns/net"))
            {
                found.insert(name.to_string_lossy().into_owned(), netns);
            }
        }
        if found.len() == 2 && place.path().join("results/move/latest/trials/move/1").exists() {
            return found;
        }
        assert!(Instant::now() < deadline, "the nodes do not start: {found:?}");
        sleep(Duration::from_millis(20));
    }
}

/// What is answered to a request for a node's status; a node that has only just started is asked
/// again.
fn asked(from: &Netns, to: SocketAddr, patience: Duration) -> Option<Reply> {
    let request = serde_json::to_vec(&Request::Status).expect("a request");
    let answer = from.run(|| {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        let (begun, mut bytes) = (Instant::now(), vec![0; 65_536]);
        while begun.elapsed() < patience {
            // A place without a way there says so at once.
            let _ = socket.send_to(&request, to);
            match socket.recv(&mut bytes) {
                Ok(n) => return Ok(Some(serde_json::from_slice(&bytes[..n])?)),
                Err(_) => sleep(Duration::from_millis(10)),
            }
        }
        Ok(None)
    });
    answer.expect("ask a node")
}

fn start(place: &Place) -> Child {
    let log = fs::File::create(place.path().join("log")).expect("make a log");
    let mut run = place.experiment(&["-v"]);
    run.stdout(Stdio::null()).stderr(log).spawn().expect("start limosa")
}

/// Ends it also when a test has failed, so that its message is not waited for.
struct Run(Child);

impl Drop for Run {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.0), Signal::TERM);
        let _ = self.0.wait();
    }
}

/// A node listens on its namespace's loopback. The machine's own loopback and other places of the same
/// lab, which do reach its address, are answered nothing.
fn a_node_obeys_only_its_own_namespace() {
    const PATIENCE: Duration = Duration::from_millis(300);
    let place = Place::with("60s", "80MB");
    let run = Run(start(&place));
    let nodes = nodes(&place);
    let server = SocketAddr::new(Ipv4Addr::new(10, 3, 0, 1).into(), CONTROL.port());
    for (name, inside) in &nodes {
        let answer = asked(inside, CONTROL, Duration::from_secs(20)).expect("no answer inside");
        assert_eq!(answer.error, None, "{name}");
    }
    // The server's address is one that the client has a way to, and that the server has.
    let reached = nodes["server"].run(|| Ok(UdpSocket::bind(SocketAddr::new(server.ip(), 0))));
    reached.expect("enter the place").expect("the server has this address");
    let machine = machine();
    for (who, from, to) in [
        ("the client's place", &nodes["client"], server),
        ("the server's place", &nodes["server"], server),
        ("the machine", &machine, CONTROL),
    ] {
        assert_eq!(asked(from, to, PATIENCE), None, "{who}");
    }
    drop(run);
    assert_eq!(place.left(), [""; 0]);
}

/// The same network with the same addresses twice, and a `clean` in the middle: each gets its own body,
/// and the machine's own interfaces see nothing of either.
fn runs_beside_each_other_do_not_meet() {
    let sizes = [("8MB", 8_000_000), ("7MB", 7_000_000)];
    let places = sizes.map(|(size, _)| Place::with("60s", size));
    let third = Place::new("60s");
    let file = third.path().join("machine.pcap");
    let seen = Capture::start(&machine(), &file).expect("capture");
    let mut runs = places.each_ref().map(|place| Run(start(place)));
    let mut dying = start(&third);
    nodes(&third);
    dying.kill().and_then(|()| dying.wait().map(drop)).expect("kill the third run");
    third.clean();
    for ((place, run), (_, bytes)) in places.iter().zip(&mut runs).zip(sizes) {
        let status = run.0.wait().expect("wait for limosa");
        let log = fs::read_to_string(place.path().join("log")).unwrap_or_default();
        assert!(status.success(), "{status}: {log}");
        let trials = place.trials("move");
        let [trial] = &trials[..] else { panic!("{trials:?}") };
        assert_eq!((trial.bytes, trial.body_matches), (Some(bytes), Some(true)));
        assert_eq!(trial.reconnects, Some(0));
    }
    end(seen);
    let ports = [SERVER_PORT, MIGRATION_PORT, CONTROL.port()];
    let ours = |end: SocketAddr| ports.contains(&end.port()) && !end.ip().is_loopback();
    let strays = wire::read_pcap(&file).expect("the capture").into_iter();
    let strays: Vec<_> = strays.filter(|d| ours(d.from) || ours(d.to)).collect();
    assert!(strays.is_empty(), "{} datagrams on the machine: {:?}", strays.len(), strays[0]);
    for place in places.iter().chain([&third]) {
        assert_eq!(place.left(), [""; 0]);
    }
}

limosa_testkit::tests![
    nothing_leaves_a_lab,
    a_node_obeys_only_its_own_namespace,
    runs_beside_each_other_do_not_meet,
];
