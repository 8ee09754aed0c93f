import builtins
import importlib

import pytest
import torch

from hrseg.weights.allowed_globals import INERT, MENTIONED, STORAGES, current_path


@pytest.mark.parametrize(
    ("module", "name", "path"),
    [
        ("numpy._core.multiarray", "_reconstruct", "numpy.core.multiarray._reconstruct"),
        ("numpy._core_other", "x", "numpy._core_other.x"),
        ("__builtin__", "unicode", "builtins.str"),
        ("copy_reg", "_reconstructor", "copyreg._reconstructor"),
        ("posix", "system", "posix.system"),
    ],
)
def test_old_and_new_spellings_of_a_name_are_one(module, name, path):
    assert current_path(module, name) == path


def test_no_name_that_could_run_something_is_admitted():
    dangerous = {"eval", "exec", "compile", "open", "getattr", "__import__", "input", "breakpoint"}
    assert dangerous <= set(dir(builtins))
    for path in (*MENTIONED, *INERT, *STORAGES):
        module, _, name = path.rpartition(".")
        assert name not in dangerous
        assert module.partition(".")[0] not in (
            "os",
            "posix",
            "nt",
            "subprocess",
            "sys",
            "importlib",
        )


@pytest.mark.filterwarnings("ignore:TypedStorage")
def test_storages_have_the_types_that_torch_gives_them():
    for path, dtype in STORAGES.items():
        module, _, name = path.rpartition(".")
        if module == "torch" and not name.startswith("Untyped"):
            assert getattr(importlib.import_module(module), name).dtype == dtype
    assert STORAGES["torch.cuda.HalfStorage"] == torch.float16
