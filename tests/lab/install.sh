#!/bin/sh
# Install what the test lab needs of this machine, where that can be done: as root, with apt.
#
#   tests/lab/install.sh        says what it does; quiet when nothing is missing
#
# Never fails: what is missing afterwards, the run's list of capabilities names. No server is
# started, now or at the next boot: the lab runs sshd itself.
set -eu
cd "$(dirname "$0")"
PATH=$PATH:/usr/sbin:/sbin

say() { printf '%s\n' "lab: $*" >&2; }

there() {
    case $1 in
        /*) [ -e "$1" ] ;;
        *) command -v "$1" >/dev/null ;;
    esac
}

missing=
while read -r package sign; do
    case $package in
        '' | '#'*) continue ;;
        *-arm64-cross) [ "$(uname -m)" != aarch64 ] || continue ;; # the machine's own are for arm64
    esac
    there "$sign" || missing="$missing $package"
done <system-packages.txt
[ -n "$missing" ] || exit 0

if [ "$(uname -s)" != Linux ]; then
    exit 0
elif [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    say "tests on devices of the lab will be skipped; they need root, and of Debian:$missing"
    exit 0
fi

# Debian asks this program before it starts a server of a package that it installs.
policy=/usr/sbin/policy-rc.d
log=$(mktemp)
ours=
trap 'rm -f "$log" $ours' EXIT
if [ ! -e "$policy" ] && printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy"; then
    ours=$policy
fi
case $missing in
    *openssh-server*)
        if [ -d /run/systemd/system ] && [ ! -e /etc/systemd/system/ssh.service ]; then
            if ln -s /dev/null /etc/systemd/system/ssh.service; then
                say "ssh.service is masked, so that no server runs; undo: systemctl unmask ssh"
            fi
        fi
        ;;
esac

install() {
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        -o DPkg::Lock::Timeout=300 "$@"
}

say "installing$missing with apt-get"
apt-get update -qq >"$log" 2>&1 || true
# shellcheck disable=SC2086 # $missing is several words
if ! install $missing >>"$log" 2>&1; then
    # One that this release lacks must not keep the others away.
    for package in $missing; do
        install "$package" >>"$log" 2>&1 || say "apt-get could not install $package"
    done
    tail -n 5 "$log" >&2
    say "what is missing now, the tests that need it will say"
fi
