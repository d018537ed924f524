"""`make lab-up` and `make lab-down`: devices to try things on by hand.

python -m tests.lab up [IMAGE ...]     one of each, or of the images named; they stay
python -m tests.lab down [NAME ...]    remove those devices, or all that `up` made
"""

import shlex
import sys

from tests.lab.device import BOARDS, write_inventory
from tests.lab.images import PACKAGES
from tests.lab.lab import Lab, tear_down
from tests.lab.place import RUN, LabError


def up(images: list[str]) -> None:
    """Make devices and print how to reach them."""
    names = images or [f"{board}-{kind}" for board in reversed(BOARDS) for kind in PACKAGES]
    lab = Lab(persistent=True)
    made = []
    try:
        for name in names:
            made.append(lab.device(name))
            print(f"# up: {name}", file=sys.stderr)
    finally:
        lab.close()
    print(f"# devices.yaml, also at {(inventory := write_inventory(RUN, made))}")
    print(inventory.read_text())
    for device in made:
        print(f"# {shlex.join(device.ssh())}")


def main(words: list[str]) -> int:
    """Run one command; return the exit status."""
    try:
        match words:
            case ["up", *images]:
                up(images)
            case ["down", *names]:
                print(f"# removed: {tear_down(names)}", file=sys.stderr)
            case _:
                print(__doc__, file=sys.stderr)
                return 2
    except LabError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
