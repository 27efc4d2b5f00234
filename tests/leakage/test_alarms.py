"""An alarm comes once until its quantity was back below, also over a resume; its file holds no step twice."""

import json

from rlsd_lightning.leakage.alarms import Alarm, Alarms, append_alarms, forget_alarms_after

THRESHOLDS = {"phrase_fraction": 0.05, "canary_excess": 0.1}


def alarm(step, metric="phrase_fraction", value=0.2):
    return Alarm(step=step, metric=metric, value=value, threshold=THRESHOLDS[metric], action="warn")


def test_each_quantity_has_its_own_alarm():
    alarms = Alarms(THRESHOLDS, action="warn")
    assert alarms.update(1, {"phrase_fraction": 0.05, "canary_excess": 0.1}) == []
    assert alarms.update(2, {"phrase_fraction": 0.2, "canary_excess": 0.0}) == [alarm(2)]
    assert alarms.update(3, {"phrase_fraction": 0.2, "canary_excess": 0.3}) == [
        alarm(3, "canary_excess", 0.3)
    ]


def test_what_was_not_measured_stays_as_it_was():
    alarms = Alarms(THRESHOLDS, action="warn")
    alarms.update(1, {"canary_excess": 0.2})
    assert alarms.update(2, {}) == []
    assert alarms.update(3, {"canary_excess": 0.2}) == []
    assert alarms.update(4, {"canary_excess": 0.0}) == []
    assert len(alarms.update(5, {"canary_excess": 0.2})) == 1


def test_a_resumed_run_does_not_raise_the_same_alarm_again():
    first, second = Alarms(THRESHOLDS, "warn"), Alarms(THRESHOLDS, "warn")
    first.update(1, {"phrase_fraction": 0.2})
    second.load_state_dict(first.state_dict())
    assert second.update(2, {"phrase_fraction": 0.2}) == []


def test_the_file_forgets_the_steps_that_come_again(tmp_path):
    path = tmp_path / "run" / "alarms.jsonl"
    forget_alarms_after(path, 3)
    assert not path.exists()
    append_alarms(path, [alarm(2), alarm(3)])
    append_alarms(path, [alarm(5)])
    forget_alarms_after(path, 3)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["step"] for row in rows] == [2, 3]
    assert rows[0] == {
        "step": 2,
        "metric": "phrase_fraction",
        "value": 0.2,
        "threshold": 0.05,
        "action": "warn",
    }
