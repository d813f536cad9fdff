"""The version written into every saved picture."""

VERSION = "0.1.0"
