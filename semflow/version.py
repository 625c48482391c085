"""The version, where packaging can read it without importing torch."""

VERSION = "0.1.0"
