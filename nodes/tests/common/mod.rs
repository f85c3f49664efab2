//! A server and a client with fresh certificates, folders and ports.

pub(crate) mod duo;
pub(crate) mod relay;

use limosa_record::{
    node::{
        ClientConfig, ClientResult, Congestion, Ladder, NodeConfig, PoolOrder, Profile,
        RESULT_FILE, Reply, Request, Scheme, ServerConfig, StoreConfig, Transport, Workload,
    },
    row::{self, NodeEventRow},
    unit::Time,
};
use sha2::{Digest, Sha256};
use std::{
    fs,
    net::{IpAddr, SocketAddr, UdpSocket},
    path::PathBuf,
    sync::atomic::{AtomicU16, Ordering},
    thread::{self, JoinHandle},
    time::Duration,
};

/// What a node's thread ends with.
pub(crate) type Node = JoinHandle<anyhow::Result<()>>;

/// One server, one client.
pub(crate) struct Pair {
    /// Everything is below this folder.
    pub(crate) folder: tempfile::TempDir,
    /// What the server serves as `/random`.
    pub(crate) content: Vec<u8>,
    /// Its hash.
    pub(crate) sha256: String,
    /// The server's QUIC address as the client knows it.
    pub(crate) server_address: SocketAddr,
    /// The server's control address.
    pub(crate) server_control: SocketAddr,
    /// The client's control address.
    pub(crate) client_control: SocketAddr,
    /// The client's two addresses.
    pub(crate) locals: Vec<IpAddr>,
    /// The settings of both nodes.
    pub(crate) transport: Transport,
    /// Where the client connects to.
    pub(crate) connect: SocketAddr,
    /// Where it tries next.
    pub(crate) fallback: Vec<SocketAddr>,
    /// What the servers hold.
    pub(crate) store: Option<StoreConfig>,
    /// What the client does.
    pub(crate) workload: Workload,
    /// At what rate the body is played, if it is.
    pub(crate) play_bytes_per_s: Option<u64>,
}

/// An address that nobody uses. Nobody gets the same one twice, and it is below those that the kernel chooses from, so that it is
/// still free when it is used.
pub(crate) fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Several test programs may run at the same time.
    let first = 10_000 + (std::process::id() % 100) as u16 * 200;
    loop {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed);
        assert!(port < 32_768, "no port is free");
        if UdpSocket::bind(("0.0.0.0", port)).is_ok() {
            return SocketAddr::from(([127, 0, 0, 1], port));
        }
    }
}

/// Sends one control request until it is answered.
pub(crate) fn ask(control: SocketAddr, request: &Request) -> Reply {
    ask_raw(control, &serde_json::to_vec(request).unwrap())
}

/// Sends bytes to a control socket until they are answered.
pub(crate) fn ask_raw(control: SocketAddr, bytes: &[u8]) -> Reply {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut buffer = [0; 4096];
    for _ in 0..50 {
        socket.send_to(bytes, control).unwrap();
        if let Ok((length, _)) = socket.recv_from(&mut buffer) {
            return serde_json::from_slice(&buffer[..length]).unwrap();
        }
    }
    panic!("no answer from {control}");
}

impl Pair {
    /// Certificates, a file of `size` bytes and free ports.
    pub(crate) fn new(
        scheme: Scheme,
        congestion: Congestion,
        profile: Profile,
        size: usize,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["www", "server", "client"] {
            fs::create_dir(at(name)).unwrap();
        }
        let content: Vec<u8> =
            (0..size as u32).map(|i| (i.wrapping_mul(0x9e37) >> 11) as u8).collect();
        fs::write(at("www/random"), &content).unwrap();
        let sha256 = Sha256::digest(&content).iter().map(|b| format!("{b:02x}")).collect();
        let rcgen::CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(["server.test".to_owned()]).unwrap();
        fs::write(at("cert.pem"), cert.pem()).unwrap();
        fs::write(at("key.pem"), signing_key.serialize_pem()).unwrap();
        let transport = Transport {
            scheme,
            profile,
            congestion,
            ladder: Ladder::Fast,
            idle_timeout: Time::from_secs(30),
            keep_alive: None,
            // The relay moves, and the server stays where it is.
            moves_noticed: false,
            sample_interval: Time::from_millis(100),
            seed: 1,
            qlog: true,
            key_log: true,
            early_data: false,
            initial_window_bytes: None,
            pool_order: PoolOrder::Random,
        };
        let server_address = free_address();
        Self {
            connect: server_address,
            fallback: Vec::new(),
            store: None,
            workload: Workload::Download,
            play_bytes_per_s: None,
            content,
            sha256,
            server_address,
            server_control: free_address(),
            client_control: free_address(),
            locals: vec![[127, 0, 0, 1].into(), [127, 0, 0, 2].into()],
            transport,
            folder,
        }
    }

    /// Starts the server in a thread.
    pub(crate) fn start_server(&self) -> Node {
        self.start_server_at("server", self.server_address, self.server_control)
    }

    /// Starts a server in a thread, with a folder of its own.
    pub(crate) fn start_server_at(
        &self,
        name: &str,
        address: SocketAddr,
        control: SocketAddr,
    ) -> Node {
        let at = |name: &str| self.folder.path().join(name);
        fs::create_dir_all(at(name)).unwrap();
        self.start(
            &format!("{name}.json"),
            &NodeConfig::Server(ServerConfig {
                listen: SocketAddr::new([0, 0, 0, 0].into(), address.port()),
                control,
                folder: at(name),
                certificate: at("cert.pem"),
                private_key: at("key.pem"),
                www: at("www"),
                ballast: None,
                store: self.store.clone(),
                transport: self.transport.clone(),
            }),
        )
    }

    /// Starts the client in a thread; it waits to be told to start.
    pub(crate) fn start_client(&self, path: &str) -> Node {
        self.start(
            "client.json",
            &NodeConfig::Client(ClientConfig {
                marks_bytes: Vec::new(),
                connect: self.connect,
                fallback: self.fallback.clone(),
                local: self.locals.clone(),
                behind: Vec::new(),
                control: self.client_control,
                folder: self.client_folder(),
                ca: self.folder.path().join("cert.pem"),
                server_name: "server.test".into(),
                path: path.into(),
                save_as: self.folder.path().join("saved"),
                play_bytes_per_s: self.play_bytes_per_s,
                range_bytes: Some(1_000_000),
                workload: self.workload.clone(),
                resolver: None,
                number: 0,
                clients: 1,
                transport: self.transport.clone(),
            }),
        )
    }

    fn start(&self, name: &str, config: &NodeConfig) -> Node {
        let file = self.folder.path().join(name);
        fs::write(&file, serde_json::to_vec(config).unwrap()).unwrap();
        thread::spawn(move || limosa_nodes::run(&file))
    }

    /// The client's folder.
    pub(crate) fn client_folder(&self) -> PathBuf {
        self.folder.path().join("client")
    }

    /// The client's events.
    pub(crate) fn client_events(&self) -> Vec<NodeEventRow> {
        row::read(&self.client_folder().join("events.csv")).unwrap()
    }

    /// The client's result.
    pub(crate) fn result(&self) -> ClientResult {
        let json = fs::read(self.client_folder().join(RESULT_FILE)).unwrap();
        serde_json::from_slice(&json).unwrap()
    }
}
