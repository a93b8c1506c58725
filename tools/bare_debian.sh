#!/bin/bash
# Install from a fresh clone of this checkout on a bare Debian 12, as README.md says; then run a command (default:
# make demo) in that clone, as an ordinary user:
#
#     tools/bare_debian.sh [COMMAND [ARGUMENT...]]
#
# Bare is what debootstrap's minbase has, with python3, python3-venv, make and git: no compiler, no etcd, no pip. It
# takes root, debootstrap, and the package index that pip is set up for here. KEEP=DIRECTORY keeps the system there, for
# the next time. The clone has what is committed.
set -euo pipefail
cd "$(dirname "$0")/.."
fail() {
    echo "bare_debian: $*" >&2
    exit 1
}
[ "$(id -u)" = 0 ] || fail "needs root, for debootstrap and chroot"
command -v debootstrap >/dev/null || fail "debootstrap is missing. To install it: apt-get install debootstrap"
[ $# -gt 0 ] || set -- make demo

packages=python3,python3-venv,make,git
user=ops
root=${KEEP:-}
if [ -z "$root" ]; then
    root=$(mktemp -d)
    chmod 755 "$root" # it becomes the root folder of an ordinary user
    trap 'rm -rf --one-file-system "$root"' EXIT
fi
if [ ! -e "$root/etc/debian_version" ]; then
    # From where this system's own packages come, if it is a Debian.
    mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Origin: Debian' 2>/dev/null | head -n 1)
    mkdir -p "$root"
    debootstrap --variant=minbase --include="$packages" bookworm "$root" ${mirror:+"$mirror"} >"$root.log" 2>&1 ||
        { tail -n 20 "$root.log" >&2; fail "debootstrap has failed"; }
    rm -f "$root.log"
fi
chroot "$root" id "$user" >/dev/null 2>&1 || chroot "$root" useradd --create-home --shell /bin/bash "$user"
# How pip reaches its index from here.
for file in /etc/resolv.conf /etc/hosts /etc/pip.conf /etc/ssl/certs/ca-certificates.crt; do
    if [ -e "$file" ]; then
        install -D -m 644 "$file" "$root$file"
    fi
done
home=/home/$user
rm -rf "${root:?}$home/distlock"
git clone --quiet . "$root$home/distlock"
chroot "$root" chown --recursive "$user:" "$home"

settings=("HOME=$home" "USER=$user" "LOGNAME=$user" PATH=/usr/bin:/bin LANG=C.UTF-8)
for name in PIP_CERT PIP_INDEX_URL PIP_DEFAULT_TIMEOUT https_proxy no_proxy; do
    if [ -n "${!name:-}" ]; then
        settings+=("$name=${!name}")
    fi
done
# Namespaces of its own, so that nothing stays mounted, and no process is left behind. It has its own /proc. The shell is
# the first process of its namespace: when a signal ends it, the kernel ends all others.
ends='
set -m
trap "exit 143" TERM
trap "exit 130" INT HUP
'
script="$ends"'
root=$1 user=$2; shift 2
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
chroot --userspec="$user:$user" --groups= "$root" env -i "$@" <&0 &
wait $!
'
as_root="$ends"'
mount -t proc proc "$1/proc" && mount --rbind /dev "$1/dev" || exit
shift
chroot "$@" <&0 &
wait $!
'
# The commands of a page that this script runs: those below its mark.
commands_of() {
    sed -n '/^<!-- tested by tools.bare_debian.sh -->$/,/^```$/{/^<!--/d;/^```/d;p}' "$1" | grep . ||
        fail "$1 has no commands that are marked for this script"
}
install=$(commands_of README.md)
share=$(commands_of docs/running.md)
wheels=$(commands_of docs/puppet.md)
ansible=$(commands_of docs/ansible.md)
check='distlock --version; distlock-etcd --help >/dev/null; distlock-puppet --help >/dev/null; etcdlocker --help >/dev/null'
shared='test -s /usr/local/share/man/man1/distlock.1 && test -s /usr/local/share/zsh/site-functions/_distlock'
# The folder is all that pip takes.
from_wheels='python3 -m venv /tmp/of_wheels
/tmp/of_wheels/bin/pip --quiet install --no-index --find-links=/srv/wheels distlock-core
/tmp/of_wheels/bin/distlock --version'
with_ansible='make collection >/dev/null
ansible-galaxy collection install dist/distlock-distlock-*.tar.gz >/dev/null
ansible-doc --list distlock.distlock | grep -q "^distlock.distlock.distlock "'
rm -rf "$root/opt/distlock" "$root/opt/ansible" "$root/root/distlock" "$root/srv/wheels" "$root/tmp/of_wheels" "$root"/usr/local/bin/*
git clone --quiet . "$root/root/distlock"
unshare --mount --pid --fork --kill-child bash -c "$as_root" bash "$root" "$root" env -i "${settings[@]}" \
    PATH=/usr/local/bin:/usr/bin:/bin HOME=/root bash -euc "cd /root/distlock
$install
$check
$share
$shared
$wheels
$from_wheels
$ansible
$with_ansible"

enter=(/bin/sh -c 'cd "$HOME/distlock" && exec "$@"' sh)
unshare --mount --pid --fork --kill-child bash -c "$script" bash "$root" "$user" "${settings[@]}" "${enter[@]}" "$@"
