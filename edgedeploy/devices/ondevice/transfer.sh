# Streams that come in, and objects that are put together of them and of other objects.

FRAME=4194304
BLOCK=65536

op_incoming() { # STREAM: the digest of each frame, then the length
    digest "$1"
    part=incoming/$1.part
    is_file "$part" || { echo 'length 0' && return 0; }
    frame=0
    while :; do
        sum=$(dd if="$part" bs=$FRAME skip=$frame count=1 2>/dev/null | sha256sum)
        [ "${sum%% *}" != $EMPTY ] || break
        printf 'frame %s\n' "${sum%% *}"
        frame=$((frame + 1))
    done
    facts "$part" || refused "cannot read $part"
    printf 'length %s\n' "$size"
}

# Cut a stream to whole frames and append the input, of which the first line names the compression.
op_receive() { # TOKEN STREAM FRAMES KIB BYTES: so much room is needed
    under_lock "$1"
    digest "$2"
    number "$3"
    number "$4"
    free_of k
    [ "${free:-$4}" -ge "$4" ] || fail E423 "the rest of the stream needs $5 bytes, $free KiB are free"
    part=incoming/$2.part
    is_file "$part" || drop "$part"
    if [ "$3" -gt 0 ]; then
        count=$(dd if="$part" bs=$FRAME skip=$(($3 - 1)) count=1 2>/dev/null | wc -c)
        [ "$count" -eq $FRAME ] || fail E432 "$part has not $3 whole frames"
    fi
    if ! said=$(dd if=/dev/null of="$part" bs=$FRAME seek="$3" 2>&1); then
        printf '%s\n' "$said" >&2
        refused "cannot cut $part"
    fi
    echo ready
    read -r codec
    exec 3<&0
    case $codec in
    raw) cat <&3 >>"$part" & ;;
    gzip) gzip -dc <&3 >>"$part" & ;;
    *) fail E431 "an argument is no codec" ;;
    esac
    copy=$!
    watch_copy $copy "$part" </dev/null 3<&- 8>&- &
    watcher=$!
    wait $copy
    status=$?
    kill $watcher 2>/dev/null
    wait $watcher 2>/dev/null
    facts "$part" && printf 'at %s\n' "$size"
    fence
    [ $status -eq 0 ] || refused "cannot write $part"
}

watch_copy() { # PID FILE: tell how far it is; end it with the lease, or when nothing came for long
    before='' idle=0
    while sleep 1 >/dev/null 2>&1 && kill -0 "$1" 2>/dev/null; do
        idle=$((idle + 1))
        if facts "$2" && [ "$size" != "$before" ]; then
            before=$size idle=0
            printf 'at %s\n' "$size"
        fi
        owned && [ $idle -lt $((2 * LEASE)) ] || kill "$1"
    done
}

op_assemble() { # TOKEN DIGEST SIZE STREAM HOW: make an object of the stream (all), or join pieces
    under_lock "$1"
    digest "$2"
    number "$3"
    [ "$4" = - ] || digest "$4"
    folder=objects/${2%"${2#??}"}
    is_folder "$folder" || mkdir "$folder" || refused "cannot make $folder"
    place "$2"
    if is_file "$object" && facts "$object" && [ "$size" = "$3" ]; then
        durable "$folder" objects
    else
        scratch
        goal=$work/$2 used=
        case $5 in
        all) take_stream "$4" ;;
        *) join_pieces "$4" ;;
        esac
        facts "$goal" && [ "$size" = "$3" ] || fail E433 "what $2 is made of is shorter than it"
        sum_of "$goal"
        [ "$sum" = "$2" ] || blame "$4"
        chmod 0444 "$goal" || refused "cannot protect $2"
        durable objects
        put "$goal" "$folder"
    fi
    ! exists "incoming/$4.part" || rm -f "incoming/$4.part"
}

take_stream() { # STREAM: without a copy; a wrong one is of no use to anybody
    is_file "incoming/$1.part" || fail E433 "incoming/$1.part is not there"
    fence
    mv -f "incoming/$1.part" "$goal" || refused "cannot take incoming/$1.part"
}

join_pieces() { # STREAM; pieces on the input
    true >"$goal" || refused "cannot write $goal"
    while read -r source block from count; do
        number "$block" && number "$from" && number "$count"
        if [ "$source" = - ]; then
            source=incoming/$1.part
        else
            digest "$source"
            case $used in *"$source"*) ;; *) used="$used $source" ;; esac
            place "$source"
            source=$object
        fi
        is_file "$source" || fail E433 "$source is not there"
        if ! piece "$source" "$block" "$from" "$count" >>"$goal" 2>"$work/said"; then
            cat "$work/said" >&2
            refused "cannot write $goal"
        fi
    done
}

piece() { # SOURCE BLOCK FROM COUNT: COUNT blocks or, with FROM > 0, COUNT bytes from that byte on
    if [ "$3" -eq 0 ]; then
        dd if="$1" bs=$BLOCK skip="$2" count="$4"
    else
        dd if="$1" bs=$BLOCK skip="$2" count=1 | tail -c "+$3" | head -c "$4"
    fi
}

blame() { # STREAM: remove what made a wrong object: the stream, objects that are not their names
    fence
    rm -f "incoming/$1.part"
    for source in $used; do
        place "$source"
        sum_of "$object"
        [ "$sum" = "$source" ] || drop "$object"
    done
    fail E720 "what was put together for ${goal##*/} is not it"
}
