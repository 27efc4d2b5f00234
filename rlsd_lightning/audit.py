"""The reward-hack audit: what a verifier pays on a data set for responses that did not solve the problem.

It needs no model. What it finds is for a person to judge: it says what was paid, and ends with status 0.
"""

from __future__ import annotations

import functools
import itertools
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from omegaconf import DictConfig

from rlsd_lightning.attacks import ATTACKS
from rlsd_lightning.attacks.trials import Judge, try_attacks
from rlsd_lightning.config import instantiate
from rlsd_lightning.data import ProblemDataset, StreamingProblems
from rlsd_lightning.interfaces import ChecksProblems, Verifier
from rlsd_lightning.types import Problem
from rlsd_lightning.verification import verify_batch
from rlsd_lightning.verifier_pool import VerifierPool

log = logging.getLogger(__name__)


def audit(cfg: DictConfig) -> dict[str, float]:
    """Try all attacks on the first training problems, and print what they were paid.

    Args:
        cfg: a validated configuration.

    Raises:
        ValueError: audit_problems is below 1, or the verifier finds a fault in a problem.
    """
    if cfg.audit_problems < 1:
        raise ValueError(
            f"audit_problems is {cfg.audit_problems}, so there is nothing to try attacks on. Set it to 1 or more."
        )
    if cfg.prepare is not None:
        instantiate(cfg.prepare)
    verifier = instantiate(cfg.verifier)
    problems = first_problems(instantiate(cfg.data.train), cfg.audit_problems)
    if isinstance(verifier, ChecksProblems):
        verifier.check(problems)
    log.info(
        "Trying %d attacks on %d problems of %s.", len(ATTACKS), len(problems), cfg.data.train.path
    )
    with _judge(cfg, verifier) as judge:
        findings = try_attacks(ATTACKS, problems, judge)
    print(findings.as_text())
    return findings.numbers()


def first_problems(source: ProblemDataset | StreamingProblems, limit: int) -> list[Problem]:
    """Return the first problems of a data set.

    Args:
        source: by index, or a stream.
        limit: how many at most.
    """
    if isinstance(source, StreamingProblems):
        return [problem for _, problem in itertools.islice(source.iterate(), limit)]
    return [source[index] for index in range(min(limit, len(source)))]


@contextmanager
def _judge(cfg: DictConfig, verifier: Verifier) -> Iterator[Judge]:
    """Judge where training does: in this process, or in processes of their own, whatever becomes of them there."""
    if cfg.verification.workers == 0:
        yield functools.partial(verify_batch, verifier)
        return
    settings = {**cfg.verification, "max_bad_fraction": 1.0}
    with VerifierPool(**settings) as pool:
        yield functools.partial(pool.verify_batch, verifier)
        counts = pool.read_metrics()
    for name in ("timeouts", "out_of_memory", "crashes"):
        if total := counts[f"verify/{name}"].total:
            log.warning("verify/%s: %d responses.", name, total)
