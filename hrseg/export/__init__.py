"""Trained networks as files for other programs: ONNX, OpenVINO, torch.export, a Triton model repository.

A file contains the whole way from image to label map, and is written only with a report of its parity with the network.
"""
