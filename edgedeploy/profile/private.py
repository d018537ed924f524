"""Where private data lies: ``data.yaml`` beside the profile, git-ignored."""

from __future__ import annotations

from edgedeploy.config.read import read_document
from edgedeploy.errors import ProfileError
from edgedeploy.profile.types import DataRole, Profile

DATA_FILE = "data.yaml"


def locate(profile: Profile, model: str, role: DataRole) -> str:
    """Return the source of a data role: what the profile says, else what data.yaml says.

    ``data.yaml`` beside the profile is a map from role, or ``model.role``, to a source; relative
    ones are relative to the profile's folder.

    Raises:
        ProfileError: data.yaml is malformed, or neither names a source (E144).
    """
    if role.source is not None:
        return role.source
    file = profile.folder / DATA_FILE
    wanted = (f"{model}.{role.name}", role.name)
    hint = f"write `{role.name}: path/to/data` into {DATA_FILE} beside the profile"
    if not file.exists():
        raise ProfileError(
            f"the profile names no source for `{role.name}`, and there is no {DATA_FILE}",
            code="E144",
            subject=str(file),
            hint=hint,
        )
    document = read_document(file)
    if not isinstance(document.data, dict):
        raise ProfileError(
            document.diagnostic("E144", f"{DATA_FILE} is a map from role to source", (), hint=hint)
        )
    for key in wanted:
        if key in document.data:
            source = document.data[key]
            if isinstance(source, str) and source.strip() and source.isprintable():
                return source
            raise ProfileError(
                document.diagnostic("E144", f"`{key}` is no source", (key,), hint=hint)
            )
    raise ProfileError(
        document.diagnostic(
            "E144",
            f"neither the profile nor {DATA_FILE} names a source for `{role.name}`",
            (),
            hint=hint,
        )
    )
