#!/usr/bin/env bash
# Checks the control groups of `tripod map` on a kernel of its own, in an emulated machine.
#
# A group for each command needs version 2 with the `memory` controller and the right to make
# groups. Few containers and build machines have both, so `cargo test` can only see the fallback to
# /proc. Run this by hand after a change to crates/tripod-cli/src/process/cgroup.rs or its callers:
#
#     xtask/verify/cgroup.sh
#
# Needs: cargo, gzip, and on Debian 12 the packages qemu-system-x86 and busybox-static. The kernel
# is $KERNEL if that is set, else the first of /boot/vmlinuz-*, else the one of the Debian package
# linux-image-cloud-amd64, which is downloaded but not installed. Version 5.19 or later, for
# memory.peak. No privileges and no KVM: the processor is emulated.
#
# Prints one line for each check, as cgroup-guest.sh finds it: `ok`, `FAIL`, or `note` for what is
# observed and not judged. Exit code 1 if a check failed or the machine did not get to the end; the
# console is then printed too. Takes about a minute; at most $DEADLINE_SECONDS (600).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

deadline_seconds="${DEADLINE_SECONDS:-600}"
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT

fail() {
    echo "cgroup.sh: $*" >&2
    exit 1
}

find_kernel() {
    local installed=(/boot/vmlinuz-*)
    if [[ -n "${KERNEL:-}" ]]; then
        echo "$KERNEL"
    elif [[ -r "${installed[0]}" ]]; then
        echo "${installed[0]}"
    else
        download_kernel
    fi
}

download_kernel() {
    local package
    package="$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/.*Depends: \(linux-image-\)/\1/p')"
    [[ -n "$package" ]] || fail "found no kernel; set KERNEL to the path of a vmlinuz"
    (cd "$folder" && apt-get download -q "$package" && dpkg -x linux-image-*.deb kernel) >&2
    echo "$folder"/kernel/boot/vmlinuz-*
}

# Copies programs and the libraries they are linked with.
add_programs() {
    local image="$1" library
    shift
    install -D -t "$image/bin" "$@"
    { ldd "$@" 2>/dev/null || true; } | grep -o '/[^ :]*\.so[^ :]*' | sort -u | while read -r library; do
        install -D "$library" "$image$library"
    done
}

# A root file system of busybox, the shell of this machine, and the programs to check.
make_image() {
    local image="$folder/image" target="$1"
    mkdir -p "$image"/{dev,proc,sys,tmp,etc,bin}
    add_programs "$image" "$target/debug/tripod" "$target/debug/examples/hog" "$busybox"
    "$busybox" --list | while read -r name; do
        [[ "$name" == busybox ]] || ln -s busybox "$image/bin/$name"
    done
    # Of busybox, the one is not what runs commands elsewhere and the other cannot change users.
    rm "$image/bin/sh" "$image/bin/setpriv"
    add_programs "$image" /bin/sh "$(command -v setpriv)"
    printf 'root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n' >"$image/etc/passwd"
    printf 'root:x:0:\nnogroup:x:65534:\n' >"$image/etc/group"
    install xtask/verify/cgroup-guest.sh "$image/init"
    (cd "$image" && find . | "$busybox" cpio -o -H newc 2>/dev/null | gzip -1) >"$folder/initramfs"
}

boot() {
    # Emulated even where there is KVM: a nested one may hang, and the time is bearable.
    timeout "$deadline_seconds" qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp 2 -m 2G \
        -kernel "$1" -initrd "$folder/initramfs" -append "console=ttyS0 panic=-1 quiet" \
        -nographic -no-reboot -nic none </dev/null | sed -u 's,\r$,,' | tee "$folder/console" |
        grep --line-buffered -E '^(ok|FAIL|note) ' || true
}

busybox="$(command -v busybox)" || fail "busybox is missing (Debian: busybox-static)"
command -v qemu-system-x86_64 >/dev/null || fail "qemu is missing (Debian: qemu-system-x86)"
kernel="$(find_kernel)"
[[ -r "$kernel" ]] || fail "cannot read the kernel $kernel"
cargo build --locked -p tripod-cli --bin tripod --example hog
target="$(cargo metadata --locked --no-deps --format-version 1 |
    sed 's/.*"target_directory":"\([^"]*\)".*/\1/')"
make_image "$target"
echo "booting $(basename "$kernel")"
boot "$kernel"

if ! grep -q '^end of checks$' "$folder/console"; then
    cat "$folder/console"
    fail "the machine did not get to the end of the checks"
fi
if grep -q '^FAIL ' "$folder/console"; then
    cat "$folder/console"
    fail "$(grep -c '^FAIL ' "$folder/console") checks failed"
fi
echo "cgroup.sh: $(grep -c '^ok ' "$folder/console") checks passed"
