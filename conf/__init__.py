"""Configuration: every option of every group; config.yaml is the table of contents."""
