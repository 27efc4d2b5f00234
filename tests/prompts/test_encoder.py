import os

import pytest
import torch
from PIL import Image

from rlsd_lightning.data.images import load_image
from rlsd_lightning.models.text import TextFamily
from rlsd_lightning.prompts import PromptEncoder, PromptTemplate, PromptTooLongError
from rlsd_lightning.types import Problem
from tests.helpers.tiny_processor import tiny_processor, tiny_tokenizer

TEACHER = "{{ student }}{% if reference %} reference: {{ reference }}{% endif %}"


def problem(prompt="What is the 12?", images=(), reference="in the 12 = the end", **fields):
    return Problem(
        id="p1",
        prompt=prompt,
        images=images,
        answer="12",
        reference=reference,
        location="train.jsonl:3",
        **fields,
    )


def written(*parts, system=None):
    """The text of the chat template, written out; None is an image."""
    image = "<|vision_start|><|image_pad|><|vision_end|>"
    turn = "".join(image if part is None else part for part in parts)
    before = "" if system is None else f"<|im_start|>system\n{system}<|im_end|>\n"
    return f"{before}<|im_start|>user\n{turn}<|im_end|>\n<|im_start|>assistant\n"


def processed(processor, text, paths):
    return processor(text=[text], images=[load_image(path) for path in paths], return_tensors="pt")


@pytest.mark.parametrize(
    ("prompt", "names", "parts"),
    [
        ("What is the 12?", ["odd"], [None, "What is the 12?"]),
        ("What is the 12?", ["odd", "wide"], [None, None, "What is the 12?"]),
        ("<image>\nthe <image>?", ["large", "tiny"], [None, "\nthe ", None, "?"]),
        ("the<image><image>", ["wide", "wide"], ["the", None, None]),
    ],
)
def test_prompts_equal_what_the_processor_makes_of_text_and_images(
    processor, family, make_encoder, image_paths, prompt, names, parts
):
    paths = [image_paths[name] for name in names]
    expected = processed(processor, written(*parts), paths)
    made = make_encoder().student(problem(prompt, paths))
    assert made.token_ids == expected["input_ids"][0].tolist()
    assert [image.grid for image in made.images] == [
        tuple(g) for g in expected["image_grid_thw"].tolist()
    ]
    assert torch.equal(
        torch.cat([image.pixel_values for image in made.images]), expected["pixel_values"]
    )
    grids = [image.grid for image in made.images]
    assert torch.equal(made.position_ids, family.positions(made.token_ids, grids))
    assert made.id == "p1"


def test_a_prompt_without_images_equals_the_tokenised_text(processor, make_encoder):
    made = make_encoder().student(problem())
    assert made.token_ids == processor.tokenizer(written("What is the 12?"))["input_ids"]
    assert made.images == ()
    assert made.position_ids.tolist() == [list(range(len(made.token_ids)))] * 3


def test_the_system_turn_comes_first(processor, make_encoder, image_paths):
    template = PromptTemplate(
        "{{ problem.prompt }}", TEACHER, system="Be brief.", reference="answer"
    )
    paths = [image_paths["wide"]]
    expected = processed(processor, written(None, "the?", system="Be brief."), paths)
    made = make_encoder(template).student(problem("the?", paths))
    assert made.token_ids == expected["input_ids"][0].tolist()


def test_teacher_and_student_differ_by_the_reference_only(processor, make_encoder, image_paths):
    asked = problem("the <image>?", [image_paths["odd"]])
    encoder = make_encoder()
    expected = processed(
        processor, written("the ", None, "? reference: in the 12 = the end"), asked.images
    )
    assert encoder.teacher(asked).token_ids == expected["input_ids"][0].tolist()


def test_an_empty_reference_gives_the_students_prompt(make_encoder, image_paths):
    asked = problem(images=[image_paths["odd"]], reference="")
    encoder = make_encoder()
    student, teacher = encoder.student(asked), encoder.teacher(asked)
    assert teacher.token_ids == student.token_ids
    assert torch.equal(teacher.position_ids, student.position_ids)


def test_student_and_teacher_share_each_processed_image(make_encoder, image_paths):
    asked = problem(images=[image_paths["odd"], image_paths["odd"], image_paths["wide"]])
    encoder = make_encoder()
    student, teacher = encoder.student(asked), encoder.teacher(asked)
    assert student.images[0] is student.images[1]
    assert [a is b for a, b in zip(student.images, teacher.images, strict=True)] == [True] * 3
    assert student.images[0].key != student.images[2].key


def test_the_cache_is_bounded_and_keeps_what_was_used_last(make_encoder, image_paths):
    encoder = make_encoder(max_cached_images=2)
    odd, wide, square = ([image_paths[name]] for name in ("odd", "wide", "square"))
    first = encoder.student(problem(images=odd)).images[0]
    encoder.student(problem(images=wide))
    assert (
        encoder.student(problem(images=odd)).images[0] is first
    )  # used again, so wide is the oldest
    encoder.student(problem(images=square))
    assert len(encoder._cache) == 2
    assert encoder.student(problem(images=odd)).images[0] is first


def test_an_image_that_changes_on_disk_is_read_anew(make_encoder, image_paths):
    asked = problem(images=[image_paths["odd"]])
    encoder = make_encoder()
    before = encoder.student(asked).images[0]
    Image.new("RGB", (70, 45), "white").save(image_paths["odd"])
    os.utime(image_paths["odd"], ns=(1, 1))
    assert encoder.student(asked).images[0].key != before.key


def test_images_without_a_path_are_recognised_by_content(make_encoder, image_paths):
    encoder = make_encoder()
    with open(image_paths["odd"], "rb") as file:
        content = file.read()
    forms = [content, {"bytes": content, "path": None}, load_image(content), load_image(content)]
    images = encoder.student(problem(images=forms)).images
    assert images[0] is images[1]
    assert images[2] is images[3]
    assert images[0].key == images[2].key


@pytest.mark.parametrize(
    "token", ["<|image_pad|>", "<|vision_start|>", "<|vision_end|>", "<|video_pad|>"]
)
def test_text_that_spells_an_image_token_is_refused_in_either_view(
    make_encoder, image_paths, token
):
    encoder = make_encoder()
    message = rf"problem 'p1' \(train\.jsonl:3\): its text spells {token}".replace("|", r"\|")
    with pytest.raises(ValueError, match=message):
        encoder.student(problem(f"the {token}?", [image_paths["odd"]]))
    with pytest.raises(ValueError, match=message):
        encoder.teacher(problem(reference=f"see {token}"))


def test_a_literal_placeholder_in_the_reference_stays_text(processor, make_encoder, image_paths):
    asked = problem("the?", [image_paths["odd"]], reference="in <image>")
    expected = processed(processor, written(None, "the? reference: in <image>"), asked.images)
    assert make_encoder().teacher(asked).token_ids == expected["input_ids"][0].tolist()


def test_a_template_that_shows_the_question_twice_is_refused_for_interleaved_images(
    make_encoder, image_paths
):
    template = PromptTemplate(
        "{{ problem.prompt }} {{ problem.prompt }}", TEACHER, reference="answer"
    )
    with pytest.raises(ValueError, match=r"2 places for 1 images.*exactly once in the template"):
        make_encoder(template).student(problem("<image>?", [image_paths["odd"]]))


def test_an_image_shape_that_the_model_refuses_is_named_with_its_problem(make_encoder, tmp_path):
    Image.new("RGB", (1000, 2)).save(tmp_path / "line.png")  # 500 : 1, Qwen allows 200 : 1
    asked = problem(images=[str(tmp_path / "line.png")])
    encoder = make_encoder()
    for use in (encoder.student, encoder.count_student_tokens):
        with pytest.raises(ValueError, match=r"problem 'p1' \(train\.jsonl:3\): .*aspect ratio"):
            use(asked)


def test_tokens_are_counted_from_sizes_alone(make_encoder, image_paths):
    encoder = make_encoder()
    for names in ([], ["square"], ["wide", "odd"], ["large"], ["tiny"]):
        asked = problem(images=[image_paths[name] for name in names])
        assert encoder.count_student_tokens(asked) == len(encoder.student(asked).token_ids)


def test_counting_reads_no_pixels(make_encoder, image_paths):
    asked = problem(images=[image_paths["large"]])
    encoder = make_encoder()
    whole = encoder.count_student_tokens(asked)
    with open(image_paths["large"], "r+b") as file:
        file.truncate(100)
    assert encoder.count_student_tokens(asked) == whole


def test_an_overlong_student_prompt_says_how_long(make_encoder, image_paths):
    asked = problem(images=[image_paths["odd"]])
    size = len(make_encoder().student(asked).token_ids)
    assert len(make_encoder(max_prompt_tokens=size).student(asked).token_ids) == size
    with pytest.raises(PromptTooLongError, match=rf"student's prompt has {size} tokens") as caught:
        make_encoder(max_prompt_tokens=size - 1).student(asked)
    error = caught.value
    assert (error.problem_id, error.location, error.view) == ("p1", "train.jsonl:3", "student")
    assert (error.num_tokens, error.limit) == (size, size - 1)


LONG = "an in the 12 \u4e2d " * 20


@pytest.mark.parametrize("reference", ["solution", "both"])
def test_a_long_reference_is_cut_to_fit_and_costs_no_image_token(
    make_encoder, image_paths, reference
):
    template = PromptTemplate("{{ problem.prompt }}", TEACHER, reference=reference)
    asked = problem("the <image>?", [image_paths["odd"]], reference=LONG)
    bare = len(make_encoder(template).student(asked).token_ids)
    whole = len(make_encoder(template).teacher(asked).token_ids)
    image_token = make_encoder(template).family.image_token_id
    images = make_encoder(template).student(asked).token_ids.count(image_token)
    assert images > 1
    for limit in range(bare, whole + 1, 7):
        token_ids = make_encoder(template, max_teacher_prompt_tokens=limit).teacher(asked).token_ids
        assert token_ids.count(image_token) == images
        # What is left over is less than the words around the reference or a three-byte character.
        assert limit - len(" reference: ") < len(token_ids) <= limit


def test_the_largest_cut_that_fits_is_taken(make_encoder):
    # One token a letter, so every limit can be met exactly: " reference: " is 12 bytes.
    asked = problem("?", reference="x" * 100)
    bare = len(make_encoder().student(asked).token_ids)
    for limit in (bare + 12 + 1, bare + 12 + 50, bare + 12 + 99, bare + 12 + 100):
        made = make_encoder(max_teacher_prompt_tokens=limit).teacher(asked)
        assert len(made.token_ids) == limit


def test_a_template_that_shows_the_reference_twice_is_cut_too(make_encoder):
    template = PromptTemplate(
        "{{ problem.prompt }}", "{{ student }}{{ reference }}{{ reference }}", reference="solution"
    )
    asked = problem("?", reference="x" * 100)
    bare = len(make_encoder(template).student(asked).token_ids)
    made = make_encoder(template, max_teacher_prompt_tokens=bare + 41).teacher(asked)
    assert len(made.token_ids) == bare + 40


def test_a_teacher_prompt_that_is_too_long_without_reference_is_an_error(make_encoder, image_paths):
    asked = problem(images=[image_paths["odd"]], reference=LONG)
    bare = len(make_encoder().student(asked).token_ids)
    with pytest.raises(PromptTooLongError, match=r"even without its reference") as caught:
        make_encoder(max_teacher_prompt_tokens=bare - 1).teacher(asked)
    assert (caught.value.view, caught.value.num_tokens) == ("teacher", bare)


def test_max_reference_tokens_cuts_before_rendering(processor, make_encoder):
    template = PromptTemplate(
        "{{ problem.prompt }}", TEACHER, reference="solution", max_reference_tokens=3
    )
    made = make_encoder(template).teacher(problem("?", reference="abcdef"))
    assert made.token_ids == processor.tokenizer(written("? reference: abc"))["input_ids"]
    # A tighter limit of the whole prompt goes below it, a wider one does not go beyond.
    for limit, kept in [(len(made.token_ids) - 1, "ab"), (len(made.token_ids) + 1, "abc")]:
        again = make_encoder(template, max_teacher_prompt_tokens=limit).teacher(
            problem("?", reference="abcdef")
        )
        expected = processor.tokenizer(written(f"? reference: {kept}"))["input_ids"]
        assert again.token_ids == expected


def test_text_models_are_prompted_through_their_tokenizer():
    tokenizer = tiny_tokenizer()
    template = PromptTemplate(
        "{{ problem.prompt }}", TEACHER, system="Be brief.", reference="solution"
    )
    encoder = PromptEncoder(tokenizer, template, TextFamily())
    made = encoder.student(problem("the 12?"))
    assert made.token_ids == tokenizer(written("the 12?", system="Be brief."))["input_ids"]
    assert made.position_ids.tolist() == [list(range(len(made.token_ids)))]
    assert encoder.count_student_tokens(problem("the 12?")) == len(made.token_ids)


def test_images_are_refused_by_text_models(image_paths):
    template = PromptTemplate("{{ problem.prompt }}", TEACHER)
    encoder = PromptEncoder(tiny_tokenizer(), template, TextFamily())
    with pytest.raises(
        ValueError,
        match=r"problem 'p1' \(train\.jsonl:3\) has 1 images, but the model reads text only",
    ):
        encoder.student(problem(images=[image_paths["odd"]]))


def test_a_model_without_chat_template_is_refused_at_once(family):
    template = PromptTemplate("{{ problem.prompt }}", TEACHER)
    with pytest.raises(
        ValueError, match=r"Qwen3VLProcessor of .* has no chat template.*chat_template\.jinja"
    ):
        PromptEncoder(tiny_processor(chat_template=None), template, family)
    with pytest.raises(ValueError, match=r"has no chat template"):
        PromptEncoder(tiny_tokenizer(chat_template=None), template, TextFamily())


def test_a_chat_template_that_loses_images_is_refused_at_once(family):
    template = PromptTemplate("{{ problem.prompt }}", TEACHER)
    blind = "{% for message in messages %}{{ message.role }}{% endfor %}"
    with pytest.raises(ValueError, match=r"writes 0 image tokens .* for one image"):
        PromptEncoder(tiny_processor(chat_template=blind), template, family)


@pytest.mark.parametrize(
    "settings",
    [{"max_prompt_tokens": 0}, {"max_teacher_prompt_tokens": -1}, {"max_cached_images": 0}],
)
def test_limits_without_meaning_are_refused(make_encoder, settings):
    with pytest.raises(ValueError, match=rf"{next(iter(settings))} is"):
        make_encoder(**settings)


def test_an_evaluation_can_show_another_turn_with_the_same_images(make_encoder):
    encoder = make_encoder()
    other = encoder.showing("Please: {{ problem.prompt }}")
    assert other.template.student_text(Problem(id="1", prompt="2+2?")) == "Please: 2+2?"
    assert encoder.template is not other.template
    assert encoder.tokenizer is other.tokenizer
