#!/bin/busybox sh
# First program of the guest: loads the few modules needed to reach the disk, then hands over to the disk's own init.
# With "limosa.probe" on the kernel command line it only says that this machine can boot the guest, and powers off.
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t devtmpfs dev /dev
exec </dev/null >/dev/console 2>&1
read -r cmdline </proc/cmdline
case " $cmdline " in
*" limosa.probe "*)
	echo limosa: probe passed
	$b poweroff -f
	;;
esac
for module in /modules/*; do
	$b insmod "$module" || echo "limosa: $module cannot be loaded"
done
tries=0
while [ ! -b /dev/vda ]; do
	tries=$((tries + 1))
	if [ $tries -gt 500 ]; then
		echo limosa: the disk does not show up
		$b poweroff -f
	fi
	$b usleep 10000
done
$b mount -t ext4 -o noatime /dev/vda /new || $b poweroff -f
$b mount -o move /dev /new/dev
$b mount -o move /proc /new/proc
exec $b switch_root /new /sbin/limosa-init
