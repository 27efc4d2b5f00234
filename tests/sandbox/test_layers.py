"""The self-test on machines that lack a layer; they are made here by filters that forbid what containers forbid."""

import os
import shutil
import subprocess
import sys

import pytest

from rlsd_lightning.sandbox.layers import ALL, Layers, layers, require
from tests.helpers.outside import without_torch

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is Linux's")


def test_this_machine_closes_every_way():
    found = require(unsafe=False)
    assert found.open == ()
    assert "seccomp" in found.mechanisms
    assert found.describe().startswith(f"blocks {', '.join(ALL)} (by seccomp, Landlock ")
    assert layers() is layers()


def test_without_namespaces_every_way_is_still_closed():
    said = without_torch("""
        forbid("unshare")
        found = require(unsafe=False)
        print(found.open, found.mechanisms)
        print(judge(RIGHT).reward, judge("import os; os.fork()").reason)
    """)
    assert said.startswith("() ('seccomp', 'Landlock ")
    assert "namespaces" not in said
    assert "1.0 passed 0 of 1 tests: test 1: it ended with exit code 1: PermissionError" in said


def test_without_namespaces_nothing_is_left_behind_either(tmp_path):
    (tmp_path / "canary").touch()
    without_torch(
        """
        forbid("unshare")
        judge("for i in range(1000): open(str(i), 'w')")
        judge("open('x', 'w').write('x')\\nimport time\\ntime.sleep(9)", time_limit_s=0.3)
        """,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    )
    assert [path.name for path in tmp_path.iterdir()] == ["canary"]


@pytest.mark.parametrize(
    ("forbidden", "could"),
    [
        ("'landlock_create_ruleset'", "change files outside its folder and read any file"),
        ("'unshare', conditions=[('prctl', 0, 'is not', 22)]", "open connections and change files"),
    ],
)
def test_with_too_much_open_programs_are_refused_unless_the_user_insists(forbidden, could):
    said = without_torch(f"""
        forbid({forbidden})
        try:
            judge(RIGHT)
        except ValueError as error:
            print(error)
        print(judge(RIGHT, unsafe=True).reward)
    """)
    assert f"sandbox: on this machine a program could {could}" in said
    assert "set sandbox.unsafe=true" in said
    assert said.endswith("1.0\n")


def test_a_layer_that_fails_later_on_stops_the_run_and_is_no_verdict():
    said = without_torch("""
        layers()
        forbid("landlock_create_ruleset")
        try:
            judge(RIGHT)
        except RuntimeError as error:
            print(error)
    """)
    assert "sandbox: a program could not be shut in or started (landlock_create_ruleset:" in said


def everybodys_python():
    """An interpreter that another user may run, too."""
    for path in (os.path.realpath(sys.executable), shutil.which("python3", path="/usr/bin:/bin")):
        if path is None:
            continue
        probe = [path, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]
        try:
            if subprocess.run(probe, user=65534, cwd="/", check=False).returncode == 0:
                return path
        except PermissionError:
            continue
    return None


@pytest.mark.skipif(os.geteuid() != 0, reason="the whole suite runs as an ordinary user already")
@pytest.mark.parametrize("forbidden", ["", "forbid('unshare')"])
def test_an_ordinary_user_is_as_safe(forbidden):
    python = everybodys_python()
    if python is None:
        pytest.skip("no Python 3.11 or later that user 65534 may run")
    said = without_torch(
        f"""
        {forbidden}
        import os
        print(os.getuid(), require(unsafe=False).open)
        print(judge(RIGHT).reward, judge("print(open('/etc/passwd').read())").reward)
        """,
        python,
        user=65534,
        group=65534,
        extra_groups=[],
        env={"PATH": "/usr/bin:/bin"},
    )
    assert said == "65534 ()\n1.0 0.0\n"


def test_other_systems_are_told_so(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(ValueError, match="sandbox: this is darwin"):
        require(unsafe=True)


def test_what_is_open_is_said():
    found = Layers(open=("network", "memory"), mechanisms=())
    assert found.describe().endswith("signals; open: network, memory")
