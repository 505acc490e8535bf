/** A userland of one static busybox: a shell on the serial console, or a self-test of the machine. */

import { characterDevice, cpio, directory, type Entry, file, symlink } from "./cpio.ts";

const APPLETS =
  "ash awk cat cut date dd dmesg echo env expr false free grep head kill ln ls md5sum mkdir mknod mount mv nproc poweroff printf " +
  "ps pwd reboot rm sed seq setsid sh sleep sort stat stty sync tail test time top touch tr true umount uname uptime vmstat wc yes";

const INIT = `#!/bin/sh
export PATH=/bin HOME=/ TERM=linux
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
exec </dev/ttyS0 >/dev/ttyS0 2>&1
case " $(cat /proc/cmdline) " in
*" selftest "*) sh /selftest; poweroff -f ;;
*" selftest=reboot "*) sh /selftest; reboot -f ;;
*" selftest=boot "*) echo "guest is up"; poweroff -f ;;
*" selftest=idle "*) echo "guest is up"; sleep 60; poweroff -f ;;
esac
echo "guest is up: Linux $(uname -r), $(nproc) CPU(s)"
export PS1='guest# '
while true; do setsid -c sh; done
`;

/** Prints a line a check: `ok NAME ...` or `not ok NAME ...`, and how many of each at the end. */
const SELFTEST = `#!/bin/sh
good=0; bad=0
check() { # name, condition as a command line, what to show
  if eval "$2"; then echo "ok $1 $3"; good=$((good + 1)); else echo "not ok $1 $3"; bad=$((bad + 1)); fi
}
uptime_ms() { read up rest </proc/uptime; echo "\${up%.*}\${up#*.}0"; }
interrupts() { awk -v cpus="$cpus" '/^ *(LOC|CAL|RES|[0-9]+):/ { for (i = 2; i < cpus + 2; i++) sum += $i } END { print sum + 0 }' /proc/interrupts; }

echo "selftest: Linux $(uname -r)"
cpus=$(nproc)
wanted=$(sed -n 's/.*cpus=\\([0-9]*\\).*/\\1/p' /proc/cmdline)
check cpus "[ $cpus = \${wanted:-$cpus} ]" "$cpus"
check clocksource "[ -n '$(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)' ]" "$(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)"

before=$(interrupts); sleep 0.2; after=$(interrupts)
check interrupts "[ $after -gt $before ]" "$before to $after"

# The host's clock, in front of each line, tells how long it was: what the second step takes beyond the first.
echo "mark 1"; sleep 0; echo "mark 2"; sleep 1; echo "mark 3"

a=$(uptime_ms); sleep 1; b=$(uptime_ms)
slept=$((b - a))
check sleep "[ $slept -ge 950 ] && [ $slept -le 1400 ]" "\${slept} ms"

d1=$(date +%s); sleep 2; d2=$(date +%s)
check date "[ $((d2 - d1)) -ge 2 ] && [ $((d2 - d1)) -le 3 ]" "$(date -u '+%Y-%m-%d %H:%M:%S')"

n=0; while [ $n -lt 100 ]; do /bin/true || break; n=$((n + 1)); done
check processes "[ $n = 100 ]" "$n fork and exec"

sum=$(dd if=/dev/zero bs=64k count=160 2>/dev/null | tr '\\000' 'b' | md5sum | cut -d ' ' -f 1)
check pipe "[ $sum = 2372ca1fec5cf0e587f0ed51dc204b32 ]" "$sum"

dmesg -r | grep -E '^<[0-4]>' >/tmp/warnings
check kernellog "! grep -q . /tmp/warnings" "$(wc -l </tmp/warnings) warnings"
cat /tmp/warnings
echo "selftest: $good ok, $bad not ok"
`;

/** The archive; the same busybox gives the same bytes. */
export function initramfs(busybox: Uint8Array, more: Entry[] = []): Buffer {
  const entries: Entry[] = [
    ...["bin", "dev", "proc", "sys", "tmp", "etc"].map(directory),
    characterDevice("dev/console", 5, 1),
    characterDevice("dev/null", 1, 3),
    characterDevice("dev/ttyS0", 4, 64),
    file("bin/busybox", busybox),
    ...APPLETS.split(/\s+/).map((name) => symlink(`bin/${name}`, "busybox")),
    file("init", INIT),
    file("selftest", SELFTEST),
    ...more,
  ];
  return cpio(entries);
}
