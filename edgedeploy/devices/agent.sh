#!/bin/sh
# The device agent for devices without Python: sh agent.sh FOLDER SYNC OPERATION [ARGUMENT...]
#
# The host joins ondevice/*.sh and this to one program. One operation per run, on the depot in
# FOLDER (docs/device-protocol.md). SYNC is what `hello` said of the tool that syncs here, and "-"
# for the first of a connection, which looks at the tools. It needs a POSIX shell with `test -ef` and `test -O`, and small
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
    free_of i
    if [ "$free" = 0 ]; then
        fail E424 "$* (no inode is free)"
    fi
    fail E424 "$*"
}

main() { # FOLDER SYNC OPERATION ARGUMENT...
    echo "edgedeploy-sh 1"
    case $2 in
    fsync | sync | sync_all) sync_tool=$2 ;;
    *) need_tools && choose_sync ;;
    esac
    enter "$1"
    operation=$3
    shift 3
    case $operation in
    hello | hold | manifest | have | incoming | journal | receive | assemble | stage | \
        admit | trust | entrust | activate | confirm | revert | rollback | collect | note | fsck) "op_$operation" "$@" ;;
    *) fail E431 "there is no operation of that name" ;;
    esac
}

main "$@"
