# Checked names, and what every change on the disk is made of: syncs, and links by rename.
#
# To start a process takes milliseconds on a small board, so functions that tell something set a
# variable instead of printing it, and small files are read by the shell itself.

EMPTY=e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855

is_digest() {
    case $1 in *[!0-9a-f]*) return 1 ;; esac
    [ ${#1} -eq 64 ]
}

is_number() {
    case $1 in '' | *[!0-9]* | 0?*) return 1 ;; esac
    [ ${#1} -le 15 ]
}

is_path() { # relative, without parts that are empty, "." or ".."
    case /$1/ in *//* | */./* | */../*) return 1 ;; esac
    [ "$1" != manifest.json ]
}

digest() { is_digest "$1" || fail E431 "an argument is no digest"; }
number() { is_number "$1" || fail E431 "an argument is no number"; }

is_file() { [ -f "$1" ] && [ ! -h "$1" ]; }
is_folder() { [ -d "$1" ] && [ ! -h "$1" ]; }
exists() { [ -e "$1" ] || [ -h "$1" ]; }
place() { object=objects/${1%"${1#??}"}/$1; }
shown() { tr -c '0-9A-Za-z._/-' '?'; }

sum_of() { # FILE: sets sum to its digest, empty when it cannot be read
    sum=$(sha256sum <"$1") || sum=
    sum=${sum%% *}
}

facts() { # sets mode, links and size of a name that exists, not following a link
    line=$(ls -lnd "$1") || return 1
    set -f
    # shellcheck disable=SC2086 # the fields of the line
    set -- $line
    set +f
    mode=$1 links=$2 size=$5
}

member() { # FILE NAME: sets text to a string or number of one line of JSON; empty without it
    text=
    [ -f "$1" ] || return 0
    read -r text <"$1" || :
    case $text in *"\"$2\":"*) text=${text#*"\"$2\":"} ;; *) text= ;; esac
    case $text in
    \"*) text=${text#\"} && text=${text%%\"*} ;;
    *) text=${text%%[,\}]*} ;;
    esac
    case $text in null | *[!0-9a-zA-Z.]*) text= ;; esac
}

sync_all() { command sync; }

choose_sync() { # sets sync_tool: what syncs single files or, where no tool can, everything
    if command -v fsync >/dev/null; then
        sync_tool=fsync
    elif sync "$0" 2>/dev/null && ! sync "$0/absent" 2>/dev/null; then
        sync_tool=sync
    else
        sync_tool=sync_all
    fi
}

durable() { # a failure means: not written
    $sync_tool "$@" || refused "cannot sync $1"
}

drop() { rm -rf "$1" || refused "cannot remove $1"; }

work=
scratch() { # a folder of this run; the next holder of the lock sweeps what a dead one left
    [ -z "$work" ] || return 0
    work=tmp/sh.$$
    ! exists "$work" || drop "$work"
    mkdir "$work" || refused "cannot make $work"
    trap 'drop "$work"' EXIT
}

put() { # FILE FOLDER: give a file its place by one rename, durable
    durable "$1"
    fence
    mv -f "$1" "$2/" || refused "cannot write $2/${1##*/}"
    durable "$2"
}

# A link that is moved into a folder replaces the link of that name there by one rename; with the
# link itself as the goal, mv would follow it.
point() { # NAME VERSION: old or new, durable
    scratch
    ln -s "versions/$2" "$work/$1" || refused "cannot make a link"
    fence
    mv -f "$work/$1" ./ || refused "cannot switch $1"
    names "$1" "$2" || fail E481 "mv does not replace a link"
    durable .
}

probe_move() { # whether mv does that; tried where nothing can be harmed
    scratch
    if ! { mkdir "$work/goal" "$work/from" && ln -s goal "$work/link" && ln -s new "$work/from/link"; }
    then
        refused "cannot make a link"
    fi
    mv -f "$work/from/link" "$work/"
    [ "$(readlink "$work/link")" = new ] || fail E481 "mv does not replace a link"
}

forget() { # NAME...: remove files or links of the depot, durable
    fence
    rm -f "$@" || refused "cannot remove $1"
    durable .
}
