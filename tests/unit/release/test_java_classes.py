"""Class files and source of one description: what a real compiler and virtual machine make of them.

The virtual machine checks every class file (`-Xverify:all`), and runs it.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedeploy.release.interface import Interface, Port
from edgedeploy.release.java.classfile import class_file, modified_utf8
from edgedeploy.release.java.model import (
    STRING,
    Assign,
    Call,
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
    Return,
    Stmt,
    Text,
    Throw,
    of,
)
from edgedeploy.release.java.ports import carried
from edgedeploy.release.java.source import comment, java_text, source_file
from edgedeploy.release.java.wrapper import Wrapped
from tests.packages.java import QUICK, STANDINS, javac, needs_jdk, run

OUT = of("java/io/PrintStream")
FAILED = "java/lang/IllegalStateException"
TEXTS = (
    "",
    "plain",
    'quote " backslash \\ \\u0022 ',
    "line\nfeed\r\ttab\0\x01\x7f",
    "Türe 門 \ufeff",
    "😀 beyond",
    "\\u000a */ /* @ <b>",
)


def printing(*values: Expr) -> tuple[Stmt, ...]:
    """Return statements that print strings, one in a line."""
    out = Field("java/lang/System", "out", OUT)
    return tuple(
        Do(Call(owner=class_of_out(), name="println", takes=(STRING,), args=(value,), on=out))
        for value in values
    )


def class_of_out() -> str:
    """Return the class of System.out."""
    return OUT[1:-1]


def long_text(*numbers: int) -> Expr:
    """Return an expression for the text of a long[]."""
    return Call(
        owner="java/util/Arrays",
        name="toString",
        takes=("[J",),
        gives=STRING,
        args=(Longs(numbers),),
    )


def int_text(number: int) -> Expr:
    """Return an expression for the text of an int."""
    return Call(
        owner="java/lang/Integer",
        name="toString",
        takes=("I",),
        gives=STRING,
        args=(Int(number),),
    )


def guarded(inner: tuple[Stmt, ...]) -> tuple[Stmt, ...]:
    """Return two ``try`` inside of one another; what fails inside is told and thrown anew."""
    again = New(
        owner=FAILED,
        takes=(STRING, of("java/lang/Throwable")),
        args=(Text("anew"), Local("wrong")),
    )
    told = Call(owner=FAILED, name="getMessage", gives=STRING, on=Local("wrong"))
    return (
        Finally(
            (Catch(inner, FAILED, "wrong", (*printing(told), Throw(again))),),
            (Let("word", STRING, Text("at last")), *printing(Local("word"))),
        ),
    )


def method(name: str, *body: Stmt, gives: str = "V") -> Method:
    """Return a static method without parameters."""
    return Method(name=name, body=body, static=True, gives=gives)


PROGRAM = ClassDecl(
    name="a/b/Program",
    fields=tuple(
        FieldDecl(name=f"T{place}", type=STRING, constant=text, doc=(text,))
        for place, text in enumerate(TEXTS)
    ),
    methods=(
        Method(
            name="main",
            params=(("args", f"[{STRING}"),),
            static=True,
            body=(
                *printing(*(int_text(number) for number in (0, -1, 32767, 32768, -(1 << 31)))),
                *printing(long_text(), long_text(0, -1, 1 << 40, -(1 << 63))),
                Do(Call(owner="a/b/Program", name="good")),
                Let("said", STRING),
                Assign("said", Call(owner="a/b/Program", name="told", gives=STRING)),
                *printing(Local("said")),
                Do(Call(owner="a/b/Program", name="bad")),
            ),
        ),
        method("good", *guarded(printing(Text("well")))),
        method("told", Return(Text("told"), STRING), gives=STRING),
        method("bad", *guarded((Throw(New(owner=FAILED, takes=(STRING,), args=(Text("no"),))),))),
    ),
)
READER = """
import java.lang.reflect.Field;

public class Reader {
    public static void main(String[] args) throws Exception {
        for (Field field : Class.forName("a.b.Program").getFields()) {
            StringBuilder line = new StringBuilder(field.getName() + " ");
            for (char unit : ((String) field.get(null)).toCharArray()) {
                line.append(String.format("%04x", (int) unit));
            }
            System.out.println(line);
        }
        try {
            a.b.Program.main(args);
        } catch (IllegalStateException failed) {
            System.out.println(failed.getMessage() + " " + failed.getCause().getMessage());
        }
    }
}
"""


def written(folder: Path, *described: ClassDecl) -> tuple[Path, Path]:
    """Write classes and sources into folders and return both."""
    for item in described:
        for name, content in (
            (f"{item.name}.class", class_file(item)),
            (f"{item.name}.java", source_file(item).encode("ascii")),
        ):
            goal = folder / name.rpartition(".")[2] / name
            goal.parent.mkdir(parents=True, exist_ok=True)
            goal.write_bytes(content)
    return folder / "class", folder / "java"


@needs_jdk
def test_both_forms_of_a_class_do_what_was_described(tmp_path: Path) -> None:
    classes, sources = written(tmp_path, PROGRAM)
    compiled = javac(tmp_path / "theirs", "", sources.rglob("*.java"))
    (tmp_path / "Reader.java").write_text(READER)
    reader = javac(tmp_path / "reader", str(classes), [tmp_path / "Reader.java"])

    wanted = [
        *(f"T{place} {text.encode('utf-16-be').hex()}" for place, text in enumerate(TEXTS)),
        *("0", "-1", "32767", "32768", "-2147483648"),
        *("[]", "[0, -1, 1099511627776, -9223372036854775808]"),
        *("well", "at last"),
        "told",
        *("no", "at last"),
        "anew no",
    ]
    for place in (classes, compiled):
        path = f"{place}:{reader}"
        assert run("java", "-Xverify:all", *QUICK, "-cp", path, "Reader").splitlines() == wanted


CARRIED = [
    "float32",
    "float64",
    "int64",
    "int32",
    "int16",
    "int8",
    "uint8",
    "bool",
    "float16",
    "bfloat16",
]


@needs_jdk
def test_wrappers_of_every_dtype_and_of_hostile_names_compile_and_load(tmp_path: Path) -> None:
    standins = javac(tmp_path / "standins", "", STANDINS.rglob("*.java"))

    def port(name: str, dtype: str, fixed: tuple[int, ...] | None) -> Port:
        shape = fixed or ("any", "*/ class X {")
        steps = ("Divide by 255 */ } \\u002a/ <script> @deprecated",)
        return Port(
            name=name, dtype=dtype, shape=shape, fixed=fixed, element_bytes=4, steps=steps,
            state=None,
        )  # fmt: skip

    others = ("uint16", "uint32", "uint64", "str", "complex64")
    assert all(map(carried, CARRIED))
    assert not any(map(carried, others))
    names = ["class", "feed", "outputs", "result", '"', "\n*/", "x", "x shape", "X", "this"]
    ports = tuple(
        port(name, dtype, (1 << 33, 2) if place % 2 else None)
        for place, (name, dtype) in enumerate(zip(names, CARRIED, strict=True))
    )
    wrapped = Wrapped(
        package="edgedeploy/names",
        name="Model",
        outputs_name="ModelOutputs",
        interface=Interface(name='*/ "', inputs=ports, outputs=ports),
        about='*/ " of many',
        asset='edgedeploy/"/model.ort',
        labels=None,
        entries={"session.x": '"\n'},
    )
    classes, sources = written(tmp_path, *wrapped.classes)
    theirs = javac(
        tmp_path / "theirs", str(standins), sources.rglob("*.java"), "-Xlint:all,-path", "-Werror"
    )
    (tmp_path / "Load.java").write_text(
        """
        public class Load {
            public static void main(String[] args) throws Exception {
                for (String name : args) {
                    System.out.println(Class.forName(name).getDeclaredMethods().length);
                }
            }
        }
        """
    )
    loader = javac(tmp_path / "loader", "", [tmp_path / "Load.java"])
    for place in (classes, theirs):
        path = f"{place}:{standins}:{loader}"
        named = ("edgedeploy.names.Model", "edgedeploy.names.ModelOutputs")
        printed = run("java", "-Xverify:all", *QUICK, "-cp", path, "Load", *named)
        assert printed.split() == ["4", "0"]


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40))
def test_modified_utf8_is_utf8_of_utf16_units(text: str) -> None:
    units = text.encode("utf-16-be")
    wanted = b"".join(
        chr(int.from_bytes(units[at : at + 2], "big")).encode("utf-8", "surrogatepass")
        for at in range(0, len(units), 2)
    )
    assert modified_utf8(text) == wanted
    assert modified_utf8(f"{text}\0") == wanted + b"\xc0\x80"


@given(st.text(max_size=40))
def test_literals_and_comments_hold_any_text(text: str) -> None:
    literal = java_text(text)
    assert literal.isascii()
    assert literal.isprintable()
    lines = comment((text,))
    assert lines[0] == "/**"
    assert lines[-1] == " */"
    assert len(lines) == 3
    assert "*/" not in lines[1]
    assert "\\" not in lines[1]
    assert "\n" not in lines[1]


def test_a_string_too_long_for_a_constant_is_refused() -> None:
    assert len(modified_utf8("x" * 65535)) == 65535
    with pytest.raises(OverflowError, match="too long"):
        modified_utf8("x" * 65536)
