"""The source of a described class, for people and their editors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

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

_PRIMITIVES = {"I": "int", "J": "long", "Z": "boolean", "B": "byte", "V": "void"}
_STEP = "    "
_ESCAPES = {"\n": "\\n", "\t": "\\t", "\r": "\\r", '"': '\\"', "\\": "\\\\"}


def java_text(text: str) -> str:
    """Return a string literal of Java in ASCII. Source: Java Language Specification SE 8, 3.10."""
    parts = []
    for letter in text:
        if letter in _ESCAPES:
            parts.append(_ESCAPES[letter])
        elif " " <= letter <= "~":
            parts.append(letter)
        elif letter < " ":
            parts.append(f"\\{ord(letter):03o}")  # a \\u escape would end the line
        else:
            units = letter.encode("utf-16-be", "surrogatepass").hex()
            parts += (f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))
    return f'"{"".join(parts)}"'


def comment(lines: Sequence[str], indent: str = "") -> list[str]:
    """Return a documentation comment that holds any text as it is, for Java and Kotlin."""
    if not lines:
        return []
    return [
        f"{indent}/**",
        *(f"{indent} * {_plain(line)}".rstrip() for line in lines),
        f"{indent} */",
    ]


def _plain(line: str) -> str:
    shown = "".join(letter if letter.isprintable() else "?" for letter in line)
    for letter, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("@", "&#64;")):
        shown = shown.replace(letter, entity)
    shown = shown.replace("\\", "&#92;").replace("*/", "*&#47;").replace("/*", "&#47;*")
    # In ASCII: which encoding a compiler takes depends on the machine.
    return shown.encode("ascii", "xmlcharrefreplace").decode()


def source_file(described: ClassDecl) -> str:
    """Return the source of a class."""
    return "\n".join(_Source(described).lines()) + "\n"


class _Source:
    """Writes one class; what it names is imported."""

    def __init__(self, described: ClassDecl) -> None:
        self._class = described
        self._package, _, self._simple = described.name.rpartition("/")
        self._imports: set[str] = set()

    def lines(self) -> Iterator[str]:
        body = list(self._body())
        yield f"package {self._package.replace('/', '.')};"
        yield ""
        yield from (f"import {name};" for name in sorted(self._imports))
        yield ""
        yield from comment(self._class.doc)
        interfaces = ", ".join(map(self._name, self._class.interfaces))
        head = f" implements {interfaces}" if interfaces else ""
        yield f"public final class {self._simple}{head} {{"
        yield from body
        yield "}"

    def _body(self) -> Iterator[str]:
        for field in self._class.fields:
            yield from self._field(field)
        for method in self._class.methods:
            yield ""
            yield from self._method(method)

    def _name(self, owner: str) -> str:
        """Return a class as the source calls it, and import it where that is needed."""
        package, _, simple = owner.rpartition("/")
        if package not in ("java/lang", self._package):
            self._imports.add(f"{package}/{simple.partition('$')[0]}".replace("/", "."))
        return simple.replace("$", ".")

    def _type(self, descriptor: str) -> str:
        if descriptor.startswith("["):
            return f"{self._type(descriptor[1:])}[]"
        return _PRIMITIVES.get(descriptor) or self._name(class_of(descriptor))

    def _field(self, field: FieldDecl) -> Iterator[str]:
        yield ""
        yield from comment(field.doc, _STEP)
        words = _words(field.access, field.constant is not None and "static", "final")
        end = "" if field.constant is None else f" = {java_text(field.constant)}"
        yield f"{_STEP}{words} {self._type(field.type)} {field.name}{end};"

    def _method(self, method: Method) -> Iterator[str]:
        yield from comment(method.doc, _STEP)
        params = ", ".join(f"{self._type(type_)} {name}" for name, type_ in method.params)
        head = _words(
            method.access,
            method.static and "static",
            self._simple
            if method.name == "<init>"
            else f"{self._type(method.gives)} {method.name}",
        )
        throws = ", ".join(map(self._name, method.throws))
        yield f"{_STEP}{head}({params}){f' throws {throws}' if throws else ''} {{"
        yield from self._block(method.body, 2 * _STEP)
        yield f"{_STEP}}}"

    def _block(self, body: Iterable[Stmt], indent: str) -> Iterator[str]:
        for statement in body:
            match statement:
                case Let(name, type_, first, arguments):
                    end = "" if first is None else f" = {self._expr(first)}"
                    yield f"{indent}{self._type(type_)}{arguments} {name}{end};"
                case Assign(name, value):
                    yield f"{indent}{name} = {self._expr(value)};"
                case Put(_, name, _, value):
                    yield f"{indent}this.{name} = {self._expr(value)};"
                case Do(call):
                    yield f"{indent}{self._expr(call)};"
                case Return(value, _):
                    yield f"{indent}return {self._expr(value)};"
                case Throw(value):
                    yield f"{indent}throw {self._expr(value)};"
                case Finally(inner, after):
                    yield from self._try(inner, "finally", after, indent)
                case Catch(inner, exception, name, handler):
                    head = f"catch ({self._name(exception)} {name})"
                    yield from self._try(inner, head, handler, indent)

    def _try(
        self, body: Iterable[Stmt], head: str, then: Iterable[Stmt], indent: str
    ) -> Iterator[str]:
        yield f"{indent}try {{"
        yield from self._block(body, indent + _STEP)
        yield f"{indent}}} {head} {{"
        yield from self._block(then, indent + _STEP)
        yield f"{indent}}}"

    def _expr(self, value: Expr) -> str:
        match value:
            case Local(name):
                return name
            case Text(text):
                return java_text(text)
            case Int(number, kind):
                return str(number) if kind == "I" else str(bool(number)).lower()
            case Longs(values):
                return f"new long[] {{{', '.join(f'{number}L' for number in values)}}}"
            case Bytes(size):
                return f"new byte[{size}]"
            case Field(owner, name, _, on):
                return f"{self._name(owner) if on is None else self._expr(on)}.{name}"
            case Cast(owner, inner):
                return f"(({self._name(owner)}) {self._expr(inner)})"
            case New():
                generic = "<>" if value.owner.startswith("java/util/") else ""
                return f"new {self._name(value.owner)}{generic}({self._args(value.args)})"
            case Call():
                owner = self._name(value.owner) if value.on is None else self._expr(value.on)
                return f"{owner}.{value.name}({self._args(value.args)})"

    def _args(self, args: Iterable[Expr]) -> str:
        return ", ".join(map(self._expr, args))


def _words(*words: str | bool) -> str:
    return " ".join(word for word in words if isinstance(word, str) and word)
