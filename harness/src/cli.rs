//! What the user types and sees: arguments, one module per command, progress, signals.

pub mod args;
pub mod bench;
pub mod dispatch;
pub mod lab;
pub mod run;
pub mod show;
pub mod signals;
