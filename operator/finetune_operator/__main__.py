"""``python -m finetune_operator`` runs the operator; with the argument ``gateway``, the status gateway."""

from __future__ import annotations

import sys


def main() -> None:
    """Starts what the arguments name, and imports nothing of the other."""
    match sys.argv[1:]:
        case []:
            from finetune_operator.main import main as operator

            operator()
        case ["gateway"]:
            from finetune_operator.gateway.main import main as gateway

            gateway()
        case arguments:
            raise SystemExit(f"finetune_operator: unknown arguments {arguments}; give none, or 'gateway'")


if __name__ == "__main__":
    main()
