"""Where the time of a case goes: ``python bench/profile.py WORK [SHAPE] [--who WHO] [--trace TRACE.json]``.

Prints shares of the wall clock for FFTs, this package's kernels, copies, other arithmetic of torch, memory, and what no
op accounts for (Python, dispatch, waiting), then torch's profiler table. ``--list`` names the works.
"""

if __name__ == "profile":  # cProfile imports the standard library's profile, and this folder may come first on its path
    import importlib.util
    import sys
    import sysconfig
    from pathlib import Path

    standard = importlib.util.spec_from_file_location(__name__, Path(sysconfig.get_path("stdlib"), "profile.py"))
    sys.modules[__name__] = importlib.util.module_from_spec(standard)
    standard.loader.exec_module(sys.modules[__name__])
else:
    from profiling import main

    if __name__ == "__main__":
        main()
