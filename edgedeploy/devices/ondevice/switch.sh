# What `current` leads to: activation on trial, its end, and going back.

op_activate() { # TOKEN VERSION SECONDS: switch to a version on trial; settle.sh on the input
    under_lock "$1"
    digest "$2"
    number "$3"
    whole "$2" || fail E425 "there is no complete version $2"
    check_current
    settle
    durable versions
    before=$(version_at current)
    # Else a trial would look like one whose confirmation began.
    [ -z "$before" ] || [ "$(goal_of previous)" != "$before" ] || rm -f previous
    take_script
    rm -f pending.back
    if [ -n "$before" ]; then
        ln -s "versions/$before" pending.back || refused "cannot make a link"
    fi
    if ! (announce trial "$2" "$before" "$3" && point current "$2"); then
        settle
        exit 1
    fi
    record activate "$(about "$2" "$before"),\"trial_s\":$3"
}

check_current() { ! exists current || [ -h current ] || fail E429 "current is no link"; }

about() { # VERSION BEFORE: members of a line of the journal
    printf '"before":%s,"version":"%s"' "$(quoted "$2")" "$1"
}

take_script() { # from the input: what ends a trial at the device's start
    scratch
    cat >"$work/settle.sh" || refused "cannot write settle.sh"
    is_file settle.sh && [ "$(sha_of settle.sh)" = "$(sha_of "$work/settle.sh")" ] && return 0
    chmod 0755 "$work/settle.sh" || refused "cannot write settle.sh"
    put "$work/settle.sh" .
}

announce() { # KIND VERSION BEFORE SECONDS
    scratch
    printf '{"before":%s,"boot":"%s","deadline":%s,"kind":"%s","seconds":%s,"token":"%s","version":"%s"}\n' \
        "$(quoted "$3")" "$(boot)" $(($(date +%s) + $4)) "$1" "$4" "$token" "$2" >"$work/pending" ||
        refused "cannot write pending"
    put "$work/pending" .
}

op_confirm() { # TOKEN: the version on trial stays
    under_lock "$1"
    read_pending && [ "$kind" = trial ] && own_trial || fail E426 "no version is on trial"
    [ -z "$before" ] || [ "$before" = "$version" ] || point previous "$before"
    forget pending pending.back
    record confirm "$(about "$version" "$before")"
}

op_revert() { # TOKEN: the version before the trial is active again
    under_lock "$1"
    settle
}

op_rollback() { # TOKEN: current and previous change places
    under_lock "$1"
    settle
    goal=$(version_at previous) before=$(version_at current)
    [ -n "$goal" ] || fail E427 "no version was active before"
    whole "$goal" || fail E427 "the version before, $goal, is not complete"
    check_current
    announce swap "$goal" "$before" 0
    settle
    printf 'current %s\n' "$(goal_of current)"
}

settle_left() { # end what nobody holds any more
    exists pending || return 0
    exec 9>>lock || refused "cannot open the lock"
    flock -n -x 9 || return 0
    settle
    exec 9>&-
}

reverted=
settle() { # bring what was begun to its end
    read_pending || return 0
    if [ "$kind" = swap ]; then
        [ "$(goal_of current)" = "$version" ] || point current "$version"
        [ -z "$before" ] || [ "$(goal_of previous)" = "$before" ] || point previous "$before"
        forget pending pending.back
        record rollback "$(about "$version" "$before")"
    elif [ -n "$before" ] && [ "$before" != "$version" ] && [ "$(goal_of previous)" = "$before" ]; then
        forget pending pending.back # the confirmation had begun
        record confirm "$(about "$version" "$before")"
    else
        go_back
        forget pending pending.back
        reverted=$version
        record revert "$(about "$version" "$before")"
    fi
}

go_back() { # with the link that was made in advance, if it is there: that needs no space
    if [ -z "$before" ]; then
        [ ! -h current ] || forget current
    elif [ "$(goal_of current)" = "$before" ]; then
        :
    elif [ "$(goal_of pending.back)" = "$before" ]; then
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
