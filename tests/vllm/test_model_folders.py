"""The models that the tests beside this one load are what their names say, and vLLM takes every one."""

import pytest

from rlsd_lightning.models import load_policy

NAMES = ("text_tied", "text_untied", "vl_tied", "vl_untied")


@pytest.mark.parametrize("name", NAMES)
def test_embeddings_are_tied_where_the_name_says_so(model_folders, name):
    policy = load_policy(str(model_folders[name]), dtype="float32")
    embedding = policy.model.get_input_embeddings().weight
    assert (policy.head_weight is embedding) is name.endswith("_tied")
    assert (policy.family.image_token_id is not None) is name.startswith("vl_")
    assert list(model_folders) == list(NAMES)
