//! A server and a client, as trials have them: how fast a download is.

use super::{Bench, Figures};
use crate::{
    plan::SERVER_PORT,
    spec::Links,
    trial::{
        certificate::{self, SERVER_NAME},
        node::{CONTROL, Node},
        payload,
    },
};
use anyhow::{Context, Result, ensure};
use limosa_lab::lab::Lab;
use limosa_record::{
    node::{
        Ballast, ClientConfig, ClientResult, Congestion, Ladder, NodeConfig, PoolOrder, Profile,
        RESULT_FILE, Request, Scheme, ServerConfig, Transport, Workload,
    },
    unit::Time,
};
use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

/// Both nodes in one place.
pub(super) const ALONE: &str =
    "version: 1\nnodes: {server: {}, other: {}}\nlinks: [{ends: [server, other]}]\n";

/// A link as in the shipped experiments.
pub(super) const LINK: &str = "\
version: 1
nodes: {client: {}, server: {}}
links:
  - {ends: [client.eth0, server.eth0], shape: {rate: 100Mbit/s, burst: 400KiB, latency: 1ms, delay: 25ms}}
";

const LOOPBACK_BYTES: u64 = 500_000_000;
const LINK_BYTES: u64 = 60_000_000;

/// A download that is about to run.
pub(super) struct Pair {
    pub(super) lab: Lab,
    pub(super) server: Node,
    client: Node,
    folder: PathBuf,
}

impl Pair {
    /// Starts both; the client waits to download so many bytes.
    pub(super) async fn start(
        bench: &Bench,
        name: &str,
        (topology, links): (&str, Links),
        bytes: u64,
        ballast: Option<Ballast>,
    ) -> Result<Self> {
        let lab = bench.lab(topology, links)?;
        let network = bench.network(topology, links)?;
        let folder = bench.work.path().join(name);
        let www = folder.join("www");
        fs::create_dir_all(&www).with_context(|| format!("make {}", www.display()))?;
        payload::create(&www.join("random"), bytes, 1)?;
        let certificates = certificate::create(&folder)?;
        let alone = !network.places.contains_key("client");
        let (server_ip, client_ip, client_place) = if alone {
            (Ipv4Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into(), "server")
        } else {
            let of = |place: &str| network.address(place).context("a host has an address");
            (of("server")?, of("client")?, "client")
        };
        let transport = transport();
        let server = NodeConfig::Server(ServerConfig {
            listen: SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), SERVER_PORT),
            control: CONTROL,
            folder: folder.join("server"),
            certificate: certificates.certificate,
            private_key: certificates.private_key,
            www,
            ballast,
            store: None,
            transport: transport.clone(),
        });
        let client = NodeConfig::Client(ClientConfig {
            marks_bytes: Vec::new(),
            connect: SocketAddr::new(server_ip, SERVER_PORT),
            fallback: vec![],
            local: vec![client_ip],
            behind: Vec::new(),
            // Both may be in one namespace.
            control: SocketAddr::new(CONTROL.ip(), CONTROL.port() + 1),
            folder: folder.join("client"),
            ca: certificates.ca,
            server_name: SERVER_NAME.into(),
            path: "/random".into(),
            save_as: folder.join("body"),
            play_bytes_per_s: None,
            range_bytes: None,
            workload: Workload::Download,
            resolver: None,
            number: 0,
            clients: 1,
            transport,
        });
        let start = async |name: &str, place: &str, config: &NodeConfig| {
            let own = folder.join(name);
            Node::start(&bench.program, name, place, &own, &own, config, &lab).await
        };
        let server = start("server", "server", &server).await?;
        let client = start("client", client_place, &client).await?;
        Ok(Self { lab, server, client, folder })
    }

    /// Lets the download begin.
    pub(super) async fn begin(&self) -> Result<()> {
        self.client.ask(&self.lab, &Request::Start).await?;
        Ok(())
    }

    /// Waits for the end of the download; bits of the body per second since its first packet.
    pub(super) async fn finish(&self) -> Result<f64> {
        let state = self.client.ended().await?;
        ensure!(state.success(), self.client.early_end(Ok(state)));
        let file = self.folder.join("client").join(RESULT_FILE);
        let text = fs::read(&file).with_context(|| format!("read {}", file.display()))?;
        let result: ClientResult =
            serde_json::from_slice(&text).with_context(|| format!("read {}", file.display()))?;
        let finished_ns = result.finished_ns.context("the download did not end")?;
        let time_s = (finished_ns - result.handshake_started_ns) as f64 / 1e9;
        // The bodies are large, and the next measurement has its own.
        fs::remove_file(self.folder.join("body")).context("remove the body")?;
        Ok(result.bytes as f64 * 8.0 / time_s)
    }
}

pub(super) async fn loopback(bench: &Bench) -> Result<Figures> {
    let rate = goodput(bench, "loopback", (ALONE, Links::Kernel), LOOPBACK_BYTES).await?;
    Ok([("loopback_goodput_gbps", rate / 1e9)].into())
}

pub(super) async fn through_a_link(bench: &Bench) -> Result<Figures> {
    let rate = goodput(bench, "link", (LINK, Links::Auto), LINK_BYTES).await?;
    Ok([("lab_goodput_mbps", rate / 1e6)].into())
}

async fn goodput(bench: &Bench, name: &str, net: (&str, Links), bytes: u64) -> Result<f64> {
    let pair = Pair::start(bench, name, net, bytes, None).await?;
    pair.begin().await?;
    let rate = pair.finish().await?;
    pair.server.stop(&pair.lab).await?;
    Ok(rate)
}

fn transport() -> Transport {
    Transport {
        scheme: Scheme::Quic,
        profile: Profile::Modern,
        congestion: Congestion::Cubic,
        ladder: Ladder::Fast,
        idle_timeout: Time::from_secs(30),
        keep_alive: None,
        moves_noticed: true,
        sample_interval: Time::from_millis(100),
        seed: 1,
        qlog: false,
        key_log: false,
        early_data: false,
        initial_window_bytes: None,
        pool_order: PoolOrder::Random,
    }
}
