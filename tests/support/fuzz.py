"""Coverage-guided fuzzing with atheris of the readers in ``fuzz_targets.py``: ``make fuzz MINUTES=24 TARGET=header``.

Each target runs for that much CPU time, in one process after the other, from the stored examples and from what earlier
runs have added in ``build/fuzz/TARGET``. The first input of each kind of finding is printed with its traceback and put
in ``build/fuzz/TARGET-findings``; once the reader is mended it becomes an example in ``tests/support/corpus/TARGET``.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

from fuzz_limits import TooSlow, limited_memory, limited_time
from fuzz_targets import CORPUS, TARGETS, opened

LONGEST_BYTES = 1 << 16
_PACKAGES = ["node", "pipelines", "pydicom", "highdicom", "pynetdicom", "starlette", "python_multipart", "monai.bundle"]
_TABLES = ["pydicom._dicom_dict", "pydicom._private_dict", "pydicom._uid_dict"]
_TABLES += ["pydicom.sr._snomed_dict", "pydicom.sr._concepts_dict", "pydicom.sr._cid_dict"]
_HANG_SECONDS = 1200
"""Wall time after which a reading ends that CPU time does not end: it waits, or is in compiled code."""
_PROCESS_MINUTES = 4.0
"""CPU time of one process: atheris keeps the results of comparisons, which grow to a GiB within minutes."""
_ROOT = Path(__file__).parents[2]


def _fuzz(name: str, minutes: float, seed: int) -> None:
    """Fuzz one target in this process; it ends with it."""
    import atheris

    warnings_and_logs_off()
    work = _ROOT / "build" / "fuzz"
    findings = work / f"{name}-findings"
    for folder in (work / name, findings):
        folder.mkdir(parents=True, exist_ok=True)
    begun, tried = 0.0, 0
    kinds: set[tuple[str, ...]] = set()

    def one_input(data: bytes) -> None:
        nonlocal tried
        tried += 1
        if time.process_time() - begun > minutes * 60:
            report()
            os._exit(1 if kinds else 0)
        try:
            with limited_time():
                read(data)
        except (Exception, TooSlow) as error:  # noqa: BLE001 - any is a finding
            kind = kind_of(error)
            if kind not in kinds:
                kinds.add(kind)
                (findings / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
                print(f"FINDING in {name}:\n{''.join(traceback.format_exception(error)[-14:])}", flush=True)

    def mutate(data: bytes, longest: int, seed: int) -> bytes:
        rng = random.Random(seed)
        if mutation is not None and rng.random() < 0.7:
            with suppress(Exception):  # not of the format any more
                return mutation(rng, data)[:longest]
        return bytes(atheris.Mutate(data, longest))

    def report() -> None:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        spent = (time.process_time() - begun) / 60
        print(f"{name}: {len(kinds)} findings, {spent:.1f} CPU minutes, {tried} inputs, {peak:.0f} MiB", flush=True)

    with ExitStack() as stack:
        with atheris.instrument_imports(include=_PACKAGES, exclude=_TABLES):
            read = stack.enter_context(opened(name, Path(stack.enter_context(tempfile.TemporaryDirectory()))))
            from fuzz_mutations import MUTATIONS  # imports what is instrumented
        mutation = MUTATIONS.get(TARGETS[name][1])
        settings = [f"-max_len={LONGEST_BYTES}", f"-timeout={_HANG_SECONDS}", "-rss_limit_mb=3000", "-len_control=0"]
        settings += [f"-artifact_prefix={findings}/", f"-seed={seed}", "-verbosity=0"]
        atheris.Setup([sys.argv[0], *settings, str(work / name), str(CORPUS / name)], one_input, custom_mutator=mutate)
        stack.enter_context(limited_memory())
        stack.callback(report)
        begun = time.process_time()
        atheris.Fuzz()


def kind_of(error: BaseException) -> tuple[str, ...]:
    """Class and place: findings of one kind are reported once."""
    frames = traceback.extract_tb(error.__traceback__)
    return type(error).__name__, *(f"{frame.filename}:{frame.lineno}" for frame in frames[-2:])


def warnings_and_logs_off() -> None:
    """What a reader says of bad input is not what is looked for."""
    import warnings

    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)


def main() -> int:
    """Fuzz the named targets, or all, one on each processor; return the number of targets with a finding."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=0.1, help="CPU minutes for each target")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--inside", action="store_true", help="in this process")
    parser.add_argument("targets", nargs="*")
    options = parser.parse_args()
    if unknown := set(options.targets) - set(TARGETS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; targets are {', '.join(TARGETS)}")
    if options.inside:
        _fuzz(options.targets[0], options.minutes, options.seed)
    targets = options.targets or list(TARGETS)

    def fuzz(name: str) -> int:
        codes, left, seed = 0, options.minutes, options.seed
        while left > 0:
            minutes = min(left, _PROCESS_MINUTES)
            command = [sys.executable, __file__, "--inside", "--minutes", str(minutes), "--seed", str(seed), name]
            codes |= subprocess.run(command, check=False).returncode
            left, seed = left - minutes, seed + 1
        return codes

    with ThreadPoolExecutor(os.cpu_count()) as at_once:
        codes = at_once.map(fuzz, targets)
        broken = [name for name, code in zip(targets, codes, strict=True) if code]
    print(f"findings in: {', '.join(broken)}" if broken else "no finding")
    return len(broken)


if __name__ == "__main__":
    sys.exit(main())
