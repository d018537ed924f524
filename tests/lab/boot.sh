#!/bin/sh
# Process 1 of a device: mounts what a kernel would have, then waits and reaps.
#
#   boot.sh ROOT NAME CPUINFO forever|input      in new mount, pid, uts and ipc namespaces
#
# CPUINFO is a file that stands for /proc/cpuinfo, or empty. Prints its process id as this machine
# counts, then `up`. The device stays forever, or ends when standard input does, so that it does
# not outlive its lab.
set -eu

root=$1 name=$2 cpuinfo=$3 stays=$4

# Still the machine's own /proc, so this is the machine's number for this process.
read -r pid _ </proc/self/stat

hostname "$name"
mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
# The kernel is the machine's: a device may look at its settings, not change them.
mount --bind -o ro "$root/proc/sys" "$root/proc/sys"
cat /proc/sys/kernel/random/uuid >"$root/../boot_id"
mount --bind -o ro "$root/../boot_id" "$root/proc/sys/kernel/random/boot_id"
[ ! -e "$root/proc/sysrq-trigger" ] || mount --bind /dev/null "$root/proc/sysrq-trigger"
[ -z "$cpuinfo" ] || mount --bind -o ro "$cpuinfo" "$root/proc/cpuinfo"
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs "$root/sys"
mount -t tmpfs -o mode=755,size=1m tmpfs "$root/dev"
for device in null zero full random urandom tty; do
    : >"$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
mount -t tmpfs -o mode=1777,size=64m tmpfs "$root/dev/shm"
mount -t tmpfs -o mode=1777,size=256m tmpfs "$root/tmp"
mount -t tmpfs -o mode=755,size=16m tmpfs "$root/run"
mkdir "$root/run/sshd"

echo "$pid"
echo up
# A shell gives what it starts in the background no input, unless told.
exec 3<&0 >/dev/null 2>&1
if [ "$stays" = forever ]; then sleep infinity & else cat <&3 & fi
# The shell reaps whatever else ends meanwhile.
wait $!
