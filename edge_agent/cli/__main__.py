"""`python -m edge_agent.cli` is `edge-agent`."""

import sys

from edge_agent.cli.app import main

sys.exit(main())
