#!/usr/bin/env python3
"""Runs every suite of iscsi-test-cu against one logical unit and judges each test.

Called by suite.sh, or by hand:

    ci/suite.py --variant 512 iscsi://127.0.0.1:3260/iqn.2026-11.io.kagami:local/0 [second URL for multipath]

A test passes, fails or is skipped (the suite says [SKIPPED] and why). The run fails on a failed test, on a suite that
ends early or takes too long, on a skip that suite-skips.txt does not list, and on a listed skip that did not happen.
"""

import argparse
import fnmatch
import pathlib
import re
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent


def all_tests():
    """Every suite with its tests, as the program lists them: {"Read10": ["Simple", ...]}."""
    listing = subprocess.run(["iscsi-test-cu", "--list"], capture_output=True, text=True, check=False)
    suites = {}
    for line in (listing.stdout + listing.stderr).splitlines():
        parts = line.strip().split(".")
        # The family ALL has every suite; the other families repeat parts of it.
        if parts[0] == "ALL" and len(parts) == 3:
            suites.setdefault(parts[1], []).append(parts[2])
    if not suites:
        sys.exit("suite: iscsi-test-cu lists no tests")
    return suites


def read_skips(path, variant):
    """Skips expected in this variant: {"Suite.Test": why}. A line is `variants : Suite.Test : why`, the first two
    with shell wildcards."""
    expected = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        line = line.split("#", 1)[0].strip()
        if not line:
            continue
        fields = [field.strip() for field in line.split(" : ")]
        if len(fields) != 3 or not all(fields):
            sys.exit(f"suite: {path}:{number}: not `variants : Suite.Test : reason`")
        if fnmatch.fnmatchcase(variant, fields[0]):
            expected.append((fields[1], fields[2], number))
    return expected


def judge(output):
    """Splits the program's output by test: {"Test": (verdict, lines, skip reasons)}."""
    found = {}
    name, lines = None, []

    def close():
        if name is None:
            return
        text = "\n".join(lines)
        skips = re.findall(r"\[SKIPPED\]\s*(.*)", text)
        # The verdict starts a line, or stands right after the dots. What a clean-up prints may follow on the same line;
        # failed assertions come after it.
        if re.search(r"^\s*FAILED(?=\s|$)", text, re.M) or re.search(r"^\s+\d+\. \S+:\d+\s+- ", text, re.M):
            verdict = "failed"
        elif not re.search(r"^\s*passed(?=\s|$)", text, re.M):
            verdict = "unfinished"
        else:
            verdict = "skipped" if skips else "passed"
        found[name] = (verdict, list(lines), skips)

    for line in output.splitlines():
        start = re.match(r"^\s*Test: (\S+) \.\.\.(.*)$", line)
        if start or line.startswith(("Suite: ", "Run Summary:", "--Run Summary:")):
            close()
            name, lines = (start.group(1), [start.group(2)]) if start else (None, [])
        elif name is not None:
            lines.append(line)
    close()
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", required=True, help="name of this run in suite-skips.txt, such as 512")
    parser.add_argument("--skips", type=pathlib.Path, default=HERE / "suite-skips.txt")
    parser.add_argument("--logs", type=pathlib.Path, help="folder for what each suite printed")
    parser.add_argument("--timeout", type=float, default=180.0, help="seconds a suite may take")
    parser.add_argument("--only", default="*", help="suites to run, shell wildcards; unlisted skips still count")
    parser.add_argument("--initiator", default="iqn.2026-11.io.kagami:suite")
    parser.add_argument("url", nargs="+")
    arguments = parser.parse_args()

    expected = read_skips(arguments.skips, arguments.variant)
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    trouble = []
    happened = set()
    skipped_tests = []

    suites = {suite: tests for suite, tests in all_tests().items() if fnmatch.fnmatchcase(suite, arguments.only)}
    for suite, tests in suites.items():
        started = time.monotonic()
        command = [
            "iscsi-test-cu", "--dataloss", "--allow-sanitize", "--verbose", f"--test=ALL.{suite}",
            f"--initiator-name={arguments.initiator}", f"--initiator-name-2={arguments.initiator}-2",
            *arguments.url,
        ]
        try:
            run = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                 timeout=arguments.timeout, check=False)
            output, ending = run.stdout, f"exit code {run.returncode}"
        except subprocess.TimeoutExpired as late:
            output, ending = late.stdout or b"", f"stopped after {arguments.timeout:.0f} s"
        output = output.decode(errors="replace")
        if arguments.logs:
            arguments.logs.mkdir(parents=True, exist_ok=True)
            (arguments.logs / f"{arguments.variant}.{suite}.log").write_text(" ".join(command) + "\n" + output)

        results = judge(output)
        verdicts = {"passed": 0, "failed": 0, "skipped": 0}
        for test in tests:
            full = f"{suite}.{test}"
            verdict, lines, reasons = results.get(test, ("unfinished", output.splitlines()[-5:], []))
            if verdict == "skipped":
                verdicts["skipped"] += 1
                skipped_tests.append(full)
                match = [entry for entry in expected if fnmatch.fnmatchcase(full, entry[0])]
                if match:
                    happened.update(entry[2] for entry in match)
                else:
                    trouble.append(f"{full} was skipped and is not listed: {reasons[0]}")
            elif verdict == "passed":
                verdicts["passed"] += 1
                for pattern, why, number in expected:
                    if fnmatch.fnmatchcase(full, pattern):
                        happened.add(number)
                        trouble.append(f"{full} passed, but {arguments.skips.name}:{number} expects a skip ({why})")
            else:
                verdicts["failed"] += 1
                detail = [line.strip() for line in lines if line.strip()]
                shown = [line for line in detail if "[FAILED]" in line or re.match(r"\d+\. ", line)] or detail
                trouble.append(f"{full} {verdict} ({ending}): " + " | ".join(shown[:4]))
        for verdict, count in verdicts.items():
            counts[verdict] += count
        print(f"  {arguments.variant:>15} {suite:<24} {verdicts['passed']:3} passed {verdicts['failed']:3} failed "
              f"{verdicts['skipped']:3} skipped {time.monotonic() - started:6.1f} s", flush=True)

    if arguments.only == "*":
        for pattern, why, number in expected:
            if number not in happened:
                trouble.append(f"{arguments.skips.name}:{number} lists {pattern} ({why}), but no such test exists or ran")
    for line in trouble:
        print(f"  {arguments.variant}: {line}")
    print(f"suite {arguments.variant}: {counts['passed']} passed, {counts['failed']} failed, "
          f"{counts['skipped']} skipped" + (", NOT as expected" if trouble else ""), flush=True)
    return 1 if trouble else 0


if __name__ == "__main__":
    sys.exit(main())
