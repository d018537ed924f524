"""Bills of materials and provenance, read by the validators of their own ecosystems."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from google.protobuf import json_format
from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.statement import Statement
from packageurl import PackageURL

from edgedeploy.release.bundle import Licence, Release
from edgedeploy.release.origin import BUILDER, PREDICATE_TYPE, provenance, tool_purl
from edgedeploy.release.sbom import sbom
from tests.unit.release.described import ORIGIN, TOP1, described_model, described_release


def faults(content: bytes) -> object:
    """Return what the official schema of CycloneDX 1.7 has against a document; None: nothing."""
    return JsonStrictValidator(SchemaVersion.V1_7).validate_str(content.decode())


def attested(content: bytes) -> tuple[Statement, provenance_pb2.Provenance]:
    """Return a statement and its predicate as the in-toto bindings read them; unknown fields fail.

    The bindings check a statement's rules; the predicate is checked by its message's fields.
    """
    message = json_format.Parse(content, statement_pb2.Statement())
    statement = Statement.copy_from_pb(message)
    statement.validate()
    predicate = json.dumps(json.loads(content)["predicate"])
    return statement, json_format.Parse(predicate, provenance_pb2.Provenance())


RELEASES = {
    "plain": described_release(),
    "dated": described_release(created="2026-11-28T00:00:00+00:00"),
    "unaccepted": described_release(unaccepted=("main on rpi5/ort: size (limit <= 4 B)",)),
    "no figures": described_release(described_model(figures=())),
    "variants": described_release(
        described_model(name="main[W=320]"), described_model(name="main[W=640]")
    ),
    "open figures": described_release(
        described_model(figures=(replace(TOP1, low=None, high=None), replace(TOP1, value=None)))
    ),
    "two licences": described_release(
        licences=(
            Licence(part="files", spdx="MIT OR GPL-3.0-only", file=None),
            Licence(part="model main", spdx="LicenseRef-Ours", file="LICENSES/LicenseRef-Ours.txt"),
        )
    ),
    "nothing": described_release(targets=(), licences=(), files=()),
}


@pytest.mark.parametrize("release", RELEASES.values(), ids=RELEASES)
def test_the_bill_of_materials_fits_the_official_schema(release: Release) -> None:
    assert faults(sbom(release, ORIGIN)) is None


def test_the_validator_sees_a_wrong_bill() -> None:
    data = json.loads(sbom(described_release(), ORIGIN))
    data["components"][0]["modelCard"]["accuracy"] = 1
    assert faults(json.dumps(data).encode()) is not None


def component(release: Release, reference: str) -> dict[str, Any]:
    """Return a component of a release's bill by its reference."""
    found = json.loads(sbom(release, ORIGIN))["components"]
    return next(item for item in found if item["bom-ref"] == reference)


def test_a_model_card_says_what_it_is_worth_and_made_from() -> None:
    model = component(described_release(), "model rpi5/ort main")
    assert model["type"] == "machine-learning-model"
    assert model["licenses"] == [{"expression": "Apache-2.0"}]
    assert model["authors"] == [{"name": "The model's authors"}]
    assert model["pedigree"]["ancestors"][0]["hashes"][0]["content"] == "b" * 64
    card = model["modelCard"]
    assert card["modelParameters"]["inputs"] == [{"format": "x: float32 [1, 3, 48, 160..960]"}]
    (metric,) = card["quantitativeAnalysis"]["performanceMetrics"]
    assert metric == {
        "type": "top1",
        "value": "0.9",
        "slice": "500 samples, evidence: host-runtime",
        "confidenceInterval": {"lowerBound": "0.88", "upperBound": "0.92"},
    }


def test_every_file_stands_once_with_its_digest() -> None:
    release = described_release()
    held = list(json.loads(sbom(release, ORIGIN))["components"])
    held += [inner for item in held for inner in item.get("components", ())]
    files = [item for item in held if item["bom-ref"].startswith("file ")]
    assert sorted((item["name"], item["hashes"][0]["content"]) for item in files) == sorted(
        (file.path, file.sha256) for file in release.files
    )


def test_the_runtime_is_no_part_and_has_a_range() -> None:
    runtime = component(described_release(), "runtime ort >=1.17")
    assert runtime["isExternal"] is True
    assert runtime["versionRange"] == "vers:pypi/>=1.17"


def test_the_serial_number_is_that_of_the_content() -> None:
    one, same = (json.loads(sbom(described_release(), ORIGIN)) for _ in range(2))
    assert one == same
    other = json.loads(sbom(described_release(counter=4), ORIGIN))
    assert other["serialNumber"] != one["serialNumber"]


@pytest.mark.parametrize("release", RELEASES.values(), ids=RELEASES)
def test_provenance_is_what_in_toto_reads(release: Release) -> None:
    content = provenance(release, ORIGIN)
    if not release.files:
        with pytest.raises(ValueError, match="At least one subject"):
            attested(content)
        return
    statement, predicate = attested(content)
    assert statement.pb.predicate_type == PREDICATE_TYPE
    assert {item.name: item.digest["sha256"] for item in statement.pb.subject} == {
        file.path: file.sha256 for file in release.files
    }
    assert predicate.run_details.builder.id == BUILDER
    names = [item.name for item in predicate.build_definition.resolved_dependencies]
    assert names == [
        "model main",
        "data main.samples.evaluate",
        "tool ml_dtypes",
        "tool onnxruntime",
        "tool python",
    ]


@pytest.mark.parametrize(("name", "version"), ORIGIN.tools.items())
def test_package_urls_are_understood(name: str, version: str) -> None:
    found = PackageURL.from_string(tool_purl(name, version))
    assert found.version == version
    assert found.to_string() == tool_purl(name, version)
