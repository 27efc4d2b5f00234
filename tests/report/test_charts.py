"""Charts: numbers end up where they should, and holes stay holes."""

import math
import re

import pytest

from rlsd_lightning.report.charts import Chart, Series, stack
from rlsd_lightning.report.scale import nice_ticks, show, show_tick, smooth, thin
from rlsd_lightning.report.svg import Frame, draw


def chart(points, **look):
    return Chart(title="a", series=[Series(label="a", points=points, tone="blue")], **look)


def test_the_ends_of_a_line_touch_the_ends_of_the_axes():
    # Width 200 and height 100 leave 10 right, 10 above, 22 below; the ticks are 0 ... 1.
    frame = Frame(chart([(0, 0.0), (10, 1.0)]), 200, 100, (0, 10))
    assert frame.path([(0, 0.0), (10, 1.0)]) == f"M{frame.left:.1f} 78.0L190.0 10.0"


def test_a_value_that_is_not_finite_leaves_a_gap():
    frame = Frame(chart([(0, 0.0), (3, 1.0)]), 200, 100, (0, 3))
    path = frame.path([(0, 0.0), (1, 0.5), (2, math.nan), (3, 1.0)])
    assert re.sub(r"[\d. ]", "", path) == "MLM"


def test_an_infinite_value_does_not_stretch_the_axis():
    assert chart([(0, 0.0), (1, 1.0), (2, math.inf)]).ticks()[-1] == 1.0


@pytest.mark.parametrize(
    "points", [[(1, 0.0)], [(1, 5.0), (2, 5.0)], [(1, -3.0)], [(1, 1e-9), (2, 2e9)]]
)
def test_any_single_or_constant_or_wild_series_can_be_drawn(points):
    svg = draw(chart(points, zero=False), width=300, height=150, steps=(1, 2))
    assert "nan" not in svg
    assert svg.count("<svg") == 1


def test_a_single_point_is_a_dot_as_a_line_would_not_show():
    assert "<circle" in draw(chart([(1, 1.0)]), width=300, height=150, steps=(1, 2))
    assert "<circle" not in draw(chart([(1, 1.0), (2, 1.0)]), width=300, height=150, steps=(1, 2))


def test_titles_are_escaped():
    odd = Chart(title='"><script>', series=[Series(label="a", points=[(1, 1.0)], tone="blue")])
    assert "<script" not in draw(odd, width=300, height=150, steps=(1, 2))


def test_resumes_are_marked():
    svg = draw(chart([(0, 0.0), (10, 1.0)]), width=200, height=100, steps=(0, 10), marks=[10])
    assert '<path class="mark" d="M190.0 10V78"/>' in svg


def test_stacked_areas_end_at_the_sum():
    # 1 + 2 at step 1, 1 + nothing at step 2.
    series = [
        Series(label="a", points=[(1, 1.0), (2, 1.0)], tone="blue"),
        Series(label="b", points=[(1, 2.0), (2, math.nan)], tone="blue"),
    ]
    assert stack(series)[-1] == [(1, 3.0), (2, 1.0)]
    assert Chart(title="a", series=series, stacked=True).ticks()[-1] == 3.0


@pytest.mark.parametrize(
    ("low", "high"),
    [
        (0, 1),
        (0.99, 1.01),
        (-0.03, 0.02),
        (0, 4e-4),
        (0, 81234),
        (5, 5),
        (0, 0),
        (0, 1e-16),
        (-3e-17, 2e-17),
    ],
)
def test_ticks_cover_the_range_with_few_round_numbers(low, high):
    ticks = nice_ticks(low, high)
    assert ticks[0] <= low
    assert ticks[-1] >= high
    assert 2 <= len(ticks) <= 8
    labels = [show_tick(tick, ticks[1] - ticks[0], "number") for tick in ticks]
    assert len(set(labels)) == len(labels)


@pytest.mark.parametrize("value", [1.0, 3e-4, 1e9])
def test_values_that_differ_by_rounding_only_can_be_drawn(value):
    points = [(1, value), (2, math.nextafter(value, math.inf))]
    svg = draw(chart(points, zero=False), width=300, height=150, steps=(1, 2))
    assert "nan" not in svg


def test_a_thin_series_is_faint_and_has_no_name():
    thin_one = Series(label="a", points=[(1, 0.0), (2, 1.0)], tone="blue", thin=True)
    both = chart([(1, 0.5), (2, 0.5)])
    both.series.append(thin_one)
    svg = draw(both, width=300, height=150, steps=(1, 2))
    assert (svg.count('class="line'), svg.count('class="faint')) == (1, 1)
    assert [series.label for series in both.named()] == ["a"]
    assert len(both.data((1, 2)).split('"y"')) == 2


def test_thinning_keeps_the_mean_and_the_limit():
    points = [(step, float(step % 7)) for step in range(1000)]
    thinned = thin(points, limit=100)
    assert len(thinned) == 100
    assert sum(y for _, y in thinned) / 100 == pytest.approx(sum(y for _, y in points) / 1000)


def test_thinning_counts_only_finite_values():
    points = [(1, 1.0), (2, math.nan), (3, math.nan), (4, math.inf)]
    assert str(thin(points, limit=2)) == "[(1.5, 1.0), (3.5, nan)]"


def test_smoothing_leaves_a_constant_alone():
    assert smooth([(x, 2.0) for x in range(9)], window=5) == [(x, 2.0) for x in range(9)]


def test_the_scripts_numbers_are_the_charts():
    text = chart([(1, 0.123456789), (2, math.nan)], kind="percent").data((0, 2))
    assert (
        text
        == '{"kind":"percent","steps":[0,2],"series":[{"x":[1,2],"y":[0.12346,null],"dots":false}]}'
    )


def test_what_is_not_finite_is_said():
    assert show(math.nan, "percent") == "not finite"
