"""Renders the results of `benchmarks.gpu` as a page of tables."""

from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.table import table

Results = dict[str, Any]
Rows = list[Sequence[object]]
PARTIAL = {"scoring", "training", "generation"}  # parts whose results before an error are shown


def markdown(results: Results) -> str:
    """The page: the card, a section for each part, what failed."""
    machine, parts, items = results["machine"], results["parts"], results["items"]
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    lines = [
        f"# {machine['device']}\n",
        f"{results['started'][:10]}, commit {results['commit']}; {versions}. Models with random "
        f"weights in bfloat16; {items['number']} items ({items['source']}).\n",
    ]
    for part, (title, render) in SECTIONS.items():
        measured = {
            key.partition(" ")[2]: value
            for key, value in parts.items()
            if key.partition(" ")[0] == part and ("error" not in value or part in PARTIAL)
        }
        if measured:
            lines += [f"## {title}\n", *render(measured)]
    failed = [f"- {key}: {value['error']}" for key, value in parts.items() if "error" in value]
    if failed:
        lines += ["## Failed\n", *failed, ""]
    return "\n".join(lines)


def _gb(measured: Results, name: str = "peak_gb") -> str:
    peak = measured.get(name)
    return "" if peak is None else f"{peak:.1f}"


def _products(measured: dict[str, Results]) -> Iterator[str]:
    (result,) = measured.values()
    yield (
        f"A cube: {result['cube_tflops']:,.1f} TFLOP/s. Copies: "
        f"{result['copy_gb_per_second']:,.0f} GB/s, read and written.\n"
    )
    rows: Rows = [
        (name, f"{speed['body_tflops']:,.1f}", f"{speed['head_tflops']:,.1f}")
        for name, speed in result["models"].items()
    ]
    yield table(["model", "layers, TFLOP/s", "head, TFLOP/s"], rows, 1)


def _correctness(measured: dict[str, Results]) -> Iterator[str]:
    rows: Rows = []
    for name, result in measured.items():
        paths = ", ".join(f"{dtype}: {path}" for dtype, path in result["paths"].items())
        yield f"{name}, how it is computed: {paths}\n"
        for kind in ("letter", "cloze"):
            spread = f"{result[kind]['standard_deviation_over_items']:.2g}"
            for compared in COMPARED:
                errors = result[kind][compared]
                margin = errors["their_largest_margin"]
                rows.append(
                    (
                        *(name, kind, COMPARED[compared]),
                        *(f"{errors['largest']:.2g}", f"{errors['rms']:.2g}", spread),
                        f"{errors['other_choices']} of {result['items'][kind]}",
                        "" if margin is None else f"{margin:.2g}",
                    )
                )
    header = ["model", "format", "log-likelihoods", "largest difference, nats", "rms"]
    header += ["standard deviation over items", "other choices", "largest margin of these"]
    yield table(header, rows, 3)
    rows = [
        (
            *(name, compared, f"{errors['loss_difference']:.2g}", f"{errors['relative']:.2g}"),
            f"{errors['relative_of_worst_weight']:.2g}",
        )
        for name, result in measured.items()
        for compared, errors in result["training"].items()
    ]
    yield "Loss and LoRA gradients of one step, beside the model's own in float32:\n"
    yield table(["model", "", "loss", "gradients, relative", "worst weight"], rows, 2)


COMPARED = {
    "float32": "isogloss and own, float32",
    "bfloat16": "isogloss and own, bfloat16",
    "bfloat16 from exact": "isogloss bfloat16 and own float32",
    "bfloat16 own from exact": "own bfloat16 and own float32",
}


def _scoring(measured: dict[str, Results]) -> Iterator[str]:
    rows: Rows = []
    for name, result in measured.items():
        for kind in (kind for kind in ("letter", "cloze") if kind in result):
            ours = result[kind]
            peers = []
            for peer in ("plain", "harness"):
                theirs = ours.get(peer, {})
                rate, times = theirs.get("items_per_second"), ours.get(f"times_{peer}")
                peers.append("" if rate is None else f"{rate:,.1f} ({times:.1f} times)")
            rows.append(
                (
                    *(name, kind, f"{ours['items_per_second']:,.1f}"),
                    *(f"{ours['tokens_per_second']:,.0f}", f"{ours['share']:.1%}"),
                    *(f"{ours['share_as_separate']:.1%}", *peers, _gb(ours)),
                )
            )
    header = ["model", "format", "items/s", "own tokens/s", "share", "as separate sequences"]
    header += ["plain loop, items/s", "as lm-eval, items/s", "peak, GB"]
    yield table(header, rows, 2)


def _training(measured: dict[str, Results]) -> Iterator[str]:
    rows: Rows = []
    for name, result in measured.items():
        for tool in ("isogloss", "trainer"):
            rates = result.get(tool, {})
            if "items_per_second" in rates:
                losses = " ".join(f"{loss:.4f}" for loss in rates["losses"][:4])
                rows.append(
                    (
                        *(name, tool, f"{rates['items_per_second']:,.1f}"),
                        *(f"{rates['tokens_per_second']:,.0f}", f"{rates['share']:.1%}"),
                        *(f"{rates['share_as_separate']:.1%}", losses, _gb(rates)),
                    )
                )
        if "times" in result:
            rows.append((name, f"{result['times']:.2f} times", "", "", "", "", "", ""))
    header = ["model", "", "items/s", "tokens/s", "share", "as separate sequences"]
    yield table([*header, "losses of the first steps", "peak, GB"], rows, 2)


def _generation(measured: dict[str, Results]) -> Iterator[str]:
    rows: Rows = []
    for name, result in measured.items():
        tried = [
            f"{batch}: {rate:,.0f}" if isinstance(rate, float) else f"{batch}: {rate}"
            for batch, rate in result.get("generate_tokens_per_second_by_batch", {}).items()
        ]
        times, same = result.get("times"), result.get("same_texts")
        if "tokens_per_second" not in result:
            continue
        rows.append(
            (
                *(name, f"{result['tokens_per_second']:,.0f}", ", ".join(tried)),
                "" if times is None else f"{times:.2f}",
                "" if same is None else f"{same} of {result['prompts']}",
                _gb(result, "isogloss_peak_gb"),
            )
        )
    header = ["model", "tokens/s", "`generate` by batch", "times", "same texts", "peak, GB"]
    yield table(header, rows, 1)


def _attention(measured: dict[str, Results]) -> Iterator[str]:
    for result in measured.values():
        rows: Rows = []
        for name, timed in result["kernels"].items():
            if "error" in timed:
                rows.append((name, timed["error"], "", "", "", ""))
                continue
            both = timed.get("forward_backward_ms")
            rows.append(
                (
                    name,
                    f"{timed['forward_ms']:.2f}",
                    timed.get("backward_error", "") if both is None else f"{both:.2f}",
                    f"{1e3 * timed['prepare_seconds']:.1f}",
                    f"{timed['first_seconds']:.1f}",
                    f"{timed['largest_difference']:.2g}",
                )
            )
        yield f"A row of {result['tokens']:,} tokens, {result['trees']} trees.\n"
        header = ["kernel", "forward, ms", "with backward, ms", "preparation, ms", "first call, s"]
        yield table([*header, "largest difference"], rows, 1)


def _profile(measured: dict[str, Results]) -> Iterator[str]:
    for name, result in measured.items():
        yield (
            f"{name}: {result['seconds']:.3f} s, the device busy for "
            f"{result['busy_seconds']:.3f} s.\n"
        )
        rows: Rows = [
            (operation["name"][:80], f"{operation['seconds']:.4f}", operation["calls"])
            for operation in result["operations"]
        ]
        yield table(["operation", "seconds", "calls"], rows, 1)


SECTIONS = {
    "products": ("Speed of matrix products", _products),
    "correctness": ("Correctness", _correctness),
    "scoring": ("Scoring", _scoring),
    "training": ("Training", _training),
    "generation": ("Generation", _generation),
    "attention": ("Attention over a row of trees", _attention),
    "profile": ("Profile of scoring", _profile),
}
