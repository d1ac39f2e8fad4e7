"""Where the time of scoring goes: the operations that kept the device busy longest."""

from collections.abc import Iterator
from typing import Any

from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu_parts.items import spread
from benchmarks.gpu_parts.measure import Deadline, seconds_of
from benchmarks.gpu_parts.work import Setting, encoded_prompts
from isogloss.inference.scoring import score
from isogloss.models.language_model import LanguageModel
from isogloss.types import Format

PASSAGES, QUICK_PASSAGES = 160, 2
SHOWN = 30


def measure(model: LanguageModel, setting: Setting, deadline: Deadline) -> Iterator[dict[str, Any]]:
    """Seconds of one scoring pass, of the device in it, and of the longest operations."""
    items = spread(list(setting.items), QUICK_PASSAGES if setting.quick else PASSAGES)
    encoded = encoded_prompts(model, items, Format.LETTER)

    def work() -> None:
        score(model, encoded, items, share=True, float32_head=True)

    work()
    plain = seconds_of(model.device, work)
    on_device = model.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_device else [])]
    with profile(activities=activities) as profiler:
        seconds_of(model.device, work)
    name = "self_device_time_total" if on_device else "self_cpu_time_total"
    events = sorted(
        profiler.key_averages(), key=lambda event: float(getattr(event, name)), reverse=True
    )
    kernels = [event for event in events if _on(event, on_device)]
    yield {
        "seconds": plain,
        "busy_seconds": sum(float(getattr(event, name)) for event in kernels) / 1e6,
        "operations": [
            {
                "name": event.key[:120],
                "seconds": float(getattr(event, name)) / 1e6,
                "calls": event.count,
            }
            for event in kernels[:SHOWN]
        ],
    }


def _on(event: Any, on_device: bool) -> bool:
    """Whether an event is a kernel of the device; on a CPU all are."""
    return not on_device or event.device_type.name == "CUDA"
