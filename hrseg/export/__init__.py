"""Trained networks as files that other programs run: ONNX, OpenVINO, torch.export, a Triton model repository.

The whole way from image to label map lies inside the file, and no file is written without its certificate.
"""
