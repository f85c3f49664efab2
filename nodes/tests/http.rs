//! The client of the scheme `http` against a server that is not Limosa's own.

#[expect(dead_code, reason = "each test binary uses a part of it")]
mod common;

use common::{Pair, ask};
use limosa_record::{
    node::{Congestion, Profile, Request, Scheme},
    row::{self, NodeThroughputRow},
};
use std::{
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    thread::{self, JoinHandle},
};

const SIZE: usize = 3_500_000;

/// Answers range requests of one connection, the last of `answers` not; returns what was asked for.
fn serve(pair: &mut Pair, answers: usize, status: &'static str) -> JoinHandle<Vec<String>> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    pair.connect = listener.local_addr().unwrap();
    let content = pair.content.clone();
    thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut writer = stream.try_clone().unwrap();
        let mut asked = Vec::new();
        let mut lines = BufReader::new(stream).lines();
        while asked.len() < answers {
            let head: Vec<String> =
                lines.by_ref().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
            let Some(range) = head.iter().find_map(|l| {
                l.to_lowercase().strip_prefix("range: bytes=").map(ToOwned::to_owned)
            }) else {
                break;
            };
            let (from, to) = range.split_once('-').unwrap();
            let (from, to): (usize, usize) = (from.parse().unwrap(), to.parse().unwrap());
            let to = to.min(content.len() - 1);
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Range: bytes {from}-{to}/{}\r\nContent-Length: {}\r\n\r\n",
                content.len(),
                to + 1 - from
            );
            asked.push(range);
            writer.write_all(head.as_bytes()).unwrap();
            // In two parts, so that a body does not come with its head.
            let (first, second) = content[from..=to].split_at((to - from) / 2);
            if writer.write_all(first).and_then(|()| writer.write_all(second)).is_err() {
                break;
            }
        }
        asked
    })
}

fn download(answers: usize, status: &'static str) -> (Pair, Vec<String>, anyhow::Result<()>) {
    let mut pair = Pair::new(Scheme::Http, Congestion::Cubic, Profile::Modern, SIZE);
    let server = serve(&mut pair, answers, status);
    let client = pair.start_client("/random");
    ask(pair.client_control, &Request::Start);
    let outcome = client.join().unwrap();
    (pair, server.join().unwrap(), outcome)
}

#[test]
fn the_body_comes_in_ranges_over_one_connection() {
    let (pair, asked, outcome) = download(4, "206 Partial Content");
    outcome.unwrap();
    let result = pair.result();
    assert_eq!((result.bytes, result.reconnects), (SIZE as u64, 0));
    assert_eq!(result.sha256, Some(pair.sha256.clone()));
    assert_eq!(asked, ["0-999999", "1000000-1999999", "2000000-2999999", "3000000-3499999"]);
    let rows: Vec<NodeThroughputRow> =
        row::read(&pair.client_folder().join("throughput.csv")).unwrap();
    assert_eq!(rows.iter().map(|row| row.bytes).sum::<u64>(), SIZE as u64);
}

#[test]
fn a_server_that_goes_away_is_an_error() {
    let (pair, asked, outcome) = download(2, "206 Partial Content");
    assert_eq!(asked.len(), 2);
    assert!(outcome.is_err());
    let result = pair.result();
    assert!(result.error.is_some() && result.sha256.is_none());
    assert_eq!(result.bytes, 2_000_000);
}

#[test]
fn a_server_without_ranges_is_named() {
    let (_, _, outcome) = download(1, "200 OK");
    let told = format!("{:#}", outcome.unwrap_err());
    assert!(told.contains("the server answered 200 OK, expected 206 for a range"), "{told}");
}
