"""What a generated class is made of: the small part of Java that wrappers need.

Types are descriptors and classes are internal names, as class files have them: ``I``, ``[J``,
``Ljava/lang/String;`` and ``java/lang/String``. Source: Java Virtual Machine Specification SE 8,
4.2.1 and 4.3.2. There are no branches but those of ``try``: a wrapper that decides nothing has
nothing to decide wrongly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

STRING = "Ljava/lang/String;"
OBJECT = "Ljava/lang/Object;"

Access = Literal["public", "private", ""]


def of(name: str) -> str:
    """Return the descriptor of a class's objects."""
    return f"L{name};"


def class_of(descriptor: str) -> str:
    """Return the class of a descriptor, or the descriptor itself where it is an array's."""
    return descriptor[1:-1] if descriptor.startswith("L") else descriptor


@dataclass(frozen=True, slots=True)
class Local:
    """A parameter or local variable; ``this`` too."""

    name: str


@dataclass(frozen=True, slots=True)
class Text:
    """A string constant."""

    value: str


@dataclass(frozen=True, slots=True)
class Int:
    """An ``int`` constant; ``kind`` ``Z`` makes it a ``boolean``."""

    value: int
    kind: Literal["I", "Z"] = "I"


@dataclass(frozen=True, slots=True)
class Longs:
    """A new ``long[]`` with these values."""

    values: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Bytes:
    """A new ``byte[]`` of a size, all zeros."""

    size: int


@dataclass(frozen=True, slots=True)
class Field:
    """A field of an object, or of a class where ``on`` is None."""

    owner: str
    name: str
    type: str
    on: Expr | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call of a method of an object, or of a class where ``on`` is None.

    Attributes:
        owner: Class or interface that is asked.
        name: Of the method.
        takes: Descriptors of its parameters as declared.
        gives: Descriptor of what it returns, ``V`` for nothing.
        args: One expression for each of ``takes``.
        on: The object.
        interface: Whether ``owner`` is an interface.
    """

    owner: str
    name: str
    takes: tuple[str, ...] = ()
    gives: str = "V"
    args: tuple[Expr, ...] = ()
    on: Expr | None = None
    interface: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class New:
    """A new object."""

    owner: str
    takes: tuple[str, ...] = ()
    args: tuple[Expr, ...] = ()


@dataclass(frozen=True, slots=True)
class Cast:
    """An object as one of a class."""

    owner: str
    value: Expr


Expr = Local | Text | Int | Longs | Bytes | Field | Call | New | Cast


@dataclass(frozen=True, slots=True)
class Let:
    """A new local variable.

    Attributes:
        name: Its name.
        type: Descriptor.
        value: None: given later.
        arguments: Of a generic type, in source alone, such as ``<String, Object>``.
    """

    name: str
    type: str
    value: Expr | None = None
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class Assign:
    """A value for a local variable that has none yet."""

    name: str
    value: Expr


@dataclass(frozen=True, slots=True)
class Put:
    """A value for a field of ``this``."""

    owner: str
    name: str
    type: str
    value: Expr


@dataclass(frozen=True, slots=True)
class Do:
    """A call for what it does."""

    call: Call


@dataclass(frozen=True, slots=True)
class Return:
    """The end of a method, outside of any ``try``."""

    value: Expr
    type: str


@dataclass(frozen=True, slots=True)
class Throw:
    """An exception."""

    value: Expr


@dataclass(frozen=True, slots=True)
class Finally:
    """``try`` with ``finally``; neither part returns."""

    body: tuple[Stmt, ...]
    after: tuple[Stmt, ...]


@dataclass(frozen=True, slots=True)
class Catch:
    """``try`` with one ``catch``, whose last statement throws."""

    body: tuple[Stmt, ...]
    exception: str
    name: str
    handler: tuple[Stmt, ...]


Stmt = Let | Assign | Put | Do | Return | Throw | Finally | Catch


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldDecl:
    """A final field.

    Attributes:
        name: Its name.
        type: Descriptor.
        access: Who may read it; empty: its package.
        constant: Value of a static string; None: a field of objects.
        doc: For people, lines of plain text.
    """

    name: str
    type: str
    access: Access = "public"
    constant: str | None = None
    doc: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A method, or a constructor where it is called ``<init>``.

    Attributes:
        name: Its name.
        params: Names and descriptors.
        gives: Descriptor of what it returns.
        throws: Checked exceptions.
        body: Statements; a constructor's run after that of ``Object``.
        access: Who may call it; empty: its package.
        static: Whether it is the class's.
        doc: For people, lines of plain text.
    """

    name: str
    params: tuple[tuple[str, str], ...] = ()
    gives: str = "V"
    throws: tuple[str, ...] = ()
    body: tuple[Stmt, ...] = ()
    access: Access = "public"
    static: bool = False
    doc: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassDecl:
    """A public final class below ``Object``."""

    name: str
    interfaces: tuple[str, ...] = ()
    fields: tuple[FieldDecl, ...] = ()
    methods: tuple[Method, ...] = ()
    doc: tuple[str, ...] = ()
