//! A headless Chromium, driven through its debugging pipe: JSON messages that end in a zero byte, to its
//! descriptor 3 and from its descriptor 4 (Chrome DevTools Protocol).

use serde_json::{Value, json};
use std::{
    fs::File,
    io::{BufRead, BufReader, Write},
    os::fd::{AsRawFd, OwnedFd},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

/// The browser: `LIMOSA_BROWSER`, or one that the system has.
pub(crate) fn executable() -> PathBuf {
    let named = std::env::var_os("LIMOSA_BROWSER").map(PathBuf::from);
    let known = ["chromium", "chromium-browser", "google-chrome"];
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<_> = std::env::split_paths(&path).collect();
    let found = known.iter().flat_map(|name| folders.iter().map(move |f| f.join(name)));
    named.or_else(|| found.into_iter().find(|p| p.is_file())).unwrap_or_else(|| {
        panic!(
            "the page could not be looked at: there is no Chromium\n  \
             hint: apt-get install chromium, or LIMOSA_BROWSER=/path/to/it"
        )
    })
}

/// A browser with one page.
pub(crate) struct Browser {
    child: Child,
    to: File,
    from: BufReader<File>,
    session: String,
    last: u64,
    /// Everything that it told without being asked, in order.
    pub events: Vec<Value>,
    _profile: tempfile::TempDir,
}

impl Browser {
    pub(crate) fn start() -> Self {
        let profile = tempfile::tempdir().unwrap();
        let (read_commands, write_commands) = std::io::pipe().unwrap();
        let (read_answers, write_answers) = std::io::pipe().unwrap();
        let [commands, answers] = [OwnedFd::from(read_commands), OwnedFd::from(write_answers)];
        // Only a shell can put inherited descriptors into the numbers that Chromium wants.
        let (c, a) = (commands.as_raw_fd(), answers.as_raw_fd());
        let script = format!("exec 3</proc/$0/fd/{c} 4>/proc/$0/fd/{a}; shift; exec \"$@\"");
        let mut command = Command::new("sh");
        command.args(["-c", &script, &std::process::id().to_string(), "-"]).arg(executable());
        command.args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--hide-scrollbars",
            "--window-size=1100,1400",
            "--remote-debugging-pipe",
        ]);
        command.arg(format!("--user-data-dir={}", profile.path().display()));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let its_end = format!("/proc/{}/fd/4", child.id());
        while !std::path::Path::new(&its_end).exists() {
            assert!(child.try_wait().unwrap().is_none(), "the browser did not start");
            std::thread::yield_now();
        }
        // With our own copies of its ends gone, its death is the end of the file.
        drop((commands, answers));
        let to = File::from(OwnedFd::from(write_commands));
        let from = BufReader::new(File::from(OwnedFd::from(read_answers)));
        let mut browser = Self {
            child,
            to,
            from,
            session: String::new(),
            last: 0,
            events: Vec::new(),
            _profile: profile,
        };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"}));
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let session = browser.call("Target.attachToTarget", attach);
        browser.session = session["sessionId"].as_str().unwrap().to_owned();
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser
    }

    /// One command and its answer; what comes in between is kept.
    pub(crate) fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.last += 1;
        let mut message = json!({"id": self.last, "method": method, "params": parameters});
        if !self.session.is_empty() {
            message["sessionId"] = json!(self.session);
        }
        self.to.write_all(format!("{message}\0").as_bytes()).unwrap();
        loop {
            let message = self.next();
            if message["id"] == json!(self.last) {
                assert!(message["error"].is_null(), "{method}: {}", message["error"]);
                return message["result"].clone();
            }
            self.events.push(message);
        }
    }

    fn next(&mut self) -> Value {
        let mut bytes = Vec::new();
        let n = self.from.read_until(0, &mut bytes).unwrap();
        assert!(n > 0, "the browser has ended");
        serde_json::from_slice(&bytes[..n - 1]).unwrap()
    }

    /// Opens an address and waits until it is loaded.
    pub(crate) fn open(&mut self, address: &str) {
        self.events.clear();
        self.call("Page.navigate", json!({ "url": address }));
        while !self.events.iter().any(|e| e["method"] == "Page.loadEventFired") {
            let event = self.next();
            self.events.push(event);
        }
    }

    /// The value of an expression in the page.
    pub(crate) fn value(&mut self, expression: &str) -> Value {
        let parameters =
            json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let answer = self.call("Runtime.evaluate", parameters);
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// A picture of the whole page, PNG.
    pub(crate) fn screenshot(&mut self) -> Vec<u8> {
        let parameters = json!({"format": "png", "captureBeyondViewport": true});
        let answer = self.call("Page.captureScreenshot", parameters);
        decoded(answer["data"].as_str().unwrap())
    }

    /// Errors on the console and requests of anything but files, as the browser told them.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let bad = |e: &&Value| {
            let p = &e["params"];
            match e["method"].as_str().unwrap_or_default() {
                "Runtime.exceptionThrown" => true,
                "Runtime.consoleAPICalled" => p["type"] == "error" || p["type"] == "warning",
                "Log.entryAdded" => p["entry"]["level"] == "error",
                "Network.requestWillBeSent" => {
                    let address = p["request"]["url"].as_str().unwrap_or_default();
                    !address.starts_with("file:") && !address.starts_with("data:")
                }
                _ => false,
            }
        };
        self.events.iter().filter(bad).map(ToString::to_string).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Base64, RFC 4648 section 4.
fn decoded(text: &str) -> Vec<u8> {
    let value = |c: u8| match c {
        b'A'..=b'Z' => Some(u32::from(c - b'A')),
        b'a'..=b'z' => Some(u32::from(c - b'a') + 26),
        b'0'..=b'9' => Some(u32::from(c - b'0') + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let (mut bytes, mut bits, mut n) = (Vec::new(), 0_u32, 0);
    for six in text.bytes().filter_map(value) {
        (bits, n) = (bits << 6 | six, n + 6);
        if n >= 8 {
            n -= 8;
            bytes.push((bits >> n) as u8);
        }
    }
    bytes
}
