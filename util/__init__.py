"""The parts of the demo; `main.py` puts them together."""
