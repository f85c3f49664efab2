//! One question to a DNS server and its answer (RFC 1035, by UDP), without a cache.

use anyhow::{Context, Result, bail, ensure};
use limosa_record::node::Resolver;
use ring::rand::{SecureRandom, SystemRandom};
use simple_dns::{CLASS, Name, Packet, PacketFlag, Question, RCODE, TYPE, rdata::RData};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};
use tokio::net::UdpSocket;

/// How long an answer is waited for. Who asks again and again loses no more than this by a lost packet.
const PATIENCE: Duration = Duration::from_millis(500);

/// Longest answer without extensions (RFC 1035, section 2.3.4).
const ANSWER_BYTES: usize = 512;

/// Where the name is, by the record of the family that the DNS server is asked over.
///
/// # Errors
/// When there is no answer in time, or none that names an address.
pub(crate) async fn look_up(resolver: &Resolver) -> Result<IpAddr> {
    let any: IpAddr = match resolver.server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let mut random = [0; 2];
    SystemRandom::new().fill(&mut random).ok().context("random numbers")?;
    let id = u16::from_le_bytes(random);
    let kind = if any.is_ipv4() { TYPE::A } else { TYPE::AAAA };
    let socket = UdpSocket::bind((any, 0)).await.context("bind a socket for a question")?;
    // Only that server's answers are received.
    socket.connect(resolver.server).await.context("connect to the DNS server")?;
    socket.send(&question(id, &resolver.name, kind)?).await.context("send a question")?;
    let mut buffer = [0; ANSWER_BYTES];
    let answer = async {
        loop {
            let length = socket.recv(&mut buffer).await.context("receive an answer")?;
            if let Some(answer) = read(&buffer[..length], id, &resolver.name, kind) {
                break answer;
            }
        }
    };
    tokio::time::timeout(PATIENCE, answer).await.context("no answer in time")?
}

fn question(id: u16, name: &str, kind: TYPE) -> Result<Vec<u8>> {
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    let name = Name::new(name).with_context(|| format!("`{name}` is no name"))?;
    packet.questions.push(Question::new(name, kind.into(), CLASS::IN.into(), false));
    packet.build_bytes_vec().context("write a question")
}

/// Nothing when it is no answer to this question.
fn read(bytes: &[u8], id: u16, name: &str, kind: TYPE) -> Option<Result<IpAddr>> {
    let packet = Packet::parse(bytes).ok()?;
    let wanted = Name::new(name).ok()?;
    let same = |q: &Question<'_>| q.qname == wanted && q.qtype == kind.into();
    let ours = packet.id() == id && packet.has_flags(PacketFlag::RESPONSE);
    (ours && packet.questions.iter().any(same)).then(|| address(&packet, &wanted))
}

fn address(packet: &Packet<'_>, name: &Name<'_>) -> Result<IpAddr> {
    let code = packet.rcode();
    ensure!(code == RCODE::NoError, "the DNS server answers {code:?}");
    let of_name = packet.answers.iter().filter(|record| record.name == *name);
    let mut addresses = of_name.filter_map(|record| match &record.rdata {
        RData::A(a) => Some(IpAddr::from(Ipv4Addr::from(a.address))),
        RData::AAAA(a) => Some(IpAddr::from(Ipv6Addr::from(a.address))),
        _ => None,
    });
    let Some(address) = addresses.next() else { bail!("the DNS server knows no address") };
    Ok(address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use simple_dns::{ResourceRecord, rdata::A};

    const NAME: &str = "server.limosa.test";

    fn answer(id: u16, asked: &str, address: Option<[u8; 4]>) -> Vec<u8> {
        let question = question(id, asked, TYPE::A).unwrap();
        let mut packet = Packet::parse(&question).unwrap().into_reply();
        if let Some(address) = address {
            let a = A { address: u32::from_be_bytes(address) };
            let name = Name::new_unchecked(asked);
            packet.answers.push(ResourceRecord::new(name, CLASS::IN, 0, RData::A(a)));
        }
        packet.build_bytes_vec().unwrap()
    }

    #[test]
    fn only_an_answer_to_the_question_is_taken() {
        let good = answer(7, NAME, Some([10, 0, 0, 3]));
        let taken = read(&good, 7, NAME, TYPE::A).unwrap().unwrap();
        assert_eq!(taken, IpAddr::from([10, 0, 0, 3]));
        assert!(read(&good, 8, NAME, TYPE::A).is_none(), "another id");
        assert!(read(&answer(7, "x.test", Some([1; 4])), 7, NAME, TYPE::A).is_none());
        assert!(read(&question(7, NAME, TYPE::A).unwrap(), 7, NAME, TYPE::A).is_none());
        assert!(read(b"\x00\x07 and so on", 7, NAME, TYPE::A).is_none());
        assert!(read(&answer(7, NAME, None), 7, NAME, TYPE::A).unwrap().is_err());
    }
}
