#!/bin/sh
# Process 1 of the guest: makes the file systems and the loopback that programs (CRIU above all) expect, starts limosa's
# agent from memory, and powers off when it ends. /proc and /dev are already there.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
# One static program in place of a dozen that have to be linked at every start.
b=busybox
end() {
	echo "limosa-init: $1"
	echo o >/proc/sysrq-trigger
	$b sleep 60
}
$b mount -t sysfs -o nosuid,nodev,noexec sys /sys
$b mkdir -p /dev/pts /dev/shm
$b mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
$b mount -t tmpfs -o nosuid,nodev,size=75% shm /dev/shm
$b mount -t tmpfs -o nosuid,nodev,mode=755,size=75% run /run
$b mount -t tmpfs -o nosuid,nodev,size=75% tmp /tmp
$b mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 /sys/fs/cgroup
$b mount -t debugfs debugfs /sys/kernel/debug 2>/dev/null
$b mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null
[ -e /dev/fd ] || $b ln -s /proc/self/fd /dev/fd
[ -e /dev/stdin ] || $b ln -s fd/0 /dev/stdin
[ -e /dev/stdout ] || $b ln -s fd/1 /dev/stdout
[ -e /dev/stderr ] || $b ln -s fd/2 /dev/stderr
echo limosa-guest >/proc/sys/kernel/hostname
ip link set lo up
ulimit -n 65536
$b mkdir -p /run/limosa/job /run/limosa/bin /run/lock /run/netns
$b mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,ro job /run/limosa/job || end "the job folder cannot be mounted"
# CRIU refuses processes whose executable is on 9p, so everything that runs is copied into memory first.
$b cp /run/limosa/job/bin/* /run/limosa/bin/ || end "the executables cannot be copied"
# Modules are loaded, and CRIU looks the kernel over, at first use anyway, but then the first trial would pay seconds for it.
# What this kernel does not have as a module is built in or reported by the doctor.
(
	modprobe -qab tun veth bridge sch_netem sch_tbf sch_ingress act_mirred cls_matchall \
		unix_diag udp_diag inet_diag af_packet_diag netlink_diag
	nice -n 10 criu check
) >/dev/null 2>&1 &
LIMOSA_GUEST_AGENT=/run/limosa/job/job.json /run/limosa/bin/limosa-agent
end "the agent ended with code $?"
