"""Renders the results of a kind of processor as a page."""

from collections.abc import Sequence
from statistics import median
from typing import Any

from benchmarks.flops import Speed, Work, least_seconds
from benchmarks.lines import fit, points
from benchmarks.plan import LINES, MATMUL, PARTS, UNTUNED, VLLM

RANK = 16

KINDS = {
    "amx": "with AMX",
    "avx512_bf16": "with AVX512_BF16, without AMX",
    "no_bf16": "without AVX512_BF16 or AMX",
}
HEAD = """# Benchmark results: processors {kind}

Written by `make bench`; do not edit. benchmarks/README.md explains what is timed.
"""


def markdown(results: dict[str, Any], picture: str | None = None) -> str:
    """The page with everything measured so far."""
    parts = [HEAD.format(kind=KINDS[results["machine"]["kind"]]), _machine(results)]
    for title, text in (
        ("Scoring", _scoring(results)),
        ("Training", _training(results)),
        ("Generation", _generation(results)),
        ("Speed of matrix products", _speeds(results)),
        ("Cost as a study grows", _lines(results, picture)),
        ("Failed", _failed(results)),
    ):
        if text:
            parts.append(f"## {title}\n\n{text}")
    return "\n".join(parts)


def table(header: Sequence[str], rows: Sequence[Sequence[object]], texts: int) -> str:
    """A Markdown table; the first `texts` columns are aligned left, numbers right."""
    rule = ["---" if at < texts else "--:" for at in range(len(header))]
    lines = [header, rule, *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines) + "\n"


def rate(values: Sequence[float], digits: int = 2) -> str:
    """Median of the rounds, with the range if there are several."""
    middle = f"{median(values):,.{digits}f}"
    if len(values) == 1:
        return middle
    return f"{middle} ({min(values):,.{digits}f} to {max(values):,.{digits}f})"


def _rounds(results: dict[str, Any]) -> str:
    """How many rounds of each part were measured; a run that was broken off has fewer than set."""
    numbers: dict[str, int] = {}
    for one in results["measurements"]:
        if one["part"] in PARTS:
            numbers[one["part"]] = max(numbers.get(one["part"], 0), one.get("round", 0) + 1)
    return ", ".join(f"{number} of {part}" for part, number in numbers.items())


def _machine(results: dict[str, Any]) -> str:
    machine = results["machine"]
    measured = _of(results, MATMUL)
    loads = [one["load"] for one in results["measurements"] if "load" in one]
    during = f", {min(loads):.1f} to {max(loads):.1f} before each measurement" if loads else ""
    lines = [
        f"- {results['started'][:10]}, commit {machine['commit']}; load of the machine before the "
        f"run: {machine['load']:.2f}{during}",
        f"- rounds (median, range in parentheses if there are several): {_rounds(results)}",
        f"- {machine['processor']}, {machine['cores']} cores, {machine['memory_gb']:.0f} GB; "
        f"{', '.join(machine['flags']) or 'neither AVX-512 BF16 nor AMX'}",
        "- Gemma 3 270M (embedded), no GPU",
    ]
    if measured:
        versions = ", ".join(f"{name} {value}" for name, value in measured[0]["versions"].items())
        lines.append(f"- {versions}; {measured[0]['threads']} threads")
    return "\n".join(lines) + "\n"


def _of(results: dict[str, Any], part: str, **wanted: str) -> list[dict[str, Any]]:
    """The successful measurements of a part with these values."""
    return [
        one
        for one in results["measurements"]
        if one["part"] == part
        and "error" not in one
        and all(one[name] == value for name, value in wanted.items())
    ]


def _groups(results: dict[str, Any], part: str) -> list[tuple[str, str, list[str]]]:
    """Cases and dtypes of a part, with their contenders in order."""
    groups: dict[tuple[str, str], list[str]] = {}
    for one in _of(results, part):
        names = groups.setdefault((one["case"], one["dtype"]), [])
        if one["contender"] not in names:
            names.append(one["contender"])
    return sorted((case, dtype, names) for (case, dtype), names in groups.items())


def _shares(
    results: dict[str, Any], dtype: str, seconds: float, works: Sequence[Work], lora: bool = False
) -> list[str]:
    """Share of the time that each count of work takes at the machine's own speed."""
    own = _of(results, MATMUL, dtype=dtype)
    if not own:
        return ["" for _ in works]
    speed = Speed(max(one["body"] for one in own), max(one["head"] for one in own))
    config, rank = results["config"], RANK if lora else None
    return [f"{least_seconds(work, config, speed, rank) / seconds:.0%}" for work in works]


def _with_setting(one: dict[str, Any]) -> str:
    named = one["contender"] == UNTUNED or not one.get("setting")
    return str(one["contender"]) if named else f"{one['contender']} ({one['setting']})"


def _cores(rounds: Sequence[dict[str, Any]]) -> str:
    """CPU time divided by wall time, minimum over rounds; low if other processes ran."""
    return f"{min(one['cpu_seconds'] / one['seconds'] for one in rounds):.1f}"


def _times(rates: dict[str, float], name: str, over: str) -> str:
    return f"{rates[name] / rates[over]:.2f}" if over in rates else ""


def _same(one: dict[str, Any], exact: Sequence[dict[str, Any]], name: str) -> str:
    """Number of answers or texts equal to those of `exact[0]`; empty for itself."""
    if not exact or one is exact[0]:
        return ""
    mine, reference = (
        values if isinstance(values, dict) else dict(enumerate(values))
        for values in (one[name], exact[0][name])
    )
    common = mine.keys() & reference.keys()
    return f"{sum(mine[key] == reference[key] for key in common)} of {len(common)}"


def _scoring(results: dict[str, Any]) -> str:
    rows = []
    for case, dtype, names in _groups(results, "scoring"):
        exact = _of(results, "scoring", case=case, dtype="float32", contender="lm-eval")
        rounds = {
            name: _of(results, "scoring", case=case, dtype=dtype, contender=name) for name in names
        }
        rates = {n: [one["items"] / one["seconds"] for one in rounds[n]] for n in names}
        middles = {name: median(values) for name, values in rates.items()}
        counts = {k: Work(*v) for k, v in results["work"][case].items()}
        for name in names:
            first = rounds[name][0]
            own = counts["distinct" if name == "isogloss" else "lm-eval"]
            works = [counts["distinct"], own, counts["separate"]]
            shares = _shares(results, dtype, first["items"] / middles[name], works)
            if name == VLLM:
                shares[1] = ""  # what its cache saves is not known
            rows.append(
                [
                    case,
                    dtype,
                    _with_setting(first),
                    first["items"],
                    rate(rates[name]),
                    _times(middles, "isogloss", name),
                    rate([one["items"] / one["cpu_seconds"] for one in rounds[name]]),
                    f"{max(one['peak_mb'] for one in rounds[name]):,.0f}",
                    _cores(rounds[name]),
                    _same(first, exact, "answers"),
                    *shares,
                ]
            )
    if not rows:
        return ""
    header = [
        "format",
        "dtype",
        "contender",
        "items",
        "items/s",
        "isogloss speed-up",
        "items per CPU second",
        "peak MB",
        "cores",
    ]
    header += ["answers equal to lm-eval float32", "share", "share, own tokens", "share, separate"]
    return table(header, rows, 3)


def _training(results: dict[str, Any]) -> str:
    rows = []
    for case, dtype, names in _groups(results, "training"):
        counts = {k: Work(*v) for k, v in results["work"][case].items()}
        tokens = counts["separate"].tokens
        rounds = {
            name: _of(results, "training", case=case, dtype=dtype, contender=name) for name in names
        }
        rates = {n: [tokens / one["seconds"] for one in rounds[n]] for n in names}
        middles = {name: median(values) for name, values in rates.items()}
        ours = rounds["isogloss"][0]["losses"] if "isogloss" in rounds else None
        for name in names:
            first = rounds[name][0]
            own = counts["distinct" if name == "isogloss" else "everywhere"]
            works = [counts["distinct"], own, counts["separate"]]
            shares = _shares(results, dtype, tokens / middles[name], works, lora=True)
            apart = ""
            if ours is not None and name != "isogloss":
                pairs = zip(first["losses"], ours, strict=False)
                apart = f"{max(abs(theirs - mine) for theirs, mine in pairs):.1e}"
            rows.append(
                [
                    case,
                    dtype,
                    _with_setting(first),
                    rate(rates[name], 1),
                    _times(middles, name, "TRL"),
                    f"{max(one['peak_mb'] for one in rounds[name]):,.0f}",
                    _cores(rounds[name]),
                    f"{first['losses'][0]:.4f} to {first['losses'][-1]:.4f}",
                    apart,
                    *shares,
                ]
            )
    if not rows:
        return ""
    header = ["task", "dtype", "contender", "tokens/s", "speed-up over TRL", "peak MB", "cores"]
    header += ["loss, first to last step", "largest loss difference from isogloss"]
    header += ["share", "share, own tokens", "share, separate"]
    return table(header, rows, 3)


def _generation(results: dict[str, Any]) -> str:
    rows = []
    for case, dtype, names in _groups(results, "generation"):
        exact = _of(results, "generation", case=case, dtype="float32", contender="isogloss")
        prompts = results["work"]["generation"]["prompts"][0]
        rounds = {
            name: _of(results, "generation", case=case, dtype=dtype, contender=name)
            for name in names
        }
        rates = {n: [one["items"] / one["seconds"] for one in rounds[n]] for n in names}
        middles = {name: median(values) for name, values in rates.items()}
        for name in names:
            first = rounds[name][0]
            kept, written = first["kept_tokens"], first["written_tokens"]
            works = [Work(prompts + kept, kept), Work(prompts + written, written)]
            seconds = first["items"] / middles[name]
            rows.append(
                [
                    dtype,
                    name,
                    first["items"],
                    rate(rates[name]),
                    _times(middles, "isogloss", name),
                    f"{kept / seconds:.1f}",
                    written,
                    f"{max(one['peak_mb'] for one in rounds[name]):,.0f}",
                    _cores(rounds[name]),
                    _same(first, exact, "texts"),
                    *_shares(results, dtype, seconds, works),
                ]
            )
    if not rows:
        return ""
    header = ["dtype", "contender", "prompts", "prompts/s", "isogloss speed-up", "tokens/s"]
    header += ["tokens written", "peak MB", "cores", "texts equal to isogloss float32", "share"]
    return table([*header, "share, all tokens written"], rows, 2)


def _speeds(results: dict[str, Any]) -> str:
    products = _of(results, MATMUL)
    if not products:
        return ""
    dtypes = sorted({one["dtype"] for one in products})
    by_dtype = {dtype: [one for one in products if one["dtype"] == dtype] for dtype in dtypes}
    rows: list[list[object]] = []
    for shape in products[0]["shapes"]:
        values = [[one["shapes"][shape] / 1e9 for one in by_dtype[dtype]] for dtype in dtypes]
        rows.append([shape, *(_best(value) for value in values)])
    for label, name in (("all layers of a block", "body"), ("LM head", "head")):
        values = [[one[name] / 1e9 for one in by_dtype[dtype]] for dtype in dtypes]
        rows.append([label, *(_best(value) for value in values)])
    header = ["product", *(f"{dtype}, GFLOP/s" for dtype in dtypes)]
    return table(header, rows, 1)


def _best(values: Sequence[float]) -> str:
    """The maximum, which is what the machine can do, and the minimum, which shows the noise."""
    return f"{max(values):,.0f} (minimum {min(values):,.0f})"


def _lines(results: dict[str, Any], picture: str | None) -> str:
    rows = []
    for axis, label in LINES.items():
        at = points(results["measurements"], axis)
        line = fit(at.x, at.seconds)
        if line is None:
            continue
        rows.append(
            [
                label,
                ", ".join(f"{x:,.0f}" for x in at.x),
                f"{line.slope * 1000:,.3g}",
                f"{line.intercept:.2f}",
                f"{line.r2:.4f}",
                f"{line.residual:.1%}",
                f"{at.peak_mb[0]:,.0f} to {at.peak_mb[-1]:,.0f}",
            ]
        )
    if not rows:
        return ""
    dtypes = sorted({one["dtype_used"] for one in _of(results, "lines")})
    header = ["by number of", "points", "ms per unit", "intercept, s", "R²"]
    header += ["largest residual", "peak MB, first to last point"]
    text = f"isogloss alone, letter format, {', '.join(dtypes)}.\n\n{table(header, rows, 2)}"
    return f"{text}\n![Time and memory by size]({picture})\n" if picture else text


def _failed(results: dict[str, Any]) -> str:
    return "\n".join(
        f"- {one['part']} {one['case']} {one['dtype']} {one['contender']}: {one['error']}"
        for one in results["measurements"]
        if "error" in one
    )
