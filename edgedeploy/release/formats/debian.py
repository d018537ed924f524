"""Debian packages: one per target, which dpkg unpacks and a maintainer script makes current.

Of a target with engines for several platforms there is one per platform: a package does not choose.
dpkg owns ``/opt/NAME/package``. At configuration its files are hard-linked into
``/opt/NAME/releases/VERSION-DIGEST``, and then the link ``/opt/NAME/current`` is renamed over the
old one: what runs sees the old release or the new one, never a mixture, and the release before
stays. Sources: deb(5), deb-control(5), Debian Policy 4.7 sections 3.1, 5.6 and 6; the archive is
ar's common form, its members are tar archives of our one form.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgedeploy.release.bundle import (
    Release,
    ReleaseEngine,
    ReleaseModel,
    ReleaseTarget,
    folder_of,
)
from edgedeploy.release.content import Content, parts_of, size_of
from edgedeploy.release.formats import Format
from edgedeploy.release.formats.engines import engine_on, loaded_on, platforms_of
from edgedeploy.release.formats.shared import (
    beside,
    licence_expression,
    unfit,
    vouchers,
)
from edgedeploy.release.opening import Bundle
from edgedeploy.release.tarball import DATE, Entry, folders_to, gzip_parts, tar_parts

ARCHITECTURES: Mapping[str, str] = {"x86-64": "amd64", "arm64": "arm64", "armv7": "armhf"}
"""Debian's name by ours. Source: wiki.debian.org/SupportedArchitectures."""

MODELS = "models"
"""Link beside the files to the folder of the target: a path that is the same on every board."""

ENGINE = "engine"
"""Link beside a model's engines to the folder of the one: a path that no platform changes."""

_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]+")
_VERSION = re.compile(r"[0-9][A-Za-z0-9.+~-]*")
_FILE_BYTES = 1024
_SCRIPTS: Mapping[str, str] = {
    "postinst": """\
#!/bin/sh
# Make the unpacked release the current one; the release before stays beside it.
set -e
root="${DPKG_ROOT:-}@BASE@"
name='@RELEASE@'
case "$1" in
configure | abort-upgrade | abort-remove | abort-deconfigure)
    mkdir -p "$root/releases"
    if [ ! -d "$root/releases/$name" ]; then
        rm -rf "$root/releases/.new"
        cp -al "$root/package" "$root/releases/.new"
        mv -T "$root/releases/.new" "$root/releases/$name"
    fi
    before=$(readlink "$root/current" || :)
    before=${before##*/}
    if [ "$before" != "$name" ]; then
        ln -sfn "releases/$name" "$root/.current.new"
        mv -T "$root/.current.new" "$root/current"
        sync -f "$root"
        for old in "$root"/releases/*; do
            case "${old##*/}" in
            "$name" | "$before") ;;
            *) rm -rf "$old" ;;
            esac
        done
    fi
    ;;
esac
""",
    "postrm": """\
#!/bin/sh
# Take away what postinst made, when the package goes; an upgrade leaves it.
set -e
root="${DPKG_ROOT:-}@BASE@"
case "$1" in
remove | purge)
    rm -rf "$root/current" "$root/.current.new" "$root/releases"
    rmdir "$root" 2>/dev/null || :
    ;;
esac
""",
}


class Debian:
    """Debian packages; an :class:`edgedeploy.release.formats.Format`."""

    name = "debian"

    def suits(self, release: Release) -> tuple[ReleaseTarget, ...]:
        """Return the targets on Linux whose processor Debian has a name for."""
        return tuple(
            target
            for target in release.targets
            if target.os == "linux" and target.arch in ARCHITECTURES
        )

    def write(self, bundle: Bundle, folder: Path) -> tuple[Path, ...]:
        """Write ``NAME-BOARD-RUNTIME_VERSION_ARCHITECTURE.deb`` for each target.

        Where a target has engines for several platforms: one for each of them, with ``-PLATFORM``
        behind the runtime.

        Raises:
            UsageError: Name or version cannot be a Debian package's, or no platform has an engine
                of every model of a target (E760).
            OSError: The disk refuses.
        """
        made = []
        for part in _parts(bundle.release, self.suits(bundle.release)):
            version, arch = bundle.release.version, ARCHITECTURES[part.target.arch]
            goal = folder / f"{part.name}_{version}_{arch}.deb"
            _write_deb(goal, _control(bundle, part), _data(bundle, part))
            made.append(goal)
        return tuple(made)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """What one package holds: a target's files, and of its engines those of one platform."""

    target: ReleaseTarget
    platform: str
    name: str

    @property
    def engines(self) -> Iterator[tuple[ReleaseModel, ReleaseEngine]]:
        """The engines in it, by model."""
        for model in self.target.models:
            engine = engine_on(model, self.platform)
            if engine is not None:
                yield model, engine


def _parts(release: Release, targets: Iterable[ReleaseTarget]) -> Iterator[_Part]:
    for target in targets:
        name = _package_name(release, target)
        for platform in platforms_of("debian", target):
            called = f"{name}-{platform}" if platform else name
            yield _Part(target=target, platform=platform, name=called)


def _package_name(release: Release, target: ReleaseTarget) -> str:
    name = f"{_plain(release.name)}-{target.target.replace('/', '-')}"
    if not _NAME.fullmatch(name):
        raise unfit(
            "debian",
            f"{release.name!r} is no name of a Debian package",
            "use lower-case letters, digits, `+`, `-` and `.`",
        )
    if not _VERSION.fullmatch(release.version):
        raise unfit(
            "debian",
            f"{release.version!r} is no version of a Debian package",
            "begin with a digit, and use letters, digits and . + ~ -",
        )
    return name


def _plain(name: str) -> str:
    return name.lower().replace("_", "-")


def _base(release: Release) -> str:
    """Return the folder of a release's packages; one of them is installed at a time."""
    return f"/opt/{_plain(release.name)}"


def _files(bundle: Bundle, part: _Part) -> dict[str, Content]:
    """Return what the package installs, by path below the root."""
    held = loaded_on(bundle, part.target, part.platform) | beside(bundle) | vouchers(bundle)
    base = _base(bundle.release)
    files = {f"{base}/package/{path}": content for path, content in held.items()}
    files[f"/usr/share/doc/{part.name}/copyright"] = _copyright(bundle.release)
    return files


def _copyright(release: Release) -> bytes:
    expression = licence_expression(release) or "none is stated"
    lines = [f"Licence of {release.name} {release.version}: {expression}.", ""]
    for licence in release.licences:
        where = "" if licence.file is None else f", in {_base(release)}/current/{licence.file}"
        lines.append(f"{licence.part}: {licence.spdx}{where}")
    return "".join(f"{line}\n" for line in lines).encode()


def _data(bundle: Bundle, part: _Part) -> list[Entry]:
    entries = [
        Entry(path=f".{path}", content=content) for path, content in _files(bundle, part).items()
    ]
    package = f".{_base(bundle.release)}/package"
    entries.append(Entry(path=f"{package}/{MODELS}", link=part.target.target))
    for model, engine in part.engines:
        folder = folder_of(part.target.target, model.name)
        if engine.folder != folder:
            link = engine.folder.removeprefix(f"{folder}/")
            entries.append(Entry(path=f"{package}/{folder}/{ENGINE}", link=link))
    return entries + folders_to(entry.path for entry in entries)


def _control(bundle: Bundle, part: _Part) -> list[Entry]:
    release = bundle.release
    files = _files(bundle, part)
    scripts = [
        Entry(path=f"./{script}", content=_filled(text, release), executable=True)
        for script, text in _SCRIPTS.items()
    ]
    return [
        Entry(path="./control", content=_fields(release, part, files.values())),
        Entry(path="./md5sums", content=_md5sums(files)),
        *scripts,
    ]


def _filled(text: str, release: Release) -> bytes:
    """Return a script for a release; neither value holds anything that a shell would read."""
    label = f"{release.version}-{release.digest[:12]}"
    return text.replace("@BASE@", _base(release)).replace("@RELEASE@", label).encode()


def _fields(release: Release, part: _Part, contents: Iterable[Content]) -> bytes:
    target = part.target
    built = sorted({engine.in_words() for _, engine in part.engines})
    only = f"{_plain(release.name)}-release"
    blocks = sum(-(-size_of(content) // _FILE_BYTES) for content in contents)
    fields = {
        "Package": part.name,
        "Version": release.version,
        "Architecture": ARCHITECTURES[target.arch],
        "Maintainer": f"Publisher of {release.name} <publisher@{_plain(release.name)}.invalid>",
        "Installed-Size": str(blocks),
        "Provides": only,
        "Conflicts": only,
        "Replaces": only,
        "Section": "misc",
        "Priority": "optional",
        "Edgedeploy-Release": release.digest,
        "Edgedeploy-Runtime": f"{target.runtime} {target.runtime_versions}",
        **({"Edgedeploy-Engines": "; ".join(built)} if built else {}),
        "Description": (
            f"models of {release.name} for {target.target}\n"
            f" In {_base(release)}/current/{MODELS}. The runtime, {target.runtime} "
            f"{target.runtime_versions},\n"
            " comes from elsewhere: not every Debian has a package of it."
        ),
    }
    return "".join(f"{field}: {value}\n" for field, value in fields.items()).encode()


def _md5sums(files: Mapping[str, Content]) -> bytes:
    """Return what ``dpkg --verify`` reads; MD5 finds accidents, the signature finds the rest."""
    lines = []
    for path in sorted(files):
        found = hashlib.md5(usedforsecurity=False)
        for part in parts_of(files[path], path):
            found.update(part)
        lines.append(f"{found.hexdigest()}  {path.removeprefix('/')}\n")
    return "".join(lines).encode()


def _write_deb(goal: Path, control: Sequence[Entry], data: Sequence[Entry]) -> None:
    """Write the archive; deb(5): these three members, in this order."""
    with open(goal, "xb") as file:
        file.write(b"!<arch>\n")
        for name, parts in (
            ("debian-binary", iter([b"2.0\n"])),
            ("control.tar.gz", gzip_parts(tar_parts(control))),
            ("data.tar.gz", gzip_parts(tar_parts(data))),
        ):
            start = file.tell()
            file.write(_member_head(name, 0))
            file.writelines(parts)
            end = file.tell()
            file.seek(start)
            file.write(_member_head(name, end - start - len(_member_head(name, 0))))
            file.seek(end)
            file.write(b"\n" * (end % 2))


def _member_head(name: str, size: int) -> bytes:
    return f"{name:<16}{DATE:<12}{0:<6}{0:<6}{'100644':<8}{size:<10}`\n".encode("ascii")


FORMAT: Format = Debian()
