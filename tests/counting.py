"""Work counted instead of timed, for tests that guard speed without a clock."""

from collections.abc import Callable

from torch.autograd.profiler import profile

__all__ = ["allocated"]


def allocated(work: Callable[[], object]) -> tuple[int, int]:
    """Bytes of all tensors that ``work`` allocates on the CPU, given back or not, and how many there are."""
    with profile(use_cpu=True, profile_memory=True) as profiler:
        work()
    sizes = [event.self_cpu_memory_usage for event in profiler.function_events]
    return sum(size for size in sizes if size > 0), sum(size > 0 for size in sizes)
