"""The policy and the model families it can be: what differs between families stands in one small file each."""

from rlsd_lightning.models.policy import Policy, evaluating, family_of, load_policy, load_reader

__all__ = ["Policy", "evaluating", "family_of", "load_policy", "load_reader"]
