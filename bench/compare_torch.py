"""The sections of compare.py about what is in PyTorch's files beside tensors, and how many there may be."""

import statistics

import measure

FRESH_MS = 60
TENSORS = {"many_20000.pth": 20_000, "many_1000000.pth": 1_000_000}


def compare_objects(bench, name, what):
    if not bench.has("torch"):
        bench.report.say(f"\n== {what}: not measured, for want of a torch that makes it")
        return
    bench.ask_torch("make_objects", bench.folder, name)
    path = bench.path(name)
    results = measure.interleave(bench.rounds, {
        "flatbed": lambda: measure.open_once(bench, path), "torch": lambda: bench.ask_torch("load_objects", path)},
        measure.touch_again)
    columns = {"flatbed process ms": measure.column(results["flatbed"], "process", 1e3),
               "flatbed open ms": measure.column(results["flatbed"], "first", 1e3),
               "torch.load ms": measure.column(results["torch"], "first", 1e3),
               "again in it ms": measure.column(results["torch"], "next", 1e3)}
    bench.report.pairs(f"open {what} (torch.load, weights_only=False{', mmap' if bench.has('mmap') else ''})", columns)
    bench.report.row(f"open {what}, whole fresh process", statistics.median(columns["flatbed process ms"]), "ms",
                     FRESH_MS)
    bench.report.ratio(f"torch.load of {what} / flatbed open, fresh", measure.ratio_of_medians(
        columns["torch.load ms"], columns["flatbed open ms"]), 15, at_least=True)


def compare_whole(bench):
    """Opening a whole model of 20,000 tensors: torch.load."""
    compare_objects(bench, "whole.pt", "a whole model of 20,000 tensors")


def compare_lightning(bench):
    """Opening a Lightning checkpoint of 20,000 tensors: torch.load."""
    compare_objects(bench, "lightning.ckpt", "a Lightning checkpoint of 20,000 tensors")


def compare_linear(bench):
    """Opening a state dict of 1,000,000 tensors: one of 20,000, for each tensor."""
    bench.make_inputs(*TENSORS)

    def contender(name):
        def once():
            return {"us": 1e6 * measure.open_once(bench, bench.path(name))["first"] / TENSORS[name]}
        return once

    results = measure.interleave(bench.rounds, {name: contender(name) for name in TENSORS}, measure.touch_again)
    few, many = (measure.column(results[name], "us") for name in TENSORS)
    bench.report.pairs("open a state dict, for each tensor", {"20,000 us": few, "1,000,000 us": many,
                                                              "ratio": [a / b for a, b in zip(many, few)]})
    bench.report.ratio("open 1,000,000 tensors / 20,000, for each", measure.ratio_of_medians(many, few), 1.5)


SECTIONS = {"whole": compare_whole, "lightning": compare_lightning, "linear": compare_linear}
