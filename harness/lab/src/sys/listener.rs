//! Whether somebody listens in a namespace, for TCP connections or datagrams: proc_net_tcp(5).

use super::netns::Netns;
use std::{fs, net::SocketAddr};

/// Whether somebody listens there, as the namespace says itself: asking the listener would be its
/// first connection.
pub fn is_there(netns: &Netns, at: SocketAddr) -> bool {
    let table = if at.is_ipv4() { "tcp" } else { "tcp6" };
    let read = || Ok(fs::read_to_string(format!("/proc/thread-self/net/{table}"))?);
    has_socket(&netns.run(read).unwrap_or_default(), at.port(), LISTENS)
}

/// Whether there is a UDP socket with this port that anybody may send to.
pub fn has_udp(netns: &Netns, port: u16) -> bool {
    let read = |table| move || Ok(fs::read_to_string(format!("/proc/thread-self/net/{table}"))?);
    ["udp", "udp6"]
        .into_iter()
        .any(|table| has_socket(&netns.run(read(table)).unwrap_or_default(), port, UNCONNECTED))
}

/// The state LISTEN of a TCP socket.
const LISTENS: &str = "0A";

/// The state CLOSE, which a UDP socket without a peer is in.
const UNCONNECTED: &str = "07";

/// Whether a table has a socket in this state with this port.
fn has_socket(table: &str, port: u16, wanted: &str) -> bool {
    let end = format!(":{port:04X}");
    table.lines().any(|line| {
        let mut words = line.split_whitespace().skip(1);
        let (local, state) = (words.next(), words.nth(1));
        local.is_some_and(|l| l.ends_with(&end)) && state == Some(wanted)
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
        assert!(has_socket(&table("0A"), 873, LISTENS));
        assert!(!has_socket(&table("01"), 873, LISTENS));
        assert!(!has_socket(&table("0A"), 874, LISTENS));
        assert!(has_socket(&table("07"), 873, UNCONNECTED));
    }
}
