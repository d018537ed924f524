"""The JSON Schema, the generated reference and the starter profile."""

import re
from pathlib import Path
from typing import get_args

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedeploy.config.read import read_text
from edgedeploy.profile.expand import expand
from edgedeploy.profile.load import load_profile
from edgedeploy.profile.reference import SCHEMA_DIALECT, json_schema, reference_markdown
from edgedeploy.profile.starter import starter_profile
from edgedeploy.profile.types import QuantizeMode
from edgedeploy.signature import Signature, TensorSpec
from edgedeploy.target.library import TargetLibrary

DIMS = st.one_of(
    st.integers(-1, 512), st.none(), st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
)
SPECS = st.builds(
    TensorSpec,
    name=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8),
    dtype=st.sampled_from(["float32", "int64", "string"]),
    dims=st.none() | st.lists(DIMS, max_size=4).map(tuple),
)


def starter(tmp, signature, metadata=None, path="models/m.onnx"):
    text = starter_profile(path, signature, metadata or {})
    file = Path(tmp) / "p.yaml"
    file.write_text(text, encoding="utf-8")
    return text, load_profile(file)


def test_the_committed_reference_is_the_generated_one():
    root = Path(__file__).parents[3]
    committed = (root / "docs" / "profile.md").read_text(encoding="utf-8")
    assert committed == reference_markdown(), "write reference_markdown() to docs/profile.md"


def test_the_example_of_the_reference_loads(tmp_path):
    example = re.search(r"```yaml\n(.*?)```", reference_markdown(), re.DOTALL)
    path = tmp_path / "p.yaml"
    path.write_text(example[1])
    profile = load_profile(path)
    library = TargetLibrary()
    assert expand(profile, {use.target: library.load(use.target) for use in profile.targets})


def test_every_link_of_the_reference_leads_to_a_heading():
    text = reference_markdown()
    headings = {line.lower() for line in re.findall(r"^## (\w+)$", text, re.MULTILINE)}
    links = set(re.findall(r"\(#([^)]+)\)", text))
    assert links
    assert links <= headings


def test_the_schema_describes_every_key_and_the_short_forms():
    schema = json_schema()
    assert schema["$schema"] == SCHEMA_DIALECT
    maps = [schema, *schema["$defs"].values()]
    for item in maps:
        assert item["additionalProperties"] is False
        assert item["description"]
        for key, prop in item["properties"].items():
            assert prop.get("description"), key
    source = schema["$defs"]["ModelSchema"]["properties"]["source"]
    assert {"type": "string"} in source["anyOf"]
    targets = schema["properties"]["targets"]["anyOf"]
    assert {"type": "array", "items": {"type": "string"}} in targets
    mode = schema["$defs"]["QuantizeSchema"]["properties"]["mode"]
    assert mode["enum"] == [*get_args(QuantizeMode)]


@settings(max_examples=60)
@given(
    st.lists(SPECS, min_size=1, max_size=3, unique_by=lambda spec: spec.name),
    st.dictionaries(st.just("license"), st.text(max_size=8)),
)
def test_every_starter_is_valid_and_names_every_input(tmp_path_factory, specs, metadata):
    signature = Signature(inputs=tuple(specs), outputs=(specs[0],))
    metadata = {key: re.sub("[\ud800-\udfff]", "", value) for key, value in metadata.items()}
    _, profile = starter(tmp_path_factory.mktemp("s"), signature, metadata)
    model = profile.models["main"]
    assert list(model.inputs) == [spec.name for spec in specs]
    for spec in specs:
        shape = model.inputs[spec.name].shape
        assert (shape is None) if spec.dims is None else (len(shape) == len(spec.dims))


def test_the_starter_for_an_image_model(tmp_path):
    signature = Signature(
        inputs=(TensorSpec(name="x", dtype="float32", dims=("N", 3, 48, "W")),),
        outputs=(TensorSpec(name="y", dtype="float32", dims=("N", "W", 97)),),
    )
    text, profile = starter(tmp_path, signature, {"license": "MIT"}, "models/my net (1).onnx")
    assert profile.name == "my-net-1"
    assert profile.models["main"].source.path == "models/my net (1).onnx"
    assert profile.models["main"].licence == "MIT"
    assert profile.models["main"].inputs["x"].shape == ("N", 3, 48, "W")
    with_image = text.replace("      # image:", "      image:")
    (tmp_path / "p.yaml").write_text(with_image)
    image = load_profile(tmp_path / "p.yaml").models["main"].inputs["x"].image
    assert (image.height, image.width, image.layout) == (48, 224, "nchw")


def test_uncommented_advice_of_the_starter_is_valid(tmp_path):
    signature = Signature(inputs=(TensorSpec(name="x", dtype="float32", dims=(1, 4)),), outputs=())
    text, _ = starter(tmp_path, signature)
    advised = re.sub(r"^# (data:|  calibrate|  evaluate|metric|gates)", r"\1", text, flags=re.M)
    assert "\ndata:" in advised
    (tmp_path / "p.yaml").write_text(re.sub(r"^#   ", "  ", advised, flags=re.M))
    profile = load_profile(tmp_path / "p.yaml")
    assert set(profile.models["main"].data) == {"calibrate", "evaluate"}
    assert profile.targets[0].gates.size_bytes == 4_000_000


def test_the_starter_means_the_same_to_stock_yaml(tmp_path):
    signature = Signature(
        inputs=(TensorSpec(name="on", dtype="float32", dims=("N", "y")),), outputs=()
    )
    text, _ = starter(tmp_path, signature)
    assert yaml.safe_load(text) == read_text(text, label="p").data
