"""A fleet of agents behind one broker: how it is, and waves of updates for it."""
