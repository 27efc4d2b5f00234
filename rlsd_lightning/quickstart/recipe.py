"""Every number of the warm start in one place; warmup.py says what is done with them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How the warm start is run; the defaults are those it was measured with."""

    num_easy: int = 1000
    """Easy puzzles, for the first steps."""
    num_full: int = 3000
    """Puzzles like those of the data set."""
    num_held_out: int = 256
    """Puzzles for the measurements."""
    student_batch: int = 32
    """Demonstrations of the student's view per step."""
    teacher_batch: int = 16
    """Demonstrations of the teacher's view per step."""
    learning_rate: float = 3e-3
    """Reached after lr_warmup_steps."""
    lr_warmup_steps: int = 30
    """Steps over which the learning rate rises."""
    fact_weight: float = 4.0
    """What a colour or a digit weighs in the loss; every other token weighs 1."""
    easy_steps: int = 100
    """Clean steps on easy puzzles before those like the data set's."""
    max_clean_steps: int = 500
    """The clean stage ends here at the latest."""
    reading_accuracy: float = 0.95
    """Needed to end the clean stage: fraction of the student's readings that are its first choice."""
    copy_accuracy: float = 0.99
    """Needed to end the clean stage: fraction of the teacher's facts that are its first choice."""
    sloppy_steps: int = 60
    """Steps of the sloppy stage."""
    sloppy_lr_fraction: float = 0.5
    """The learning rate at the sloppy stage's beginning, over learning_rate; it falls to a tenth of that."""
    slip_fraction: float = 0.45
    """Probability that a reading in a sloppy demonstration is wrong."""
    student_citing_fraction: float = 0.01
    """Sloppy-stage student demonstrations that cite a reference they do not see."""
    teacher_citing_fraction: float = 0.5
    """Teacher demonstrations that cite the reference."""
