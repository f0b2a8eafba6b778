"""Puts torchvision's weights of the named backbones under TORCH_HOME: `python bake.py [BACKBONE…]`.

A job without a network then finds them with the hyperparameter pretrained=torchvision.
"""

import os
import sys
from pathlib import Path


def main(names: list[str]) -> int:
    """Exit status."""
    Path(os.environ["TORCH_HOME"]).mkdir(parents=True, exist_ok=True)
    if not names:
        return 0
    from kennel.errors import InvalidModel  # noqa: PLC0415 - torch takes seconds to import
    from kennel.training import backbones  # noqa: PLC0415

    for name in names:
        try:
            backbones.downloaded(backbones.Backbone(name))
        except ValueError:
            sys.stderr.write(f"PRETRAINED is {name!r}; it must be one of {', '.join(backbones.Backbone)}\n")
            return 2
        except InvalidModel as error:
            sys.stderr.write(f"PRETRAINED={name}: {error.what}\n")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
