//! Decides what executes the guest: KVM where a guest has really booted under it, else software emulation.
//!
//! Input: /dev/kvm and the image. Output: the answer, kept in the cache until kernel, QEMU, image or access rights change.
//! A device file alone says nothing: on some machines a guest starts under it and then hangs.

use std::fs::{self, OpenOptions};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::image::Image;
use super::qemu::{self, Accelerator, Machine};
use super::recipe;
use crate::machine::steps::step;
use limosa_lab::cache::Cache;

/// Within this time a probe has to have passed.
const PROBE_LIMIT: Duration = Duration::from_secs(20);

/// Within this time the kernel has to have said something; a kernel that runs at all does so at once.
const FIRST_WORD_LIMIT: Duration = Duration::from_secs(6);

/// What the probe's console says at its end.
const PASSED: &str = "limosa: probe passed";

/// The remembered answer, if it still holds.
pub fn known(cache: &Cache) -> Option<Accelerator> {
    let text = fs::read_to_string(cache.path.join("accelerator")).ok()?;
    parse(&text, &situation())
}

/// Finds the answer out and remembers it.
pub fn decide(cache: &Cache, image: &Image) -> Result<Accelerator> {
    let accelerator = if kvm_opens() {
        step("trying to boot the guest under KVM", || probe(cache, image))?
    } else {
        Accelerator::Tcg
    };
    let word = match accelerator {
        Accelerator::Kvm => "kvm",
        Accelerator::Tcg => "tcg",
    };
    tell!("setup: the guest runs with {accelerator}");
    let path = cache.path.join("accelerator");
    limosa_record::dir::write_whole(&path, format!("{word}\n{}", situation()).as_bytes())?;
    Ok(accelerator)
}

fn parse(text: &str, situation: &str) -> Option<Accelerator> {
    let (word, known) = text.split_once('\n')?;
    match word {
        _ if known != situation => None,
        "kvm" => Some(Accelerator::Kvm),
        "tcg" => Some(Accelerator::Tcg),
        _ => None,
    }
}

/// Everything that the answer depends on.
fn situation() -> String {
    let kernel = rustix::system::uname();
    let qemu = Command::new(qemu::PROGRAM)
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
        .unwrap_or_default();
    format!(
        "kernel {}\nimage {}\nkvm {}\n{}\n",
        kernel.release().to_string_lossy(),
        recipe::key(),
        kvm_opens(),
        qemu.lines().next().unwrap_or_default()
    )
}

fn kvm_opens() -> bool {
    OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok()
}

fn probe(cache: &Cache, image: &Image) -> Result<Accelerator> {
    let console = cache.path.join("kvm-probe.log");
    limosa_record::dir::create(&console)?;
    let machine = Machine {
        accelerator: Accelerator::Kvm,
        cpus: 1,
        memory_mib: 512,
        kernel: &image.kernel(),
        initrd: &image.initrd(),
        disk: None,
        append: "limosa.probe loglevel=7",
        console: &console,
        channel: None,
        job: None,
        exports: &[],
    };
    let mut child = qemu::command(&machine.args())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("start QEMU")?;
    let passed = wait_for(&console, &mut child);
    // It may have ended by itself.
    let _ = child.kill();
    child.wait().context("wait for QEMU")?;
    Ok(if passed { Accelerator::Kvm } else { Accelerator::Tcg })
}

fn wait_for(console: &Path, child: &mut std::process::Child) -> bool {
    let started = Instant::now();
    loop {
        let ended = child.try_wait().is_ok_and(|status| status.is_some());
        let text = fs::read(console).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        if text.contains(PASSED) {
            return true;
        }
        let silent = !text.contains("Linux version") && started.elapsed() > FIRST_WORD_LIMIT;
        if ended || silent || started.elapsed() > PROBE_LIMIT {
            return false;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_holds_only_in_its_own_situation() {
        assert_eq!(parse("kvm\nhere", "here"), Some(Accelerator::Kvm));
        assert_eq!(parse("tcg\nhere", "here"), Some(Accelerator::Tcg));
        assert_eq!(parse("kvm\nhere", "there"), None);
        assert_eq!(parse("", "here"), None);
    }
}
