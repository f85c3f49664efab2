//! Whether somebody listens for TCP connections in a namespace: proc_net_tcp(5).

use super::netns::Netns;
use std::{fs, net::SocketAddr};

/// Whether somebody listens there, as the namespace says itself: asking the listener would be its
/// first connection.
pub fn is_there(netns: &Netns, at: SocketAddr) -> bool {
    let table = if at.is_ipv4() { "tcp" } else { "tcp6" };
    let read = || Ok(fs::read_to_string(format!("/proc/thread-self/net/{table}"))?);
    has_listener(&netns.run(read).unwrap_or_default(), at.port())
}

/// Whether a table has a socket in the state LISTEN (0A) with this port.
fn has_listener(table: &str, port: u16) -> bool {
    let end = format!(":{port:04X}");
    table.lines().any(|line| {
        let mut words = line.split_whitespace().skip(1);
        let (local, state) = (words.next(), words.nth(1));
        local.is_some_and(|l| l.ends_with(&end)) && state == Some("0A")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_told_from_a_connection() {
        let table = |state| {
            format!(
                "  sl  local_address rem_address   st\n   0: 0100000A:0369 00000000:0000 {state} 0\n"
            )
        };
        assert!(has_listener(&table("0A"), 873));
        assert!(!has_listener(&table("01"), 873));
        assert!(!has_listener(&table("0A"), 874));
    }
}
