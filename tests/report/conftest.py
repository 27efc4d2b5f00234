"""A run folder like the quickstart's, drawn from a fixed seed, without any training."""

import csv
import functools
import json
import math
import random

import pytest
from PIL import Image, ImageDraw

COLOURS = {
    "red": (214, 48, 49),
    "green": (46, 160, 67),
    "blue": (38, 98, 214),
    "yellow": (240, 200, 30),
}
STEPS, PROBLEMS, GROUP = 80, 16, 8
LAMBDA, CLIP = 0.5, 0.2

CONFIG = """\
credit:
  _target_: rlsd_lightning.credit.rlsd.RLSDCredit
  clip_range: 0.2
rollout:
  group_size: 8
"""


def build_run(run_dir, steps=STEPS, seed=0):
    """Write a whole run folder and return its path."""
    rng = random.Random(seed)
    run_dir.mkdir(parents=True, exist_ok=True)
    (run_dir / "config.yaml").write_text(CONFIG)
    (run_dir / "summary.json").write_text(json.dumps(summary(steps)))
    write_metrics(run_dir / "metrics" / "version_0" / "metrics.csv", 0, steps, rng)
    for step in sorted({1, *range(10, steps + 1, 10)}):
        write_step(run_dir / "rollouts", step, steps, rng)
    return run_dir


def summary(steps):
    return {
        "command": ["/somewhere/rlsd_lightning/__main__.py", "command=fit", "credit=rlsd"],
        "started": 1769860800.0,
        "seconds": 192.4,
        "finished": True,
        "warm_start": {"val/shapes/accuracy": 0.264, "val/shapes/leakage": 0.012},
        "final": {"val/shapes/accuracy": 0.871, "val/shapes/leakage": 0.004},
        "skipped_rows": [
            ["train.jsonl:17", "the row has no answer"],
            ["train.jsonl:203", "image grid_203.png is broken"],
        ],
        "filtered_prompts": 3,
        "num_train_problems": 4000,
        "problems_per_step": PROBLEMS,
        "group_size": GROUP,
        "max_steps": steps,
        "resumed_at_steps": [],
    }


def write_metrics(path, first, last, rng):
    """Rows as the module logs them: `step` is 1 for the first update, 0 for an evaluation before it."""
    rows = [{"step": 0, "epoch": 0, **summary(last)["warm_start"]}]
    for done in range(first, last):
        learnt = 0.27 + 0.6 / (1 + math.exp(-(done - 28) / 12))
        lambda_ = LAMBDA * max(0.0, 1 - done / 60)
        noise = functools.partial(rng.gauss, 0)
        accuracy = min(1.0, max(0.0, learnt + noise(0.05)))
        tokens = 34 - 6 * learnt + noise(0.6)
        phases = {
            "rollout": 0.52,
            "verify": 0.03,
            "teacher": 0.24 if lambda_ else 0.0,
            "train": 0.61,
        }
        times = {f"time/{name}_s": value * (1 + abs(noise(0.06))) for name, value in phases.items()}
        rows.append(
            {
                "step": done + 1,
                "epoch": 0,
                "rollout/reward_mean": 0.1 + 0.9 * accuracy,
                "rollout/accuracy": accuracy,
                "rollout/invalid_fraction": max(0.0, noise(0.004)),
                "rollout/completion_tokens_mean": tokens,
                "rollout/completion_tokens_max": round(tokens + 9 + abs(noise(4))),
                "rollout/truncated_fraction": max(0.0, 0.06 * math.exp(-done / 10) + noise(0.003)),
                "rollout/zero_variance_fraction": min(
                    1.0, max(0.0, 0.15 + 0.4 * (learnt - 0.27) + noise(0.06))
                ),
                "credit/lambda": lambda_,
                "credit/gain_mean": 0.12 * math.exp(-done / 30) + noise(0.006),
                "credit/clipped_fraction": max(0.0, 0.14 * math.exp(-done / 25) + noise(0.006))
                if lambda_
                else 0.0,
                "credit/weight_mean_positive": 1 - 0.01 * lambda_ + noise(0.001) * lambda_,
                "credit/weight_mean_negative": 1 + 0.016 * lambda_ + noise(0.0015) * lambda_,
                "loss/policy": noise(0.01),
                "loss/entropy": 0.42 * math.exp(-done / 50) + abs(noise(0.01)),
                "optim/grad_norm": 0.8 + abs(noise(0.2)),
                "optim/lr": 4e-4,
                "teacher/version": done // 10 * 10,
                "time/tokens_per_s": PROBLEMS * GROUP * tokens / sum(times.values()),
                "time/step_s": sum(times.values()) + 0.03,
                **times,
            }
        )
        if (done + 1) % 20 == 0:
            held_out = {
                "val/shapes/accuracy": learnt + noise(0.01),
                "val/shapes/leakage": max(0, noise(0.006)),
            }
            rows.append({"step": done + 1, "epoch": 0, **held_out})
    rows.append({"step": last, "epoch": 0, **summary(last)["final"]})
    path.parent.mkdir(parents=True, exist_ok=True)
    names = sorted({name for row in rows for name in row})
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=names)
        writer.writeheader()
        writer.writerows(rows)


def write_step(folder, step, steps, rng, with_tokens=True):
    rows = []
    for place in range(PROBLEMS):
        counts = {colour: rng.randint(0, 3) for colour in rng.sample(sorted(COLOURS), 3)}
        image = f"images/{step}_{place}.png"
        draw_grid(folder / image, counts, rng)
        group = [completion(counts, step / steps, rng) for _ in range(GROUP)]
        rows += group_rows(counts, image, step, steps, place, group, rng, with_tokens)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"step_{step:08d}.jsonl").write_text(text)


def draw_grid(path, counts, rng):
    image = Image.new("RGB", (48, 48), (245, 245, 245))
    cells = [(x, y) for x in range(3) for y in range(3)]
    rng.shuffle(cells)
    pen = ImageDraw.Draw(image)
    for colour in [colour for colour, count in counts.items() for _ in range(count)]:
        x, y = cells.pop()
        box = [16 * x + 2, 16 * y + 2, 16 * x + 13, 16 * y + 13]
        (pen.ellipse if rng.random() < 0.5 else pen.rectangle)(box, fill=COLOURS[colour])
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def completion(counts, progress, rng):
    """Token pieces of one chain with miscounts, and what the evidence says of each."""
    pieces, gains, said = ["<thought>"], [0.0], []
    for colour, count in counts.items():
        seen = count if rng.random() < 0.6 + 0.35 * progress else abs(count + rng.choice([-1, 1]))
        said.append(seen)
        right = seen == count
        pieces += [colour, str(seen), " "]
        gains += [
            rng.gauss(0, 0.02),
            abs(rng.gauss(0.35, 0.15)) if right else -abs(rng.gauss(1.6, 0.6)),
            rng.gauss(0, 0.01),
        ]
    total = said[0]
    for term in said[1:]:
        pieces += [str(total), "+", str(term), "=", str(total + term), " "]
        total += term
        gains += [rng.gauss(0, 0.06) for _ in range(6)]
    pieces += ["</thought>", "<answer>", str(total), "</answer>", "<|im_end|>"]
    gains += [rng.gauss(0, 0.02), 0.0, abs(rng.gauss(0.1, 0.05)), 0.0, 0.0]
    return pieces, gains, total


def group_rows(counts, image, step, steps, place, group, rng, with_tokens):
    gold = sum(counts.values())
    rewards = [1.0 if total == gold else 0.1 for _, _, total in group]
    mean = sum(rewards) / len(rewards)
    std = math.sqrt(sum((r - mean) ** 2 for r in rewards) / (len(rewards) - 1))
    lambda_ = LAMBDA * max(0.0, 1 - step / 60)
    rows = []
    for (pieces, gains, total), reward in zip(group, rewards, strict=True):
        advantage = (reward - mean) / (std + 1e-6) if std else 0.0
        row = {
            "step": step,
            "problem_id": f"{step}-{place}",
            "location": f"train.jsonl:{place + 1}",
            "kind": "math",
            "prompt": "+".join(counts),
            "images": [image],
            "answer": str(gold),
            "reference": "reference: "
            + " ".join(f"{c}{n}" for c, n in counts.items())
            + f" -> {gold}",
            "response": "".join(pieces[:-1]),
            "num_tokens": len(pieces),
            "finish_reason": "stop",
            "reward": reward,
            "correct": total == gold,
            "valid": True,
            "parts": {"math": float(total == gold), "format": 1.0},
            "reason": f"extracted {total}, gold answer {gold}",
            "advantage": round(advantage, 5),
            "lambda": lambda_,
        }
        rows.append(row | (columns(pieces, gains, advantage, lambda_, rng) if with_tokens else {}))
    return rows


def columns(pieces, gains, advantage, lambda_, rng):
    policy = [-abs(rng.gauss(0, 0.3)) - max(gain, 0.0) for gain in gains]
    scored = advantage != 0 and lambda_ > 0
    sign = math.copysign(1, advantage) if advantage else 0
    weights = [
        1 - lambda_ + lambda_ * min(1 + CLIP, max(1 - CLIP, math.exp(sign * g))) for g in gains
    ]
    nothing = [None] * len(pieces)
    return {
        "tokens": pieces,
        "token_ids": list(range(len(pieces))),
        "policy_logprobs": [round(p, 5) for p in policy],
        "teacher_logprobs": [round(p + g, 5) for p, g in zip(policy, gains, strict=True)]
        if scored
        else nothing,
        "gain": [round(g, 5) for g in gains] if scored else nothing,
        "weight": [round(w, 5) for w in weights] if advantage else nothing,
        "credit": [round(advantage * w, 5) for w in weights],
        "clipped": [scored and abs(math.exp(sign * g) - 1) > CLIP for g in gains],
    }


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory):
    """A finished run; tests read it and build its page elsewhere or over itself."""
    return build_run(tmp_path_factory.mktemp("runs") / "shapes-rlsd")
