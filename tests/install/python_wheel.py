"""The Python package, built and installed as a stranger does: makes a wheel of python/ over the
installed library, installs it into a virtual environment and runs the tests in python/tests there.

Exit status 77, with the reason: something that this needs cannot be had on this machine.
Usage: python_wheel.py PREFIX WORK_FOLDER     PREFIX: where a static flatbed is installed
"""

import glob
import os
import shutil
import subprocess
import sys

PREFIX, WORK = map(os.path.abspath, sys.argv[1:3])
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PYTHON = os.environ.get("FLATBED_TEST_PYTHON", "/usr/bin/python3")
PACKAGES = ["nanobind>=3.1,<4", "scikit-build-core>=1.1,<2", "numpy<2", "mypy", "tqdm"]
CHECK = ("import ensurepip, os, sysconfig, venv\n"
         "assert os.path.exists(sysconfig.get_path('include') + '/Python.h')")


def skip(reason):
    print(f"skipped: {reason}", file=sys.stderr)
    sys.exit(77)


def run(*command, **options):
    print("+", *command, flush=True)
    return subprocess.run(command, check=True, **options)


def make_environment():
    """A virtual environment that also sees Debian's packages: torch, where it is installed."""
    if subprocess.run([PYTHON, "-c", CHECK], stderr=subprocess.DEVNULL, check=False).returncode != 0:
        skip(f"{PYTHON} lacks venv or its headers (Debian: python3-venv python3-dev)")
    folder = os.path.join(WORK, "venv")
    if not os.path.exists(os.path.join(folder, "complete")):
        shutil.rmtree(folder, ignore_errors=True)
        run(PYTHON, "-m", "venv", "--system-site-packages", folder)
        pip = [os.path.join(folder, "bin", "pip"), "--disable-pip-version-check", "--retries=1", "--timeout=20"]
        if subprocess.run([*pip, "install", "-q", *PACKAGES], check=False).returncode != 0:
            skip(f"PyPI does not give {', '.join(PACKAGES)}")
        open(os.path.join(folder, "complete"), "w", encoding="ascii").close()
    return os.path.join(folder, "bin", "python")


def build_wheel(python):
    wheels = os.path.join(WORK, "wheel")
    shutil.rmtree(wheels, ignore_errors=True)
    settings = {
        "build-dir": os.path.join(WORK, "build"),
        "cmake.source-dir": "python",
        "cmake.build-type": "Debug",
        "cmake.define.CMAKE_CXX_FLAGS_DEBUG": "-O0",  # quick to compile; the library is as it is
        "cmake.define.CMAKE_COMPILE_WARNING_AS_ERROR": "ON",
        "cmake.define.CMAKE_PREFIX_PATH": PREFIX,
    }
    run(python, "-m", "pip", "wheel", "-q", "--disable-pip-version-check", "--no-build-isolation", "--no-deps",
        "--wheel-dir", wheels, *(f"--config-settings={key}={value}" for key, value in settings.items()), ROOT)
    return glob.glob(os.path.join(wheels, "*.whl"))[0]


def main():
    os.makedirs(WORK, exist_ok=True)
    # The package's own checks of types and stubs need mypy, which is Python of its own.
    python = make_environment()
    wheel = build_wheel(python)
    run(python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--force-reinstall", "--no-deps", wheel)
    tests = os.path.join(ROOT, "python", "tests")
    run(python, "-B", "-W", "error::ResourceWarning", "-m", "unittest", "discover", "-v", "-s", tests, cwd=WORK)


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"failed with {error.returncode}: {' '.join(error.cmd)}")
