#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Adds up what meson tested: summary.py TESTLOG.json prints "passed failed skipped", and on stderr the names that failed.

A cmocka program and a run of pytest count by their tests, any other program as one; what ended badly counts as failed
at least once, whatever it had printed."""
import json
import re
import sys


def count(pattern, text):
    found = re.search(pattern, text)
    return int(found[1]) if found else 0


def of_cmocka(out):
    bad = {name for name in re.findall(r"^\[  FAILED  \] (\w+)", out, re.M) if not name.isdigit()}
    return len(re.findall(r"^\[       OK \]", out, re.M)), bad, len(re.findall(r"^\[  SKIPPED \]", out, re.M))


def of_pytest(out, last_line):
    bad = set(re.findall(r"^(?:FAILED|ERROR) (\S+)", out, re.M))
    return count(r"(\d+) passed", last_line), bad, count(r"(\d+) skipped", last_line)


def add_up(path):
    passed = failed = skipped = 0
    for line in open(path, encoding="utf-8"):
        test = json.loads(line)
        out = test.get("stdout", "") + "\n" + test.get("stderr", "")
        pytest_ends = re.findall(r"^.*\d+ (?:passed|failed|skipped|errors?)\b.* in [\d.]+s.*$", out, re.M)
        ok, bad, skip = of_pytest(out, pytest_ends[-1]) if pytest_ends else of_cmocka(out)
        if test["result"] == "SKIP":
            ok, bad, skip = 0, set(), 1
        elif test["result"] in ("OK", "EXPECTEDFAIL"):
            ok, bad = ok if ok or skip else 1, set()
        elif not bad:
            bad = {test["result"].lower()}
        for name in sorted(bad):
            print(f"failed: {test['name']}: {name}", file=sys.stderr)
        passed, failed, skipped = passed + ok, failed + len(bad), skipped + skip
    return passed, failed, skipped


def main():
    print(*add_up(sys.argv[1]))


if __name__ == "__main__":
    main()
