"""The independent checker of proofs: numpy, and onnx to read the network, and no bound code of the searches."""
