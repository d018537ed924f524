# Checking a whole depot, and putting right what can be.

op_fsck() { # TOKEN REPAIR: rehash every object, check every version, link and name
    under_lock "$1"
    number "$2"
    repair=$2 bad=' ' damaged=0
    find_strangers
    find_strays
    scratch
    for path in objects/[0-9a-f][0-9a-f]/*; do
        is_file "$path" && is_digest "${path##*/}" || continue
        facts "$path" && printf 'at %s\n' "$size"
        sum_of "$path"
        [ "$sum" != "${path##*/}" ] || continue
        bad="$bad${path##*/} "
        if [ "$repair" -eq 1 ]; then
            forget_object "$path"
        fi
        found bad-object "$path" "$repair"
    done
    for name in $(versions); do
        check_version "$name"
    done
    check_links
    [ "$repair$damaged" != 11 ] || record repair '"found":true'
}

found() { # WHAT PATH REPAIRED
    printf 'found %s %s %s\n' "$1" "$3" "$(printf '%s' "$2" | shown)"
    damaged=1
}

forget_object() { # PATH
    fence
    rm -f "$1" || refused "cannot remove $1"
    durable "${1%/*}"
}

check_version() { # VERSION
    true >"$work/listed"
    list_wrong "$1" >"$work/wrong"
    if [ ! -s "$work/wrong" ]; then
        find_extra "versions/$1"
    elif [ "$repair" -eq 0 ]; then
        found bad-version "versions/$1" 0
    elif relink_all "versions/$1"; then
        found bad-version "versions/$1" 1
        find_extra "versions/$1"
    else
        find_used # it stays; a push heals it
        case $used in *" $1 "*) found bad-version "versions/$1" 0 && return 0 ;; esac
        take_away "$1"
        found bad-version "versions/$1" 1
    fi
}

list_wrong() { # VERSION: DIGEST/PATH of each file that is not its good object
    if ! has_manifest "$1"; then
        echo unreadable
        return 0
    fi
    files_of "versions/$1/manifest.json" >"$work/listed"
    while IFS=/ read -r sha bytes path; do
        case $bad in
        *" $sha "*) ;;
        *) ! is_its_object "versions/$1/$path" "$sha" "$bytes" || continue ;;
        esac
        printf '%s/%s\n' "$sha" "$path"
    done <"$work/listed"
}

relink_all() { # FOLDER: make what is wrong in a version one with its objects again
    while IFS=/ read -r sha path; do
        is_digest "$sha" && is_path "$path" || return 1
        place "$sha"
        relink "$1/$path" "$object" "$sha" || relink "$object" "$1/$path" "$sha" || return 1
    done <"$work/wrong"
}

relink() { # SOURCE LOST DIGEST: give the lost name to the source, if that is right
    is_file "$1" && is_folder "${2%/*}" && sum_of "$1" && [ "$sum" = "$3" ] || return 1
    mkdir -p "$work/link" && ln "$1" "$work/link/${2##*/}" || return 1
    fence
    mv -f "$work/link/${2##*/}" "${2%/*}/" || return 1
    durable "${2%/*}"
}

find_extra() { # FOLDER: what its manifest does not list
    listed="
manifest.json
$(cut -d / -f 3- "$work/listed")
"
    find "$1" >"$work/names" || refused "cannot list $1"
    while IFS= read -r name; do
        name=${name#"$1"}
        name=${name#/}
        case $listed in
        *"
${name:-manifest.json}
"* | *"
$name/"*) ;;
        *) found foreign "$1/$name" 0 ;;
        esac
    done <"$work/names"
}

find_strangers() { # what has no place in a depot
    for path in * .[!.]* ..?* versions/* incoming/* objects/* objects/*/*; do
        exists "$path" || continue
        name=${path##*/}
        case $path in
        versions/*) is_digest "$name" && is_folder "$path" && continue ;;
        incoming/*.part) is_digest "${name%.part}" && is_file "$path" && continue ;;
        incoming/*) ;;
        objects/*/*)
            case $path in objects/[0-9a-f][0-9a-f]/*) ;; *) continue ;; esac
            is_folder "${path%/*}" || continue
            place "$name"
            is_digest "$name" && is_file "$path" && [ "$path" = "$object" ] && continue
            ;;
        objects/[0-9a-f][0-9a-f]) is_folder "$path" && continue ;;
        objects/*) ;;
        incoming | objects | tmp | versions | current | format | journal.jsonl | lock | lock.owner | \
            pending | pending.back | previous | settle.sh | trust.json | releases.json | \
            releases.json.lock | releases.json.part | releases.next) continue ;;
        esac
        found foreign "$path" 0
    done
}

find_strays() { # what interrupted runs left; a trial's own files are none
    for path in tmp/* pending pending.back; do
        exists "$path" || continue
        case $path in pending*) ! read_pending || continue ;; esac
        if [ "$repair" -eq 1 ]; then
            fence
            drop "$path"
        fi
        found stray "$path" "$repair"
    done
}

check_links() {
    for name in current previous; do
        version_at "$name"
        exists "$name" && [ -z "$goal" ] || continue
        if [ "$repair" -eq 1 ] && [ "$name" = previous ] && [ -h previous ]; then
            forget previous
            found bad-link previous 1
        else
            found bad-link "$name" 0
        fi
    done
}
