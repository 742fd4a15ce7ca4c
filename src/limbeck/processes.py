"""Which of several processes this one is, as torchrun and accelerate tell them; its cores."""

import os


def rank() -> int:
    """Number of this process, from 0; 0 where there is one."""
    return int(os.environ.get("RANK", 0))


def world() -> int:
    """How many processes carry out one command together."""
    return int(os.environ.get("WORLD_SIZE", 1))


def launch() -> str:
    """Give what tells one start of several processes from another."""
    names = ("TORCHELASTIC_RUN_ID", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RESTART_COUNT")
    return "-".join(os.environ.get(name, "") for name in names)


def cores() -> int:
    """Give how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
