//! The last test binary of `cargo test --workspace`: names what was inconclusive or skipped.

fn main() {
    // nextest lists and runs tests one by one, and has no end to print this at.
    if std::env::var_os("NEXTEST").is_none() && !std::env::args().any(|arg| arg == "--list") {
        limosa_testkit::summary();
    }
}
