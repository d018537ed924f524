#!/bin/sh
# The device agent for devices without Python: sh agent.sh FOLDER OPERATION [ARGUMENT...]
#
# The host joins ondevice/*.sh and this to one program. One operation per run, on the depot in
# FOLDER (docs/device-protocol.md). It needs a POSIX shell with `test -ef` and `test -O`, and small
# tools as busybox has them. Answers are lines after "edgedeploy-sh 1"; a failure is a line
# "! CODE MESSAGE" and status 1. Lists and data come on standard input.
#
# Numbers that may pass 2^31 are text and never computed with: some shells have no more bits.

LC_ALL=C
export LC_ALL
umask 022 # the depot itself is 0700
set -u

fail() { # CODE MESSAGE
    printf '! %s\n' "$*"
    exit 1
}

refused() { # MESSAGE: the system refuses; what it said is on standard error
    fail E424 "$*"
}

main() { # FOLDER OPERATION ARGUMENT...
    echo "edgedeploy-sh 1"
    need_tools
    enter "$1"
    operation=$2
    shift 2
    case $operation in
    hello | hold | manifest | have | incoming | journal | receive | assemble | stage | \
        activate | confirm | revert | rollback | collect | note | fsck) "op_$operation" "$@" ;;
    *) fail E431 "there is no operation of that name" ;;
    esac
}

main "$@"
