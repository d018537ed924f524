"""A Python that goes wrong where a test wants it to; runs the agent as its real one would.

Started as ``python -IS odd_python.py [-IS] -c CODE`` with its orders, JSON, in ``ODD_PYTHON``:

- ``replace``: texts of the boot program to replace;
- ``clock_s``: added to the wall clock;
- ``count``: file that gets the number of changing calls, written at the end;
- ``at``: the changing call (from 1, of those named in ``only`` if given) that goes wrong, with
  ``errno``: it raises; ``sleep_s``: it sleeps before; ``kill``: the process dies before it;
  ``shutdown`` and ``mount``: the ext4 file system there loses power before it;
- ``onwards``: every later one goes wrong too;
- ``skip``: calls that are not made at all.
"""

import fcntl
import json
import os
import signal
import struct
import sys
import time

CHANGING = (
    *("fchmod", "fsync", "ftruncate", "link", "mkdir", "pwrite", "rename", "rmdir", "symlink"),
    *("unlink", "utime", "write"),
)
EXT4_IOC_SHUTDOWN = 0x8004587D  # _IOR('X', 125, __u32), fs/ext4/ext4.h


class Orders:
    """What goes wrong, and how many calls there were."""

    def __init__(self, orders: dict) -> None:
        self.orders = orders
        self.calls = 0
        self.names: list[str] = []

    def before(self, name: str) -> None:
        """Count a call; let it go wrong if it is its turn."""
        if name not in self.orders.get("only", CHANGING):
            return
        self.calls += 1
        self.names.append(name)
        at = self.orders.get("at", 0)
        if not at or self.calls < at or (self.calls > at and not self.orders.get("onwards")):
            return
        if "shutdown" in self.orders:
            descriptor = os.open(self.orders["mount"], os.O_RDONLY)
            fcntl.ioctl(descriptor, EXT4_IOC_SHUTDOWN, struct.pack("I", self.orders["shutdown"]))
        if "shutdown" in self.orders or "kill" in self.orders:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(self.orders.get("sleep_s", 0))
        if "errno" in self.orders:
            raise OSError(self.orders["errno"], os.strerror(self.orders["errno"]))

    def patch(self) -> None:
        """Put the counting before every call that changes something on disk."""
        for name in CHANGING:
            setattr(os, name, self._counted(name, getattr(os, name)))
        real_open = os.open

        def counted_open(path: str, flags: int, *more: object, **named: object) -> int:
            if flags & os.O_CREAT:
                self.before("open")
            return real_open(path, flags, *more, **named)  # type: ignore[arg-type]

        os.open = counted_open  # type: ignore[assignment]
        real_exit = os._exit

        def told_exit(status: int) -> None:
            if "count" in self.orders:
                with open(self.orders["count"], "w", encoding="ascii") as file:
                    json.dump(self.names, file)
            real_exit(status)

        os._exit = told_exit  # type: ignore[assignment]

    def _counted(self, name: str, real: object) -> object:
        def call(*arguments: object, **named: object) -> object:
            if name != "write" or arguments[0] > 2:  # type: ignore[operator]
                self.before(name)
            if name in self.orders.get("skip", ()):
                return None
            return real(*arguments, **named)  # type: ignore[operator]

        return call


def main() -> None:
    orders = json.loads(os.environ.get("ODD_PYTHON", "{}"))
    code = sys.argv[-1]
    for old, new in orders.get("replace", {}).items():
        if old not in code:
            sys.exit(f"{old!r} is not in the boot program")
        code = code.replace(old, new)
    if "clock_s" in orders:
        real = time.time
        time.time = lambda: real() + orders["clock_s"]
    Orders(orders).patch()
    exec(code, {"__name__": "__main__"})


if __name__ == "__main__":
    main()
