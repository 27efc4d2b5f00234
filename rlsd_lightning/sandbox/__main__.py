"""Say what a program in the sandbox could do on this machine: python -m rlsd_lightning.sandbox."""

from __future__ import annotations

from rlsd_lightning.sandbox.layers import require


def main() -> None:
    """Run the self-test and print what it found; an error if untrusted programs would be refused here."""
    try:
        print(f"The sandbox {require(unsafe=False).describe()}.")
    except ValueError as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
