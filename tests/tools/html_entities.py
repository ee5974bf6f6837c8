# SPDX-License-Identifier: MIT
"""Prints engine/html_entities.inc from the table of the HTML standard.

    python3 tests/tools/html_entities.py tests/golden/data/tokenizer/html5_entities.json > engine/html_entities.inc

The JSON maps names, with and without their semicolon, to characters, as https://html.spec.whatwg.org/entities.json
does in another shape. The rows are in the order of strcmp(), which the binary search of html_entities.c relies on."""
import json
import sys

HEAD = """/* SPDX-License-Identifier: MIT */
/* html_entities.inc - rows { name, code points, allowed without semicolon } of html_entities.c, sorted by name.
 *
 * Made by tests/tools/html_entities.py from the named character references of the HTML standard (WHATWG,
 * https://html.spec.whatwg.org/entities.json); not to be edited by hand. */"""


def main():
    with open(sys.argv[1], encoding="utf-8") as f:
        table = json.load(f)
    print(HEAD)
    line = ""
    for name in sorted(n[:-1] for n in table if n.endswith(";")):
        value = table[name + ";"]
        bare = name in table
        assert len(value) <= 2 and len(name) <= 31 and table.get(name, value) == value
        row = '{ "%s", { %s }, %d },' % (name, ", ".join("0x%X" % ord(c) for c in value), bare)
        if line and len(line) + 1 + len(row) > 120:
            print(line)
            line = row
        else:
            line = (line + " " + row).strip()
    print(line)


main()
