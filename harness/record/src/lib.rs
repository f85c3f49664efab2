//! What all parts of Limosa agree on: quantities with units, the clock, the rows of the result
//! files, the names of those files, and the contract between the harness and a node.
//!
//! No root, no netlink, no QUIC: everything here can be read and tested on any machine.

pub mod arrange;
pub mod beneath;
pub mod clock;
pub mod dir;
pub mod fault;
pub mod node;
pub mod random;
pub mod read;
pub mod recording;
pub mod row;
pub mod text;
pub mod unit;
