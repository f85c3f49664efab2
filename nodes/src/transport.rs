//! noq's transport parameters for a node's [`Transport`] settings.

use crate::{congestion, logs::Qlogs};
use limosa_record::node::{Profile, Transport};
use noq::{IdleTimeout, TransportConfig, VarInt};
use std::{path::Path, sync::Arc, time::Duration};

/// noq's reassembly buffer holds at most 1 024 separate chunks of a stream and kills the
/// connection beyond that. With two paths every second packet may be missing, so the window may
/// hold 1 024 gaps and 1 024 packets of at least 1 200 bytes.
const STREAM_WINDOW: u32 = 1024 * 2 * 1200;

/// What a sender may hold in the profile `paper-2025`: its 0.1 MB in flight, and what is sent in
/// the half second until noq sends again what an abandoned path lost. More would only make the
/// image of a checkpoint larger.
const PAPER_SEND_WINDOW: u64 = 1_250_000;

/// Path ids that each end may use before it has to give some back. Two for the paths, twenty per
/// interface for the ladder `fast`, the rest for a second migration. Every id costs five
/// connection ids of about 40 bytes right after the handshake: 13 kB for all.
pub(crate) const PATH_IDS: u32 = 64;

/// RFC 9000, section 18.2: the default of max_ack_delay, which nobody changes here.
pub(crate) const MAX_ACK_DELAY: Duration = Duration::from_millis(25);

/// Addresses that a server may announce.
const ANNOUNCED_ADDRESSES: u8 = 8;

/// Requests that a client may have out at the same time.
const REQUESTS: u32 = 4096;

/// What may be under way between two servers.
const PUSH_WINDOW: u32 = 2_000_000;

/// How often the old server lets the new one hear from it.
pub(crate) const PUSH_KEEP_ALIVE: Duration = Duration::from_millis(100);

/// Longer than a cut link should last; after it the old server connects anew.
const PUSH_IDLE: Duration = Duration::from_secs(60);

/// A configuration for the connection between two servers.
pub(crate) fn between_servers(transport: &Transport) -> anyhow::Result<Arc<TransportConfig>> {
    let mut config = TransportConfig::default();
    config
        .max_idle_timeout(Some(IdleTimeout::try_from(PUSH_IDLE)?))
        .keep_alive_interval(Some(PUSH_KEEP_ALIVE))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(4 * STREAM_WINDOW))
        .send_window(u64::from(PUSH_WINDOW))
        .congestion_controller_factory(congestion::between_servers(transport))
        .max_concurrent_uni_streams(VarInt::from_u32(REQUESTS));
    Ok(Arc::new(config))
}

/// A configuration for one connection: the congestion controllers in it share state.
pub(crate) fn for_one_connection(
    transport: &Transport,
    folder: &Path,
    name: &str,
) -> anyhow::Result<Arc<TransportConfig>> {
    let mut config = TransportConfig::default();
    let send_window = match transport.profile {
        Profile::Modern => 4 * u64::from(STREAM_WINDOW),
        Profile::Paper2025 => PAPER_SEND_WINDOW,
    };
    config
        .max_idle_timeout(Some(IdleTimeout::try_from(transport.idle_timeout.as_duration())?))
        .keep_alive_interval(transport.keep_alive.map(|t| t.as_duration()))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(4 * STREAM_WINDOW))
        .send_window(send_window)
        .max_concurrent_bidi_streams(VarInt::from_u32(REQUESTS))
        .congestion_controller_factory(congestion::factory(transport));
    if transport.scheme.follows() {
        // The order matters: the second setting would turn multipath on with eight ids.
        config
            .max_concurrent_multipath_paths(PATH_IDS)
            .max_remote_nat_traversal_addresses(ANNOUNCED_ADDRESSES);
    }
    if transport.scheme.hands_over() {
        // Nothing but the announcement is used of it: both servers have connections of their own.
        config
            .max_concurrent_multipath_paths(2)
            .max_remote_nat_traversal_addresses(ANNOUNCED_ADDRESSES);
    }
    if transport.qlog {
        config.qlog_factory(Arc::new(Qlogs::new(folder.join("qlog"), name)?));
    }
    Ok(Arc::new(config))
}
