import json
import shutil
import sys
import time
from pathlib import Path

import pytest

from rlsd_lightning.rules import workers_outlast_verifiers
from rlsd_lightning.sandbox.layers import layers
from rlsd_lightning.types import Problem
from rlsd_lightning.verification import check_gold
from rlsd_lightning.verifier_pool import VerifierPool
from rlsd_lightning.verifiers.code import MAX_CHARS, Code, program_in
from rlsd_lightning.verifiers.code_runs import TROUBLES
from tests.helpers.outside import (
    Outside,
    left_behind,
    num_open_files,
    use_as_temporary_folder,
    without_torch,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is Linux's")

CASES = Path(__file__).parents[1] / "data" / "verifier-cases"
ADD = {"mode": "stdin_stdout", "inputs": ["1 2\n", "10 -3\n"], "outputs": ["3\n", "7\n"]}
CALL = {"mode": "functional", "fn_name": "f", "inputs": [[1, 2], [10, -3]], "outputs": [3, 7]}
RIGHT = "a, b = map(int, input().split())\nprint(a + b)"
SHORT = {"time_limit_s": 0.3, "memory_limit_mb": 256}


def rows(name):
    lines = (CASES / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [pytest.param(row, id=row["id"]) for row in map(json.loads, lines)]


def problem(extra, number=0):
    return Problem(id=f"q{number}", prompt="", extra=extra, location=f"t.jsonl:{number}")


def fenced(source, language="python"):
    return f"<thought>t</thought>\n<answer>\n```{language}\n{source}\n```\n</answer>"


def judge(source, extra, language="python", **options):
    return Code(**options).verify(problem(extra), fenced(source, language))


def asserts(test_code, **more):
    return {"mode": "asserts", "test_code": test_code, **more}


@pytest.mark.parametrize("row", rows("code"))
def test_verdicts_are_those_of_an_isolated_comparison(row):
    extra = row["extra"] | {"time_limit_s": 1}
    assert Code().verify(problem(extra), row["response"]).reward == row["expected"]


def test_a_line_missing_from_a_long_output_is_seen():
    wanted = "".join(f"{i}\n" for i in range(20_000))  # 109 kB, more than a pipe holds
    extra = {"mode": "stdin_stdout", "inputs": ["20000\n"], "outputs": [wanted]}
    assert judge("for i in range(int(input())): print(i)", extra).correct
    assert not judge("for i in range(int(input()) - 1): print(i)", extra).correct


@pytest.fixture
def folder(monkeypatch, tmp_path):
    return use_as_temporary_folder(monkeypatch, tmp_path / "temporary")


@pytest.fixture
def outside(tmp_path):
    (tmp_path / "outside").mkdir()
    made = Outside(tmp_path / "outside")
    yield made
    made.close()


HOSTILE = {"mode": "stdin_stdout", "inputs": ["1 2\n"], "outputs": ["3\n"], **SHORT}


@pytest.mark.parametrize("row", rows("hostile_code"))
def test_a_hostile_program_earns_nothing_and_touches_nothing(row, folder, outside):
    layers()  # the self-test opens files of its own
    open_files = num_open_files()
    start = time.monotonic()
    verdict = judge(outside.fill_in(row["program"]), HOSTILE)
    assert time.monotonic() - start < 6
    assert verdict.valid
    assert verdict.reward == row["expected"] or row["expected"] is None
    assert outside.faults() == []
    assert left_behind(folder) == []
    assert num_open_files() == open_files


def check_pool(hostile, outside, folder):
    problems, responses, right = [], [], fenced(RIGHT)
    for number, row in enumerate(hostile):
        problems += [problem(HOSTILE, f"h{number}"), problem(ADD, f"s{number}")]
        responses += [fenced(outside.fill_in(row["program"])), right]
    with VerifierPool(workers=2, timeout_s=10, max_bad_fraction=1.0) as pool:
        verdicts = pool.verify_batch(Code(), problems, responses)
        assert all(verdict.correct for verdict in verdicts[1::2])
        for row, verdict in zip(hostile, verdicts[::2], strict=True):
            assert verdict.valid
            assert verdict.reward == row["expected"] or row["expected"] is None
        assert float(pool.read_metrics()["verify/bad_fraction"]) == 0
        assert left_behind(folder) == []
    assert outside.faults() == []
    return {name: sum(v.parts[name] for v in verdicts) for name in TROUBLES}


def test_hostile_programs_leave_their_siblings_in_a_pool_alone(folder, outside):
    telling = ("SIGTERM", "fork bomb", "kills everything", "removes a tree", "local port", "flood")
    telling += ("all memory", "daemon", "descriptor")
    found = [param.values[0] for param in rows("hostile_code")]
    counted = check_pool(
        [row for row in found if any(word in row["why"] for word in telling)], outside, folder
    )
    assert counted["timeout"] >= 1
    assert counted["out_of_memory"] == 1
    assert counted["crash"] >= 6


@pytest.mark.slow
def test_every_hostile_program_leaves_its_siblings_in_a_pool_alone(folder, outside):
    counted = check_pool([param.values[0] for param in rows("hostile_code")], outside, folder)
    assert counted["timeout"] > 5
    assert counted["crash"] > 20


@pytest.mark.slow
def test_hostile_programs_touch_nothing_where_namespaces_are_forbidden(folder, outside):
    asked = [param.values[0] for param in rows("hostile_code")]
    programs = [outside.fill_in(row["program"]) for row in asked]
    script = """
    import json
    forbid("unshare")
    verdicts = [judge(source, time_limit_s=0.3, memory_limit_mb=256) for source in PROGRAMS]
    print(json.dumps([verdict.reward for verdict in verdicts]))
    """
    rewards = json.loads(without_torch(script.replace("PROGRAMS", repr(programs)), timeout=300))
    for row, reward in zip(asked, rewards, strict=True):
        assert reward == row["expected"] or row["expected"] is None
    assert outside.faults() == []
    assert left_behind(folder) == []


def test_a_worker_that_is_killed_takes_its_programs_along(folder):
    slow = problem(ADD | {"time_limit_s": 60})
    with VerifierPool(workers=1, timeout_s=1.5, max_bad_fraction=1.0) as pool:
        [verdict] = pool.verify_batch(
            Code(total_limit_s=600), [slow], [fenced("open('f', 'w')\nimport time\ntime.sleep(99)")]
        )
        assert "judging it took longer than 1.5 s" in verdict.reason
        end = time.monotonic() + 10
        while left_behind(folder):
            assert time.monotonic() < end
            time.sleep(0.02)


@pytest.mark.parametrize(
    ("source", "reward"),
    [
        (RIGHT, 1.0),
        ("print(3)", 0.5),
        ("print(0)", 0.0),
        ("a, b = map(int, input().split())\nif a == 10: 1 / 0\nprint(a + b)", 0.5),
        ("a, b = map(int, input().split())\nif a == 1: 1 / 0\nprint(a + b)", 0.5),
        ("print(3, flush=True)\nimport os\nos._exit(0)", 0.5),
        ("print(3)\nexit(1)", 0.0),  # it says itself that it failed
    ],
)
def test_a_fraction_pays_for_every_test_that_passes_and_all_or_nothing_for_all(source, reward):
    assert judge(source, ADD, scoring="fraction").reward == reward
    assert judge(source, ADD | {"scoring": "fraction"}).reward == reward
    verdict = judge(source, ADD)
    assert verdict.reward == float(reward == 1)
    assert verdict.correct is (reward == 1)


@pytest.mark.parametrize(
    ("source", "correct"),
    [
        ("def f(a, b): return a + b", True),
        ("f = lambda a, b: a + b", True),
        ("class Solution:\n    def f(self, a, b): return a + b", True),
        ("def f(a, b):\n    print('noise')\n    return a + b", True),
        ("def f(a, b): return float(a + b)", True),
        ("def f(a, b): return str(a + b)", False),
        ("def f(a, b): return None", False),
        ("def f(a, b): return [a + b]", False),
        ("def f(a, b): raise SystemExit(0)", False),
        ("def f(a): return a", False),
        ("def g(a, b): return a + b", False),
        ("f = 3", False),
        ("def f(a, b): return f(a, b)", False),
        ("def f(a, b):\n    while True: pass", False),
        ("class E(int):\n    __eq__ = lambda s, o: True\ndef f(a, b): return E(0)", False),
        ("class E:\n    __eq__ = lambda s, o: True\ndef f(a, b): return E()", False),
        (
            "class E(dict):\n    __eq__ = lambda s, o: True\ndef f(a, b): return E(t='int', v='3')",
            False,
        ),
        ("def f(a, b): return a + b\nassert False", False),
    ],
)
def test_a_function_is_judged_by_what_it_returns(source, correct):
    verdict = judge(source, CALL | SHORT)
    assert verdict.correct is correct
    assert verdict.valid


@pytest.mark.parametrize(
    ("returned", "wanted", "same"),
    [
        ("(1, [2.5, None])", [1, [2.5, None]], True),
        ("{1: (2,), 'a': True}", {"1": [2], "a": True}, True),
        ("{1: 2}", {"1": 2, "2": 3}, False),
        ("10**40", 10**40, True),
        ("10**40 + 1", 10**40, False),
        ("{1, 2}", [1, 2], False),
        ("float('nan')", float("nan"), False),
        ("'\\ud800'", "\ud800", True),
        ("[i for i in range(3)]", [0, 1, 2], True),
        ("__import__('collections').Counter('aab')", {"a": 2, "b": 1}, True),
    ],
)
def test_values_are_compared_as_plain_data(returned, wanted, same):
    extra = {"mode": "functional", "fn_name": "f", "inputs": [[]], "outputs": [wanted]}
    assert judge(f"def f(): return {returned}", extra).correct is same


ASSERTS = "assert f(1, 2) == 3\nassert f(10, -3) == 7\nassert f(0, 0) == 0\n"


@pytest.mark.parametrize(
    ("source", "reward"),
    [
        ("def f(a, b): return a + b", 1.0),
        ("def f(a, b): return 3", 1 / 3),
        ("def f(a, b):\n    if a == 10: raise ValueError\n    return a + b", 2 / 3),
        ("def f(a, b):\n    if a == 10: __import__('os')._exit(0)\n    return a + b", 1 / 3),
        ("def f(a, b):\n    while a == 10: pass\n    return a + b", 1 / 3),
        ("import os\nos._exit(0)", 0.0),
        ("raise SystemExit", 0.0),
        ("exit()", 0.0),
        ("import atexit, os\natexit.register(os._exit, 0)", 0.0),
        ("class E:\n    __eq__ = lambda s, o: True\nf = lambda a, b: E()", 0.0),
        ("class E(int):\n    __eq__ = lambda s, o: True\nf = lambda a, b: E(5)", 0.0),
        ("class E:\n    __eq__ = __bool__ = lambda s, o=0: True\nf = E()", 0.0),
        ("import builtins\nbuiltins.AssertionError = SystemExit\nf = lambda a, b: 5", 0.0),
        ("import sys\nsys.settrace(lambda *a: None)\nf = lambda a, b: 5", 0.0),
        ("def f(*a):\n    import gc\n    return [o for o in gc.get_objects() if o == 3]", 0.0),
        ("def f(", 0.0),
    ],
)
def test_asserts_run_outside_of_the_program_that_they_test(source, reward):
    extra = asserts(ASSERTS, scoring="fraction", **SHORT)
    assert judge(source, extra).reward == pytest.approx(reward)


@pytest.mark.parametrize(
    ("source", "test_code"),
    [
        ("def f(x): return x + 1", "def check(candidate):\n    assert candidate(1) == 2\ncheck(f)"),
        ("def f(x): return x", "def check(candidate):\n    assert candidate(1) == 1"),
        ("def f(xs): return sum(xs)", "assert f(iter([1, 2])) == f(x for x in (1, 2)) == 3"),
        (
            "def f():\n    n = 0\n    while True:\n        yield n\n        n += 1",
            "import itertools\ng = f()\nassert next(g) == 0\nassert list(itertools.islice(g, 2)) == [1, 2]",
        ),
        (
            "import enum\nclass C(enum.Enum):\n    A = 1\ndef f(): return C.A",
            "assert f() == C.A and f().value == 1",
        ),
        (
            "class Solution:\n    def g(self, x): return -x",
            "assert Solution().g(3) == -3",
        ),
        (
            "def f(x): return x / 3",
            "import math\nassert math.isclose(f(1), 0.3333333, rel_tol=1e-6)",
        ),
        ("def f(x): return tuple(x)", "assert f([1, 2]) == (1, 2)\nassert f([1]) != [1]"),
        ("def f(x): return {x, 1}", "assert f(2) == set([1, 2])"),
        ("def f(n):\n    yield from range(n)", "assert list(f(3)) == [0, 1, 2]"),
        ("def f(x): x.sort()", "x = [2, 1]\nf(x)\nassert x == [1, 2]"),
        ("def f(g, x): return g(g(x))", "assert f(lambda x: x * 2, 3) == 12"),
        (
            "def f(x): raise ValueError(x)",
            "try:\n    f(1)\n    assert False\nexcept ValueError as e:\n    assert '1' in str(e)",
        ),
        (
            "class S:\n    def __init__(self): self.x = []\n    def push(self, x): self.x.append(x)\n    def __len__(self): return len(self.x)",
            "s = S()\ns.push(3)\nassert len(s) == 1\nassert s.x == [3]",
        ),
        (
            "import datetime\ndef f(): return datetime.date(2024, 1, 31)",
            "import datetime\nassert f() == datetime.date(2024, 1, 31)",
        ),
        (
            "from fractions import Fraction\ndef f(): return Fraction(1, 3)",
            "from fractions import Fraction\nassert f() == Fraction(1, 3)",
        ),
        ("LIMIT = 3\ndef f(): return LIMIT", "assert f() == LIMIT"),
        (
            "def f(x): return x\ndef g(x): return x + 1",
            "for i in range(5):\n    assert f(g(i)) == i + 1",
        ),
    ],
)
def test_asserts_may_be_written_as_people_write_them(source, test_code):
    verdict = judge(source, asserts(test_code, entry_point="f"))
    assert verdict.correct, verdict.reason


LANGUAGES = {
    "c": '#include <stdio.h>\nint main(){int a,b;scanf("%d %d",&a,&b);printf("%d\\n",a+b);}',
    "C++": "#include <iostream>\nint main(){int a,b;std::cin>>a>>b;std::cout<<a+b<<std::endl;}",
    "javascript": "console.log(require('fs').readFileSync(0,'utf8').split(' ').map(Number).reduce((a,b)=>a+b))",
}
TOOLS = {"c": "gcc", "C++": "g++", "javascript": "node"}


@pytest.mark.parametrize("language", LANGUAGES)
def test_other_languages_are_compiled_and_run(language, folder):
    if shutil.which(TOOLS[language]) is None:
        pytest.skip(f"no {TOOLS[language]} on this machine")
    extra = ADD | {"language": language}
    verdict = judge(LANGUAGES[language], extra, language, total_limit_s=30)
    assert verdict.correct, verdict.reason
    wrong = LANGUAGES[language].replace("a+b", "a-b")
    assert not judge(wrong, extra, language, total_limit_s=30).correct
    assert left_behind(folder) == []


C_ATTACKS = [
    "#include <unistd.h>\nint main(){while(1)fork();}",
    '#include <unistd.h>\nint main(){execl("/bin/sh","sh","-c","echo 3; touch {outside}/new",(char*)0);}',
    "#include <sys/syscall.h>\n#include <unistd.h>\nint main(){return syscall(SYS_socket,2,1,0)<0;}",
    '#include "{outside}/canary"\nint main(){}',
    '__asm__(".incbin \\"{outside}/canary\\"");int main(){}',
    '#include "/dev/zero"\nint main(){}',
    "#include <stdlib.h>\n#include <string.h>\nint main(){for(;;)memset(malloc(1<<24),1,1<<24);}",
    "int main(){syntax",
]


@pytest.mark.parametrize("source", C_ATTACKS)
def test_a_hostile_program_in_c_earns_nothing_and_touches_nothing(source, folder, outside):
    if shutil.which("gcc") is None:
        pytest.skip("no gcc on this machine")
    verdict = judge(outside.fill_in(source), HOSTILE | {"language": "c"}, "c")
    assert (verdict.reward, verdict.valid) == (0, True)
    assert outside.faults() == []
    assert left_behind(folder) == []


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"mode": "stdout"}, "mode is 'stdout', but it must be one of stdin_stdout, functional"),
        ({"mode": None}, "mode is None"),
        ({"outputs": ["3"]}, "2 inputs and 1 outputs"),
        ({"inputs": [], "outputs": []}, "at least one test"),
        ({"inputs": "1 2"}, "must be lists"),
        ({"outputs": [3, 7]}, "outputs holds more than texts"),
        ({"scoring": "most"}, "scoring is 'most'"),
        ({"time_limit_s": 0}, "time_limit_s is 0"),
        ({"memory_limit_mb": "1 GB"}, "memory_limit_mb is '1 GB'"),
        ({"language": "cobol"}, "the language is 'cobol', but it must be one of python, c, cpp"),
        ({"mode": "functional"}, "fn_name is None"),
        ({"mode": "functional", "fn_name": "f"}, r"inputs\[0\] is '1 2"),
        ({"mode": "functional", "fn_name": "f", "language": "c"}, "only Python's functions"),
        ({"mode": "asserts"}, "test_code is None"),
        ({"mode": "asserts", "test_code": "assert f("}, "test_code is no Python"),
        ({"mode": "asserts", "test_code": "f(1)"}, "holds no assert that runs"),
        ({"mode": "asserts", "test_code": "def t():\n  assert 1"}, "holds no assert that runs"),
    ],
)
def test_a_fault_in_the_problem_names_problem_and_place(change, fault):
    faulty = problem(ADD | change, 7)
    for ask in (lambda: Code().check([problem(ADD), faulty]), lambda: Code().verify(faulty, "")):
        with pytest.raises(ValueError, match=r"problem 'q7' \(t.jsonl:7\): extra: .*" + fault):
            ask()


def test_a_compiler_that_is_missing_is_a_fault_and_no_verdict(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("rlsd_lightning.verifiers.code_languages._path_of", shutil.which)
    with pytest.raises(ValueError, match=r"'q7'.* which needs g\+\+, but there is none on this"):
        Code().check([problem(ADD | {"language": "cpp"}, 7)])


def test_the_last_code_block_of_the_answer_is_the_program():
    block = "```python\n{}\n```\n"
    draft, final = block.format("print(1)"), block.format("print(2)")
    assert program_in(f"{draft}then\n{final}") == "print(2)\n"
    assert program_in(f"{draft}then\n{final}", which="first") == "print(1)\n"
    assert program_in(f"{draft}<answer>{final}</answer>{draft}") == "print(2)\n"
    assert program_in("<answer>print(2)</answer>") == "print(2)"
    for nothing in ("", "print(2)", "<answer></answer>", "```\n\n```", "```python\nprint(2)"):
        assert program_in(nothing) is None


def test_no_program_and_too_long_a_program_are_wrong_at_once():
    verifier, asked = Code(), problem(ADD)
    for response in ("", "no code", fenced("#" * MAX_CHARS)):
        verdict = verifier.verify(asked, response)
        assert (verdict.reward, verdict.valid) == (0, True)
        assert verifier.verify_quickly(asked, response) == verdict
    assert verifier.verify_quickly(asked, fenced(RIGHT)) is None
    assert verifier.what_counts(asked, "so:" + fenced(RIGHT)) == RIGHT + "\n"


def test_gold_programs_are_judged_before_training():
    good = Problem(id="1", prompt="", answer=RIGHT, extra=ADD)
    check_gold(Code(), [good], limit=1)
    with pytest.raises(ValueError, match="passed 0 of 2 tests"):
        check_gold(Code(), [Problem(id="1", prompt="", answer="print(5)", extra=ADD)], limit=1)


def test_tests_after_the_time_for_all_have_not_passed():
    extra = ADD | {"inputs": ["1 2"] * 9, "outputs": ["3"] * 9, "scoring": "fraction"}
    verdict = judge(f"import time\ntime.sleep(0.4)\n{RIGHT}", extra, total_limit_s=1.2)
    assert 0 < verdict.reward < 0.5
    assert "of 9 tests" in verdict.reason


def test_installed_packages_can_be_had_on_demand():
    source = "import numpy\nprint(numpy.array([1, 2]).sum())"
    extra = {"mode": "stdin_stdout", "inputs": [""], "outputs": ["3"]}
    assert "ModuleNotFoundError" in judge(source, extra).reason
    assert judge(source, extra, packages=True).correct
    returned = "import numpy\ndef f(a, b): return numpy.int64(a + b)"
    assert judge(returned, CALL, packages=True).correct


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"scoring": "most"}, "scoring is 'most'"),
        ({"time_limit_s": 0}, "time_limit_s is 0"),
        ({"memory_limit_mb": -1}, "memory_limit_mb is -1"),
        ({"total_limit_s": float("inf")}, "total_limit_s is inf"),
        ({"which": "middle"}, "which is 'middle'"),
    ],
)
def test_arguments_are_checked(options, fault):
    with pytest.raises(ValueError, match=fault):
        Code(**options)


def test_a_worker_that_would_be_killed_before_the_verifier_is_done_is_told_beforehand():
    code = {"total_limit_s": 8.0}
    tree = {
        "verification": {"workers": 2, "timeout_s": 8},
        "verifier": {"verifiers": {"code": code}},
    }
    [fault] = workers_outlast_verifiers(tree)
    assert (
        "verification.timeout_s is 8, but verifier.verifiers.code.total_limit_s allows 8 s" in fault
    )
    code["total_limit_s"] = 7.9
    assert list(workers_outlast_verifiers(tree)) == []
    tree = {"verification": {"workers": 0, "timeout_s": 8}, "verifier": {"total_limit_s": 99}}
    assert list(workers_outlast_verifiers(tree)) == []
