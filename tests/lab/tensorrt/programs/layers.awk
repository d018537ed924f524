# Turns the nodes of graph.awk into the layers of an engine, tab-separated:
#
#   NAME TYPE KEY PRECISION INPUTS OUTPUTS METADATA
#
# A convolution or product takes the Relu or Clip that follows it; constants are no layers. KEY is
# what a timing cache would know the layer by.

function name_of(n) { return names[n] != "" ? names[n] : "node_of_" outs[n] }

function kind(op) {
    if (op ~ /^Conv/) return "CaskConvolution"
    if (op == "Gemm" || op == "MatMul") return "gemm"
    if (op ~ /Pool$/) return "CaskPooling"
    if (op ~ /^(Reshape|Flatten|Transpose|Squeeze|Unsqueeze)$/) return "Shuffle"
    if (op ~ /^(Quantize|Dequantize)Linear$|^Cast$/) return "Reformat"
    return "PointWiseV2"
}

$1 == "node" && $4 != "Constant" {
    names[++last] = $3
    ops[last] = $4
    outs[last] = $6
    ins[last] = $7
    if ($4 == "QuantizeLinear") quantized = 1
}

$1 == "weight" { weights[$2]++ }

END {
    half = weights[10] > weights[1]
    for (n = 1; n <= last; n++) {
        name = name_of(n)
        meta = "[ONNX Layer: " name "]"
        out = outs[n]
        heavy = ops[n] ~ /^(Conv|Gemm|MatMul)/
        if (heavy && n < last && ops[n + 1] ~ /^(Relu|Clip)$/ && ins[n + 1] ~ ("^" out "(,|$)")) {
            n++
            name = name " + " name_of(n)
            meta = meta "\036[ONNX Layer: " name_of(n) "]"
            out = outs[n]
            op = ops[n - 1]
            from = ins[n - 1]
        } else {
            op = ops[n]
            from = ins[n]
        }
        sub(/,.*/, "", from)
        precision = quantized && heavy ? "Int8" : half ? "Half" : "Float"
        print name "\t" kind(op) "\t" op ":" name "\t" precision "\t" from "\t" out "\t" meta
    }
}
