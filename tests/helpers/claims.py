"""A small made-up set of results, so that the page can be built without any run."""

import json
import math

from benchmarks.claims.about import compare_settings
from benchmarks.claims.arms import TRAINING, write_rows

STEPS = (0, 10, 20, 30, 40)
CLASSES = {
    "grpo": "rlsd_lightning.credit.grpo.GRPOCredit",
    "opsd": "rlsd_lightning.credit.opsd.OPSDCredit",
}


def learner(speed, leakage=0.0):
    """Accuracy and leakage at a step: up from 0.2, never down."""
    return lambda step: (0.2 + 0.6 * (1 - math.exp(-speed * step / 40)), leakage * step / 40)


def collapse(step):
    """Up to step 10, then down while leakage rises."""
    return (0.2 + 0.03 * min(step, 10) - 0.01 * max(step - 10, 0), step / 50)


def rows_of(study, task, label, behaviour, lr=4e-4, seeds=(1, 2, 3), steps=STEPS):
    """Rows of results.csv; seeds lie 0.02 apart."""
    for seed in seeds:
        for step in steps:
            accuracy, leakage = behaviour(step)
            training = dict.fromkeys(TRAINING, "" if step == 0 else "0.5")
            place = {"study": study, "task": task, "label": label, "lr": f"{lr:g}"}
            yield (
                place
                | training
                | {
                    "seed": str(seed),
                    "step": str(step),
                    "accuracy": f"{accuracy + (0.02 * (seed - 2) if step else 0):.6g}",
                    "leakage": f"{leakage:.6g}",
                    "num_responses": "512",
                }
            )


def rows():
    """All studies, small; digits_long is the task on which nothing is won."""
    for task in ("shapes", "digits"):
        yield from rows_of("main", task, "grpo", learner(1.0))
        yield from rows_of("main", task, "rlsd", learner(1.5))
        yield from rows_of("main", task, "opsd", collapse)
    for task, speeds in {"shapes_long": (2.5, 3.0), "digits_long": (0.9, 1.1)}.items():
        yield from rows_of("long", task, "grpo", learner(1.0))
        yield from rows_of("long", task, "rlsd", learner(speeds[0]))
        yield from rows_of("long", task, "rlsd_plus", learner(speeds[1]))
        for lr, speed in ((2e-4, 0.5), (4e-4, 1.0), (8e-4, 0.7)):
            label = f"grpo@{lr:g}"
            yield from rows_of("lr", task, label, learner(speed), lr=lr, seeds=(11, 12))
    for label in ("clip_0.5", "clip_0.1"):
        yield from rows_of("ablation", "shapes", label, learner(1.2), seeds=(1, 2))


def settings(label, seed):
    """A run's settings; only a few."""
    credit = {"credit._target_": CLASSES.get(label, "rlsd_lightning.credit.rlsd.RLSDCredit")}
    if label not in CLASSES:
        clip = float(label.partition("_")[2]) if label.startswith("clip_") else 0.2
        credit |= {"credit.clip_range": clip, "credit.mean_one": label == "rlsd_plus"}
    return {"seed": seed, "num_threads": 1, "trainer.max_steps": STEPS[-1], **credit}


def about(results):
    """What about.json says of them."""
    arms = {}
    for row in results:
        runs = arms.setdefault("/".join(row[key] for key in ("study", "task", "label")), {})
        runs[row["seed"]] = settings(row["label"].partition("@")[0], int(row["seed"]))
    return {
        "date": "2026-01-02",
        "commit": "0123456789ab",
        "python": "3.11.7",
        "packages": {"torch": "2.13.0"},
        "cpu": {"model": "A CPU", "count": 2},
        "num_runs": sum(map(len, arms.values())),
        "run_seconds": 600,
        "settings": compare_settings({name: list(runs.values()) for name, runs in arms.items()}),
    }


def write_results(docs, results=None):
    """Write claims/results.csv and claims/about.json below a folder."""
    results = list(rows() if results is None else results)
    (docs / "claims").mkdir(parents=True)
    write_rows(results, docs / "claims" / "results.csv")
    (docs / "claims" / "about.json").write_text(json.dumps(about(results)), encoding="utf-8")
    return docs
