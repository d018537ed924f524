"""The Java classes of a model on Android: one that runs it, one for what comes out.

They call the public Java interface of ONNX Runtime 1.20 and newer, the first that takes a model
from a mapped buffer (github.com/microsoft/onnxruntime/pull/20062).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from edgedeploy.release.interface import Interface
from edgedeploy.release.java.model import (
    OBJECT,
    STRING,
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
    of,
)
from edgedeploy.release.java.ports import Named, named

_ORT = "ai/onnxruntime/"
_ENVIRONMENT, _SESSION = f"{_ORT}OrtEnvironment", f"{_ORT}OrtSession"
_OPTIONS, _RESULT = f"{_ORT}OrtSession$SessionOptions", f"{_ORT}OrtSession$Result"
_TENSOR, _KIND, _FAILED = f"{_ORT}OnnxTensor", f"{_ORT}OnnxJavaType", f"{_ORT}OrtException"
_INFO, _VALUE = f"{_ORT}TensorInfo", f"{_ORT}OnnxValue"
_CONTEXT, _ASSETS = "android/content/Context", "android/content/res/AssetManager"
_ASSET = "android/content/res/AssetFileDescriptor"
_STREAM, _IN = "java/io/FileInputStream", "java/io/InputStream"
_DESCRIPTOR = "java/io/FileDescriptor"
_MAPPED, _BUFFER = "java/nio/MappedByteBuffer", "java/nio/ByteBuffer"
_CHANNEL, _MODE = "java/nio/channels/FileChannel", "java/nio/channels/FileChannel$MapMode"
_IO, _ABSENT = "java/io/IOException", "java/io/FileNotFoundException"
_MAP, _HASH_MAP = "java/util/Map", "java/util/HashMap"
_DATA = "java/io/DataInputStream"
_SHAPE = "[J"

MAPPED_ENTRIES: Mapping[str, str] = {
    "session.load_model_format": "ORT",
    "session.use_ort_model_bytes_directly": "1",
    "session.use_ort_model_bytes_for_initializers": "1",
}
"""Session entries with which weights stay in the mapped file.

Source: onnxruntime_session_options_config_keys.h.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrapped:
    """What a wrapper is made of.

    Attributes:
        package: Internal name of its Java package, such as ``edgedeploy/doorbell``.
        name, outputs_name: Simple names of the two classes.
        interface: Of the model.
        about: What it is, for people.
        asset: Path of the model below ``assets/``.
        labels: Path and bytes of the file with the classes; None without.
        entries: Session entries that the build chose, on top of :data:`MAPPED_ENTRIES`.
    """

    package: str
    name: str
    outputs_name: str
    interface: Interface
    about: str
    asset: str
    labels: tuple[str, int] | None
    entries: Mapping[str, str]

    @property
    def classes(self) -> tuple[ClassDecl, ClassDecl]:
        """The class that runs the model, and the one for what comes out."""
        return _wrapper(self), _outputs(self)

    @property
    def internal(self) -> str:
        """Internal name of the class that runs the model."""
        return f"{self.package}/{self.name}"

    @property
    def outputs(self) -> str:
        """Internal name of the class for what comes out."""
        return f"{self.package}/{self.outputs_name}"


def inputs_of(wrapped: Wrapped) -> tuple[Named, ...]:
    """Return the inputs as parameters of ``run``; a shape only where it is open."""
    return named(wrapped.interface.inputs, "input", fixed_shapes=False)


def outputs_of(wrapped: Wrapped) -> tuple[Named, ...]:
    """Return the outputs as fields, each with its shape."""
    return named(wrapped.interface.outputs, "output", fixed_shapes=True)


def _field(wrapped: Wrapped, name: str, type_: str) -> Field:
    return Field(wrapped.internal, name, type_, Local("this"))


def _wrapper(wrapped: Wrapped) -> ClassDecl:
    fields = [
        FieldDecl(name="MODEL_ASSET", type=STRING, constant=wrapped.asset, doc=("The model.",)),
        FieldDecl(name="environment", type=of(_ENVIRONMENT), access="private"),
        FieldDecl(name="session", type=of(_SESSION), access="private"),
        # ONNX Runtime reads the weights in place for as long as the session lives.
        FieldDecl(name="model", type=of(_BUFFER), access="private"),
    ]
    methods = [_with_options(wrapped), _open(wrapped), _run(wrapped), _close(wrapped)]
    if wrapped.labels is not None:
        methods.append(_labels(*wrapped.labels))
    methods.append(_map(wrapped))
    return ClassDecl(
        name=wrapped.internal,
        interfaces=("java/lang/AutoCloseable",),
        fields=tuple(fields),
        methods=tuple(methods),
        doc=(
            wrapped.about,
            "May be used from several threads at once; close it when nothing runs any more.",
        ),
    )


def _with_options(wrapped: Wrapped) -> Method:
    entries = {**MAPPED_ENTRIES, **wrapped.entries}
    body: list[Stmt] = [
        Put(
            wrapped.internal,
            "environment",
            of(_ENVIRONMENT),
            Call(owner=_ENVIRONMENT, name="getEnvironment", gives=of(_ENVIRONMENT)),
        ),
        Do(
            Call(
                owner=_ENVIRONMENT,
                name="setTelemetry",
                takes=("Z",),
                args=(Int(0, "Z"),),
                on=_field(wrapped, "environment", of(_ENVIRONMENT)),
            )
        ),
        Put(
            wrapped.internal,
            "model",
            of(_BUFFER),
            Call(
                owner=wrapped.internal,
                name="map",
                takes=(of(_ASSETS), STRING),
                gives=of(_BUFFER),
                args=(
                    Call(owner=_CONTEXT, name="getAssets", gives=of(_ASSETS), on=Local("context")),
                    Text(wrapped.asset),
                ),
            ),
        ),
        *(
            Do(
                Call(
                    owner=_OPTIONS,
                    name="addConfigEntry",
                    takes=(STRING, STRING),
                    args=(Text(key), Text(entries[key])),
                    on=Local("options"),
                )
            )
            for key in sorted(entries)
        ),
        Put(
            wrapped.internal,
            "session",
            of(_SESSION),
            Call(
                owner=_ENVIRONMENT,
                name="createSession",
                takes=(of(_BUFFER), of(_OPTIONS)),
                gives=of(_SESSION),
                args=(_field(wrapped, "model", of(_BUFFER)), Local("options")),
                on=_field(wrapped, "environment", of(_ENVIRONMENT)),
            ),
        ),
    ]
    return Method(
        name="<init>",
        params=(("context", of(_CONTEXT)), ("options", of(_OPTIONS))),
        throws=(_IO, _FAILED),
        body=tuple(body),
        doc=(
            "Maps the model into memory and makes it ready.",
            "The options are the caller's, for threads and execution providers; entries that say",
            "how the model is read are added to them.",
            "Throws IOException where the model is not in the app, or compressed in it.",
        ),
    )


def _open(wrapped: Wrapped) -> Method:
    made = New(
        owner=wrapped.internal,
        takes=(of(_CONTEXT), of(_OPTIONS)),
        args=(Local("context"), Local("options")),
    )
    return Method(
        name="open",
        params=(("context", of(_CONTEXT)),),
        gives=of(wrapped.internal),
        throws=(_IO, _FAILED),
        static=True,
        body=(
            Let("options", of(_OPTIONS), New(owner=_OPTIONS)),
            Let("opened", of(wrapped.internal)),
            Finally((Assign("opened", made),), (_closing(_OPTIONS, "options"),)),
            Return(Local("opened"), of(wrapped.internal)),
        ),
        doc=("Makes the model ready with ONNX Runtime's own settings.",),
    )


def _map(wrapped: Wrapped) -> Method:
    wanted = (
        "the model is missing, or compressed in the app; its build.gradle needs: "
        'android { androidResources { noCompress += "ort" } }'
    )
    channel = Call(owner=_STREAM, name="getChannel", gives=of(_CHANNEL), on=Local("stream"))
    mapped = Call(
        owner=_CHANNEL,
        name="map",
        takes=(of(_MODE), "J", "J"),
        gives=of(_MAPPED),
        args=(
            Field(_MODE, "READ_ONLY", of(_MODE)),
            Call(owner=_ASSET, name="getStartOffset", gives="J", on=Local("asset")),
            Call(owner=_ASSET, name="getLength", gives="J", on=Local("asset")),
        ),
        on=channel,
    )
    opened = Call(
        owner=_ASSETS,
        name="openFd",
        takes=(STRING,),
        gives=of(_ASSET),
        args=(Local("path"),),
        on=Local("assets"),
    )
    refused = New(
        owner=_IO,
        takes=(STRING, of("java/lang/Throwable")),
        args=(Text(wanted), Local("absent")),
    )
    descriptor = Call(
        owner=_ASSET, name="getFileDescriptor", gives=of(_DESCRIPTOR), on=Local("asset")
    )
    return Method(
        name="map",
        params=(("assets", of(_ASSETS)), ("path", STRING)),
        gives=of(_BUFFER),
        throws=(_IO,),
        access="private",
        static=True,
        body=(
            Let("asset", of(_ASSET)),
            Catch((Assign("asset", opened),), _ABSENT, "absent", (Throw(refused),)),
            Let("mapped", of(_BUFFER)),
            # The descriptor is the asset's: closing that is enough, and the mapping stays.
            Finally(
                (
                    Let(
                        "stream",
                        of(_STREAM),
                        New(owner=_STREAM, takes=(of(_DESCRIPTOR),), args=(descriptor,)),
                    ),
                    Assign("mapped", mapped),
                ),
                (_closing(_ASSET, "asset"),),
            ),
            Return(Local("mapped"), of(_BUFFER)),
        ),
    )


def _run(wrapped: Wrapped) -> Method:
    inputs = inputs_of(wrapped)
    params = [
        param
        for item in inputs
        for param in ((item.name, item.type), (item.shape, _SHAPE))
        if param[0]
    ]
    fed: list[Stmt] = [
        Do(
            Call(
                owner=_MAP,
                name="put",
                takes=(OBJECT, OBJECT),
                gives=OBJECT,
                args=(Text(item.port.name), Local(item.tensor)),
                on=Local("_feed"),
                interface=True,
            )
        )
        for item in inputs
    ]
    result = Call(
        owner=_SESSION,
        name="run",
        takes=(of(_MAP),),
        gives=of(_RESULT),
        args=(Local("_feed"),),
        on=_field(wrapped, "session", of(_SESSION)),
    )
    made = New(owner=wrapped.outputs, takes=(of(_RESULT),), args=(Local("_result"),))
    body: list[Stmt] = [
        Let("_feed", of(_MAP), New(owner=_HASH_MAP), "<String, OnnxTensor>"),
        *fed,
        Let("_result", of(_RESULT), result),
        Finally((Assign("_outputs", made),), (_closing(_RESULT, "_result"),)),
    ]
    for item in reversed(inputs):
        body = [
            Let(item.tensor, of(_TENSOR), _tensor(wrapped, item)),
            Finally(tuple(body), (_closing(_TENSOR, item.tensor),)),
        ]
    lines = [line for item in inputs for line in item.doc]
    return Method(
        name="run",
        params=tuple(params),
        gives=of(wrapped.outputs),
        throws=(_FAILED,),
        body=(
            Let("_outputs", of(wrapped.outputs)),
            *body,
            Return(Local("_outputs"), of(wrapped.outputs)),
        ),
        doc=(
            "Runs the model once. Direct buffers in native byte order are not copied.",
            *lines,
        ),
    )


def _closing(owner: str, name: str) -> Stmt:
    return Do(Call(owner=owner, name="close", on=Local(name)))


def _tensor(wrapped: Wrapped, item: Named) -> Expr:
    takes = [of(_ENVIRONMENT), item.type, _SHAPE]
    shape: Expr = Local(item.shape) if item.port.fixed is None else Longs(item.port.fixed)
    args: list[Expr] = [
        _field(wrapped, "environment", of(_ENVIRONMENT)),
        Local(item.name),
        shape,
    ]
    if item.carrier.kind:
        takes.append(of(_KIND))
        args.append(Field(_KIND, item.carrier.kind, of(_KIND)))
    return Call(
        owner=_TENSOR,
        name="createTensor",
        takes=tuple(takes),
        gives=of(_TENSOR),
        args=tuple(args),
    )


def _labels(path: str, size: int) -> Method:
    opened = Call(
        owner=_ASSETS,
        name="open",
        takes=(STRING,),
        gives=of(_IN),
        args=(Text(path),),
        on=Call(owner=_CONTEXT, name="getAssets", gives=of(_ASSETS), on=Local("context")),
    )
    text = New(
        owner="java/lang/String",
        takes=("[B", STRING),
        args=(Local("content"), Text("UTF-8")),
    )
    read = Call(
        owner=_DATA, name="readFully", takes=("[B",), args=(Local("content"),), on=Local("stream")
    )
    return Method(
        name="labels",
        params=(("context", of(_CONTEXT)),),
        gives=f"[{STRING}",
        throws=(_IO,),
        static=True,
        body=(
            Let("content", "[B", Bytes(size)),
            Let("stream", of(_DATA), New(owner=_DATA, takes=(of(_IN),), args=(opened,))),
            Finally((Do(read),), (_closing(_DATA, "stream"),)),
            Return(
                Call(
                    owner="java/lang/String",
                    name="split",
                    takes=(STRING,),
                    gives=f"[{STRING}",
                    args=(Text("\\r?\\n"),),
                    on=text,
                ),
                f"[{STRING}",
            ),
        ),
        doc=("Returns the classes in the order of the output.",),
    )


def _close(wrapped: Wrapped) -> Method:
    return Method(
        name="close",
        throws=(_FAILED,),
        body=(Do(Call(owner=_SESSION, name="close", on=_field(wrapped, "session", of(_SESSION)))),),
        doc=("Frees the session.",),
    )


def _outputs(wrapped: Wrapped) -> ClassDecl:
    outputs = outputs_of(wrapped)
    return ClassDecl(
        name=wrapped.outputs,
        fields=tuple(_output_fields(outputs)),
        methods=(
            Method(
                name="<init>",
                params=(("result", of(_RESULT)),),
                throws=(_FAILED,),
                access="",
                body=tuple(_output_puts(wrapped, outputs)),
            ),
        ),
        doc=(f"What {wrapped.name}.run gives; copies, which stay when the model is closed.",),
    )


def _output_fields(outputs: Iterable[Named]) -> Iterator[FieldDecl]:
    for item in outputs:
        yield FieldDecl(name=item.name, type=item.type, doc=item.doc)
        yield FieldDecl(name=item.shape, type=_SHAPE, doc=(f"Shape of {item.port.name}.",))


def _output_puts(wrapped: Wrapped, outputs: Sequence[Named]) -> Iterator[Stmt]:
    for place, item in enumerate(outputs):
        found = Call(
            owner=_RESULT,
            name="get",
            takes=("I",),
            gives=of(_VALUE),
            args=(Int(place),),
            on=Local("result"),
        )
        yield Let(item.tensor, of(_TENSOR), Cast(_TENSOR, found))
        read = Call(
            owner=_TENSOR,
            name=f"get{item.carrier.buffer}",
            gives=item.type,
            on=Local(item.tensor),
        )
        yield Put(wrapped.outputs, item.name, item.type, read)
        info = Call(owner=_TENSOR, name="getInfo", gives=of(_INFO), on=Local(item.tensor))
        yield Put(
            wrapped.outputs,
            item.shape,
            _SHAPE,
            Call(owner=_INFO, name="getShape", gives=_SHAPE, on=info),
        )
