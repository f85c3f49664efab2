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

/// A factory as noq's transport configuration wants it.
pub(crate) type Factory = Arc<dyn ControllerFactory + Send + Sync>;

/// A fresh factory, to be used for one connection only.
pub(crate) fn factory(transport: &Transport) -> Factory {
    let inner: Factory = match transport.congestion {
        Congestion::Cubic => Arc::new(CubicConfig::default()),
        Congestion::Olia => Arc::new(olia::OliaFactory::new(Variant::Draft)),
        Congestion::OliaLinux => Arc::new(olia::OliaFactory::new(Variant::Linux)),
        Congestion::OliaMpquic => Arc::new(olia::OliaFactory::new(Variant::Mpquic)),
    };
    match transport.profile {
        Profile::Modern => inner,
        Profile::Paper2025 => Arc::new(cap::CapFactory::new(inner)),
    }
}
