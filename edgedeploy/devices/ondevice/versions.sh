# Versions: made of objects, removed when nothing needs them.

op_stage() { # TOKEN VERSION DOWNGRADE; the manifest on the input
    under_lock "$1"
    digest "$2"
    scratch
    made=$work/$2
    mkdir "$made" || refused "cannot make $made"
    cat >"$made/manifest.json" || refused "cannot write the manifest"
    sum_of "$made/manifest.json"
    [ "$sum" = "$2" ] || fail E720 "the manifest arrived damaged"
    chmod 0444 "$made/manifest.json" || refused "cannot protect the manifest"
    files_of "$made/manifest.json" >"$work/files" || refused "cannot read the manifest"
    while IFS=/ read -r sha bytes path; do
        is_path "$path" || fail E434 "a path is not allowed"
        place "$sha"
        is_file "$object" && facts "$object" && [ "$size" = "$bytes" ] ||
            fail E433 "$object is not there"
        case $path in
        */*) is_folder "$made/${path%/*}" || mkdir -p "$made/${path%/*}" || refused "cannot make a folder" ;;
        esac
        ln "$object" "$made/$path" || refused "cannot make a hard link to $object"
    done <"$work/files"
    admit "$made" 1 "$3"
    if ! is_folder "versions/$2"; then
        date_version "$made"
        sync_below "$made"
        put "$made" versions
        record stage "\"version\":\"$2\""
    elif ! whole "$2"; then
        heal "$2"
        record heal "\"version\":\"$2\""
    fi
}

date_version() { # FOLDER: newer than all others, whatever the clock does
    time=$(date +%s)
    newest=$(versions | tail -n 1)
    if [ -n "$newest" ]; then
        last=$(date -r "versions/$newest" +%s)
        [ "$time" -gt "$last" ] || time=$((last + 1))
    fi
    touch -d "@$time" "$1" || refused "cannot date the version"
}

sync_below() { # FOLDER: it and all in it
    find "$1" ! -type l >"$work/names" || refused "cannot list $1"
    set --
    while IFS= read -r name; do
        set -- "$@" "$name"
        if [ $# -eq 50 ]; then
            durable "$@"
            set --
        fi
    done <"$work/names"
    [ $# -eq 0 ] || durable "$@"
}

heal() { # VERSION: put what it should hold over what differs, the manifest last
    find "$made" -type f ! -name manifest.json >"$work/files" || refused "cannot list $made"
    printf '%s\n' "$made/manifest.json" >>"$work/files"
    while IFS= read -r name; do
        path=versions/$1${name#"$made"}
        ! [ "$name" -ef "$path" ] || continue
        fence
        is_file "$path" || drop "$path"
        is_folder "${path%/*}" || drop "${path%/*}"
        mkdir -p "${path%/*}" || refused "cannot make ${path%/*}"
        mv -f "$name" "${path%/*}/" || refused "cannot write $path"
    done <"$work/files"
    date_version "versions/$1"
    sync_below "versions/$1"
}

find_used() { # sets used to what the application uses or will, between spaces
    goal_of current
    used=" $goal "
    ! read_pending || used="$used$version $before "
}

op_collect() { # TOKEN KEEP: remove what is not needed, keep the newest whole versions
    under_lock "$1"
    number "$2"
    scratch
    for name in $(versions); do
        ! whole "$name" || printf '%s\n' "$name"
    done >"$work/whole"
    find_used
    goal_of previous
    kept="$used$goal $(tail -n "$2" "$work/whole" | tr '\n' ' ')"
    for name in $(versions); do
        case $kept in *" $name "*) continue ;; esac
        ! facts "versions/$name/manifest.json" 2>/dev/null || printf 'freed %s\n' "$size"
        take_away "$name"
        record remove "\"version\":\"$name\""
    done
    named=$(for name in $(versions); do
        ! has_manifest "$name" || files_of "versions/$name/manifest.json"
    done | cut -d / -f 1)
    for path in objects/??/*; do
        case $named in *"${path##*/}"*) continue ;; esac
        # One with more links is held by a version whose manifest is damaged.
        is_file "$path" && is_digest "${path##*/}" && facts "$path" && [ "$links" -eq 1 ] || continue
        free "$path"
    done
    find incoming -type f -name '*.part' -mtime +6 >"$work/old" || refused "cannot list incoming"
    while IFS= read -r path; do
        ! facts "$path" || free "$path"
    done <"$work/old"
}

free() { # FILE
    fence
    rm -f "$1" || refused "cannot remove $1"
    printf 'freed %s\n' "$size"
}

take_away() { # VERSION: by one rename from its place, then for good
    fence
    mv -f "versions/$1" "$work/" || refused "cannot remove version $1"
    durable versions
    drop "$work/$1"
}
