//! Random experiments: timelines that nobody has thought about, most of which cannot be.

use limosa_record::random::SplitMix64;
use std::fmt::Write;

/// What the experiments of one test may have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Allowed {
    pub(crate) schemes: &'static [&'static str],
    /// Programs of others, and a server that is one.
    pub(crate) commands: bool,
    /// Anchors that only downloads have.
    pub(crate) bytes: bool,
    /// Steps of a timeline at the most, and the last time, in tenths of a second.
    pub(crate) steps: u64,
    pub(crate) until: u64,
}

pub(crate) struct Generator {
    pub(crate) random: SplitMix64,
    pub(crate) allowed: Allowed,
}

/// The steps of one variant, and what goes with them.
pub(crate) struct Variant {
    pub(crate) scheme: &'static str,
    /// One step a line, without its `only`.
    pub(crate) steps: Vec<String>,
    /// How the client is expected to end, if that is said.
    pub(crate) expect: Option<&'static str>,
}

impl Generator {
    fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.random.below(all.len() as u64) as usize]
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.random.below(n) == 0
    }

    fn time(&mut self) -> String {
        format!("{}ms", 100 * (1 + self.random.below(self.allowed.until)))
    }

    /// Now and then the timelines of other people: a beginning that makes sense.
    pub(crate) fn variant(&mut self, names: &mut u64) -> Variant {
        let scheme = self.pick(self.allowed.schemes);
        let mut steps = Vec::new();
        let mut known: Vec<String> = Vec::new();
        let mut images: Vec<String> = Vec::new();
        let mut copies: Vec<String> = Vec::new();
        let sensible = !self.one_in(3);
        for _ in 0..=self.random.below(self.allowed.steps) {
            *names += 1;
            let name = format!("s{names}");
            let action = self.action(scheme, &name, sensible, &mut images, &mut copies);
            let when = match self.random.below(10) {
                0..4 if !known.is_empty() => {
                    let all: Vec<&str> = known.iter().map(String::as_str).collect();
                    let last = all[all.len() - 1];
                    let other = if self.one_in(3) { self.pick(&all) } else { last };
                    format!("after: {other} + {}ms", 100 * self.random.below(8))
                }
                4 => format!("after: connected + {}", self.time()),
                5 => format!("after: first_byte + {}", self.time()),
                6 if self.allowed.bytes => {
                    format!("after_bytes: {}KB + {}", 1 + self.random.below(200), self.time())
                }
                _ => format!("at: {}", self.time()),
            };
            steps.push(format!("{{{when}, name: {name}, {action}}}"));
            known.push(name);
            if sensible && action.starts_with("link_down") {
                *names += 1;
                let mended = format!("s{names}");
                let link = "link_up: {link: access}";
                steps.push(format!("{{after: s{} + 100ms, name: {mended}, {link}}}", *names - 1));
            }
        }
        let expect = match self.random.below(8) {
            0 => Some("{signaled: 9}"),
            1 => Some("{exited: 1}"),
            _ => None,
        };
        Variant { scheme, steps, expect }
    }

    fn action(
        &mut self,
        scheme: &str,
        name: &str,
        sensible: bool,
        images: &mut Vec<String>,
        copies: &mut Vec<String>,
    ) -> String {
        let copying = matches!(scheme, "dual-path" | "post-copy");
        let mut nodes = vec!["server"; 6];
        nodes.push("client");
        if self.allowed.commands {
            nodes.push("other");
        }
        nodes.extend(copies.iter().map(|_| "copied"));
        let node = match self.pick(&nodes) {
            "copied" => copies[self.random.below(copies.len() as u64) as usize].clone(),
            node => node.into(),
        };
        let places = ["server-a", "server-b", "server-b", "dns", "client"];
        let place = self.pick(&places);
        // What is likely to make sense after what there is.
        let wish = match (images.is_empty(), copies.is_empty()) {
            (true, _) => "checkpoint",
            (false, true) => "restore",
            (false, false) => "handover",
        };
        let kind = if sensible && (copying || !images.is_empty()) && self.one_in(2) {
            wish
        } else {
            let all = [
                "announce",
                "announce",
                "barrier",
                "publish",
                "checkpoint",
                "checkpoint",
                "checkpoint",
                "restore",
                "migrate",
                "migrate",
                "relocate",
                "handover",
                "attack",
                "search",
                "shape",
                "link_down",
                "link_up",
                "kill",
            ];
            self.pick(&all)
        };
        match kind {
            "announce" => format!("announce: {{node: {node}, to: {place}}}"),
            "barrier" => format!("barrier: {{node: {node}, deadline: 300ms}}"),
            "publish" => format!("publish: {{node: {node}}}"),
            "checkpoint" => {
                images.push(format!("i{name}"));
                let running = if sensible { copying } else { self.one_in(2) };
                format!("checkpoint: {{node: {node}, as: i{name}, leave_running: {running}}}")
            }
            "restore" => {
                let all: Vec<&str> = images.iter().map(String::as_str).collect();
                let image = if all.is_empty() { "none".into() } else { self.pick(&all).to_owned() };
                let named = if sensible { copying } else { self.one_in(2) };
                let copy = if named {
                    copies.push(format!("c{name}"));
                    format!(", as: c{name}")
                } else {
                    String::new()
                };
                format!("restore: {{from: {image}, on: {place}{copy}}}")
            }
            "migrate" => {
                let transfer = self.pick(&["stream", "rsync", "page-server"]);
                format!(
                    "migrate: {{node: {node}, to: {place}, technique: cold, transfer: {transfer}}}"
                )
            }
            "relocate" => format!("relocate: {{node: {node}, to: router, pause: 200ms}}"),
            "handover" => {
                let to = copies.last().cloned().unwrap_or_else(|| "nobody".into());
                format!("handover: {{from: {node}, to: {to}, rate: 8Mbit/s}}")
            }
            "attack" => {
                let kind = self.pick(&["replay", "reset"]);
                format!("attack: {{kind: {kind}, node: {node}, from: {place}}}")
            }
            "search" => format!("search: {{node: {node}}}"),
            "shape" => "shape: {link: access, both: {rate: 50Mbit/s, delay: 9ms}}".into(),
            "link_down" => "link_down: {link: access}".into(),
            "link_up" => "link_up: {link: access}".into(),
            _ => format!("kill: {{node: {node}}}"),
        }
    }

    /// An experiment with one variant per element; `head` has everything else of it.
    pub(crate) fn text(&self, head: &str, variants: &[Variant]) -> String {
        let mut text = head.to_owned();
        text.push_str("variants:\n");
        for (number, variant) in variants.iter().enumerate() {
            writeln!(text, "  v{number}: {{scheme: {}}}", variant.scheme).unwrap();
        }
        text.push_str("timeline:\n");
        for (number, variant) in variants.iter().enumerate() {
            for step in &variant.steps {
                let inner = &step[..step.len() - 1];
                writeln!(text, "  - {inner}, only: [v{number}]}}").unwrap();
            }
        }
        if let Some(expect) = variants.iter().find_map(|variant| variant.expect) {
            writeln!(text, "expect: {{client: {expect}}}").unwrap();
        }
        text
    }
}
