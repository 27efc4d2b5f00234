"""One user turn in the model's chat format, as token ids with one image token for each image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformers import PreTrainedTokenizerBase, ProcessorMixin

from rlsd_lightning.prompts.template import IMAGE_MARK
from rlsd_lightning.types import Problem

if TYPE_CHECKING:
    from rlsd_lightning.models.family import Family


class ChatTokenizer:
    """Puts rendered text and images into chat messages and tokenises them once.

    Images stand where the text has IMAGE_MARK, or before the text if it has none.

    Args:
        processor: the model's processor, or its tokenizer if it reads text only.
        family: tells which tokens stand for images.
        system: the system turn; None for none.

    Raises:
        ValueError: there is no chat template, or it does not show an image as exactly one image token.
    """

    def __init__(
        self,
        processor: ProcessorMixin | PreTrainedTokenizerBase,
        family: Family,
        system: str | None,
    ) -> None:
        self.tokenizer = processor.tokenizer if isinstance(processor, ProcessorMixin) else processor
        self._processor = processor
        self._image_token_id = family.image_token_id
        self._placeholders = self.tokenizer.convert_ids_to_tokens(
            list(family.placeholder_token_ids)
        )
        self._system = system
        self._check_chat_template()

    def token_ids(self, problem: Problem, text: str) -> list[int]:
        """Tokenise a user turn: one image token for each of the problem's images, in their order.

        Args:
            problem: gives the images and the name for messages.
            text: the rendered turn.

        Raises:
            ValueError: the text spells an image token, its places for images do not match the images, or the model
                reads no images.
        """
        self.check_text(problem, text)
        parts = text.split(IMAGE_MARK)
        if len(parts) == 1:
            parts = [""] * len(problem.images) + parts
        return self._encode(parts)

    def check_text(self, problem: Problem, text: str) -> None:
        """Refuse text that would not be tokenised as meant; see token_ids."""
        num_places, num_images = text.count(IMAGE_MARK), len(problem.images)
        if num_images and self._image_token_id is None:
            raise ValueError(
                f"{problem.place} has {num_images} images, but the model reads text only. "
                "Needed: problems without images, or a vision-language model. Change path or model."
            )
        if num_places and num_places != num_images:
            raise ValueError(
                f"{problem.place}: the rendered prompt has {num_places} places for {num_images} images. "
                "Needed: one for each. Show problem.prompt exactly once in the template, and write one <image> for "
                "each image, or none at all."
            )
        for token in self._placeholders:
            if token in text:
                raise ValueError(
                    f"{problem.place}: its text spells {token}, which the model would read as part of an image. "
                    "Needed: text without the model's image tokens. Remove it from the row (an image is written "
                    "<image>)."
                )

    def _encode(self, parts: list[str]) -> list[int]:
        """Tokenise text parts with an image between each two."""
        text = self._processor.apply_chat_template(
            self._messages(parts), tokenize=False, add_generation_prompt=True
        )
        # The chat template writes what special tokens there are; the tokenizer is to add none.
        return self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]

    def _messages(self, parts: list[str]) -> list[dict[str, Any]]:
        messages = [{"role": "user", "content": self._content(parts)}]
        if self._system is not None:
            messages.insert(0, {"role": "system", "content": self._content([self._system])})
        return messages

    def _content(self, parts: list[str]) -> str | list[dict[str, str]]:
        if self._image_token_id is None:
            return parts[0]
        content: list[dict[str, str]] = []
        for index, part in enumerate(parts):
            content += [{"type": "image"}] if index else []
            content += [{"type": "text", "text": part}] if part else []
        return content

    def _check_chat_template(self) -> None:
        """Try the chat template once, with an image if the model reads images."""
        where = f"model: {type(self._processor).__name__} of {self.tokenizer.name_or_path or 'this model'}"
        if not self._processor.chat_template:
            raise ValueError(
                f"{where} has no chat template. Needed: one, as the model reads problems as chat messages. Put a "
                "chat_template.jinja into the model's folder, or choose an instruction-tuned model."
            )
        if self._image_token_id is None:
            self._encode(["probe"])
            return
        num_tokens = self._encode(["", "probe"]).count(self._image_token_id)
        if num_tokens != 1:
            raise ValueError(
                f"{where} writes {num_tokens} image tokens (id {self._image_token_id}) for one image. Needed: exactly "
                "one. Use the chat template that belongs to the model."
            )
