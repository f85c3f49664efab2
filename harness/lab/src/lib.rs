//! Networks of Linux namespaces: hosts, switches and routers, veth pairs between them, and links with
//! a shape, carried by the kernel's tbf and netem or by an engine in user space.

pub mod cache;
pub mod capture;
pub mod engine;
pub mod errors;
pub mod journal;
pub mod lab;
pub mod neighbours;
pub mod network;
pub mod owner;
pub mod private;
pub mod recordings;
pub mod shape;
pub mod sys;
