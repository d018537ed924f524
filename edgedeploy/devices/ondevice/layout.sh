# The depot's folders and names: entering it, its links, its versions and their manifests.

need_tools() {
    for tool in cat chmod cut date dd df find flock head ln ls mkdir mv printf readlink rm sed \
        sha256sum sleep sync tail timeout touch tr wc; do
        command -v $tool >/dev/null || fail E480 "$tool"
    done
}

enter() { # FOLDER: make it the current one
    case $1 in
    "~"/*) root=$HOME/${1#??} ;;
    /*) root=$1 ;;
    *) fail E429 "the depot's path is not absolute on the device" ;;
    esac
    exists "$root" || make_folders "$root" || exit 1
    [ -d "$root" ] || fail E429 "$root is no folder"
    cd "$root" || refused "cannot enter $root"
    # shellcheck disable=SC3067 # dash, ash, bash and mksh have it
    [ -O . ] || fail E430 "$root belongs to another user"
    facts . || refused "cannot read $root"
    case $mode in ?????w* | ????????w*) fail E430 "$root may be written by others" ;; esac
}

make_folders() ( # FOLDER: it and those above, durable
    exists "${1%/*}/" || make_folders "${1%/*}"
    cd "${1%/*}/" || refused "cannot enter ${1%/*}"
    mkdir -m 0700 "${1##*/}" || exists "${1##*/}" || refused "cannot make $1"
    durable .
)

make_depot() {
    for name in * .[!.]*; do
        case $name in
        incoming | objects | tmp | versions | lock | lock.owner) ;;
        *) ! exists "$name" || fail E429 "$root holds other things ($(printf '%s' "$name" | shown))" ;;
        esac
    done
    make_parts
    printf '1\n' >"tmp/format.$$" || refused "cannot write format"
    durable "tmp/format.$$" .
    mv -f "tmp/format.$$" format || exists format || refused "cannot write format"
    durable .
}

make_parts() {
    for name in incoming objects tmp versions; do
        ! is_folder "$name" || continue
        ! exists "$name" || fail E429 "$name is something else where a folder belongs"
        mkdir "$name" || is_folder "$name" || refused "cannot make $name"
        durable .
    done
}

op_hello() { # make the depot if there is none, settle what nobody holds, tell the state
    exists format || make_depot
    found=$(head -c 16 format)
    [ "$found" = 1 ] || fail E429 "$root is of format $(printf '%s' "$found" | shown)"
    make_parts
    settle_left
    durable versions
    printf 'sync %s\nroot %s\n' "$sync_tool" "$(pwd -P)"
    for name in $(versions); do
        ! whole "$name" || printf 'version %s\n' "$name"
    done
    for name in current previous; do
        version_at $name
        [ -z "$goal" ] || printf '%s %s\n' $name "$goal"
    done
    if read_pending && [ "$kind" = trial ]; then printf 'pending %s\n' "$version"; fi
    [ -z "$reverted" ] || printf 'reverted %s\n' "$reverted"
    free_of k
    printf 'free_kib %s\n' "$free"
    printf 'clock %s\n' "$(date +%s)"
    if command -v gzip >/dev/null; then echo 'codec gzip'; fi
}

free_of() { # k or i: sets free to the free KiB or inodes, empty when df does not tell
    free=
    line=$(df "-P$1" . 2>/dev/null | tail -n 1)
    case $line in *%*) ;; *) return 0 ;; esac
    set -f
    # shellcheck disable=SC2086 # file system, all, used, free, used in %
    set -- ${line%%%*}
    set +f
    [ $# -gt 2 ] || return 0
    shift $(($# - 2))
    ! is_number "$1" || free=$1
}

goal_of() { # LINK: sets goal to the version that it names, there or not; empty if it is no such link
    goal=
    [ -h "$1" ] || return 0
    goal=$(readlink "$1")
    case $goal in versions/*) goal=${goal#*/} ;; *) goal= ;; esac
    is_digest "$goal" || goal=
}

version_at() { # LINK: sets goal to the version that it leads to; empty when there is none
    goal_of "$1"
    [ -z "$goal" ] || is_folder "versions/$goal" || goal=
}

names() { # LINK VERSION: whether it names that one
    goal_of "$1"
    [ "$goal" = "$2" ]
}

versions() { # oldest first by the times of their folders, which op_stage keeps rising by seconds
    # shellcheck disable=SC2012 # a name with a line end is none of ours
    ls -tr versions | while IFS= read -r name; do
        ! is_digest "$name" || ! is_folder "versions/$name" || printf '%s\n' "$name"
    done
}

files_of() { # MANIFEST: DIGEST/SIZE/PATH of each file; the form is canonical JSON of schema 1
    { cat "$1" && echo; } | sed 's/{"path":"/\
/g' | sed -n -e 1d -e 's/","segments":\[[][0-9a-f",]*\],"sha256":"/","sha256":"/' \
        -e 's/^\(.*\)","sha256":"\([0-9a-f]\{64\}\)","size":\([0-9]*\)}.*$/\2\/\3\/\1/' -e t\ path \
        -e d -e ':path' -e 's/\\\(["\\]\)/\1/g' -e p
}

has_manifest() { # VERSION: and it is what its name says
    is_folder "versions/$1" && is_file "versions/$1/manifest.json" &&
        sum_of "versions/$1/manifest.json" && [ "$sum" = "$1" ]
}

is_its_object() { # PATH DIGEST SIZE
    place "$2"
    is_file "$1" && [ "$1" -ef "$object" ] && facts "$1" && [ "$size" = "$3" ]
}

whole() { # VERSION: every file is its object and of its size; not rehashed
    has_manifest "$1" && files_of "versions/$1/manifest.json" | (
        while IFS=/ read -r sha bytes path; do
            is_path "$path" && is_its_object "versions/$1/$path" "$sha" "$bytes" || exit 1
        done
    )
}

read_pending() { # sets what is known of what is going on; fails when nothing is
    is_file pending || return 1
    member pending kind && kind=$text
    member pending version && version=$text
    member pending before && before=$text
    member pending deadline && deadline=$text
    is_digest "$version" || return 1
    [ -z "$before" ] || is_digest "$before" || return 1
    [ "$kind" = trial ] || [ "$kind" = swap ]
}

op_manifest() { # VERSION
    digest "$1"
    is_file "versions/$1/manifest.json" || fail E425 "there is no version $1"
    cat "versions/$1/manifest.json" || refused "cannot read the manifest"
}

op_have() { # digests on the input, those that are there, and of the size that is known, on the output
    sizes=$(for name in $(versions); do
        ! has_manifest "$name" || files_of "versions/$name/manifest.json"
    done)
    while read -r name; do
        digest "$name"
        place "$name"
        is_file "$object" && facts "$object" || continue
        case $sizes in
        *"$name/"*)
            known=${sizes#*"$name/"}
            [ "$size" = "${known%%/*}" ] || continue
            ;;
        # An empty one is what a power cut leaves where folders are synced alone.
        *) [ "$size" != 0 ] || [ "$name" = $EMPTY ] || continue ;;
        esac
        printf '%s\n' "$name"
    done
}
