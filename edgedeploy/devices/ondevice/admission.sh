# Whether a version may become active: the check of a signed release, where a depot trusts keys.
#
# The native runner makes it (native/admit.c), which lies with the runtime that was provisioned.

RUNNER=../.runtimes/ort/current/runner

memory=
admit() { # FOLDER DEVELOPMENT DOWNGRADE: refuse, or set memory to what is to be remembered
    memory=
    exists trust.json || return 0
    if [ "$(of_manifest "$1" 's/.*\],"kind":"\([a-z]*\)","models":.*/\1/p')" != release ]; then
        [ "$2" = 1 ] || fail E755 "the device takes signed releases, and this is none"
        return 0
    fi
    [ -x "$RUNNER" ] || fail E754 "it trusts keys, and has neither Python nor the native runner"
    scratch
    target=$(of_manifest "$1" 's/.*"target":"\([^"]*\)"}\],"schema":1}$/\1/p')
    app=$(pwd -P)
    "$RUNNER" - admit "$1" "${target:--}" trust.json releases.json "${app##*/}" "$3" \
        >"$work/said" 2>"$work/errors"
    status=$?
    last=$(tail -n 1 "$work/said" | head -c 2000)
    case $status$last in
    0end) ;;
    *'failed admit E7'*)
        told=${last#failed admit }
        fail "${told%%:*} ${told#*:}" # the host takes its %XX apart
        ;;
    *'failed admit E602'*) refused "the runner cannot read: ${last#failed admit }" ;;
    *) fail E754 "its native runner makes no such check (status $status)" ;;
    esac
    memory=$(sed -n 's/^memory //p' "$work/said")
}

of_manifest() { # FOLDER SCRIPT: what sed finds in the manifest there
    { cat "$1/manifest.json" && echo; } | sed -n "$2"
}

op_admit() { # VERSION DEVELOPMENT DOWNGRADE
    digest "$1"
    whole "$1" || fail E425 "there is no complete version $1"
    admit "versions/$1" "$2" "$3"
}

note_next() { # what op_confirm makes the memory of what was active
    rm -f releases.next
    [ -n "$memory" ] || return 0
    scratch
    printf '%s' "$memory" >"$work/releases.next" || refused "cannot write releases.next"
    put "$work/releases.next" .
}

keep_next() { # before the rest of a confirmation: what is confirmed is never forgotten
    is_file releases.next || return 0
    fence
    mv -f releases.next releases.json || refused "cannot write releases.json"
    durable .
}

op_trust() { # a line and the trust file; nothing where there is none
    ! exists trust.json || { echo there && cat trust.json; } || refused "cannot read trust.json"
}

op_entrust() { # TOKEN DIGEST; the trust file on the input
    under_lock "$1"
    digest "$2"
    scratch
    cat >"$work/trust.json" || refused "cannot write trust.json"
    sum_of "$work/trust.json"
    [ "$sum" = "$2" ] || fail E720 "the trust file arrived damaged"
    chmod 0644 "$work/trust.json" || refused "cannot protect trust.json"
    put "$work/trust.json" .
    record entrust "\"sha256\":\"$2\""
}
