"""What was measured on: the device, its threads and the versions of what ran."""

import platform
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

_PACKAGES = ("hrseg", "torch", "onnxruntime", "openvino")


@dataclass(frozen=True)
class Machine:
    """The device and the programs.

    Attributes:
        device: Name of the processor or GPU.
        kind: "cpu" or "cuda".
        threads: That torch computes with.
        versions: Package → version, of those that are installed.
    """

    device: str
    kind: str
    threads: int
    versions: dict[str, str] = field(default_factory=dict)

    def line(self) -> str:
        """Say it in one line.

        Example:
            >>> Machine("AMD EPYC", "cpu", 2, {"torch": "2.15.0"}).line()
            'AMD EPYC, 2 threads; torch 2.15.0'
        """
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        return f"{self.device}, {threads}; {versions}"

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values for JSON."""
        return dict(vars(self))


def describe(device: torch.device) -> Machine:
    """Describe the machine that a device belongs to."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return Machine(name, device.type, torch.get_num_threads(), versions)


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(errors="replace").splitlines() if info.exists() else []
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip().lower() == "model name" and value.strip():
            return value.strip()
    return platform.processor() or platform.machine()
