# What `current` leads to: activation on trial, its end, and going back.

op_activate() { # TOKEN VERSION SECONDS DEVELOPMENT DOWNGRADE: on trial; settle.sh on the input
    under_lock "$1"
    digest "$2"
    number "$3"
    whole "$2" || fail E425 "there is no complete version $2"
    check_current
    settle
    admit "versions/$2" "$4" "$5" </dev/null
    note_next
    durable versions
    version_at current
    before=$goal
    # Else a trial would look like one whose confirmation began.
    [ -z "$before" ] || ! names previous "$before" || rm -f previous
    take_script
    ! exists pending.back || rm -f pending.back
    if [ -n "$before" ]; then
        ln -s "versions/$before" pending.back || refused "cannot make a link"
    fi
    if ! (announce trial "$2" "$before" "$3" && point current "$2"); then
        settle
        exit 1
    fi
    about "$2" "$before"
    record activate "$about,\"trial_s\":$3"
}

check_current() {
    ! exists current || [ -h current ] || fail E429 "current is no link"
    probe_move
}

about() { # VERSION BEFORE: sets about to members of JSON
    about="\"before\":null,\"version\":\"$1\""
    [ -z "$2" ] || about="\"before\":\"$2\",\"version\":\"$1\""
}

take_script() { # from the input: what ends a trial at the device's start
    scratch
    cat >"$work/settle.sh" || refused "cannot write settle.sh"
    if is_file settle.sh; then
        sum_of settle.sh
        same=$sum
        sum_of "$work/settle.sh"
        [ "$sum" != "$same" ] || return 0
    fi
    chmod 0755 "$work/settle.sh" || refused "cannot write settle.sh"
    put "$work/settle.sh" .
}

announce() { # KIND VERSION BEFORE SECONDS
    scratch
    boots
    about "$2" "$3"
    printf '{%s,"boot":"%s","deadline":%s,"kind":"%s","seconds":%s,"token":"%s"}\n' "$about" \
        "$boot" $(($(date +%s) + $4)) "$1" "$4" "$token" >"$work/pending" ||
        refused "cannot write pending"
    put "$work/pending" .
}

op_confirm() { # TOKEN: the version on trial stays
    under_lock "$1"
    read_pending && [ "$kind" = trial ] && own_trial || fail E426 "no version is on trial"
    keep_next
    [ -z "$before" ] || [ "$before" = "$version" ] || point previous "$before"
    forget pending.back pending
    about "$version" "$before"
    record confirm "$about"
}

op_revert() { # TOKEN: the version before the trial is active again
    under_lock "$1"
    settle
}

op_rollback() { # TOKEN: current and previous change places
    under_lock "$1"
    settle
    version_at previous
    [ -n "$goal" ] || fail E427 "no version was active before"
    whole "$goal" || fail E427 "the version before, $goal, is not complete"
    check_current
    admit "versions/$goal" 1 1 # it was active: however old, and though nobody signed it
    back=$goal
    version_at current
    announce swap "$back" "$goal" 0
    settle
    printf 'current %s\n' "$back"
}

settle_left() { # end what nobody holds any more
    exists pending || return 0
    can_lock
    exec 9>>lock
    flock -n -x 0 <&9 || return 0
    settle
    exec 9>&-
}

reverted=
settle() { # bring what was begun to its end
    if ! read_pending; then
        rm -f pending.back
        return 0
    fi
    about "$version" "$before"
    if [ "$kind" = swap ]; then
        names current "$version" || point current "$version"
        [ -z "$before" ] || names previous "$before" || point previous "$before"
        forget pending.back pending
        record rollback "$about"
    elif [ -n "$before" ] && [ "$before" != "$version" ] && names previous "$before"; then
        forget pending.back pending # the confirmation had begun
        record confirm "$about"
    else
        go_back
        forget pending.back pending
        reverted=$version
        record revert "$about"
    fi
}

go_back() { # with the link that was made in advance, if it is there: that needs no space
    if [ -z "$before" ]; then
        [ ! -h current ] || forget current
    elif names current "$before"; then
        :
    elif names pending.back "$before"; then
        fence
        rm -f tmp/current
        if ! { mv -f pending.back tmp/current && mv -f tmp/current ./; }; then
            refused "cannot switch current"
        fi
        durable .
    else
        point current "$before"
    fi
}
