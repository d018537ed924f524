"""The order of the search path, and that plug-ins are found without being imported."""

import sys
from pathlib import Path

import pytest

from edgedeploy.config.bundled import bundled_folder
from edgedeploy.config.search import target_folders, user_folder


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EDGEDEPLOY_TARGET_PATH", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))


def test_order(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEDEPLOY_TARGET_PATH", f"{tmp_path}/e1::{tmp_path}/e2")
    site = tmp_path / "site"
    package = site / "acme_boards"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    info = site / "acme-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[edgedeploy.targets]\nacme = acme_boards\n")
    monkeypatch.syspath_prepend(str(site))
    found = list(target_folders(option=[Path("o")], project=tmp_path / "project"))
    assert [(item.origin, item.name) for item in found] == [
        ("option", "option"),
        ("environment", "environment"),
        ("environment", "environment"),
        ("project", "project"),
        ("project", "project"),
        ("user", "user"),
        ("plugin", "acme"),
        ("bundled", "bundled"),
    ]
    assert [item.path for item in found][3:7] == [
        tmp_path / "project" / "targets",
        tmp_path / "targets",
        tmp_path / "xdg" / "edgedeploy" / "targets",
        package,
    ]
    assert "acme_boards" not in sys.modules


def test_the_checkout_itself_is_no_project(monkeypatch):
    monkeypatch.chdir(bundled_folder())
    assert [item.origin for item in target_folders()].count("project") == 0


def test_a_relative_xdg_folder_is_ignored(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_folder() == tmp_path / ".config" / "edgedeploy"


def test_bundled_files_exist():
    assert (bundled_folder() / "targets" / "runtimes" / "ort.yaml").is_file()
