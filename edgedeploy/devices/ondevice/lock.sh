# The depot's lock, who holds it, and the journal of what its holders did.
#
# The holder (hold) and every operation under the lock share it; who comes anew wants it alone. So
# nobody gets it while an operation of a holder that is gone still runs. flock gets the descriptor as
# its input, because some shells (mksh) give programs no others.

LEASE=30

token=
owned() { member lock.owner token && [ "$text" = "$token" ]; }
own_trial() { member pending token && [ "$text" = "$token" ]; }
holder() { case $1 in '' | *[!0-9a-f]*) fail E431 "an argument is no token" ;; esac; }

fence() { # right before every change
    [ -z "$token" ] || owned || lost
}

lost() { fail E422 "the depot's lock is not held by this run"; }

can_lock() { # the shell ends when `exec` cannot open a file
    true >>lock || refused "cannot open the lock"
}

under_lock() { # TOKEN: join the lock of its holder for the rest of this run
    holder "$1"
    token=$1
    fence
    can_lock
    exec 8>>lock
    ! flock -n -x 0 <&8 || lost # its holder is gone
    soon 5 flock -n -s 0 <&8 || lost
    fence
}

# Not with `timeout`: that of busybox leaves a process behind for a while, which keeps the lock.
soon() { # COUNT COMMAND...: try it so many times, a second apart
    tries=$1
    shift
    until "$@"; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] && sleep 1 || return 1
    done
}

op_hold() { # TOKEN WHO: take the lock; keep it while a line comes within the lease
    holder "$1"
    case $2 in '' | *[!0-9A-Za-z@._-]*) fail E431 "an argument is no name" ;; esac
    trap '' HUP PIPE # what follows the end of the input must happen
    can_lock
    exec 9>>lock
    flock -n -x 0 <&9 || fail E421 "$(head -c 512 lock.owner 2>/dev/null | head -n 1)"
    for left in tmp/*; do
        drop "$left"
    done
    settle
    own "{\"pid\":$$,\"since\":$(date +%s),\"token\":\"$1\",\"who\":\"$2\"}"
    token=$1
    share || fail E421 "$(head -c 512 lock.owner 2>/dev/null | head -n 1)"
    echo locked
    watch_input
    ! owned || own '{}' # fences what still runs
    if own_trial && soon 60 flock -n -x 0 <&9 && own_trial; then
        token=
        settle
    fi
    echo unlocked
}

own() { # overwritten in place: that needs no space, so a full disk can still be cleaned
    printf '%-511s\n' "$1" 1<>lock.owner || refused "cannot write lock.owner"
}

share() { flock -n -s 0 <&9 && owned; }

seconds() { # sets now: since the device started, so that setting its clock changes nothing
    if [ -r /proc/uptime ] && read -r now _ </proc/uptime; then
        now=${now%%.*}
    else
        now=$(date +%s)
    fi
}

watch_input() { # return when the input or the lease ends; end an own trial at its deadline
    silent=0 trial=
    while [ $silent -lt $LEASE ]; do
        wait_s=$((LEASE - silent))
        if own_trial && read_pending && member pending seconds && is_number "$text"; then
            seconds
            if [ "$trial" != "$version $deadline" ]; then
                trial="$version $deadline"
                ends=$((now + text))
            fi
            left_s=$((ends - now))
            if [ $left_s -le 0 ]; then
                end_trial || return 0
                left_s=1
            fi
            [ $left_s -ge $wait_s ] || wait_s=$left_s
        fi
        if beat=$(timeout $wait_s head -n 1 9>&-); then
            [ -n "$beat" ] || return 0
            silent=0
        else
            silent=$((silent + wait_s))
        fi
    done
}

end_trial() { # alone, so that no confirmation runs meanwhile; fails when the lock was lost
    if flock -n -x 0 <&9; then
        owned || return 1
        ! own_trial || settle
    fi
    share
}

boots() { # sets boot: the name of this boot of the device, empty where the kernel tells none
    boot=
    [ ! -r /proc/sys/kernel/random/boot_id ] || read -r boot </proc/sys/kernel/random/boot_id
    case $boot in *[!0-9a-f-]*) boot= ;; esac
}

record() { # EVENT MEMBERS: a line of the journal; a full disk must not keep a change from being done
    (note "\"event\":\"$1\",$2") >/dev/null 2>&1 || :
}

note() { # MEMBERS: a line of the journal, cut to its newer half at 1 MiB
    boots
    line="{\"boot\":\"$boot\",\"clock\":$(date +%s),$1}"
    [ -z "$(tail -c 1 journal.jsonl 2>/dev/null)" ] || line="
$line" # after one that a power cut tore
    printf '%s\n' "$line" >>journal.jsonl || refused "cannot write the journal"
    durable journal.jsonl
    facts journal.jsonl && [ "$size" -gt 1048576 ] || return 0
    scratch
    tail -c 524288 journal.jsonl | tail -n +2 >"$work/journal.jsonl" || refused "cannot cut the journal"
    put "$work/journal.jsonl" .
}

op_note() { # TOKEN; a line of members on the input
    under_lock "$1"
    IFS= read -r line
    note "$line"
}

op_journal() { # COUNT
    number "$1"
    ! is_file journal.jsonl || tail -n "$1" journal.jsonl
}
