"""What is installed against ranges."""

from importlib.metadata import PackageNotFoundError

from rlsd_lightning.doctor.packages import check_packages, compare

INSTALLED = {"torch": "2.13.0+cpu", "transformers": "5.19.0", "wandb": "0.30.0"}


def version_of(name):
    if name not in INSTALLED:
        raise PackageNotFoundError(name)
    return INSTALLED[name]


def test_this_environment_is_well():
    assert check_packages().level == "ok"


def test_a_local_version_and_an_extra_that_is_not_installed_are_no_fault():
    found = compare(["torch>=2.11,<2.14", 'vllm==0.32.0; extra == "vllm"'], version_of)
    assert (found.level, found.seen) == ("ok", "1 packages in range: torch 2.13.0+cpu.")


def test_a_missing_package_and_one_out_of_range_are_faults():
    found = compare(["torch<2.13", "datasets>=5.2", "transformers>=5.17"], version_of)
    assert found.level == "fault"
    assert found.seen == "datasets is not installed; torch is 2.13.0+cpu, needed <2.13."


def test_an_extra_out_of_range_is_a_warning():
    found = compare(["torch", 'wandb>=0.31; extra == "wandb"'], version_of)
    assert (found.level, found.seen) == ("warning", "wandb is 0.30.0, needed >=0.31.")


def test_a_requirement_of_another_system_counts_not():
    assert compare(['pywin32; sys_platform == "win32"'], version_of).level == "ok"
