"""A short table of the results of `benchmarks.gpu`."""

from collections.abc import Iterator
from typing import Any


def table(results: dict[str, Any]) -> str:
    """The results in lines of text."""
    versions = results["machine"]["versions"]
    lines = [
        f"{results['machine']['device']}, torch {versions['torch']}, "
        f"transformers {versions['transformers']}"
    ]
    for key, measured in results["parts"].items():
        peak = measured.get("peak_gb")
        memory = f" (peak {peak:.1f} GB)" if peak is not None else ""
        if "error" in measured:
            lines.append(f"{key}{memory}: {measured['error']}")
        else:
            part = key.split()[0]
            lines += [f"{key}{memory}", *(f"    {line}" for line in LINES[part](measured))]
    return "\n".join(lines)


def _products(measured: dict[str, Any]) -> Iterator[str]:
    yield (
        f"{measured['cube_tflops']:,.2f} TFLOP/s on a cube, copies "
        f"{measured['copy_gb_per_second']:,.0f} GB/s"
    )
    for name, speed in measured["models"].items():
        body, head = speed["body_tflops"], speed["head_tflops"]
        yield f"{name}: layers {body:,.2f}, head {head:,.2f} TFLOP/s"


def _correctness(measured: dict[str, Any]) -> Iterator[str]:
    for kind in ("letter", "cloze"):
        spread = measured[kind]["standard_deviation_over_items"]
        yield f"{kind}: scores of items have a standard deviation of {spread:.2g} nats"
        for name in ("float32", "bfloat16", "bfloat16 from exact", "bfloat16 own from exact"):
            errors = measured[kind][name]
            yield (
                f"{kind} {name}: largest {errors['largest']:.2g} nats, rms {errors['rms']:.2g}, "
                f"other choices {errors['other_choices']} of {measured['items'][kind]} "
                f"(margin {errors['their_largest_margin']})"
            )
    for name, errors in measured["training"].items():
        yield (
            f"training {name}: loss {errors['loss_difference']:.2g}, gradients "
            f"{errors['relative']:.2g}, worst weight {errors['relative_of_worst_weight']:.2g}"
        )


def _scoring(measured: dict[str, Any]) -> Iterator[str]:
    for kind in ("letter", "cloze"):
        ours = measured[kind]
        line = (
            f"{kind}: {ours['items_per_second']:,.1f} items/s, {ours['tokens_per_second']:,.0f} "
            f"tokens/s, share {ours['share']:.1%} (of the cube {ours['share_of_cube']:.1%}, as "
            f"separate {ours['share_as_separate']:.1%})"
        )
        for name in ("plain", "harness"):
            peer = ours.get(name, {})
            if "engine_times" in peer:
                line += (
                    f"; {name} {peer['items_per_second']:,.1f}, {peer['engine_times']:.1f} times"
                )
        yield line


def _training(measured: dict[str, Any]) -> Iterator[str]:
    for name in ("isogloss", "trainer"):
        rates = measured.get(name, {})
        if "tokens_per_second" in rates:
            yield (
                f"{name}: {rates['items_per_second']:,.1f} items/s, "
                f"{rates['tokens_per_second']:,.0f} tokens/s, share {rates['share']:.1%} (as "
                f"separate {rates['share_as_separate']:.1%}), losses "
                f"{', '.join(f'{loss:.4f}' for loss in rates['losses'][:4])}"
            )
    if "times" in measured:
        yield f"{measured['times']:.1f} times Trainer"


def _generation(measured: dict[str, Any]) -> Iterator[str]:
    yield (
        f"{measured['tokens_per_second']:,.0f} tokens/s; generate by batch "
        f"{measured['generate_tokens_per_second_by_batch']}; times {measured['times']}"
    )


def _attention(measured: dict[str, Any]) -> Iterator[str]:
    for name, timed in measured["kernels"].items():
        if "error" in timed:
            yield f"{name}: {timed['error']}"
        else:
            backward = timed.get("forward_backward_ms", timed.get("backward_error"))
            yield (
                f"{name}: forward {timed['forward_ms']:.2f} ms, with backward {backward}, prepare "
                f"{timed['prepare_seconds']:.3f} s, first {timed['first_seconds']:.1f} s, "
                f"difference {timed['largest_difference']:.2g}"
            )


def _profile(measured: dict[str, Any]) -> Iterator[str]:
    yield f"{measured['seconds']:.3f} s, the device busy for {measured['busy_seconds']:.3f} s"
    for operation in measured["operations"][:15]:
        yield f"{operation['seconds']:.4f} s in {operation['calls']:,} of {operation['name'][:80]}"


LINES = {
    "products": _products,
    "correctness": _correctness,
    "scoring": _scoring,
    "training": _training,
    "generation": _generation,
    "attention": _attention,
    "profile": _profile,
}
