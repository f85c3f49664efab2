//! Limosa, an emulation testbed for server migration over QUIC: the harness.
#![expect(missing_docs, reason = "skeleton")]
pub mod guest;
pub mod setup;
pub mod sys;
