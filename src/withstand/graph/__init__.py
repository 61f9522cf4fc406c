"""The op graph: one representation that runs in torch, is bounded, and is written back to ONNX."""
