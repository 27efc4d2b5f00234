"""What stands in a file of tests: which statements are tests, and which names they leave to the program."""

from __future__ import annotations

import ast
import builtins


def told_apart(tree: ast.Module) -> list[tuple[ast.stmt, bool]]:
    r"""Return the statements of a file of tests, each with whether it is a test or makes ready for one.

    Tests are the statements at the top level that are an assert or hold one; where none does (as the asserts stand in
    a function), those that call something.

    Example:
        >>> [is_test for _, is_test in told_apart(ast.parse("x = 1\nassert f(x)\nfor y in z: assert f(y)"))]
        [False, True, True]
        >>> [is_test for _, is_test in told_apart(ast.parse("def check(f):\n  assert f(1)\ncheck(g)"))]
        [False, True]
    """
    definitions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    tests = [
        not isinstance(statement, definitions)
        and any(isinstance(node, ast.Assert) for node in ast.walk(statement))
        for statement in tree.body
    ]
    if not any(tests):
        tests = [
            isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call)
            for statement in tree.body
        ]
    return list(zip(tree.body, tests, strict=True))


def free_names(tree: ast.Module) -> list[str]:
    r"""Return the names that a source uses but does not define, sorted.

    Example:
        >>> free_names(ast.parse("import math\nassert area(2) == math.pi * len([4])"))
        ['area']
    """
    used, defined = set(), set(dir(builtins)) | {"__name__", "__file__"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            (used if isinstance(node.ctx, ast.Load) else defined).add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            defined.add(node.name)
        elif isinstance(node, ast.alias):
            defined.add((node.asname or node.name).split(".")[0])
        elif isinstance(node, ast.arg):
            defined.add(node.arg)
        elif isinstance(node, ast.ExceptHandler) and node.name:
            defined.add(node.name)
    return sorted(used - defined)
