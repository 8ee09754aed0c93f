import subprocess
import sys

import hrseg


def test_all_is_sorted_and_is_the_menu():
    assert hrseg.__all__ == sorted(hrseg.__all__) == dir(hrseg)


def test_every_promised_name_exists_and_explains_itself():
    for name in hrseg.__all__:
        if name != "__version__":
            assert getattr(hrseg, name).__doc__, name


def test_importing_hrseg_loads_neither_torch_nor_lightning():
    code = "import sys, hrseg; print([m for m in ('torch', 'lightning', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
