"""From what a framework has saved to an ONNX model that answers as the framework does."""
