"""Reads what a stand-in needs of an ONNX file, from its protobuf bytes, with nothing installed.

Source: onnx.proto (field numbers) and the protobuf encoding (wire types 0 and 2; 1 and 5 skipped).
"""


def _varint(data, place):
    value = shift = 0
    while True:
        value |= (data[place] & 0x7F) << shift
        place += 1
        if data[place - 1] < 0x80:
            return value, place
        shift += 7


def _fields(data):
    """Yield number and value (an int or bytes) of every field of a message."""
    place = 0
    while place < len(data):
        key, place = _varint(data, place)
        if key & 7 == 0:
            value, place = _varint(data, place)
            yield key >> 3, value
            continue
        size, place = (8, place) if key & 7 == 1 else (4, place)
        if key & 7 == 2:
            size, place = _varint(data, place)
        yield key >> 3, bytes(data[place : place + size])
        place += size


def _first(data, number, otherwise):
    return next((value for found, value in _fields(data) if found == number), otherwise)


def _value(data):
    """Return name, element type and shape (-1 for an open size) of a ValueInfoProto."""
    tensor = _first(_first(data, 2, b""), 1, b"")
    dims = [value for number, value in _fields(_first(tensor, 2, b"")) if number == 1]
    shape = tuple(_first(dim, 1, -1) for dim in dims)
    return _first(data, 1, b"").decode(), _first(tensor, 1, 0), shape


def _node(data):
    told = list(_fields(data))
    attributes = [value for number, value in told if number == 5]
    to = [_first(item, 3, 0) for item in attributes if _first(item, 1, b"") == b"to"]
    return {
        "name": b"".join(value for number, value in told if number == 3).decode(),
        "op": b"".join(value for number, value in told if number == 4).decode(),
        "inputs": [value.decode() for number, value in told if number == 1],
        "outputs": [value.decode() for number, value in told if number == 2],
        "to": to[0] if to else 1,
    }


def graph(data):
    """Return nodes, inputs (without initializers) and outputs of a ModelProto."""
    told = list(_fields(_first(data, 7, b"")))
    constants = {_first(value, 8, b"").decode() for number, value in told if number == 5}
    inputs = [_value(value) for number, value in told if number == 11]
    return {
        "nodes": [_node(value) for number, value in told if number == 1],
        "inputs": [item for item in inputs if item[0] not in constants],
        "outputs": [_value(value) for number, value in told if number == 12],
    }
