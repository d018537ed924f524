# Reads an ONNX file as `od -An -v -tu1` prints it; one line, tab-separated, for each
#
#   node   INDEX NAME OPERATOR DOMAIN FIRST_OUTPUT INPUTS   in the order of the file
#   input  NAME TYPE DIMS      of the graph, without those that are initializers
#   output NAME TYPE DIMS      TYPE is the number of onnx.TensorProto.DataType, DIMS as 1x3x-1
#   weight TYPE                of each initializer
#   opset VERSION, ir VERSION, producer NAME
#
# Source: onnx/onnx.proto3 (field numbers), protobuf's encoding. It goes through the file once and
# keeps none of the weights; attributes, with the graphs in them, are skipped.

function byte() {
    while (at >= count) {
        if ((getline line) <= 0) {
            over = 1
            return -1
        }
        count = split(line, bytes, " ")
        at = 0
    }
    place++
    return bytes[++at] + 0
}

function skip(length_, left) {
    left = length_
    while (left > count - at) {
        left -= count - at
        place += count - at
        at = count = 0
        if (left && byte() >= 0) left--
        else return
    }
    at += left
    place += left
}

function varint(value, scale, next_) {
    value = 0
    scale = 1
    while ((next_ = byte()) >= 128) {
        value += (next_ - 128) * scale
        scale *= 128
    }
    return next_ < 0 ? 0 : value + next_ * scale
}

function text(length_, found, each) {
    found = ""
    for (each = 0; each < length_ && !over; each++) found = found sprintf("%c", byte())
    return found
}

# The number of the next field; its kind in `wire`, what it holds in `size`.
function field(key) {
    key = varint()
    wire = key % 8
    if (wire == 0) size = varint()
    else if (wire == 1) size = 8
    else if (wire == 5) size = 4
    else size = varint()
    return int(key / 8)
}

function ignore() {
    if (wire) skip(size)
}

function node(end, f, name, op, domain, outs, ins, first) {
    name = op = domain = outs = ins = ""
    while (place < end && !over) {
        f = field()
        if (f == 1) ins = ins (ins == "" ? "" : ",") text(size)
        else if (f == 2) { first = text(size); if (outs == "") outs = first }
        else if (f == 3) name = text(size)
        else if (f == 4) op = text(size)
        else if (f == 7) domain = text(size)
        else ignore()
    }
    print "node\t" nodes++ "\t" name "\t" op "\t" domain "\t" outs "\t" ins
}

function weight(end, f, type, name) {
    while (place < end && !over) {
        f = field()
        if (f == 2) type = size
        else if (f == 8) name = text(size)
        else ignore()
    }
    constants[name] = 1
    print "weight\t" type
}

function dims(end, f, limit, found, one) {
    found = ""
    while (place < end && !over) {
        f = field()
        if (f != 1) { ignore(); continue }
        limit = place + size
        one = -1
        while (place < limit && !over) {
            f = field()
            if (f == 1) one = size
            else ignore()
        }
        found = found (found == "" ? "" : "x") one
    }
    return found
}

# TypeProto: its tensor_type (1) has elem_type (1) and shape (2).
function type_of(end, f, limit) {
    kind = shape = ""
    while (place < end && !over) {
        f = field()
        if (f != 1) { ignore(); continue }
        limit = place + size
        while (place < limit && !over) {
            f = field()
            if (f == 1) kind = size
            else if (f == 2) shape = dims(place + size)
            else ignore()
        }
    }
}

function tensor(what, end, f, name) {
    while (place < end && !over) {
        f = field()
        if (f == 1) name = text(size)
        else if (f == 2) type_of(place + size)
        else ignore()
    }
    told[++tellings] = what "\t" name "\t" kind "\t" shape
    named[tellings] = name
}

function graph(end, f) {
    while (place < end && !over) {
        f = field()
        if (f == 1) node(place + size)
        else if (f == 5) weight(place + size)
        else if (f == 11) tensor("input", place + size)
        else if (f == 12) tensor("output", place + size)
        else ignore()
    }
}

function opset(end, f, domain, number) {
    domain = ""
    number = 0
    while (place < end && !over) {
        f = field()
        if (f == 1) domain = text(size)
        else if (f == 2) number = size
        else ignore()
    }
    if (domain == "" || domain == "ai.onnx") print "opset\t" number
}

BEGIN {
    at = count = place = nodes = tellings = 0
    while ((first = byte()) >= 0) {
        # The file's own length is not known: one byte is looked at to see whether it goes on.
        at--
        place--
        f = field()
        if (f == 7) graph(place + size)
        else if (f == 8) opset(place + size)
        else if (f == 1) print "ir\t" size
        else if (f == 2) print "producer\t" text(size)
        else ignore()
    }
    for (each = 1; each <= tellings; each++)
        if (told[each] !~ /^input/ || !(named[each] in constants)) print told[each]
}
