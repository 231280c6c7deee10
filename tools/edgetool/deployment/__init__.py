"""One archive with all that a device needs: it is installed there without a network and without build tools."""
