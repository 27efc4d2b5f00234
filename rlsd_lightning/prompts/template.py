"""The two views of a problem as Jinja templates: x for the student, (x, r) for the teacher.

What a template may show is checked when it is built, from its syntax tree: a misspelt variable, a teacher that
never shows the reference, a student that is shown the answer. Templates come from conf/prompt/.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Sequence

from jinja2 import StrictUndefined, Template, TemplateError, TemplateSyntaxError, meta, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from rlsd_lightning.data.columns import IMAGE_PLACEHOLDER
from rlsd_lightning.prompts.reference import Reference, ReferenceMode, choose_reference
from rlsd_lightning.types import Problem

IMAGE_MARK = "\ufdd0"
"""Where an image stands in rendered text: a code point that Unicode keeps out of real text, so that an "<image>"
in an option or a reference stays what it is."""

_PRIVILEGED = {"answer", "reference"}
_PROBLEM_FIELDS = {spec.name for spec in dataclasses.fields(Problem)}

# Blocks leave no blank lines behind, as in the chat templates of transformers.
_environment = ImmutableSandboxedEnvironment(
    undefined=StrictUndefined, autoescape=False, trim_blocks=True, lstrip_blocks=True
)


def without_images(text: str) -> str:
    """Return text without the places of its images, which then stand before the whole turn; a filter in templates.

    Example:
        >>> without_images(f"What is in {IMAGE_MARK}?")
        'What is in ?'
    """
    return text.replace(IMAGE_MARK, "")


_environment.filters["without_images"] = without_images


class PromptTemplate:
    """Renders a problem's user turn for the student and for the teacher.

    Args:
        student: template of the student's turn; sees `problem` (prompt, kind, extra, ...), never its answer.
        teacher: template of the teacher's turn; sees `problem`, `student` (that turn, rendered) and `reference`.
        system: the system turn of both, as it is; None for none.
        reference: what the teacher is shown: "answer", "solution", or "both"; see reference.choose_reference.
        max_reference_tokens: longer references are cut on the right; None for no limit.
        siblings: template of the reference that SDPO makes of a problem's own completions; sees `correct` and
            `incorrect`, the text of one completion each, empty where there is none.
        leak_phrases: words by which a completion would appeal to a reference that only the teacher's view shows.

    Example:
        >>> template = PromptTemplate(
        ...     student="{{ problem.prompt }} =", teacher="{{ student }} {{ reference }}?", reference="answer"
        ... )
        >>> problem = Problem(id="1", prompt="1+1", answer="2")
        >>> template.student_text(problem)
        '1+1 ='
        >>> template.teacher_text(problem, template.reference_of(problem).text)
        '1+1 = 2?'
    """

    def __init__(
        self,
        student: str,
        teacher: str,
        system: str | None = None,
        reference: ReferenceMode = "both",
        max_reference_tokens: int | None = None,
        siblings: str | None = None,
        leak_phrases: Sequence[str] = (),
    ) -> None:
        if reference not in ("answer", "solution", "both"):
            raise ValueError(
                f"prompt.reference is {reference!r}. Needed: answer, solution or both. Set one of them."
            )
        if max_reference_tokens is not None and max_reference_tokens < 1:
            raise ValueError(
                f"prompt.max_reference_tokens is {max_reference_tokens}. Needed: 1 or more, or null for no limit. "
                "A method without reference sets credit=grpo instead."
            )
        self.source = student
        self.system = system
        self.reference = reference
        self.max_reference_tokens = max_reference_tokens
        self.leak_phrases = tuple(leak_phrases)
        self._student = _compile("student", student, {"problem"}, _PROBLEM_FIELDS - _PRIVILEGED)
        self._teacher = _compile(
            "teacher", teacher, {"problem", "student", "reference"}, _PROBLEM_FIELDS
        )
        self._siblings = (
            None
            if siblings is None
            else _compile("siblings", siblings, {"correct", "incorrect"}, set())
        )

    def showing(self, student: str) -> PromptTemplate:
        """Return a template that shows the student another turn, for an evaluation; its teacher reads nothing else.

        Raises:
            ValueError: as the constructor does.
        """
        return PromptTemplate(
            student=student, teacher="{{ student }}{{ reference }}", system=self.system
        )

    def student_text(self, problem: Problem) -> str:
        """Render the student's turn; IMAGE_MARK stands where the question has "<image>"."""
        return _render("student", self._student, problem, {"problem": _marked(problem)})

    def teacher_text(self, problem: Problem, reference: str) -> str:
        """Render the teacher's turn with the text of a reference, which may be empty."""
        variables = {
            "problem": _marked(problem),
            "student": self.student_text(problem),
            "reference": reference,
        }
        return _render("teacher", self._teacher, problem, variables)

    def sibling_reference(self, problem: Problem, correct: str, incorrect: str) -> Reference:
        """Return the reference made of a problem's own completions.

        Args:
            problem: names the place in messages.
            correct: the response of a correct completion; empty for none.
            incorrect: the response of an incorrect one; empty for none.

        Raises:
            ValueError: the prompt has no such template.
        """
        self.check_siblings()
        assert self._siblings is not None
        texts = {"correct": correct, "incorrect": incorrect}
        return Reference(_render("siblings", self._siblings, problem, texts))

    def check_siblings(self) -> None:
        """Raise a ValueError if the prompt cannot show what siblings of a completion wrote."""
        if self._siblings is None:
            raise ValueError(
                "prompt.siblings is null, but the method shows the teacher what siblings of a completion wrote. "
                "Needed: a template of {{ correct }} and {{ incorrect }}. Choose prompt=thought_answer, or write one."
            )

    def reference_of(self, problem: Problem) -> Reference:
        """Return what of the problem the teacher is shown, uncut; a missing solution is a ValueError."""
        return choose_reference(problem, self.reference)


def _marked(problem: Problem) -> Problem:
    return dataclasses.replace(
        problem, prompt=problem.prompt.replace(IMAGE_PLACEHOLDER, IMAGE_MARK)
    )


def _render(view: str, template: Template, problem: Problem, variables: dict[str, object]) -> str:
    try:
        return template.render(variables)
    except (TemplateError, TypeError) as error:  # undefined, wrong type, or refused by the sandbox
        raise ValueError(
            f"{problem.place}: prompt.{view} cannot be rendered ({error}). "
            "Needed: what the template shows must be in every row. Add it, or test it with `is defined`."
        ) from error


def _compile(view: str, source: str, variables: set[str], problem_fields: set[str]) -> Template:
    """Parse a template and refuse, by its syntax tree, what could never render as meant."""
    try:
        tree = _environment.parse(source)
        template = _environment.from_string(source)
    except TemplateSyntaxError as error:
        raise ValueError(
            f"prompt.{view}, line {error.lineno}: {error.message}. Needed: a Jinja template. Correct it."
        ) from error
    used = meta.find_undeclared_variables(tree)
    for name in sorted(used - variables):
        raise ValueError(f"prompt.{view} shows {name!r}. {_needed(name, variables)}")
    for field in sorted(_fields_of_problem(tree) - problem_fields):
        if field in _PRIVILEGED:
            raise ValueError(
                f"prompt.{view} shows problem.{field}, which only the teacher may see. "
                "Needed: a student's view without it. Move it to prompt.teacher, as {{ reference }}."
            )
        raise ValueError(f"prompt.{view} shows problem.{field}. {_needed(field, problem_fields)}")
    for name, shown in _must_show(view).items():
        if not shown & used:
            raise ValueError(
                f"prompt.{view} never shows {name}. Needed: {{{{ {name} }}}} somewhere in it, as this view is about "
                "nothing else. Add it."
            )
    return template


def _must_show(view: str) -> dict[str, set[str]]:
    """What a view has to show, by any of these variables."""
    if view == "student":
        return {"problem.prompt": {"problem"}}
    if view == "siblings":
        return {"correct": {"correct"}}
    return {"reference": {"reference"}, "student": {"student", "problem"}}


def _fields_of_problem(tree: nodes.Template) -> set[str]:
    """Names read as problem.name or problem["name"]."""
    fields = set()
    for node in tree.find_all((nodes.Getattr, nodes.Getitem)):
        if isinstance(node.node, nodes.Name) and node.node.name == "problem":
            if isinstance(node, nodes.Getattr):
                fields.add(node.attr)
            elif isinstance(node.arg, nodes.Const):
                fields.add(node.arg.value)
    return fields


def _needed(name: str, known: set[str]) -> str:
    near = difflib.get_close_matches(name, sorted(known), n=1)
    hint = f"Did you mean {near[0]!r}?" if near else "Correct or remove it."
    return f"Needed: {', '.join(sorted(known))}. {hint}"
