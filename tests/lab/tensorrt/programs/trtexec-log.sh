# How trtexec logs: parts of the stand-in `trtexec`.

tick() { now=$(date +%m/%d/%Y-%H:%M:%S); }

say() { # LEVEL TEXT: warnings and errors go to standard error, as samples/common/logging.h has it
    case $1 in
    I | V) printf '[%s] [%s] %s\n' "$now" "$1" "$2" ;;
    *) printf '[%s] [%s] %s\n' "$now" "$1" "$2" >&2 ;;
    esac
}

# With the build number since 10.8 or before; 10.3 has none.
banner() {
    number=''
    [ "$version" -lt 100400 ] || number=" [b$build]"
    printf '&&&& %s TensorRT.trtexec [TensorRT v%s]%s [edgedeploy stand-in] # %s\n' \
        "$1" "$version" "$number" "$command_line"
}

finish() { # PASSED or FAILED, and the end
    banner "$1"
    [ "$1" = PASSED ] || exit 1
    exit 0
}

usage() {
    echo '=== Options of this edgedeploy stand-in ==='
    grep -v '^#' "$here/flags.txt" | sed 's/ =/=<value>/; s/^/  /'
}

deprecations() {
    for word; do
        case $version:${word%%=*} in
        80*:--workspace) say W '--workspace flag has been deprecated by --memPoolSize flag.' ;;
        80*:--buildOnly) say W '--buildOnly flag has been deprecated by --skipInference flag.' ;;
        80*:--explicitBatch) say W '--explicitBatch flag has been deprecated and has no effect!' ;;
        11*:--noDataTransfers | 11*:--useSpinWait | 11*:--useCudaGraph)
            say W "${word%%=*} is deprecated. It is the default now."
            ;;
        11*:--separateProfileRun)
            say W '--separateProfileRun is deprecated. Separate profile run is now always enabled.'
            ;;
        esac
    done
    [ "$version" -ge 101200 ] && [ "$version" -lt 110000 ] && [ -n "$weak" ] &&
        say W 'Weakly-typed networks have been deprecated in TensorRT.'
    if [ -n "$typed" ] && [ "$version" -lt 110000 ]; then
        for mode in $weak; do
            say W "Invalid usage, setting $mode mode is not allowed if graph is strongly typed."
        done
        weak=''
    fi
    if [ -n "$opt" ] && [ -z "$min" ]; then
        for pair in $(echo "$opt" | tr ',' ' '); do
            say W "optShapes is being broadcasted to minShapes for tensor ${pair%:*}"
            say W "optShapes is being broadcasted to maxShapes for tensor ${pair%:*}"
        done
        min=$opt max=${max:-$opt}
    fi
}

precision() {
    if [ "$version" -ge 110000 ]; then
        echo 'Strongly Typed'
    elif [ -n "$typed" ]; then
        echo 'Strongly Typed'
    else
        echo FP32"$(echo "$weak" | tr '[:lower:] ' '[:upper:]+')"
    fi
}

options_block() {
    if [ -n "$onnx" ]; then format=ONNX; else format='*'; fi
    mode=local
    [ -z "$cache" ] || mode=global
    {
        echo '=== Model Options ==='
        echo "Format: $format"
        echo "Model: $onnx"
        echo 'Output:'
        echo '=== Build Options ==='
        [ "$version" -ge 100000 ] || echo 'Max batch: explicit batch'
        [ "$version" -ge 100000 ] || echo 'minTiming: 1'
        echo 'avgTiming: 8'
        echo "Precision: $(precision)"
        echo "Save engine: $save"
        echo "Load engine: $load"
        echo "timingCacheMode: $mode"
        echo "timingCacheFile: $cache"
        for pair in $(echo "$opt" | tr ',' ' '); do
            tensor=${pair%:*}
            echo "Input build shape (profile 0): $tensor=$(shape_of "$min" "$tensor")$(
            )+${pair##*:}+$(shape_of "$max" "$tensor")"
        done
        [ -n "$opt" ] || echo 'Input build shapes: model'
        echo '=== System Options ==='
        echo 'Device: 0'
        echo '=== Inference Options ==='
        [ -n "$opt$shapes" ] || echo 'Input inference shapes: model'
        echo "Iterations: $iterations"
        echo "Duration: ${duration}s (+ ${warm}ms warm up)"
        echo '=== Reporting Options ==='
        echo "Export timing to JSON file: $times"
        echo "Export output to JSON file: $output"
        echo "Export profile to JSON file: $profile"
        echo
    } | sed "s|^|[$now] [I] |"
}

shape_of() { # SHAPES TENSOR
    for found in $(echo "$1" | tr ',' ' '); do
        [ "${found%:*}" != "$2" ] || echo "${found##*:}"
    done
}

device_block() {
    {
        echo '=== Device Information ==='
        if [ "$version" -ge 100000 ]; then
            echo 'Available Devices:'
            echo "  Device 0: \"$gpu\" UUID: $uuid"
        fi
        echo "Selected Device: $gpu"
        if [ "$version" -ge 100000 ]; then
            echo 'Selected Device ID: 0'
            echo "Selected Device UUID: $uuid"
        fi
        echo "Compute Capability: $compute"
        echo "SMs: $sms"
        echo "Device Global Memory: $memory_mib MiB"
        echo "Application Compute Clock Rate: $clock_ghz GHz"
        echo
        echo 'Note: The application clock rates do not reflect the actual clock rates that the GPU is'\
            'currently running at.'
        echo
        echo "TensorRT version: $release"
        echo 'Loading standard plugins'
        echo '[TRT] [MemUsageChange] Init CUDA: CPU +2, GPU +0, now: CPU 26, GPU 1519 (MiB)'
    } | sed "s|^|[$now] [I] |"
}
