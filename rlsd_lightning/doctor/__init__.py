"""The command `doctor`: what could stop or spoil a run, found before it starts. One file per kind of check."""
