"""Rebuild a run's page: python -m rlsd_lightning.report RUN_DIR [RUN_DIR ...]."""

from __future__ import annotations

import argparse
from pathlib import Path

from rlsd_lightning.report.build import write_report


def main() -> None:
    """Write report.html into each run folder and say where it is."""
    parser = argparse.ArgumentParser(prog="python -m rlsd_lightning.report", description=__doc__)
    parser.add_argument("run_dirs", nargs="+", type=Path, metavar="RUN_DIR", help="a run's folder")
    for run_dir in parser.parse_args().run_dirs:
        print(write_report(run_dir))


if __name__ == "__main__":
    main()
