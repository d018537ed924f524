"""Reading a saved ``.mlpackage`` (or the bytes of its parts) into a :class:`Program`.

Only the message classes of coremltools are used, not its loader: what is read here does not pass
through the code that wrote it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgedeploy.errors import IntegrityError
from edgedeploy.mil import blobs
from edgedeploy.mil.interpreter import storage
from edgedeploy.mil.program import (
    Block,
    Feature,
    ListType,
    Named,
    Operation,
    Program,
    Ref,
    StateType,
    TensorType,
    Type,
)
from edgedeploy.mil.quiet import quiet

MODEL_FILE = "Data/com.apple.CoreML/model.mlmodel"
WEIGHTS_FILE = "Data/com.apple.CoreML/weights/weight.bin"


def read_package(package: Path) -> Program:
    """Return the program of a package.

    Args:
        package: The ``.mlpackage`` folder.

    Raises:
        IntegrityError: It is no package with an ML Program, or it is damaged (E360).
    """
    with quiet():
        from coremltools.proto import Model_pb2

    spec = Model_pb2.Model()
    try:
        manifest = json.loads((package / "Manifest.json").read_text(encoding="utf-8"))
        root = manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]["path"]
        model = _inside(package / "Data", root)
        spec.ParseFromString(model.read_bytes())
        if spec.WhichOneof("Type") != "mlProgram":
            raise ValueError("it holds no ML Program")
        return _Reader(model.parent).program(spec)
    except IntegrityError:
        raise
    except Exception as error:
        raise _damaged(package, f"{error}") from error


def _inside(folder: Path, name: str) -> Path:
    """Return the file of this name in a folder; a package names no file outside itself."""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise ValueError(f"it names {name}, which lies outside")
    return path


def _damaged(package: Path, why: str) -> IntegrityError:
    return IntegrityError(
        f"{package.name} is no Core ML package that can be run: {why}",
        code="E360",
        subject=package.name,
        hint="build the package again",
    )


class _Reader:
    """Turns messages into data; file names in them are relative to ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def program(self, spec: Any) -> Program:
        function = spec.mlProgram.functions[spec.description.defaultFunctionName or "main"]
        features: dict[str, Feature] = {}
        description = spec.description
        if description.functions:
            name = description.defaultFunctionName or "main"
            (description,) = [item for item in description.functions if item.name == name]
        for item in (*description.input, *description.output, *description.state):
            features[item.name] = _feature(item)
        metadata = spec.description.metadata
        told = {
            "author": metadata.author,
            "license": metadata.license,
            "version": metadata.versionString,
            "description": metadata.shortDescription,
            **metadata.userDefined,
        }
        return Program(
            opset=function.opset,
            inputs=tuple(map(_named, function.inputs)),
            body=self.block(function.block_specializations[function.opset]),
            features=features,
            outputs=tuple(item.name for item in description.output),
            metadata={key: value for key, value in told.items() if value},
        )

    def block(self, spec: Any) -> Block:
        return Block(
            inputs=tuple(map(_named, spec.inputs)),
            operations=tuple(map(self.operation, spec.operations)),
            outputs=tuple(spec.outputs),
        )

    def operation(self, spec: Any) -> Operation:
        attributes = {key: self.value(item) for key, item in spec.attributes.items()}
        outputs = tuple(map(_named, spec.outputs))
        inputs = {key: self._arguments(item) for key, item in sorted(spec.inputs.items())}
        return Operation(
            kind=spec.type,
            name=str(attributes.get("name") or (outputs[0].name if outputs else spec.type)),
            inputs=inputs,
            outputs=outputs,
            blocks=tuple(map(self.block, spec.blocks)),
            attributes=attributes,
        )

    def _arguments(self, spec: Any) -> tuple[Any, ...]:
        return tuple(
            Ref(item.name) if item.WhichOneof("binding") == "name" else self.value(item.value)
            for item in spec.arguments
        )

    def value(self, spec: Any) -> Any:
        """Return a constant: an array, a string, a tuple or a dictionary."""
        if spec.WhichOneof("value") == "blobFileValue":
            place = spec.blobFileValue
            path = _inside(self._folder, place.fileName.removeprefix("@model_path/"))
            data = blobs.load(path, place.offset)
            return _from_bytes(data, _type(spec.type))
        immediate = spec.immediateValue
        kind = immediate.WhichOneof("value")
        if kind == "tensor":
            return _immediate(immediate.tensor, _type(spec.type))
        if kind == "dictionary":
            return {
                _plain(self.value(item.key)): self.value(item.value)
                for item in immediate.dictionary.values
            }
        return tuple(self.value(item) for item in getattr(immediate, kind).values)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.ndarray) else value


def _type(spec: Any) -> Type:
    kind = spec.WhichOneof("type")
    if kind == "tensorType":
        from coremltools.proto import MIL_pb2

        tensor = spec.tensorType
        dtype = MIL_pb2.DataType.Name(tensor.dataType).lower()
        if any(dim.unknown.variadic for dim in tensor.dimensions):
            return TensorType(dtype, any_rank=True)
        dims = tuple(
            int(dim.constant.size) if dim.WhichOneof("dimension") == "constant" else None
            for dim in tensor.dimensions
        )
        return TensorType(dtype, dims)
    if kind == "stateType":
        wrapped = _type(spec.stateType.wrappedType)
        if isinstance(wrapped, TensorType):
            return StateType(wrapped)
    if kind == "listType":
        item = _type(spec.listType.type)
        if isinstance(item, TensorType):
            return ListType(item)
    return TensorType(kind or "none")


def _named(spec: Any) -> Named:
    return Named(spec.name, _type(spec.type))


def _immediate(spec: Any, kind: Type) -> Any:
    if not isinstance(kind, TensorType):
        raise ValueError("a tensor constant of another type")
    field = spec.WhichOneof("value")
    values: Any = getattr(spec, field).values if field else ()
    if field == "bytes":
        return _from_bytes(values, kind)
    if kind.dtype == "string":
        return values[0] if not kind.dims else tuple(values)
    sizes = [size or 0 for size in kind.dims]
    return np.array(values, storage(kind.dtype)).reshape(sizes)


def _from_bytes(data: bytes, kind: Type) -> np.ndarray:
    if not isinstance(kind, TensorType):
        raise ValueError("bytes of something that is no tensor")
    sizes = [size or 0 for size in kind.dims]
    digits = kind.dtype.lstrip("uint")
    if "int" in kind.dtype and digits.isdigit() and int(digits) < 8:
        signed = not kind.dtype.startswith("u")
        return blobs.unpack(data, int(digits), math.prod(sizes), signed=signed).reshape(sizes)
    return np.frombuffer(data, storage(kind.dtype)).reshape(sizes)


_ARRAY_DTYPES: Mapping[int, str] = {
    65568: "float32",
    65600: "float64",
    65552: "float16",
    131104: "int32",
    131080: "int8",
}
"""ArrayFeatureType.ArrayDataType of FeatureTypes.proto."""


def _feature(spec: Any) -> Feature:
    kind = spec.type.WhichOneof("Type")
    optional = bool(spec.type.isOptional)
    if kind == "imageType":
        image = spec.type.imageType
        shapes: tuple[tuple[int, ...], ...] = ((int(image.height), int(image.width)),)
        return Feature(name=spec.name, kind="image", dtype="", shapes=shapes, optional=optional)
    array = spec.type.stateType.arrayType if kind == "stateType" else spec.type.multiArrayType
    if kind not in ("multiArrayType", "stateType"):
        return Feature(name=spec.name, kind="other", dtype="", shapes=(), optional=optional)
    shapes = (tuple(map(int, array.shape)),) if array.shape else ()
    bounds: tuple[tuple[int, int | None], ...] = ()
    flexible = array.WhichOneof("ShapeFlexibility")
    if flexible == "enumeratedShapes":
        given = tuple(tuple(map(int, item.shape)) for item in array.enumeratedShapes.shapes)
        shapes = tuple(dict.fromkeys((*shapes, *given)))
    if flexible == "shapeRange":
        bounds = tuple(
            (int(item.lowerBound), None if item.upperBound < 0 else int(item.upperBound))
            for item in array.shapeRange.sizeRanges
        )
    return Feature(
        name=spec.name,
        kind="array",
        dtype=_ARRAY_DTYPES.get(array.dataType, ""),
        shapes=shapes,
        bounds=bounds,
        optional=optional,
    )
