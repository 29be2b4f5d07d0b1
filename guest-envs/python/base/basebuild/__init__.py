"""The build of the base plugin for Python environments: see `../build.py`."""
