use super::*;
use proptest::prelude::*;

/// A train as the kernel hands it over: headers of the whole, open checksum.
fn train(v6: bool, tcp: bool, segment_bytes: u16, payload: &[u8]) -> Vec<u8> {
    let transport_bytes = if tcp { 32 } else { 8 };
    let ip_bytes = if v6 { 40 } else { 20 };
    let length = transport_bytes + payload.len();
    let mut bytes = vec![0; HEADER_BYTES];
    bytes[FLAGS] = NEEDS_CSUM;
    bytes[GSO_TYPE] = match (tcp, v6) {
        (true, false) => GSO_TCPV4,
        (true, true) => GSO_TCPV6,
        _ => GSO_UDP_L4,
    };
    put(&mut bytes, GSO_SIZE, segment_bytes);
    put(&mut bytes, CSUM_START, (ETHERNET + ip_bytes) as u16);
    put(&mut bytes, CSUM_OFFSET, if tcp { 16 } else { 6 });
    bytes.extend([2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1]);
    let addresses: Vec<u8> = if v6 {
        bytes.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
        bytes.extend((length as u16).to_be_bytes());
        bytes.extend([if tcp { 6 } else { 17 }, 64]);
        (0..32).map(|n| n * 7 + 1).collect()
    } else {
        bytes.extend([0x08, 0x00, 0x45, 0]);
        bytes.extend(((ip_bytes + length) as u16).to_be_bytes());
        bytes.extend([0xff, 0xfe, 0x40, 0, 64, if tcp { 6 } else { 17 }, 0, 0]);
        vec![10, 1, 0, 1, 10, 1, 0, 2]
    };
    bytes.extend(&addresses);
    if !v6 {
        let ip = HEADER_BYTES + ETHERNET;
        let check = !sum(&bytes[ip..ip + 20]);
        put_be(&mut bytes, ip + 10, check);
    }
    let open = pseudo(&addresses, if tcp { 6 } else { 17 }, length);
    let mut ports = vec![0x12, 0x34, 0x11, 0x51];
    if tcp {
        // Sequence number close to its wrap; CWR, ACK, PSH, FIN; 12 bytes of options.
        ports.extend([0xff, 0xff, 0xff, 0x00, 1, 2, 3, 4, 0x80, 0x99, 0x20, 0]);
        ports.extend(open.to_be_bytes());
        ports.extend([0, 0, 1, 1, 8, 10, 0, 0, 0, 9, 0, 0, 0, 5]);
    } else {
        ports.extend((length as u16).to_be_bytes());
        ports.extend(open.to_be_bytes());
    }
    bytes.extend(ports);
    bytes.extend(payload);
    bytes
}

fn pseudo(addresses: &[u8], protocol: u16, length: usize) -> u16 {
    let rest = [(length as u16).to_be_bytes(), protocol.to_be_bytes()].concat();
    sum(&[addresses, &rest].concat())
}

/// What a receiver checks: lengths and both checksums. Returns identification, sequence number,
/// flags and payload, where there are such.
fn received(frame: &Frame) -> (u16, u32, u8, Vec<u8>) {
    let frame = &frame.bytes[HEADER_BYTES..];
    let ip = &frame[ETHERNET..];
    let (id, protocol, addresses, rest) = if frame[12] == 0x08 {
        assert_eq!(get_be(ip, 2) as usize, ip.len());
        assert_eq!(sum(&ip[..20]), 0xffff, "IPv4 checksum");
        (get_be(ip, 4), ip[9], &ip[12..20], &ip[20..])
    } else {
        assert_eq!(get_be(ip, 4) as usize, ip.len() - 40);
        (0, ip[6], &ip[8..40], &ip[40..])
    };
    let all = u32::from(sum(rest)) + u32::from(pseudo(addresses, protocol.into(), rest.len()));
    assert_eq!(fold(all), 0xffff, "transport checksum");
    if protocol == 17 {
        assert_eq!(get_be(rest, 4) as usize, rest.len());
        return (id, 0, 0, rest[8..].to_vec());
    }
    let number = u32::from_be_bytes(rest[4..8].try_into().unwrap());
    (id, number, rest[13], rest[32..].to_vec())
}

fn read(bytes: &[u8]) -> Frame {
    let mut frame = Frame::default();
    frame.fill(bytes);
    frame
}

/// A run as the far end would read it.
fn written(frame: &Frame, run: Range<u16>) -> Frame {
    read(&frame.run(run).parts().concat())
}

proptest! {
    /// Every segment is what the kernel's own segmentation makes of the train, whether it is cut
    /// out alone or comes out of a shorter train.
    #[test]
    fn segments_and_shorter_trains_are_whole(
        v6: bool, tcp: bool,
        segment_bytes in 1_u16..1460,
        payload in prop::collection::vec(any::<u8>(), 1..20_000),
        cut in (0.0..1.0_f64, 0.0..1.0_f64),
    ) {
        let frame = read(&train(v6, tcp, segment_bytes, &payload));
        let count = payload.len().div_ceil(segment_bytes.into()) as u16;
        prop_assert_eq!(frame.segments(), count);
        let start = (f64::from(count) * cut.0) as u16;
        let end = start + 1 + (f64::from(count - start - 1) * cut.1) as u16;
        let shorter = written(&frame, start..end);
        prop_assert_eq!(shorter.segments(), end - start);
        for n in start..end {
            let alone = frame.complete(n);
            prop_assert_eq!(alone.bytes.len() - HEADER_BYTES, frame.wire_bytes(n) as usize);
            let (id, number, flags, body) = received(&alone);
            let at = usize::from(n) * usize::from(segment_bytes);
            let wanted = &payload[at..payload.len().min(at + usize::from(segment_bytes))];
            prop_assert_eq!(&body, wanted);
            if !v6 {
                prop_assert_eq!(id, 0xfffe_u16.wrapping_add(n));
            }
            if tcp {
                prop_assert_eq!(number, 0xffff_ff00_u32.wrapping_add(at as u32));
                let expected = 0x10
                    | if n == 0 { CWR } else { 0 }
                    | if n == count - 1 { FIN_PSH } else { 0 };
                prop_assert_eq!(flags, expected);
            }
            prop_assert_eq!(received(&shorter.complete(n - start)), (id, number, flags, body));
        }
    }
}

#[test]
fn an_untouched_train_is_written_as_it_came() {
    let bytes = train(false, false, 1000, &[5; 3500]);
    let frame = read(&bytes);
    let mut wanted = bytes;
    put(&mut wanted, HDR_LEN, 42);
    assert_eq!(frame.run(0..4).parts().concat(), wanted);
}

#[test]
fn a_single_segment_is_no_train_any_more() {
    let frame = read(&train(true, false, 1000, &[5; 3500]));
    let last = frame.run(3..4).parts().concat();
    assert_eq!((last[GSO_TYPE], get(&last, GSO_SIZE)), (0, 0));
    assert_eq!(last.len(), HEADER_BYTES + ETHERNET + 40 + 8 + 500);
}

#[test]
fn what_is_no_train_passes_as_it_is() {
    let mut arp = vec![0; HEADER_BYTES + 42];
    arp[HEADER_BYTES + 13] = 6;
    let mut vlan = train(false, true, 100, &[1; 500]);
    vlan[HEADER_BYTES + 12..HEADER_BYTES + 14].copy_from_slice(&[0x81, 0]);
    for bytes in [arp, vlan, vec![1; HEADER_BYTES + 1], train(false, true, 0, &[1; 500])] {
        let frame = read(&bytes);
        assert_eq!(frame.segments(), 1);
        assert_eq!(frame.run(0..1).parts().concat(), bytes);
    }
}

#[test]
fn nonsense_of_any_kind_is_no_panic() {
    let mut random = Random::new(1, "nonsense");
    let good = train(false, true, 100, &[1; 500]);
    for _ in 0..20_000 {
        let mut bytes = good.clone();
        for _ in 0..4 {
            let at = random.below(bytes.len().min(90) as u64) as usize;
            bytes[at] = random.below(256) as u8;
        }
        bytes.truncate(HEADER_BYTES + 1 + random.below(bytes.len() as u64) as usize);
        let frame = Rc::new(read(&bytes));
        for segment in 0..frame.segments() {
            frame.run(segment..segment + 1);
            Packet { frame: Rc::clone(&frame), segment }.corrupt(&mut random);
        }
    }
}

#[test]
fn corruption_turns_one_bit_over_and_is_noticed() {
    let mut random = Random::new(1, "corrupt");
    let frame = Rc::new(read(&train(false, false, 700, &[9; 2000])));
    let whole = frame.complete(1);
    let mut packet = Packet { frame, segment: 1 };
    packet.corrupt(&mut random);
    let turned = packet.frame.bytes.iter().zip(&whole.bytes).map(|(a, b)| (a ^ b).count_ones());
    assert_eq!(turned.sum::<u32>(), 1);
    assert_eq!(packet.frame.bytes[..HEADER_BYTES], [0; HEADER_BYTES], "the checksum is real");
}
