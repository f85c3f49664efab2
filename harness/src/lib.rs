//! Limosa, an emulation testbed for server migration over QUIC: the harness.
#![expect(missing_docs, reason = "skeleton")]
pub mod sys;
