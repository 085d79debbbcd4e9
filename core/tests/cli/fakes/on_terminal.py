"""Runs the command with the terminal on stdin as its controlling one, so that Ctrl-C there sends SIGINT."""

import fcntl
import sys
import termios

from trunkline.cli import main

fcntl.ioctl(0, termios.TIOCSCTTY, 0)
sys.exit(main())
