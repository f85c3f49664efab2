//! Experiments as somebody might write them who wants something else: right in most places, and with
//! names that lead elsewhere, are taken, or do something to a terminal, a shell or a table in others.

use limosa_record::random::SplitMix64;
use std::fmt::Write;

/// A topology for all of them.
pub(super) const TINY: &str = "\
version: 1
nodes:
  client: {}
  server: {}
  server-b: {}
  sw: {kind: switch}
links:
  - ends: [client.eth0, sw]
  - ends: [server.eth0, sw]
  - ends: [server-b.eth0, sw]
";

/// The beginning of an experiment on it.
pub(super) const HEAD: &str = "\
version: 1
topology: tiny.yaml
repetitions: 1
time_limit: 20s
workload:
  download: {path: /random, size: 1MB, play: 8Mbit/s}
variants:
  v: {scheme: quic}
";

/// Strings that are none of what is asked for, or that have a meaning to somebody.
const HOSTILE: &[&str] = &[
    "/srv/marked",
    "/srv/marked/file",
    "../../../srv/marked",
    "../../../../../../../../srv/marked/deep",
    "/proc/self/root/srv/marked",
    "..",
    "...",
    ".",
    "",
    "/",
    "//",
    "./x",
    "a/b",
    "a/../../b",
    "../x",
    "/etc/passwd",
    "/dev/zero",
    "/proc/kmsg",
    "~",
    "*",
    "-rf",
    "--help",
    "-",
    "$(touch /srv/marked/new)",
    "`touch /srv/marked/new`",
    "; rm -rf /srv/marked",
    "x\n/srv/marked",
    "x\r../y",
    "a\0b",
    "\u{1b}[2J",
    "\u{202e}cod.exe",
    "=cmd|' /C calc'!A0",
    "%s%n",
    "<script>",
    "criu",
    "images",
    "arrived",
    "body",
    "harness",
    "dnsmasq",
    "engine.log",
    "caught.pcap",
    "machine.json",
    "migrate-1",
    "latest",
    "www",
    "stderr.log",
    "config.json",
    ".unfinished-x",
    "limosa-node",
    "server",
    "client",
    "server-b",
    "sw",
    "lo",
    "all",
    "ünï",
    "a b",
    "C:\\x",
    "0",
    "null",
];

/// Names that are right, if unusual.
const ODD: &[&str] =
    &["a", "9", "x_y", "A-1", "node-2", "Image", "con", "aux", "trials", "results"];

/// A file and what is in it.
#[derive(Debug, Clone)]
pub(super) struct Hostile {
    /// Its name, which is one component of a path.
    pub(super) name: String,
    /// Its text.
    pub(super) text: String,
}

/// Writes one experiment.
struct Writer {
    random: SplitMix64,
    /// One string in so many is hostile; none with 0.
    one_in: u64,
}

/// The experiment of a number; the topology beside it is `tiny.yaml`.
pub(super) fn experiment(number: u64) -> Hostile {
    let mut writer =
        Writer { random: SplitMix64(number), one_in: [0, 3, 10, 20][number as usize % 4] };
    let text = writer.experiment();
    let stem = writer.word("experiment");
    let usable = |c: char| c != '/' && c != '\0';
    let stem: String = stem.chars().filter(|c| usable(*c)).take(80).collect();
    Hostile { name: format!("{stem}.yaml"), text }
}

impl Writer {
    fn below(&mut self, n: u64) -> u64 {
        self.random.below(n)
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len() as u64) as usize]
    }

    /// What is right here, or something hostile.
    fn word(&mut self, right: &str) -> String {
        if self.one_in > 0 && self.below(self.one_in) == 0 {
            return match self.below(20) {
                0 => "x".repeat(300),
                1 => "../".repeat(100) + "srv/marked",
                _ => self.pick(HOSTILE).into(),
            };
        }
        right.into()
    }

    /// The same in YAML, where a JSON string is one.
    fn quoted(&mut self, right: &str) -> String {
        let word = self.word(right);
        quote(&word)
    }

    /// A name of its own, likewise.
    fn name(&mut self, usual: &str) -> String {
        let right = if self.below(4) == 0 { self.pick(ODD) } else { usual };
        self.word(right)
    }

    fn experiment(&mut self) -> String {
        let (server, client, variant) = (self.name("server"), self.name("client"), self.name("v"));
        let mut text = format!(
            "version: 1\ntopology: {}\ndescription: {}\nrepetitions: {}\ntime_limit: 20s\n",
            self.quoted("tiny.yaml"),
            self.quoted("what it shows"),
            1 + self.below(2)
        );
        let own_nodes = self.below(2) == 0;
        let (server, client) =
            if own_nodes { (server, client) } else { ("server".into(), "client".into()) };
        if own_nodes {
            let _ = write!(
                text,
                "nodes:\n  {}: {{on: {}, role: client}}\n  {}: {{on: {}, role: server}}\n",
                quote(&client),
                self.quoted("client"),
                quote(&server),
                self.quoted("server")
            );
            if self.below(3) == 0 {
                self.command(&mut text);
            }
        }
        self.workload(&mut text);
        let scheme = self.pick(&["quic", "multipath", "dual-path", "post-copy"]);
        let _ = writeln!(text, "variants:\n  {}: {{scheme: {scheme}}}", quote(&variant));
        if self.below(4) == 0 {
            let _ = writeln!(text, "capture: [{}]", self.quoted("client"));
        }
        if self.below(6) == 0 {
            let _ = writeln!(text, "expect: {{{}: {{exited: 0}}}}", quote(&client));
        }
        self.timeline(&mut text, &server, &variant);
        text
    }

    fn command(&mut self, text: &mut String) {
        let _ = writeln!(
            text,
            "  {}: {{on: {}, command: [{}, {}], env: {{{}: {}}}, files: {{{}: {}}}}}",
            self.quoted("extra"),
            self.quoted("server-b"),
            self.quoted("sleep"),
            self.quoted("100"),
            self.quoted("NAME"),
            self.quoted("value"),
            self.quoted("extra.conf"),
            self.quoted("some text")
        );
    }

    fn workload(&mut self, text: &mut String) {
        let _ = match self.below(8) {
            0 => writeln!(
                text,
                "workload:\n  requests:\n    objects: {{named: [{{id: {}, size: 1kB}}]}}\n    closed_loop: {{clients: 1}}\n    count: 5",
                self.quoted("object")
            ),
            _ => writeln!(
                text,
                "workload:\n  download: {{path: {}, size: 1MB}}",
                self.quoted("/random")
            ),
        };
    }

    fn timeline(&mut self, text: &mut String, server: &str, variant: &str) {
        let steps = self.below(4);
        if steps > 0 {
            text.push_str("timeline:\n");
        }
        let server_word = |writer: &mut Self| writer.quoted(server);
        for step in 0..steps {
            let at = 100 + 400 * step;
            let only = match self.below(5) {
                0 => format!(", only: [{}]", self.quoted(variant)),
                _ => String::new(),
            };
            let (image, copy) = (self.name(&format!("image{step}")), self.name("server-new"));
            let (image, node) = (quote(&image), server_word(self));
            let to = self.quoted("server-b");
            let _ = match self.below(6) {
                0 | 1 => writeln!(
                    text,
                    "  - {{at: {at}ms, checkpoint: {{node: {node}, as: {image}}}{only}}}\n  - {{after: {image}, restore: {{from: {image}, on: {to}}}{only}}}"
                ),
                2 => writeln!(
                    text,
                    "  - {{at: {at}ms, checkpoint: {{node: {node}, as: {image}, leave_running: true}}{only}}}\n  - {{after: {image}, restore: {{from: {image}, on: {to}, as: {}}}{only}}}",
                    quote(&copy)
                ),
                3 => writeln!(
                    text,
                    "  - {{at: {at}ms, migrate: {{node: {node}, to: {to}, technique: cold, transfer: stream, keep_images: {}}}{only}}}",
                    self.below(2) == 0
                ),
                4 => writeln!(
                    text,
                    "  - {{at: {at}ms, name: {image}, announce: {{node: {node}, to: {to}}}{only}}}"
                ),
                _ => writeln!(
                    text,
                    "  - {{at: {at}ms, name: {image}, kill: {{node: {node}}}{only}}}"
                ),
            };
        }
    }
}

fn quote(word: &str) -> String {
    serde_json::to_string(word).unwrap_or_default()
}
