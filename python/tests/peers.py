"""flatbed.safetensors under the tests of safetensors itself, and under transformers.

Usage: peers.py reference WORK_DIR [--tests FOLDER] -- PYTHON...
       peers.py transformers WORK_DIR -- PYTHON...

PYTHON is the command of a Python with safetensors, torch, flatbed (PYTHONPATH), and pytest and
fsspec for `reference`, or transformers. FOLDER holds the reference's tests: `bindings/python/tests`
of a checkout of https://github.com/huggingface/safetensors at v0.8.0; default: the environment
variable FLATBED_REFERENCE_TESTS. Exit status 77: something of this is missing, which is named.

The reference's tests run with flatbed in the place of its compiled module, which every run asserts,
and, to show that they test it, with a module whose functions all fail.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys

SKIPPED = 77
# Tests of frameworks that this Python lacks cannot be collected; they are not judged.
FRAMEWORKS = {"jax": "test_flax_comparison.py", "tensorflow": "test_tf_comparison.py"}
EXPECTED_PASSES = 66
EXPECTED_FAILURES_WHEN_DEAD = 55

# A plugin of pytest: install() before a test is collected, and what is loaded is asserted.
PLUGIN = """
import os, sys, types
mode = os.environ["FLATBED_PEER"]
if mode != "reference":
    import flatbed.safetensors
    flatbed.safetensors.install(**eval(os.environ.get("FLATBED_PEER_OPTIONS", "{}")))
    module = sys.modules["safetensors._safetensors_rust"]
    if mode == "dead":
        def dead(*arguments, **named):
            raise NotImplementedError("a dead export")
        for name in ("serialize", "serialize_file", "deserialize", "safe_open",
                     "_safe_open_handle", "TensorSpec"):
            for place in (module, sys.modules["safetensors"]):
                setattr(place, name, dead)

def pytest_sessionfinish(session):
    import safetensors, safetensors._safetensors_rust as loaded
    ours = os.sep + os.path.join("flatbed", "safetensors") + os.sep in loaded.__file__
    assert ours == (mode != "reference"), loaded.__file__
    assert safetensors.safe_open is loaded.safe_open
    print("\\nloaded:", loaded.__file__)
"""


def skip(why):
    print(f"skipped: {why}")
    sys.exit(SKIPPED)


def require(python, *modules):
    for module in modules:
        done = subprocess.run(
            [*python, "-c", f"import {module}"], check=False, capture_output=True, text=True
        )
        if done.returncode:
            skip(
                f"{' '.join(python)} cannot import {module}: "
                + (done.stderr.strip().splitlines() or [""])[-1]
            )


def run_tests(python, work, tests, mode, options=None):
    """Runs the reference's tests; returns the numbers of passed, failed and skipped ones."""
    folder = os.path.join(work, mode)
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(tests, os.path.join(folder, "tests"))
    os.makedirs(os.path.join(folder, "tests", "data"), exist_ok=True)
    with open(os.path.join(folder, "flatbed_peer.py"), "w", encoding="utf-8") as file:
        file.write(PLUGIN)
    missing = [
        name
        for module, name in FRAMEWORKS.items()
        if subprocess.run(
            [*python, "-c", f"import {module}"], check=False, capture_output=True
        ).returncode
    ]
    environment = {**os.environ, "FLATBED_PEER": mode, "FLATBED_PEER_OPTIONS": repr(options or {})}
    code = (
        "import os, sys, pytest; os.chdir(sys.argv[1]); sys.path.insert(0, sys.argv[1]); "
        "sys.exit(pytest.main(sys.argv[2:]))"
    )
    # Errors as failures: of a set-up that could not write its file, too.
    arguments = [
        "-q",
        "-p",
        "flatbed_peer",
        "-p",
        "no:cacheprovider",
        "--tb=line",
        "-rf",
        "tests",
        "-W",
        "error::pytest.PytestUnhandledThreadExceptionWarning",
        *[f"--ignore=tests/{name}" for name in missing],
    ]
    done = subprocess.run(
        [*python, "-B", "-c", code, folder, *arguments],
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )
    print(done.stdout[-4000:], done.stderr[-2000:] if done.returncode > 1 else "", sep="\n")
    assert "loaded: " in done.stdout, "the run did not come to its end"
    counts = {
        what: int(number)
        for number, what in re.findall(
            r"(\d+) (passed|failed|skipped|error)", done.stdout.splitlines()[-1]
        )
    }
    failed = counts.get("failed", 0) + counts.get("error", 0)
    return counts.get("passed", 0), failed, counts.get("skipped", 0)


def reference(python, work, tests):
    if not tests:
        skip(
            "no --tests and no FLATBED_REFERENCE_TESTS: tests of safetensors v0.8.0"
        )
    require(python, "safetensors", "torch", "numpy", "pytest", "fsspec", "flatbed.safetensors")
    for options in ({}, {"verify": "copy"}, {"verify": "off"}):
        passed, failed, skipped = run_tests(python, work, tests, "flatbed", options)
        print(f"flatbed {options}: {passed} passed, {failed} failed, {skipped} skipped")
        assert passed >= EXPECTED_PASSES and failed == 0
    passed, failed, skipped = run_tests(python, work, tests, "dead")
    print(f"dead exports: {passed} passed, {failed} failed, {skipped} skipped")
    assert failed >= EXPECTED_FAILURES_WHEN_DEAD


# ---- in the other Python -------------------------------------------------------------------------


def make_model(folder):
    import torch  # noqa: PLC0415
    from transformers import LlamaConfig, LlamaForCausalLM  # noqa: PLC0415

    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=199,
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    model = LlamaForCausalLM(config).to(torch.bfloat16)
    for name, options in (("one", {}), ("shards", {"max_shard_size": "60KB"})):
        model.save_pretrained(os.path.join(folder, name), **options)
    return model


def check_transformers(folder):
    import flatbed.safetensors  # noqa: PLC0415
    import torch  # noqa: PLC0415
    import transformers  # noqa: PLC0415
    from transformers import LlamaForCausalLM  # noqa: PLC0415

    make_model(os.path.join(folder, "theirs"))
    flatbed.safetensors.install(seal=True)  # late: transformers has imported safe_open by now
    import safetensors._safetensors_rust as loaded  # noqa: PLC0415
    from transformers import modeling_utils  # noqa: PLC0415

    assert "flatbed" in loaded.__file__, loaded.__file__
    assert modeling_utils.safe_open is loaded.safe_open
    model = make_model(os.path.join(folder, "ours"))
    for kind in ("one", "shards"):
        for writer in ("theirs", "ours"):
            again, report = LlamaForCausalLM.from_pretrained(
                os.path.join(folder, writer, kind), output_loading_info=True
            )
            assert not any(report.values()), report
            for name, tensor in model.state_dict().items():
                assert torch.equal(tensor, again.state_dict()[name]), name
        damaged = os.path.join(folder, "ours", kind)
        refuse_damage(damaged, LlamaForCausalLM, loaded)
    print(
        f"transformers {transformers.__version__}: loads {len(model.state_dict())} tensors, "
        "whole and sharded, "
        "and refuses a flipped byte"
    )


def refuse_damage(folder, kind, loaded):
    path = sorted(
        os.path.join(folder, name) for name in os.listdir(folder) if name.endswith(".safetensors")
    )[0]
    with open(path, "rb") as file:
        data = bytearray(file.read())
    length = int.from_bytes(data[:8], "little")
    header = json.loads(bytes(data[8 : 8 + length]))
    assert "flatbed.digests" in header.pop("__metadata__"), path
    name, entry = sorted(header.items())[0]
    data[8 + length + entry["data_offsets"][0]] ^= 1
    with open(path, "wb") as file:
        file.write(data)
    try:
        kind.from_pretrained(folder)
    except Exception as error:  # transformers may wrap it
        chain = []
        while error is not None:
            chain.append(error)
            error = error.__cause__ or error.__context__
        assert any(isinstance(one, loaded.SafetensorError) and name in str(one) for one in chain), (
            chain
        )
        print(
            "refused:", next(str(one) for one in chain if isinstance(one, loaded.SafetensorError))
        )
    else:
        raise AssertionError(f"{path}: damage of {name} was not noticed")


def main():
    if sys.argv[1] == "--in-transformers":
        check_transformers(sys.argv[2])
        return
    split = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["reference", "transformers"])
    parser.add_argument("work")
    parser.add_argument("--tests", default=os.environ.get("FLATBED_REFERENCE_TESTS"))
    options = parser.parse_args(sys.argv[1:split])
    python = sys.argv[split + 1 :] or [sys.executable]
    os.makedirs(options.work, exist_ok=True)
    if options.what == "reference":
        reference(python, os.path.abspath(options.work), options.tests)
    else:
        require(python, "safetensors", "torch", "transformers", "flatbed.safetensors")
        folder = os.path.join(os.path.abspath(options.work), "transformers")
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)
        done = subprocess.run(
            [*python, "-B", os.path.abspath(__file__), "--in-transformers", folder], check=False
        )
        sys.exit(done.returncode)


if __name__ == "__main__":
    main()
