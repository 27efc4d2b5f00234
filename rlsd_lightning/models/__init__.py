"""The policy and the model families it can be: what differs between families stands in one small file each."""

from rlsd_lightning.models.policy import Policy, family_of, load_policy, load_reader

__all__ = ["Policy", "family_of", "load_policy", "load_reader"]
