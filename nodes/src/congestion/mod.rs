//! Congestion control: which [`Controller`] a connection's paths get.
//!
//! In: the node's [`Transport`] settings. Out: a factory for **one** connection, because coupled
//! controllers (OLIA, the cap) share state between the paths of a connection and noq tells a
//! factory neither the connection nor the path.
//!
//! [`Controller`]: noq::congestion::Controller

mod cap;
mod olia;
mod olia_math;
mod registry;

use limosa_record::node::{Congestion, Profile, Transport};
use noq::congestion::{ControllerFactory, CubicConfig};
use olia_math::Variant;
use std::sync::Arc;

/// RFC 9002, section 7.2: ten packets, at most 14 720 bytes; here for packets of 1200 bytes.
const INITIAL_WINDOW: u64 = 12_000;

/// A factory as noq's transport configuration wants it.
pub(crate) type Factory = Arc<dyn ControllerFactory + Send + Sync>;

/// Cubic for the connection between two servers, whatever the clients' connections use.
pub(crate) fn between_servers(transport: &Transport) -> Factory {
    let mut cubic = CubicConfig::default();
    transport.initial_window_bytes.map(|bytes| cubic.initial_window(bytes));
    Arc::new(cubic)
}

/// A fresh factory, to be used for one connection only.
pub(crate) fn factory(transport: &Transport) -> Factory {
    let initial_window = transport.initial_window_bytes.unwrap_or(match transport.profile {
        Profile::Modern => INITIAL_WINDOW,
        Profile::Paper2025 => cap::INITIAL_WINDOW,
    });
    let olia = |variant| -> Factory { Arc::new(olia::OliaFactory::new(variant, initial_window)) };
    let inner = match transport.congestion {
        Congestion::Cubic => {
            let mut cubic = CubicConfig::default();
            if transport.profile == Profile::Paper2025 || transport.initial_window_bytes.is_some() {
                cubic.initial_window(initial_window);
            }
            Arc::new(cubic)
        }
        Congestion::Olia => olia(Variant::Draft),
        Congestion::OliaLinux => olia(Variant::Linux),
        Congestion::OliaMpquic => olia(Variant::Mpquic),
    };
    match transport.profile {
        Profile::Modern => inner,
        Profile::Paper2025 => Arc::new(cap::CapFactory::new(inner)),
    }
}
