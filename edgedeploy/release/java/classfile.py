"""Class files: the bytecode of a described class, a pure function of its description.

The version is 49 (Java 5): the newest that needs no stack map frames, which every virtual machine
and D8 read. Source: Java Virtual Machine Specification SE 8, chapter 4 (the format; 4.10.2 for the
type checker of versions before 50) and chapter 6 (instructions).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

from edgedeploy.release.java.model import (
    Assign,
    Bytes,
    Call,
    Cast,
    Catch,
    ClassDecl,
    Do,
    Expr,
    Field,
    FieldDecl,
    Finally,
    Int,
    Let,
    Local,
    Longs,
    Method,
    New,
    Put,
    Return,
    Stmt,
    Text,
    Throw,
    class_of,
)

_VERSION = 49
_PUBLIC, _PRIVATE, _STATIC, _FINAL, _SUPER = 0x0001, 0x0002, 0x0008, 0x0010, 0x0020
_ACCESS = {"public": _PUBLIC, "private": _PRIVATE, "": 0}
_MOST = 0xFFFF
_INIT = "<init>"
_OBJECT = "java/lang/Object"
_LONG = 11  # of newarray: T_LONG
_BYTE = 8  # T_BYTE


class _Pool:
    """The constant pool: every constant once, in the order of its first use."""

    def __init__(self) -> None:
        self._places: dict[bytes, int] = {}
        self._next = 1

    def _place(self, entry: bytes, slots: int = 1) -> int:
        if entry not in self._places:
            self._places[entry] = self._next
            self._next += slots
        return self._places[entry]

    def utf8(self, text: str) -> int:
        data = modified_utf8(text)
        return self._place(b"\x01" + struct.pack(">H", len(data)) + data)

    def add_long(self, value: int) -> int:
        return self._place(b"\x05" + struct.pack(">q", value), slots=2)

    def add_int(self, value: int) -> int:
        return self._place(b"\x03" + struct.pack(">i", value))

    def cls(self, name: str) -> int:
        return self._place(b"\x07" + struct.pack(">H", self.utf8(name)))

    def string(self, text: str) -> int:
        return self._place(b"\x08" + struct.pack(">H", self.utf8(text)))

    def member(self, tag: int, owner: str, name: str, descriptor: str) -> int:
        pair = struct.pack(">HH", self.utf8(name), self.utf8(descriptor))
        both = self.cls(owner), self._place(b"\x0c" + pair)
        return self._place(bytes([tag]) + struct.pack(">HH", *both))

    @property
    def content(self) -> bytes:
        if self._next > _MOST:
            raise OverflowError("too many constants for one class")
        return struct.pack(">H", self._next) + b"".join(self._places)


def modified_utf8(text: str) -> bytes:
    """Return a string as class files encode it (4.4.7): UTF-16 units, none of them a zero byte.

    Raises:
        OverflowError: It takes more bytes than a constant can have.
    """
    data = b""
    units = text.encode("utf-16-be", "surrogatepass")
    for (unit,) in struct.iter_unpack(">H", units):
        if unit == 0:
            data += b"\xc0\x80"
        else:
            data += chr(unit).encode("utf-8", "surrogatepass")
    if len(data) > _MOST:
        raise OverflowError("a string is too long for a class file")
    return data


def class_file(described: ClassDecl) -> bytes:
    """Return the class file of a class.

    Raises:
        OverflowError: A string, a method or the class is larger than the format allows.
    """
    pool = _Pool()
    names = pool.cls(described.name), pool.cls(_OBJECT)
    interfaces = b"".join(struct.pack(">H", pool.cls(name)) for name in described.interfaces)
    fields = _counted([_field(pool, field) for field in described.fields])
    methods = _counted([_method(pool, described.name, method) for method in described.methods])
    return (
        struct.pack(">LHH", 0xCAFEBABE, 0, _VERSION)
        + pool.content
        + struct.pack(">HHH", _PUBLIC | _FINAL | _SUPER, *names)
        + struct.pack(">H", len(described.interfaces))
        + interfaces
        + fields
        + methods
        + struct.pack(">H", 0)
    )


def _counted(parts: Sequence[bytes]) -> bytes:
    return struct.pack(">H", len(parts)) + b"".join(parts)


def _attribute(pool: _Pool, name: str, content: bytes) -> bytes:
    return struct.pack(">HL", pool.utf8(name), len(content)) + content


def _field(pool: _Pool, field: FieldDecl) -> bytes:
    flags = _ACCESS[field.access] | _FINAL
    attributes = []
    if field.constant is not None:
        flags |= _STATIC
        value = struct.pack(">H", pool.string(field.constant))
        attributes.append(_attribute(pool, "ConstantValue", value))
    head = struct.pack(">HHH", flags, pool.utf8(field.name), pool.utf8(field.type))
    return head + _counted(attributes)


def _method(pool: _Pool, owner: str, method: Method) -> bytes:
    flags = _ACCESS[method.access] | (_STATIC if method.static else 0)
    descriptor = descriptor_of((type_ for _, type_ in method.params), method.gives)
    head = struct.pack(">HHH", flags, pool.utf8(method.name), pool.utf8(descriptor))
    attributes = [_attribute(pool, "Code", _Code(pool, owner, method).content)]
    if method.throws:
        classes = [struct.pack(">H", pool.cls(name)) for name in method.throws]
        attributes.append(_attribute(pool, "Exceptions", _counted(classes)))
    return head + _counted(attributes)


def descriptor_of(takes: Iterable[str], gives: str) -> str:
    """Return the descriptor of a method."""
    return f"({''.join(takes)}){gives}"


def _slots(type_: str) -> int:
    return {"V": 0, "J": 2, "D": 2}.get(type_, 1)


class _Code:
    """The ``Code`` attribute of one method."""

    def __init__(self, pool: _Pool, owner: str, method: Method) -> None:
        self._pool = pool
        self._code = bytearray()
        self._depth = self._deepest = 0
        self._locals: dict[str, tuple[int, str]] = {}
        self._next = 0
        self._handlers: list[bytes] = []
        if not method.static:
            self._local("this", f"L{owner};")
        for name, type_ in method.params:
            self._local(name, type_)
        if method.name == _INIT:
            self._load(Local("this"))
            self._invoke(0xB7, 0x0A, _OBJECT, _INIT, (), "V", taken=1)
        self._run(method.body)
        if not method.body or not isinstance(method.body[-1], Return | Throw):
            self._emit(b"\xb1")  # return

    @property
    def content(self) -> bytes:
        if len(self._code) > _MOST:
            raise OverflowError("a method is too long for a class file")
        head = struct.pack(">HHL", self._deepest, self._next, len(self._code))
        return head + bytes(self._code) + _counted(self._handlers) + struct.pack(">H", 0)

    def _emit(self, code: bytes, change: int = 0) -> None:
        self._code += code
        self._depth += change
        self._deepest = max(self._deepest, self._depth)

    def _local(self, name: str, type_: str) -> None:
        self._locals[name] = self._next, type_
        self._next += _slots(type_)

    def _slot(self, opcodes: tuple[int, int, int], name: str, sign: int) -> None:
        """Load or store a local variable: as an int, a long or a reference."""
        place, type_ = self._locals[name]
        opcode = opcodes[0 if type_ in "IZ" else 1 if type_ == "J" else 2]
        if place > 0xFF:
            raise OverflowError("a method has too many variables")
        self._emit(bytes([opcode, place]), sign * _slots(type_))

    def _load(self, local: Local) -> None:
        self._slot((0x15, 0x16, 0x19), local.name, 1)

    def _store(self, name: str) -> None:
        self._slot((0x36, 0x37, 0x3A), name, -1)

    def _run(self, body: Sequence[Stmt]) -> None:
        for statement in body:
            self._statement(statement)

    def _statement(self, statement: Stmt) -> None:
        match statement:
            case Let(name, type_, value):
                if value is not None:
                    self._push(value)
                self._local(name, type_)
                if value is not None:
                    self._store(name)
            case Assign(name, value):
                self._push(value)
                self._store(name)
            case Put(owner, name, type_, value):
                self._load(Local("this"))
                self._push(value)
                self._reference(0xB5, owner, name, type_, -1 - _slots(type_))
            case Do(call):
                self._push(call)
                if size := _slots(call.gives):
                    self._emit(bytes([0x56 + size]), -size)  # pop, pop2
            case Return(value, type_):
                self._push(value)
                opcode = 0xAC if type_ in "IZ" else 0xAD if type_ == "J" else 0xB0
                self._emit(bytes([opcode]), -_slots(type_))
            case Throw(value):
                self._push(value)
                self._emit(b"\xbf", -1)
            case Finally(body, after):
                self._guarded(body, after, None, f"finally{len(self._code)}")
            case Catch(body, exception, name, handler):
                self._guarded(body, handler, exception, name)

    def _guarded(
        self, body: tuple[Stmt, ...], handler: tuple[Stmt, ...], exception: str | None, name: str
    ) -> None:
        """Write ``try``: of ``finally`` (no exception named) the handler runs on both ways."""
        start = len(self._code)
        self._run(body)
        end = len(self._code)
        if exception is None:
            self._run(handler)
        jump = len(self._code)
        self._emit(b"\xa7\0\0")  # goto
        kind = 0 if exception is None else self._pool.cls(exception)
        self._handlers.append(struct.pack(">HHHH", start, end, len(self._code), kind))
        self._depth += 1  # the exception is on the stack
        self._deepest = max(self._deepest, self._depth)
        self._local(name, f"L{exception or 'java/lang/Throwable'};")
        self._store(name)
        self._run(handler)
        if exception is None:
            self._load(Local(name))
            self._emit(b"\xbf", -1)  # athrow
        self._code[jump + 1 : jump + 3] = struct.pack(">h", len(self._code) - jump)

    def _push(self, value: Expr) -> None:
        match value:
            case Local():
                self._load(value)
            case Text(text):
                self._constant(self._pool.string(text))
            case Int(number):
                self._int(number)
            case Longs(values):
                self._longs(values)
            case Bytes(size):
                self._int(size)
                self._emit(bytes([0xBC, _BYTE]))
            case Field(owner, name, type_, on):
                if on is None:
                    self._reference(0xB2, owner, name, type_, _slots(type_))
                else:
                    self._push(on)
                    self._reference(0xB4, owner, name, type_, _slots(type_) - 1)
            case Cast(owner, inner):
                self._push(inner)
                self._emit(b"\xc0" + struct.pack(">H", self._pool.cls(owner)))
            case New():
                cls = struct.pack(">H", self._pool.cls(value.owner))
                self._emit(b"\xbb" + cls, 1)
                self._emit(b"\x59", 1)  # dup
                taken = self._arguments(value.args, value.takes) + 1
                self._invoke(0xB7, 0x0A, value.owner, _INIT, value.takes, "V", taken)
            case Call():
                self._call(value)

    def _call(self, call: Call) -> None:
        if call.on is not None:
            self._push(call.on)
        taken = self._arguments(call.args, call.takes) + (call.on is not None)
        opcode = 0xB8 if call.on is None else 0xB9 if call.interface else 0xB6
        tag = 0x0B if call.interface else 0x0A
        self._invoke(opcode, tag, call.owner, call.name, call.takes, call.gives, taken)
        if call.interface:
            self._emit(bytes([taken, 0]))

    def _arguments(self, args: Sequence[Expr], takes: Sequence[str]) -> int:
        """Push arguments and return how many slots they take."""
        for arg in args:
            self._push(arg)
        return sum(map(_slots, takes))

    def _invoke(
        self,
        opcode: int,
        tag: int,
        owner: str,
        name: str,
        takes: Sequence[str],
        gives: str,
        taken: int,
    ) -> None:
        place = self._pool.member(tag, class_of(owner), name, descriptor_of(takes, gives))
        self._emit(struct.pack(">BH", opcode, place), _slots(gives) - taken)

    def _reference(self, opcode: int, owner: str, name: str, type_: str, change: int) -> None:
        place = self._pool.member(0x09, owner, name, type_)
        self._emit(struct.pack(">BH", opcode, place), change)

    def _constant(self, place: int) -> None:
        """Push a string or an int of the pool: ldc_w, so that places need no care."""
        self._emit(b"\x13" + struct.pack(">H", place), 1)

    def _int(self, number: int) -> None:
        if -32768 <= number <= 32767:
            self._emit(struct.pack(">Bh", 0x11, number), 1)  # sipush
        else:
            self._constant(self._pool.add_int(number))

    def _longs(self, values: Sequence[int]) -> None:
        self._int(len(values))
        self._emit(bytes([0xBC, _LONG]))  # newarray
        for place, number in enumerate(values):
            self._emit(b"\x59", 1)  # dup
            self._int(place)
            self._emit(b"\x14" + struct.pack(">H", self._pool.add_long(number)), 2)  # ldc2_w
            self._emit(b"\x50", -4)  # lastore
