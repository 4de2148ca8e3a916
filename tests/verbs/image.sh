#!/usr/bin/env bash
# image.sh FOLDER: puts a Debian kernel and an initramfs for guest.py into FOLDER, and prints the kernel's version. With them there already
# it takes no time and no network. The kernel package is downloaded by apt and unpacked, never installed.
# Exit code 3: it cannot be had here; the last line of standard error says why.
set -euo pipefail
cache=$1
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# What the guest needs to see its disk, its network card and its RDMA device.
modules=(virtio_pci virtio_net 9pnet_virtio 9p overlay dummy crc32_generic crc32_pclmul rdma_rxe ib_uverbs rdma_ucm)
applets=(sh mount modprobe mkdir ip cat poweroff chroot sync)

cannot() { echo "$1" >&2; exit 3; }

mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9
# Any kernel that was made with this script will do; without one, apt's current.
recipe=$(cat "$here/image.sh" "$here/init" | sha256sum | cut -c1-12)
for made in "$cache/$recipe"-*; do
  if [ -s "$made/vmlinuz" ] && [ -s "$made/initrd" ]; then echo "${made##*/}"; exit 0; fi
done

for tool in apt-get apt-cache dpkg depmod modprobe busybox cpio; do
  command -v "$tool" >/dev/null || cannot "'$tool' is not installed (third_party/install.sh installs it)"
done
newest() { apt-cache depends linux-image-amd64 2>/dev/null | sed -n 's/.*Depends: linux-image-//p' | head -1; }
version=$(newest)
if [ -z "$version" ] && [ "$(id -u)" = 0 ]; then
  timeout 120 apt-get -q update >&2 || true
  version=$(newest)
fi
[ -n "$version" ] || cannot "apt knows no package linux-image-amd64 (apt-get update, as root)"

work=$(mktemp -d "$cache/work.XXXXXX")
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"  # apt downloads as a user of its own where it may.
cd "$work"
timeout 300 apt-get -q download "linux-image-$version" >&2 || cannot "apt-get download linux-image-$version failed"
dpkg -x linux-image-*.deb kernel
depmod -b kernel "$version"

root=initramfs
mkdir -p "$root"/{bin,proc,sys,dev,lower,layers,out,whole}
cp "$(command -v busybox)" "$root/bin/"
for applet in "${applets[@]}"; do ln -s busybox "$root/bin/$applet"; done
for module in "${modules[@]}"; do
  modprobe -d "$PWD/kernel" -S "$version" --show-depends "$module" 2>/dev/null | awk '$1 == "insmod" {print $2}'
done | sort -u | while read -r file; do
  target=$root/${file#"$PWD/kernel/"}
  mkdir -p "$(dirname "$target")"
  cp "$file" "$target"
done
depmod -b "$root" "$version" 2>/dev/null
cp "$here/init" "$root/init"
chmod +x "$root/init"
mkdir made
(cd "$root" && find . | cpio -o -H newc --quiet) >made/initrd
cp "kernel/boot/vmlinuz-$version" made/vmlinuz
find "$cache" -mindepth 1 -maxdepth 1 -type d -name '*-*-amd64' -mtime +14 -exec rm -rf {} +  # Older recipes and kernels.
mv made "$cache/$recipe-$version"
echo "$recipe-$version"
