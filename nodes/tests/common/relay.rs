//! A link in user space: relays UDP between clients and one server with a fixed delay, and can go
//! dark. Each front address looks like a server address to the client, so that a server that
//! "moves" is a relay whose one front goes dark before the other lights up.

use std::{
    collections::HashMap,
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

/// One address that leads to the server.
pub(crate) struct Front {
    /// Where clients send.
    pub(crate) address: SocketAddr,
    dark: Arc<AtomicBool>,
}

impl Front {
    /// Relays between `address` and `server`, `delay` each way, until the test ends.
    pub(crate) fn start(address: SocketAddr, server: SocketAddr, delay: Duration) -> Self {
        let socket = Arc::new(UdpSocket::bind(address).unwrap());
        let address = socket.local_addr().unwrap();
        let dark = Arc::new(AtomicBool::new(false));
        let light = dark.clone();
        thread::spawn(move || {
            let mut flows = HashMap::new();
            let mut buffer = [0; 65_536];
            while let Ok((length, client)) = socket.recv_from(&mut buffer) {
                let flow = flows.entry(client).or_insert_with(|| {
                    let back = Arc::new(UdpSocket::bind("127.0.0.1:0").unwrap());
                    back.connect(server).unwrap();
                    let (up, down) =
                        (delayed(back.clone(), None), delayed(socket.clone(), Some(client)));
                    receive(back, down, delay, light.clone());
                    up
                });
                if !light.load(Ordering::Relaxed) {
                    let _ = flow.send((Instant::now() + delay, buffer[..length].to_vec()));
                }
            }
        });
        Self { address, dark }
    }

    /// Drops everything, or no longer.
    pub(crate) fn set_dark(&self, dark: bool) {
        self.dark.store(dark, Ordering::Relaxed);
    }
}

type Datagram = (Instant, Vec<u8>);

fn receive(back: Arc<UdpSocket>, to: Sender<Datagram>, delay: Duration, dark: Arc<AtomicBool>) {
    thread::spawn(move || {
        let mut buffer = [0; 65_536];
        while let Ok(length) = back.recv(&mut buffer) {
            if !dark.load(Ordering::Relaxed) {
                let _ = to.send((Instant::now() + delay, buffer[..length].to_vec()));
            }
        }
    });
}

fn delayed(socket: Arc<UdpSocket>, to: Option<SocketAddr>) -> Sender<Datagram> {
    let (sender, receiver): (_, Receiver<Datagram>) = channel();
    thread::spawn(move || {
        for (due, datagram) in receiver {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let _ = match to {
                Some(client) => socket.send_to(&datagram, client),
                None => socket.send(&datagram),
            };
        }
    });
    sender
}
