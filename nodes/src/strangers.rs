//! Who sends to a connection id of this client and is not where the server is.
//!
//! A client never hears from noq that a packet came from an unknown address, so its socket looks at
//! each one before noq does. Connection ids tell packets of this client from all others: they are
//! made with a key (noq's `HashedConnectionIdGenerator`), so that also one that the server has never
//! used before is known. They do not prove who sends: whoever has seen a packet can send it again.

use noq::{ConnectionId, ConnectionIdGenerator as _, EndpointConfig};
use noq_proto::HashedConnectionIdGenerator;
use ring::rand::SecureRandom;
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Looks at the packets of one endpoint.
#[derive(Debug)]
pub(crate) struct Strangers {
    key: u64,
    home: Mutex<SocketAddr>,
    tell: UnboundedSender<SocketAddr>,
}

impl Strangers {
    /// A server at this address, and where strangers are told.
    pub(crate) fn new(
        home: SocketAddr,
    ) -> anyhow::Result<(Arc<Self>, UnboundedReceiver<SocketAddr>)> {
        let mut key = [0; 8];
        let filled = ring::rand::SystemRandom::new().fill(&mut key);
        filled.map_err(|_| anyhow::anyhow!("random numbers of the kernel"))?;
        let (tell, told) = unbounded_channel();
        let key = u64::from_ne_bytes(key);
        Ok((Arc::new(Self { key, home: Mutex::new(home), tell }), told))
    }

    /// Settings of the endpoint whose packets are looked at.
    pub(crate) fn endpoint(&self) -> EndpointConfig {
        let (key, mut config) = (self.key, EndpointConfig::default());
        config
            .cid_generator(Arc::new(move || Box::new(HashedConnectionIdGenerator::from_key(key))));
        config
    }

    /// The server is there from now on.
    pub(crate) fn at_home(&self, home: SocketAddr) {
        *self.home.lock().unwrap_or_else(PoisonError::into_inner) = home;
    }

    /// Whether the server is there.
    pub(crate) fn is_home(&self, address: SocketAddr) -> bool {
        address == *self.home.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at a datagram.
    pub(crate) fn look(&self, from: SocketAddr, datagram: &[u8]) {
        if self.is_home(from) {
            return;
        }
        let ids = HashedConnectionIdGenerator::from_key(self.key);
        // With the first bit set it has a long header and is of no established connection.
        let known = datagram
            .split_first()
            .filter(|(first, _)| **first & 0x80 == 0)
            .and_then(|(_, rest)| rest.get(..ids.cid_len()))
            .is_some_and(|id| ids.validate(ConnectionId::new(id)).is_ok());
        if known {
            // Nobody listens any more when the client is about to end.
            let _ = self.tell.send(from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stranger_is_who_sends_to_a_connection_id_of_this_client_from_elsewhere() {
        let [home, away] = [1, 2].map(|n| SocketAddr::from(([10, 0, 0, n], 4433)));
        let (strangers, mut told) = Strangers::new(home).unwrap();
        let id = HashedConnectionIdGenerator::from_key(strangers.key).generate_cid();
        let packet = |first, id: &[u8]| [&[first][..], id, b"rest"].concat();
        strangers.look(home, &packet(0x40, &id));
        strangers.look(away, &packet(0xc0, &id));
        strangers.look(away, &packet(0x40, &[7; 8]));
        strangers.look(away, &[0x40, 7]);
        strangers.look(away, &[]);
        assert!(told.try_recv().is_err(), "home, a long header, another's id, a stump, nothing");
        strangers.look(away, &packet(0x41, &id));
        assert_eq!(told.try_recv(), Ok(away));
        strangers.at_home(away);
        strangers.look(away, &packet(0x41, &id));
        assert!(told.try_recv().is_err());
    }
}
