//! Limosa, an emulation testbed for server migration over QUIC: the harness.
pub mod guest;
pub mod setup;
pub mod sys;
pub mod timeline;
pub mod trial;
