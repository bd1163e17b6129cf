"""Data sets that do not fit into memory: images are read, decoded and cropped while the model is trained."""
