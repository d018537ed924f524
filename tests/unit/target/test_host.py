"""Whether this machine may stand in for a board."""

from edgedeploy.target import host
from edgedeploy.target.library import TargetLibrary


def test_an_intel_board_wants_an_intel_cpu(tmp_path, monkeypatch):
    monkeypatch.setattr(host.platform, "system", lambda: "Linux")
    monkeypatch.setattr(host.platform, "machine", lambda: "x86_64")
    target = TargetLibrary().load("intel-cpu/openvino")
    for vendor, fits in (("GenuineIntel", True), ("AuthenticAMD", False)):
        monkeypatch.setattr(host, "_cpu_vendor", lambda cpuinfo, vendor=vendor: vendor)
        assert host.is_this_machine(target) is fits


def test_the_vendor_is_read_from_cpuinfo(tmp_path):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 25\n")
    assert host._cpu_vendor(cpuinfo) == "AuthenticAMD"
    assert host._cpu_vendor(tmp_path / "missing") == ""
