"""One of several gloo processes that train together.

Arguments: rank, processes, a file to meet at, and where to write what is left.
"""

import sys

import test_processes
import torch
import torch.distributed as dist


def main(rank: str, processes: str, meeting: str, out: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=int(rank), world_size=int(processes))
    torch.save(test_processes.everything(f"{out}-folder"), f"{out}-{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
