"""The files that a pickle can be in: a zip's data.pkl, the object of a legacy stream, and a file of its own."""

import streams
import torch_zip as t


def in_zip(pickle):
    return t.torch_zip(pickle, {"0": t.FLOATS})


def in_stream(pickle):
    return streams.stream(pickle, keys=(), stored=b"")


def alone(pickle):
    return pickle


CARRIERS = {"zip": in_zip, "legacy": in_stream, "alone": alone}


class Carried:
    """Puts pickles into carriers: by turns into one of those that are named, or into all."""

    def __init__(self, corpus):
        self.corpus = corpus

    def twin(self, name, pickle, carrier, tensors=None, tree=None):
        return self.corpus.twin(f"{name}@{carrier}", CARRIERS[carrier](pickle), tensors, tree)

    def bad(self, name, pickle, good, error, carriers=("zip", "legacy"), good_tensors=None):
        """`error`: the code and what the message says. `good`: the pickle of the twin."""
        group = name.split("/")[0]
        for carrier in carriers:
            twin = self.twin(f"{group}/good-{len(self.corpus.entries)}", good, carrier, good_tensors)
            self.corpus.hostile(f"{name}@{carrier}", CARRIERS[carrier](pickle), *error, twin=twin)
