"""Values of any rank per sample, 0 included, as rows of numbers."""

from torch import Tensor


def flattened(value: Tensor, lead: int = 1) -> Tensor:
    """A value whose first `lead` axes are kept and whose others, those of one sample, become one: [B, *shape] to
    [B, n], or with lead 2 [B, R, *shape] to [B, R, n]. A sample of rank 0 is one number: n is 1."""
    return value.flatten(lead) if value.dim() > lead else value.unsqueeze(-1)
