"""devices.yaml: what it may say, where it is looked for, and who is meant."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedeploy.devices.groups import group_faults, resolved
from edgedeploy.devices.inventory import LOCAL, ROOT, Inventory, load_inventory
from edgedeploy.errors import EdgedeployError, ExitCode
from edgedeploy.errors.render import render

WHOLE = """
ssh_config: ssh/config
devices:
  kitchen: {host: 192.168.1.20, user: pi, port: 2222, jump: "me@gate:22,gate2", board: rpi5,
    identity: keys/kitchen, tags: [indoor, arm], root: /opt/depots/, python: /usr/bin/python3.11,
    restart: systemctl --user restart app,
    health: {command: "test -e ok", url: "http://127.0.0.1:8080/health", timeout: 20 s}}
  garden: {tags: [arm]}
  pretend: {connection: fake, facts: {arch: arm64, cores: 4}}
groups:
  all: ["@arms", pretend, local]
  arms: ["tag:arm"]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project folder, and the current one is another."""
    tmp_path.chmod(0o755)
    (tmp_path / "ssh").mkdir()
    (tmp_path / "ssh" / "config").write_text("")
    return tmp_path


def read(folder: Path, text: str) -> Inventory:
    """Read a text as the inventory of a project."""
    (folder / "devices.yaml").write_text(text)
    return load_inventory(None, folder)


def faults(folder: Path, text: str) -> list[tuple[str, int]]:
    """Return code and line of everything that is wrong with a text."""
    with pytest.raises(EdgedeployError) as caught:
        read(folder, text)
    assert caught.value.exit_code is ExitCode.USAGE
    return [(item.code, item.place.line if item.place else 0) for item in caught.value.diagnostics]


def test_everything_that_a_device_may_say(folder: Path) -> None:
    found = read(folder, WHOLE)
    kitchen = found.devices["kitchen"]
    assert (kitchen.kind, kitchen.host, kitchen.user, kitchen.port) == (
        "ssh",
        "192.168.1.20",
        "pi",
        2222,
    )
    assert kitchen.jump == "me@gate:22,gate2" and kitchen.board == "rpi5"
    assert kitchen.identity == folder / "keys/kitchen"
    assert kitchen.ssh_config == folder / "ssh/config"
    assert kitchen.root == "/opt/depots" and kitchen.python == "/usr/bin/python3.11"
    assert kitchen.tags == ("indoor", "arm") and kitchen.groups == ("all", "arms")
    hooks = kitchen.hooks
    assert (hooks.restart, hooks.health) == ("systemctl --user restart app", "test -e ok")
    assert (hooks.health_url, hooks.timeout_s) == ("http://127.0.0.1:8080/health", 20.0)
    assert found.devices["garden"].host == "garden" and found.devices["garden"].root == ROOT
    assert dict(found.devices["pretend"].facts) == {"arch": "arm64", "cores": 4}
    assert found.groups == {"all": ("kitchen", "garden", "pretend", LOCAL),
                            "arms": ("kitchen", "garden")}  # fmt: skip


def test_this_machine_is_a_device_without_being_named(folder: Path) -> None:
    found = read(folder, "devices:\n  a: {}\n")
    assert found.devices[LOCAL].kind == "local"
    assert [one.name for one in found.select(["*"])] == ["a"]
    assert [one.name for one in found.select([LOCAL])] == [LOCAL]
    named = read(folder, "devices:\n  local: {board: linux-x86-64}\n  a: {}\n")
    assert [one.name for one in named.select(["*"])] == [LOCAL, "a"]
    assert named.devices[LOCAL].board == "linux-x86-64"


def test_devices_are_chosen_by_name_pattern_group_and_tag(folder: Path) -> None:
    found = read(folder, WHOLE)

    def names(*patterns: str) -> list[str]:
        return [device.name for device in found.select(patterns)]

    assert names("pretend", "kit*") == ["kitchen", "pretend"]
    assert names("@arms") == names("tag:arm") == ["kitchen", "garden"]
    for wrong, hint in [("kitchn", "kitchen"), ("@arm", "@arms"), ("tag:amr", "tag:arm")]:
        with pytest.raises(EdgedeployError) as caught:
            found.select([wrong])
        item = caught.value.diagnostics[0]
        assert item.code == "E191" and f"`{hint}`" in (item.hint or "")
    with pytest.raises(EdgedeployError) as caught:
        found.select([])
    item = caught.value.diagnostics[0]
    assert item.code == "E190" and "kitchen, garden, pretend" in (item.hint or "")


def test_where_the_inventory_is_looked_for(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, user, other = (tmp_path_factory.mktemp(name) for name in ("here", "user", "other"))
    monkeypatch.chdir(here)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(user))
    assert load_inventory(None, folder).file is None
    with pytest.raises(EdgedeployError) as caught:
        load_inventory(None, folder).select(["pi"])
    assert caught.value.diagnostics[0].code == "E190"
    assert "devices: {pi: {host:" in (caught.value.diagnostics[0].hint or "")
    (user / "edgedeploy").mkdir()
    places = [
        user / "edgedeploy/devices.yaml",
        here / "devices.yaml",
        folder / "devices.yaml",
        other / "named.yaml",
    ]
    for place in places:
        place.write_text(f"devices:\n  {place.parent.name[:4]}: {{}}\n")
        if place.parent == other:
            monkeypatch.setenv("EDGEDEPLOY_DEVICES", str(place))
        found = load_inventory(None, folder)
        assert found.file is not None and found.file.resolve() == place.resolve()
    (other / "option.yaml").write_text("devices: {}\n")
    assert load_inventory(other / "option.yaml", folder).file == other / "option.yaml"
    with pytest.raises(EdgedeployError) as caught:
        load_inventory(other / "none.yaml", folder)
    assert caught.value.diagnostics[0].code == "E101"


def test_every_fault_is_said_at_once_with_its_place(folder: Path) -> None:
    text = """devices:
  -x: {host: -oProxyCommand=evil}
  a: {hots: x, port: 0, jump: "-x", root: ../x, board: "../b", user: "a;b"}
  local: {host: elsewhere}
  f: {connection: fake, host: x}
  s: {facts: {a: 1}}
  h: {health: {url: "ftp://x", timeout: 2 h}, restart: ""}
groups:
  g: ["@h", nobody]
  h: ["@g"]
"""
    assert sorted(faults(folder, text)) == sorted(
        [
            *[("E195", 2)] * 2,
            ("E104", 3),
            ("E107", 3),
            *[("E195", 3)] * 4,
            ("E196", 4),
            ("E196", 5),
            ("E196", 6),
            *[("E195", 7)] * 2,
            ("E107", 7),
            ("E192", 9),
            ("E191", 9),
            ("E192", 10),
        ]
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("host", "-oProxyCommand=touch x"),
        ("host", "a b"),
        ("host", "pi@board"),
        ("host", "a\x1b[2J"),
        ("host", "$(id)"),
        ("user", "-l"),
        ("user", "a b"),
        ("jump", "gate,-x"),
        ("jump", "a,,b"),
        ("jump", "gate:99999999"),
        ("root", "relative"),
        ("root", "/a/../b"),
        ("root", "~user/x"),
        ("root", "/a b"),
        ("root", "/"),
        ("python", "python3; id"),
        ("board", "a/b"),
        ("board", "rpi5\n"),
        ("restart", "x" * 2001),
    ],
)
def test_no_value_can_be_anything_but_what_it_is(folder: Path, key: str, value: str) -> None:
    import json

    assert faults(folder, f"devices:\n  a: {{{key}: {json.dumps(value)}}}\n")


@given(st.text(max_size=20))
def test_names_are_safe_for_terminals_and_paths(text: str) -> None:
    import json

    from edgedeploy.devices.inventory_schema import InventorySchema

    try:
        InventorySchema.model_validate(json.loads(json.dumps({"devices": {text: {}}})))
    except ValueError:
        return
    assert text.isascii() and text.isprintable() and "/" not in text and text[0].isalnum()


@pytest.mark.parametrize(
    "line",
    [
        "password: canary",
        "passphrase: canary",
        "api_key: canary",
        "connection: fake, facts: {token: canary}",
        'host: "pi:canary@board"',
        'jump: "pi:canary@gate"',
        'health: {url: "http://me:canary@board/"}',
        "hots: x, password: canary",
        "password: canary, port: 0",
    ],
)
def test_f137_a_secret_is_refused_and_not_shown(folder: Path, line: str) -> None:
    (folder / "devices.yaml").write_text(f"devices:\n  a: {{{line}}}\n")
    with pytest.raises(EdgedeployError) as caught:
        load_inventory(None, folder)
    shown = "\n".join(render(item) + str(item.to_json()) for item in caught.value.diagnostics)
    assert "canary" not in shown
    assert {item.code for item in caught.value.diagnostics} & {"E194", "E195"}


def test_f137_a_secret_in_a_file_that_is_no_yaml_is_not_shown(folder: Path) -> None:
    (folder / "devices.yaml").write_text('devices:\n  a: {password: "canary}\n')
    with pytest.raises(EdgedeployError) as caught:
        load_inventory(None, folder)
    assert "canary" not in "\n".join(render(item) for item in caught.value.diagnostics)


@pytest.mark.parametrize("what", ["file", "folder", "ssh_config"])
def test_a_file_that_others_may_write_is_refused(folder: Path, what: str) -> None:
    read(folder, WHOLE)
    path = {"file": folder / "devices.yaml", "folder": folder, "ssh_config": folder / "ssh/config"}
    path[what].chmod(path[what].stat().st_mode | 0o002)
    with pytest.raises(EdgedeployError) as caught:
        load_inventory(None, folder)
    assert caught.value.diagnostics[0].code == "E193"
    path[what].chmod(path[what].stat().st_mode & ~0o002)
    load_inventory(None, folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_file_of_another_user_is_refused(folder: Path) -> None:
    read(folder, WHOLE)
    os.chown(folder / "devices.yaml", 65534, 65534)
    with pytest.raises(EdgedeployError) as caught:
        load_inventory(None, folder)
    assert caught.value.diagnostics[0].code == "E193"


def test_a_folder_like_tmp_is_fine(folder: Path) -> None:
    read(folder, WHOLE)
    folder.chmod(0o1777)
    load_inventory(None, folder)


NAMES = st.sampled_from(["a", "b", "c", "d"])
MEMBERS = st.lists(st.one_of(NAMES, NAMES.map(lambda name: "@" + name)), max_size=4)


@given(st.dictionaries(NAMES, MEMBERS))
def test_groups_end_and_hold_what_their_members_hold(groups: dict[str, list[str]]) -> None:
    """Without faults a group is the union of its members; with a circle it is refused."""
    devices: dict[str, list[str]] = {name: [] for name in "abcd"}
    codes = {code for code, *_ in group_faults(groups, devices)}
    reach = {group: {m[1:] for m in members if m[0] == "@"} for group, members in groups.items()}
    for _ in range(4):  # the transitive closure, worked out another way
        for group in reach:
            reach[group] |= {far for near in reach[group] for far in reach.get(near, set())}
    assert ("E192" in codes) == any(group in reach[group] for group in reach)
    if codes:
        return
    found = resolved(groups, devices)
    for group, members in groups.items():
        wanted = {
            name
            for member in members
            for name in (found[member[1:]] if member[0] == "@" else [member])
        }
        assert set(found[group]) == wanted


@pytest.mark.parametrize(
    "key",
    [
        "devices",
        "groups",
        "ssh_config",
        "host",
        "user",
        "port",
        "jump",
        "identity",
        "restart",
        "health",
    ],
)
def test_f16_no_profile_names_a_host_or_a_command(folder: Path, key: str) -> None:
    """What devices.yaml may say about reaching and running, a profile may not."""
    from edgedeploy.profile.load import load_profile

    head = "edgedeploy: 1\nname: p\nmodel: {source: m.onnx}\ntargets: [linux-x86-64/ort]\n"
    (folder / "p.yaml").write_text(f"{head}{key}: x\n")
    with pytest.raises(EdgedeployError) as caught:
        load_profile(folder / "p.yaml")
    assert [item.code for item in caught.value.diagnostics] == ["E136"]
    assert "devices.yaml" in (caught.value.diagnostics[0].hint or "")


def test_an_empty_inventory_gets_advice_about_inventories(folder: Path) -> None:
    with pytest.raises(EdgedeployError) as caught:
        read(folder, "")
    (item,) = caught.value.diagnostics
    assert item.code == "E102" and "kitchen-pi" in str(item.hint)
