//! QEMU's command line, and QEMU as a child that cannot outlive this process.
//!
//! Input: what the machine should have. Output: arguments, or a started child. Kernel interface: prctl(PR_SET_PDEATHSIG).

use std::ffi::OsString;
use std::fmt;
use std::os::fd::RawFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal};
use serde::{Deserialize, Serialize};

use super::job::{JOB_TAG, PORT_NAME};

/// Program that emulates the machine.
pub const PROGRAM: &str = "qemu-system-x86_64";

/// What executes the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Accelerator {
    /// The processor itself, through /dev/kvm.
    Kvm,
    /// QEMU's translation to host code; works everywhere, several times slower.
    Tcg,
}

impl fmt::Display for Accelerator {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Kvm => "KVM",
            Self::Tcg => "software emulation",
        })
    }
}

/// One folder as QEMU exports it.
#[derive(Debug, Clone)]
pub(super) struct Export {
    /// Mount tag.
    pub tag: String,
    /// Folder of the host.
    pub path: PathBuf,
    /// Whether the guest may not write.
    pub read_only: bool,
}

/// The machine to emulate.
#[derive(Debug)]
pub(super) struct Machine<'a> {
    /// What executes it.
    pub accelerator: Accelerator,
    /// Virtual processors.
    pub cpus: u32,
    /// Memory, in MiB.
    pub memory_mib: u32,
    /// Kernel image.
    pub kernel: &'a Path,
    /// Initramfs.
    pub initrd: &'a Path,
    /// Root disk, never written to; none for a probe.
    pub disk: Option<&'a Path>,
    /// Further words for the kernel command line.
    pub append: &'a str,
    /// File that receives the console.
    pub console: &'a Path,
    /// Inherited socket for the channel.
    pub channel: Option<RawFd>,
    /// Folder with the job and the executables.
    pub job: Option<&'a Path>,
    /// Folders to export.
    pub exports: &'a [Export],
}

impl Machine<'_> {
    /// QEMU's arguments.
    pub(super) fn args(&self) -> Vec<OsString> {
        let (accelerator, processor) = match self.accelerator {
            Accelerator::Kvm => ("kvm", "host"),
            Accelerator::Tcg => ("tcg,thread=multi", "max"),
        };
        let mut args: Vec<OsString> = [
            "-nodefaults",
            "-no-user-config",
            "-no-reboot",
            "-display",
            "none",
            "-nic",
            "none",
            "-rtc",
            "base=utc,clock=host",
            "-machine",
            "q35",
        ]
        .map(OsString::from)
        .to_vec();
        let mut option = |name: &str, value: OsString| {
            args.push(name.into());
            args.push(value);
        };
        option("-accel", accelerator.into());
        option("-cpu", processor.into());
        option("-smp", self.cpus.to_string().into());
        option("-m", format!("{}M", self.memory_mib).into());
        option("-kernel", self.kernel.into());
        option("-initrd", self.initrd.into());
        // The certificates would only serve to check module signatures, which are gone.
        // oops=panic: a kernel that has crashed ends at once instead of hanging until a time limit.
        // mitigations=off: nothing in this guest needs to be kept from anything else in it.
        let command_line = format!(
            "console=ttyS0 quiet panic=-1 oops=panic mitigations=off nowatchdog random.trust_cpu=on \
             initcall_blacklist=load_system_certificate_list {}",
            self.append
        );
        option("-append", command_line.trim_end().into());
        option("-chardev", value("file,id=console,path=", self.console, ""));
        option("-serial", "chardev:console".into());
        if let Some(disk) = self.disk {
            option("-drive", value("if=virtio,format=raw,snapshot=on,file=", disk, ""));
        }
        if let Some(descriptor) = self.channel {
            option("-device", "virtio-serial-pci".into());
            option("-chardev", format!("socket,id=channel,fd={descriptor}").into());
            option("-device", format!("virtserialport,chardev=channel,name={PORT_NAME}").into());
        }
        let job = self.job.map(|path| Export {
            tag: JOB_TAG.to_owned(),
            path: path.to_owned(),
            read_only: true,
        });
        for (index, export) in job.iter().chain(self.exports).enumerate() {
            let read_only = if export.read_only { ",readonly=on" } else { "" };
            let end = format!(",security_model=none,multidevs=remap{read_only}");
            option("-fsdev", value(&format!("local,id=fs{index},path="), &export.path, &end));
            option(
                "-device",
                format!("virtio-9p-pci,fsdev=fs{index},mount_tag={}", export.tag).into(),
            );
        }
        args
    }
}

/// A QEMU option value with a path in it: commas of the path are doubled.
fn value(start: &str, path: &Path, end: &str) -> OsString {
    let path = path.to_string_lossy().replace(',', ",,");
    format!("{start}{path}{end}").into()
}

/// The command that runs `args`, killed by the kernel when the calling thread ends, and out of reach of the terminal's
/// Ctrl-C, which is for limosa to handle.
pub(super) fn command(args: &[OsString]) -> Command {
    let parent = getpid();
    let mut command = Command::new(PROGRAM);
    command.args(args).process_group(0);
    // SAFETY: the closure makes three system calls and does not allocate.
    unsafe {
        command.pre_exec(move || {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            // If the parent is gone already, no signal will come.
            if getppid() != Some(parent) {
                return Err(std::io::Error::from_raw_os_error(libc::ESRCH));
            }
            Ok(())
        });
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine<'a>(exports: &'a [Export], accelerator: Accelerator) -> Machine<'a> {
        Machine {
            accelerator,
            cpus: 2,
            memory_mib: 2048,
            kernel: Path::new("/c/kernel"),
            initrd: Path::new("/c/initrd"),
            disk: Some(Path::new("/c/a,b.img")),
            append: "",
            console: Path::new("/r/console.log"),
            channel: Some(7),
            job: Some(Path::new("/t/job")),
            exports,
        }
    }

    fn words(machine: &Machine<'_>) -> String {
        let args = machine.args();
        let words: Vec<_> = args.iter().map(|word| word.to_string_lossy()).collect();
        words.join(" ")
    }

    #[test]
    fn there_is_no_network_and_nothing_is_written_to_the_image() {
        let words = words(&machine(&[], Accelerator::Tcg));
        assert!(words.contains("-nic none"));
        assert!(words.contains("snapshot=on,file=/c/a,,b.img"));
        assert!(words.contains("-accel tcg,thread=multi -cpu max"));
        assert!(words.contains("socket,id=channel,fd=7"));
    }

    #[test]
    fn the_job_is_read_only_and_comes_first() {
        let exports = [Export { tag: "share0".to_owned(), path: "/r".into(), read_only: false }];
        let words = words(&machine(&exports, Accelerator::Kvm));
        assert!(
            words.contains(
                "local,id=fs0,path=/t/job,security_model=none,multidevs=remap,readonly=on"
            )
        );
        assert!(words.contains("local,id=fs1,path=/r,security_model=none,multidevs=remap -device"));
        assert!(words.contains("-accel kvm -cpu host"));
    }
}
