# Parsing and building: parts of the stand-in `trtexec`. Nothing is built; time passes.

MAGIC='edgedeploy stand-in engine: not executable'
CACHE_MAGIC='edgedeploy stand-in timing cache'

fail_setup() {
    say E 'Engine set up failed'
    finish FAILED
}

# -- Parsing

parse_network() {
    say I 'Start parsing network model.'
    if ! [ -r "$onnx" ]; then
        say E "Could not open file $onnx"
        say E "Error parsing model from file: $onnx"
        fail_parse
    fi
    od -An -v -tu1 "$onnx" | awk -f "$here/graph.awk" >"$work/graph" 2>"$work/noise"
    if ! grep -q '^node' "$work/graph" || ! grep -q '^output' "$work/graph"; then
        say E "[TRT] ModelImporter.cpp:914: Failed to parse ONNX model from file: $onnx!"
        fail_parse
    fi
    {
        echo ----------------------------------------------------------------
        echo "Input filename:   $onnx"
        echo "ONNX IR version:  0.0.$(awk -F '\t' '$1 == "ir" { print $2 }' "$work/graph")"
        echo "Opset version:    $(awk -F '\t' '$1 == "opset" { print $2 }' "$work/graph")"
        echo "Producer name:    $(awk -F '\t' '$1 == "producer" { print $2 }' "$work/graph")"
        echo ----------------------------------------------------------------
    } | sed "s|^|[$now] [I] [TRT] |"
    refused_operators
    dynamic_inputs
    awk -F '\t' -v version="$version" -f "$here/layers.awk" "$work/graph" >"$work/layers"
    say I 'Finished parsing network model. Parse time: 0.0148'
}

fail_parse() {
    say E 'Failed to parse onnx file'
    say I 'Finished parsing network model. Parse time: 0.0148'
    say E 'Parsing model failed'
    say E 'Failed to create engine from model or file.'
    fail_setup
}

# Operators that the parser has no importer for; the form of its words is that of each version.
refused_operators() {
    awk -F '\t' 'NR == FNR { if ($0 !~ /^#/) none[$0]; next }
        $1 == "node" && ($4 in none || ($5 != "" && $5 != "ai.onnx")) {
            # Not tabs: a shell takes several of them for one.
            print $2 "\037" $3 "\037" $4 "\037" $5 "\037" $6
            exit
        }' \
        "$here/operators-refused.txt" "$work/graph" >"$work/refused"
    IFS=$(printf '\037') read -r number name operator domain first <"$work/refused" || return 0
    if [ "$version" -lt 100000 ]; then
        importer=ModelImporter.cpp:726 closing=732
        where='builtin_op_importers.cpp:5428 In function importFallbackPluginImporter:'
        why='[8] Assertion failed: creator && "Plugin not found'
    else
        importer=ModelImporter.cpp:949 closing=954
        where='onnxOpCheckers.cpp:781 In function checkFallbackPluginImporter:'
        why='[6] creator && "Plugin not found'
    fi
    say I "[TRT] No importer registered for op: $operator. Attempting to import as plugin."
    say E "[TRT] $importer: While parsing node number $number [$operator -> \"$first\"]:"
    say E "[TRT] ModelImporter.cpp:${importer#*:}: --- Begin node ---"
    printf 'output: "%s"\nname: "%s"\nop_type: "%s"\ndomain: "%s"\n' \
        "$first" "$name" "$operator" "$domain" >&2
    say E "[TRT] ModelImporter.cpp:${importer#*:}: --- End node ---"
    say E "[TRT] ModelImporter.cpp:$closing: ERROR: $where"
    echo "$why, are the plugin name, version, and namespace correct?\"" >&2
    fail_parse
}

# Dynamic inputs need an optimisation profile; static ones take none.
dynamic_inputs() {
    awk -F '\t' '$1 == "input" { print $2 "\t" $4 }' "$work/graph" >"$work/inputs"
    while IFS='	' read -r tensor dims; do
        asked=$(shape_of "$opt" "$tensor")
        case x$dims in
        *x-1*)
            if [ -z "$asked$(shape_of "$shapes" "$tensor")" ]; then
                say W "Dynamic dimensions required for input: $tensor, but no shapes were provided. $(
                )Automatically overriding shape to: $(echo "$dims" | sed 's/-1/1/g')"
            elif [ "$(echo "$asked" | tr -cd x)" != "$(echo "$dims" | tr -cd x)" ]; then
                say E "Error[3]: IOptimizationProfile::setDimensions: Error Code 3: API Usage Error"
                fail_network
            fi
            ;;
        *)
            if [ -n "$asked" ] && [ "$asked" != "$dims" ]; then
                say E 'Static model does not take explicit shapes since the shape of inference tensors '\
'will be determined by the model itself'
                fail_network
            fi
            ;;
        esac
    done <"$work/inputs"
    for pair in $(echo "$opt" | tr ',' ' '); do
        if ! cut -f 1 "$work/inputs" | grep -qxF -e "${pair%:*}"; then
            say E "Cannot find input tensor with name \"${pair%:*}\" in the network inputs! Please make $(
            )sure the input tensor names are correct."
            fail_network
        fi
    done
}

fail_network() {
    say E 'Network And Config setup failed'
    say E 'Building engine failed'
    say E 'Failed to create engine from model or file.'
    fail_setup
}

# -- Building

build_engine() {
    : >"$work/known"
    if [ -n "$cache" ]; then
        load_timings
    else
        say I '[TRT] Local timing cache in use. Profiling results in this builder pass will not be stored.'
    fi
    total=$(grep -c . "$work/layers")
    started=$(date +%s)
    [ -z "$verbose" ] || say V "[TRT] Original: $total layers"
    # Each layer with `known` or `new`, and the seconds to wait after it: a few waits for all.
    awk -F '\t' -v build="$build_s" -v total="$total" '
        BEGIN { step = total / 20 < 1 ? 1 : total / 20 }
        NR == FNR && FILENAME ~ /known$/ { known[$0]; next }
        {
            wait += build / total / ($3 in known ? 10 : 1)
            due = ++at >= next_at
            print $1 "\t" ($3 in known ? "known" : "new") "\t" (due ? wait : "")
            if (due) { wait = 0; next_at = at + step }
        }' "$work/known" "$work/layers" >"$work/steps"
    cut -f 3 "$work/layers" >>"$work/known"
    at=0
    while IFS='	' read -r name state wait; do
        at=$((at + 1))
        if [ -n "$verbose" ]; then
            say V "[TRT] =============== Computing costs for $name"
            [ "$state" = known ] ||
                say V "[TRT] --------------- Timing Runner: $name (CaskConvolution[0x80000009])"
        fi
        [ -z "$wait" ] || { sleep "$wait" && tick; }
        [ $((2 * at)) -lt "$total" ] || trouble_while_building
        [ -z "$verbose" ] ||
            say V "[TRT] >>>>>>>>>>>>>>> Chose Runner Type: CaskConvolution Tactic: 0x866e7a5f6401b67f"
    done <"$work/steps"
    spent=$(($(date +%s) - started))
    {
        [ "$version" -lt 100000 ] || echo '[TRT] Compiler backend is used during engine build.'
        echo "[TRT] Detected $(grep -c '^input' "$work/graph") inputs and $(
        )$(grep -c '^output' "$work/graph") output network tensors."
        echo '[TRT] Total Host Persistent Memory: 729520 bytes'
        echo "[TRT] Total Weights Memory: $(wc -c <"$onnx" | tr -d ' ') bytes"
        [ "$version" -lt 100000 ] || echo "[TRT] Engine generation completed in $spent.1 seconds."
        echo '[TRT] [MemUsageStats] Peak memory usage of TRT CPU/GPU memory allocators: CPU 64 MiB, GPU 139 MiB'
    } | sed "s|^|[$now] [I] |"
    write_engine
    [ -z "$cache" ] || save_timings
}

trouble_while_building() {
    case $fail in
    killed) kill -9 $$ ;;
    hang) while :; do sleep 0.1; done ;;
    oom)
        say W '[TRT] Tactic Device request: 13089MB Available: 9185MB. Device memory is insufficient to use tactic.'
        say E 'Error[2]: [virtualMemoryBuffer.cpp::resizePhysical::140] Error Code 2: OutOfMemory (no further information)'
        say E "Error[10]: Could not find any implementation for node $name."
        say E 'Engine could not be created from network'
        say E 'Building engine failed'
        say E 'Failed to create engine from model or file.'
        fail_setup
        ;;
    garbage)
        dd if=/dev/urandom bs=1024 count=600 2>/dev/null | tr -d '\n\r'
        exit 0
        ;;
    esac
}

load_timings() {
    if ! [ -s "$cache" ]; then
        say W "Could not read timing cache from: $cache. A new timing cache will be generated and written."
    elif [ "$(head -n 1 "$cache")" = "$CACHE_MAGIC $version $compute" ]; then
        tail -n +2 "$cache" >"$work/known"
        say I "Loaded $(wc -c <"$cache" | tr -d ' ') bytes of timing cache from $cache"
    else
        say W '[TRT] Detected invalid timing cache, setup a local cache instead'
    fi
    say I '[TRT] Global timing cache in use. Profiling results in this builder pass will be stored.'
}

save_timings() {
    {
        echo "$CACHE_MAGIC $version $compute"
        sort -u "$work/known"
    } >"$cache" || say W "Failed to save timing cache to $cache"
    say I "Saved $(wc -c <"$cache" | tr -d ' ') bytes of timing cache to $cache"
}

write_engine() {
    digest=$(cat "$onnx" "$onnx".data 2>/dev/null | sha256sum | cut -c 1-64)
    options=$(printf %s "$building" | sort | sha256sum | cut -c 1-64)
    {
        printf '%s\n' "$MAGIC" "tensorrt $release.$build" "version $version" "tag $tag" \
            "compute $compute" "gpu $gpu" "onnx $digest" "options $options"
        sed 's/^/layer /' "$work/layers"
        grep -e '^input' -e '^output' "$work/graph"
        echo end
    } >"$work/engine"
    fill=$((4096 + $(wc -c <"$onnx") / 4))
    yes "$digest" | head -c "$fill" >>"$work/engine"
    [ "$fail" != empty ] || : >"$work/engine"
    size=$(wc -c <"$work/engine" | tr -d ' ')
    say I "Engine built in $spent.2 sec."
    say I "Created engine with size: $(awk -v size="$size" 'BEGIN { print size / 1048576 }') MiB"
    if [ "$fail" = empty ]; then
        say E 'Assertion failure: false && "Attempting to access an empty engine!"'
        finish FAILED
    fi
    [ -n "$save" ] && [ "$fail" != nofile ] || return 0
    if [ "$fail" = full ]; then
        head -c $((size / 2)) "$work/engine" >"$save"
    elif cat "$work/engine" 2>/dev/null >"$save"; then
        return 0
    fi
    say E 'Saving engine to file failed.'
    fail_setup
}
