"""The Android package: its parts, read by Android's, Java's and Gradle's own tools, and run."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import tree_sitter
import tree_sitter_kotlin

from edgedeploy.errors import UsageError
from edgedeploy.release.bundle import Release, Role, Tensor
from edgedeploy.release.formats.android import FORMAT
from edgedeploy.release.formats.androidtext import runtime_range
from tests.packages.java import STANDINS, apk_of, java_run, javac, needs_aapt, needs_jdk, run
from tests.unit.release.android_bundle import (
    ENTRY,
    LABELS,
    WEIGHTS,
    package,
    the_model,
    the_release,
    with_model,
)

needs_gradle = pytest.mark.skipif(not shutil.which("gradle"), reason="needs Gradle")
STEM = "maven/edgedeploy/door-bell-android-arm64/1.2.0/door-bell-android-arm64-1.2.0"

DRIVER = """
import android.content.Context;
import android.content.res.AssetFileDescriptor;
import ai.onnxruntime.*;
import edgedeploy.doorbell.androidarm64.*;
import java.nio.*;

public class Driver {
    public static void main(String[] args) throws Exception {
        Context context = new Context(args[0]);
        float[] image = new float[8];
        for (int at = 0; at < 8; at++) {
            image[at] = at - 3.5f;
        }
        try (DoorBell model = DoorBell.open(context)) {
            DoorBellOutputs found = model.run(
                    FloatBuffer.wrap(image), new long[] {2, 4},
                    LongBuffer.wrap(new long[] {20, 1L << 40}),
                    ByteBuffer.wrap(new byte[] {1, 0, (byte) 200, 1}));
            for (int at = 0; at < 8; at++) {
                System.out.println(found.scoresE.get(at) + " " + found.half.get(at)
                        + " " + found.positive.get(at));
            }
            System.out.println(found.new_.get(0) + " " + found.new_.get(1) + " "
                    + java.util.Arrays.toString(found.scoresEShape));
            try {
                model.run(FloatBuffer.wrap(image), new long[] {3, 4},
                        LongBuffer.allocate(2), ByteBuffer.allocate(4));
            } catch (OrtException wrong) {
                System.out.println("refused: " + wrong.getMessage());
            }
        }
        System.out.println(String.join(",", DoorBell.labels(context)));
        System.out.println("open: " + OnnxTensor.open + OrtSession.open
                + OrtSession.SessionOptions.open + AssetFileDescriptor.open
                + " telemetry: " + OrtEnvironment.telemetry);
    }
}
"""


@dataclass(frozen=True)
class Written:
    """A package that was written, with what it was made from."""

    folder: Path
    release: Release
    files: dict[str, tuple[Role, bytes]]
    manifest: bytes
    scratch: Path

    @property
    def aar(self) -> zipfile.ZipFile:
        """The AAR."""
        return zipfile.ZipFile(self.folder / f"{STEM}.aar")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """A package of a model with awkward names."""
    scratch = tmp_path_factory.mktemp("android")
    files: dict[str, tuple[Role, bytes]] = {
        ENTRY: ("model", the_model(scratch)),
        f"{ENTRY.rpartition('/')[0]}/interface.json": ("interface", b"{}"),
        LABELS: ("labels", "Türe\r\nBell\r\n".encode()),
        "android-arm64/ort/golden/main/inputs/0.bin": ("golden", b"private"),
        "rpi5/ort/main/model.ort": ("model", b"for another target"),
        "files/words.txt": ("file", b"ding"),
    }
    release = the_release(files)
    folder, manifest = package(scratch / "once", release, files)
    return Written(folder, release, files, manifest, scratch)


@pytest.fixture(scope="module")
def standins(written: Written) -> Path:
    """Classes of the stand-ins for Android and ONNX Runtime."""
    return javac(written.scratch / "standins", "", STANDINS.rglob("*.java"))


@pytest.fixture(scope="module")
def classes(written: Written) -> Path:
    """The classes that the AAR brings."""
    with written.aar as aar:
        (written.scratch / "classes.jar").write_bytes(aar.read("classes.jar"))
    place = written.scratch / "ours"
    with zipfile.ZipFile(written.scratch / "classes.jar") as jar:
        jar.extractall(place)
    return place


@pytest.fixture(scope="module")
def driver(written: Written, standins: Path, classes: Path) -> Path:
    """Classes of a small app, compiled against the AAR's."""
    source = written.scratch / "Driver.java"
    source.write_text(DRIVER)
    return javac(written.scratch / "driver", f"{standins}:{classes}", [source])


@pytest.fixture(scope="module")
def unpacked(written: Written) -> Path:
    """The AAR's members as files."""
    place = written.scratch / "unpacked"
    with written.aar as aar:
        aar.extractall(place)
    return place


def test_an_aar_has_the_parts_of_one_and_nothing_compressed(written: Written) -> None:
    asset = "assets/edgedeploy/door-bell"
    with written.aar as aar:
        assert [item.filename for item in aar.infolist()] == [
            "AndroidManifest.xml",
            "R.txt",
            f"{asset}/{ENTRY}",
            f"{asset}/files/words.txt",
            f"{asset}/{LABELS}",
            f"{asset}/manifest.dsse.json",
            f"{asset}/manifest.json",
            "classes.jar",
            "proguard.txt",
        ]
        assert {item.compress_type for item in aar.infolist()} == {zipfile.ZIP_STORED}
        assert aar.read(f"{asset}/{ENTRY}") == written.files[ENTRY][1]
        assert aar.read(f"{asset}/manifest.json") == written.manifest
        manifest = ElementTree.fromstring(aar.read("AndroidManifest.xml"))
        assert manifest.attrib["package"] == "edgedeploy.doorbell.androidarm64"
        assert not list(manifest)
        assert "payloadType" in json.loads(aar.read(f"{asset}/manifest.dsse.json"))


@needs_jdk
@needs_aapt
def test_an_app_runs_the_model_out_of_the_packaged_file(
    standins: Path, classes: Path, driver: Path, unpacked: Path
) -> None:
    apk = apk_of(unpacked, "-0", "ort")
    printed = java_run((standins, classes, driver), apk).splitlines()

    image = (np.arange(8, dtype=np.float32) - 3.5).reshape(2, 4)
    scores = (image * np.array([1, 0, 200, 1], np.float32)) @ WEIGHTS
    half = image.astype(np.float16).view(np.int16)
    for line, score, bits, positive in zip(
        printed, scores.flat, half.flat, (image > 0).flat, strict=False
    ):
        assert float(line.split()[0]) == pytest.approx(score, rel=1e-5, abs=1e-4)
        assert line.split()[1:] == [str(bits), str(int(positive))]
    assert printed[8:] == [
        f"40 {1 << 41} [2, 16]",
        "refused: the shape has 12 elements, the buffer 8",
        "Türe,Bell",
        "open: 0000 telemetry: false",
    ]


@needs_jdk
@needs_aapt
def test_source_and_classes_are_the_same_program(
    written: Written, standins: Path, classes: Path, driver: Path, unpacked: Path
) -> None:
    sources = written.scratch / "sources"
    with zipfile.ZipFile(written.folder / f"{STEM}-sources.jar") as jar:
        jar.extractall(sources)
    strict = ("-Xlint:all,-options", "-Werror", "-source", "8", "-target", "8")
    theirs = javac(written.scratch / "theirs", str(standins), sources.rglob("*.java"), *strict)
    names = sorted(file.relative_to(classes) for file in classes.rglob("*.class"))
    assert [name.as_posix() for name in names] == [
        f"edgedeploy/doorbell/androidarm64/{name}.class" for name in ("DoorBell", "DoorBellOutputs")
    ]

    def members(place: Path) -> list[str]:
        shown = run("javap", "-private", "-constants", *(place / name for name in names))
        return [line for line in shown.splitlines() if not line.startswith("Compiled from")]

    assert members(classes) == members(theirs)
    apk = apk_of(unpacked, "-0", "ort")
    found = [java_run((standins, place, driver), apk) for place in (classes, theirs)]
    assert found[0] == found[1]


@needs_jdk
@needs_aapt
def test_a_model_that_the_app_compressed_is_refused_with_the_way_out(
    standins: Path, classes: Path, driver: Path, unpacked: Path
) -> None:
    with pytest.raises(AssertionError, match=r'androidResources \{ noCompress \+= "ort" \}'):
        java_run((standins, classes, driver), apk_of(unpacked))


@needs_gradle
def test_gradle_takes_the_package_and_a_runtime_of_its_range(written: Written) -> None:
    project = written.scratch / "project"
    runtime = project / "others/com/microsoft/onnxruntime/onnxruntime-android"
    versions = ("1.17.3", "1.20.0", "1.23.2", "2.0.0")
    for version in versions:
        place = runtime / version
        place.mkdir(parents=True)
        stem = place / f"onnxruntime-android-{version}"
        stem.with_name(f"{stem.name}.aar").write_bytes(b"")
        stem.with_name(f"{stem.name}.pom").write_text(
            "<project><modelVersion>4.0.0</modelVersion>"
            "<groupId>com.microsoft.onnxruntime</groupId>"
            f"<artifactId>onnxruntime-android</artifactId><version>{version}</version>"
            "<packaging>aar</packaging></project>"
        )
    listed = "".join(f"<version>{version}</version>" for version in versions)
    (runtime / "maven-metadata.xml").write_text(
        "<metadata><groupId>com.microsoft.onnxruntime</groupId>"
        "<artifactId>onnxruntime-android</artifactId>"
        f"<versioning><versions>{listed}</versions></versioning></metadata>"
    )
    (project / "settings.gradle").write_text("rootProject.name = 'app'\n")
    (project / "build.gradle").write_text(
        f"""
        repositories {{
            maven {{ url '{written.folder / "maven"}' }}
            maven {{ url 'others' }}
        }}
        configurations {{ app }}
        dependencies {{ app 'edgedeploy:door-bell-android-arm64:1.2.0' }}
        task files {{ doLast {{ configurations.app.each {{ println "file: " + it.name }} }} }}
        """
    )
    printed = run(
        "gradle", "--offline", "--no-daemon", "-q", "-g", written.scratch / "home", "files",
        cwd=project,
    )  # fmt: skip
    assert sorted(line for line in printed.splitlines() if line.startswith("file: ")) == [
        "file: door-bell-android-arm64-1.2.0.aar",
        "file: onnxruntime-android-1.23.2.aar",
    ]


def test_the_pom_says_what_the_package_is(written: Written) -> None:
    pom = ElementTree.parse(written.folder / f"{STEM}.pom").getroot()
    found = {
        name: pom.findtext(f".//m:{name}", None, {"m": "http://maven.apache.org/POM/4.0.0"})
        for name in ("groupId", "artifactId", "version", "packaging", "description", "name")
    }
    assert found == {
        "groupId": "edgedeploy",
        "artifactId": "door-bell-android-arm64",
        "version": "1.2.0",
        "packaging": "aar",
        "description": f"Release {written.release.digest}",
        "name": "Apache-2.0 OR MIT",
    }
    for file in written.folder.rglob("*.sha1"):
        content = file.with_suffix("").read_bytes()
        assert file.read_text() == hashlib.sha1(content, usedforsecurity=False).hexdigest()


def test_kotlin_reads_the_extensions(written: Written) -> None:
    (file,) = written.folder.glob("kotlin/**/*.kt")
    parser = tree_sitter.Parser(tree_sitter.Language(tree_sitter_kotlin.language()))
    tree = parser.parse(file.read_bytes())
    assert not tree.root_node.has_error
    text = file.read_text()
    assert "fun Context.openDoorBell(): DoorBell = DoorBell.open(this)" in text
    assert "    class_: LongArray,\n" in text
    broken = parser.parse(text.replace("): DoorBellOutputs", ": DoorBellOutputs").encode())
    assert broken.root_node.has_error


def test_the_same_bundle_gives_the_same_package_anywhere(written: Written) -> None:
    again, _ = package(written.scratch / "again", written.release, written.files)

    def digests(folder: Path) -> dict[str, bytes]:
        # Keys differ, and with them the signature, in the AAR alone.
        return {
            str(file.relative_to(folder)): file.read_bytes()
            for file in sorted(folder.rglob("*"))
            if file.is_file() and ".aar" not in file.name
        }

    assert digests(again) == digests(written.folder)
    with written.aar as one, zipfile.ZipFile(again / f"{STEM}.aar") as two:
        other = {
            item.filename for item in one.infolist() if one.read(item) != two.read(item.filename)
        }
    assert other == {"assets/edgedeploy/door-bell/manifest.dsse.json"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "door+bell"}, "cannot be a Maven artifact id"),
        ({"inputs": (Tensor(name="x", dtype="uint32", shape=(1,)),)}, "'x' of main is uint32"),
        ({"outputs": (Tensor(name="y", dtype="str", shape=(1,)),)}, "'y' of main is str"),
    ],
)
def test_what_has_no_form_there_is_refused(
    written: Written, tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    if changes.keys() & {"inputs", "outputs"}:
        release = with_model(written.release, **changes)
    else:
        release = replace(written.release, **changes)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=words) as raised:
        package(tmp_path / "refused", release, written.files)
    assert raised.value.diagnostics[0].code == "E760"


def test_only_android_targets_of_onnx_runtime_suit(written: Written) -> None:
    (target,) = written.release.targets
    assert FORMAT.suits(written.release) == (target,)
    for change in ({"os": "linux"}, {"runtime": "openvino"}):
        other = replace(target, **change)  # type: ignore[arg-type]
        assert FORMAT.suits(replace(written.release, targets=(other,))) == ()


@pytest.mark.parametrize(
    ("versions", "wanted"),
    [
        (">=1.17", "[1.20,2)"),
        (">=1.22.1", "[1.22.1,2)"),
        (">=1.17, <1.23", "[1.20,1.23)"),
    ],
)
def test_a_range_becomes_one_of_maven(versions: str, wanted: str) -> None:
    assert runtime_range(versions) == wanted


@pytest.mark.parametrize("versions", ["~=1.20", ">=1.17,<1.20", ""])
def test_a_range_that_maven_cannot_have_is_refused(versions: str) -> None:
    with pytest.raises(ValueError, match="it"):
        runtime_range(versions)
