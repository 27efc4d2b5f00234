"""From problems to the student's and the teacher's prompts: messages, chat template, token ids, images.

Text is tokenised once; an image's token is then repeated, in id space, as often as the image has features. So a
prompt equals what the model's own processor makes of it, and a cut reference can never cost an image token.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from rlsd_lightning.data.images import image_size
from rlsd_lightning.prompts.chat import ChatTokenizer
from rlsd_lightning.prompts.image_cache import ImageCache
from rlsd_lightning.prompts.reference import Reference, count_tokens, cut_reference, largest_fit
from rlsd_lightning.prompts.template import PromptTemplate
from rlsd_lightning.types import Problem, ProcessedImage, Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, ProcessorMixin

    from rlsd_lightning.models.family import Family

View = Literal["student", "teacher"]


class PromptTooLongError(ValueError):
    """A prompt with more tokens than it may have."""

    def __init__(self, problem: Problem, num_tokens: int, limit: int, view: View) -> None:
        setting = "max_prompt_tokens" if view == "student" else "max_teacher_prompt_tokens"
        without = ", even without its reference" if view == "teacher" else ""
        super().__init__(
            f"{problem.place}: the {view}'s prompt has {num_tokens} tokens{without}. "
            f"Needed: at most {limit} ({setting}). Raise the limit, shrink the images, or set on_overlong=filter."
        )
        self.problem_id, self.location = problem.id, problem.location
        self.num_tokens, self.limit, self.view = num_tokens, limit, view


class PromptEncoder:
    """Renders problems as prompts in the model's tokens.

    Args:
        processor: the model's processor, or its tokenizer if it reads text only.
        template: what the two views show.
        family: positions and image tokens of the model; see models.family.
        max_prompt_tokens: longest student prompt; None for no limit.
        max_teacher_prompt_tokens: longest teacher prompt, to which the reference is cut; None for no limit.
        max_cached_images: processed images that are kept; the images of one step should fit.

    Raises:
        ValueError: there is no chat template, or it does not show an image as exactly one image token.
    """

    def __init__(
        self,
        processor: ProcessorMixin | PreTrainedTokenizerBase,
        template: PromptTemplate,
        family: Family,
        *,
        max_prompt_tokens: int | None = None,
        max_teacher_prompt_tokens: int | None = None,
        max_cached_images: int = 256,
    ) -> None:
        for name, limit in {
            "max_prompt_tokens": max_prompt_tokens,
            "max_teacher_prompt_tokens": max_teacher_prompt_tokens,
        }.items():
            if limit is not None and limit < 1:
                raise ValueError(
                    f"{name} is {limit}. Needed: 1 or more tokens, or null for no limit. Correct it."
                )
        self.template = template
        self.family = family
        self.max_prompt_tokens = max_prompt_tokens
        self.max_teacher_prompt_tokens = max_teacher_prompt_tokens
        self._chat = ChatTokenizer(processor, family, template.system)
        self.tokenizer = self._chat.tokenizer
        if family.image_token_id is not None:
            self._image_processor = processor.image_processor
            self._cache = ImageCache(processor.image_processor, max_cached_images)

    def showing(self, student: str) -> PromptEncoder:
        """Return an encoder of another student's turn that shares tokenizer and image cache; see PromptTemplate."""
        other = copy.copy(self)
        other.template = self.template.showing(student)
        return other

    def student(self, problem: Problem) -> Prompt:
        """Return the student's view x; PromptTooLongError if it exceeds max_prompt_tokens."""
        token_ids = self._chat.token_ids(problem, self.template.student_text(problem))
        images = self._images(problem)
        num_tokens = len(token_ids) + self._num_extra(images)
        _check_length(problem, num_tokens, self.max_prompt_tokens, "student")
        return self._prompt(problem, token_ids, images)

    def teacher(self, problem: Problem, reference: Reference | None = None) -> Prompt:
        """Return the teacher's view (x, r), its reference cut to the template's and to the prompt's limit.

        Args:
            problem: the problem.
            reference: what is shown; None for the problem's own.

        Raises:
            PromptTooLongError: the view exceeds max_teacher_prompt_tokens even without a reference.
        """
        reference = self.template.reference_of(problem) if reference is None else reference
        token_ids = self._teacher_ids(problem, self._reference_text(reference))
        images = self._images(problem)
        limit, num_extra = self.max_teacher_prompt_tokens, self._num_extra(images)
        if limit is not None and len(token_ids) + num_extra > limit:
            token_ids = self._cut_to_fit(problem, reference, len(token_ids), num_extra, limit)
        return self._prompt(problem, token_ids, images)

    def count_student_tokens(self, problem: Problem) -> int:
        """Count the student's tokens from text and image sizes; no image is decoded."""
        token_ids = self._chat.token_ids(problem, self.template.student_text(problem))
        return len(token_ids) + self._num_extra_by_size(problem)

    def check(self, problem: Problem, *, with_teacher: bool) -> None:
        """Raise what student() and, if asked, teacher() would raise; no image is decoded."""
        _check_length(
            problem, self.count_student_tokens(problem), self.max_prompt_tokens, "student"
        )
        if with_teacher:
            reference = self._reference_text(self.template.reference_of(problem))
            shown = self.template.teacher_text(problem, reference)
            self._chat.check_text(problem, shown)
            num_bare = len(self._teacher_ids(problem, "")) + self._num_extra_by_size(problem)
            _check_length(problem, num_bare, self.max_teacher_prompt_tokens, "teacher")

    def _teacher_ids(self, problem: Problem, reference: str) -> list[int]:
        return self._chat.token_ids(problem, self.template.teacher_text(problem, reference))

    def _reference_text(self, reference: Reference) -> str:
        if self.template.max_reference_tokens is None:
            return reference.text
        return cut_reference(reference, self.template.max_reference_tokens, self.tokenizer)

    def _cut_to_fit(
        self,
        problem: Problem,
        reference: Reference,
        num_tokens: int,
        num_extra: int,
        limit: int,
    ) -> list[int]:
        """Return the teacher's ids with as much of the reference as the limit allows.

        Args:
            problem: the problem.
            reference: what is shown of it.
            num_tokens: of the teacher's view with the whole reference, one for each image.
            num_extra: what the images need beyond that.
            limit: of the expanded view.
        """
        num_bare = len(self._teacher_ids(problem, "")) + num_extra
        _check_length(problem, num_bare, limit, "teacher")

        def cut_ids(num_kept: int) -> list[int]:
            return self._teacher_ids(problem, cut_reference(reference, num_kept, self.tokenizer))

        size = count_tokens(self._reference_text(reference), self.tokenizer)
        kept = largest_fit(
            lambda num_kept: len(cut_ids(num_kept)) + num_extra <= limit,
            size,
            guess=size - (num_tokens + num_extra - limit),
        )
        return cut_ids(kept)

    def _images(self, problem: Problem) -> tuple[ProcessedImage, ...]:
        with _naming(problem):
            return tuple(self._cache.get(image) for image in problem.images)

    def _num_extra(self, images: Sequence[ProcessedImage]) -> int:
        """Count the tokens that images have beyond their first."""
        return sum(self.family.num_image_tokens(image.grid) - 1 for image in images)

    def _num_extra_by_size(self, problem: Problem) -> int:
        with _naming(problem):
            return sum(self._num_tokens_by_size(image) - 1 for image in problem.images)

    def _num_tokens_by_size(self, image: Any) -> int:
        num_patches = self._image_processor.get_number_of_image_patches(*image_size(image), {})
        return num_patches // self._image_processor.merge_size**2

    def _prompt(
        self, problem: Problem, token_ids: list[int], images: tuple[ProcessedImage, ...]
    ) -> Prompt:
        grids = [image.grid for image in images]
        expanded = self._expand(problem, token_ids, grids)
        return Prompt(
            id=problem.id,
            token_ids=expanded,
            position_ids=self.family.positions(expanded, grids),
            images=images,
        )

    def _expand(
        self, problem: Problem, token_ids: list[int], grids: list[tuple[int, int, int]]
    ) -> list[int]:
        """Repeat each image's token as often as the image has features."""
        image_token_id = self.family.image_token_id
        if image_token_id is None:
            return token_ids
        num_places = token_ids.count(image_token_id)
        assert num_places == len(grids), (
            f"{problem.place}: {num_places} image tokens for {len(grids)} images"
        )
        counts = iter([self.family.num_image_tokens(grid) for grid in grids])
        expanded: list[int] = []
        for token in token_ids:
            expanded += [token] * next(counts) if token == image_token_id else [token]
        return expanded


def _check_length(problem: Problem, num_tokens: int, limit: int | None, view: View) -> None:
    if limit is not None and num_tokens > limit:
        raise PromptTooLongError(problem, num_tokens, limit, view)


@contextmanager
def _naming(problem: Problem) -> Iterator[None]:
    """Say whose image it is that cannot be read, or that the image processor refuses (its shape, say)."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{problem.place}: {error}") from error
