"""Which rules of FORMAT.md a test vector is about, beside the one that its manifest line names first.

A row of ALSO is a pattern for the path of vectors, and the rules that these show. A new rule needs a vector whose first
rule it is, or a row here; tests/spec/test_reader.py fails for a rule that has neither.
"""

import re

ALSO = (
    # JSON
    (r"valid/(white-space|no-tensors-padded)|not-json|byte-order-mark", "J1"),
    (r"R05-(comment|nan|infinity|trailing|two-values|only-spaces|cut|leading-no|missing|single-quotes)", "J1"),
    (r"R05-(raw-|bad-escape|word-true)", "J1"),
    (r"invalid/R04-|valid/name-(unicode|noncharacter)|sidecar/row3-not-utf8", "J2"),
    (r"escaped|escapes|half-pair|name-nul|odd-names|names-and-strings|str-escaped", "J3"),
    (r"64-bits|binary64|two-to-6[34]|fraction|exponent|tiny-real|(above|below)-64|minus-two-to-63", "J4"),
    (r"minus-zero", "J5"),
    (r"depth-", "J6"),
    (r"twice|key-is-its-own|duplicate", "J7"),
    # Layout
    (r"writer/(unsealed|layout|no-tensors)\.", "L1,L2,L3"),
    (r"writer/(layout|ties|set)\.", "L4,L5,L3,S5"),
    (r"writer/(names-and-strings|format)\.", "L2,L7,S4"),
    (r"writer/one-of-two", "V4"),
    (r"valid/(sealed-(?!unpadded)|small|worked-example)", "L1,L2,L3,L7,S2,S5"),
    (r"valid/(unordered|white-space|unaligned|metadata-last|field-order)", "L1,L2"),
    (r"writer/floats|tree-text-float|example-01", "L10"),
    # Seal
    (r"seal/row2-keys-alike|row3-no-seal|row3-key-damaged|sealed-unknown-key|row[67]-key-added", "S1"),
    (r"seal/row3-value|row4|row5|row7-(header-digest|white-space|envelope)|valid/small", "S2"),
    (r"row6-(digests|content-and)|two-chunks|row8-second-chunk", "S3"),
    (r"row6-(tensor|dtype|shape|tree|content|key|digests-damaged)|sealed-name-order|row7-(rewritten|key-added)", "S4"),
    (r"chunk-changed", "S7"),
    (r"row4|tree-of-a-newer-shard|writer/newer", "S8"),
    (r"valid/small|seal/.*(damaged|changed|added)", "S9"),
    # Tree
    (r"tree-example|no-tensors\.|aliases-none|writer/unsealed", "T1"),
    (r"tree-(text-(shared|cycle)|example-0[78]|object-cycle)|T2-malformed-(id|ref)|writer/aliases|unused-ids", "T3"),
    (r"tree-(example-(05|10|13)|text-object|text-global)|no-items", "T4"),
    (r"tree-(text-tensor|attributes|example-09)|text-attributes", "T5"),
    (r"tree-(arrays|attributes|example-(09|12)|text-(array|scalar|tensor-(complex|packed)))", "T6"),
    (r"T5-unknown-attribute-(dtype|shape)", "T6"),
    (r"invalid/T\d-(?!too-deep)", "T7"),
    (r"tree-text-(refs-that-double|shared|cycle|depth-512)|invalid/T7", "T8"),
    # Names
    (r"names/", "N1,N2"),
    (r"names/(example-06|name-collisions|not-metadata|keys)|tree-(example-06|name-collisions)", "N3"),
    (r"valid/name-|names/keys|tree-of-|valid/sealed-name-order", "N4"),
    (r"names/module|tree-module", "N5"),
    (r"names-of-wrappers|names/wrappers", "N6"),
    # Aliases, sidecars, sets
    (r"valid/tree-example-07|names/(example-07|first-occurrence)|valid/aliases", "A1"),
    (r"writer/(aliases|set)\.|names/example-07", "A3"),
    (r"sidecar/row[678]-", "C1"),
    (r"sidecar/.*ignored", "C2"),
    (r"shards/(directory|one-file|no-index|two-indexes)", "H1"),
    (r"shards/(unsealed-shard|plain)|made/link", "H2"),
    (r"shards/directory", "H3"),
    (r"shards/(shard-is-a-folder|index-not-json)|made/link-to-a-folder", "H5"),
    # Series
    (r"valid/sealed-series", "S4,Q2,Q3,Q4"),
    (r"writer/of-a-series", "Q9"),
    (r"series/(three|other-names)$", "Q3,Q4,Q6,Q7"),
    (r"series/newest-with-a-bit-of-its-s", "Q3"),
    (r"series/foreign-files", "Q2,S8"),
    (r"series/sets$", "H3,H6"),
    (r"series/(other-metric|equal-sequences)", "Q8"),
    # Versions
    (r"sealed-unknown-key|row4-other-strings", "V1"),
    (r"seal/row4", "V2,V3"),
    (r"seal/row5|row3-value-version", "V3"),
)


def also(vector):
    """The other rules of a vector, in the order of this table."""
    rules = [rule for pattern, names in ALSO if re.search(pattern, vector.path) for rule in names.split(",")]
    return [rule for rule in dict.fromkeys(rules) if rule != vector.rule]
