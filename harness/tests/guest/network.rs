//! Small networks built with the `sys` modules on a real kernel.
//!
//! All need root, and those marked "needs root and netem" also netem: the guest test runs them
//! all. Nothing outlives a test, since descriptors of this process hold all of it.

use anyhow::{Context, Result, bail, ensure};
use limosa_lab::sys::{
    flood::{Flood, Flow, flood},
    link::{self, End, LOOPBACK, MAIN_TABLE, Mac, Route},
    netlink::Refused,
    netns::{self, Netns, Role},
    offload,
    ping::{Ping, Rtt, ping},
    qdisc::{self, Loss, Netem, Qdisc, Tbf},
};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    thread,
    time::{Duration, Instant},
};

/// Addresses of host `n` in network `net`, both families with their prefix lengths.
fn addresses(net: u8, n: u8) -> [(IpAddr, u8); 2] {
    let v6 = Ipv6Addr::new(0xfd00, 0, 0, net.into(), 0, 0, 0, n.into());
    [(Ipv4Addr::new(10, net, 0, n).into(), 24), (v6.into(), 64)]
}

fn everywhere(v6: bool) -> (IpAddr, u8) {
    if v6 { (Ipv6Addr::UNSPECIFIED.into(), 0) } else { (Ipv4Addr::UNSPECIFIED.into(), 0) }
}

fn mac(net: u8, n: u8) -> Mac {
    [2, 0, 0, 0, net, n]
}

fn end(netns: &Netns, name: &str, mac: Mac) -> End {
    End { index: netns.new_index(), name: name.into(), mac, mtu_bytes: 1500 }
}

fn create<const N: usize>(roles: [Role; N]) -> Result<[Netns; N]> {
    Netns::create(&roles)?.try_into().ok().context("another number of namespaces")
}

/// A shaped link: a – `ma` [`ra` – `rb`] `mb` – b, rate on `ra` and `rb`, delay on `mb` and `ma`.
struct Shaped {
    middle: Netns,
    ends: [u32; 2],
    /// Rate stages of a to b and of b to a.
    rate: [u32; 2],
    /// Delay stages of a to b and of b to a.
    delay: [u32; 2],
}

impl Shaped {
    fn between(a: (&Netns, &str, Mac), b: (&Netns, &str, Mac)) -> Result<Self> {
        let [middle] = create([Role::Silent])?;
        let ends = [a, b].map(|(netns, name, mac)| end(netns, name, mac));
        let [ma, mb, ra, rb] = ["ma", "mb", "ra", "rb"]
            .map(|n| end(&middle, n, mac(n.as_bytes()[0], n.as_bytes()[1])));
        let [bridge_a, bridge_b] = [middle.new_index(), middle.new_index()];
        middle.apply([
            link::bridge(bridge_a, "bridge1"),
            link::bridge(bridge_b, "bridge2"),
            link::veth(&ma, Some(bridge_a), a.0, &ends[0]),
            link::veth(&mb, Some(bridge_b), b.0, &ends[1]),
            link::veth(&ra, Some(bridge_a), &middle, &rb),
            link::enslave(rb.index, Some(bridge_b)),
            link::set_up(rb.index, true),
        ])?;
        for ((netns, name, _), end) in [a, b].into_iter().zip(&ends) {
            netns.apply([link::set_up(end.index, true)])?;
            ensure!(offload::disable(netns, name)?.merging.is_empty(), "offloads of {name}");
        }
        for name in ["ma", "mb", "ra", "rb"] {
            ensure!(offload::disable(&middle, name)?.merging.is_empty(), "offloads of {name}");
        }
        let (rate, delay) = ([ra.index, rb.index], [mb.index, ma.index]);
        Ok(Self { middle, ends: ends.map(|e| e.index), rate, delay })
    }

    fn set(&self, index: u32, qdisc: Qdisc) -> Result<()> {
        self.middle.apply([qdisc::set(index, &qdisc)])
    }

    fn status(&self, index: u32) -> Result<qdisc::Status> {
        let all = qdisc::list(&self.middle)?;
        all.into_iter().find(|s| s.link == index).context("no such discipline")
    }
}

/// Two hosts on a shaped link, addressed in network 1 as 1 and 2.
fn pair() -> Result<([Netns; 2], Shaped)> {
    let [a, b] = create([Role::Host; 2])?;
    let link = Shaped::between((&a, "eth0", mac(1, 1)), (&b, "eth0", mac(1, 2)))?;
    for (netns, index, me, other) in [(&a, link.ends[0], 1, 2), (&b, link.ends[1], 2, 1)] {
        let own = addresses(1, me).map(|(a, p)| link::add_address(index, a, p));
        let others = addresses(1, other).map(|(a, _)| link::set_neighbour(index, a, mac(1, other)));
        netns.apply(own.into_iter().chain(others))?;
        link::wait_ready(netns, &[index], Duration::from_secs(5))?;
    }
    let stages = [link.rate, link.delay].concat();
    link::wait_ready(&link.middle, &stages, Duration::from_secs(5))?;
    Ok(([a, b], link))
}

fn echo(from: &Netns, source: Option<IpAddr>, to: IpAddr, count: u16) -> Result<Rtt> {
    let (interval, timeout) = (Duration::from_millis(20), Duration::from_secs(2));
    ping(from, &Ping { to, from: source, count, interval, timeout })
}

fn all_answered(from: &Netns, source: Option<IpAddr>, to: IpAddr) -> Result<()> {
    let lost = echo(from, source, to, 3)?.lost();
    ensure!(lost == 0, "{lost} of 3 echoes to {to} lost");
    Ok(())
}

fn offer(ends: &[Netns; 2], rate_bps: u64, seconds: u64) -> Result<Flow> {
    let what = Flood {
        from: addresses(1, 1)[0].0,
        to: addresses(1, 2)[0].0,
        rate_bps,
        frame_bytes: 1242,
        duration: Duration::from_secs(seconds),
        warmup: Duration::from_secs(1),
    };
    flood(&ends[0], &ends[1], &what)
}

fn bridge_router_and_source_routing() -> Result<()> {
    // client – switch – router – server, which has two interfaces, in networks 2 and 3.
    let [client, switch, router, server] =
        create([Role::Host, Role::Silent, Role::Router, Role::Host])?;
    let bridge = switch.new_index();
    let c0 = end(&client, "eth0", mac(1, 1));
    let [r1, r2, r3] = [1, 2, 3].map(|n| end(&router, &format!("eth{n}"), mac(n, 254)));
    let [s2, s3] = [2, 3].map(|n| end(&server, &format!("eth{n}"), mac(n, 1)));
    let [p0, p1] = [1, 2].map(|n| end(&switch, &format!("p{n}"), mac(0, n)));
    switch.apply([
        link::bridge(bridge, "br0"),
        link::veth(&p0, Some(bridge), &client, &c0),
        link::veth(&p1, Some(bridge), &router, &r1),
    ])?;
    router.apply([link::veth(&r2, None, &server, &s2), link::veth(&r3, None, &server, &s3)])?;
    let up = |netns: &Netns, end: &End, net, n| {
        let own = addresses(net, n).map(|(a, p)| link::add_address(end.index, a, p));
        let first = [link::set_up(LOOPBACK, true), link::set_up(end.index, true)];
        netns.apply(first.into_iter().chain(own))
    };
    up(&client, &c0, 1, 1)?;
    for (n, end) in [(1, &r1), (2, &r2), (3, &r3)] {
        up(&router, end, n, 254)?;
    }
    up(&server, &s2, 2, 1)?;
    up(&server, &s3, 3, 1)?;
    for (netns, ends) in
        [(&switch, vec![&p0, &p1]), (&router, vec![&r1, &r2, &r3]), (&server, vec![&s2, &s3])]
    {
        let indices: Vec<u32> = ends.iter().map(|e| e.index).collect();
        link::wait_ready(netns, &indices, Duration::from_secs(5))?;
    }
    let sent = |name: &str| -> Result<u64> {
        let links = link::list(&server)?;
        Ok(links.iter().find(|l| l.name == name).context("no link")?.counters.tx_packets)
    };
    for v6 in [false, true] {
        let address = |net, n| addresses(net, n)[usize::from(v6)].0;
        let default = |net, link, table| Route {
            to: everywhere(v6),
            via: Some(address(net, 254)),
            link,
            table,
            source: None,
        };
        client.apply([link::set_route(&default(1, c0.index, MAIN_TABLE))])?;
        let second = address(3, 1);
        server.apply([
            link::set_route(&default(2, s2.index, MAIN_TABLE)),
            link::set_route(&default(3, s3.index, 103)),
            link::add_rule(second, 103, 100),
        ])?;
        all_answered(&client, None, address(2, 1))?;
        all_answered(&client, None, second)?;
        let before = sent("eth3")?;
        all_answered(&server, Some(second), address(1, 1))?;
        ensure!(sent("eth3")? >= before + 3, "the rule does not decide");
        server.apply([link::delete_rule(second, 103, 100)])?;
        let before = sent("eth2")?;
        all_answered(&server, Some(second), address(1, 1))?;
        ensure!(sent("eth2")? >= before + 3, "the main table does not decide");
        server.apply([link::delete_route(&default(3, s3.index, 103))])?;
    }
    router.apply([link::set_up(r2.index, false)])?;
    ensure!(echo(&client, None, addresses(2, 1)[0].0, 1)?.lost() == 1, "a link that is down");
    Ok(())
}

fn refusals_name_the_attempt() -> Result<()> {
    let [netns] = create([Role::Host])?;
    let (address, prefix_len) = addresses(1, 1)[0];
    let wrong = [link::set_up(LOOPBACK, true), link::add_address(77, address, prefix_len)];
    let error = netns.apply(wrong).expect_err("there is no interface 77");
    let refused = error.downcast_ref::<Refused>().context("of another type")?;
    assert_eq!(refused.what, "add address 10.1.0.1/24 to interface 77");
    assert_eq!(refused.source.raw_os_error(), Some(libc::ENODEV));
    println!("{error:#}");
    match netns.apply([qdisc::set(LOOPBACK, &Qdisc::Netem(Netem::default()))]) {
        Ok(()) => println!("this kernel has netem"),
        Err(e) => println!("{e:#}"),
    }
    Ok(())
}

fn a_pinned_namespace_survives_its_handle() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("host");
    let [netns] = create([Role::Host])?;
    let bridge = netns.new_index();
    netns.apply([link::bridge(bridge, "mark")])?;
    netns.pin(&path)?;
    drop(netns);
    let again = Netns::open(&path)?;
    netns::unpin(&path)?;
    ensure!(link::list(&again)?.iter().any(|l| l.name == "mark"), "another namespace");
    ensure!(again.new_index() > bridge, "a number that is taken");
    ensure!(!path.exists(), "the file is still there");
    Ok(())
}

fn a_handle_works_in_the_callers_runtime() -> Result<()> {
    let [netns] = create([Role::Host])?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let handle = netns.rtnetlink()?;
        handle.link().add(rtnetlink::LinkBridge::new("mark").build()).execute().await?;
        ensure!(link::list(&netns)?.iter().any(|l| l.name == "mark"), "in another namespace");
        Ok(())
    })
}

fn offloads_read_back_off() -> Result<()> {
    let ([a, _b], link) = pair()?;
    let force = offload::read(&a, "eth0")?;
    println!("{force:?}");
    ensure!(force.merging.is_empty() && force.tx_checksum, "{force:?}");
    ensure!(offload::read(&link.middle, "rb")?.merging.is_empty(), "rb");
    Ok(())
}

fn rate_and_queue_are_those_of_tbf() -> Result<()> {
    let (ends, link) = pair()?;
    // A queue of 422 kB at 100 Mbit/s, scaled to a rate that emulated machines keep up with.
    let tbf = Tbf { rate_bps: 10_000_000, burst_bytes: 40_000, limit_bytes: 42_200 };
    link.set(link.rate[0], Qdisc::Tbf(tbf))?;
    let status = link.status(link.rate[0])?;
    let Qdisc::Tbf(read) = status.qdisc else { bail!("{status:?}") };
    ensure!(read.burst_bytes.abs_diff(tbf.burst_bytes) <= 2, "{read:?}");
    ensure!(Tbf { burst_bytes: tbf.burst_bytes, ..read } == tbf, "{read:?}");

    // A machine that is busy with other things makes a wait longer and a rate lower, never the
    // other way round: the best rate of some tries is the shaper's own, and the queue is measured
    // in bytes, which do not depend on the machine.
    let (mut best_rate, mut most_bytes) = (0.0_f64, 0);
    for _ in 0..4 {
        let before = link.status(link.rate[0])?.counters;
        let flow = thread::scope(|scope| {
            let flow = scope.spawn(|| offer(&ends, 15_000_000, 4));
            while !flow.is_finished() {
                most_bytes = most_bytes.max(link.status(link.rate[0])?.counters.backlog_bytes);
                thread::sleep(Duration::from_millis(5));
            }
            flow.join().expect("no panic")
        })?;
        let after = link.status(link.rate[0])?.counters;
        let rate = flow.rate_bps.context("nothing arrived")?;
        let wait = flow.max_ns.context("nothing arrived")? - flow.min_ns.unwrap_or(0);
        println!("{rate:.0} bit/s of 10 Mbit/s, waited up to {wait} ns of 33.8 ms, {after:?}");
        let lost = flow.sent - flow.received.len() as u64;
        let dropped = after.dropped_packets - before.dropped_packets;
        ensure!(u64::from(dropped) == lost, "{lost} lost, {after:?}");
        ensure!(wait > 32_000_000, "longest wait {wait} ns");
        best_rate = if (rate - 1e7).abs() < (best_rate - 1e7).abs() { rate } else { best_rate };
        if (best_rate / 1e7 - 1.0).abs() < 0.03 {
            break;
        }
    }
    println!("queue of up to {most_bytes} bytes");
    ensure!((best_rate / 1e7 - 1.0).abs() < 0.03, "rate {best_rate}");
    ensure!((42_200 - 1242..=42_200).contains(&most_bytes), "queue of {most_bytes} bytes");
    Ok(())
}

fn a_fast_link_prints_its_rate() -> Result<()> {
    let (ends, link) = pair()?;
    let tbf = Tbf { rate_bps: 100_000_000, burst_bytes: 400_000, limit_bytes: 422_000 };
    link.set(link.rate[0], Qdisc::Tbf(tbf))?;
    let flow = offer(&ends, 130_000_000, 3)?;
    let wait = flow.max_ns.zip(flow.min_ns).map(|(max, min)| max - min);
    println!("{:?} bit/s of 100 Mbit/s, waited up to {wait:?} ns of 33.8 ms", flow.rate_bps);
    Ok(())
}

fn delay_of_25_ms_each_way() -> Result<()> {
    let ([a, _b], link) = pair()?;
    for stage in link.delay {
        link.set(stage, Qdisc::Netem(Netem { delay_ns: 25_000_000, ..Netem::default() }))?;
    }
    for (to, _) in addresses(1, 2) {
        let rtt = echo(&a, None, to, 50)?;
        let (min, median) = (rtt.min_ns().context("lost")?, rtt.median_ns().context("lost")?);
        println!("{to}: min {min} median {median} max {:?} ns", rtt.max_ns());
        ensure!((50_000_000..51_500_000).contains(&min), "min {min} ns");
        ensure!((50_000_000..52_500_000).contains(&median), "median {median} ns");
        ensure!(rtt.lost() == 0, "{} lost", rtt.lost());
    }
    Ok(())
}

fn changing_a_delay_keeps_the_packets() -> Result<()> {
    let ([a, _b], link) = pair()?;
    let netem = |ms: u64| Qdisc::Netem(Netem { delay_ns: ms * 1_000_000, ..Netem::default() });
    link.set(link.delay[0], netem(300))?;
    let to = addresses(1, 2)[0].0;
    thread::scope(|scope| {
        let pinging = scope.spawn(|| echo(&a, None, to, 5));
        thread::sleep(Duration::from_millis(150));
        link.set(link.delay[0], netem(400))?;
        let rtt = pinging.join().expect("no panic")?;
        println!("{rtt:?}");
        ensure!(rtt.lost() == 0, "{} lost in a change", rtt.lost());
        let first = rtt.min_ns().context("lost")?;
        ensure!((300_000_000..350_000_000).contains(&first), "{first} ns");
        Ok(())
    })
}

fn jitter_keeps_the_order_unless_told_otherwise() -> Result<()> {
    let (ends, link) = pair()?;
    for jitter_reorders in [false, true] {
        let netem = Netem {
            delay_ns: 20_000_000,
            jitter_ns: 10_000_000,
            jitter_reorders,
            limit_packets: 10_000,
            ..Netem::default()
        };
        link.set(link.delay[0], Qdisc::Netem(netem))?;
        let flow = offer(&ends, 2_000_000, 2)?;
        let in_order = flow.received.is_sorted();
        println!("reorders {jitter_reorders}: {:?} to {:?} ns", flow.min_ns, flow.max_ns);
        ensure!(in_order != jitter_reorders, "in order: {in_order}");
    }
    Ok(())
}

fn loss_is_what_was_asked_for_and_repeats_with_its_seed() -> Result<()> {
    let (ends, link) = pair()?;
    // The hosts announce their IPv6 groups when they come up; that must not draw random numbers.
    thread::sleep(Duration::from_secs(3));
    let mut runs = Vec::new();
    for seed in [7, 7, 8] {
        let seed = Some(seed);
        let netem = Netem {
            loss: Loss::Random { ratio: 0.1 },
            seed,
            limit_packets: 10_000,
            ..Netem::default()
        };
        link.set(link.delay[0], Qdisc::Netem(netem))?;
        let Qdisc::Netem(read) = link.status(link.delay[0])?.qdisc else { bail!("no netem") };
        let Loss::Random { ratio } = read.loss else { bail!("{read:?}") };
        ensure!((ratio - 0.1).abs() < 1e-9, "{read:?}");
        ensure!(read.seed == seed, "this kernel has no seeds (it needs 6.6): {read:?}");
        let flow = offer(&ends, 10_000_000, 3)?;
        // 99.9 % of all binomial samples are within 3.29 standard deviations.
        let (n, lost) = (flow.sent as f64, flow.sent as f64 - flow.received.len() as f64);
        let bound = 3.29 * (n * 0.1 * 0.9).sqrt();
        println!("seed {seed:?}: {lost} of {n} lost, expected {:.0} ± {bound:.0}", n * 0.1);
        ensure!((lost - n * 0.1).abs() < bound, "{lost} of {n}");
        runs.push(flow);
    }
    let shared = runs.iter().map(|f| f.sent).min().unwrap_or(0);
    let pattern =
        |f: &Flow| f.received.iter().copied().filter(|s| *s < shared).collect::<Vec<u64>>();
    ensure!(shared > 1000, "{shared} packets");
    ensure!(pattern(&runs[0]) == pattern(&runs[1]), "the same seed, another pattern");
    ensure!(pattern(&runs[0]) != pattern(&runs[2]), "another seed, the same pattern");
    Ok(())
}

fn a_hundred_hosts_on_one_switch() -> Result<()> {
    const HOSTS: u8 = 100;
    let cpu = || rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    for round in 0..5 {
        let (start, cpu_start) = (Instant::now(), cpu());
        let mut roles = vec![Role::Host; HOSTS.into()];
        roles.push(Role::Silent);
        let mut hosts = Netns::create(&roles)?;
        let switch = hosts.pop().context("no switch")?;
        let namespaces = start.elapsed();

        let bridge = switch.new_index();
        let ends: Vec<End> =
            (1..=HOSTS).zip(&hosts).map(|(n, h)| end(h, "eth0", mac(1, n))).collect();
        let mut ports = Vec::new();
        let mut batch = vec![link::bridge(bridge, "br0")];
        for ((host, far), n) in hosts.iter().zip(&ends).zip(1..) {
            let port = end(&switch, &format!("p{n}"), mac(0, n));
            batch.push(link::veth(&port, Some(bridge), host, far));
            ports.push(port.index);
        }
        switch.apply(batch)?;
        let links = start.elapsed();

        for ((host, end), n) in hosts.iter().zip(&ends).zip(1..) {
            let own = addresses(1, n).map(|(a, p)| link::add_address(end.index, a, p));
            let route = Route {
                to: everywhere(false),
                via: Some(addresses(1, if n == 1 { 2 } else { 1 })[0].0),
                link: end.index,
                table: MAIN_TABLE,
                source: None,
            };
            let others = (1..=HOSTS).filter(|m| *m != n).flat_map(|m| {
                addresses(1, m).map(|(a, _)| link::set_neighbour(end.index, a, mac(1, m)))
            });
            let first = [link::set_up(LOOPBACK, true), link::set_up(end.index, true)];
            let batch = first.into_iter().chain(own).chain([link::set_route(&route)]).chain(others);
            host.apply(batch)?;
        }
        let addressed = start.elapsed();
        for host in &hosts {
            offload::disable(host, "eth0")?;
        }
        for n in 1..=HOSTS {
            offload::disable(&switch, &format!("p{n}"))?;
        }
        let offloaded = start.elapsed();
        for (host, end) in hosts.iter().zip(&ends) {
            link::wait_ready(host, &[end.index], Duration::from_secs(5))?;
        }
        link::wait_ready(&switch, &ports, Duration::from_secs(5))?;
        let (up, cpu_up) = (start.elapsed(), (cpu() - cpu_start).tv_nsec / 1_000_000);

        let mut entries = 0;
        for host in &hosts {
            entries += link::neighbours(host, false)?.len() + link::neighbours(host, true)?.len();
        }
        ensure!(entries == 2 * 9_900, "{entries} neighbours");
        all_answered(&hosts[0], None, addresses(1, HOSTS)[0].0)?;
        all_answered(&hosts[99], None, addresses(1, 1)[1].0)?;

        let start = Instant::now();
        drop(hosts);
        let dropped = start.elapsed();
        while link::list(&switch)?.iter().any(|l| l.name.starts_with('p')) {
            thread::sleep(Duration::from_micros(500));
        }
        let down = start.elapsed();
        println!(
            "round {round}: up {up:.1?}, {cpu_up} ms of CPU (namespaces {namespaces:.1?}, links \
             {links:.1?}, addresses, routes and 19,800 neighbours {addressed:.1?}, offloads \
             {offloaded:.1?}, ready {up:.1?}); down {down:.1?} (descriptors closed after \
             {dropped:.1?})"
        );
    }
    Ok(())
}

limosa_testkit::tests![
    bridge_router_and_source_routing[inside],
    refusals_name_the_attempt[inside],
    a_pinned_namespace_survives_its_handle[inside],
    a_handle_works_in_the_callers_runtime[inside],
    offloads_read_back_off[inside],
    rate_and_queue_are_those_of_tbf[inside, compared],
    a_fast_link_prints_its_rate[inside],
    delay_of_25_ms_each_way[inside, compared],
    changing_a_delay_keeps_the_packets[inside, compared],
    jitter_keeps_the_order_unless_told_otherwise[inside, compared],
    loss_is_what_was_asked_for_and_repeats_with_its_seed[inside, compared],
    a_hundred_hosts_on_one_switch[inside],
];
