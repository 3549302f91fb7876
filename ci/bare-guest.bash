# SPDX-License-Identifier: MIT
# Part of ci/bare-machine, for --guest: the package on a machine with SVM, which is a guest of QEMU's emulator. It counts instructions,
# for by its clock its interrupts come twice now and then, and the claims fail for that.
# Expects $root, $package and inside(). The disk is $root.ext4, which ci/bare-machine takes away.

# What runs as process 1 of the guest: from the package to the report by one command, with nobody to ask.
guest_script() {
  cat <<'SCRIPT'
#!/bin/sh
export HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive
for fs in proc sysfs devtmpfs; do
  at=/$(echo $fs | sed 's/sysfs/sys/; s/devtmpfs/dev/')
  mountpoint -q $at || mount -t $fs $fs $at
done
mount -t tmpfs tmpfs /tmp
ip link set lo up 2>/dev/null
cd /srv/try
{
  date +'installing at %T'
  apt-get install -y ./refhv.deb && date +'running at %T' && refhv run --yes --samples=200 --filter='^(exit|control)'
  echo "code $?"
  date +'done at %T'
  refhv unload
  dmesg | grep -E 'WARNING|BUG|Oops|lockup|stall' && echo 'the kernel complained'
} </dev/null >try.log 2>&1
sync
mount -o remount,ro / 2>/dev/null
echo o >/proc/sysrq-trigger
sleep 60
SCRIPT
}

# The dependencies come from the archive beforehand, as the guest has no network; the module is built in the guest. 1: it failed.
try_in_guest() {
  local home=$root/srv/try image=$root.ext4 kernel code
  mkdir -p "$home"
  cp "$package" "$home/refhv.deb"
  inside apt-get update -qq
  inside sh -c "DEBIAN_FRONTEND=noninteractive apt-get satisfy -y -qq --no-install-recommends \"\$(dpkg-deb -f /srv/try/refhv.deb Depends)\" \
    'linux-image-cloud-amd64, linux-headers-cloud-amd64, initramfs-tools, iproute2, kmod' >/srv/try/apt.log 2>&1" || {
    tail -n 5 "$home/apt.log" >&2
    return 1
  }
  guest_script >"$home/init"
  chmod 755 "$home/init"
  inside apt-get clean
  kernel=$(cd "$root/boot" && ls -v vmlinuz-*-cloud-amd64 | tail -n 1)
  umount -l "$root/proc" "$root/dev"
  truncate -s 8G "$image" && mke2fs -q -F -t ext4 -d "$root" "$image"
  timeout 5400 qemu-system-x86_64 -accel tcg,thread=single -icount shift=0,sleep=off -cpu max,-x2apic -m 4096 -nodefaults -display none -no-reboot \
    -drive file="$image",format=raw,if=virtio,cache=unsafe -serial "file:$home/console" \
    -kernel "$root/boot/$kernel" -initrd "$root/boot/initrd.img-${kernel#vmlinuz-}" \
    -append "root=/dev/vda rw console=ttyS0 quiet init=/srv/try/init" || {
    echo "bare-machine: QEMU ended with code $?" >&2
    return 1
  }
  debugfs -R "dump /srv/try/try.log $home/try.log" "$image" 2>/dev/null
  debugfs -R "rdump /srv/try/refhv-out $home" "$image" 2>/dev/null
  [[ -s $home/try.log ]] || { tail -n 5 "$home/console" >&2 && echo "bare-machine: the guest left no word" >&2 && return 1; }
  grep -E '^(installing|running|done) at |^code ' "$home/try.log"
  code=$(sed -n 's/^code //p' "$home/try.log")
  # 1: rows whose claims fail, as some do on QEMU.
  if ((${code:-2} > 1)) || grep -q '^the kernel complained' "$home/try.log" || ! compgen -G "$home/refhv-out/*/report.html" >/dev/null ||
    ! grep -q '^linux  *PASS  *exit.cpuid/nested' "$home/try.log"; then
    tail -n 20 "$home/try.log" >&2
    return 1
  fi
  grep -E '^linux  *PASS|^(linux|self): |^report: ' "$home/try.log"
  echo "bare-machine: in a guest with SVM $(basename "$package") installs, loads its module, runs and leaves a report, with no question asked"
}
