"""The study beside the demo: more methods, learning rates and seeds; README.md in this folder has its results."""
