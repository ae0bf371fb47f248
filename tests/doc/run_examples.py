"""Runs the examples of README.md and doc/*.md: the C++ ones by the program that generate.py wrote, the
console ones by a shell, whose output is compared with what the document shows.

Usage: run_examples.py PROGRAM TOOL [NAME...]      the names of some examples; without, all are run
       run_examples.py --write PROGRAM TOOL        writes what the console examples print into the documents

In what a document shows, a line `...` stands for any lines, and times and rates may differ.
"""

import array
import io
import itertools
import json
import math
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import zipfile

import examples

FIXTURES = os.path.join(examples.ROOT, "tests", "fixtures", "torch2")
SHARDED = os.path.join(FIXTURES, "sharded")
HANGS_S = 600  # far above what an example takes on a busy machine


def make_files(folder, tool):
    """The files that examples name, in a folder that they run in."""
    shutil.copy(os.path.join(FIXTURES, "checkpoint.pth"), os.path.join(folder, "checkpoint.pth"))
    shutil.copy(os.path.join(FIXTURES, "state_dict.pth"), os.path.join(folder, "model.pth"))
    os.makedirs(os.path.join(folder, "tests", "fixtures"))
    os.symlink(FIXTURES, os.path.join(folder, "tests", "fixtures", "torch2"))
    os.symlink(SHARDED, os.path.join(folder, "sharded"))
    for arguments in (["checkpoint.pth"], ["--select", "model", "checkpoint.pth", "-o", "model.safetensors"]):
        subprocess.run([tool, "convert", "--quiet", *arguments], cwd=folder, check=True)
    make_llama(os.path.join(folder, "llama"))
    make_damaged(os.path.join(folder, "checkpoint.safetensors"), os.path.join(folder, "damaged.safetensors"))
    make_stranger(os.path.join(folder, "stranger.pth"))


def make_llama(folder):
    """Two shards of a model with the names of Hugging Face's Llama: two layers, 4 heads of q and 2 of k and v."""
    heads, shared, rows, hidden, inner, words = 4, 2, 8, 32, 48, 64
    shapes = {"model.embed_tokens.weight": [words, hidden], "model.norm.weight": [hidden],
              "lm_head.weight": [words, hidden]}
    for layer in range(2):
        parts = {"self_attn.q_proj": [heads * rows, hidden], "self_attn.k_proj": [shared * rows, hidden],
                 "self_attn.v_proj": [shared * rows, hidden], "self_attn.o_proj": [hidden, heads * rows],
                 "mlp.gate_proj": [inner, hidden], "mlp.up_proj": [inner, hidden],
                 "mlp.down_proj": [hidden, inner], "input_layernorm": [hidden], "post_attention_layernorm": [hidden]}
        for part, shape in parts.items():
            shapes[f"model.layers.{layer}.{part}.weight"] = shape
    os.mkdir(folder)
    weight_map = {}
    for number in (1, 2):
        file, header, at = f"model-0000{number}-of-00002.safetensors", {}, 0
        for name in sorted(shapes)[number - 1::2]:
            nbytes = 4 * math.prod(shapes[name])
            header[name] = {"dtype": "F32", "shape": shapes[name], "data_offsets": [at, at + nbytes]}
            at += nbytes
            weight_map[name] = file
        text = json.dumps(header).encode()
        values = array.array("f", (value % 997 for value in range(at // 4)))
        with open(os.path.join(folder, file), "wb") as stream:
            stream.write(struct.pack("<Q", len(text)) + text + values.tobytes())
    with open(os.path.join(folder, "model.safetensors.index.json"), "w", encoding="utf-8") as stream:
        json.dump({"metadata": {}, "weight_map": weight_map}, stream)


def make_stranger(target):
    """A zip of torch.save's form whose pickle calls os.system("id"), with the flag of an encrypted record."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00id\x85R.")
    data = bytearray(data.getvalue())
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + flags] |= 1
    with open(target, "wb") as file:
        file.write(data)


def make_damaged(source, target):
    """A copy with one changed byte, in the tensor model.1.bias."""
    with open(source, "rb") as file:
        data = bytearray(file.read())
    (header_nbytes,) = struct.unpack_from("<Q", data)
    offset = re.search(rb'"model\.1\.bias":\{[^}]*"data_offsets":\[(\d+),', data).group(1)
    data[8 + header_nbytes + int(offset)] ^= 1
    with open(target, "wb") as file:
        file.write(data)


def split_console(text):
    """(command, lines that it shows) for each line that begins with `$ `."""
    commands = []
    for line in text.splitlines():
        if line.startswith("$ "):
            commands.append((line[2:], []))
        elif commands:
            commands[-1][1].append(line)
    return commands


def comparable(line):
    """`line` without what differs from run to run."""
    line = re.sub(r"\b\d+\.\d+ (s|GB/s)", r"0 \1", line.rstrip())
    return re.sub(r"\b\d+ threads?\b", "n threads", line)


def matches(shown, printed):
    shown = [comparable(line) for line in shown]
    printed = [comparable(line) for line in printed]
    while shown and not shown[-1]:
        shown.pop()
    while printed and not printed[-1]:
        printed.pop()
    if "..." in shown:
        head = shown[:shown.index("...")]
        return printed[:len(head)] == head
    return shown == printed


def run_shell(command, folder, tool):
    environment = {**os.environ, "PATH": f"{os.path.dirname(os.path.abspath(tool))}:{os.environ['PATH']}",
                   "LC_ALL": "C"}
    done = subprocess.run(command, shell=True, cwd=folder, env=environment, text=True, timeout=HANGS_S,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    return done.stdout.splitlines()


def run_console(example, folder, tool):
    """What is wrong with a console example; and its text with what was printed in place of what it shows."""
    wrong, written = [], []
    for command, shown in split_console(example.text):
        if re.fullmatch(r"flatbed convert \w+\.pth", command):  # what it shows is a first run
            os.unlink(os.path.join(folder, command.split()[-1].replace(".pth", ".safetensors")))
        printed = run_shell(command, folder, tool)
        if not matches(shown, printed):
            wrong.append("\n  ".join([f"$ {command}", "prints", *printed]))
        blank = [""] if shown and not shown[-1] else []
        if "..." in shown:
            printed = printed[:shown.index("...")] + ["..."]
        # A line that says the same with other times stays as it is.
        kept = [old if comparable(old) == comparable(new) else new
                for old, new in itertools.zip_longest(shown[:len(printed)], printed, fillvalue="")]
        written += [f"$ {command}", *kept, *blank]
    return wrong, "\n".join(written) + "\n"


def write_back(example, text):
    path = os.path.join(examples.ROOT, example.path)
    with open(path, encoding="utf-8") as file:
        document = file.read()
    with open(path, "w", encoding="utf-8") as file:
        file.write(document.replace(example.text, text, 1))


def run_python(example, folder):
    environment = {**os.environ, "PYTHONPATH": os.path.join(examples.ROOT, "spec"), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", example.text], cwd=folder, env=environment, text=True, timeout=HANGS_S,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    return [] if done.returncode == 0 else [f"exit status {done.returncode}: {done.stdout}"]


def run_program(program, example, folder):
    command = [program, example.name] + ([SHARDED] if example.is_program else [])
    done = subprocess.run(command, cwd=folder, text=True, timeout=HANGS_S, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, check=False)
    return [] if done.returncode == 0 else [f"exit status {done.returncode}: {done.stdout}"]


def main():
    write = sys.argv[1] == "--write"
    program, tool, *names = (os.path.abspath(argument) if os.sep in argument else argument
                             for argument in sys.argv[2 if write else 1:])
    failed = count = 0
    with tempfile.TemporaryDirectory() as folder:
        make_files(folder, tool)
        for example in examples.all_document_examples():
            runs = example.run and example.language in ("cpp", "console", "python") and not example.is_definition
            if not runs or names and example.name not in names:
                continue
            if example.language == "cpp":
                wrong = run_program(program, example, folder)
            elif example.language == "python":
                wrong = run_python(example, folder)
            else:
                wrong, text = run_console(example, folder, tool)
                if write:
                    write_back(example, text)
            count += 1
            failed += bool(wrong)
            for message in wrong:
                print(f"{example.path}:{example.line}: {example.name}: {message}")
    print(f"{count} examples run, {failed} failed")
    sys.exit(1 if failed or not count else 0)


if __name__ == "__main__":
    main()
