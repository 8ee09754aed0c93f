"""A collection of weight files that must stay shut: hostile, broken, or something else altogether."""

import collections
import io
import json
import os
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save

MARK = "code-ran"
"""A file in the current folder that any of the hostile ones would make."""


class Evil:
    """Runs a command where it is unpickled the usual way."""

    def __reduce__(self):
        return os.system, (f"touch {MARK}",)


class Says:
    """Pickles as a call of anything with anything."""

    def __init__(self, function, *arguments):
        self.parts = function, arguments

    def __reduce__(self):
        return self.parts


def torch_zip(value) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def torch_legacy(value) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def zip_of(records: dict[str, bytes], compression=zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in records.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def zip_of_pickle(content: bytes, **records: bytes) -> bytes:
    return zip_of({"archive/data.pkl": content, "archive/version": b"3\n"} | records)


def safetensors_of(header: object, numbers: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + numbers


def entry(begin: int, end: int, shape=None, dtype="U8") -> dict:
    return {"dtype": dtype, "shape": shape or [end - begin], "data_offsets": [begin, end]}


STATE = {"conv1.weight": torch.ones(8, 3, 3, 3), "bn1.weight": torch.ones(8)}
_STORAGE = b"(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0\x30X\3\0\0\0cpu%btQ"


def rebuilt(count: bytes, size: bytes, stride: bytes) -> bytes:
    """A pickle of one tensor with a storage of `count` numbers."""
    return (
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n("
        + _STORAGE % count
        + b"K\0(%bt(%bt\x89ccollections\nOrderedDict\n)RtR." % (size, stride)
    )


BILLION = b"\x8a\x05\0\xe4\x0bT\x02"  # 10 000 000 000
PAGE = b"\n <!DOCTYPE html><html><head><title>Google Drive - Virus scan warning</title></head></html>"


def shared() -> dict[str, bytes]:
    """Small pickles of what takes gigabytes to walk or print, since its values are referred to many times."""
    doubled = {
        "lists": lambda part: [part, part],
        "pairs": lambda part: (part, part),
        "tables": lambda part: {"a": part, "b": part},
    }
    values: dict[str, object] = {}
    for name, twice in doubled.items():
        values[name] = "a"
        for _ in range(40):
            values[name] = twice(values[name])
    values["texts"] = [["a" * 50_000] * 5_000] * 5_000
    values["names"] = [{"a" * 50_000: 1}] * 5_000
    values["name_pairs"] = [{("a" * 50_000, 1): 1}] * 5_000
    return {f"shared_{name}.pkl": pickle.dumps({"a": value}, 2) for name, value in values.items()}


def hostile() -> dict[str, tuple[bytes, str]]:
    """Return name → (content, words of the answer)."""
    nested = {"meta": {"hook_msgs": [Evil()]}, "state_dict": STATE}
    two = pickle.dumps(Evil(), 2)
    pairs = (b"0h%ch%c\x86q%c" % (i, i, i + 1) for i in range(60))  # 2**60 numbers to hash
    doubling = b"\x80\x02}K\1\x85q\0" + b"".join(pairs)
    # 100,000 keys with one hash: numbers are hashed modulo 2**61 - 1, and pairs of numbers by a known formula
    numbers = (b"\x8a\x0a" + (i * (2**61 - 1)).to_bytes(10, "little") + b"N" for i in range(100_000))
    pairs_of_one = b"".join(b"J%bK\1\x86N" % struct.pack("<i", i) for i in range(100_000))
    return {
        "evil.pkl": (pickle.dumps(Evil()), "system"),
        "evil2.pth": (two, "system"),
        "evil_text.pth": (pickle.dumps(Evil(), 0), "text that begins"),
        "evil_zip.pth": (torch_zip(Evil()), "system"),
        "evil_legacy.pth": (torch_legacy(Evil()), "system"),
        "evil_meta.pth": (torch_zip(nested), "system"),
        "evil_meta_legacy.pth": (torch_legacy(nested), "system"),
        "evil.pdparams": (pickle.dumps({"conv1.weight": Evil()}, 4), "system"),
        "evil_eval.pdparams": (pickle.dumps({"a": Says(eval, "1")}, 4), "builtins.eval"),
        "evil_getattr.pth": (
            torch_zip(Says(getattr, collections.OrderedDict, "fromkeys")),
            "attribute of collections.OrderedDict",
        ),
        "evil_import.pkl": (b"\x80\x02cantigravity\nfly\n.", "antigravity.fly"),
        "evil_extension.pkl": (b"\x80\x02\x82\x01.", "instruction 0x82"),
        "evil_state.pth": (
            b"\x80\x02ccollections\nOrderedDict\n)R}X\5\0\0\0itemsK\1sb.",
            "gives a dictionary attributes",
        ),
        "network.pth": (torch_zip(torch.nn.Linear(2, 2)), "torch.nn.modules.linear.Linear"),
        "objects.pdparams": (pickle.dumps({"a": np.array([{}, "x"], dtype=object)}), "objects"),
        "bytes.pth": (torch_zip({"a": Says(bytearray, 10**11)}), "makes bytes of a int"),
        "tensor.pth": (torch_zip({"a": Says(torch.FloatTensor, 10**10)}), "torch.FloatTensor"),
        "stride.pth": (
            zip_of_pickle(rebuilt(b"K\1", BILLION, b"K\0"), **{"archive/data/0": b"\0\0\0\0"}),
            "far more memory",
        ),
        "storage.pth": (
            zip_of_pickle(rebuilt(BILLION, BILLION, b"K\1"), **{"archive/data/0": b"\0\0\0\0"}),
            "declares 10,000,000,000 numbers and has 4 bytes",
        ),
        "view.pth": (
            zip_of_pickle(rebuilt(b"K\1", b"K\2", b"K\1"), **{"archive/data/0": b"\0\0\0\0"}),
            "larger than its 1 numbers",
        ),
        "memo.pkl": (b"\x80\x02Nr\xff\xff\xff\x7f0.", "makes no sense"),
        "length.pkl": (b"\x80\x04\x8d\0\0\0\0\0\x01\0\0.", "ends in the middle"),
        "length4.pkl": (b"\x80\x04B\xff\xff\xff\xff.", "ends in the middle"),
        "integer.pkl": (b"\x80\x02\x8b\0\0\x10\0" + b"\1" * (1 << 20) + b".", "instruction 0x8b"),
        "sets.pkl": (b"\x80\x04" + b"\x8f" * (8 << 20) + b".", "far more memory"),
        "lists.pkl": (b"\x80\x04" + b"]" * (8 << 20) + b".", "more instructions than any"),
        "copies.pkl": (
            b"\x80\x02](" + b"N" * 100_000 + b"eq\0" + b"cbuiltins\nlist\nh\0\x85R0" * 50_000 + b".",
            "far more memory",
        ),
        "states.pkl": (
            b"\x80\x02}(" + b"".join(b"J%bN" % struct.pack("<i", i) for i in range(50_000))
            + b"uq\0" + b"cargparse\nNamespace\n)\x81h\0b" * 50_000 + b".",
            "type Placeholder",
        ),
        "deep.pkl": (b"\x80\x02" + b"]" * 50_000 + b"a" * 49_999 + b".", "nest deeper than 64"),
        "ring.pkl": (b"\x80\x02}q\0K\1h\0s.", "hold each other"),
        "doubling.pkl": (doubling + b"Ns.", "uses a tuple as a key"),
        "collisions.pkl": (b"\x80\x02}(" + b"".join(numbers) + b"u.", "more than 60 bits"),
        "pairs.pkl": (b"\x80\x02}(" + pairs_of_one + b"u.", "more than 1,000 tuples"),
        **{name: (content, "no end in sight") for name, content in shared().items()},
        "unicode.pkl": (b"\x80\x02cos\xc3\nsystem\n.", "makes no sense"),
        "two_tensors.pdparams": (b"\x80\x02}X\1\0\0\0a" + rebuilt(b"K\1", b"K\1", b"K\1")[2:-1] + b"s.",
                                 "refers to data outside the file"),
    }  # fmt: skip


def broken() -> dict[str, tuple[bytes, str]]:
    """Return name → (content, words of the answer)."""
    whole = {kind: write(STATE) for kind, write in (("zip", torch_zip), ("legacy", torch_legacy))}
    paddle = pickle.dumps({"a": np.ones((64, 64), np.float32)}, 4)
    tensors = save(STATE)
    wrong = bytearray(whole["legacy"])
    at = wrong.rindex(struct.pack("<q", 216))
    wrong[at : at + 8] = struct.pack("<q", 10**12)
    script = zip_of({"m/data.pkl": b"", "m/constants.pkl": b"", "m/code/m.py": b""})
    numbers = {"archive/data/0": bytes(1 << 26)}
    bomb = zip_of({"archive/data.pkl": b"N."} | numbers, zipfile.ZIP_DEFLATED)
    lying = bytearray(zip_of_pickle(rebuilt(b"K\1", b"K\1", b"K\1"), **{"archive/data/0": b"abcd"}))
    at = lying.rindex(b"PK\1\2") + 20  # the sizes in the list of contents
    lying[at : at + 8] = struct.pack("<II", 10**9, 10**9)
    directory = bytearray(zip_of_pickle(b"N."))
    at = directory.rindex(b"PK\5\6") + 12
    directory[at : at + 4] = struct.pack("<I", 10**9)
    return {
        "empty.pth": (b"", "is empty"),
        "page.pth": (PAGE, "is a web page"),
        "page.safetensors": (PAGE, "is a web page"),
        "pointer.safetensors": (b"version https://git-lfs.github.com/spec/v1\noid 1", "Git LFS"),
        "answer.pth": (b'{"error":"not found"}', "JSON"),
        "list.txt": (b"aachen_000.png\n", "a text that begins 'aachen_000.png'"),
        "photo.pth": (b"\xff\xd8\xff\xe0\0\x10JFIF", "a JPEG image"),
        "noise.pth": (bytes(range(200, 256)), "belong to no format"),
        "weights.pth.tar": (b"\0" * 257 + b"ustar\0" + b"\0" * 300, "a tar archive"),
        "weights.tar.gz": (b"\x1f\x8b\x08\0", "a gzip archive"),
        "keras.h5": (b"\x89HDF\r\n\x1a\n", "HDF5"),
        "arrays.npz": (zip_of({"a.npy": b""}), "numpy archive"),
        "other.zip": (zip_of({"readme.txt": b""}), "readme.txt"),
        "script.pt": (script, "TorchScript"),
        "cut.pth": (whole["zip"][:900], "its archive has no end"),
        "cut_legacy.pth": (whole["legacy"][:-40], "ends before the numbers"),
        "cut_legacy2.pth": (whole["legacy"][:300], "ends before the numbers"),
        "count_legacy.pth": (bytes(wrong), "ends before the numbers"),
        "cut.pdparams": (paddle[:1000], "ends in the middle"),
        "short_array.pdparams": (paddle.replace(b"K@K@", b"K@KA"), "(64, 65)"),
        "bomb.pth": (bomb, "compressed records"),
        "lying.pth": (bytes(lying), "declares records of 1,000,000"),
        "directory.pth": (bytes(directory), "list of contents alone takes 1,000,000,000"),
        "twice.pth": (zip_of({"a/data.pkl": b"N.", "A/data.pkl": b"N."}), "twice"),
        "number.pth": (torch_zip(3), "type int"),
        "cut.safetensors": (tensors[:-5], "describes"),
        "cut2.safetensors": (tensors[:50], "more than the file has"),
        "cut3.safetensors": (tensors[:5], "ends before its header"),
        "ten_gb.safetensors": (struct.pack("<Q", 10**10) + b"{}", "10,000,000,000"),
        "ff.safetensors": (b"\xff" * 64, "more than the file has"),
        "nested.safetensors": (safetensors_of(b'{"a":' + b"[" * 10**8), "100,000,005 bytes"),
        "nested2.safetensors": (safetensors_of(b'{"a":' + b"[" * 10**6), "not JSON"),
        "number.safetensors": (safetensors_of({"a": 1}), "no description"),
        "twice.safetensors": (
            safetensors_of(b'{"a": {"dtype": "U8"}, "a": {}}'),
            "not JSON",
        ),
        "overlap.safetensors": (
            safetensors_of({"a": entry(0, 8), "b": entry(4, 12)}, bytes(12)),
            "tensor b overlaps a",
        ),
        "beyond.safetensors": (safetensors_of({"a": entry(0, 800)}, bytes(8)), "800 bytes"),
        "gap.safetensors": (
            safetensors_of({"a": entry(0, 4), "b": entry(8, 12)}, bytes(12)),
            "tensor b leaves a gap after a",
        ),
        "tail.safetensors": (safetensors_of({"a": entry(0, 4)}, bytes(12)), "the file has 12"),
        "product.safetensors": (
            safetensors_of({"a": entry(0, 4, [2**40, 2**40])}, bytes(4)),
            "cannot fill 4 bytes",
        ),
        "dtype.safetensors": (safetensors_of({"a": entry(0, 4, dtype="X")}, bytes(4)), "type X"),
        "negative.safetensors": (safetensors_of({"a": entry(0, 4, [-4])}, bytes(4)), "no sound"),
    }


def write_all(folder: Path) -> dict[str, str]:
    """Write every bad file into a folder; return name → words of the answer."""
    files = hostile() | broken()
    for name, (content, _) in files.items():
        (folder / name).write_bytes(content)
    (folder / "folder.pth").mkdir()
    os.mkfifo(folder / "pipe.pth")
    (folder / "dangling.pth").symlink_to(folder / "nowhere")
    words = {name: word for name, (_, word) in files.items()}
    return words | {
        "folder.pth": "is a folder",
        "pipe.pth": "is a pipe or a device",
        "dangling.pth": "does not exist",
        "missing.pth": "does not exist",
        f"{'long' * 100}.pth": "cannot be read",
        "nul\0.pth": "cannot be read",
    }
