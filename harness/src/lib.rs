//! Limosa, an emulation testbed for server migration over QUIC: the harness.
//!
//! `spec` reads what the user wrote, `plan` decides everything, `sys` speaks to the kernel, and
//! the rest runs the experiment. See README.md for the whole picture.

pub mod action;
pub mod bench;
pub mod cache;
pub mod calibrate;
pub mod capture;
pub mod certificate;
pub mod cli;
pub mod command;
pub mod debian;
pub mod doctor;
pub mod engine;
pub mod guest;
pub mod lab;
pub mod leftovers;
pub mod manifest;
pub mod model;
pub mod node;
pub mod plan;
pub mod progress;
pub mod run;
pub mod setup;
pub mod source;
pub mod spec;
pub mod steps;
pub mod sys;
pub mod timeline;
pub mod trial;
pub mod verdict;
