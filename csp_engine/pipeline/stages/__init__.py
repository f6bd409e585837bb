"""The stages of a build, one kind of stage a module."""
