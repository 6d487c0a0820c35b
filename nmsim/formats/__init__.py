"""Weight files in and out: safetensors, shards, ONNX, and the encodings of N:M matrices that other tools read."""
