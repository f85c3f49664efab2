//! The machine that experiments run on: what it has and lacks, what a set-up adds, the guest, and how
//! fast it is.

pub mod bench;
pub mod debian;
pub mod doctor;
pub mod guest;
pub mod setup;
pub mod steps;
