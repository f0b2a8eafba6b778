"""Ends the build of the image where torch is not the build that was asked for: `python torch_build.py cpu|cuda`.

The indexes decide which build of one version pip takes. Without this check the mistake would show on a GPU that
idles, at its price per hour.
"""

import sys

import torch

_HINT = "Give the index that has it: --build-arg PIP_EXTRA_INDEX_URL=… (pytorch.org/get-started names it)."


def main(wanted: str) -> int:
    """Exit status."""
    found = "cuda" if torch.version.cuda else "cpu"
    print(f"torch {torch.__version__} is a {found} build")  # noqa: T201
    if wanted not in ("cpu", "cuda"):
        sys.stderr.write(f"TORCH is {wanted!r}; it must be cpu or cuda\n")
        return 2
    if wanted == "cuda" and found == "cpu":
        sys.stderr.write(f"TORCH is cuda, but torch {torch.__version__} is built without it.\n{_HINT}\n")
        return 1
    if wanted == "cpu" and found == "cuda":  # it works, and is gigabytes larger
        sys.stderr.write(f"TORCH is cpu, but torch {torch.__version__} comes with CUDA.\n{_HINT}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
