"""The parts of the demo, one idea a file."""
import importlib.util
import os

if "matplotlib_inline" in os.environ.get("MPLBACKEND", "") and not importlib.util.find_spec("matplotlib_inline"):
    del os.environ["MPLBACKEND"]  # a notebook's, handed on to an environment in which matplotlib would fail over it
