"""Options of verbs that take a bundle to devices, or change whom devices believe."""

import pytest

from edgedeploy.cli.main import main

KEYS = ["keys", "enrol", "k.pub", "--name", "acme"]
REFUSED = {
    "neither profile nor bundle": ["push", "-d", "pi"],
    "both": ["push", "app.yaml", "--release", "a.edpkg", "-d", "pi"],
    "settings of a profile": ["push", "--release", "a.edpkg", "--set", "a=b"],
    "keys without a bundle": ["push", "app.yaml", "--key", "k.pub"],
    "an older build": ["push", "app.yaml", "--allow-downgrade"],
    "a version of a bundle": ["activate", "--release", "a.edpkg", "--version", "ab"],
    "a device without an application": [*KEYS, "-d", "pi"],
    "an application without a device": [*KEYS, "--app", "doorbell"],
    "a trust file on a device": [*KEYS, "-d", "pi", "--app", "doorbell", "--trust", "t.json"],
    "a statement on a device": [
        *("keys", "revoke", "ab" * 32, "--reason", "lost", "--by", "k", "-o", "s"),
        *("-d", "pi", "--app", "doorbell"),
    ],
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_go_together_is_refused(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(REFUSED[name])
    assert ended.value.code == 2
    assert "E100" in capsys.readouterr().err
