//! The kernel mechanisms, one per file; they know nothing of spec, plan or lab.

pub mod criu;
pub mod process;
