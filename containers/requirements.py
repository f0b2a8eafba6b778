"""Prints what pip installs for some extras of pyproject.toml, one requirement per line.

The dependencies of an image are a layer below its code, so they are installed without it: from the lists that
the package declares, and no second list. `kennel[…]` in an extra stands for that extra's own list.

    python requirements.py pyproject.toml EXTRA…
"""

import re
import sys
import tomllib
from pathlib import Path


def main(file: str, *extras: str) -> int:
    """Print; the exit status is 2 for an extra that is not declared."""
    declared = tomllib.loads(Path(file).read_text())["project"]["optional-dependencies"]
    wanted: set[str] = set()
    ahead = list(extras)
    while ahead:
        extra = ahead.pop()
        if extra not in declared:
            sys.stderr.write(f"{file} declares no extra {extra!r}\n")
            return 2
        for requirement in declared[extra]:
            if nested := re.fullmatch(r"kennel\[(.+)\]", requirement):
                ahead += nested[1].split(",")
            else:
                wanted.add(requirement)
    sys.stdout.write("".join(f"{requirement}\n" for requirement in sorted(wanted)))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
