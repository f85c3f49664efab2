//! What noq does not do as the originals of the schemes do, what stands for it here, and what that
//! costs. The manifest of a run holds the rows of its schemes.

use limosa_record::node::Scheme;
use serde::Serialize;

/// A step of an original protocol and what stands for it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Rendition {
    /// What the original does.
    pub original: &'static str,
    /// What is done here.
    pub here: &'static str,
    /// Round trips that this takes longer.
    pub cost_round_trips: f64,
    /// What else it costs, if anything.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub cost: &'static str,
}

const fn row(
    original: &'static str,
    here: &'static str,
    cost_round_trips: f64,
    cost: &'static str,
) -> Rendition {
    Rendition { original, here, cost_round_trips, cost }
}

/// The announcement.
const ANNOUNCEMENT: &[Rendition] = &[
    row(
        "a frame of its own: MIGRATION, SERVER_MIGRATION, POOL_MIGRATION_ADDRESS",
        "ADD_ADDRESS of n0's QUIC NAT traversal extension",
        0.0,
        "",
    ),
    row(
        "the ACK of that frame tells the server that the client knows",
        "noq tells no server of an ACK: the client says so on a stream of its own",
        0.0,
        "a packet each way",
    ),
];

/// Everything that goes on over another path.
const PATH: &[Rendition] = &[
    row(
        "application data goes to the new address before that is validated",
        "a PATH_CHALLENGE goes there, and data follows its answer (RFC 9000, section 9)",
        1.0,
        "",
    ),
    row(
        "what was under way is sent again at once on the new path",
        "the server's: when a packet on the old path, sent from the new address, is acknowledged; the \
         client's: 3 PTO after the peer has answered PATH_ABANDON (noq)",
        0.0,
        "two round trips for what the server had under way, up to 0.3 s for the client's",
    ),
];

/// One path that follows.
const ONE_PATH: &[Rendition] = &[
    row(
        "a probe timeout resets congestion control, and sets it back when the old server speaks",
        "each path has its own congestion control",
        0.0,
        "",
    ),
    row("probes 100 ms apart, doubling", "PATH_CHALLENGEs on the ladder of the settings", 0.0, ""),
    row("a validation that fails closes the connection", "the old path stays", 0.0, ""),
];

const PROACTIVE: &[Rendition] = &[row(
    "the client stops listening to the old server, asked by its application",
    "it looks for the new one at once and uses the old path until that is there",
    0.0,
    "",
)];

const REACTIVE: &[Rendition] = &[row(
    "the probe timeout of the transport",
    "no packet for 1.5 round trips and 25 ms while an answer is waited for; noq tells nobody of its own",
    0.0,
    "up to 5 ms",
)];

const POOL: &[Rendition] = &[row(
    "each probe timeout sends two packets to the next address",
    "turns of 200, 400, 800 … ms, each with a path to one address",
    0.0,
    "",
)];

const SYMMETRIC: &[Rendition] = &[row(
    "SERVER_MIGRATED, sent once, moves the client's path",
    "a PING on the path, at each PTO; noq reads it, and the client opens a path to its sender",
    0.0,
    "the round trip of the validation above",
)];

const SYNCHRONIZED: &[Rendition] = &[row(
    "an all-zero SERVER_MIGRATION says that the server will move",
    "an ADD_ADDRESS of the unspecified address",
    0.0,
    "",
)];

const LOOKUP: &[Rendition] = &[row(
    "a server that comes to an unknown address needs not be told of it",
    "noq takes packets only at addresses that it knows: who writes the record tells the server its own",
    0.0,
    "",
)];

const MACHINE: &[Rendition] = &[
    row(
        "a hypervisor moves a virtual machine with its memory",
        "a namespace with its sockets stands for it; its process is stopped and its cables are changed",
        0.0,
        "",
    ),
    row(
        "the old host's own tunnel",
        "VXLAN between the hosts, both ways",
        0.0,
        "50 bytes a packet",
    ),
];

const MULTIPATH: &[Rendition] = &[row(
    "the continuation path ends when the old server ceases to respond",
    "noq does not close the last path: it stays open, unused, until a detection succeeds",
    0.0,
    "",
)];

const TWO_SERVERS: &[Rendition] = &[row(
    "both servers hold one connection",
    "two connections, the second one resumed: two holders of one connection's keys would use a nonce twice",
    1.0,
    "beside the old connection, so that no request waits for it",
)];

/// What is rendered otherwise under a scheme, the announcement first.
pub fn renditions(scheme: Scheme) -> impl Iterator<Item = &'static Rendition> {
    let parts: &[&[Rendition]] = match scheme {
        Scheme::Quic | Scheme::Http => &[],
        Scheme::Multipath => &[ANNOUNCEMENT, PATH, MULTIPATH],
        Scheme::Proactive => &[ANNOUNCEMENT, PATH, ONE_PATH, PROACTIVE],
        Scheme::Reactive => &[ANNOUNCEMENT, PATH, ONE_PATH, REACTIVE],
        Scheme::Pool => &[ANNOUNCEMENT, PATH, ONE_PATH, POOL],
        Scheme::Symmetric => &[PATH, ONE_PATH, SYMMETRIC],
        Scheme::SynchronizedSymmetric => &[ANNOUNCEMENT, PATH, ONE_PATH, SYMMETRIC, SYNCHRONIZED],
        Scheme::Lookup => &[PATH, ONE_PATH, LOOKUP],
        Scheme::MptcpTunnel => &[MACHINE],
        Scheme::DualPath | Scheme::PostCopy => &[ANNOUNCEMENT, TWO_SERVERS],
    };
    parts.iter().copied().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scheme_that_follows_pays_one_round_trip_for_the_validation() {
        let all = [
            Scheme::Multipath,
            Scheme::Proactive,
            Scheme::Reactive,
            Scheme::Pool,
            Scheme::Symmetric,
            Scheme::SynchronizedSymmetric,
            Scheme::Lookup,
        ];
        for scheme in all {
            let cost: f64 = renditions(scheme).map(|r| r.cost_round_trips).sum();
            assert!((cost - 1.0).abs() < f64::EPSILON, "{scheme:?}: {cost}");
        }
        assert_eq!(renditions(Scheme::Quic).count(), 0);
    }
}
