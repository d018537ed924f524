# Loading, exporting and timing: parts of the stand-in `trtexec`.

TIMED_RUNS=40

load_engine() { # FILE
    if ! [ -r "$1" ]; then
        say E "Error opening engine file: $1"
        fail_load
    fi
    if [ "$(head -n 1 "$1" | head -c 80)" != "$MAGIC" ]; then
        say E 'Error[1]: Error Code 1: Serialization (Serialization assertion plan->header.magicTag == rt::kPLAN_MAGIC_TAG failed.)'
        fail_load
    fi
    built_tag=$(awk '$1 == "tag" { print $2; exit }' "$1")
    built_compute=$(awk '$1 == "compute" { print $2; exit }' "$1")
    say I "[TRT] Loaded engine size: $(($(wc -c <"$1") / 1048576)) MiB"
    caller='[stdArchiveReader.cpp::StdArchiveReaderInitCommon::46]' constant=serializationVersion
    if [ "$version" -ge 100000 ]; then
        caller=IRuntime::deserializeCudaEngine: constant=kSERIALIZATION_VERSION
    fi
    if [ "$built_tag" != "$tag" ]; then
        say E "Error[1]: $caller Error Code 1: Serialization (Serialization assertion stdVersionRead == $(
        )$constant failed.Version tag does not match. Note: Current Version: $tag, Serialized Engine $(
        )Version: $built_tag)"
        fail_load
    fi
    if [ "$built_compute" != "$compute" ]; then
        text="The engine plan file is generated on an incompatible device, expecting compute $compute $(
        )got compute $built_compute, please rebuild."
        if [ "$version" -ge 100000 ]; then text="$caller Error Code 6: API Usage Error ($text)"; fi
        say E "Error[6]: $text"
        fail_load
    fi
    sed -n 's/^layer //p' "$1" >"$work/layers"
    sed -n -e '/^end$/q' -e '/^input	/p' -e '/^output	/p' "$1" >"$work/graph"
    say I 'Engine deserialized in 0.01 sec.'
}

fail_load() {
    say E 'Engine deserialization failed'
    say E 'Got invalid engine!'
    say E 'Inference set up failed'
    finish FAILED
}

export_layers() {
    [ -n "$layers" ] || return 0
    awk -F '\t' -v what=layers -v detailed="$verbosity" -v version="$version" \
        -f "$here/export.awk" "$work/graph" "$work/layers" >"$layers"
}

run_inference() {
    say I 'Setting persistentCacheLimit to 0 bytes.'
    while IFS='	' read -r what tensor _ _; do
        case $what in
        input)
            given=''
            for pair in $(echo "$inputs" | tr ',' ' '); do
                [ "${pair%%:*}" != "$tensor" ] || given=${pair#*:}
            done
            if [ -z "$given" ]; then
                say I "Using random values for input $tensor"
            elif [ -r "$given" ]; then
                say I "Using values loaded from $given for input $tensor"
            else
                say E "Cannot open file $given!"
                say E 'Inference set up failed'
                finish FAILED
            fi
            say I "Input binding for $tensor is created."
            ;;
        output) say I "Output binding for $tensor is created." ;;
        esac
    done <"$work/graph"
    say I 'Starting inference'
    [ "$fail" != hang-run ] || while :; do sleep 0.1; done
    sleep "$run_s"
    tick
    runs=$TIMED_RUNS
    [ "$iterations" -le "$runs" ] || runs=$iterations
    say I "Warmup completed 20 queries over $warm ms"
    say I "Timing trace has $runs queries over $duration.00512 s"
    export_file times "$times"
    export_file profile "$profile"
    export_file output "$output"
    awk -v what=summary -v ms="$infer_ms" -v runs="$runs" -v transfers="$(transfers)" \
        -v stamp="[$now] [I] " -f "$here/export.awk" "$work/graph" "$work/layers"
}

# 11.1 leaves copies between host and device out unless told; the versions before have them.
transfers() {
    if [ "$version" -ge 110000 ]; then echo 0; else echo 1; fi
}

export_file() { # WHAT FILE
    [ -n "$2" ] || return 0
    awk -F '\t' -v what="$1" -v ms="$infer_ms" -v runs="$runs" -v transfers="$(transfers)" \
        -v shapes="$shapes,$opt" -f "$here/export.awk" "$work/graph" "$work/layers" >"$2"
}
