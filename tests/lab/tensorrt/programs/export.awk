# Writes what trtexec exports, from graph.awk's tensors and layers.awk's layers.
#
# what=times|profile|output|layers|summary. Times come from the settings, spread by a rule: nothing
# is measured.

function quoted(t) {
    gsub(/\\/, "\\\\", t)
    gsub(/"/, "\\\"", t)
    gsub(/\036/, "\\u001e", t)
    return "\"" t "\""
}

# Milliseconds of one run: `ms`, up to 4 % above, one in ten 20 % above.
function run_ms(n) { return ms * (1 + (n * 7 % 5) / 100 + (n % 10 == 9 ? 0.2 : 0)) }

function times(n, start, h2d, compute, d2h, sep) {
    print "["
    sep = "  "
    for (n = 0; n < runs; n++) {
        h2d = transfers ? ms / 50 : 0
        d2h = transfers ? ms / 100 : 0
        compute = run_ms(n)
        start = n * ms * 1.5
        print sep "{ \"startEnqMs\" : " start ", \"endEnqMs\" : " start + ms / 10 \
            ", \"startH2dMs\" : " start ", \"endH2dMs\" : " start + h2d \
            ", \"startComputeMs\" : " start + h2d ", \"endComputeMs\" : " start + h2d + compute \
            ", \"startD2hMs\" : " start + h2d + compute \
            ", \"endD2hMs\" : " start + h2d + compute + d2h ", \"h2dMs\" : " h2d \
            ", \"computeMs\" : " compute ", \"d2hMs\" : " d2h \
            ", \"latencyMs\" : " h2d + compute + d2h " }"
        sep = ", "
    }
    print "]"
}

function profile(n, each) {
    print "["
    print "  { \"count\" : " runs " }"
    for (n = 1; n <= last; n++) {
        each = ms / last
        print ", { \"name\" : " quoted(name[n]) ", \"timeMs\" : " each * runs \
            ", \"averageMs\" : " each ", \"medianMs\" : " each \
            ", \"percentage\" : " 100 / last " }"
    }
    print "]"
}

# Dimensions of a tensor, its unknown ones as in the shapes that were asked for, or 1.
function known(dims, n, found, asked, part, i) {
    asked = ""
    n = split(shapes, part, ",")
    for (i = 1; i <= n; i++)
        if (part[i] ~ /:/) { asked = part[i]; sub(/^.*:/, "", asked); break }
    n = split(dims, found, "x")
    split(asked, part, "x")
    dims = ""
    for (i = 1; i <= n; i++) {
        if (found[i] < 0) found[i] = part[i] > 0 ? part[i] : 1
        dims = dims ((i > 1) ? "x" : "") found[i]
    }
    return dims
}

function output(n, sep, dims, part, parts, elements, i) {
    print "["
    sep = "  "
    for (n = 1; n <= outputs; n++) {
        dims = known(out_dims[n])
        print sep "{ \"name\" : " quoted(out_name[n])
        sep = ", "
        print "  , \"dimensions\" : " quoted(dims)
        printf "  , \"values\" : [ "
        parts = split(dims, part, "x")
        elements = 1
        for (i = 1; i <= parts; i++) elements *= part[i]
        for (i = 0; i < elements; i++) printf "%s%g", (i ? ", " : ""), (i % 17) / 16
        print " ]"
        print "  }"
    }
    print "]"
}

function format_of(p) {
    if (version >= 100000) return p
    if (p == "Half") return "Row major linear FP16 format"
    if (p == "Int8") return "Thirty-two wide channel vectorized row major Int8 format"
    return "Row major linear FP32"
}

function side(key, tensor, p, place) {
    place = version < 100000 ? ",\n    \"Location\": \"Device\"" : ""
    return "  \"" key "\": [\n  {\n    \"Name\": " quoted(tensor) place \
        ",\n    \"Dimensions\": [],\n    \"Format/Datatype\": " quoted(format_of(p)) "\n  }]"
}

function layers(n, sep) {
    printf "{\"Layers\": ["
    for (n = 1; n <= last; n++) {
        sep = (n > 1 ? "\n," : "")
        if (detailed != "detailed" && detailed != "verbose") {
            printf "%s%s", sep, quoted(name[n])
            continue
        }
        printf "%s{\n  \"Name\": %s,\n  \"LayerType\": %s,\n%s,\n%s,\n", sep, quoted(name[n]), \
            quoted(type[n]), side("Inputs", from[n], precision[n]), \
            side("Outputs", to[n], precision[n])
        printf "  \"TacticName\": \"stand_in_tactic\",\n  \"StreamId\": 0,\n  \"Metadata\": %s\n}", \
            quoted(meta[n])
    }
    printf "],\n\"Bindings\": ["
    for (n = 1; n <= bindings; n++) printf "%s%s", (n > 1 ? "\n," : ""), quoted(binding[n])
    print "\n]}"
}

function line(what, low, high, mid) {
    print stamp what ": min = " low " ms, max = " high " ms, mean = " mid " ms, median = " mid \
        " ms, percentile(90%) = " high " ms, percentile(95%) = " high " ms, percentile(99%) = " \
        high " ms"
}

function summary(copies) {
    copies = transfers ? ms * 0.03 : 0
    print stamp
    print stamp "=== Trace details ==="
    print stamp "Trace averages of 10 runs:"
    print stamp "Average on 10 runs - GPU latency: " ms " ms - Host latency: " ms + copies \
        " ms (enqueue " ms / 10 " ms)"
    print stamp
    print stamp "=== Performance summary ==="
    print stamp "Throughput: " 1000 / ms " qps"
    line("Latency", ms + copies, ms * 1.24 + copies, ms * 1.02 + copies)
    line("Enqueue Time", ms / 10, ms / 10, ms / 10)
    line("H2D Latency", transfers * ms / 50, transfers * ms / 50, transfers * ms / 50)
    line("GPU Compute Time", ms, ms * 1.24, ms * 1.02)
    line("D2H Latency", transfers * ms / 100, transfers * ms / 100, transfers * ms / 100)
    print stamp "Total Host Walltime: 3.00512 s"
    print stamp "Total GPU Compute Time: 2.98514 s"
    print stamp "Explanations of the performance metrics are printed in the verbose logs."
    print stamp
}

FNR == 1 { file++ }

file == 1 && ($1 == "input" || $1 == "output") {
    binding[++bindings] = $2
    if ($1 == "output") { out_name[++outputs] = $2; out_dims[outputs] = $4 }
    next
}

file == 2 {
    name[++last] = $1
    type[last] = $2
    precision[last] = $4
    from[last] = $5
    to[last] = $6
    meta[last] = $7
}

END {
    if (what == "times") times()
    else if (what == "profile") profile()
    else if (what == "output") output()
    else if (what == "layers") layers()
    else summary()
}
