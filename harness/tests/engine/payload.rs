//! What arrives is what was sent: TCP streams, and UDP sent in trains.

use crate::pair::{Pair, addresses, delayed, direction, limited};
use anyhow::{Context, Result, ensure};
use limosa_lab::shape::ShapePlan;
use std::{
    io::{Read, Write},
    net::{IpAddr, Shutdown, TcpListener, TcpStream, UdpSocket},
    os::fd::AsRawFd,
    ptr, thread,
    time::Duration,
};

/// Bytes that repeat only after 2^24 of them.
fn content(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n ^ (n >> 8) ^ (n >> 16)) as u8).collect()
}

fn tcp_transfer(pair: &Pair, to: IpAddr, length: usize) -> Result<()> {
    let listener = pair.hosts[1].run(|| Ok(TcpListener::bind((to, 0))?))?;
    let address = listener.local_addr()?;
    let sent = content(length);
    thread::scope(|scope| {
        let receiver = scope.spawn(move || -> Result<Vec<u8>> {
            let (mut stream, _) = listener.accept()?;
            stream.set_read_timeout(Some(Duration::from_secs(20)))?;
            let mut got = Vec::new();
            stream.read_to_end(&mut got)?;
            Ok(got)
        });
        let mut stream = pair.hosts[0].run(|| Ok(TcpStream::connect(address)?))?;
        stream.write_all(&sent)?;
        stream.shutdown(Shutdown::Write)?;
        let got = receiver.join().ok().context("the receiver panicked")??;
        ensure!(got == sent, "{} bytes sent, {} others received", sent.len(), got.len());
        Ok(())
    })
}

fn tcp_over(shape: &ShapePlan, length: usize) -> Result<Pair> {
    let pair = Pair::up(shape)?;
    for to in addresses(1) {
        tcp_transfer(&pair, to, length).with_context(|| format!("TCP to {to}"))?;
    }
    let counters = pair.counters()?;
    ensure!(counters.iter().all(|c| c.refused_packets == 0), "{counters:?}");
    Ok(pair)
}

fn tcp_streams_arrive_whole_over_a_fast_link() -> Result<()> {
    tcp_over(&delayed(Duration::from_millis(2)), 32 << 20).map(drop)
}

fn tcp_streams_arrive_whole_over_a_narrow_link() -> Result<()> {
    // The queue overflows and trains are cut up into single segments.
    let pair = tcp_over(&limited(50_000_000, Duration::from_millis(5)), 4 << 20)?;
    let [there, _] = pair.counters()?;
    ensure!(there.queue_full_packets > 0, "nothing overflowed: {there:?}");
    Ok(())
}

fn tcp_streams_arrive_whole_over_a_bad_link() -> Result<()> {
    let mut shape = delayed(Duration::from_millis(2));
    shape.delay.duplicate_ratio = 0.02;
    shape.delay.corrupt_ratio = 0.005;
    shape.delay.jitter_ns = 500_000;
    shape.delay.jitter_reorders = true;
    let pair = tcp_over(&shape, 1 << 20)?;
    let [there, _] = pair.counters()?;
    ensure!(there.corrupted_packets > 0 && there.duplicated_packets > 0, "{there:?}");
    Ok(())
}

fn trains_of_datagrams_arrive_as_datagrams() -> Result<()> {
    const SEGMENT: usize = 1200;
    let pair = Pair::up(&delayed(Duration::from_millis(1)))?;
    for (limit, to) in [(None, 0), (None, 1), (Some(20_000_000), 0), (Some(20_000_000), 1)] {
        let mut shape = delayed(Duration::from_millis(1));
        shape.rate = limit.and_then(|rate| limited(rate, Duration::ZERO).rate);
        pair.engine.shape(crate::pair::LINK, Some(&direction(&shape)), None)?;
        let receiver = pair.hosts[1].run(|| Ok(UdpSocket::bind((addresses(1)[to], 0))?))?;
        receiver.set_read_timeout(Some(Duration::from_secs(2)))?;
        let sender = pair.hosts[0].run(|| Ok(UdpSocket::bind((addresses(0)[to], 0))?))?;
        sender.connect(receiver.local_addr()?)?;
        segment(&sender, SEGMENT as libc::c_int)?;
        // The last datagram of the train is shorter.
        let train = content(20 * SEGMENT + 77);
        sender.send(&train)?;
        let mut buffer = [0; 2048];
        for wanted in train.chunks(SEGMENT) {
            let length = receiver.recv(&mut buffer).context("a datagram is missing")?;
            ensure!(&buffer[..length] == wanted, "another datagram of {length} bytes came");
        }
    }
    let [there, _] = pair.counters()?;
    // 4 trains of 21 datagrams, and what IPv6 says of itself.
    ensure!((84..120).contains(&there.in_packets), "trains are counted by segments: {there:?}");
    ensure!(there.in_packets == there.out_packets + there.flying_packets, "{there:?}");
    Ok(())
}

fn segment(socket: &UdpSocket, bytes: libc::c_int) -> Result<()> {
    // SAFETY: the option's value is an int, which the kernel reads during the call.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_UDP,
            libc::UDP_SEGMENT,
            ptr::from_ref(&bytes).cast(),
            size_of_val(&bytes) as libc::socklen_t,
        )
    };
    ensure!(done == 0, "set UDP_SEGMENT: {}", std::io::Error::last_os_error());
    Ok(())
}

limosa_testkit::tests![
    tcp_streams_arrive_whole_over_a_fast_link[alone],
    tcp_streams_arrive_whole_over_a_narrow_link[alone],
    tcp_streams_arrive_whole_over_a_bad_link[alone],
    trains_of_datagrams_arrive_as_datagrams[alone],
];
