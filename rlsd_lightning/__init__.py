"""rlsd_lightning trains reasoning models, vision-language ones first, with RLSD (arXiv:2604.03128)."""
