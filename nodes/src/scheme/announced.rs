//! Which announced addresses a client takes to be a server's.
//!
//! A client that believed everything could be made to send to whom the announcer likes (RFC 9000,
//! section 21.5). An address is refused when no server on another host can be there.

use crate::{client::Client, server::heard};
use limosa_record::row::event;
use noq::{Connection, PathId};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Whether the client goes by this announcement; it notes that it does not.
pub(super) fn is_welcome(client: &Client, connection: &Connection, address: SocketAddr) -> bool {
    let path = connection.path(PathId::ZERO).and_then(|path| path.remote_address().ok());
    let server = path.unwrap_or(client.config.connect).ip();
    let Some(why) = objection(address, server, &client.config.local) else { return true };
    client.events.now(event::ANNOUNCEMENT_REFUSED, format!("{address}: {why}"));
    false
}

/// Lets the server know that the client has taken note.
pub(super) fn acknowledge(connection: &Connection, address: SocketAddr) {
    let connection = connection.clone();
    tokio::spawn(async move {
        let said = async {
            let mut stream = connection.open_uni().await?;
            stream.write_all(&heard(address)).await?;
            anyhow::Ok(stream.finish()?)
        };
        if let Err(error) = said.await {
            tracing::info!(%error, %address, "acknowledgement of an announcement");
        }
    });
}

/// What speaks against an address, told by a server at another address.
pub(super) fn objection(
    announced: SocketAddr,
    server: IpAddr,
    own: &[IpAddr],
) -> Option<&'static str> {
    // An IPv4 address in IPv6's clothes is judged as what it is.
    let ip = announced.ip().to_canonical();
    if announced.port() == 0 {
        return Some("port 0");
    }
    if ip.is_unspecified() {
        return Some("the unspecified address");
    }
    if ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST) {
        return Some("multicast or broadcast");
    }
    if own.contains(&ip) {
        return Some("the client's own address");
    }
    if ip.is_loopback() && !server.is_loopback() {
        return Some("a loopback address");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_where_no_other_host_can_be_are_refused() {
        let own = ["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()];
        let server = "10.0.0.2".parse().unwrap();
        let judge = |text: &str| objection(text.parse().unwrap(), server, &own);
        for good in ["10.1.0.3:4433", "[fd00::2]:4433", "192.0.2.1:1"] {
            assert_eq!(judge(good), None, "{good}");
        }
        for bad in [
            "10.1.0.3:0",
            "0.0.0.0:4433",
            "[::]:4433",
            "224.0.0.1:4433",
            "[ff02::1]:4433",
            "255.255.255.255:4433",
            "127.0.0.1:4433",
            "127.8.8.8:4433",
            "[::1]:4433",
            "[::ffff:127.0.0.1]:4433",
            "10.0.0.1:4433",
            "[fd00::1]:4433",
            "[::ffff:10.0.0.1]:9",
        ] {
            assert!(judge(bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn where_the_server_is_on_this_host_loopback_is_as_good_as_any() {
        let own = ["127.0.0.1".parse().unwrap()];
        let server = "127.0.0.7".parse().unwrap();
        assert_eq!(objection("127.0.0.8:4433".parse().unwrap(), server, &own), None);
        assert!(objection("127.0.0.1:4433".parse().unwrap(), server, &own).is_some());
    }
}
