"""Starts the studio: python app.py, then open the printed address."""

import sys

from gmi_ui.command_line import main

if __name__ == "__main__":
    sys.exit(main())
