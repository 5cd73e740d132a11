"""Picture files to pixels, in the graph as in a build."""
