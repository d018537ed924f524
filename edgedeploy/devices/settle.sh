#!/bin/sh
# Left in the depot by edgedeploy's `activate`; run it at start, before the application, as the
# depot's user: `ExecStartPre=/bin/sh %h/.edgedeploy/APP/settle.sh` in the application's unit.
#
# When the device lost power during a trial, nobody confirmed the new version: this switches back to
# the one before. It changes nothing when no trial is left over or when somebody holds the lock.

cd "$(dirname "$0")" || exit 1
[ -f pending ] || exit 0

if command -v flock >/dev/null 2>&1; then
    exec 9>>lock || exit 1
    flock -n 0 <&9 || exit 0 # ksh gives its programs no other descriptors
elif grep -qF "\"boot\":\"$(cat /proc/sys/kernel/random/boot_id)\"" pending; then
    exit 0 # of this boot: its holder may be alive
fi

# field NAME: the digest that a field of `pending` (one line of JSON) holds, or nothing.
field() {
    sed -n "s/.*\"$1\":\"\([0-9a-f]\{64\}\)\".*/\1/p" pending
}

# point NAME VERSION: let a link lead to a version, in one step: moved *into* the folder, a link
# replaces the one of that name whatever mv there is.
point() {
    mkdir -p "tmp/settle.$$" && ln -sfn "versions/$2" "tmp/settle.$$/$1" || exit 1
    mv -f "tmp/settle.$$/$1" ./ || exit 1
    rmdir "tmp/settle.$$"
    sync
}

leads() {
    [ "$(readlink "$1" 2>/dev/null)" = "versions/$2" ]
}

version=$(field version)
before=$(field before)
# What says nothing that can be used changes nothing, least of all what is active.
[ -n "$version" ] || exit 0
[ -n "$before" ] || grep -qF '"before":null' pending || exit 0
if grep -qF '"kind":"swap"' pending; then
    leads current "$version" || point current "$version"
    [ -z "$before" ] || leads previous "$before" || point previous "$before"
elif [ -n "$before" ] && [ "$before" != "$version" ] && leads previous "$before"; then
    : # the confirmation had begun: the new version stays
elif [ -n "$before" ]; then
    leads current "$before" || point current "$before"
else
    rm -f current
    sync
fi
rm -f pending.back pending
sync
