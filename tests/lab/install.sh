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

missing=
while read -r package program; do
    case $package in '' | '#'*) continue ;; esac
    command -v "$program" >/dev/null || missing="$missing $package"
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
ours=
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    ours=$policy
fi
trap '[ -z "$ours" ] || rm -f "$ours"' EXIT
case $missing in
    *openssh-server*)
        if [ -d /run/systemd/system ] && [ ! -e /etc/systemd/system/ssh.service ]; then
            ln -s /dev/null /etc/systemd/system/ssh.service
            say "ssh.service is masked, so that no server runs; undo: systemctl unmask ssh"
        fi
        ;;
esac

say "installing$missing with apt-get"
{
    apt-get update -qq || true
    # shellcheck disable=SC2086 # $missing is several words
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing
} >install.log 2>&1 || {
    tail -n 5 install.log >&2
    say "apt-get could not install them; the tests that need them will say so"
}
rm -f install.log
