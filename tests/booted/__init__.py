"""Tests in a real Debian with a real systemd."""
